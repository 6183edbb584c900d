"""What waits for a person: each a sentence, for whoever may do something about it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa

from dicom_node.ledger import State, shadow_results
from dicom_node.models import ModelState, ModelStore
from dicom_node.receive import disk_is_low
from dicom_node.settings import Role
from training.admin.access import Office
from training.admin.accounts import DAY
from training.admin.drift import latest
from training.runs import RunState

_LATELY: Final = 7 * DAY
_SOON: Final = 14 * DAY
_ENOUGH: Final = 100
"""ECGs that a shadow has read before its comparison is worth a look."""
_RUNS: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing to look at."""

    kind: str
    sentence: str
    roles: frozenset[Role]
    """Who can do something about it."""


def notices(office: Office, roles: frozenset[Role]) -> tuple[Notice, ...]:
    """Return what waits for somebody with these roles."""
    found = (item for part in _PARTS for item in part(office))
    return tuple(item for item in found if not item.roles.isdisjoint(roles))


def _node(office: Office) -> Iterator[Notice]:
    who = frozenset({Role.VIEWER, Role.OPERATOR})
    counts = office.ledger.counts()
    for state, what in ((State.QUARANTINED, "in quarantine"), (State.FAILED, "not delivered")):
        if counts[state]:
            sentence = f"ECGs {what}: {counts[state]}."
            yield Notice(kind=state.lower(), sentence=sentence, roles=who)
    pending = office.ledger.pending()
    for item in office.live.now().outlets:
        if not item.active:
            waiting = pending.get(item.name, 0)
            sentence = f"{item.name} is switched off; results that wait for it: {waiting}."
            yield Notice(kind="held", sentence=sentence, roles=who | {Role.ADMIN})
    if disk_is_low(office.settings.storage):
        sentence = "The disk is below the watermark: new ECGs are refused."
        yield Notice(kind="disk", sentence=sentence, roles=who | {Role.ADMIN})


def _runs(office: Office) -> Iterator[Notice]:
    since = office.clock() - _LATELY
    for run in office.runs.list((RunState.DONE, RunState.FAILED), _RUNS):
        if (run.ended_at or 0.0) > since:
            kind = "run-failed" if run.state is RunState.FAILED else "run-done"
            sentence = f"Run {run.id}, {run.name}: {run.message}"
            yield Notice(kind=kind, sentence=sentence, roles=frozenset({Role.TRAINER}))


def _models(office: Office) -> Iterator[Notice]:
    store = ModelStore(office.settings.storage.folder / "models", office.ledger)
    for entry in store.list():
        name = f"{entry.name} {entry.version}"
        if entry.withdrawn and entry.state is not ModelState.RETIRED:
            yield _for_admins("withdrawn", f"{name} learned from patients who withdrew since.")
        if entry.refused and entry.state is ModelState.CURRENT:
            yield _for_admins("refused", f"{name} was promoted and does not speak: {entry.refused}")
        if entry.state is ModelState.SHADOW:
            count = _shadowed(office, entry.digest)
            if count >= _ENOUGH:
                sentence = f"{name} has read {count} ECGs in shadow: compare, and decide."
                yield _for_admins("shadow", sentence)


def _shadowed(office: Office, digest: str) -> int:
    query = sa.select(sa.func.count()).where(
        shadow_results.c.digest == digest, shadow_results.c.findings.is_not(None)
    )
    return int(office.ledger.query(query)[0][0])


def _keys(office: Office) -> Iterator[Notice]:
    now = office.clock()
    for key in office.accounts.every_key():
        if key.revoked_at is None and now < key.expires_at < now + _SOON and key.used_at:
            day = datetime.fromtimestamp(key.expires_at, UTC)
            yield _for_admins("key", f"The key {key.label} ends on {day:%Y-%m-%d}.")


def _drift(office: Office) -> Iterator[Notice]:
    for sentence in latest(office.ledger, office.live.now().drift).alerts:
        yield Notice(kind="drift", sentence=sentence, roles=frozenset(Role))


def _for_admins(kind: str, sentence: str) -> Notice:
    return Notice(kind=kind, sentence=sentence, roles=frozenset({Role.ADMIN, Role.TRAINER}))


_PARTS: Final[tuple[Callable[[Office], Iterator[Notice]], ...]] = (
    _node,
    _models,
    _runs,
    _drift,
    _keys,
)
