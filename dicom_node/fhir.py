"""Delivery to a FHIR R4 server: one transaction for each ECG, made twice without harm."""

import json
from http import HTTPStatus
from typing import Any, Final

from dicom_node.deliver import Clock, End, Failure
from dicom_node.dicomweb import Client, body_of, of_http, unreachable
from dicom_node.ledger import Ledger
from dicom_node.link import Unreachable
from dicom_node.messages import Messenger
from dicom_node.reasons import Delivery
from dicom_node.settings import Fhir
from dicom_node.spool import Spool

FHIR: Final = "application/fhir+json"

_ANSWER: Final = 32 * 2**20  # bytes
_DONE: Final = ("200", "201")


class Server(Client):
    """Calls one FHIR server; keeps its connection until closed."""

    def transact(self, bundle: bytes) -> tuple[int, bytes]:
        """Return HTTP status and body of the answer to a transaction.

        Raises
        ------
        Unreachable
            If no whole answer comes.
        """
        headers = {"Content-Type": f"{FHIR}; fhirVersion=4.0", "Accept": FHIR}
        with self._answer("POST", "", content=bundle, headers=headers) as answer:
            return answer.status_code, body_of(answer, _ANSWER)

    def describe(self) -> int:
        """Return the HTTP status of asking for its CapabilityStatement.

        Raises
        ------
        Unreachable
            If no answer comes.
        """
        with self._answer("GET", "/metadata", headers={"Accept": FHIR}) as answer:
            return answer.status_code


def concluded(status: int, body: bytes, entries: int) -> End:
    """Return what the answer to a transaction of so many entries means (FHIR R4 §3.1.0.11)."""
    if status == HTTPStatus.OK:
        done = _is_done(body, entries)
        return status if done else Failure(Delivery.WRONG_ANSWER, permanent=False, status=status)
    if status == HTTPStatus.CONFLICT:  # with another transaction at the same time
        return Failure(Delivery.OUT_OF_RESOURCES, permanent=False, status=status)
    return of_http(status)


def _is_done(body: bytes, entries: int) -> bool:
    """Return whether every resource was created, or was there."""
    try:
        bundle: Any = json.loads(body)
        statuses = [str(entry["response"]["status"])[:3] for entry in bundle["entry"]]
        kind = bundle["type"]
    except (ValueError, LookupError, TypeError):
        return False
    done = [status for status in statuses if status in _DONE]
    return kind == "transaction-response" and len(done) == len(statuses) == entries


class FhirSender(Messenger):
    """Delivers by transactions.

    Parameters
    ----------
    destination
        Where to.
    ledger, spool, clock
        As for every courier.
    """

    def __init__(self, destination: Fhir, *, ledger: Ledger, spool: Spool, clock: Clock) -> None:
        super().__init__(destination, ledger=ledger, spool=spool, clock=clock)
        self._server = Server(destination)

    def close(self) -> None:
        """Let go of the connection."""
        self._server.close()

    def _tell(self, message: bytes) -> End:
        try:
            status, body = self._server.transact(message)
        except Unreachable as error:
            return unreachable(error)
        return concluded(status, body, len(json.loads(message)["entry"]))
