"""Orthanc's plugin: every new ECG reaches the node once, whatever stops in between."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cart import CART_FILE, cart_ecg, encoded
from node import Node, free_port, poll
from peers import Orthanc, running, running_orthanc, started_orthanc, storescu

from dicom_node.ledger import State

Beside = tuple[Orthanc, Node]
QUICK = {"LongestPause": 1}


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    """Orthanc with its plugin, and the node it sends to, which delivers back to it."""
    folder = tmp_path_factory.mktemp("plugin")
    port = free_port()
    with running_orthanc(folder / "orthanc", node_port=port, plugin=QUICK) as orthanc:
        pacs = {orthanc.address.ae_title: orthanc.address.port}
        with running(Node(folder / "node", pacs, port=port)) as node:
            yield orthanc, node


def instances(orthanc: Orthanc) -> int:
    return len(orthanc.find("Instance"))


def idle(orthanc: Orthanc) -> bool:
    return not any(orthanc.get("/sinusnode/health")["queue"].values())


def ecgs(folder: Path, *names: str) -> list[Path]:
    files = [folder / f"{name}.dcm" for name in names]
    for file in files:
        file.write_bytes(encoded(cart_ecg(file.stem)))
    return files


def test_an_ecg_stored_in_orthanc_comes_back_with_its_results_and_goes_round_once(
    loop: Beside,
) -> None:
    orthanc, node = loop
    storescu(orthanc.address, CART_FILE)
    assert node.settled(1)
    assert poll(lambda: instances(orthanc) == 4)
    assert poll(lambda: idle(orthanc))
    assert [row["state"] for row in node.rows()] == [State.COMMITTED]


def test_the_page_of_a_study_shows_state_words_and_the_pdf(loop: Beside) -> None:
    orthanc, node = loop
    storescu(orthanc.address, CART_FILE)
    assert node.settled(1)
    assert poll(lambda: instances(orthanc) >= 4)
    study = orthanc.find("Study")[0]["ID"]
    page = orthanc.text(f"/sinusnode/study/{study}")
    assert "12-lead ECG" in page
    assert "reported" in page
    assert "not verified by a clinician" in page
    assert "/pdf" in page
    assert "Sinus rhythm" in page
    assert "/sinusnode/study/" in orthanc.text("/plugins/explorer.js")


def test_a_study_can_be_sent_again_by_hand(loop: Beside) -> None:
    orthanc, node = loop
    storescu(orthanc.address, CART_FILE)
    assert node.settled(1)
    study = orthanc.find("Study")[0]["ID"]
    assert orthanc.post(f"/sinusnode/analyze/{study}", {})["queued"] == 1
    assert poll(lambda: idle(orthanc))
    assert len(node.rows()) == 1


def test_the_health_route_says_whether_the_node_answers(loop: Beside) -> None:
    orthanc, _ = loop
    health = orthanc.get("/sinusnode/health")
    assert health["answers"]
    assert health["running"]


def test_nothing_is_lost_or_doubled_when_orthanc_and_the_node_are_killed(tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "orthanc"
    files = ecgs(tmp_path, "one", "two", "three", "four")
    with running_orthanc(folder, node_port=port, plugin=QUICK) as orthanc:
        storescu(orthanc.address, *files[:2])  # nobody answers at the node's port yet
        assert poll(lambda: orthanc.get("/sinusnode/health")["queue"]["waiting"] == 2)
        assert not orthanc.get("/sinusnode/health")["answers"]
        orthanc.signal(signal.SIGKILL)
    with started_orthanc(folder) as orthanc:
        node = Node(tmp_path / "node", {orthanc.address.ae_title: orthanc.address.port}, port=port)
        node.start()
        storescu(orthanc.address, *files[2:])
        assert poll(lambda: len(node.rows()) > 0)
        node.kill()
        with running(node):
            assert node.settled(4)
            assert poll(lambda: idle(orthanc))
            assert poll(lambda: instances(orthanc) == 16)
        assert sorted(row["sop_instance_uid"] for row in node.rows()) == sorted(
            cart_ecg(file.stem).SOPInstanceUID for file in files
        )
