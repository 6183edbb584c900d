"""The audit trail at a syslog server: all of it, in order, whatever the server does meanwhile."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from collector import Collector, sent_to
from defusedxml.ElementTree import fromstring
from keys import Authority
from node import free_port
from office import Desk, opened

from dicom_node.ledger import Event
from training.admin.forward import BATCH, forward


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with opened(tmp_path / "data") as made:
        yield made


def happen(desk: Desk, count: int) -> None:
    for number in range(count):
        desk.office.ledger.record(Event(event="label", detail=f'{{"n": {number}}}'), 1.0 + number)


def test_outage_loses_nothing_and_repeats_nothing(desk: Desk, port: int) -> None:
    sent_to(desk, port=port, tls=False)
    happen(desk, 3)
    with pytest.raises(ConnectionError):
        forward(desk.office)
    happen(desk, BATCH)
    with Collector(port) as server:
        assert [forward(desk.office) for _ in range(3)] == [BATCH, 3, 0]
        messages = server.messages
    assert len(messages) == BATCH + 3
    assert all(message.startswith("<85>1 ") for message in messages)
    rows = [fromstring(text[text.index("<AuditMessage>") :]) for text in messages]
    names = [row.find("ParticipantObjectIdentification").get("ParticipantObjectID") for row in rows]
    assert names == [f"audit row {number}" for number in range(1, BATCH + 4)]


def test_only_a_server_that_is_trusted_gets_it(desk: Desk, port: int, tmp_path: Path) -> None:
    authority = Authority.new(tmp_path, "authority")
    other = Authority.new(tmp_path, "other")
    files = authority.vouch("syslog")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files["certificate"], files["private_key"])
    happen(desk, 2)
    with Collector(port, context) as server:
        sent_to(desk, port=port, trusted_certificates=other.certificate)
        with pytest.raises(ssl.SSLError):
            forward(desk.office)
        assert server.data == b""
        sent_to(desk, port=port, trusted_certificates=authority.certificate)
        assert forward(desk.office) == 2
        assert len(server.messages) == 2


def test_without_a_server_nothing_goes_out(desk: Desk) -> None:
    happen(desk, 1)
    assert forward(desk.office) == 0
