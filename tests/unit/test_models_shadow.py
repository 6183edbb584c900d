"""One ECG read by a shadow, however that ends; and what the comparison of many says."""

import faulthandler
import json
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import tiny_model
from cart import cart_ecg, encoded
from test_ledger import end, leased, produced, received
from test_models_registry import added, store  # noqa: F401 - a fixture

from analysis.analyse import analyse
from analysis.errors import ModelReason, ModelRejected
from analysis.formats import dicom
from analysis.model import Model, load_model
from dicom_node import shadow
from dicom_node.ledger import DeliveryState, Ledger
from dicom_node.models import ModelStore
from dicom_node.plan import Plan
from dicom_node.settings import Settings
from dicom_node.shadow import (
    CRASHES,
    Ending,
    Helper,
    Reader,
    Reply,
    Shadowed,
    ShadowReport,
    Task,
    answer,
)
from dicom_node.spool import BlobRef, Spool

ECG = encoded(cart_ecg("shadowed"))
CURRENT = load_model(tiny_model.packed())
RESULT = analyse(dicom.read(ECG), [CURRENT]).to_json()
NO_MODEL = analyse(dicom.read(ECG), []).to_json()
PLAN = Plan.of(Settings(), models=("a",)).text


class Bench:
    """A registry with a shadow, ECGs that were delivered, and the reader of them."""

    def __init__(self, store: ModelStore, folder: Path) -> None:  # noqa: F811 - the fixture
        self.store = store
        self.ledger: Ledger = store.ledger
        self.spool = Spool(folder / "spool")
        self.spool.prepare(())
        self.digest = added(store, "2", {})
        self.rows = Shadowed(self.ledger)
        store.shadow(self.digest, 5.0, "anna")

    def reader(self, model: Callable[[], Model] | None = None) -> Reader:
        """Return a reader whose model answers in this process."""

        def ask(task: Task, digest: str) -> Reply:
            return answer(task, model or (lambda: self.store.load(digest)), self.spool)

        return Reader(store=self.store, rows=self.rows, ask=ask, clock=lambda: 6.0)

    def ended(self) -> Reader:
        """Return a reader whose model ends its process at every ECG."""
        return Reader(
            store=self.store, rows=self.rows, ask=lambda *_: Ending.CRASHED, clock=lambda: 6.0
        )

    def delivered(self, result: str = RESULT, at: float = 5.0) -> None:
        """Bring another ECG to DELIVERED."""
        source = cart_ecg(f"shadowed-{len(self.ledger.rows())}")
        uid = str(source.SOPInstanceUID)
        item = replace(received(uid, at=at), blob=self.spool.write(encoded(source)))
        self.ledger.receive([item], PLAN, "digest")
        lease = leased(self.ledger, now=at + 1.0)
        self.ledger.analysed(lease, result, at)
        self.ledger.reported(lease, produced(uid), ("PACS",), at)
        end(self.ledger, "PACS", DeliveryState.DELIVERED)

    def report(self) -> ShadowReport:
        return ShadowReport.of(self.ledger, self.digest)


@pytest.fixture
def bench(store: ModelStore, tmp_path: Path) -> Iterator[Bench]:  # noqa: F811 - the fixture
    return Bench(store, tmp_path)


def test_each_delivered_ecg_is_read_once(bench: Bench) -> None:
    bench.delivered()
    reader = bench.reader()
    assert (reader.step(), reader.step()) == (True, False)
    report = bench.report()
    assert (report.ecgs, report.unread) == (1, {})
    assert report.against == {CURRENT.identity.digest: 1}
    assert {item.agreement for item in report.findings} <= {1.0, None}


def test_what_came_before_the_shadow_or_is_not_delivered_is_left_alone(bench: Bench) -> None:
    bench.delivered(at=4.0)
    assert not bench.reader().step()
    bench.store.end_shadow(7.0, "anna")
    bench.delivered(at=8.0)
    assert not bench.reader().step()


def failing(error: Exception) -> Callable[[], Model]:
    def model() -> Model:
        raise error

    return model


def test_ecg_that_no_model_was_to_read_is_read_by_no_shadow(bench: Bench) -> None:
    bench.delivered(NO_MODEL)
    assert bench.reader(failing(AssertionError())).step()
    assert bench.report().unread == {Ending.NOT_CLASSIFIED: 1}


def test_ecg_whose_bytes_are_gone_is_counted_and_the_next_one_read(bench: Bench) -> None:
    bench.delivered()
    for path in bench.spool._folder.iterdir():
        path.unlink()
    assert bench.reader().step()
    assert bench.report().unread == {Ending.BYTES_GONE: 1}
    assert bench.store.shadowing() is not None


def test_failure_at_one_ecg_is_no_reason_to_give_up(bench: Bench) -> None:
    bench.delivered()
    assert bench.reader(failing(ZeroDivisionError("CANARY"))).step()
    assert bench.report().unread == {Ending.FAILED: 1}
    assert bench.store.shadowing() is not None


def test_damaged_package_shadows_no_more_and_says_why(bench: Bench) -> None:
    bench.delivered()
    damaged = ModelRejected(ModelReason.SELF_TEST_FAILED, "It gives other answers.")
    assert bench.reader(failing(damaged)).step()
    assert bench.store.shadowing() is None
    assert bench.store.get(bench.digest).refused == "It gives other answers."
    assert not bench.reader().step()


def test_model_that_ends_its_process_again_and_again_is_given_up(bench: Bench) -> None:
    for _ in range(CRASHES + 1):
        bench.delivered()
    for number in range(CRASHES):
        assert bench.store.shadowing() is not None, number
        assert bench.ended().step()
    assert bench.store.shadowing() is None
    assert "3 times" in bench.store.get(bench.digest).refused
    assert bench.report().unread == {Ending.CRASHED: CRASHES}
    bench.store.shadow(bench.digest, 7.0, "anna")
    bench.delivered(at=8.0)
    assert bench.ended().step()  # tried again, with what comes from now on
    assert bench.store.shadowing() is not None


def test_end_of_the_node_leaves_the_ecg_to_be_read_later(bench: Bench) -> None:
    bench.delivered()
    stopped = Reader(store=bench.store, rows=bench.rows, ask=lambda *_: None, clock=lambda: 6.0)
    assert stopped.step()
    assert bench.report().unread == {}
    assert bench.reader().step()
    assert bench.report().ecgs == 1


# The process that runs the model

TASK = Task(id=1, sop_instance_uid="1.2", blob=BlobRef("a", "b", 0, 1, "c"), plan="", result="")


def echo(pipe: Connection) -> None:
    """Serve: die when asked to, compute without end, or answer with the number of the process."""
    while True:
        _, wish = pipe.recv()
        if wish == "die":
            faulthandler.disable()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.kill(os.getpid(), signal.SIGSEGV)
        with shadow._limited(0.05):
            while wish == "spin":
                pass
        pipe.send({"process": {"number": os.getpid()}})


@pytest.fixture
def begun() -> list[str]:
    return []


@pytest.fixture
def helper(begun: list[str]) -> Iterator[Helper]:
    with closing(Helper(echo, lambda: begun.append("begun"), lambda: False)) as made:
        yield made


@pytest.mark.parametrize("wish", ["die", "spin"])
def test_model_that_dies_or_computes_without_end_takes_its_own_process_alone(
    helper: Helper, begun: list[str], wish: str
) -> None:
    first = helper.ask(TASK, "")
    assert first == helper.ask(TASK, "")
    assert begun == ["begun"]
    assert helper.ask(TASK, wish) is Ending.CRASHED
    another = helper.ask(TASK, "")
    assert isinstance(another, dict)
    assert another != first
    assert len(begun) == 2


def test_nobody_waits_for_a_model_when_the_node_stops(begun: list[str]) -> None:
    def never(pipe: Connection) -> None:
        pipe.recv()
        signal.pause()

    with closing(Helper(never, lambda: None, lambda: True)) as helper:
        assert helper.ask(TASK, "") is None


def test_model_process_ends_with_the_one_that_asks() -> None:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=shadow._helping, args=(echo, ours, theirs)
    )
    process.start()
    theirs.close()
    ours.close()  # as the kernel does when a process dies
    process.join(60)
    assert process.exitcode == 0


# The report


def said(probability: float | None, threshold: float = 0.5) -> dict[str, Any]:
    present = None if probability is None else probability >= threshold
    return {"probability": probability, "threshold": threshold, "present": present}


def compared(bench: Bench, current: Any, other: Any) -> None:
    """Record what both models answered on one more ECG."""
    bench.delivered()
    task = bench.rows.next(bench.digest, 0.0)
    assert task is not None
    bench.rows.record(
        task, bench.digest, float(task.id), findings=json.dumps(other), current=json.dumps(current),
        against="c" * 64, seconds=0.5,
    )  # fmt: skip


def test_comparison_counts_by_hand_what_the_report_says(bench: Bench) -> None:
    for now, then in ((0.9, 0.8), (0.6, 0.4), (0.1, 0.2), (0.2, 0.7), (None, 0.9), (0.3, None)):
        compared(bench, {"lbbb": said(now)}, {"lbbb": said(then)})
    compared(bench, {"normal": said(0.9)}, {"pvc": said(0.9)})
    report = bench.report()
    (item,) = report.findings
    assert (item.key, item.both) == ("lbbb", 4)
    assert (item.agreement, item.current_rate, item.shadow_rate) == (0.5, 0.5, 0.5)
    assert item.difference["0.5"] == pytest.approx(0.0)
    assert item.difference["0.95"] == pytest.approx(0.44)
    assert (item.current_abstained, item.shadow_abstained) == (1, 1)
    assert (report.current_only, report.shadow_only) == (("normal",), ("pvc",))
    assert (report.ecgs, report.disagreed) == (7, 2)
    assert [(line.row, line.key, line.current, line.shadow) for line in report.disagreements] == [
        (4, "lbbb", 0.2, 0.7),
        (2, "lbbb", 0.6, 0.4),
    ]
    assert (report.first_at, report.last_at, report.median_seconds) == (1.0, 7.0, 0.5)


def test_report_is_told_in_words_and_as_json(bench: Bench) -> None:
    assert "beside nothing yet: 0 ECGs." in bench.report().text
    compared(bench, {"lbbb": said(None)}, {"lbbb": said(0.9)})
    compared(bench, {"lbbb": said(0.1)}, {"lbbb": said(0.9)})
    text = bench.report().text
    for part in ("cccccccccccc (2)", "lbbb", "100.0%", "+0.800", "Disagreements: 1.", "row 2"):
        assert part in text
    document = json.loads(json.dumps(bench.report().to_mapping(), allow_nan=False))
    assert document["findings"][0]["shadow_rate"] == 1.0


def test_comparison_lists_no_more_disagreements_than_can_be_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "SHOWN", 1)
    for _ in range(3):
        compared(bench, {"lbbb": said(0.1)}, {"lbbb": said(0.9)})
    report = bench.report()
    assert (report.disagreed, len(report.disagreements)) == (3, 1)
    assert report.disagreements[0].row == 3
