"""Settings that are changed while everything runs: few, and marked in the tree.

The file stays the truth. Over one of its values a row of the ledger may lie, with who put it
there, when and why; without the row the file counts again. Each process looks into the ledger
about once a second, so that a change holds everywhere shortly after, without a restart. What a
received object's plan has pinned stays as it was. A row that no longer fits, because its
destination is gone or its value is not allowed any more, counts for nothing.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import SQLAlchemyError

from dicom_node import logs
from dicom_node.ledger import Ledger
from dicom_node.settings import LIVE, LONGER, Outlet, Settings, leaves, origins

_metadata: Final = sa.MetaData()
_changes: Final = sa.Table(
    "setting",
    _metadata,
    sa.Column("key", sa.String(128), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("by", sa.String(64), nullable=False),
    sa.Column("reason", sa.String(200), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)
_PERIOD: Final = 1.0  # seconds between two looks


class NotLive(LookupError):
    """What is to be changed is no setting that changes without a restart."""


class NotAllowed(ValueError):
    """The value is none for this setting; the message is a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What lies over one value of the file."""

    key: str
    value: Any
    """As JSON holds it."""
    by: str
    reason: str
    at: float
    """UTC, seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One value that may be changed."""

    key: str
    """`section.field`, or `destinations.NAME.field`."""
    meaning: str
    section: str
    item: int | None
    """Place in a list of destinations."""
    field: str
    longer: bool
    """Whether it is an age that is only raised."""

    def holder(self, settings: Settings) -> BaseModel:
        """Return the section, or the destination, that holds the value."""
        found = getattr(settings, self.section)
        holder: BaseModel = found if self.item is None else found[self.item]
        return holder

    def value(self, settings: Settings) -> Any:
        """Return the value."""
        return getattr(self.holder(settings), self.field)

    def turned(self, settings: Settings, value: Any) -> Settings:
        """Return the settings with another value.

        Raises
        ------
        NotAllowed
            If its section does not take it.
        """
        holder = self.holder(settings)
        if isinstance(value, bool) is not isinstance(self.value(settings), bool):
            raise NotAllowed(f"{self.key}: this is no value for it.")
        try:
            made = type(holder).model_validate(dict(holder) | {self.field: value})
        except ValidationError as error:
            raise NotAllowed(f"{self.key}: {error.errors()[0]['msg']}.") from None
        if self.longer and not _longer(getattr(made, self.field), self.value(settings)):
            raise NotAllowed(f"{self.key}: what shortens it needs the file and a restart.")
        if self.item is None:
            return settings.model_copy(update={self.section: made})
        items = list(getattr(settings, self.section))
        items[self.item] = made
        return settings.model_copy(update={self.section: tuple(items)})


def _longer(age: float, stated: float) -> bool:
    return age == 0 or 0 < stated <= age


def knobs(settings: Settings) -> dict[str, Knob]:
    """Return every value that may be changed, by its key."""
    return {knob.key: knob for knob in _knobs(settings)}


def _knobs(settings: Settings) -> Iterator[Knob]:
    for name in type(settings).model_fields:
        found = getattr(settings, name)
        if isinstance(found, BaseModel):
            yield from _of(found, name, name)
        for number, item in enumerate(found if isinstance(found, tuple) else ()):
            if isinstance(item, Outlet):
                yield from _of(item, f"{name}.{item.name}", name, number)


def _of(holder: BaseModel, prefix: str, section: str, item: int | None = None) -> Iterator[Knob]:
    for field, about in type(holder).model_fields.items():
        if LIVE in about.metadata:
            yield Knob(
                key=f"{prefix}.{field}",
                meaning=about.description or "",
                section=section,
                item=item,
                field=field,
                longer=LONGER in about.metadata,
            )


def overlaid(settings: Settings, changes: Iterable[Change]) -> Settings:
    """Return the settings with what lies over them; what does not fit is left out."""
    known = knobs(settings)
    for change in changes:
        if change.key in known:
            try:
                settings = known[change.key].turned(settings, change.value)
            except NotAllowed:
                continue
    return settings


class Live:
    """The settings in force, as file and ledger say now.

    Parameters
    ----------
    settings
        Of the file.
    ledger
        Where changes are kept.
    clock
        Monotonic seconds.
    """

    def __init__(
        self, settings: Settings, ledger: Ledger, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.file = settings
        self._ledger = ledger
        self._clock = clock
        self._in_force = settings
        self._changes: tuple[Change, ...] = ()
        self._next = float("-inf")

    def create(self) -> None:
        """Create what is missing in the ledger."""
        with self._ledger.transaction() as connection:
            _metadata.create_all(connection)

    def now(self) -> Settings:
        """Return the settings in force; a change counts within a second."""
        moment = self._clock()
        if moment >= self._next:
            self._next = moment + _PERIOD
            self._look()
        return self._in_force

    def changes(self) -> tuple[Change, ...]:
        """Return what lies over the file, by key."""
        rows = self._ledger.query(_changes.select().order_by(_changes.c.key))
        names = Change.__dataclass_fields__
        return tuple(
            Change(**dict(zip(names, row, strict=True)) | {"value": json.loads(row[1])})
            for row in rows
        )

    def change(self, key: str, value: Any, by: str, reason: str, at: float) -> None:
        """Lay a value over that of the file; None takes it away again.

        Raises
        ------
        NotLive
            If there is no such setting, or it needs a restart.
        NotAllowed
            If the value is none for it.
        """
        knob = knobs(self.file).get(key)
        if knob is None:
            raise NotLive(f"{key[:64]} does not change without a restart.")
        if value is not None:
            knob.turned(self.file, value)
        with self._ledger.transaction() as connection:
            connection.execute(_changes.delete().where(_changes.c.key == key))
            if value is not None:
                said = {"value": json.dumps(value), "by": by[:64], "reason": reason[:200]}
                connection.execute(_changes.insert().values(key=key, at=at, **said))
        self._next = float("-inf")

    def _look(self) -> None:
        found = self.changes()
        if found != self._changes:
            self._in_force = overlaid(self.file, found)
            self._changes = found


def in_force(settings: Settings) -> tuple[Settings, tuple[Change, ...]]:
    """Return what counts, and what lies over the file; nothing does before the first start."""
    if settings.storage.database is None and not settings.ledger_file.is_file():
        return settings, ()
    with closing(Ledger(settings.database_url)) as ledger:
        live = Live(settings, ledger)
        live.create()
        return live.now(), live.changes()


def with_origins(settings: Settings, changes: Iterable[Change]) -> list[dict[str, Any]]:
    """Return key, value and origin of everything in force: who stated it, or changed it since."""
    stated = origins()
    said = {
        key: {"key": key, "value": value, "origin": stated.get(key, "default")}
        for key, value in leaves(settings.model_dump(mode="json")).items()
    }
    for change in changes:
        origin = f"changed by {change.by}: {change.reason}"
        said[change.key] = {"key": change.key, "value": change.value, "origin": origin}
    return list(said.values())


def follow(settings: Settings) -> None:
    """Keep the log of this process as the settings in force have it, in a thread of its own."""
    live = Live(settings, Ledger(settings.database_url))
    threading.Thread(target=_follow, args=(live,), name="settings", daemon=True).start()


def _follow(live: Live) -> None:
    before = live.file.log
    while True:
        with suppress(SQLAlchemyError):  # what cannot be read now is read later
            log = live.now().log
            if log != before:
                logs.configure(log)
                before = log
        time.sleep(_PERIOD)
