"""Debian's Orthanc beside the node, with the configuration that is shipped."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cart import CART_FILE, cart_ecg, encoded
from node import Node, free_port
from peers import Orthanc, running, running_orthanc, shipped_configuration, storescu
from pydicom import dcmread

from dicom_node.ledger import State
from dicom_node.reasons import Quarantine
from dicom_node.settings import Settings

Beside = tuple[Orthanc, Node]
SOURCE = dcmread(CART_FILE)


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    """Orthanc, which holds the cart's file, and a node that has delivered its results there."""
    folder = tmp_path_factory.mktemp("orthanc")
    port = free_port()
    with running_orthanc(folder / "orthanc", node_port=port) as orthanc:
        pacs = {orthanc.address.ae_title: orthanc.address.port}
        with running(Node(folder / "node", pacs, port=port)) as node:
            storescu(orthanc.address, CART_FILE)
            storescu(node.address, CART_FILE)
            assert node.settled(1)
            yield orthanc, node


def test_the_three_results_are_in_the_sources_study_one_series_each(beside: Beside) -> None:
    orthanc, _ = beside
    (study,) = orthanc.find("Study", StudyInstanceUID=SOURCE.StudyInstanceUID)
    series = orthanc.find("Series", StudyInstanceUID=SOURCE.StudyInstanceUID)
    tags = [item["MainDicomTags"] for item in series]
    modality = {item["SeriesInstanceUID"]: item["Modality"] for item in tags}
    assert modality.pop(SOURCE.SeriesInstanceUID) == "ECG"
    assert sorted(modality.values()) == ["DOC", "ECG", "SR"]
    assert [len(item["Instances"]) for item in series] == [1, 1, 1, 1]
    assert study["PatientMainDicomTags"]["PatientID"] == SOURCE.PatientID


def test_the_same_file_sent_twice_makes_no_second_set(beside: Beside, tmp_path: Path) -> None:
    orthanc, node = beside
    later = tmp_path / "later.dcm"
    later.write_bytes(encoded(cart_ecg("later")))
    storescu(node.address, CART_FILE)
    storescu(node.address, later)
    assert node.settled(2)
    assert [item["attempts"] for item in _row(node, SOURCE.SOPInstanceUID)["deliveries"]] == [1] * 3
    assert len(orthanc.find("Instance", StudyInstanceUID=SOURCE.StudyInstanceUID)) == 4


def test_a_result_that_orthanc_sends_back_goes_round_no_second_time(beside: Beside) -> None:
    orthanc, node = beside
    before = len(node.rows())
    study = {"StudyInstanceUID": SOURCE.StudyInstanceUID}
    (copy,) = [
        item
        for item in orthanc.find("Series", Modality="ECG", **study)
        if item["MainDicomTags"]["SeriesInstanceUID"] != SOURCE.SeriesInstanceUID
    ]
    (sent,) = copy["Instances"]
    orthanc.post("/modalities/sinusnode/store", [sent])
    assert node.settled(before + 1)
    (own,) = [row for row in node.rows() if row["reason"] == Quarantine.OWN_OBJECT]
    assert own["state"] == State.QUARANTINED
    assert _row(node, own["sop_instance_uid"])["deliveries"] == []


def test_the_shipped_configuration_and_the_nodes_defaults_fit_together() -> None:
    configuration, node = shipped_configuration(), Settings.model_construct()
    modality = configuration["DicomModalities"]["sinusnode"]
    assert (modality["AET"], modality["Port"]) == (node.dicom.ae_title, node.dicom.port)
    ports = [configuration["HttpPort"], configuration["DicomPort"], node.dicom.port, node.ops.port]
    assert len(set(ports)) == len(ports)


def _row(node: Node, uid: str) -> dict[str, Any]:
    """Return the one row of an object, with its deliveries."""
    (number,) = [row["id"] for row in node.rows() if row["sop_instance_uid"] == uid]
    with node.ledger() as ledger:
        return ledger.row(number) or {}
