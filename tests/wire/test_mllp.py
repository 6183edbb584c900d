"""HL7 over MLLP to receivers that misbehave in every known way: each ends in its state."""

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cart import cart_ecg, push
from hypothesis import given
from hypothesis import strategies as st
from keys import Authority
from node import Node, free_port, poll
from outbox import Outbox
from pydantic import ValidationError
from receivers import END, START, ack, control_of, cut, receiver, silent, waiting

from dicom_node.deliver import Failure
from dicom_node.ledger import State
from dicom_node.mllp import CODECS, MllpSender, acknowledged
from dicom_node.pacs import Pacs
from dicom_node.reasons import Delivery
from dicom_node.settings import Hl7, Settings, Tls
from dicom_node.tls import caller, server

MESSAGE = (
    "MSH|^~\\&|||||20260101||ORU^R01^ORU_R01|0123456789abcdef0123|P|2.5.1||||||\r"
    "PID|1||P1^^^^PI||Müller\r"
    "OBR|1||1.2|11524-6^EKG study^LN\r"
    "NTE|1||AI\r"
    "OBX|1|NM|8867-4^Heart rate^LN||61|/min\r"
    "OBX|2|ED|11524-6^EKG study^LN||^application^pdf^Base64^AAAA\r"
).encode()
DAY = 86_400.0


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """Return an outbox in which one message waits for EHR."""
    made = Outbox(tmp_path / "data")
    waiting(made, "hl7", MESSAGE)
    yield made
    made.close()


def sender(outbox: Outbox, port: int, keys: Tls | None = None, **changes: Any) -> MllpSender:
    values: dict[str, Any] = {"name": "EHR", "host": "127.0.0.1", "port": port, "timeout": 5.0}
    destination = Hl7(**values | {"tls": keys is not None} | changes)
    made = MllpSender(
        destination,
        ledger=outbox.ledger,
        spool=outbox.spool,
        clock=lambda: outbox.now,
        secure=caller(keys or Tls(), destination),
    )
    outbox.senders.append(made)  # type: ignore[arg-type]  # closed with the others
    return made


def end(outbox: Outbox) -> tuple[str, str | None, int | None]:
    return outbox.ends()["hl7"]


# What the receiver answers


@pytest.mark.parametrize("code", ["AA", "CA"])
def test_message_that_is_accepted_is_delivered_as_addressed(outbox: Outbox, code: str) -> None:
    with receiver(ack(code)) as ehr:
        assert sender(outbox, ehr.port, receiving_application="EHR", sending_facility="H").step()
    (message,) = ehr.messages
    header, *rest = message.decode().split("\r")
    assert header.split("|")[2:6] == ["SINUSNODE", "H", "EHR", ""]
    assert header.split("|")[17] == "UNICODE UTF-8"
    assert rest == MESSAGE.decode().split("\r")[1:]
    assert end(outbox) == ("DELIVERED", None, 0)
    assert outbox.queue()["state"] == State.COMMITTED


@pytest.mark.parametrize("code", ["AE", "AR", "CE", "CR"])
@pytest.mark.parametrize(
    ("segments", "status"),
    [
        ((), None),
        (("ERR||PID^1^3|101^Required field missing^HL70357|E",), 101),
        (("ERR||MSH^1^11|202^Unsupported processing id^HL70357|E",), 202),
        (("ERR|PID^1^3^102&Data type error&HL70357",), 102),
    ],
)
def test_message_that_is_refused_fails_at_once_and_visibly(
    outbox: Outbox, code: str, segments: tuple[str, ...], status: int | None
) -> None:
    with receiver(ack(code, *segments)) as ehr:
        made = sender(outbox, ehr.port)
        made.step()
        outbox.now += DAY
        assert not made.step()
    assert len(ehr.messages) == 1
    assert end(outbox) == ("FAILED", Delivery.REFUSED, status)
    assert outbox.queue()["state"] == State.FAILED


@pytest.mark.parametrize("code", ["AE", "AR"])
@pytest.mark.parametrize("condition", [206, 207])
def test_receiver_in_trouble_of_its_own_gets_the_same_message_later(
    outbox: Outbox, code: str, condition: int
) -> None:
    trouble = ack(code, f"ERR|||{condition}^Application internal error^HL70357|E")
    with receiver(trouble, ack("AA")) as ehr:
        made = sender(outbox, ehr.port)
        made.step()
        assert end(outbox) == ("PENDING", Delivery.OUT_OF_RESOURCES, condition)
        assert not made.step()
        outbox.now += 60
        made.step()
    assert ehr.messages[0] == ehr.messages[1]
    assert end(outbox) == ("DELIVERED", None, 0)


def test_a_receiver_of_an_older_version_names_its_trouble_in_the_acknowledgement() -> None:
    answer = b"MSH|^~\\&|E||S||2026||ACK|1|P|2.3\rMSA|AE|77||||207^Internal^HL70357\r"
    found = acknowledged(answer, "77")
    assert (found.reason, found.permanent) == (Delivery.OUT_OF_RESOURCES, False)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "answer",
    [
        ack("AA", control=b"another"),
        ack("AA", control=b" "),
        ack("ZZ"),
        lambda _: START + b"HTTP/1.1 400 Bad Request" + END,
        lambda _: START + END,
        lambda _: START + b"MSH|^~\\&|E\r" + END,
    ],
)
def test_answer_to_something_else_is_no_answer_and_the_message_goes_again(
    outbox: Outbox, answer: Callable[[bytes], bytes]
) -> None:
    with receiver(answer, ack("AA")) as ehr:
        made = sender(outbox, ehr.port)
        made.step()
        assert end(outbox) == ("PENDING", Delivery.WRONG_ANSWER, None)
        outbox.now += 60
        made.step()
    assert ehr.messages[0] == ehr.messages[1]
    assert len(ehr.connections) == 2
    assert end(outbox) == ("DELIVERED", None, 0)


@given(answer=st.binary(max_size=200) | st.from_regex(rb"MSH.{0,9}\rMSA.{0,30}", fullmatch=True))
def test_no_answer_whatever_it_holds_is_taken_for_an_acknowledgement(answer: bytes) -> None:
    found = acknowledged(answer, "0123456789abcdef0123")
    assert found == Failure(Delivery.WRONG_ANSWER, permanent=False)


# What the receiver does with the connection


@pytest.mark.parametrize(
    "answer",
    [
        silent,
        cut,
        lambda _: START + b"MSH|^~\\&|EHR",
        lambda _: b"x" * (2**20 + 1),
    ],
    ids=["no answer", "cut", "half an answer", "an answer without end"],
)
def test_receiver_that_does_not_answer_gets_the_same_message_later(
    outbox: Outbox, answer: Callable[[bytes], bytes | None]
) -> None:
    with receiver(answer, ack("AA")) as ehr:
        made = sender(outbox, ehr.port, timeout=0.5)
        made.step()
        assert end(outbox) == ("PENDING", Delivery.NO_ANSWER, None)
        outbox.now += 60
        made.step()
    assert ehr.messages[0] == ehr.messages[1]
    assert end(outbox) == ("DELIVERED", None, 0)


def test_nobody_there_is_unreachable_and_given_up_after_its_time(outbox: Outbox) -> None:
    made = sender(outbox, free_port(), retry_for=DAY)
    made.step()
    assert end(outbox) == ("PENDING", Delivery.UNREACHABLE, None)
    outbox.now += DAY + 1
    made.step()
    assert end(outbox) == ("FAILED", Delivery.GIVEN_UP, None)


def test_one_connection_serves_many_messages_and_a_closed_one_is_replaced(outbox: Outbox) -> None:
    waiting(outbox, "hl7", MESSAGE.replace(b"0123456789", b"9876543210"), uid="1.2")
    with receiver() as ehr:
        made = sender(outbox, ehr.port)
        made.step()
        assert len(ehr.connections) == 1
        ehr.connections[0].shutdown(socket.SHUT_RDWR)
        waiting(outbox, "hl7", MESSAGE, uid="1.3")
        made.step()
        assert len(ehr.connections) == 2
    assert len({control_of(message) for message in ehr.messages}) == 2
    assert {row["state"] for row in outbox.ledger.rows()} == {State.COMMITTED}


def test_unreachable_receiver_costs_one_connection_however_much_is_waiting(outbox: Outbox) -> None:
    for number in range(2, 6):
        waiting(outbox, "hl7", MESSAGE, uid=f"1.{number}")
    with receiver(cut) as ehr:
        sender(outbox, ehr.port).step()
    assert len(ehr.messages) == 1


def test_operator_who_repaired_the_receiver_retries(outbox: Outbox) -> None:
    with receiver(ack("AR"), ack("AA")) as ehr:
        made = sender(outbox, ehr.port)
        made.step()
        assert outbox.ledger.retry(1, outbox.now)
        made.step()
    assert end(outbox) == ("DELIVERED", None, 0)


# What is not sent


def test_an_ecg_without_a_patient_id_is_told_to_nobody(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "none")
    waiting(outbox, "hl7", b"")
    with receiver() as ehr:
        sender(outbox, ehr.port).step()
    assert ehr.connections == []
    assert end(outbox) == ("FAILED", Delivery.NO_PATIENT_ID, None)
    outbox.close()


def test_a_name_that_the_character_set_cannot_write_is_not_sent(outbox: Outbox) -> None:
    with receiver() as ehr:
        sender(outbox, ehr.port, character_set="ASCII").step()
    assert ehr.messages == []
    assert end(outbox) == ("FAILED", Delivery.NOT_ENCODABLE, None)


def test_a_destination_gets_its_character_set_and_no_page_if_it_wants_none(outbox: Outbox) -> None:
    with receiver() as ehr:
        sender(outbox, ehr.port, character_set="8859/1", pdf=False).step()
    text = ehr.messages[0].decode("iso-8859-1")
    assert "Müller" in text
    assert "|8859/1\r" in text
    assert "|ED|" not in text


def test_damaged_bytes_are_not_sent(outbox: Outbox) -> None:
    for path in (outbox.folder / "spool").iterdir():
        path.write_bytes(b"\0" * path.stat().st_size)
    with receiver() as ehr:
        sender(outbox, ehr.port).step()
    assert ehr.messages == []
    assert end(outbox) == ("FAILED", Delivery.BYTES_LOST, None)


def test_every_character_set_of_the_settings_has_a_codec() -> None:
    annotation = Hl7.model_fields["character_set"].annotation
    assert set(annotation.__args__) == set(CODECS)  # type: ignore[union-attr]
    assert all("A".encode(codec) == b"A" for codec in CODECS.values())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"hl7": [{"host": "h", "port": 1}, {"host": "h", "port": 1}]}, "the same name"),
        (
            {
                "hl7": [{"name": "PACS", "host": "h", "port": 1}],
                "destinations": [{"ae_title": "PACS", "host": "h", "port": 104}],
            },
            "the same name",
        ),
        ({"hl7": [{"host": "h", "port": 1, "commitment": True}]}, "commitment"),
        ({"hl7": [{"host": "h", "port": 1, "tls": True}]}, "section tls names no certificate"),
        ({"fhir": [{"url": "ftp://h/fhir"}]}, "url"),
    ],
)
def test_settings_that_could_never_deliver_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Settings(**wrong)


# TLS


def test_mutual_tls_delivers_and_a_plain_port_is_no_tls_port(
    outbox: Outbox, tmp_path: Path
) -> None:
    ours = Authority.new(tmp_path, "ours")
    keys = Tls(**ours.vouch("node"))
    context = server(Tls(**ours.vouch("ehr")))

    def secure(peer: socket.socket) -> ssl.SSLSocket:
        return context.wrap_socket(peer, server_side=True)

    with receiver() as plain:
        sender(outbox, plain.port, keys, timeout=3.0).step()
        assert end(outbox) == ("PENDING", Delivery.INSECURE, None)
    outbox.now += 60
    with receiver(secure=secure) as ehr:
        sender(outbox, ehr.port, keys).step()
    assert len(ehr.messages) == 1
    assert end(outbox) == ("DELIVERED", None, 0)


# The node


def settings_for(port: int) -> dict[str, str]:
    return {
        "WORK__WORKERS": "1",
        "HL7": f'[{{"name":"EHR","host":"127.0.0.1","port":{port},"retry_first":0.3}}]',
    }


def test_node_tells_its_results_beside_the_pacs(make_node: Callable[..., Node], pacs: Pacs) -> None:
    with receiver() as ehr:
        node = make_node(destinations={"PACS": pacs.port}, overrides=settings_for(ehr.port))
        node.start()
        assert push(node.address, cart_ecg("told")) == [0]
        assert node.settled(1)
        (row,) = node.rows()
        assert (row["state"], len(pacs.files), len(ehr.messages)) == (State.COMMITTED, 3, 1)
        assert "takes connections" in node.command("check").stdout
    assert b"PID|1||642341^^^^PI" in ehr.messages[0]


@pytest.mark.parametrize("point", ["mid_delivery", "before_commit", "after_report"])
def test_node_killed_in_between_sends_exactly_the_same_message_once_more(
    make_node: Callable[..., Node], point: str
) -> None:
    with receiver() as ehr:
        node = make_node(overrides=settings_for(ehr.port), failpoint=f"{point}:kill")
        node.start()
        assert push(node.address, cart_ecg(f"killed-{point}")) == [0]
        assert poll(lambda: "process_died" in node.log, 20)
        node.kill()
        before = len(ehr.messages)
        node.failpoint = ""
        node.start()
        assert node.settled(1)
        assert [row["state"] for row in node.rows()] == [State.COMMITTED]
    assert len(ehr.messages) == before + 1
    assert len(set(ehr.messages)) == 1


def test_node_keeps_the_message_for_a_receiver_that_is_down(
    make_node: Callable[..., Node],
) -> None:
    port = free_port()
    node = make_node(overrides=settings_for(port)).start()
    assert push(node.address, cart_ecg("down")) == [0]
    assert poll(lambda: Delivery.UNREACHABLE in node.log, 20)
    with receiver(port=port) as ehr:
        assert node.settled(1)
    assert len(ehr.messages) == 1


def test_node_without_the_patients_id_says_why_it_told_nobody(
    make_node: Callable[..., Node], pacs: Pacs
) -> None:
    with receiver() as ehr:
        node = make_node(destinations={"PACS": pacs.port}, overrides=settings_for(ehr.port))
        node.start()
        assert push(node.address, cart_ecg("nameless", PatientID="")) == [0]
        assert node.settled(1)
        (row,) = node.rows()
    assert (row["state"], row["reason"]) == (State.FAILED, Delivery.NO_PATIENT_ID)
    assert (len(pacs.files), ehr.messages) == (3, [])
