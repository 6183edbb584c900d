"""Lists and searches over the ledger that stay fast with a hundred thousand recordings.

Results are JSON in the ledger's rows. What lists and searches need of them is copied into small
indexed rows, by :class:`Index`, from those results and the source's header alone; the rows can
be thrown away at any time. Pages are found by key, never by counting.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from io import BytesIO
from typing import Any, Final, Generic, TypeVar

import sqlalchemy as sa
from pydicom.filereader import read_partial
from sqlalchemy.exc import IntegrityError

from analysis.analyse import ALGORITHM_REVISION
from analysis.ecg import STANDARD_12
from analysis.quality import examine
from dicom_node import archive
from dicom_node.archive import Pseudonyms
from dicom_node.ledger import Ledger, State, blob_of, ecgs, instances
from dicom_node.settings import Settings
from dicom_node.spool import Spool
from training.admin.tables import qualities, recordings, spoken
from training.corpus import Corpus

BATCH: Final = 200
"""Recordings that enter the index together."""
DAMAGED: Final = "damaged"
"""What is said of a recording whose file cannot be read."""
_LATE: Final = 1000
"""Newest rows that are looked at again: numbers may be seen in another order than given."""
_MOMENT: Final = len("YYYYMMDDHHMMSS")
_HEADER_END: Final = 0x00180000
_DEVICE_LENGTH: Final = 64

_Item = TypeVar("_Item")


def pseudonyms(settings: Settings) -> Pseudonyms:
    """Return the keyed hashes by which the node's archive names patients."""
    return Pseudonyms.of(settings.archive.key_file or settings.storage.folder / archive.KEY)


@dataclass(frozen=True, slots=True)
class Index:
    """Keeps the small rows up to date with the ledger.

    Parameters
    ----------
    name
        Gives patients their pseudonyms.
    """

    ledger: Ledger
    spool: Spool
    name: Callable[..., str]

    def refresh(self, limit: int = BATCH) -> int:
        """Return how many rows were made or completed; 0 = nothing is left to do."""
        numbers = [*self._unfinished(limit), *self._unseen(limit)][:limit]
        if not numbers:
            return 0
        rows = self._read(numbers)
        try:
            self._write(rows)
        except IntegrityError:  # another process was faster
            return 0
        return len(rows)

    def _unfinished(self, limit: int) -> list[int]:
        """Return rows that were copied before their result was there, and now is."""
        query = (
            sa.select(recordings.c.instance_id)
            .join(instances, instances.c.id == recordings.c.instance_id)
            .where(recordings.c.analysed.is_(False), instances.c.result.is_not(None))
            .order_by(recordings.c.instance_id)
            .limit(limit)
        )
        return [row[0] for row in self.ledger.query(query)]

    def _unseen(self, limit: int) -> list[int]:
        ((last,),) = self.ledger.query(sa.select(sa.func.max(recordings.c.instance_id)))
        after = max(0, (last or 0) - _LATE)
        query = (
            sa.select(instances.c.id)
            .outerjoin(recordings, recordings.c.instance_id == instances.c.id)
            .where(instances.c.id > after, recordings.c.instance_id.is_(None))
            .order_by(instances.c.id)
            .limit(limit)
        )
        return [row[0] for row in self.ledger.query(query)]

    def _read(self, numbers: Sequence[int]) -> list[tuple[dict[str, Any], list[str]]]:
        query = (
            sa.select(instances, ecgs.c.patient, ecgs.c.acquired_at)
            .outerjoin(ecgs, ecgs.c.instance_id == instances.c.id)
            .where(instances.c.id.in_(numbers))
        )
        return [self._row(named(query, row)) for row in self.ledger.query(query)]

    def _row(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        values: dict[str, Any] = {"instance_id": row["id"], "analysed": False}
        if row["result"] is None:
            return values, []
        document = json.loads(row["result"])
        keys = list(dict.fromkeys(item["key"] for item in document["statements"]))
        rate = document["measurements"]["quantities"].get("heart_rate") or {}
        patient = row["patient"]
        return values | {
            "analysed": True,
            "patient": self.name("patient", patient) if patient else None,
            "acquired_at": (row["acquired_at"] or "")[:_MOMENT] or None,
            "device": self._device(row),
            "heart_rate": rate.get("value"),
            "quality": document["quality"]["verdict"],
            "overall": document["overall"],
            "statements": json.dumps([item["text"] for item in document["statements"]]),
        }, keys

    def _device(self, row: Mapping[str, Any]) -> str:
        """Return the model name of the cart, or what is known of its maker; "" if neither."""
        try:
            data = self.spool.read(blob_of(row))
            header = read_partial(BytesIO(data), stop_when=_after_header, force=True)
        except Exception:  # noqa: BLE001 - damaged, gone or hostile: a device is not worth more
            return ""
        stated = str(header.get("ManufacturerModelName") or "").replace("\0", "").strip()
        return stated[:_DEVICE_LENGTH] or archive.maker(str(header.get("Manufacturer") or ""))

    def _write(self, rows: Sequence[tuple[dict[str, Any], list[str]]]) -> None:
        numbers = [values["instance_id"] for values, _ in rows]
        said = [
            {"key": key, "instance_id": values["instance_id"]}
            for values, keys in rows
            for key in keys
        ]
        with self.ledger.transaction(relaxed=True) as connection:
            connection.execute(recordings.delete().where(recordings.c.instance_id.in_(numbers)))
            connection.execute(spoken.delete().where(spoken.c.instance_id.in_(numbers)))
            for values, _ in rows:
                connection.execute(recordings.insert().values(**values))
            if said:
                connection.execute(spoken.insert(), said)


def _after_header(tag: Any, _vr: Any, _length: Any) -> bool:
    return int(tag) >= _HEADER_END


def named(query: sa.Select[Any], row: Sequence[Any]) -> dict[str, Any]:
    """Return a row of a query by the names of its columns."""
    return dict(zip((column.name for column in query.selected_columns), row, strict=True))


# Searches


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What recordings are looked for; every condition holds."""

    patient: str | None = None
    """Pseudonym."""
    statement: str | None = None
    """Key of the vocabulary."""
    device: str | None = None
    sender: str | None = None
    """Calling AE title."""
    state: State | None = None
    first: str | None = None
    """Of acquisition, YYYYMMDD; so is `last`."""
    last: str | None = None
    before: int | None = None
    """Only rows with a smaller number: the next page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One recording in a list."""

    id: int
    received_at: float
    sender: str
    state: str
    reason: str | None
    message: str | None
    """One sentence for the operator, without patient data."""
    seconds: float | None
    """From receipt to delivery."""
    patient: str | None
    acquired_at: str | None
    device: str
    heart_rate: float | None
    quality: str | None
    overall: str | None
    statements: tuple[str, ...]

    @property
    def quarter(self) -> str | None:
        """Of acquisition, for example "2026Q1"."""
        stated = self.acquired_at or ""
        if len(stated) < len("YYYYMMDD") or not stated[:8].isdecimal():
            return None
        try:
            return archive.quarter(datetime.strptime(stated[:8], "%Y%m%d"))  # noqa: DTZ007 - a date
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Page(Generic[_Item]):
    """Some items of a list, and how to ask for those after them."""

    items: tuple[_Item, ...]
    next: int | None


def search(ledger: Ledger, wanted: Search, limit: int) -> "Page[Line]":
    """Return recordings, the newest first.

    Parameters
    ----------
    limit
        Most of one page.
    """
    number = _driving(wanted)
    query = (
        sa.select(*_SHOWN, *(column for column in recordings.c if column.name in _COPIED))
        .select_from(_joined(wanted))
        .where(*_conditions(wanted, number))
        .order_by(number.desc())
        .limit(limit + 1)
    )
    lines = [_line(named(query, row)) for row in ledger.query(query)]
    return page(lines, limit, lambda line: line.id)


def page(found: Sequence[_Item], limit: int, number: Callable[[_Item], int]) -> "Page[_Item]":
    """Return the page of what was found when one more than a page was asked for."""
    kept = tuple(found[:limit])
    return Page(kept, number(kept[-1]) if len(found) > limit else None)


_SHOWN: Final = tuple(
    instances.c[name]
    for name in ("id", "received_at", "delivered_at", "calling_ae", "state", "reason", "message")
)
_COPIED: Final = frozenset(
    {"patient", "acquired_at", "device", "heart_rate", "quality", "overall", "statements"}
)


def _driving(wanted: Search) -> sa.Column[Any]:
    """Return the number by whose index the search walks: that of the rarest condition."""
    if wanted.statement is not None:
        return spoken.c.instance_id
    if any((wanted.patient, wanted.device, wanted.first, wanted.last)):
        return recordings.c.instance_id
    return instances.c.id


def _joined(wanted: Search) -> sa.FromClause:
    joined: sa.FromClause = instances.outerjoin(
        recordings, recordings.c.instance_id == instances.c.id
    )
    if _driving(wanted) is recordings.c.instance_id:
        joined = recordings.join(instances, instances.c.id == recordings.c.instance_id)
    if wanted.statement is not None:
        joined = spoken.join(recordings, recordings.c.instance_id == spoken.c.instance_id).join(
            instances, instances.c.id == spoken.c.instance_id
        )
    return joined


def _conditions(wanted: Search, number: sa.Column[Any]) -> Iterator[sa.ColumnElement[bool]]:
    for column, value in (
        (recordings.c.patient, wanted.patient),
        (recordings.c.device, wanted.device),
        (spoken.c.key, wanted.statement),
        (instances.c.calling_ae, wanted.sender),
        (instances.c.state, wanted.state),
    ):
        if value is not None:
            yield column == value
    if wanted.first is not None:
        yield recordings.c.acquired_at >= wanted.first
    if wanted.last is not None:
        yield recordings.c.acquired_at < f"{wanted.last}~"
    if wanted.before is not None:
        yield number < wanted.before


def _line(row: Mapping[str, Any]) -> Line:
    done = row["delivered_at"]
    return Line(
        sender=row["calling_ae"],
        seconds=None if done is None else done - row["received_at"],
        statements=tuple(json.loads(row["statements"] or "[]")),
        device=row["device"] or "",
        **{
            name: row[name]
            for name in (
                "id", "received_at", "state", "reason", "message", "patient", "acquired_at",
                "heart_rate", "quality", "overall",
            )
        },
    )  # fmt: skip


def line(ledger: Ledger, number: int) -> Line | None:
    """Return one recording as lists show it, or None."""
    found = search(ledger, replace(Search(), before=number + 1), 1).items
    return found[0] if found and found[0].id == number else None


def devices(ledger: Ledger) -> tuple[str, ...]:
    """Return every device that sent a recording, as far as lists know it.

    The index is walked from one device to the next, however many recordings each has.
    """
    device = recordings.c.device
    first = sa.select(sa.func.min(device).label("device")).where(device > "")
    found = first.cte("found", recursive=True)
    following = sa.select(sa.func.min(device)).where(device > found.c.device).scalar_subquery()
    found = found.union_all(sa.select(following).where(found.c.device.is_not(None)))
    query = sa.select(found.c.device).where(found.c.device.is_not(None))
    return tuple(sorted(row[0] for row in ledger.query(query)))


# The corpus


@dataclass(frozen=True, slots=True)
class Qualities:
    """How well the recordings of a corpus can be read: each is looked at once for a revision."""

    ledger: Ledger
    corpus: Corpus

    def look(self, here: frozenset[str], limit: int) -> int:
        """Return how many recordings are left, after at most so many were looked at.

        Parameters
        ----------
        here
            The ids of all that the corpus holds; what is known of others is forgotten.
        """
        query = sa.select(qualities.c.record).where(qualities.c.revision == ALGORITHM_REVISION)
        known = frozenset(row[0] for row in self.ledger.query(query))
        new = sorted(here - known)
        rows = [self._row(record) for record in new[:limit]]
        with suppress(IntegrityError):  # somebody else looks at them too
            self._replace([*(known - here), *new[:limit]], rows)
        return max(0, len(new) - limit)

    def _replace(self, gone: Sequence[str], rows: Sequence[dict[str, str]]) -> None:
        with self.ledger.transaction(relaxed=True) as connection:
            for start in range(0, len(gone), BATCH):
                some = qualities.c.record.in_(gone[start : start + BATCH])
                connection.execute(qualities.delete().where(some))
            if rows:
                connection.execute(qualities.insert(), list(rows))

    def _row(self, record: str) -> dict[str, str]:
        try:
            found = examine(self.corpus.ecg(record), expected=STANDARD_12).quality.verdict
        except (KeyError, ValueError):  # withdrawn meanwhile, or damaged
            return {"record": record, "revision": ALGORITHM_REVISION, "verdict": DAMAGED}
        return {"record": record, "revision": ALGORITHM_REVISION, "verdict": str(found)}

    @property
    def counts(self) -> Counter[str]:
        """How many of those that were looked at can be read how well."""
        query = (
            sa.select(qualities.c.verdict, sa.func.count())
            .where(qualities.c.revision == ALGORITHM_REVISION)
            .group_by(qualities.c.verdict)
        )
        return Counter({str(row[0]): int(row[1]) for row in self.ledger.query(query)})
