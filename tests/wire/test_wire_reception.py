"""What the clinical port answers, and what it keeps: the table of bad input, through the port."""

import socket
import threading
from collections.abc import Callable

import pytest
from cart import CART_FILE, association, cart_ecg, encoded, push, push_bytes
from node import Node, poll
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.ledger import State
from dicom_node.link import connect
from dicom_node.pacs import Pacs
from dicom_node.reasons import Quarantine, Refusal
from dicom_node.report.part10 import data_set

TWELVE_LEAD = "1.2.840.10008.5.1.4.1.1.9.1.1"


def reasons(node: Node) -> list[str]:
    """Return why anything was refused or kept apart, the oldest first."""
    rows = (row for row in node.trail() if row["event"] != "model_promoted")
    return [row["reason"] for row in rows if row["reason"]]


def test_cart_file_comes_back_as_report_page_and_annotated_copy_in_its_own_study(
    node: Node, pacs: Pacs
) -> None:
    source = dcmread(CART_FILE)
    assert push(node.address, source) == [0]
    assert pacs.wait(3, 30)
    results = pacs.objects()
    assert {item.Modality for item in results} == {"SR", "DOC", "ECG"}
    assert {item.StudyInstanceUID for item in results} == {source.StudyInstanceUID}
    assert {item.PatientID for item in results} == {source.PatientID}
    assert len({item.SeriesInstanceUID for item in results}) == 3
    copy = next(item for item in results if item.Modality == "ECG")
    assert copy.WaveformSequence[0].WaveformData == source.WaveformSequence[0].WaveformData
    assert copy.SOPInstanceUID != source.SOPInstanceUID
    assert node.settled(1)
    assert [row["state"] for row in node.rows()] == [State.COMMITTED]


@pytest.mark.parametrize(
    ("calling", "called", "peers", "result", "reason"),
    [
        ("CART", "WRONG", '[{"ae_title": "*"}]', (1, 1, 7), Refusal.CALLED_AE_TITLE),
        ("STRANGER", None, '[{"ae_title": "CART"}]', (1, 1, 3), Refusal.CALLING_AE_TITLE),
        (
            "CART",
            None,
            '[{"ae_title": "CART", "addresses": ["10.0.0.0/8"]}]',
            (1, 1, 3),
            Refusal.ADDRESS,
        ),
    ],
)
def test_stranger_is_rejected_and_recorded(
    make_node: Callable[..., Node],
    calling: str,
    called: str | None,
    peers: str,
    result: tuple[int, int, int],
    reason: Refusal,
) -> None:
    node = make_node(overrides={"DICOM__PEERS": peers, "WORK__WORKERS": "1"}).start()
    link = association(node.address, calling, called)
    assert link.is_rejected
    answer = link.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == result
    assert reasons(node) == [reason]
    assert "Traceback" not in node.log


def test_object_of_another_class_finds_no_context_and_leaves_an_audit_row(node: Node) -> None:
    from pynetdicom import AE  # noqa: PLC0415 - only here

    ae = AE("CT")
    ae.add_requested_context("1.2.840.10008.5.1.4.1.1.2")
    link = ae.associate("127.0.0.1", node.port, ae_title="SINUSNODE")
    assert not link.accepted_contexts
    link.abort()
    assert poll(lambda: Refusal.SOP_CLASS in reasons(node))


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SOPClassUID"])
def test_command_and_data_set_that_disagree_are_refused_with_a900(node: Node, keyword: str) -> None:
    data = cart_ecg(f"mismatch-{keyword}")
    stated = (str(data.SOPClassUID), str(data.SOPInstanceUID))
    setattr(data, keyword, "1.2.3.4")
    buffer = encoded(data)
    body = buffer[buffer.index(b"\x08\x00\x05\x00") :]
    assert push_bytes(node.address, body, *stated) == 0xA900
    assert reasons(node) == [Refusal.MISMATCH]
    assert node.rows() == []


def test_undecodable_data_set_is_acknowledged_kept_and_quarantined(node: Node) -> None:
    data = bytes(range(256)) * 40
    assert push_bytes(node.address, data, TWELVE_LEAD, "1.2.3.4.5") == 0
    assert node.settled(1)
    (row,) = node.rows()
    assert row["state"] == State.QUARANTINED
    assert row["reason"]
    assert row["message"]
    with node.ledger() as ledger:
        from dicom_node.spool import Spool  # noqa: PLC0415 - only here

        kept = Spool(node.folder / "data" / "spool").read(ledger.blob_of(row))
    assert kept.endswith(data)


def test_same_object_again_makes_no_second_report(node: Node, pacs: Pacs) -> None:
    data = cart_ecg("twice")
    assert push(node.address, data, data) == [0, 0]
    assert push(node.address, data) == [0]
    assert node.settled(1)
    assert pacs.wait(3, 30)
    assert len(node.rows()) == 1
    assert [len(versions) for versions in pacs.files.values()] == [1, 1, 1]


def test_hundred_copies_at_once_make_one_report(node: Node, pacs: Pacs) -> None:
    data = cart_ecg("hundred")
    statuses: list[int | None] = []
    threads = [
        threading.Thread(target=lambda: statuses.extend(push(node.address, data)))
        for _ in range(100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0] * 100
    assert node.settled(1)
    assert len(pacs.files) == 3


def test_same_uid_with_other_bytes_is_kept_apart_with_an_alarm(node: Node, pacs: Pacs) -> None:
    assert push(node.address, cart_ecg("conflict")) == [0]
    assert push(node.address, cart_ecg("conflict", PatientID="SOMEONE-ELSE")) == [0]
    assert node.settled(2)
    states = {row["state"]: row["reason"] for row in node.rows()}
    assert states == {State.COMMITTED: None, State.QUARANTINED: Quarantine.CONFLICT}
    assert Quarantine.CONFLICT in reasons(node)
    assert len(pacs.files) == 3
    queue = node.command("queue", "--json").stdout
    assert "other content" in queue


def test_own_result_coming_back_makes_no_report_of_itself(node: Node, pacs: Pacs) -> None:
    assert push(node.address, cart_ecg("loop")) == [0]
    assert pacs.wait(3, 30)
    copy = next(item for item in pacs.objects() if item.Modality == "ECG")
    assert push(node.address, copy) == [0]
    assert node.settled(2)
    assert Quarantine.OWN_OBJECT in {row["reason"] for row in node.rows()}
    assert len(pacs.files) == 3


def test_full_disk_is_answered_a700_and_not_ready_while_delivery_goes_on(
    make_node: Callable[..., Node], pacs: Pacs
) -> None:
    node = make_node(destinations={"PACS": pacs.port}).start()
    assert push(node.address, cart_ecg("before")) == [0]
    assert pacs.wait(3, 30)
    node.stop()
    node.overrides = {"STORAGE__FREE_BYTES": str(2**60)}
    node.launch()
    assert poll(lambda: _status(node) == 503, 30)
    assert "watermark" in node.get("/readyz")[1]
    assert push(node.address, cart_ecg("after")) == [0xA700]
    assert Refusal.OUT_OF_RESOURCES in reasons(node)
    assert len(node.rows()) == 1


def _status(node: Node) -> int:
    try:
        return node.get("/readyz")[0]
    except OSError:
        return 0


def test_flat_and_noisy_and_half_recorded_ecgs_are_reported_non_diagnostic(
    node: Node, pacs: Pacs
) -> None:
    flat = cart_ecg("flat")
    flat.WaveformSequence[0].WaveformData = bytes(len(flat.WaveformSequence[0].WaveformData))
    assert push(node.address, flat) == [0]
    assert pacs.wait(3, 30)
    report = next(item for item in pacs.objects() if item.Modality == "SR")
    assert "122753" in _codes(report)
    assert "164854000" not in _codes(report)


def _codes(dataset: Dataset) -> set[str]:
    return {str(item.value) for item in dataset.iterall() if item.keyword == "CodeValue"}


def test_two_hundred_associations_at_once_are_all_stored(
    make_node: Callable[..., Node], pacs: Pacs
) -> None:
    node = make_node().start()
    data = [cart_ecg(f"burst-{number}") for number in range(200)]
    sop_class = str(data[0].SOPClassUID)
    bodies = {str(item.SOPInstanceUID): data_set(encoded(item)) for item in data}
    statuses: list[int | None] = []
    barrier = threading.Barrier(200)

    def send(instance: str, body: bytes) -> None:
        barrier.wait()
        link = connect(node.address, "CART", [sop_class], timeout=60.0)
        statuses.append(link.store(sop_class, instance, body))
        link.release()

    threads = [threading.Thread(target=send, args=item) for item in bodies.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0] * 200
    assert len(node.rows()) == 200


def test_slow_peers_do_not_keep_a_cart_out(make_node: Callable[..., Node]) -> None:
    node = make_node(overrides={"DICOM__MAXIMUM_ASSOCIATIONS": "5"}).start()
    openings = (b"", b"\x01\x00\x00", b"\x01\x00\xff\xff\xff\xff", b"\x16\x03\x01")
    slow = []
    for number in range(18):
        peer = socket.create_connection(("127.0.0.1", node.port))
        peer.sendall(openings[number % 4])
        slow.append(peer)
    assert push(node.address, cart_ecg("beside-slow-peers")) == [0]
    for peer in slow:
        peer.close()


def test_announced_giant_pdu_is_cut_off(node: Node) -> None:
    with socket.create_connection(("127.0.0.1", node.port)) as peer:
        peer.sendall(b"\x01\x00\xff\xff\xff\xff" + bytes(1000))
        peer.settimeout(10)
        received = True
        while received:
            try:
                received = bool(peer.recv(1024))
            except ConnectionResetError:
                received = False
    assert poll(lambda: Refusal.BROKEN_CONNECTION in reasons(node))


def test_too_many_associations_are_refused_for_now_only(make_node: Callable[..., Node]) -> None:
    node = make_node(overrides={"DICOM__MAXIMUM_ASSOCIATIONS": "2"}).start()
    links = [association(node.address) for _ in range(2)]
    extra = association(node.address)
    assert extra.is_rejected
    assert extra.acceptor.primitive.result == 2
    for link in links:
        link.release()
    assert push(node.address, cart_ecg("room-again")) == [0]


def test_sigterm_finishes_what_is_in_hand_and_exits_cleanly(
    make_node: Callable[..., Node], pacs: Pacs
) -> None:
    node = make_node(destinations={"PACS": pacs.port}, afresh=True).start()
    assert push(node.address, *(cart_ecg(f"term-{number}") for number in range(5))) == [0] * 5
    assert node.stop() == 0
    node.start()
    assert pacs.wait(15, 30)
    assert "Traceback" not in node.log


def test_second_node_on_the_same_folder_is_refused_in_a_sentence(node: Node) -> None:
    answer = node.command("serve")
    assert answer.returncode == 1
    assert "another node uses the data folder" in answer.stderr
    assert "Traceback" not in answer.stderr
