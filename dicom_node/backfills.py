"""The rows of a back-fill: what was asked for, how far it is, and each ECG that it found.

A run is these rows and nothing else, so that it goes on after any end. What is asked of the
source is a row before it is asked, so that the receiver knows what comes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from dicom_node.ledger import FetchState, Ledger, backfills, instances, objects, wanted

ATTEMPTS: Final = 3
"""Times that a source is asked for an ECG that does not come."""


class RunState(StrEnum):
    """Where a run stands."""

    RUNNING = "RUNNING"
    """Under way, or cut off: it goes on when it is resumed."""
    PAUSED = "PAUSED"
    DONE = "DONE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a run is to fetch, and as whom."""

    source: str
    source_ae: str
    """AE title of the source; empty for DICOMweb."""
    calling_ae: str
    """AE title on whose behalf the objects come."""
    first: str
    """Study date, YYYYMMDD; so is `last`."""
    last: str
    filters: Mapping[str, str]
    """Attribute of the series → value, `*` and `?` are wild cards."""
    archive_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """An order under way."""

    id: int
    order: Order
    cursor: str
    """The next study date to look through."""
    state: RunState
    message: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the source an object is."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object that is to be fetched."""

    id: int
    place: Place
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How far a run is."""

    found: int
    arrived: int
    known: int
    failed: int
    skipped: int

    @property
    def settled(self) -> int:
        """How many of those found need nothing more."""
        return self.arrived + self.known + self.failed


class Backfills:
    """The runs of one ledger.

    Parameters
    ----------
    ledger
        Created already.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def begin(self, order: Order, now: float) -> Run:
        """Return a new run."""
        values = {
            "source": order.source,
            "source_ae": order.source_ae,
            "calling_ae": order.calling_ae,
            "first": order.first,
            "last": order.last,
            "cursor": order.first,
            "filters": json.dumps(dict(order.filters), sort_keys=True),
            "archive_only": order.archive_only,
            "state": RunState.RUNNING,
            "changed_at": now,
        }
        insert = backfills.insert().values(**values).returning(backfills)
        with self._ledger.transaction() as connection:
            return _run(connection.execute(insert).one())

    def run(self, run_id: int) -> Run:
        """Return a run as it stands now."""
        (row,) = self._ledger.query(backfills.select().where(backfills.c.id == run_id))
        return _run(row)

    def unfinished(self, sources: Sequence[str]) -> Run | None:
        """Return the newest run of these sources that is not done, or has ECGs that failed."""
        failed = sa.select(wanted.c.backfill_id).where(wanted.c.state == FetchState.FAILED)
        query = (
            backfills.select()
            .where(
                backfills.c.source.in_(sources),
                sa.or_(backfills.c.state != RunState.DONE, backfills.c.id.in_(failed)),
            )
            .order_by(backfills.c.id.desc())
            .limit(1)
        )
        return next((_run(row) for row in self._ledger.query(query)), None)

    def resume(self, run: Run, now: float) -> Run:
        """Return the run under way again; what failed is asked for again."""
        mine = (wanted.c.backfill_id == run.id, wanted.c.state == FetchState.FAILED)
        with self._ledger.transaction() as connection:
            connection.execute(
                wanted.update().where(*mine).values(state=FetchState.FOUND, attempts=0)
            )
        return self.end(run, RunState.RUNNING, "", now)

    def end(self, run: Run, state: RunState, message: str, now: float) -> Run:
        """Return the run in another state, with what there is to say about it."""
        update = (
            backfills.update()
            .where(backfills.c.id == run.id)
            .values(state=state, message=message, changed_at=now)
            .returning(backfills)
        )
        with self._ledger.transaction() as connection:
            return _run(connection.execute(update).one())

    def looked(
        self, run: Run, found: Iterable[Place], skipped: int, cursor: str, now: float
    ) -> Run:
        """Return the run after a day was looked through; what it found becomes rows with it.

        What is here already is not asked for, nor our own results. Where reports are wanted,
        what is here for the archive only counts as not yet here.
        """
        places = list(dict.fromkeys(found))
        with self._ledger.transaction() as connection:
            uids = [place.sop_instance_uid for place in places]
            theirs = [uid for uid in uids if uid not in _ours(connection, uids)]
            known = _here(connection, theirs, reported=not run.order.archive_only)
            before = _listed(connection, run, theirs)
            rows = [
                {
                    "backfill_id": run.id,
                    "study_instance_uid": place.study_instance_uid,
                    "series_instance_uid": place.series_instance_uid,
                    "sop_instance_uid": place.sop_instance_uid,
                    "state": FetchState.KNOWN if uid in known else FetchState.FOUND,
                }
                for place in places
                if (uid := place.sop_instance_uid) in theirs and uid not in before
            ]
            if rows:
                connection.execute(wanted.insert(), rows)
            update = (
                backfills.update()
                .where(backfills.c.id == run.id)
                .values(
                    cursor=cursor,
                    skipped=backfills.c.skipped + skipped + len(uids) - len(theirs),
                    changed_at=now,
                )
                .returning(backfills)
            )
            return _run(connection.execute(update).one())

    def known(self, places: Iterable[Place]) -> int:
        """Return how many of these objects are here already."""
        uids = {place.sop_instance_uid for place in places}
        query = sa.select(instances.c.sop_instance_uid).where(
            instances.c.sop_instance_uid.in_(uids)
        )
        return len(set(self._ledger.query(query)))

    def next(self, run: Run, limit: int) -> list[Wanted]:
        """Return what is to be fetched next; what did not come comes last."""
        query = (
            wanted.select()
            .where(wanted.c.backfill_id == run.id, wanted.c.state == FetchState.FOUND)
            .order_by(wanted.c.attempts, wanted.c.id)
            .limit(limit)
        )
        return [_wanted(row) for row in self._ledger.query(query)]

    def asking(self, items: Sequence[Wanted], now: float) -> None:
        """Remember, before the source is asked, that these will come."""
        with self._ledger.transaction() as connection:
            connection.execute(
                wanted.update()
                .where(wanted.c.id.in_([item.id for item in items]))
                .values(asked_at=now)
            )

    def arrived(self, run: Run, items: Sequence[Wanted]) -> list[Wanted]:
        """Return what of these has not arrived; of the others it is remembered."""
        uids = [item.place.sop_instance_uid for item in items]
        with self._ledger.transaction() as connection:
            here = _here(connection, uids, reported=False)
            came = [item for item in items if item.place.sop_instance_uid in here]
            if came:
                self._came(connection, run, came)
        return [item for item in items if item not in came]

    def _came(self, connection: Connection, run: Run, items: Sequence[Wanted]) -> None:
        uids = [item.place.sop_instance_uid for item in items]
        stated = connection.scalar(
            sa.select(instances.c.id).where(
                instances.c.sop_instance_uid.in_(uids),
                instances.c.originator == run.order.calling_ae,
            ).limit(1)
        )  # fmt: skip
        if stated is not None:
            connection.execute(
                backfills.update().where(backfills.c.id == run.id).values(states_originator=True)
            )
        connection.execute(
            wanted.update()
            .where(wanted.c.id.in_([item.id for item in items]))
            .values(state=FetchState.ARRIVED)
        )

    def missed(self, items: Sequence[Wanted]) -> None:
        """Count that these were asked for in vain; after the last time they are given up."""
        last = wanted.c.attempts + 1 >= ATTEMPTS
        with self._ledger.transaction() as connection:
            connection.execute(
                wanted.update()
                .where(wanted.c.id.in_([item.id for item in items]))
                .values(
                    attempts=wanted.c.attempts + 1,
                    state=sa.case((last, str(FetchState.FAILED)), else_=wanted.c.state),
                )
            )

    def counts(self, run: Run) -> Counts:
        """Return how far a run is."""
        query = (
            sa.select(wanted.c.state, sa.func.count())
            .where(wanted.c.backfill_id == run.id)
            .group_by(wanted.c.state)
        )
        of = {state: int(count) for state, count in self._ledger.query(query)}
        ((skipped,),) = self._ledger.query(
            sa.select(backfills.c.skipped).where(backfills.c.id == run.id)
        )
        return Counts(
            found=sum(of.values()),
            arrived=of.get(FetchState.ARRIVED, 0),
            known=of.get(FetchState.KNOWN, 0),
            failed=of.get(FetchState.FAILED, 0),
            skipped=skipped,
        )


def _here(connection: Connection, uids: Sequence[str], *, reported: bool) -> set[str]:
    """Return which objects are in the ledger; only those with a report to come, where asked."""
    query = sa.select(instances.c.sop_instance_uid).where(instances.c.sop_instance_uid.in_(uids))
    if reported:
        query = query.where(instances.c.archive_only.is_(False))
    return set(connection.scalars(query))


def _ours(connection: Connection, uids: Sequence[str]) -> set[str]:
    query = sa.select(objects.c.sop_instance_uid).where(objects.c.sop_instance_uid.in_(uids))
    return set(connection.scalars(query))


def _listed(connection: Connection, run: Run, uids: Sequence[str]) -> set[str]:
    query = sa.select(wanted.c.sop_instance_uid).where(
        wanted.c.backfill_id == run.id, wanted.c.sop_instance_uid.in_(uids)
    )
    return set(connection.scalars(query))


def _run(row: Row[Any] | tuple[Any, ...]) -> Run:
    values = dict(zip(backfills.c.keys(), row, strict=True))
    order = Order(
        **{name: values[name] for name in ("source", "source_ae", "calling_ae", "first", "last")},
        filters=json.loads(values["filters"]),
        archive_only=values["archive_only"],
    )
    return Run(
        id=values["id"],
        order=order,
        cursor=values["cursor"],
        state=RunState(values["state"]),
        message=values["message"],
    )


def _wanted(row: tuple[Any, ...]) -> Wanted:
    values = dict(zip(wanted.c.keys(), row, strict=True))
    place = Place(*(values[name] for name in Place.__dataclass_fields__))
    return Wanted(values["id"], place, values["attempts"])
