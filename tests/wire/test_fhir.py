"""FHIR transactions to servers that misbehave: each ends in its state, nothing is made twice."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cart import cart_ecg, push
from node import Node, free_port, poll
from outbox import Outbox
from receivers import FhirServer, fhir_server, waiting

from dicom_node.fhir import FhirSender
from dicom_node.ledger import State
from dicom_node.pacs import Pacs
from dicom_node.reasons import Delivery
from dicom_node.settings import Fhir

BUNDLE = json.dumps(
    {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "resource": {"resourceType": kind},
                "request": {"method": "POST", "url": kind, "ifNoneExist": f"identifier=u|{kind}"},
            }
            for kind in ("Device", "Observation", "DiagnosticReport")
        ],
    }
).encode()
DAY = 86_400.0


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """Return an outbox in which one transaction waits for EHR."""
    made = Outbox(tmp_path / "data")
    waiting(made, "fhir", BUNDLE)
    yield made
    made.close()


def sender(outbox: Outbox, url: str, **changes: Any) -> FhirSender:
    destination = Fhir(**{"name": "EHR", "url": url, "timeout": 5.0} | changes)
    made = FhirSender(
        destination, ledger=outbox.ledger, spool=outbox.spool, clock=lambda: outbox.now
    )
    outbox.senders.append(made)  # type: ignore[arg-type]  # closed with the others
    return made


def end(outbox: Outbox) -> tuple[str, str | None, int | None]:
    return outbox.ends()["fhir"]


def test_transaction_is_posted_to_the_base_as_fhir_json(outbox: Outbox, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret-1\n")
    with fhir_server() as ehr:
        assert sender(outbox, ehr.url, token_file=token).step()
    assert ehr.transactions == [BUNDLE]
    assert ehr.headers[0]["Content-Type"] == "application/fhir+json; fhirVersion=4.0"
    assert ehr.headers[0]["Authorization"] == "Bearer secret-1"
    assert end(outbox) == ("DELIVERED", None, 200)
    assert outbox.queue()["state"] == State.COMMITTED


@pytest.mark.parametrize("status", [400, 404, 412, 415, 422])
def test_transaction_that_is_refused_fails_at_once_and_visibly(outbox: Outbox, status: int) -> None:
    with fhir_server((status, b'{"resourceType":"OperationOutcome"}')) as ehr:
        made = sender(outbox, ehr.url)
        made.step()
        outbox.now += DAY
        assert not made.step()
    assert end(outbox) == ("FAILED", Delivery.REFUSED, status)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_an_operators_matter(outbox: Outbox, status: int) -> None:
    with fhir_server((status, b"")) as ehr:
        made = sender(outbox, ehr.url)
        made.step()
        assert end(outbox) == ("FAILED", Delivery.CREDENTIALS, status)
        assert outbox.ledger.retry(1, outbox.now)
        made.step()
    assert end(outbox) == ("DELIVERED", None, 200)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_server_in_trouble_gets_the_same_transaction_later(outbox: Outbox, status: int) -> None:
    with fhir_server((status, b"busy")) as ehr:
        made = sender(outbox, ehr.url)
        made.step()
        assert end(outbox) == ("PENDING", Delivery.OUT_OF_RESOURCES, status)
        assert not made.step()
        outbox.now += 60
        made.step()
    assert ehr.transactions == [BUNDLE, BUNDLE]
    assert end(outbox) == ("DELIVERED", None, 200)


def entries(*statuses: str) -> bytes:
    made = [{"response": {"status": status}} for status in statuses]
    return json.dumps({"type": "transaction-response", "entry": made}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Sign in</html>",
        b"{}",
        b"[]",
        b'{"resourceType":"Bundle","type":"batch-response","entry":[]}',
        entries("201", "201"),
        entries("201", "201", "422 Unprocessable"),
    ],
)
def test_answer_that_does_not_list_every_resource_is_no_answer(outbox: Outbox, body: bytes) -> None:
    with fhir_server((200, body)) as ehr:
        made = sender(outbox, ehr.url)
        made.step()
        assert end(outbox) == ("PENDING", Delivery.WRONG_ANSWER, 200)
        outbox.now += 60
        made.step()
    assert end(outbox) == ("DELIVERED", None, 200)


def test_server_that_cuts_the_connection_after_its_work_makes_nothing_twice(
    outbox: Outbox,
) -> None:
    with fhir_server() as ehr:
        made = sender(outbox, ehr.url)
        ehr.after = _broken(ehr)
        made.step()
        assert end(outbox) == ("PENDING", Delivery.NO_ANSWER, None)
        assert len(ehr.resources) == 3
        outbox.now += 60
        made.step()
    assert ehr.transactions == [BUNDLE, BUNDLE]
    assert len(ehr.resources) == 3
    assert end(outbox) == ("DELIVERED", None, 200)


def _broken(ehr: FhirServer) -> Callable[[], object]:
    def once() -> None:
        ehr.after = lambda: None
        raise ConnectionResetError

    return once


def test_server_that_cuts_the_connection_before_its_work_gets_it_later(outbox: Outbox) -> None:
    with fhir_server(None) as ehr:
        made = sender(outbox, ehr.url)
        made.step()
        assert end(outbox) == ("PENDING", Delivery.NO_ANSWER, None)
        outbox.now += 60
        made.step()
    assert end(outbox) == ("DELIVERED", None, 200)


def test_server_that_never_answers_is_no_answer(outbox: Outbox) -> None:
    with fhir_server() as ehr:
        ehr.after = lambda: poll(lambda: False, 2.0)
        sender(outbox, ehr.url, timeout=0.5).step()
    assert end(outbox) == ("PENDING", Delivery.NO_ANSWER, None)


def test_nobody_there_is_unreachable_and_given_up_after_its_time(outbox: Outbox) -> None:
    made = sender(outbox, f"http://127.0.0.1:{free_port()}/fhir")
    made.step()
    assert end(outbox) == ("PENDING", Delivery.UNREACHABLE, None)
    outbox.now += 8 * DAY
    made.step()
    assert end(outbox) == ("FAILED", Delivery.GIVEN_UP, None)


def test_plain_port_is_no_tls_port(outbox: Outbox) -> None:
    with fhir_server() as ehr:
        sender(outbox, ehr.url.replace("http:", "https:")).step()
    assert end(outbox) == ("PENDING", Delivery.INSECURE, None)


def test_an_ecg_without_a_patient_id_is_told_to_nobody(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "none")
    waiting(outbox, "fhir", b"")
    with fhir_server() as ehr:
        sender(outbox, ehr.url).step()
    assert ehr.transactions == []
    assert end(outbox) == ("FAILED", Delivery.NO_PATIENT_ID, None)
    outbox.close()


# The node


def settings_for(port: int) -> dict[str, str]:
    url = f"http://127.0.0.1:{port}/fhir"
    return {
        "WORK__WORKERS": "1",
        "FHIR": f'[{{"name":"EHR","url":"{url}","retry_first":0.3}}]',
    }


def test_node_tells_its_results_beside_the_pacs_and_checks_the_server(
    make_node: Callable[..., Node], pacs: Pacs
) -> None:
    with fhir_server() as ehr:
        node = make_node(destinations={"PACS": pacs.port}, overrides=settings_for(ehr.port))
        node.start()
        assert push(node.address, cart_ecg("told")) == [0]
        assert node.settled(1)
        (row,) = node.rows()
        assert (row["state"], len(pacs.files), len(ehr.transactions)) == (State.COMMITTED, 3, 1)
        assert "EHR answers 200" in node.command("check").stdout
    (report,) = [r for r in ehr.resources.values() if r["resourceType"] == "DiagnosticReport"]
    assert report["subject"]["identifier"]["value"] == "642341"


@pytest.mark.parametrize("point", ["mid_delivery", "before_commit"])
def test_node_killed_in_between_makes_nothing_twice(
    make_node: Callable[..., Node], point: str
) -> None:
    with fhir_server() as ehr:
        node = make_node(overrides=settings_for(ehr.port), failpoint=f"{point}:kill")
        node.start()
        assert push(node.address, cart_ecg(f"fhir-{point}")) == [0]
        assert poll(lambda: "process_died" in node.log, 20)
        node.kill()
        made, sent = dict(ehr.resources), len(ehr.transactions)
        node.failpoint = ""
        node.start()
        assert node.settled(1)
    assert made == ehr.resources
    assert len(ehr.transactions) == sent + 1
    assert len(set(ehr.transactions)) == 1
