"""Delivery to PACSs that misbehave in every known way: each ends in its state, with a sentence."""

import io
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cart import cart_ecg, push
from node import Node, free_port, poll
from outbox import ECG, PDF, ROLES, SR, Outbox, result
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

from dicom_node.deliver import RESULTS
from dicom_node.ledger import State
from dicom_node.pacs import Pacs
from dicom_node.reasons import Delivery
from dicom_node.receive import VERIFICATION

DAY = 86_400.0


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """Return an outbox with one set of results for PACS."""
    made = Outbox(tmp_path / "data")
    made.put("1.1")
    yield made
    made.close()


Handler = Callable[[evt.Event], Any]


@contextmanager
def scp(
    port: int,
    *handlers: tuple[Any, Handler],
    classes: tuple[str, ...] = RESULTS,
    syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
) -> Iterator[None]:
    """Run a PACS that does as its handlers say."""
    ae = AE("PACS")
    for uid in (VERIFICATION, *classes):
        ae.add_supported_context(uid, list(syntaxes))
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=list(handlers))
    try:
        yield
    finally:
        server.shutdown()


def rejecting(*triple: int) -> tuple[Any, Handler]:
    def reject(event: evt.Event) -> None:
        event.assoc.acse.send_reject(*triple)
        event.assoc.kill()

    return evt.EVT_REQUESTED, reject


@contextmanager
def listener(port: int, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """Run something on a TCP port that is no PACS."""
    with socket.create_server(("127.0.0.1", port)) as server:
        open_ones: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                open_ones.append(peer)
                answer(peer)

        threading.Thread(target=accept, daemon=True).start()
        yield
        server.shutdown(socket.SHUT_RDWR)
    for peer in open_ones:
        peer.close()


# What the PACS answers to a C-STORE


@pytest.mark.parametrize("status", [0x0000, 0x0111, 0xB000, 0xB007])
def test_answer_that_keeps_the_object_commits_and_the_status_is_not_lost(
    outbox: Outbox, status: int
) -> None:
    with Pacs(free_port(), behaviour=lambda _uid: status) as pacs:
        assert outbox.sender(pacs.port).step()
    assert outbox.ends() == dict.fromkeys(ROLES, ("DELIVERED", None, status))
    row = outbox.queue()
    assert (row["state"], row["committed_by"]) == (State.COMMITTED, "responses")


@pytest.mark.parametrize("status", [0x0122, 0x0124, 0xA900, 0xC000])
def test_answer_that_time_cannot_mend_fails_at_once_and_visibly(
    outbox: Outbox, status: int
) -> None:
    with Pacs(free_port(), behaviour=lambda _uid: status) as pacs:
        sender = outbox.sender(pacs.port)
        sender.step()
        outbox.now += DAY
        assert not sender.step()
    assert outbox.ends() == dict.fromkeys(ROLES, ("FAILED", Delivery.REFUSED, status))
    row = outbox.queue()
    assert (row["state"], row["reason"]) == (State.FAILED, Delivery.REFUSED)
    assert row["message"].endswith(".")


def test_full_pacs_gets_the_object_once_it_has_room(outbox: Outbox) -> None:
    full = [True]
    with Pacs(free_port(), behaviour=lambda _uid: 0xA700 if full[0] else 0) as pacs:
        sender = outbox.sender(pacs.port)
        sender.step()
        assert outbox.ends() == dict.fromkeys(ROLES, ("PENDING", Delivery.OUT_OF_RESOURCES, 0xA700))
        assert not sender.step()
        full[0] = False
        outbox.now += 60
        sender.step()
        assert [len(versions) for versions in pacs.files.values()] == [1, 1, 1]
    assert outbox.queue()["state"] == State.COMMITTED
    assert {item["attempts"] for item in outbox.queue()["deliveries"]} == {2}


def test_one_refused_object_does_not_hold_back_the_others(outbox: Outbox) -> None:
    with Pacs(free_port(), behaviour=lambda uid: 0xC000 if uid == PDF else 0) as pacs:
        outbox.sender(pacs.port).step()
    assert outbox.ends() == {
        "sr": ("DELIVERED", None, 0),
        "pdf": ("FAILED", Delivery.REFUSED, 0xC000),
        "ecg": ("DELIVERED", None, 0),
    }
    assert outbox.queue()["state"] == State.FAILED


def test_operator_who_repaired_the_pacs_retries_and_only_the_missing_object_goes(
    outbox: Outbox,
) -> None:
    broken = [True]
    with Pacs(free_port(), behaviour=lambda uid: 0xC000 if broken[0] and uid == SR else 0) as pacs:
        sender = outbox.sender(pacs.port)
        sender.step()
        broken[0] = False
        assert outbox.ledger.retry(1, outbox.now)
        sender.step()
        assert [len(versions) for versions in pacs.files.values()] == [1, 1, 1]
    assert outbox.queue()["state"] == State.COMMITTED


# What the PACS does with the association


@pytest.mark.parametrize(
    ("triple", "state", "reason"),
    [
        ((2, 3, 2), "PENDING", Delivery.REJECTED_TRANSIENT),
        ((2, 3, 1), "PENDING", Delivery.REJECTED_TRANSIENT),
        ((1, 1, 3), "FAILED", Delivery.REJECTED_PERMANENT),
        ((1, 1, 7), "FAILED", Delivery.REJECTED_PERMANENT),
    ],
)
def test_rejected_association_is_tried_again_if_it_is_for_now_only(
    outbox: Outbox, triple: tuple[int, int, int], state: str, reason: Delivery
) -> None:
    port = free_port()
    with scp(port, rejecting(*triple)):
        outbox.sender(port).step()
    assert outbox.ends() == dict.fromkeys(ROLES, (state, reason, None))


def test_pacs_that_takes_no_sr_gets_the_rest(outbox: Outbox) -> None:
    port = free_port()
    with scp(port, (evt.EVT_C_STORE, lambda _event: 0), classes=(PDF, ECG)):
        outbox.sender(port).step()
    assert outbox.ends() == {
        "sr": ("FAILED", Delivery.NO_CONTEXT, None),
        "pdf": ("DELIVERED", None, 0),
        "ecg": ("DELIVERED", None, 0),
    }
    assert outbox.queue()["reason"] == Delivery.NO_CONTEXT


def test_pacs_that_takes_nothing_of_ours_fails_visibly(outbox: Outbox) -> None:
    port = free_port()
    with scp(port, classes=("1.2.840.10008.5.1.4.1.1.2",)):
        outbox.sender(port).step()
    assert {state for state, _, _ in outbox.ends().values()} == {"FAILED"}


def test_pacs_of_implicit_vr_only_gets_the_same_content(outbox: Outbox) -> None:
    port = free_port()
    kept: list[Dataset] = []

    def store(event: evt.Event) -> int:
        assert event.context.transfer_syntax == ImplicitVRLittleEndian
        kept.append(dcmread(io.BytesIO(event.encoded_dataset())))
        return 0

    with scp(port, (evt.EVT_C_STORE, store), syntaxes=(ImplicitVRLittleEndian,)):
        outbox.sender(port).step()
    assert outbox.queue()["state"] == State.COMMITTED
    for number, (found, sop_class) in enumerate(zip(kept, ROLES.values(), strict=True)):
        sent = dcmread(io.BytesIO(result(sop_class, f"1.1.{number}")))
        assert {item.tag: item.value for item in found} == {item.tag: item.value for item in sent}


def test_pacs_that_accepts_and_never_answers_is_given_up_in_time_and_tried_again(
    outbox: Outbox,
) -> None:
    port, asleep, answered = free_port(), threading.Event(), [False]

    def store(_event: evt.Event) -> int:
        if not answered[0]:
            asleep.wait(20)
        return 0

    with scp(port, (evt.EVT_C_STORE, store)):
        sender = outbox.sender(port, timeout=0.4)
        sender.step()
        asleep.set()
        assert outbox.ends() == dict.fromkeys(ROLES, ("PENDING", Delivery.NO_ANSWER, None))
        answered[0] = True
        outbox.now += 60
        sender.step()
    assert outbox.queue()["state"] == State.COMMITTED


def test_pacs_that_aborts_in_the_middle_gets_each_object_in_the_end(outbox: Outbox) -> None:
    port, kept = free_port(), list[str]()

    def store(event: evt.Event) -> int:
        kept.append(event.request.AffectedSOPInstanceUID)
        if len(kept) == 2:
            event.assoc.abort()
        return 0

    with scp(port, (evt.EVT_C_STORE, store)):
        sender = outbox.sender(port)
        sender.step()
        outbox.now += 60
        while sender.step():
            outbox.now += 60
    assert outbox.queue()["state"] == State.COMMITTED
    assert set(kept) == {"1.1.0", "1.1.1", "1.1.2"}
    assert kept.count("1.1.0") == 1


@pytest.mark.parametrize("when", ["while idle", "as the next object comes"])
def test_idle_association_that_the_pacs_closed_costs_no_attempt(outbox: Outbox, when: str) -> None:
    port, links = free_port(), list[Any]()

    def store(event: evt.Event) -> int:
        links.append(event.assoc)
        if when != "while idle" and len(links) == 4:
            event.assoc.abort()
        return 0

    with scp(port, (evt.EVT_C_STORE, store)):
        sender = outbox.sender(port)
        sender.step()
        if when == "while idle":
            links[-1].abort()
        outbox.put("1.2")
        sender.step()
    assert outbox.ends() == dict.fromkeys(ROLES, ("DELIVERED", None, 0))
    assert {item["attempts"] for item in outbox.queue()["deliveries"]} == {1}


# What is no PACS


def silent(_peer: socket.socket) -> None:
    """Take the connection and say nothing."""


def garbage(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def abort(peer: socket.socket) -> None:
    peer.recv(65536)
    peer.sendall(b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x00")


def half_an_answer(peer: socket.socket) -> None:
    peer.recv(65536)
    peer.sendall(b"\x02\x00\x00\x00\x10\x00\x00\x01")
    peer.close()


@pytest.mark.parametrize(
    "answer",
    [silent, socket.socket.close, garbage, abort, half_an_answer],
    ids=lambda f: f.__name__,
)
def test_port_that_is_no_pacs_is_unreachable_and_tried_again(
    outbox: Outbox, answer: Callable[[socket.socket], None]
) -> None:
    port = free_port()
    with listener(port, answer):
        outbox.sender(port, timeout=0.5).step()
    assert outbox.ends() == dict.fromkeys(ROLES, ("PENDING", Delivery.UNREACHABLE, None))
    assert outbox.queue()["state"] == State.REPORTED


@pytest.mark.parametrize("host", ["no-such-host.invalid", "127.0.0.1"])
def test_host_that_is_not_there_is_unreachable_and_tried_again(outbox: Outbox, host: str) -> None:
    outbox.sender(free_port(), host=host).step()
    assert outbox.ends() == dict.fromkeys(ROLES, ("PENDING", Delivery.UNREACHABLE, None))


def test_pacs_that_is_down_costs_one_connection_per_pause_and_gets_all_when_it_returns(
    outbox: Outbox,
) -> None:
    port = free_port()
    sender = outbox.sender(port)
    for number in range(2, 10):
        outbox.put(f"1.{number}")
    calls = 0
    for _ in range(60):
        calls += sender.step()
        outbox.now += 1.0
    assert 1 < calls < 5
    with Pacs(port) as pacs:
        outbox.now += 600.0
        while sender.step():
            pass
        assert len(pacs.files) == 27
        assert all(len(versions) == 1 for versions in pacs.files.values())
    assert outbox.ledger.counts()[State.COMMITTED] == 9


def test_delivery_is_given_up_visibly_after_the_time_that_is_set(outbox: Outbox) -> None:
    sender = outbox.sender(free_port(), retry_for=3 * DAY)
    while outbox.queue()["state"] == State.REPORTED:
        sender.step()
        outbox.now += DAY / 4
        assert outbox.now < 5 * DAY
    assert outbox.now > 3 * DAY
    assert outbox.ends() == dict.fromkeys(ROLES, ("FAILED", Delivery.GIVEN_UP, None))


def test_damaged_result_is_not_sent_and_said(outbox: Outbox) -> None:
    (damaged,) = (item for item in outbox.ledger.due("PACS", outbox.now, 9) if item.role == "pdf")
    with (outbox.folder / "spool" / damaged.blob.key).open("r+b") as segment:
        segment.seek(damaged.blob.offset)
        segment.write(b"rotten")
    with Pacs(free_port()) as pacs:
        outbox.sender(pacs.port).step()
        assert len(pacs.files) == 2
    assert outbox.ends()["pdf"] == ("FAILED", Delivery.BYTES_LOST, None)


def test_dead_destination_does_not_hold_back_a_good_one(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "data")
    outbox.put("1.1", "PACS", "DEAD")
    stopped = threading.Event()
    with listener(port := free_port(), silent), Pacs(free_port()) as pacs:
        dead = outbox.sender(port, ae_title="DEAD", timeout=10.0)
        good = outbox.sender(pacs.port)
        with ThreadPoolExecutor() as threads:
            runs = [
                threads.submit(sender.run, stopped.is_set, stopped.wait) for sender in (dead, good)
            ]
            assert pacs.wait(3, 9.0)
            stopped.set()
            for run in runs:
                run.result(60)
    assert outbox.queue()["state"] == State.REPORTED
    outbox.close()


# Through a real node


def test_real_node_delivers_once_to_a_pacs_that_was_down_beside_one_that_refuses(
    make_node: Callable[..., Node],
) -> None:
    late = free_port()
    refusing: AbstractContextManager[Pacs] = Pacs(
        free_port(), ae_title="REFUSING", behaviour=lambda _uid: 0xC000
    )
    with refusing as other:
        node = make_node(
            destinations={"LATE": late, "REFUSING": other.port}, overrides={"WORK__WORKERS": "1"}
        ).start()
        assert push(node.address, cart_ecg("late")) == [0]
        assert poll(lambda: _reasons(node) == {"unreachable", "refused"}, 30)
        with Pacs(late, ae_title="LATE") as pacs:
            assert pacs.wait(3, 30)
            assert node.settled(1)
            assert [len(versions) for versions in pacs.files.values()] == [1, 1, 1]
    assert [row["state"] for row in node.rows()] == [State.FAILED]
    assert "Traceback" not in node.log


def _reasons(node: Node) -> set[str | None]:
    with node.ledger() as ledger:
        found = ledger.row(1)
    return {item["reason"] for item in found["deliveries"]} if found else set()
