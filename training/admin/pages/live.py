"""The live page: what came last, where it stands, and what needs a person."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from urllib.parse import urlencode

from analysis.codes import VOCABULARY
from dicom_node.ledger import State
from dicom_node.reasons import sentence
from dicom_node.receive import disk_is_low
from dicom_node.settings import Role
from training.admin import queries
from training.admin.access import Office
from training.admin.accounts import Principal
from training.admin.api.recordings import line_for
from training.admin.queries import Line, Page

SHOWN: Final = 50
SHOWN_ASIDE: Final = 8
"""Of the quarantine, above the list."""

_DONE: Final = (State.DELIVERED, State.COMMITTED, State.ARCHIVED)
_OPEN: Final = (State.RECEIVED, State.ANALYSED, State.REPORTED)
_READERS: Final = (Role.OPERATOR, Role.REVIEWER, Role.TRAINER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the list is filtered by, as it stands in the address."""

    state: State | None = None
    statement: str | None = None
    device: str | None = None
    patient: str | None = None
    first: date | None = None
    last: date | None = None
    before: int | None = None

    @property
    def search(self) -> queries.Search:
        """The question to the ledger."""
        return queries.Search(
            state=self.state,
            statement=self.statement,
            device=self.device,
            patient=self.patient,
            first=f"{self.first:%Y%m%d}" if self.first else None,
            last=f"{self.last:%Y%m%d}" if self.last else None,
            before=self.before,
        )

    @property
    def filters(self) -> dict[str, str]:
        """Those that are set, for an address."""
        names = ("state", "statement", "device", "patient", "first", "last")
        return {name: str(value) for name in names if (value := getattr(self, name))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """The counts at the top."""

    received: int
    done: int
    open: int
    quarantined: int
    failed: int


def tiles(counts: dict[State, int]) -> Tiles:
    """Return the counts by what a person wants to know."""
    return Tiles(
        received=sum(counts.values()),
        done=sum(counts[state] for state in _DONE),
        open=sum(counts[state] for state in _OPEN),
        quarantined=counts[State.QUARANTINED],
        failed=counts[State.FAILED],
    )


def live(office: Office, principal: Principal, wanted: Wanted) -> dict[str, Any]:
    """Return what the template shows to this reader."""
    roles = principal.roles
    storage = office.settings.storage
    counts = office.ledger.counts()
    page = queries.search(office.ledger, wanted.search, SHOWN)
    stuck = [
        queries.search(office.ledger, queries.Search(state=state), SHOWN_ASIDE)
        for state in (State.QUARANTINED, State.FAILED)
        if counts[state] and not roles.isdisjoint({Role.OPERATOR, Role.VIEWER})
    ]
    identified = Role.OPERATOR in roles
    return {
        "live": wanted.before is None,
        "tiles": tiles(counts),
        "disk_free": f"{shutil.disk_usage(storage.folder).free / 1e9:.0f} GB",
        "disk_low": disk_is_low(storage),
        "quarantine": () if wanted.filters else _stuck(office, stuck),
        "more_quarantine": any(found.next for found in stuck),
        "lines": [line_for(principal, line) for line in page.items],
        "older": _older(wanted, page.next),
        "wanted": wanted,
        "first": wanted.first or "",
        "last": wanted.last or "",
        "filtered": bool(wanted.filters),
        "states": tuple(State),
        "devices": queries.devices(office.ledger),
        "vocabulary": VOCABULARY.values(),
        "timed": identified or roles.isdisjoint(_READERS),
        "pseudonymous": not roles.isdisjoint(_READERS),
        "may_open": not roles.isdisjoint(_READERS),
        "may_retry": identified,
        "may_search_patient": not roles.isdisjoint(_READERS),
        "may_search_day": identified,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """One object that waits for a person."""

    id: int
    received_at: float
    sender: str
    state: str
    reason: str
    message: str
    """What the ledger says of it; never patient data."""


def _stuck(office: Office, found: Sequence[Page[Line]]) -> tuple[Stuck, ...]:
    return tuple(
        Stuck(
            id=line.id,
            received_at=line.received_at,
            sender=line.sender,
            state=line.state,
            reason=line.reason or "",
            message=sentence(line.reason or "") or _message(office, line.id),
        )
        for page in found
        for line in page.items
    )


def _message(office: Office, number: int) -> str:
    return str((office.ledger.row(number) or {}).get("message") or "")


def _older(wanted: Wanted, before: int | None) -> str | None:
    return f"/?{urlencode(wanted.filters | {'before': str(before)})}" if before else None
