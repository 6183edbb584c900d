"""One attempt at one object: whatever happens, its row tells, and no patient data is logged."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from test_ledger import leased, receive, received

from dicom_node import node, work
from dicom_node.commitment import Promiser
from dicom_node.deliver import Sender
from dicom_node.ledger import Lease, LeaseLost, Ledger, State
from dicom_node.node import Supervisor
from dicom_node.pipeline import Quarantined
from dicom_node.reasons import Quarantine, sentence
from dicom_node.settings import Destination, Settings, Storage, Work

LIMITS = Work(attempts=3, retry_after=(1.0, 30.0))


@dataclass
class Bench:
    """A pipeline that does as it is told, on a real ledger."""

    ledger: Ledger
    process: Callable[[Lease], None] = lambda _lease: None
    now: float = 1.0

    def clock(self) -> float:
        return self.now

    def attempt(self) -> Lease:
        lease = leased(self.ledger, now=self.now)
        pipeline: Any = self
        work.attempt(pipeline, lease, LIMITS)
        return lease

    @property
    def row(self) -> dict[str, Any]:
        return self.ledger.rows()[0]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings of a folder of the test's own."""
    (tmp_path / "data").mkdir()
    return Settings(
        storage=Storage(folder=tmp_path / "data"),
        destinations=tuple(
            Destination(ae_title=name, host="127.0.0.1", port=104) for name in ("ONE", "TWO")
        ),
    )


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    """Return a bench with one object waiting."""
    ledger = Ledger(settings.database_url)
    ledger.create()
    receive(ledger, received("1.1"))
    yield Bench(ledger)
    ledger.close()


def raising(error: BaseException) -> Callable[[Lease], None]:
    def process(_lease: Lease) -> None:
        raise error

    return process


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), MemoryError(), OSError(28, "full"), RecursionError()]
)
def test_failing_attempt_is_made_three_times_and_then_quarantined(
    bench: Bench, error: Exception
) -> None:
    bench.process = raising(error)
    bench.attempt()
    assert (bench.row["state"], bench.row["next_at"]) == (State.RECEIVED, 2.0)
    bench.now = 2.0
    bench.attempt()
    assert bench.row["next_at"] == 32.0
    bench.now = 32.0
    bench.attempt()
    row = bench.row
    assert (row["state"], row["reason"]) == (State.QUARANTINED, Quarantine.FAILED)
    assert row["message"] == sentence(Quarantine.FAILED)
    assert row["attempts"] == 3
    assert bench.ledger.lease("worker-1", 1e9, 1e9) is None


def test_object_that_can_never_be_reported_is_set_aside_at_once(bench: Bench) -> None:
    bench.process = raising(Quarantined("not-dicom", "A sentence."))
    bench.attempt()
    row = bench.row
    assert (row["state"], row["reason"], row["message"]) == (
        State.QUARANTINED,
        "not-dicom",
        "A sentence.",
    )


@pytest.mark.parametrize(
    "error", [LeaseLost("gone"), Quarantined("not-dicom", "A sentence."), ZeroDivisionError()]
)
def test_worker_whose_lease_was_taken_away_changes_nothing_and_lives(
    bench: Bench, error: Exception
) -> None:
    def process(_lease: Lease) -> None:
        leased(bench.ledger, "another", now=100.0)
        raise error

    bench.process = process
    bench.attempt()
    assert bench.row["state"] == State.RECEIVED
    assert bench.row["lease_owner"] == "another"


def test_log_of_a_failed_attempt_says_where_and_never_what(bench: Bench) -> None:
    bench.process = raising(ValueError("Patient CANARY^NAME"))
    with structlog.testing.capture_logs() as logs:
        bench.attempt()
    assert logs[0]["event"] == "attempt_failed"
    assert "ValueError in" in logs[0]["error"]
    assert "CANARY" not in str(logs)


# The supervisor's part


def test_what_a_dead_worker_held_counts_as_crashed(bench: Bench, settings: Settings) -> None:
    supervisor = Supervisor(settings)
    for _ in range(3):
        leased(bench.ledger, "worker-1", now=1e12)
        supervisor._settle("worker-1")
    assert bench.row["reason"] == Quarantine.CRASHED


@pytest.mark.parametrize("error", [LeaseLost("gone"), sa.exc.OperationalError("", {}, Exception())])
def test_supervisor_survives_what_it_cannot_settle(
    bench: Bench, settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    held = leased(bench.ledger, "worker-1")
    monkeypatch.setattr(work, "settle", lambda *_: raising(error)(held))
    Supervisor(settings)._settle("worker-1")
    assert bench.row["lease_owner"] == "worker-1"


def test_sender_process_ends_when_one_of_its_threads_did_so_that_it_is_started_anew(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def run(self: Sender, *_: object, **_held: object) -> None:
        if self._destination.name == "TWO":
            released.wait(30)

    monkeypatch.setattr(Sender, "run", run)
    monkeypatch.setattr(Promiser, "run", lambda *_: released.wait(30))
    started: list[threading.Thread] = []
    make = node._thread
    monkeypatch.setattr(node, "_thread", lambda *args: started.append(make(*args)) or started[-1])
    Supervisor(settings)._send(1)
    assert any(thread.is_alive() for thread in started)
    assert all(thread.daemon for thread in started)
    released.set()
