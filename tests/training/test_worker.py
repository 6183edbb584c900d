"""Who works on runs: each in a process that may be killed, at any moment, and goes on."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attempts
import numpy as np
import psutil
import pytest
from node import Node
from small_runs import plan, two_hearts
from support import ROOT

from dicom_node.companions import chosen
from dicom_node.ledger import Ledger
from dicom_node.settings import Settings, Storage, Training
from training.evaluate import Evaluation
from training.runs import ATTEMPTS, Run, RunState
from training.steps import Step
from training.worker import Work, Worker


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    made.create()
    yield made
    made.close()


def settings(tmp_path: Path, **training: Any) -> Settings:
    return Settings(storage=Storage(folder=tmp_path), training=Training(**training))


class Asked:
    """What a run's row needs of a plan."""

    name = "bundle branches"
    digest = "d" * 64

    def to_json(self) -> str:
        return "{}"


def worker(tmp_path: Path, ledger: Ledger, work: Work, **options: Any) -> Worker:
    limits = options.pop("limits", {})
    return Worker(settings(tmp_path, **limits), ledger, work=work, **options)


def enqueue(made: Worker) -> int:
    return made.runs.enqueue(Asked(), "ada", time.time())  # type: ignore[arg-type]


def ended(made: Worker) -> Run:
    """Work until nothing waits; return the newest run."""
    made.serve(once=True)
    return made.runs.list()[0]


def test_a_run_is_worked_on_at_the_lowest_priority_and_followed(
    tmp_path: Path, ledger: Ledger
) -> None:
    heard: list[Step] = []
    made = worker(tmp_path, ledger, attempts.succeed, told=lambda _, step: heard.append(step))
    number = enqueue(made)
    run = ended(made)
    assert (run.state, run.message) == (RunState.DONE, "Learned at niceness 19.")
    assert run.model == "m" * 64
    assert [step.said for step in heard] == [attempts.SAID]
    assert "printed" in (tmp_path / "runs" / str(number) / "run.log").read_text()


def test_a_plan_that_cannot_be_learned_fails_with_its_sentence(
    tmp_path: Path, ledger: Ledger
) -> None:
    made = worker(tmp_path, ledger, attempts.refuse)
    enqueue(made)
    run = ended(made)
    assert (run.state, run.message) == (RunState.FAILED, "One class alone teaches nothing.")


def test_too_much_memory_is_a_visible_failure(tmp_path: Path, ledger: Ledger) -> None:
    made = worker(tmp_path, ledger, attempts.gobble, limits={"memory": 300 * 2**20})
    enqueue(made)
    run = ended(made)
    assert run.state is RunState.FAILED
    assert "training.memory allows 300 MB" in run.message


def test_too_much_time_is_a_visible_failure(tmp_path: Path, ledger: Ledger) -> None:
    made = worker(tmp_path, ledger, attempts.hang, limits={"wall_time": 0.5})
    enqueue(made)
    run = ended(made)
    assert run.state is RunState.FAILED
    assert "longer than training.wall_time allows (0.5 s)" in run.message


def test_a_process_that_always_dies_is_given_up_with_its_signal(
    tmp_path: Path, ledger: Ledger
) -> None:
    made = worker(tmp_path, ledger, attempts.die)
    enqueue(made)
    run = ended(made)
    assert run.state is RunState.FAILED
    assert f"It ended {ATTEMPTS} times before it got any further" in run.message
    assert "signal 9" in run.message


def test_a_run_that_is_killed_three_times_goes_on_to_its_end(
    tmp_path: Path, ledger: Ledger
) -> None:
    made = worker(tmp_path, ledger, attempts.die_further_each_time)
    enqueue(made)
    run = ended(made)
    assert (run.state, run.message) == (RunState.DONE, "After 3 kills.")


def test_a_run_that_is_stopped_ends_at_once_and_can_be_resumed(
    tmp_path: Path, ledger: Ledger
) -> None:
    def told(run: Run, _: Step) -> None:
        made.runs.stop(run.id, "ada", time.time())

    made = worker(tmp_path, ledger, attempts.hang, told=told)
    number = enqueue(made)
    run = ended(made)
    assert run.state is RunState.STOPPED
    assert f"sinusnode train resume {number}" in run.message
    again = worker(tmp_path, ledger, attempts.succeed)
    again.runs.resume(number, "ada", time.time())
    assert ended(again).state is RunState.DONE


def test_a_worker_that_is_told_to_end_gives_its_run_back(tmp_path: Path, ledger: Ledger) -> None:
    ending = [False]

    def told(run: Run, _: Step) -> None:
        ending[0] = True

    first = worker(tmp_path, ledger, attempts.hang, told=told, stopping=lambda: ending[0])
    enqueue(first)
    run = ended(first)
    assert (run.state, run.attempts) == (RunState.RUNNING, 0)
    assert ended(worker(tmp_path, ledger, attempts.succeed)).state is RunState.DONE


_DOOMED = """
import sys, attempts
from pathlib import Path
from dicom_node.ledger import Ledger
from dicom_node.settings import Settings, Storage, Training
from training.worker import Worker
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    settings = Settings(storage=Storage(folder=folder), training=Training(lease=1.0))
    Worker(settings, ledger, work=attempts.hang).serve()
"""


def test_when_a_worker_is_killed_its_attempt_ends_and_another_goes_on(
    tmp_path: Path, ledger: Ledger
) -> None:
    made = worker(tmp_path, ledger, attempts.succeed)
    number = enqueue(made)
    script = tmp_path / "doomed.py"
    script.write_text(_DOOMED)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    doomed = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], env=os.environ | {"PYTHONPATH": paths}
    )
    try:
        pid = tmp_path / "runs" / str(number) / "pid"
        _until(lambda: pid.is_file() and pid.read_text() != "")
        attempt = int(pid.read_text())
    finally:
        doomed.kill()
        doomed.wait()
    _until(lambda: not _lives(attempt))
    _until(lambda: ended(made).state is RunState.DONE)


def _until(true: Any) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def _lives(process: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    return False


def test_what_runs_everything_asks_the_settings_which_services() -> None:
    asked = Settings(training=Training(worker=True)), Settings(training=Training(worker=False))
    found = ["train-worker" in {item.name for item in chosen(each)} for each in asked]
    assert found == [True, False]


@pytest.mark.slow
def test_what_runs_everything_keeps_a_worker_that_ends_with_it(tmp_path: Path) -> None:
    node = Node(tmp_path / "node", overrides={"ADMIN__COMPANION": "false"})
    words = [sys.executable, "-m", "dicom_node", "run", "-c", str(node.config)]
    with (tmp_path / "log").open("wb") as printed:
        running = subprocess.Popen(words, env=node.environment, stdout=printed, stderr=printed)
    try:
        _until(node.ready)
        _until(lambda: _workers(running.pid))
        (first,) = _workers(running.pid)
        first.kill()
        _until(lambda: first not in _workers(running.pid) and _workers(running.pid))
        (second,) = _workers(running.pid)
    finally:
        running.kill()
        running.wait()
    _until(lambda: not _lives(second.pid))


def _workers(node: int) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(node).children():
        with contextlib.suppress(psutil.Error):
            if "train" in child.cmdline():
                found.append(child)
    return found


# With a real net, really killed


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_that_is_killed_at_ten_random_moments_comes_to_the_same_figures(
    tmp_path: Path, ledger: Ledger
) -> None:
    corpus = two_hearts(tmp_path / "hearts")
    wanted = plan(corpus, epochs=12)
    random = np.random.default_rng(0)
    news = [0]

    def told(run: Run, _: Step) -> None:
        news[0] -= 1
        if run.id == killed and news[0] == 0:
            threading.Timer(random.uniform(0, 0.3), _kill_attempt).start()

    made = Worker(settings(tmp_path, nice=0), ledger, told=told)
    whole, killed = (made.runs.enqueue(wanted, "ada", time.time()) for _ in range(2))
    assert made.work(whole).state is RunState.DONE  # type: ignore[union-attr]
    for _ in range(10):  # each attempt says three things before it gets further
        news[0] = int(random.integers(3, 7))
        _go_on(made, killed, made.work)
    _go_on(made, killed, lambda _: made.serve(once=True))
    assert made.runs.get(killed).state is RunState.DONE, made.runs.get(killed).message
    first, second = (
        Evaluation.from_json((tmp_path / "runs" / str(number) / "evaluation.json").read_text())
        for number in (whole, killed)
    )
    for one, other in zip(first.keys, second.keys, strict=True):
        for measure, figure in one.figures.items():
            assert figure.value == pytest.approx(other.figures[measure].value, abs=1e-3)


def _go_on(worker: Worker, number: int, work: Callable[[int], object]) -> None:
    """Work on a run, also where it died five times without getting any further."""
    work(number)
    if worker.runs.get(number).state is RunState.FAILED:
        worker.runs.resume(number, "ada", time.time())
        work(number)


def _kill_attempt() -> None:
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()
