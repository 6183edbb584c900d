"""Who works on runs: one at a time, each in a process of its own that may be killed at any moment.

The process that holds the lease learns nothing itself. It starts another for the attempt, hears
how far it is, keeps the lease, and ends the attempt where it takes too much memory or time, or
where somebody asks for it. The attempt ends too when its starter does. What is killed is gone on
with from its folder.
"""

import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import structlog

from dicom_node.ledger import LeaseLost, Ledger
from dicom_node.settings import Settings
from training.runs import Run, RunLease, Runs, RunState
from training.steps import LOG, Ended, Step

log = structlog.get_logger()

LOCK: Final = "lock"

_POLL: Final = 1.0  # seconds between two looks at an attempt, or at the queue
_BEATS: Final = 4  # heartbeats in the time of a lease
_LOCK_WAIT: Final = 60.0  # seconds for a killed worker's attempt to let go
_MEGABYTE: Final = 2**20


Told = Callable[[Run, Step], None]
Report = Callable[[Step], None]
Work = Callable[[Settings, Run, Path, Report], Ended]
"""From a run and its folder to how it ended; done in a process of its own."""


def learn(settings: Settings, run: Run, folder: Path, report: Report) -> Ended:
    """Return how an attempt ended; see :func:`training.attempt.attempt`."""
    from training.attempt import attempt  # noqa: PLC0415 - whoever only follows it stays small

    return attempt(settings, run, folder, report)


def _untold(run: Run, step: Step) -> None:
    """Tell nobody."""


def _never() -> bool:
    return False


class Worker:
    """Works on the runs of one installation.

    Parameters
    ----------
    settings
        Of the installation.
    ledger
        Its ledger.
    told
        Hears each step of a run.
    stopping
        Says that this worker is to end; a run in hand is given back, to be gone on with.
    work
        What an attempt does.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        *,
        told: Told = _untold,
        stopping: Callable[[], bool] = _never,
        work: Work = learn,
    ) -> None:
        self.runs = Runs(ledger)
        self._settings = settings
        self._told = told
        self._stopping = stopping
        self._work = work
        self._name = f"{os.uname().nodename}:{os.getpid()}"[:64]

    def serve(self, *, once: bool = False) -> None:
        """Work on whatever waits, until told to stop; `once`, until nothing waits."""
        while not self._stopping():
            if self.work() is None:
                if once:
                    return
                time.sleep(_POLL)

    def work(self, only: int | None = None) -> Run | None:
        """Return the run that was worked on, as it stands afterwards; None where none may be.

        Parameters
        ----------
        only
            This run and no other.
        """
        now = time.time()
        lease = self.runs.lease(self._name, now, now + self._settings.training.lease, only=only)
        if lease is None:
            return None
        log.info("run_begins", run=lease.run.id, attempt=lease.run.attempts)
        try:
            self._attempt(lease)
        except LeaseLost:
            log.warning("run_taken_away", run=lease.run.id)
        run = self.runs.get(lease.run.id)
        log.info("run_ends", run=run.id, state=str(run.state), message=run.message)
        return run

    # One attempt

    def _attempt(self, lease: RunLease) -> None:
        attempt = Attempt(self._settings, lease.run, self._work)
        try:
            ended = self._follow(lease, attempt)
        finally:
            attempt.end()
        if ended is not None:
            now = time.time()
            self.runs.finish(lease, ended.state, ended.message, now, model=ended.model)
        elif self._stopping():
            self.runs.release(lease, time.time(), "Its worker was stopped.", fault=False)
        else:
            self.runs.release(lease, time.time(), attempt.last_words, fault=True)

    def _follow(self, lease: RunLease, attempt: "Attempt") -> Ended | None:
        """Return how an attempt ended; None if it is to be gone on with."""
        limits = self._settings.training
        end = time.monotonic() + limits.wall_time
        next_beat = 0.0
        while not self._stopping():
            for item in attempt.news(_POLL):
                if isinstance(item, Ended):
                    return item
                self._told(lease.run, item)
                self._beat(lease, item)
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + limits.lease / _BEATS
                self._beat(lease)
            if self.runs.get(lease.run.id).stopping:
                return Ended(RunState.STOPPED, f"{_STOPPED} {lease.run.id}` goes on.")
            if (taken := attempt.memory) > limits.memory:
                return Ended(RunState.FAILED, _too_much(taken, limits.memory))
            if time.monotonic() > end:
                return Ended(RunState.FAILED, f"{_TOO_LONG} ({limits.wall_time:g} s).")
            if attempt.is_over:
                return None
        return None

    def _beat(self, lease: RunLease, step: Step | None = None) -> None:
        until = time.time() + self._settings.training.lease
        news = (step.said, step.progress) if step else ()
        self.runs.heartbeat(lease, until, *news)


_STOPPED: Final = "Stopped; `sinusnode train resume"
_TOO_LONG: Final = "It took longer than training.wall_time allows"


def _too_much(taken: int, allowed: int) -> str:
    return (
        f"It took {taken // _MEGABYTE} MB of memory, and training.memory allows"
        f" {allowed // _MEGABYTE} MB: choose a smaller net or batch_size."
    )


class Attempt:
    """A process that works on one run.

    Parameters
    ----------
    settings, run, work
        What it works on, and how; it writes into the run's folder and to the registry alone.
    """

    def __init__(self, settings: Settings, run: Run, work: Work) -> None:
        context = get_context("spawn")
        self._hearing, speaking = context.Pipe()
        self._process = context.Process(target=_main, args=(speaking, settings, run, work))
        self._process.start()
        self._code: int | None = None
        self.is_over = False
        """Whether its process is gone, and all that it said was heard."""
        speaking.close()

    def news(self, seconds: float) -> list[Any]:
        """Return what it said, after waiting for it at most so long."""
        heard: list[Any] = []
        try:
            while self._hearing.poll(0.0 if heard else seconds):
                heard.append(self._hearing.recv())
        except (EOFError, OSError):
            self.is_over = True
        return heard

    @property
    def memory(self) -> int:
        """Bytes that its process holds in memory; 0 where that cannot be told."""
        try:
            pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    @property
    def last_words(self) -> str:
        """How its process died, in a sentence."""
        if self._code is not None and self._code < 0:
            return f"Its process died of signal {-self._code}: often there is too little memory."
        return f"Its process died (exit status {self._code}); {LOG} says more."

    def end(self) -> None:
        """End it, if it has not ended."""
        self._process.kill()
        self._process.join()
        self._code = self._process.exitcode
        self._hearing.close()
        self._process.close()


# In the process of the attempt


def _main(speaking: Connection, settings: Settings, run: Run, work: Work) -> None:
    folder = settings.runs_folder / str(run.id)
    folder.mkdir(parents=True, exist_ok=True)
    _speak_to(folder / LOG)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the starter decides
    threading.Thread(target=_end_with, args=(speaking,), daemon=True).start()
    os.nice(max(0, settings.training.nice - os.nice(0)))
    with (settings.runs_folder / LOCK).open("w") as lock:
        if not _alone(lock.fileno()):
            speaking.send(Ended(RunState.FAILED, "Another run is under way in the same folder."))
            return
        speaking.send(work(settings, run, folder, speaking.send))


def _speak_to(path: Path) -> None:
    """Let everything that is printed go to a file."""
    with path.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())


def _end_with(speaking: Connection) -> None:
    """End this process at once when its starter is gone."""
    with suppress(EOFError, OSError):
        speaking.recv()
    os._exit(1)


def _alone(descriptor: int) -> bool:
    """Return whether no other attempt is under way; one that is being killed is waited for."""
    end = time.monotonic() + _LOCK_WAIT
    while time.monotonic() < end:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_POLL)
    return False
