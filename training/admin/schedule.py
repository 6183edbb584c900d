"""When plans are run by themselves: schedules are rows, and each tick makes one run, once.

APScheduler wakes us up; what is to be done is decided from the rows alone, so that a restart, a
clock that jumps or a second process changes nothing. A moment at which a schedule comes due is
a row before its run is, and the run carries that moment in its name for who asked for it: a
crash in between is seen at the next start and made good. One process ticks: who holds the lock.
"""

import fcntl
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from tzlocal import get_localzone

from dicom_node.ledger import Event, Ledger
from dicom_node.retrieve import closed_for
from dicom_node.work import without_data
from training.admin.tables import schedules, ticks
from training.plan import Plan
from training.runs import SCHEDULED, Runs

log = structlog.get_logger()

GRACE: Final = 12 * 3600.0
"""Seconds that a tick may be late: a machine that was off for the night still runs its plan."""
LOCK: Final = "schedule.lock"
SOONEST: Final = 300.0
"""Seconds between two ticks, at the least."""
_LOOK: Final = 600.0
"""Seconds between two looks at whether enough was labelled, where no other time is named."""
_RELOAD: Final = 5.0
_MOST_PASSED: Final = 10_000
_DAY: Final = timedelta(days=1)
_TICK: Final = timedelta(microseconds=1)


class NotASchedule(ValueError):
    """What is asked for is no schedule; the message is a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be run, and when."""

    name: str
    plan: str
    """JSON."""
    cron: str | None = None
    """Minute, hour, day, month, day of week: local time."""
    every: float | None = None
    """Seconds, instead."""
    new_labelled: int | None = None
    """Only when so many recordings were labelled since the last run."""
    window: str | None = None
    """Local time of day in which a run may begin, `20:00-06:00`; a tick outside waits for it."""
    active: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """An order that is kept."""

    id: int
    order: Order
    by: str
    created_at: float
    since: float
    """UTC, seconds since the epoch: what came due before is done with."""
    labelled: int
    """Recordings that were labelled when it last made a run."""


class Windowed(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Moves each moment of a trigger to when a window of the day opens.

    Moments depend on the trigger and the clock alone, not on when somebody looked.
    """

    def __init__(self, inner: BaseTrigger, window: str | None) -> None:
        self._inner, self._window = inner, window

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        """Return the first moment after the previous one, and not before now."""
        after = now if previous is None else max(now, previous + _TICK)
        moment = self._inner.get_next_fire_time(None, after - _DAY if self._window else after)
        for _ in range(_MOST_PASSED):
            if moment is None:
                return None
            opened = _later(moment, closed_for(self._window, moment))
            if opened >= after:
                return opened
            moment = self._inner.get_next_fire_time(None, moment + _TICK)
        return None


def _later(moment: datetime, seconds: float) -> datetime:
    return datetime.fromtimestamp(moment.timestamp() + seconds, moment.tzinfo)


def trigger_of(order: Order, begin: float, zone: tzinfo | None = None) -> Windowed:
    """Return when an order comes due.

    Parameters
    ----------
    begin
        UTC, seconds since the epoch: from when intervals are counted.
    zone
        Whose local time is meant; by default this machine's.

    Raises
    ------
    NotASchedule
        If it is never, or too often.
    """
    if order.cron is not None and order.every is not None:
        raise NotASchedule("It has either a cron line or an interval.")
    local = zone or get_localzone()
    if order.cron is None:
        every = order.every if order.every is not None else _LOOK
        if order.every is None and order.new_labelled is None:
            raise NotASchedule("It says no time: a cron line, an interval, or how many new labels.")
        if not SOONEST <= every <= 366 * 86400.0:
            raise NotASchedule(f"An interval is at least {SOONEST:g} seconds, and at most a year.")
        start = datetime.fromtimestamp(begin, local) + timedelta(seconds=every)
        return Windowed(
            IntervalTrigger(seconds=every, start_date=start, timezone=local), order.window
        )
    try:
        inner = CronTrigger.from_crontab(order.cron, timezone=local)
    except (ValueError, TypeError):
        raise NotASchedule(
            "A cron line has minute, hour, day, month and day of week, as in `30 2 * * mon`."
        ) from None
    return _not_too_often(Windowed(inner, order.window), begin)


def _not_too_often(trigger: Windowed, begin: float) -> Windowed:
    now = datetime.fromtimestamp(begin, UTC)
    first = trigger.get_next_fire_time(None, now)
    second = trigger.get_next_fire_time(first, first) if first else None
    if first is None:
        raise NotASchedule("This cron line never comes.")
    if second is not None and (second - first).total_seconds() < SOONEST:
        raise NotASchedule(f"Two runs begin at least {SOONEST:g} seconds apart.")
    return trigger


def due(schedule: Schedule, now: float, zone: tzinfo | None = None) -> float | None:
    """Return the last moment that a schedule came due and is not done with, or None.

    What came due more than `GRACE` ago is passed over; of several moments the last one counts.
    """
    trigger = trigger_of(schedule.order, schedule.created_at, zone)
    latest, moment = None, datetime.fromtimestamp(max(schedule.since, now - GRACE), UTC)
    end = datetime.fromtimestamp(now, UTC)
    for _ in range(_MOST_PASSED):
        found = trigger.get_next_fire_time(moment, moment)
        if found is None or found > end:
            break
        latest = moment = found
    return None if latest is None else latest.timestamp()


def next_due(schedule: Schedule, now: float, zone: tzinfo | None = None) -> float | None:
    """Return when a schedule comes due next; None where it is switched off."""
    if not schedule.order.active:
        return None
    trigger = trigger_of(schedule.order, schedule.created_at, zone)
    found = trigger.get_next_fire_time(None, datetime.fromtimestamp(now, UTC))
    return None if found is None else found.timestamp()


class Schedules:
    """The schedules of one ledger.

    Parameters
    ----------
    ledger
        With the tables of :mod:`training.admin.tables`.
    runs
        Which they make.
    labelled
        Returns how many recordings of the corpus have a label.
    """

    def __init__(self, ledger: Ledger, runs: Runs, labelled: Callable[[], int]) -> None:
        self._ledger = ledger
        self._runs = runs
        self._labelled = labelled

    def list(self) -> tuple[Schedule, ...]:
        """Return every schedule, by name."""
        query = schedules.select().order_by(schedules.c.name)
        return tuple(map(_schedule, self._ledger.query(query)))

    def get(self, number: int) -> Schedule:
        """Return one schedule. Raises LookupError where there is none."""
        rows = self._ledger.query(schedules.select().where(schedules.c.id == number))
        if not rows:
            raise LookupError(f"There is no schedule {number}.")
        return _schedule(rows[0])

    def add(self, order: Order, by: str, now: float) -> Schedule:
        """Return a new schedule, which counts from now. Raises NotASchedule."""
        trigger_of(order, now)
        values = _values(order) | {
            "by": by[:64], "created_at": now, "since": now, "labelled": self._labelled()
        }  # fmt: skip
        insert = schedules.insert().values(**values).returning(schedules)
        return self._put(insert, order)

    def change(self, number: int, order: Order, now: float) -> Schedule:
        """Return the schedule as changed; it counts anew from now. Raises as `add`."""
        self.get(number)
        trigger_of(order, now)
        change = schedules.update().where(schedules.c.id == number)
        values = _values(order) | {"since": now}
        return self._put(change.values(**values).returning(schedules), order)

    def _put(self, statement: Any, order: Order) -> Schedule:
        try:
            with self._ledger.transaction() as connection:
                return _schedule(connection.execute(statement).one())
        except IntegrityError:
            raise NotASchedule(f"There is a schedule {order.name} already.") from None

    def remove(self, number: int) -> None:
        """Forget a schedule; its runs stay. Raises LookupError where there is none."""
        self.get(number)
        with self._ledger.transaction() as connection:
            connection.execute(ticks.delete().where(ticks.c.schedule_id == number))
            connection.execute(schedules.delete().where(schedules.c.id == number))

    # Ticking

    def tick(self, number: int, now: float, zone: tzinfo | None = None) -> int | None:
        """Return the run that a schedule made now, or None where nothing was to be done."""
        schedule = self.get(number)
        moment = due(schedule, now, zone) if schedule.order.active else None
        if moment is None:
            return None
        labelled = self._labelled()
        needed = schedule.order.new_labelled
        if needed is not None and labelled - schedule.labelled < needed:
            self._done_with(schedule, moment)
            return None
        if not self._claim(schedule, moment, labelled):
            return None
        return self._make(schedule, moment, now)

    def make_good(self, now: float) -> tuple[int, ...]:
        """Return the runs of ticks that a crash cut off before their run was there."""
        query = sa.select(ticks.c.schedule_id, ticks.c.due_at).where(ticks.c.run_id.is_(None))
        open_ticks = self._ledger.query(query)
        return tuple(self._make(self.get(number), moment, now) for number, moment in open_ticks)

    def _done_with(self, schedule: Schedule, moment: float) -> None:
        mine = schedules.c.id == schedule.id
        with self._ledger.transaction() as connection:
            connection.execute(schedules.update().where(mine).values(since=moment))

    def _claim(self, schedule: Schedule, moment: float, labelled: int) -> bool:
        """Return whether this moment was nobody else's, and is remembered now."""
        mine = schedules.c.id == schedule.id
        try:
            with self._ledger.transaction() as connection:
                connection.execute(ticks.insert().values(schedule_id=schedule.id, due_at=moment))
                connection.execute(
                    schedules.update().where(mine).values(since=moment, labelled=labelled)
                )
        except IntegrityError:
            return False
        return True

    def _make(self, schedule: Schedule, moment: float, now: float) -> int:
        """Return the run of a moment: made now, or by whom a crash cut off after it."""
        at = datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
        by = f"{SCHEDULED}{schedule.id} at {at}"
        run = next((item.id for item in self._runs.list(limit=1000) if item.by == by), None)
        if run is None:
            run = self._runs.enqueue(Plan.from_json(schedule.order.plan), by, now)
        mine = (ticks.c.schedule_id == schedule.id, ticks.c.due_at == moment)
        with self._ledger.transaction() as connection:
            connection.execute(ticks.update().where(*mine).values(run_id=run))
        detail = json.dumps({"by": by, "run": run, "name": schedule.order.name})
        self._ledger.record(Event(event="schedule-tick", detail=detail), now)
        return run


def _values(order: Order) -> dict[str, Any]:
    return {name: getattr(order, name) for name in Order.__dataclass_fields__}


def _schedule(row: Sequence[Any]) -> Schedule:
    values = dict(zip(schedules.c.keys(), row, strict=True))
    order = Order(**{name: values[name] for name in Order.__dataclass_fields__})
    names = ("id", "by", "created_at", "since", "labelled")
    return Schedule(order=order, **{name: values[name] for name in names})


# The process that ticks


@contextmanager
def only_here(folder: Path) -> Iterator[bool]:
    """Yield whether this process alone may tick; the lock ends with the process."""
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


class Ticker:
    """Keeps one job of APScheduler for each schedule, as the rows say.

    Parameters
    ----------
    schedules
        Whose they are.
    clock
        UTC, seconds since the epoch.
    """

    def __init__(self, schedules: Schedules, clock: Callable[[], float]) -> None:
        self._schedules = schedules
        self._clock = clock
        self._known: dict[int, Schedule] = {}
        self._scheduler = BackgroundScheduler(
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": int(GRACE)}
        )

    def start(self) -> None:
        """Make good what a crash left, and begin."""
        try:
            self._schedules.make_good(self._clock())
        except (SQLAlchemyError, LookupError, ValueError) as error:  # an old plan stops nobody
            log.error("tick_not_made_good", error=type(error).__name__)  # noqa: TRY400 - no trace
        self.reload()
        self._scheduler.add_job(self.reload, "interval", seconds=_RELOAD, id="reload")
        self._scheduler.start()

    def stop(self) -> None:
        """End, after what is in hand."""
        if self._scheduler.running:
            self._scheduler.shutdown()

    def reload(self) -> None:
        """Bring the jobs to where the rows are."""
        try:
            found = {item.id: item for item in self._schedules.list() if item.order.active}
        except SQLAlchemyError as error:
            log.error("schedules_unreadable", error=type(error).__name__)  # noqa: TRY400 - no trace
            return
        for number in self._known.keys() - found.keys():
            self._scheduler.remove_job(f"schedule {number}")
        for number, item in found.items():
            before = self._known.get(number)
            if before is None or before.order != item.order:
                self._add(item)
        self._known = found

    def _add(self, schedule: Schedule) -> None:
        """Give a schedule its job; what came due while nobody ticked is done at once."""
        missed = due(schedule, self._clock()) is not None
        self._scheduler.add_job(
            self._tick,
            trigger_of(schedule.order, schedule.created_at),
            args=(schedule.id,),
            id=f"schedule {schedule.id}",
            replace_existing=True,
            **({"next_run_time": datetime.now(UTC)} if missed else {}),
        )

    def _tick(self, number: int) -> None:
        try:
            self._schedules.tick(number, self._clock())
        except LookupError:
            return  # it was removed just now
        except Exception as error:  # noqa: BLE001 - the next tick tries again
            log.error("tick_failed", schedule=number, error=without_data(error))  # noqa: TRY400
