"""Promotion while ECGs flow: each is reported by the model that its row names, and none is lost."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import pytest
import tiny_model
from cart import cart_ecg, push
from node import Node, poll
from pydicom.dataset import Dataset

from analysis.ecg import Lead, Patient
from analysis.formats import dicom
from analysis.model import ANY_LEAD, SHIPPED, load_model
from analysis.synthetic import Kind, simulate
from dicom_node.models import ModelStore
from dicom_node.pacs import Pacs
from dicom_node.report.uids import derive, device_uid

PASSED = {"verdict": {"passed": True, "reasons": []}}


@contextmanager
def registry(node: Node) -> Iterator[ModelStore]:
    """Yield the registry of a running node, as another process opens it."""
    with node.ledger() as ledger:
        yield ModelStore(node.folder / "data" / "models", ledger)


@contextmanager
def flowing(node: Node) -> Iterator[None]:
    """Have a cart push one ECG after another meanwhile."""
    ended = threading.Event()

    def cart() -> None:
        number = 0
        while not ended.is_set():
            assert push(node.address, cart_ecg(f"flow-{number}")) == [0]
            number += 1

    thread = threading.Thread(target=cart)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def speaks(store: ModelStore, digest: str) -> bool:
    return poll(lambda: store.speaking()[:1] == (digest,))


def model_of(node: Node, source: Dataset) -> str:
    """Return the digest of the model that an ECG's plan names."""
    row = next(row for row in node.rows() if row["sop_instance_uid"] == source.SOPInstanceUID)
    return str(json.loads(row["plan"])["models"][0])


def report_of(node: Node, pacs: Pacs, row: dict[str, Any]) -> bytes:
    """Return the structured report of an ECG, as the PACS has it."""
    with node.ledger() as ledger:
        whole = ledger.row(row["id"])
    assert whole is not None
    (uid,) = (item["sop_instance_uid"] for item in whole["objects"] if item["role"] == "sr")
    return pacs.files[uid][-1]


def test_promoted_model_speaks_in_the_next_ecg_and_rolled_back_the_one_before(
    make_node: Callable[..., Node], pacs: Pacs
) -> None:
    node = make_node(destinations={"PACS": pacs.port}, overrides={"WORK__WORKERS": "2"}).start()
    promoted, back = cart_ecg("promoted"), cart_ecg("rolled-back")
    with registry(node) as store:
        (first,) = store.current()
        second = store.add_candidate(
            tiny_model.packed(name="Second opinion"), time.time(), PASSED, "anna"
        )
        with flowing(node):
            assert poll(lambda: len(node.rows()) > 2)
            store.promote(second, time.time(), "anna")
            assert speaks(store, second)
        assert push(node.address, promoted) == [0]
        assert store.roll_back(time.time(), "anna") == first
        assert speaks(store, first)
        assert push(node.address, back) == [0]
    rows = node.rows()
    assert node.settled(len(rows))
    assert (model_of(node, promoted), model_of(node, back)) == (second, first)
    for row in rows:
        digest = json.loads(row["plan"])["models"][0]
        report = report_of(node, pacs, row)
        assert device_uid(digest).encode() in report
        assert (b"Second opinion" in report) == (digest == second)
    assert "Traceback" not in node.log


def one_lead(name: str) -> Dataset:
    """Return an ECG of lead I alone, as a hand-held recorder pushes it."""
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    study, series, instance = (derive("test", name, part) for part in "abc")
    return dicom.encode(
        simulate(Kind.ATRIAL_FIBRILLATION).ecg.select([Lead.I]),
        identity=dicom.Identity(
            study_instance_uid=study,
            series_instance_uid=series,
            sop_instance_uid=instance,
            created_at=moment,
            study_at=moment,
        ),
        patient=Patient(identifier="P1", age=60.0),
    )


def test_single_lead_is_read_by_the_model_for_few_leads_and_its_report_names_it(
    make_node: Callable[..., Node], pacs: Pacs
) -> None:
    node = make_node(destinations={"PACS": pacs.port}).start()
    twelve, single = cart_ecg("twelve"), one_lead("single")
    assert push(node.address, twelve, single) == [0, 0]
    assert node.settled(2)
    rows = {row["sop_instance_uid"]: row for row in node.rows()}
    for source, expected in ((twelve, SHIPPED), (single, ANY_LEAD)):
        row = rows[source.SOPInstanceUID]
        package = resources.files("analysis").joinpath("models", expected).read_bytes()
        speaker = load_model(package).identity
        report = report_of(node, pacs, row)
        for named in (device_uid(speaker.digest), speaker.name, speaker.version):
            assert named.encode() in report
        assert len(json.loads(row["plan"])["models"]) == 2


def test_node_whose_model_is_damaged_at_the_start_reports_measurements_and_says_so(
    make_node: Callable[..., Node], pacs: Pacs
) -> None:
    node = make_node(destinations={"PACS": pacs.port}).start()
    node.stop()
    with registry(node) as store:
        for digest in store.speaking():
            store.path(digest).write_bytes(b"damaged")
    node.start()
    source = cart_ecg("measured")
    assert push(node.address, source) == [0]
    assert node.settled(1)
    (row,) = node.rows()
    assert json.loads(row["plan"])["models"] == []
    assert b"Heart rate" in report_of(node, pacs, row)
    status, page = node.get("/readyz")
    assert status == 200
    assert any(digest[:12] in warning for warning in json.loads(page)["warnings"])


@pytest.mark.slow
def test_damaged_model_is_not_swapped_in_and_the_one_before_speaks_on(
    make_node: Callable[..., Node], pacs: Pacs
) -> None:
    node = make_node(destinations={"PACS": pacs.port}, overrides={"WORK__WORKERS": "2"}).start()
    package = tiny_model.packed()
    with registry(node) as store:
        first, _ = store.speaking()
        digest = store.add_candidate(package, time.time(), PASSED)
        store.path(digest).write_bytes(package[: len(package) // 2])
        store.ledger.promote(digest, time.time())  # the damage came in between
        metric = f'ecg_model_refused{{digest="{digest}"}} 1.0'
        assert poll(lambda: metric in node.get("/metrics")[1])
        source = cart_ecg("meanwhile")
        assert push(node.address, source) == [0]
        assert node.settled(1)
        assert model_of(node, source) == first
        status, page = node.get("/readyz")
        assert status == 200
        assert digest[:12] in json.loads(page)["warnings"][0]
        assert "model_refused" in node.log
        store.add_candidate(package, time.time(), PASSED)
        store.promote(digest, time.time(), "anna")
        assert speaks(store, digest)
    assert metric not in node.get("/metrics")[1]
    assert len(pacs.files) == 3
