"""The rows of training runs: what was asked for, who works on it, and how it ended.

A run is its row and its folder, so that it goes on after any end of whoever works on it. One
run is under way at a time. Who works on it holds a lease; every change is guarded by the
lease's fencing number, so that a worker that lost its lease changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from dicom_node.ledger import LeaseLost, Ledger

if TYPE_CHECKING:
    from training.plan import Plan

ATTEMPTS: Final = 5
"""Times that a run may end without a word before it got any further."""

_metadata = sa.MetaData()

runs = sa.Table(
    "run",
    _metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("plan_digest", sa.String(64), nullable=False),
    sa.Column("by", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("queued_at", sa.Double, nullable=False),
    sa.Column("started_at", sa.Double),
    sa.Column("ended_at", sa.Double),
    sa.Column("progress", sa.Integer, nullable=False, default=0),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("stopping", sa.Boolean, nullable=False, default=False),
    sa.Column("lease_owner", sa.String(64)),
    sa.Column("lease_until", sa.Double),
    sa.Column("fence", sa.Integer, nullable=False, default=0),
    sa.Column("model", sa.String(64)),
    sa.Index("run_state", "state", "id"),
)


SCHEDULED: Final = "schedule "
"""What the name of whoever asked begins with, where it is a schedule."""


class RunState(StrEnum):
    """Where a run stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    """Somebody works on it; where the lease has ended, nobody any more."""
    DONE = "DONE"
    FAILED = "FAILED"
    STOPPED = "STOPPED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as it stands."""

    id: int
    name: str
    plan: str
    """The JSON form of :class:`training.plan.Plan`."""
    plan_digest: str
    by: str
    """Who asked for it."""
    state: RunState
    message: str
    """One sentence: how far it is, or how it ended and why."""
    queued_at: float
    """UTC, seconds since the epoch; so are the others."""
    started_at: float | None
    """When it was first worked on."""
    ended_at: float | None
    progress: int
    """How far it ever was; it only grows."""
    attempts: int
    """How often it was begun since it last got further."""
    stopping: bool
    """Whether somebody asked for it to be stopped."""
    model: str | None
    """Digest of the candidate that came of it."""

    @property
    def scheduled(self) -> bool:
        """Whether a schedule asked for it."""
        return self.by.startswith(SCHEDULED)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLease:
    """The right to work on one run, until it ends or is taken away."""

    run: Run
    fence: int


class Runs:
    """The runs of one ledger.

    Parameters
    ----------
    ledger
        Created already; the table of runs is created here where it is absent.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        with ledger.transaction() as connection:
            _metadata.create_all(connection)

    # Whoever asks

    def enqueue(self, plan: "Plan", by: str, now: float) -> int:
        """Return the number of a new run, which waits for its turn."""
        values = {
            "name": plan.name,
            "plan": plan.to_json(),
            "plan_digest": plan.digest,
            "by": by,
            "state": RunState.QUEUED,
            "message": "It waits for its turn.",
            "queued_at": now,
        }
        with self._ledger.transaction() as connection:
            number = connection.scalar(runs.insert().values(**values).returning(runs.c.id))
        return int(number or 0)

    def get(self, number: int) -> Run:
        """Return a run as it stands now. Raises LookupError where there is none."""
        rows = self._ledger.query(runs.select().where(runs.c.id == number))
        if not rows:
            raise LookupError(f"There is no run {number}.")
        return _run(rows[0])

    def list(self, states: Sequence[RunState] = (), limit: int = 100) -> tuple[Run, ...]:
        """Return the newest runs, of these states if any are named, the newest first."""
        query = runs.select().order_by(runs.c.id.desc()).limit(limit)
        if states:
            query = query.where(runs.c.state.in_(states))
        return tuple(_run(row) for row in self._ledger.query(query))

    def stop(self, number: int, by: str, now: float) -> Run:
        """Return the run, which stops as soon as its worker hears of it.

        Raises
        ------
        LookupError
            If there is no such run.
        ValueError
            If it has ended.
        """
        with self._ledger.transaction() as connection:
            row = _row(connection, number)
            if row.state not in _OPEN:
                raise ValueError(f"Run {number} has ended already ({row.state}).")
            said = f"Stopped by {by}."
            if row.state == RunState.RUNNING and row.lease_until > now:
                return _change(connection, row, stopping=True, message=f"Stopping for {by}.")
            return _change(connection, row, state=RunState.STOPPED, message=said, ended_at=now)

    def resume(self, number: int, by: str, now: float) -> Run:
        """Return the run queued again; it goes on from where it was.

        Raises
        ------
        LookupError
            If there is no such run.
        ValueError
            If it is done, or not ended.
        """
        with self._ledger.transaction() as connection:
            row = _row(connection, number)
            if row.state not in _RESUMABLE:
                raise ValueError(
                    f"Run {number} is {row.state}: only what failed or was stopped is resumed."
                )
            return _change(
                connection,
                row,
                state=RunState.QUEUED,
                message=f"Resumed by {by}; it waits for its turn.",
                queued_at=now,
                ended_at=None,
                attempts=0,
                stopping=False,
            )

    # Whoever works

    def lease(
        self, worker: str, now: float, until: float, *, only: int | None = None
    ) -> RunLease | None:
        """Return the right to work on the next run, or None.

        There is none while another run is under way. A run whose lease has ended comes before
        those that wait; one that ended too often without getting further fails here.

        Parameters
        ----------
        until
            End of the lease, UTC, seconds since the epoch.
        only
            This run and no other.
        """
        with self._ledger.transaction() as connection:
            for row in connection.execute(_candidates().with_for_update()).all():
                if row.state == RunState.RUNNING and row.lease_until > now:
                    return None
                if row.attempts >= ATTEMPTS:
                    _change(connection, row, **_hopeless(row), ended_at=now)
                elif row.stopping:
                    _change(connection, row, state=RunState.STOPPED, ended_at=now)
                elif only in {None, row.id}:
                    return _leased(connection, row, worker, now, until)
        return None

    def heartbeat(
        self, lease: RunLease, until: float, message: str = "", progress: int = 0
    ) -> None:
        """Keep the lease, and say how far the run is.

        Parameters
        ----------
        until
            New end of the lease.
        message
            What it does now, if that is news.
        progress
            How far it is, as a number that grows.

        Raises
        ------
        dicom_node.ledger.LeaseLost
            If somebody else works on it.
        """
        with self._ledger.transaction() as connection:
            row = _held(connection, lease)
            further = progress > row.progress
            _change(
                connection,
                row,
                lease_until=until,
                message=message if message and not row.stopping else row.message,
                progress=max(progress, row.progress),
                attempts=0 if further else row.attempts,
            )

    def release(self, lease: RunLease, now: float, message: str, *, fault: bool) -> None:
        """Give the run back, to be gone on with; LeaseLost as :meth:`heartbeat`.

        Parameters
        ----------
        fault
            Whether the attempt counts: it ended by its own doing.
        """
        with self._ledger.transaction() as connection:
            row = _held(connection, lease)
            attempts = row.attempts if fault else max(0, row.attempts - 1)
            _change(connection, row, lease_until=now, message=message, attempts=attempts)

    def finish(
        self,
        lease: RunLease,
        state: RunState,
        message: str,
        now: float,
        *,
        model: str | None = None,
    ) -> Run:
        """Return the run at its end; LeaseLost as :meth:`heartbeat`.

        Parameters
        ----------
        message
            One sentence.
        model
            Digest of the candidate that came of it.
        """
        values = {"state": state, "message": message, "ended_at": now, "lease_until": None}
        with self._ledger.transaction() as connection:
            return _change(connection, _held(connection, lease), model=model, **values)


_OPEN: Final = (RunState.QUEUED, RunState.RUNNING)
_RESUMABLE: Final = (RunState.FAILED, RunState.STOPPED)


def _hopeless(row: Row[Any]) -> dict[str, str]:
    words = f"It ended {ATTEMPTS} times before it got any further; the last time: {row.message}"
    return {"state": RunState.FAILED, "message": words}


def _candidates() -> sa.Select[Any]:
    """Return the open runs: what was begun first, then by the order of asking."""
    begun = sa.case((runs.c.state == RunState.RUNNING, 0), else_=1)
    return runs.select().where(runs.c.state.in_(_OPEN)).order_by(begun, runs.c.queued_at, runs.c.id)


def _leased(
    connection: Connection, row: Row[Any], worker: str, now: float, until: float
) -> RunLease:
    fence = row.fence + 1
    run = _change(
        connection,
        row,
        state=RunState.RUNNING,
        message=row.message if row.started_at else "It begins.",
        started_at=row.started_at or now,
        attempts=row.attempts + 1,
        lease_owner=worker,
        lease_until=until,
        fence=fence,
    )
    return RunLease(run=run, fence=fence)


def _row(connection: Connection, number: int) -> Row[Any]:
    query = runs.select().where(runs.c.id == number).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        raise LookupError(f"There is no run {number}.")
    return row


def _held(connection: Connection, lease: RunLease) -> Row[Any]:
    row = _row(connection, lease.run.id)
    if row.fence != lease.fence or row.state != RunState.RUNNING:
        raise LeaseLost(f"run {lease.run.id}")
    return row


def _change(connection: Connection, row: Row[Any], **values: Any) -> Run:
    update = runs.update().where(runs.c.id == row.id).values(**values).returning(runs)
    return _run(connection.execute(update).one())


def _run(row: Row[Any] | tuple[Any, ...]) -> Run:
    values = dict(zip(runs.c.keys(), row, strict=True))
    document = {name: values[name] for name in Run.__dataclass_fields__}
    return Run(**document | {"state": RunState(values["state"])})
