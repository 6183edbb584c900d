"""Rows of training runs: one at a time, none lost, none worked on by two."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dicom_node.ledger import LeaseLost, Ledger
from training.runs import ATTEMPTS, Runs, RunState


@dataclass(frozen=True)
class StandIn:
    """What rows need of a plan."""

    name: str = "bundle branches"
    digest: str = "d" * 64

    def to_json(self) -> str:
        return '{"name": "bundle branches"}'


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.create()
    yield Runs(ledger)
    ledger.close()


def enqueue(runs: Runs, now: float = 0.0) -> int:
    return runs.enqueue(StandIn(), "ada", now)  # type: ignore[arg-type]


def test_a_run_goes_from_the_queue_through_a_lease_to_its_end(runs: Runs) -> None:
    number = enqueue(runs)
    assert runs.get(number).state is RunState.QUEUED
    lease = runs.lease("w", 10.0, 20.0)
    assert lease is not None
    runs.heartbeat(lease, 30.0, "Epoch 1 of 3.", 1)
    assert (runs.get(number).message, runs.get(number).attempts) == ("Epoch 1 of 3.", 0)
    run = runs.finish(lease, RunState.DONE, "Better.", 40.0, model="m" * 64)
    assert (run.state, run.message, run.model) == (RunState.DONE, "Better.", "m" * 64)
    assert (run.queued_at, run.started_at, run.ended_at) == (0.0, 10.0, 40.0)
    assert runs.lease("w", 50.0, 60.0) is None


def test_runs_are_leased_in_the_order_in_which_they_were_asked_for(runs: Runs) -> None:
    first, second = enqueue(runs, 1.0), enqueue(runs, 2.0)
    lease = runs.lease("w", 3.0, 9.0)
    assert lease is not None
    assert lease.run.id == first
    runs.finish(lease, RunState.DONE, "Done.", 4.0)
    again = runs.lease("w", 5.0, 9.0)
    assert again is not None
    assert again.run.id == second
    assert [run.id for run in runs.list()] == [second, first]
    assert [run.id for run in runs.list([RunState.DONE])] == [first]


def test_never_two_runs_at_once(runs: Runs) -> None:
    enqueue(runs)
    second = enqueue(runs)
    assert runs.lease("one", 0.0, 10.0)
    assert runs.lease("two", 5.0, 15.0) is None
    assert runs.lease("two", 5.0, 15.0, only=second) is None


def test_a_run_whose_worker_died_is_leased_again_and_the_dead_one_changes_nothing(
    runs: Runs,
) -> None:
    number = enqueue(runs)
    dead = runs.lease("dead", 0.0, 10.0)
    enqueue(runs)
    alive = runs.lease("alive", 11.0, 20.0)
    assert dead is not None
    assert alive is not None
    assert alive.run.id == number
    for act in (
        lambda: runs.heartbeat(dead, 30.0),
        lambda: runs.release(dead, 12.0, ".", fault=True),
        lambda: runs.finish(dead, RunState.DONE, ".", 12.0),
    ):
        with pytest.raises(LeaseLost):
            act()
    assert runs.get(number).state is RunState.RUNNING


def test_a_run_that_never_gets_further_fails_with_a_sentence(runs: Runs) -> None:
    number = enqueue(runs)
    for attempt in range(ATTEMPTS + 1):
        lease = runs.lease("w", 10.0 * attempt, 10.0 * attempt + 5)
        assert lease is not None
        runs.heartbeat(lease, 10.0 * attempt + 6, "Checks.", 1)
        runs.release(lease, 10.0 * attempt + 7, "Its process died.", fault=True)
    assert runs.lease("w", 1000.0, 1005.0) is None
    run = runs.get(number)
    assert run.state is RunState.FAILED
    assert "before it got any further" in run.message
    assert "Its process died" in run.message


def test_a_run_that_gets_further_may_be_killed_any_number_of_times(runs: Runs) -> None:
    enqueue(runs)
    for attempt in range(3 * ATTEMPTS):
        lease = runs.lease("w", 10.0 * attempt, 10.0 * attempt + 5)
        assert lease is not None
        runs.heartbeat(lease, 10.0 * attempt + 6, f"Epoch {attempt}.", 1 + attempt)


def test_what_waits_is_stopped_at_once_and_what_runs_when_its_worker_hears(runs: Runs) -> None:
    waiting = enqueue(runs)
    assert runs.stop(waiting, "ada", 1.0).state is RunState.STOPPED
    running = enqueue(runs)
    lease = runs.lease("w", 2.0, 10.0)
    assert lease is not None
    assert runs.stop(running, "ada", 3.0).state is RunState.RUNNING
    runs.heartbeat(lease, 12.0, "Epoch 2.")
    assert runs.get(running).stopping
    assert "Stopping for ada" in runs.get(running).message
    runs.finish(lease, RunState.STOPPED, "Stopped by ada.", 4.0)
    with pytest.raises(ValueError, match="ended already"):
        runs.stop(running, "ada", 5.0)


def test_a_run_that_is_to_stop_and_whose_worker_died_is_not_begun_again(runs: Runs) -> None:
    number = enqueue(runs)
    runs.lease("dead", 0.0, 10.0)
    runs.stop(number, "ada", 5.0)
    assert runs.lease("alive", 11.0, 20.0) is None
    assert runs.get(number).state is RunState.STOPPED
    assert runs.resume(number, "ada", 12.0).state is RunState.QUEUED
    assert runs.lease("alive", 13.0, 20.0)
    runs.stop(number, "ada", 25.0)
    assert runs.get(number).state is RunState.STOPPED


def test_only_what_failed_or_was_stopped_is_resumed(runs: Runs) -> None:
    number = enqueue(runs)
    with pytest.raises(ValueError, match="only what failed or was stopped"):
        runs.resume(number, "ada", 1.0)
    lease = runs.lease("w", 1.0, 2.0)
    assert lease is not None
    runs.finish(lease, RunState.FAILED, "One class alone.", 2.0)
    assert runs.resume(number, "ada", 3.0).attempts == 0
    assert runs.lease("w", 4.0, 5.0)


def test_a_run_that_is_given_back_is_gone_on_with_at_once(runs: Runs) -> None:
    enqueue(runs)
    lease = runs.lease("w", 0.0, 100.0)
    assert lease is not None
    runs.release(lease, 1.0, "Its worker was stopped.", fault=False)
    again = runs.lease("w", 2.0, 100.0)
    assert again is not None
    assert again.run.attempts == 1


def test_a_run_that_does_not_exist_is_named(runs: Runs) -> None:
    for act in (runs.get, lambda number: runs.stop(number, "ada", 0.0)):
        with pytest.raises(LookupError, match="no run 7"):
            act(7)
