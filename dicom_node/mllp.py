"""Delivery as HL7 v2 over MLLP: one connection, one message, one acknowledgement at a time.

A message is the same each time it is sent, its control id too, so that a receiver knows a second
copy for what it is.

References
----------
HL7 v2.5.1 §2.9.2 (original mode), tables 0008 and 0357; MLLP release 1.
"""

import re
import socket
import time
from typing import Final

from dicom_node.deliver import Clock, End, Failure
from dicom_node.ledger import Ledger
from dicom_node.link import Insecure, Unanswered, Unreachable
from dicom_node.messages import Messenger
from dicom_node.reasons import Delivery
from dicom_node.report.oru import Address, addressed, control_id
from dicom_node.settings import Hl7
from dicom_node.spool import Spool
from dicom_node.tls import Secure

START: Final = b"\x0b"
END: Final = b"\x1c\r"

CODECS: Final = {
    "UNICODE UTF-8": "utf-8",
    "8859/1": "iso-8859-1",
    "8859/2": "iso-8859-2",
    "8859/15": "iso-8859-15",
    "ASCII": "ascii",
}
"""Character sets (table 0211) by what Python calls them."""

_ANSWER: Final = 2**20  # bytes
_CHUNK: Final = 2**16
_ACCEPTED: Final = ("AA", "CA")
_REFUSED: Final = ("AE", "AR", "CE", "CR")
_FOR_NOW: Final = (206, 207)  # application record locked, application internal error


class Connection:
    """One MLLP connection.

    Parameters
    ----------
    stream
        Open, and secured where that is wanted.
    timeout
        Seconds for a message and its whole answer.
    """

    def __init__(self, stream: socket.socket, timeout: float) -> None:
        self._stream = stream
        self._timeout = timeout

    def close(self) -> None:
        """Close it."""
        self._stream.close()

    def exchange(self, message: bytes) -> bytes:
        """Return the answer to a message, without its frame.

        Raises
        ------
        Unanswered
            If no whole answer comes in time.
        """
        end = time.monotonic() + self._timeout
        try:
            self._stream.settimeout(self._timeout)
            self._stream.sendall(START + message + END)
            return self._received(end)
        except OSError:
            raise Unanswered("the receiver stopped answering") from None

    def _received(self, end: float) -> bytes:
        block = b""
        while END not in block:
            self._stream.settimeout(max(end - time.monotonic(), 0.001))
            chunk = self._stream.recv(_CHUNK)
            block += chunk
            if not chunk or len(block) > _ANSWER:
                raise Unanswered("the receiver did not answer with one whole message")
        return block.partition(END)[0].lstrip(START)


def connect(peer: Hl7, secure: Secure | None) -> Connection:
    """Return a connection to a receiver.

    Raises
    ------
    Insecure
        If the TLS handshake fails.
    Unreachable
        If it does not answer.
    """
    try:
        stream = socket.create_connection((peer.host, peer.port), peer.timeout)
    except OSError:
        raise Unreachable(f"{peer.name} does not answer at {peer.host}:{peer.port}") from None
    if secure is None:
        return Connection(stream, peer.timeout)
    try:
        return Connection(secure(stream), peer.timeout)
    except OSError:
        stream.close()
        raise Insecure(f"{peer.name} and this node do not agree on TLS") from None


def acknowledged(answer: bytes, control: str) -> End:
    """Return what an acknowledgement means for the message with this control id.

    What is refused stays refused (AE: the message is wrong; AR: the receiver will not have it),
    unless the receiver says that it was its own trouble and will pass (206, 207).
    """
    segments = _segments(answer)
    code, named = (*segments.get("MSA", []), "", "", "")[1:3]
    if named != control or code not in (*_ACCEPTED, *_REFUSED):
        return Failure(Delivery.WRONG_ANSWER, permanent=False)
    if code in _ACCEPTED:
        return 0
    condition = _condition(segments)
    if condition in _FOR_NOW:
        return Failure(Delivery.OUT_OF_RESOURCES, permanent=False, status=condition)
    return Failure(Delivery.REFUSED, permanent=True, status=condition)


def _segments(answer: bytes) -> dict[str, list[str]]:
    """Return the fields of the first segment of each name; none where it is no message."""
    text = answer.decode("iso-8859-1")  # what is looked at is ASCII
    if not re.match(r"MSH[^\w\s]", text):
        return {}
    separator = text[3]
    lines = [line.split(separator) for line in re.split(r"[\r\n]+", text) if line]
    return {fields[0]: fields for fields in reversed(lines)}


def _condition(segments: dict[str, list[str]]) -> int | None:
    """Return the error condition (table 0357): ERR-3, before v2.5 MSA-6 or ERR-1."""
    error, ack = segments.get("ERR", []), segments.get("MSA", [])
    said = [fields[place] for fields, place in ((error, 3), (ack, 6), (error, 1))
            if len(fields) > place]  # fmt: skip
    found = (re.search(r"(?<!\d)[12]0\d(?!\d)", words) for words in said)
    return next((int(match[0]) for match in found if match), None)


class MllpSender(Messenger):
    """Delivers by HL7 v2 over MLLP.

    Parameters
    ----------
    destination
        Where to, and as whom.
    ledger, spool, clock
        As for every courier.
    secure
        Turns the connection into TLS.
    """

    def __init__(
        self,
        destination: Hl7,
        *,
        ledger: Ledger,
        spool: Spool,
        clock: Clock,
        secure: Secure | None = None,
    ) -> None:
        super().__init__(destination, ledger=ledger, spool=spool, clock=clock)
        self._destination = destination
        self._secure = secure
        self._connection: Connection | None = None

    def close(self) -> None:
        """Close the connection, if one is open."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _tell(self, message: bytes) -> End:
        try:
            wanted = self._addressed(message)
        except UnicodeEncodeError:
            return Failure(Delivery.NOT_ENCODABLE, permanent=True)
        control, reused = control_id(message), self._connection is not None
        end = self._try(wanted, control)
        if reused and isinstance(end, Failure) and end.reason is Delivery.NO_ANSWER:
            end = self._try(wanted, control)  # the receiver had closed the idle connection
        return end

    def _addressed(self, message: bytes) -> bytes:
        wanted = self._destination
        address = Address(
            sending_application=wanted.sending_application,
            sending_facility=wanted.sending_facility,
            receiving_application=wanted.receiving_application,
            receiving_facility=wanted.receiving_facility,
            character_set=wanted.character_set,
            page=wanted.pdf,
        )
        return addressed(message, address, CODECS[wanted.character_set])

    def _try(self, message: bytes, control: str) -> End:
        try:
            end = acknowledged(self._open().exchange(message), control)
        except Insecure:
            end = Failure(Delivery.INSECURE, permanent=False)
        except Unanswered:
            end = Failure(Delivery.NO_ANSWER, permanent=False)
        except Unreachable:
            end = Failure(Delivery.UNREACHABLE, permanent=False)
        if isinstance(end, Failure) and not end.permanent:
            self.close()
        return end

    def _open(self) -> Connection:
        if self._connection is None:
            self._connection = connect(self._destination, self._secure)
        return self._connection
