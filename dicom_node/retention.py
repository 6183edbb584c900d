"""Retention: bytes are given up by age, gently, and never before they are safe elsewhere.

What was received and what was made from it may go once every destination has its results
(COMMITTED); what was set aside goes by an age of its own. First the ledger says so, in batches
that are each one transaction with its row of the audit trail; then segments that nothing refers
to any more are removed. A node that dies in between removes them at its next start. The row
itself stays: who sends the object again is told that it is known, and no second report is made.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.failpoints import reach
from dicom_node.ledger import Ledger, Part, Rule, State
from dicom_node.live import Live
from dicom_node.settings import Retention, Settings
from dicom_node.spool import Spool

log = structlog.get_logger()

BATCH: Final = 200
"""Rows that are looked at together, and purged in one transaction."""
PAUSE: Final = 10.0
"""Seconds after a batch that purged something: 1,200 rows a minute at most."""
BREATH: Final = 0.02
"""Seconds after one that did not."""
ROUND: Final = 3600.0
"""Seconds between two looks through the ledger."""
GRACE: Final = 600.0
"""Seconds after which what was written to a segment that is full has its row, or never will."""

_DAY: Final = 86400.0


KINDS: Final = (
    (State.COMMITTED, Part.SOURCE),
    (State.COMMITTED, Part.RESULTS),
    (State.QUARANTINED, Part.SOURCE),
)


def rule_of(retention: Retention, state: State, part: Part, now: float) -> Rule | None:
    """Return what may be given up now of objects in a state; None where it is kept for ever."""
    committed = {Part.SOURCE: retention.source_days, Part.RESULTS: retention.results_days}
    days = retention.quarantine_days if state is State.QUARANTINED else committed[part]
    return Rule(state=state, part=part, before=now - days * _DAY) if days > 0 else None


class Purger:
    """Gives up what is old enough.

    Parameters
    ----------
    settings
        Returns the ages in force.
    clock
        UTC, seconds since the epoch.
    """

    def __init__(
        self,
        settings: Callable[[], Retention],
        *,
        ledger: Ledger,
        spool: Spool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._spool = spool
        self._clock = clock

    def batches(self) -> Iterator[int]:
        """Yield how many rows each batch purged; one look through the ledger.

        The ages are asked for before each, so that a change of mind counts at once.
        """
        newest = max((row["id"] for row in self._ledger.rows(limit=1)), default=0)
        for state, part in KINDS:
            for start in range(1, newest + 1, BATCH):
                rule = rule_of(self._settings(), state, part, self._clock())
                if rule is None:
                    break
                yield self._batch(rule, range(start, start + BATCH))

    def _batch(self, rule: Rule, numbers: range) -> int:
        rows = self._ledger.purgeable(rule, numbers)
        found = self._ledger.purge(rule, rows, self._clock()) if rows else []
        if found:
            reach("after_purge")
            log.info("purged", part=rule.part, state=rule.state, rows=len(found))
        return len(found)

    def reclaim(self, idle: set[str]) -> int:
        """Return how many segments were removed, of some that are idle for a while.

        Parameters
        ----------
        idle
            What :meth:`Spool.idle` said at least `GRACE` seconds ago: whatever was written there
            has its row by now.
        """
        free = idle - self._ledger.segments()
        self._spool.remove(free)
        if free:
            log.info("reclaimed", segments=len(free))
        return len(free)

    def run(self, stopping: Callable[[], bool], wait: Callable[[float], object]) -> None:
        """Look through the ledger again and again, until told to stop.

        Parameters
        ----------
        wait
            Returns after some seconds, or earlier where it is to stop.
        """
        while not stopping():
            try:
                self._round(stopping, wait)
            except (SQLAlchemyError, OSError) as error:  # the next round goes on
                log.error("retention_failed", error=type(error).__name__)  # noqa: TRY400 - no data
            wait(ROUND)

    def _round(self, stopping: Callable[[], bool], wait: Callable[[float], object]) -> None:
        if not any(self._settings().model_dump().values()):
            return
        for purged in self.batches():
            wait(PAUSE if purged else BREATH)
            if stopping():
                return
        idle = self._spool.idle()
        wait(GRACE)
        if not stopping():
            self.reclaim(idle)


def run(settings: Settings, stopping: Callable[[], bool], wait: Callable[[float], object]) -> None:
    """Keep retention going for one data folder."""
    ledger = Ledger(settings.database_url)
    live = Live(settings, ledger)
    spool = Spool(settings.storage.folder / "spool")
    Purger(lambda: live.now().retention, ledger=ledger, spool=spool).run(stopping, wait)
