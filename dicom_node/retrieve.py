"""Back-fill: past ECGs come in gently, and exactly once (`sinusnode backfill`).

One step at a time: look through a day, or have a few ECGs sent, and rest. Each step is rows
before it is taken and after, so that a run goes on from wherever it was cut off. The node must
be running: the objects come in by its own port, as those of every cart do.
"""

import fcntl
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

from dicom_node import scu, tls
from dicom_node.backfills import Backfills, Counts, Order, Run, RunState, Wanted
from dicom_node.check import Known, known_peers
from dicom_node.dicomweb import Client
from dicom_node.ledger import Event, Ledger
from dicom_node.link import Rejected, Unanswered, Unreachable
from dicom_node.operate import opened
from dicom_node.settings import AnySource, Pace, Settings, Source
from dicom_node.sources import (
    Archive,
    DicomArchive,
    Looked,
    WebArchive,
    is_for_good,
    look,
)

FAILURES: Final = 10
"""Failures in a row after which a run stops; with the pauses between, some 20 minutes."""

_PAUSE, _LONGEST = 5.0, 300.0  # seconds
_SLICE: Final = 1.0  # seconds
_DAY: Final = "%Y%m%d"


class Stopped(RuntimeError):
    """There is nothing to do, or not now; the message says why, and what to do."""


class Unavailable(Stopped):
    """The source, or this node, does not answer as it must."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a run is, and what there is to say."""

    run: Run
    counts: Counts
    said: str = ""


# What is to be done


def order(
    settings: Settings, source: AnySource, first: date, last: date, filters: Mapping[str, str],
    *, report: bool,
) -> Order:  # fmt: skip
    """Return the order to fetch the ECGs of some study dates from a source."""
    here = settings.dicom.ae_title
    dicom = source if isinstance(source, Source) else None
    return Order(
        source=source.name,
        source_ae=dicom.ae_title if dicom else "",
        calling_ae=(dicom.calling_ae_title if dicom else None) or here,
        first=first.strftime(_DAY),
        last=last.strftime(_DAY),
        filters=filters,
        archive_only=not report,
    )


def source_named(settings: Settings, name: str | None) -> AnySource:
    """Return the source of a name, or the only one.

    Raises
    ------
    Stopped
        If there is none.
    """
    found = [item for item in settings.sources if name in (None, item.name)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(item.name for item in settings.sources)
    if not names:
        raise Stopped("The settings name no source: add [[sources]] (`sinusnode settings`).")
    raise Stopped(f"Name one of the sources: {names}.")


def count(
    settings: Settings, source: AnySource, first: date, last: date, filters: Mapping[str, str]
) -> Iterator[tuple[date, Counts]]:
    """Yield each study date with what it holds; nothing is fetched, nothing is remembered.

    Raises
    ------
    Stopped
        If the source does not answer.
    """
    with opened(settings) as ledger, closing(_archive(settings, source)) as archive:
        for number in range((last - first).days + 1):
            day = first + timedelta(number)
            try:
                looked = look(archive, day.strftime(_DAY), filters)
            except Unreachable as error:
                raise Unavailable(_sentence(error)) from None
            known = Backfills(ledger).known(looked.found)
            found = len(looked.found)
            yield day, Counts(found=found, arrived=0, known=known, failed=0, skipped=looked.skipped)


def begin(settings: Settings, source: AnySource, wanted: Order) -> Generator[Step]:
    """Yield how a new run goes on, until it is done or paused.

    Raises
    ------
    Stopped
        If it cannot go on now; it is paused.
    """
    with (
        opened(settings) as ledger,
        _alone(settings),
        closing(_archive(settings, source)) as archive,
    ):
        _need_node(settings, source)
        run = Backfills(ledger).begin(wanted, time.time())
        yield from _under_way(source, ledger, archive, run)


def resume(settings: Settings, name: str | None) -> Generator[Step]:
    """Yield how the newest unfinished run goes on, until it is done or paused.

    Raises
    ------
    Stopped
        If there is none, or it cannot go on now.
    """
    with opened(settings) as ledger, _alone(settings):
        runs = Backfills(ledger)
        run = runs.unfinished(_names(settings, name))
        if run is None:
            raise Stopped("No back-fill is unfinished.")
        source = source_named(settings, run.order.source)
        with closing(_archive(settings, source)) as archive:
            _need_node(settings, source)
            run = runs.resume(run, time.time())
            yield from _under_way(source, ledger, archive, run)


def pause(settings: Settings, name: str | None) -> Step:
    """Return the newest unfinished run, which stops after the step in hand.

    Raises
    ------
    Stopped
        If there is none.
    """
    with opened(settings) as ledger:
        runs = Backfills(ledger)
        run = runs.unfinished(_names(settings, name))
        if run is None or run.state is RunState.DONE:
            raise Stopped("No back-fill is under way.")
        run = runs.end(run, RunState.PAUSED, "paused by command", time.time())
        return Step(run, runs.counts(run))


def _names(settings: Settings, name: str | None) -> list[str]:
    return [item.name for item in settings.sources if name in (None, item.name)]


# What is needed


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold the lock of back-fills: one association at a time is gentle."""
    with (Path(settings.storage.folder) / "backfill.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Stopped("Another back-fill is under way on this node.") from None
        yield


def _archive(settings: Settings, source: AnySource) -> Archive:
    """Return where the ECGs are, not called yet."""
    try:
        node = known_peers(settings)[0]
        secure = tls.caller(settings.tls, source) if isinstance(source, Source) else None
    except OSError as error:
        raise Stopped(f"The TLS files cannot be used: {tls.describe(error)}.") from None
    if isinstance(source, Source):
        return DicomArchive(source, settings.dicom.ae_title, secure)
    return WebArchive(Client(source), node, settings.dicom.maximum_object, source.timeout)


def _need_node(settings: Settings, source: AnySource) -> None:
    """Say in a sentence why the objects could not come in."""
    node: Known = known_peers(settings)[0]
    try:
        scu.echo(node.address, node.calling_ae, secure=node.secure)
    except Rejected:
        if not isinstance(source, Source):
            raise Unavailable(
                f"This node rejects itself: add {node.calling_ae} with the address "
                f"{node.address.host} to dicom.peers, or nothing retrieved can come in."
            ) from None
    except Unreachable:
        raise Unavailable(
            "This node is not running: start it (`sinusnode serve`), then try again."
        ) from None


def _under_way(source: AnySource, ledger: Ledger, archive: Archive, run: Run) -> Iterator[Step]:
    """Yield the steps of a run, with its beginning and its end in the audit trail."""
    runs = Backfills(ledger)
    work = Backfill(run, archive, source, source.timeout, ledger=ledger)
    _record(ledger, run, "started")
    try:
        yield from work.steps()
    except Unreachable as error:
        why = _sentence(error)
        runs.end(run, RunState.PAUSED, why, time.time())
        raise Unavailable(why) from None
    except (KeyboardInterrupt, GeneratorExit):
        runs.end(run, RunState.PAUSED, "interrupted", time.time())
        raise
    finally:
        counts = runs.counts(run)
        _record(ledger, run, f"ended: {counts.arrived} arrived, {counts.failed} failed")


def _record(ledger: Ledger, run: Run, what: str) -> None:
    how = "archive only" if run.order.archive_only else "reports delivered"
    days = f"{run.order.first}-{run.order.last}"
    detail = f"run {run.id}, {run.order.source}, {days}, {how}, {what}"
    ledger.record(Event(event="backfill", calling_ae=run.order.calling_ae, detail=detail),
                  time.time())  # fmt: skip


def _sentence(error: Unreachable) -> str:
    said = str(error)
    return f"{said[:1].upper()}{said[1:].rstrip('.?')}. Repair it, then go on with --resume."


# The work


class Backfill:
    """One run, step by step.

    Parameters
    ----------
    run
        Under way.
    archive
        Where the ECGs are.
    pace
        How gently they are fetched.
    patience
        Seconds that what was asked for may take to arrive.
    ledger
        In which it is seen what arrived.
    clock, sleep
        UTC, seconds since the epoch; and how to rest.
    """

    def __init__(
        self,
        run: Run,
        archive: Archive,
        pace: Pace,
        patience: float,
        *,
        ledger: Ledger,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._run = run
        self._archive = archive
        self._pace = pace
        self._patience = patience
        self._ledger = ledger
        self._runs = Backfills(ledger)
        self._clock = clock
        self._sleep = sleep
        self._failures = 0
        self._answered = False
        self._failed = ""

    def steps(self) -> Iterator[Step]:
        """Yield how far the run is after each step, until it is done or paused.

        Raises
        ------
        Unreachable
            If the archive fails for good, too often, or before it has answered once.
        """
        while self._is_running():
            said, seconds = self._turn()
            yield self._told(said)
            self._rest(seconds)
        yield self._told()

    def _turn(self) -> tuple[str, float]:
        """Take a step if it is time; return what there is to say, and the seconds to rest."""
        start = self._clock()
        wait = closed_for(self._pace.window, datetime.fromtimestamp(start))  # noqa: DTZ006 - local time of day is meant
        if wait:
            return f"outside the window {self._pace.window}", wait
        try:
            seconds = self._step()
        except Unreachable as error:
            self._failures, self._failed = self._failures + 1, str(error)
            if not self._answered or is_for_good(error) or self._failures >= FAILURES:
                raise
            pause = min(_PAUSE * 2.0 ** (self._failures - 1), _LONGEST)
            return f"{error}; tried again in {pause:.0f} s", pause
        return "", start + seconds - self._clock()

    def _told(self, said: str = "") -> Step:
        self._run = self._runs.run(self._run.id)
        return Step(self._run, self._runs.counts(self._run), said)

    def _last_words(self) -> str:
        """Return why some ECGs did not come, if any did not."""
        return self._failed if self._runs.counts(self._run).failed else ""

    def _is_running(self) -> bool:
        return self._runs.run(self._run.id).state is RunState.RUNNING

    def _rest(self, seconds: float) -> None:
        """Sleep, but not on after the run was paused."""
        end = self._clock() + seconds
        while (left := end - self._clock()) > 0 and self._is_running():
            self._sleep(min(left, _SLICE))

    def _step(self) -> float:
        """Fetch what was found, or look through the next day; return the seconds it may take."""
        run = self._runs.run(self._run.id)
        items = self._runs.next(run, self._pace.batch)
        if items:
            items = [item for item in items if not item.attempts] or items[:1]
            self._fetch(run, items)
            return 60.0 * len(items) / self._rate(run)
        if run.cursor <= run.order.last:
            looked = look(self._archive, run.cursor, run.order.filters)
            self._well()
            self._remember(run, looked)
        else:
            self._runs.end(run, RunState.DONE, self._last_words(), self._clock())
        return 0.0

    def _rate(self, run: Run) -> float:
        """Return how many ECGs a minute may come."""
        pace = self._pace
        if run.order.archive_only:
            return pace.ecgs_per_minute
        return min(pace.ecgs_per_minute, pace.reports_per_minute)

    def _remember(self, run: Run, looked: Looked) -> None:
        after = datetime.strptime(run.cursor, _DAY) + timedelta(1)  # noqa: DTZ007 - a day
        self._runs.looked(run, looked.found, looked.skipped, after.strftime(_DAY), self._clock())

    def _fetch(self, run: Run, items: Sequence[Wanted]) -> None:
        """Have these sent, and see which came; what does not come again and again is given up.

        Raises
        ------
        Unreachable
            If the archive fails, or sends none of what it was asked for the first time.
        """
        asked = self._not_here(run, items)
        if not asked:
            return
        self._runs.asking(asked, self._clock())
        failure = self._asked(asked)
        missing = self._awaited(run, asked, 0.0 if failure else self._patience)
        if failure is None or isinstance(failure, Unanswered):
            self._runs.missed(missing)
        if len(missing) < len(asked):
            self._well()
        if failure is not None:
            raise failure
        if len(missing) == len(asked) and not asked[0].attempts:
            raise Unanswered(f"{run.order.source} sends nothing: does it know this node's address?")
        self._well()

    def _well(self) -> None:
        self._failures, self._answered = 0, True

    def _asked(self, items: Sequence[Wanted]) -> Unreachable | None:
        """Have these sent; return why not, if not."""
        try:
            self._archive.fetch([item.place for item in items])
        except Unreachable as error:
            return error
        return None

    def _awaited(self, run: Run, items: Sequence[Wanted], seconds: float) -> list[Wanted]:
        """Return what has not come after some seconds: some archives answer before they send."""
        end = self._clock() + seconds
        missing = self._not_here(run, items)
        while missing and self._clock() < end:
            self._sleep(min(_SLICE, seconds))
            missing = self._not_here(run, missing)
        return missing

    def _not_here(self, run: Run, items: Sequence[Wanted]) -> list[Wanted]:
        """Return what has not arrived; where reports are wanted, what has is let go."""
        if not run.order.archive_only:
            self._ledger.release([item.place.sop_instance_uid for item in items])
        return self._runs.arrived(run, items)


def closed_for(window: str | None, now: datetime) -> float:
    """Return the seconds until a window of the day (`20:00-06:00`) opens; 0 = it is open."""
    if window is None:
        return 0.0
    opens, closes = (timedelta(hours=int(t[:2]), minutes=int(t[3:])) for t in window.split("-"))
    since = timedelta(hours=now.hour, minutes=now.minute, seconds=now.second)
    day = timedelta(1)
    if (since - opens) % day < ((closes - opens) % day or day):
        return 0.0
    return ((opens - since) % day).total_seconds()
