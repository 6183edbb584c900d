"""The registry: model packages on disk by their digest, and in the ledger what each may do.

A package is verified before it is installed and is whole or absent on disk, whatever is killed.
Its evidence (the gate's verdict, the evaluation, the run) lies beside it. Promotion is one
transaction, and a person's: nothing else makes a model speak, and without a passed verdict a
reason is asked for. What is promoted speaks once a worker found that it loads, passes its
self-test and reports a simulated ECG; until then, and if it does not, the one before speaks on.
A package stays on disk as long as any open row names it.
"""

import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection

from analysis.errors import ModelReason, ModelRejected
from analysis.model import Model, load_model
from analysis.result import ModelIdentity
from dicom_node.ledger import (
    Event,
    Ledger,
    State,
    append,
    instances,
    model_marks,
    models,
    put_slot,
    slots,
)
from dicom_node.report.uids import device_uid

_OPEN: Final = (State.RECEIVED, State.ANALYSED, State.QUARANTINED)
"""States in which an object may still be read by the models that its plan names."""
_ON_ITS_WAY: Final = 60.0
"""Seconds after which no plan from before a swap is still to be written."""
_CHUNK: Final = 2**20
_STALE: Final = 3600.0
"""Seconds after which a half-written file is nobody's any more."""


class Slot(StrEnum):
    """Places in the ledger, each for one model."""

    CURRENT = "current"
    """Promoted."""
    SPEAKING = "speaking"
    """Promoted and found well by a worker: the one that new plans name."""
    PREVIOUS = "previous"
    SHADOW = "shadow"


class ModelState(StrEnum):
    """Where a model stands."""

    CURRENT = "current"
    SHADOW = "shadow"
    PREVIOUS = "previous"
    CANDIDATE = "candidate"
    COMPANION = "companion"
    """It speaks beside the current model, of recordings with too few leads for that."""
    RETIRED = "retired"


class Mark(StrEnum):
    """What is remarked of a model beside its slot."""

    RETIRED = "retired"
    REFUSED = "refused"
    """It was promoted, or shadows, and does not come through."""
    WITHDRAWN = "withdrawn"
    """It learned from recordings of patients who withdrew since; the detail is how many."""
    BESIDE = "beside"
    """It speaks whenever another does, whose digest is the detail."""


class NotAllowed(RuntimeError):
    """The registry does not do that; the message says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model, as the registry knows it."""

    digest: str
    """SHA-256 of its package, hexadecimal."""
    name: str
    version: str
    state: ModelState
    installed_at: float
    """UTC, seconds since the epoch."""
    speaks: bool
    """Whether it is the promoted model by which new ECGs are read: not until a worker found it
    well, and no longer once it is damaged."""
    present: bool
    """Whether its package is on disk."""
    verdict: Mapping[str, Any] | None
    """Of the promotion gate, as its evidence holds it."""
    withdrawn: int
    """From how many recordings it learned whose patients withdrew since."""
    refused: str
    """Why a worker or the shadow gave it up; empty where none did."""

    @property
    def passed(self) -> bool | None:
        """Whether it passed the gate; None without a verdict."""
        return None if self.verdict is None else self.verdict.get("passed") is True

    @property
    def device_uid(self) -> str:
        """Device UID (0018,1002): its own for every version."""
        return device_uid(self.digest)

    @property
    def objections(self) -> tuple[str, ...]:
        """One sentence for each reason why it may not be promoted without an override."""
        found = []
        if self.verdict is None:
            found.append("It has no verdict of the promotion gate.")
        elif not self.passed:
            reasons = "; ".join(
                str(reason).rstrip(".") for reason in self.verdict.get("reasons", ())
            )
            found.append(f"The promotion gate refused it: {reasons or 'it does not say why'}.")
        if self.withdrawn:
            found.append(
                f"It learned from {self.withdrawn} recordings whose patients withdrew since."
            )
        return tuple(found)

    def to_mapping(self) -> dict[str, Any]:
        """Return the entry as JSON holds it."""
        return {
            "digest": self.digest,
            "name": self.name,
            "version": self.version,
            "state": str(self.state),
            "speaks": self.speaks,
            "installed_at": self.installed_at,
            "present": self.present,
            "passed": self.passed,
            "withdrawn": self.withdrawn,
            "refused": self.refused,
            "objections": list(self.objections),
            "device_uid": self.device_uid,
        }


Package = bytes | Path
"""A package, or the file that holds it: a large one is never whole in the caller's memory."""


def identity_of(package: Package) -> ModelIdentity:
    """Return what a package is, after every check and its self-test, in this process.

    Raises
    ------
    analysis.ModelRejected
        If it is none.
    """
    return load_model(package).identity


@dataclass(frozen=True, slots=True)
class ModelStore:
    """The packages below one folder, and the slots of one ledger."""

    folder: Path
    ledger: Ledger
    examine: Callable[[Package], ModelIdentity] = identity_of
    """Tells what a package is, or refuses it; :func:`dicom_node.examine.apart` for a stranger's."""

    # Packages

    def install(self, package: Package, now: float) -> str:
        """Return the digest of a package, verified, stored and known to the ledger.

        Raises
        ------
        analysis.ModelRejected
            If it is none.
        """
        return self._install(package, now, None)

    def add_candidate(
        self, package: Package, now: float, evidence: Mapping[str, Any], by: str = ""
    ) -> str:
        """Return the digest of a package that was installed with its evidence.

        Parameters
        ----------
        package
            Its bytes, or their file.
        now
            UTC, seconds since the epoch.
        evidence
            What speaks for it, as JSON holds it: ``verdict`` (with ``passed`` and ``reasons``),
            ``evaluation``, ``run``, ``corpus`` (the folder it learned from) and what else there is.
            What the same package came with before and is not said anew, stays.
        by
            Who adds it.

        Raises
        ------
        analysis.ModelRejected
            If the package is none.
        """
        digest = self._install(package, now, evidence)
        self.ledger.record(Event(event="model_added", detail=_said(digest, by)), now)
        return digest

    def _install(self, package: Package, now: float, evidence: Mapping[str, Any] | None) -> str:
        identity = self.examine(package)
        digest = identity.digest
        self.folder.mkdir(parents=True, exist_ok=True)
        if evidence is not None:
            known = {**self.evidence(digest), **evidence, "digest": digest}
            document = json.dumps(known, allow_nan=False, indent=1)
            publish(self.evidence_path(digest), document.encode())
        publish(self.path(digest), package)
        self.ledger.add_model(digest, identity.name, identity.version, now)
        self._unmark(digest, Mark.RETIRED, Mark.REFUSED)
        return digest

    def path(self, digest: str) -> Path:
        """Return where the package with this digest lies."""
        return self.folder / f"{digest}.onnx"

    def evidence_path(self, digest: str) -> Path:
        """Return where the evidence of the model with this digest lies."""
        return self.folder / f"{digest}.json"

    def evidence(self, digest: str) -> Mapping[str, Any]:
        """Return what speaks for a model; nothing does where it is absent or another's."""
        try:
            found = json.loads(self.evidence_path(digest).read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) and found.get("digest") == digest else {}

    def load(self, digest: str) -> Model:
        """Return the model with this digest, verified again.

        Raises
        ------
        analysis.ModelRejected
            If the file is no longer what was installed.
        """
        model = load_model(self.path(digest))
        if model.identity.digest != digest:
            raise ModelRejected(
                ModelReason.UNREADABLE, "The file is another package than the one installed."
            )
        return model

    # What there is

    def list(self) -> tuple[Entry, ...]:
        """Return every model, the newest first."""
        held = self.ledger.slots()
        marks = self._marks()
        query = models.select().order_by(models.c.added_at.desc(), models.c.digest)
        return tuple(self._entry(row, held, marks) for row in self.ledger.query(query))

    def get(self, digest: str) -> Entry:
        """Return one model.

        Raises
        ------
        LookupError
            If there is none of this digest.
        """
        found = next((entry for entry in self.list() if entry.digest == digest), None)
        if found is None:
            raise LookupError(f"There is no model {digest[:12]}.")
        return found

    def resolve(self, prefix: str) -> str:
        """Return the whole digest of the one model that begins so.

        Raises
        ------
        LookupError
            If none does, or several do.
        """
        query = sa.select(models.c.digest).where(models.c.digest.startswith(prefix.lower()))
        found = [str(row[0]) for row in self.ledger.query(query)] if prefix.isalnum() else []
        if not found:
            raise LookupError(f"No model's digest begins with {prefix!r}; see `models list`.")
        if len(found) > 1:
            raise LookupError(f"The digests of {len(found)} models begin with {prefix!r}.")
        return found[0]

    def current(self) -> tuple[str, ...]:
        """Return the digests of the models that were promoted."""
        return self._in(Slot.CURRENT)

    def speaking(self) -> tuple[str, ...]:
        """Return the digests of the models that new plans name, the promoted one first.

        What was refused does not speak: with a damaged model, results come from measurement
        and criteria alone, or from the model beside it.
        """
        marks = self._marks()
        promoted = self._in(Slot.SPEAKING) or self.current()
        beside = (
            digest for (digest, mark), of in marks.items() if mark == Mark.BESIDE and of in promoted
        )
        return tuple(
            digest for digest in (*promoted, *sorted(beside)) if (digest, Mark.REFUSED) not in marks
        )

    def speak_beside(self, digest: str, other: str, now: float) -> None:
        """Have a model speak whenever another does, of what that one cannot read."""
        with self.ledger.transaction() as connection:
            _mark(connection, digest, Mark.BESIDE, now, other)

    def shadowing(self) -> tuple[str, float] | None:
        """Return the digest of the shadow model and since when it shadows, or None."""
        query = sa.select(slots.c.digest, slots.c.changed_at).where(slots.c.name == Slot.SHADOW)
        return next(((str(row[0]), float(row[1])) for row in self.ledger.query(query)), None)

    def _in(self, slot: Slot) -> tuple[str, ...]:
        digest = self.ledger.slots().get(slot)
        return () if digest is None else (digest,)

    def _marks(self) -> dict[tuple[str, str], str]:
        query = sa.select(model_marks.c.digest, model_marks.c.mark, model_marks.c.detail)
        return {(row[0], row[1]): row[2] for row in self.ledger.query(query)}

    def _entry(
        self, row: tuple[Any, ...], held: Mapping[str, str], marks: Mapping[tuple[str, str], str]
    ) -> Entry:
        digest, name, version, added_at = row
        verdict = self.evidence(digest).get("verdict")
        speaks = held.get(Slot.SPEAKING, held.get(Slot.CURRENT))
        return Entry(
            digest=digest,
            name=name,
            version=version,
            state=_state(digest, held, marks),
            installed_at=added_at,
            speaks=digest == speaks and (digest, Mark.REFUSED) not in marks,
            present=self.path(digest).is_file(),
            verdict=verdict if isinstance(verdict, dict) else None,
            withdrawn=int(marks.get((digest, Mark.WITHDRAWN), 0)),
            refused=marks.get((digest, Mark.REFUSED), ""),
        )

    # What a person decides

    def promote(self, digest: str, now: float, by: str, *, override: str | None = None) -> None:
        """Make this model the one that speaks; the one before stays at hand for rollback.

        Parameters
        ----------
        digest
            Of an installed model.
        now
            UTC, seconds since the epoch.
        by
            Who decides.
        override
            Why it is to speak in spite of :attr:`Entry.objections`.

        Raises
        ------
        LookupError
            If there is none of this digest.
        NotAllowed
            If it is retired, or there are objections and no override.
        analysis.ModelRejected
            If its package is damaged.
        """
        entry = self.get(digest)
        _refuse_retired(entry)
        reason = (override or "").strip()
        if entry.objections and not reason:
            raise NotAllowed(
                f"{' '.join(entry.objections)} To promote it all the same, override with a reason."
            )
        self.load(digest)
        self._unmark(digest, Mark.REFUSED)
        against = f"override: {reason} ({' '.join(entry.objections)})" if entry.objections else ""
        event = Event(
            event="model_promoted",
            reason="override" if entry.objections else "",
            detail=_said(digest, by, against),
        )
        self.ledger.promote(digest, now, event)

    def roll_back(self, now: float, by: str) -> str:
        """Return the digest of the previous model, which is current again.

        Raises
        ------
        LookupError
            If there is none.
        analysis.ModelRejected
            If its package is damaged; nothing changes then.
        """
        previous = self.ledger.slots().get(Slot.PREVIOUS)
        if previous is None:
            raise LookupError("There is no previous model to roll back to.")
        self.load(previous)
        self._unmark(previous, Mark.REFUSED)
        event = Event(event="model_rolled_back", detail=_said(previous, by))
        self.ledger.promote(previous, now, event)
        return previous

    def shadow(self, digest: str, now: float, by: str) -> None:
        """Have this model read every ECG after delivery; what it finds is stored, never sent.

        One model shadows at a time; the one before stops.

        Raises
        ------
        LookupError
            If there is none of this digest.
        NotAllowed
            If it is retired, or speaks.
        analysis.ModelRejected
            If its package is damaged.
        """
        entry = self.get(digest)
        _refuse_retired(entry)
        if entry.speaks or entry.state is ModelState.CURRENT:
            raise NotAllowed("It speaks already; a shadow is compared with the model that speaks.")
        self.load(digest)
        self._unmark(digest, Mark.REFUSED)
        with self.ledger.transaction() as connection:
            put_slot(connection, Slot.SHADOW, digest, now)
            append(connection, Event(event="model_shadows", detail=_said(digest, by)), now)

    def end_shadow(self, now: float, by: str, why: str = "") -> bool:
        """Return whether a model shadowed; none does any more."""
        with self.ledger.transaction() as connection:
            digest = _held(connection, Slot.SHADOW)
            if digest is not None:
                connection.execute(slots.delete().where(slots.c.name == Slot.SHADOW))
                event = Event(event="model_shadows_no_more", detail=_said(digest, by, why))
                append(connection, event, now)
        return digest is not None

    def retire(self, digest: str, now: float, by: str) -> bool:
        """Return whether the package is deleted, as it is once no open row names the model.

        Its evidence and its rows stay. Added again, the model is a candidate again.

        Raises
        ------
        LookupError
            If there is none of this digest.
        NotAllowed
            If it speaks.
        """
        self.get(digest)
        with self.ledger.transaction() as connection:
            if digest in (_held(connection, Slot.CURRENT), _held(connection, Slot.SPEAKING)):
                raise NotAllowed("It speaks: promote another or roll back first.")
            _unmark(connection, digest, Mark.BESIDE)
            connection.execute(slots.delete().where(slots.c.digest == digest))
            _mark(connection, digest, Mark.RETIRED, now, by)
            append(connection, Event(event="model_retired", detail=_said(digest, by)), now)
        return digest in self.tidy(now)

    # What the node does

    def prepare(self, now: float) -> None:
        """Make the slots ready at the start of a node; what was refused may try again."""
        with self.ledger.transaction() as connection:
            current = _held(connection, Slot.CURRENT)
            if current is not None and _held(connection, Slot.SPEAKING) is None:
                put_slot(connection, Slot.SPEAKING, current, now)
            connection.execute(model_marks.delete().where(model_marks.c.mark == Mark.REFUSED))
        self.tidy(now)

    def generation(self) -> tuple[tuple[Any, ...], ...]:
        """Return what differs whenever another model was promoted or speaks."""
        query = slots.select().where(slots.c.name.in_([Slot.CURRENT, Slot.SPEAKING]))
        return tuple(sorted(self.ledger.query(query)))

    def claim(self, digest: str, now: float) -> bool:
        """Return whether this worker is to find out whether the current model is well.

        One is: the claim is a mark that counts as a refusal until :meth:`serve` removes it, so
        that a package which kills the worker does not kill the next one.
        """
        with self.ledger.transaction() as connection:
            known = (model_marks.c.digest == digest, model_marks.c.mark == Mark.REFUSED)
            if (
                _held(connection, Slot.CURRENT) != digest
                or connection.execute(model_marks.select().where(*known)).first() is not None
            ):
                return False
            _mark(connection, digest, Mark.REFUSED, now, "Its checks are not through yet.")
        return True

    def serve(self, digest: str, now: float) -> None:
        """Let the current model speak, which a worker found well."""
        with self.ledger.transaction() as connection:
            if _held(connection, Slot.CURRENT) == digest:
                put_slot(connection, Slot.SPEAKING, digest, now)
                append(connection, Event(event="model_speaks", detail=digest), now)
            _unmark(connection, digest, Mark.REFUSED)

    def refuse(self, digest: str, message: str, now: float) -> None:
        """Remember why a promoted model does not speak, or a shadow no longer runs."""
        with self.ledger.transaction() as connection:
            _mark(connection, digest, Mark.REFUSED, now, message)
            event = Event(event="model_refused", detail=_said(digest, "", message))
            append(connection, event, now)

    def mark_withdrawn(self, learners: Mapping[str, int], now: float) -> None:
        """Remember from how many withdrawn recordings models learned, by digest."""
        known = {entry.digest: entry.withdrawn for entry in self.list()}
        changed = {key: count for key, count in learners.items() if known.get(key, count) != count}
        if not changed:
            return
        with self.ledger.transaction() as connection:
            for digest, count in changed.items():
                _mark(connection, digest, Mark.WITHDRAWN, now, str(count))
                event = Event(event="model_withdrawn", detail=_said(digest, "", f"{count} records"))
                append(connection, event, now)

    def tidy(self, now: float) -> tuple[str, ...]:
        """Return the retired models whose packages were deleted: no open row names them."""
        for draft in self.folder.glob(".*.tmp"):
            if now - draft.stat().st_mtime > _STALE:
                draft.unlink(missing_ok=True)
        marked = [digest for digest, mark in self._marks() if mark == Mark.RETIRED]
        gone = tuple(digest for digest in marked if self._deletable(digest, now))
        for digest in gone:
            self.path(digest).unlink(missing_ok=True)
        return gone

    def _deletable(self, digest: str, now: float) -> bool:
        since = sa.select(slots.c.changed_at).where(slots.c.name == Slot.SPEAKING)
        swapped = max((float(row[0]) for row in self.ledger.query(since)), default=-math.inf)
        named = sa.select(instances.c.id).where(
            instances.c.state.in_(_OPEN), instances.c.plan.contains(digest)
        )
        return (
            self.path(digest).exists()
            and now - swapped >= _ON_ITS_WAY
            and not self.ledger.query(named.limit(1))
        )

    def _unmark(self, digest: str, *marks: Mark) -> None:
        with self.ledger.transaction() as connection:
            _unmark(connection, digest, *marks)


def publish(path: Path, data: bytes | Path) -> None:
    """Put data or a file's copy in its place, whole or not at all, durable when this returns."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with draft.open("xb") as file:
            if isinstance(data, Path):
                with data.open("rb") as source:
                    shutil.copyfileobj(source, file, _CHUNK)
            else:
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _refuse_retired(entry: Entry) -> None:
    if entry.state is ModelState.RETIRED:
        raise NotAllowed("It is retired; add its package again first.")


def _state(
    digest: str, held: Mapping[str, str], marks: Mapping[tuple[str, str], str]
) -> ModelState:
    for slot in (Slot.CURRENT, Slot.SHADOW, Slot.PREVIOUS):
        if held.get(slot) == digest:
            return ModelState(slot)
    if Slot.CURRENT in held and marks.get((digest, Mark.BESIDE)) == held[Slot.CURRENT]:
        return ModelState.COMPANION
    retired = (digest, Mark.RETIRED) in marks
    return ModelState.RETIRED if retired else ModelState.CANDIDATE


def _said(digest: str, by: str, why: str = "") -> str:
    """Return how an audit row names a model, who decided, and why."""
    who = f" by {by}" if by else ""
    return f"{digest}{who}{': ' if why else ''}{why}"


def _held(connection: Connection, slot: Slot) -> str | None:
    query = sa.select(slots.c.digest).where(slots.c.name == slot).with_for_update()
    found: str | None = connection.scalar(query)
    return found


def _mark(connection: Connection, digest: str, mark: Mark, now: float, detail: str) -> None:
    _unmark(connection, digest, mark)
    connection.execute(model_marks.insert().values(digest=digest, mark=mark, at=now, detail=detail))


def _unmark(connection: Connection, digest: str, *marks: Mark) -> None:
    connection.execute(
        model_marks.delete().where(model_marks.c.digest == digest, model_marks.c.mark.in_(marks))
    )
