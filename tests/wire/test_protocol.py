"""PDUs that break the protocol in every state: the node stays, answers, and tells."""

import random
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest
from cart import association, cart_ecg, push
from node import Node, poll
from peers import running

from dicom_node.ledger import State
from dicom_node.reasons import Refusal
from dicom_node.receive import VERIFICATION, WAVEFORMS

IMPLICIT = "1.2.840.10008.1.2"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
ECHO_CONTEXT, STORE_CONTEXT = 1, 3
C_STORE_RQ, C_ECHO_RQ = 0x0001, 0x0030
LAST = 0x02
COMMAND = 0x01

# PS3.8 §9.3: the PDUs, written here by hand so that they can be written wrongly


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(body)) + body


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def context(number: int, abstract_syntax: str) -> bytes:
    syntaxes = item(0x30, abstract_syntax.encode()) + item(0x40, IMPLICIT.encode())
    return item(0x20, bytes((number, 0, 0, 0)) + syntaxes)


def associate_rq(
    called: bytes = b"SINUSNODE", calling: bytes = b"FUZZ", extra: bytes = b""
) -> bytes:
    user = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3.4") + extra
    return pdu(
        0x01,
        struct.pack(">HH", 1, 0)
        + called.ljust(16)
        + calling.ljust(16)
        + bytes(32)
        + item(0x10, APPLICATION_CONTEXT.encode())
        + context(ECHO_CONTEXT, VERIFICATION)
        + context(STORE_CONTEXT, WAVEFORMS[0])
        + item(0x50, user),
    )


def p_data(number: int, control: int, data: bytes) -> bytes:
    return pdu(0x04, struct.pack(">LBB", len(data) + 2, number, control) + data)


def element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0, number, len(value)) + value


def command(kind: int, *, sop_class: str = "", instance: str = "", with_data: bool) -> bytes:
    """Return a command set (PS3.7 §E.1), without what is empty."""
    body = element(0x0002, sop_class.encode()) if sop_class else b""
    body += element(0x0100, struct.pack("<H", kind)) + element(0x0110, struct.pack("<H", 1))
    body += element(0x0700, struct.pack("<H", 2)) if kind == C_STORE_RQ else b""
    body += element(0x0800, struct.pack("<H", 0x0001 if with_data else 0x0101))
    body += element(0x1000, instance.encode()) if instance else b""
    return element(0x0000, struct.pack("<L", len(body))) + body


ECHO = p_data(
    ECHO_CONTEXT,
    COMMAND | LAST,
    command(C_ECHO_RQ, sop_class=VERIFICATION, with_data=False),
)
RELEASE_RQ, RELEASE_RP = pdu(0x05, bytes(4)), pdu(0x06, bytes(4))
ABORT, REJECT = pdu(0x07, bytes(4)), pdu(0x03, bytes((0, 1, 1, 1)))


def store(instance: str, data: bytes, **changes: str) -> bytes:
    """Return a whole C-STORE-RQ."""
    words = {"sop_class": WAVEFORMS[0], "instance": instance} | changes
    head = command(C_STORE_RQ, with_data=True, **words)  # type: ignore[arg-type]
    return p_data(STORE_CONTEXT, COMMAND | LAST, head) + p_data(STORE_CONTEXT, LAST, data)


def say(node: Node, *messages: bytes, listen: bool = True) -> bytes:
    """Return what the node answered to these bytes before one of the two hung up."""
    heard = b""
    with socket.create_connection(("127.0.0.1", node.port), timeout=5) as peer, suppress(OSError):
        for message in messages:
            peer.sendall(message)
            if listen:
                peer.settimeout(0.3 if heard else 5)
                with suppress(TimeoutError):
                    heard += peer.recv(65536)
        peer.shutdown(socket.SHUT_WR)
        peer.settimeout(5)
        while listen and (more := peer.recv(65536)):
            heard += more
    return heard


def reasons(node: Node) -> set[str]:
    return {row["reason"] for row in node.trail() if row["reason"]}


def kept(node: Node) -> set[str]:
    """Return the SOP Instance UID of each object that was stored."""
    return {row["sop_instance_uid"] for row in node.rows()}


def answers(node: Node) -> bool:
    """Return whether a C-ECHO succeeds."""
    link = association(node.address)
    if not link.is_established:
        return False
    status = link.send_c_echo()
    link.release()
    return bool(status.get("Status", 1) == 0)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Run one node for all of these; afterwards it has written no traceback."""
    overrides = {
        "WORK__WORKERS": "1",
        "DICOM__HANDSHAKE_DEADLINE": "2",
        "DICOM__PDU_DEADLINE": "2",
        "DICOM__MAXIMUM_OBJECT": "1000000",
    }
    with running(Node(tmp_path_factory.mktemp("protocol") / "node", overrides=overrides)) as made:
        yield made
    assert "Traceback" not in made.log
    assert "process_died" not in made.log


def test_bytes_written_here_are_understood_as_they_should_be(node: Node) -> None:
    heard = say(node, associate_rq(), ECHO, RELEASE_RQ)
    assert heard[0] == 0x02
    assert heard.endswith(RELEASE_RP)
    assert b"\x30\x80" in heard


STATES = {
    "idle": (),
    "established": (associate_rq(),),
    "message half sent": (associate_rq(), store("1.9", bytes(100))[:-50]),
    "released": (associate_rq(), RELEASE_RQ),
}
PDUS = {
    "A-ASSOCIATE-RQ": associate_rq(),
    "A-ASSOCIATE-AC": pdu(0x02, associate_rq()[6:]),
    "A-ASSOCIATE-RJ": REJECT,
    "P-DATA-TF": ECHO,
    "A-RELEASE-RQ": RELEASE_RQ,
    "A-RELEASE-RP": RELEASE_RP,
    "A-ABORT": ABORT,
    "unknown type": pdu(0x0F, bytes(4)),
}


def test_every_pdu_in_every_state_leaves_the_node_answering(node: Node) -> None:
    for before in STATES.values():
        for message in PDUS.values():
            say(node, b"".join(before) + message, listen=False)
    assert answers(node)


def _mutated(dice: random.Random) -> bytes:
    """Return a conversation with a few bytes changed, cut, doubled or inserted."""
    parts = [associate_rq(), ECHO, store(f"1.{dice.random()}", bytes(300)), RELEASE_RQ]
    talk = bytearray(b"".join(parts[: dice.randint(1, 4)]))
    for _ in range(dice.randint(1, 8)):
        place = dice.randrange(len(talk))
        change = dice.randrange(4)
        if change == 0:
            talk[place] = dice.randrange(256)
        elif change == 1:
            talk[place:place] = dice.randbytes(dice.randint(1, 40))
        elif change == 2:
            talk[place : place + 2] = struct.pack(">H", dice.choice([0, 1, 0x7FFF, 0xFFFF]))
        else:
            del talk[place : place + dice.randint(1, 20)]
            talk = talk or bytearray(1)
    return bytes(talk)


def _fuzz(node: Node, count: int) -> None:
    dice = random.Random(20261120)
    receiver = next(
        child
        for child in psutil.Process(node.process.pid if node.process else 0).children()
        if any(one.laddr.port == node.port for one in child.net_connections())
    )
    before = receiver.num_threads()
    for number in range(count):
        talk = dice.randbytes(dice.randint(1, 200)) if number % 5 == 0 else _mutated(dice)
        say(node, talk, listen=False)
    assert answers(node)
    assert receiver.is_running()
    assert poll(lambda: receiver.num_threads() <= before + 2, 20)


def test_four_hundred_damaged_conversations_leave_the_node_answering(node: Node) -> None:
    _fuzz(node, 400)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_thousand_damaged_conversations_leave_the_node_answering(node: Node) -> None:
    _fuzz(node, 20_000)


@pytest.mark.parametrize(
    "talk",
    [
        store("1.2.3", bytes(10), sop_class=""),
        store("", bytes(10)),
        store("1.2.3", bytes(10), sop_class="1.2.840.10008.5.1.4.1.1.2"),
        store("1." * 40 + "1", bytes(10)),
        p_data(
            STORE_CONTEXT,
            COMMAND | LAST,
            command(C_STORE_RQ, sop_class=WAVEFORMS[0], instance="1.2.3", with_data=False),
        ),
        p_data(99, COMMAND | LAST, command(C_ECHO_RQ, sop_class=VERIFICATION, with_data=False)),
        p_data(STORE_CONTEXT, COMMAND | LAST, b""),
        p_data(STORE_CONTEXT, COMMAND | LAST, command(0x7777, with_data=False)),
        pdu(0x04, b""),
        pdu(0x04, struct.pack(">LBB", 0xFFFFFFFF, 1, 3)),
    ],
    ids=[
        "no SOP Class UID",
        "no SOP Instance UID",
        "SOP class of another context",
        "UID of 81 characters",
        "C-STORE without data set",
        "unknown context",
        "empty command",
        "unknown command",
        "empty P-DATA",
        "PDV longer than its PDU",
    ],
)
def test_message_that_makes_no_sense_stores_nothing(node: Node, talk: bytes) -> None:
    heard = say(node, associate_rq(), talk)
    assert heard[:1] == b"\x02"
    assert answers(node)
    assert {"", "None", "1.2.3"}.isdisjoint(kept(node))


def test_object_larger_than_allowed_is_cut_off_and_recorded(node: Node) -> None:
    part = p_data(STORE_CONTEXT, 0, bytes(50_000))
    head = command(C_STORE_RQ, sop_class=WAVEFORMS[0], instance="1.2.3", with_data=True)
    say(node, associate_rq(), p_data(STORE_CONTEXT, COMMAND | LAST, head) + part * 30)
    assert poll(lambda: Refusal.TOO_LARGE in {row["reason"] for row in node.trail()}, 10)
    assert "1.2.3" not in kept(node)


def test_thousand_contexts_and_user_items_do_not_take_the_node_down(node: Node) -> None:
    user_items = item(0x55, b"X" * 16) * 1000
    say(node, associate_rq(extra=user_items))
    contexts = b"".join(context(number % 256, VERIFICATION) for number in range(900))
    say(node, pdu(0x01, associate_rq()[6:] + contexts))
    assert answers(node)


@pytest.mark.parametrize("title", [b"../../etc/passwd", b"\xff\xfe\x00\x01", b"A\\B", b" " * 16])
def test_strange_calling_ae_title_is_answered_and_reaches_no_path(node: Node, title: bytes) -> None:
    heard = say(node, associate_rq(calling=title))
    assert heard[:1] in (b"\x02", b"\x03", b"\x07")
    names = [path.name for path in (node.folder / "data").rglob("*")]
    assert not any("passwd" in name or ".." in name for name in names)
    assert answers(node)


def test_good_object_after_all_this_is_stored_and_reported(node: Node) -> None:
    assert push(node.address, cart_ecg("after the storm")) == [0]
    uid = str(cart_ecg("after the storm").SOPInstanceUID)

    def state() -> str:
        return next(row["state"] for row in node.rows() if row["sop_instance_uid"] == uid)

    assert poll(lambda: state() == State.REPORTED, 30)
