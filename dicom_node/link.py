"""An association as its user: one blocking socket, no threads, nothing polled.

pynetdicom gives the PDUs and messages (PS3.8 §9.3, PS3.7 §9.3); its own associations are driven
by two polling threads that add a millisecond or two to every step, share the answers between
them, and choose the transfer syntax that the peer likes best.
"""

import select
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType
from typing import Any, Final, Self

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.dimse_messages import (
    C_ECHO_RQ,
    C_FIND_RQ,
    C_MOVE_RQ,
    C_STORE_RQ,
    N_ACTION_RQ,
    N_EVENT_REPORT_RQ,
    N_EVENT_REPORT_RSP,
    DIMSEMessage,
)
from pynetdicom.dimse_primitives import C_ECHO, C_FIND, C_MOVE, C_STORE, N_ACTION, N_EVENT_REPORT
from pynetdicom.dsutils import decode, encode
from pynetdicom.pdu import (
    A_ABORT_RQ,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    A_ASSOCIATE_RQ,
    A_RELEASE_RQ,
    P_DATA_TF,
)
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext

from dicom_node.report.uids import IMPLEMENTATION_CLASS_UID
from dicom_node.settings import bracketed
from dicom_node.tls import Secure

SYNTAXES: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
"""What we propose, the best first; each is a context of its own, so that the choice is ours."""

VERIFICATION: Final = "1.2.840.10008.1.1"

_APPLICATION_CONTEXT: Final = UID("1.2.840.10008.3.1.1.1")
_AE_TITLE_LENGTH: Final = 16
_LAST_PORT: Final = 65535
_HEADER: Final = 6
_LARGEST_ANSWER: Final = 1 << 20  # bytes of a PDU: answers are short
_OUR_MAXIMUM: Final = 1 << 16
_MEDIUM: Final = 0  # Priority (0000,0700)
_PERMANENT: Final = 0x01
_UNRECOGNISED: Final = (0x01, 0x03)  # by the service user: calling AE title
_PENDING: Final = (0xFF00, 0xFF01)
_WARNING: Final = 0xB000  # sub-operations complete, some failed
_ACCEPTED, _REJECTED, _DATA = 0x02, 0x03, 0x04


class Unreachable(ConnectionError):
    """The peer does not answer, or does not let us in; the message says which."""


class NothingAccepted(Unreachable):
    """The peer accepts none of the SOP classes that were proposed."""


class Insecure(Unreachable):
    """The TLS handshake failed: one side does not trust the other."""


class Rejected(Unreachable):
    """The peer rejected the association."""

    def __init__(self, message: str, *, permanent: bool, unrecognised: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.unrecognised = unrecognised
        """Whether it does not know who calls (PS3.8 §9.3.4: calling AE title not recognized)."""


@dataclass(frozen=True, slots=True)
class Address:
    """A DICOM peer: AE title, host, port."""

    ae_title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address that ``AE@host:port`` means.

        Raises
        ------
        ValueError
            If it is none.
        """
        ae_title, at, where = text.partition("@")
        host, colon, port = where.rpartition(":")
        if not (
            at
            and colon
            and host
            and 0 < len(ae_title) <= _AE_TITLE_LENGTH
            and port.isdecimal()
            and 0 < int(port) <= _LAST_PORT
        ):
            raise ValueError(f"{text!r} is not AE@host:port, for example SINUSNODE@127.0.0.1:11112")
        return cls(ae_title, host.strip("[]"), int(port))

    def __str__(self) -> str:
        return f"{self.ae_title}@{bracketed(self.host)}:{self.port}"


class Unanswered(Unreachable):
    """The peer refused a request on an association, or stopped answering it."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Moved:
    """How far a C-MOVE is: its sub-operations."""

    remaining: int
    completed: int
    failed: int


class Link:
    """An established association; made by :func:`connect`.

    Parameters
    ----------
    stream
        Connected; its time-out is that of every answer.
    accepted
        The presentation context of each accepted SOP class that suits us best.
    largest
        Bytes of a P-DATA-TF that the peer takes; 0 = any.
    """

    def __init__(
        self, stream: socket.socket, accepted: Mapping[str, PresentationContext], largest: int
    ) -> None:
        self.accepted = accepted
        self.established = True
        self._stream = stream
        self._largest = largest
        self._sent = 0

    def echo(self) -> bool:
        """Return whether the peer answers C-ECHO with success."""
        request = C_ECHO()
        request.AffectedSOPClassUID = UID(VERIFICATION)
        return self._ask(request, C_ECHO_RQ()) == 0

    def store(
        self, sop_class: str, sop_instance: str, data_set: bytes, originator: str = ""
    ) -> int | None:
        """Return the C-STORE status; None where no answer came in time or the link broke.

        Parameters
        ----------
        sop_class, sop_instance
            What the command says; the class must be accepted.
        data_set
            Encoded in the transfer syntax of the accepted context.
        originator
            AE title on whose behalf it was retrieved, if it was (PS3.7 §9.1.1.1.5).
        """
        request = C_STORE()
        if originator:
            request.MoveOriginatorApplicationEntityTitle = originator
        request.AffectedSOPClassUID = UID(sop_class)
        request.AffectedSOPInstanceUID = UID(sop_instance)
        request.Priority = _MEDIUM
        request.DataSet = BytesIO(data_set)
        return self._ask(request, C_STORE_RQ())

    def action(
        self, sop_class: str, sop_instance: str, kind: int, information: Dataset
    ) -> int | None:
        """Return the N-ACTION status (PS3.7 §10.1.4); None where no answer came.

        Parameters
        ----------
        sop_class, sop_instance
            On which the action is asked; the class must be accepted.
        kind
            Action Type ID (0000,1008).
        """
        request = N_ACTION()
        request.RequestedSOPClassUID = UID(sop_class)
        request.RequestedSOPInstanceUID = UID(sop_instance)
        request.ActionTypeID = kind
        request.ActionInformation = self._encoded(sop_class, information)
        return self._ask(request, N_ACTION_RQ())

    def report(self, sop_class: str, sop_instance: str, kind: int, event: Dataset) -> int | None:
        """Return the N-EVENT-REPORT status (PS3.7 §10.1.1); None where no answer came.

        The association must have been made as a provider of the class.
        """
        request = N_EVENT_REPORT()
        request.AffectedSOPClassUID = UID(sop_class)
        request.AffectedSOPInstanceUID = UID(sop_instance)
        request.EventTypeID = kind
        request.EventInformation = self._encoded(sop_class, event)
        return self._ask(request, N_EVENT_REPORT_RQ())

    def find(self, model: str, identifier: Dataset) -> Iterator[Dataset]:
        """Yield what matches a C-FIND identifier (PS3.4 §C.4.1).

        Raises
        ------
        Unanswered
            If the peer fails, or stops answering.
        """
        request = C_FIND()
        request.AffectedSOPClassUID = UID(model)
        request.Priority = _MEDIUM
        request.Identifier = self._encoded(model, identifier)
        for answer in self._answers(request, C_FIND_RQ()):
            if answer.Status in _PENDING:
                yield self._decoded(model, answer.Identifier)

    def move(self, model: str, destination_ae: str, identifier: Dataset) -> Iterator[Moved]:
        """Yield how a C-MOVE goes on, the last time at its end (PS3.4 §C.4.2).

        Raises
        ------
        Unanswered
            If the peer fails, or stops answering.
        """
        request = C_MOVE()
        request.AffectedSOPClassUID = UID(model)
        request.Priority = _MEDIUM
        request.MoveDestination = destination_ae
        request.Identifier = self._encoded(model, identifier)
        for answer in self._answers(request, C_MOVE_RQ()):
            yield Moved(
                remaining=answer.NumberOfRemainingSuboperations or 0,
                completed=answer.NumberOfCompletedSuboperations or 0,
                failed=answer.NumberOfFailedSuboperations or 0,
            )

    def reports(self, seconds: float = 0.0) -> Iterator[tuple[int, Dataset]]:
        """Yield event type and information of each N-EVENT-REPORT that has come; each is answered.

        Parameters
        ----------
        seconds
            To wait for the first.
        """
        while self.established and self._readable(seconds):
            seconds = 0.0
            try:
                message = self._message()
            except OSError:
                message = None
            if not isinstance(message, N_EVENT_REPORT_RQ):
                self._close()
                return
            yield self._reported(message)

    def _reported(self, message: DIMSEMessage) -> tuple[int, Dataset]:
        event = message.message_to_primitive()
        answer = N_EVENT_REPORT()
        answer.MessageIDBeingRespondedTo = event.MessageID
        answer.AffectedSOPClassUID = event.AffectedSOPClassUID
        answer.AffectedSOPInstanceUID = event.AffectedSOPInstanceUID
        answer.EventTypeID = event.EventTypeID
        answer.Status = 0x0000
        self._say(answer, N_EVENT_REPORT_RSP(), message.context_id)
        sop_class = str(event.AffectedSOPClassUID)
        return int(event.EventTypeID), self._decoded(sop_class, event.EventInformation)

    def _ask(self, request: Any, message: DIMSEMessage) -> int | None:
        """Return the status of the answer to a request; without one the link is broken."""
        try:
            return int(next(self._exchange(request, message)).Status)
        except Unanswered:
            return None

    def _answers(self, request: Any, message: DIMSEMessage) -> Iterator[Any]:
        """Yield the answers to a request up to the final one; raise where that is a failure."""
        for answer in self._exchange(request, message):
            if answer.Status not in (*_PENDING, 0x0000, _WARNING):
                words = str(getattr(answer, "ErrorComment", None) or "")
                raise Unanswered(
                    f"the peer refused with status 0x{answer.Status:04X} {words}", answer.Status
                )
            yield answer

    def _exchange(self, request: Any, message: DIMSEMessage) -> Iterator[Any]:
        """Yield each answer to a request; a link that gives none is closed."""
        if not self.established or self._hung_up():
            self._close()
            raise Unanswered("the peer has closed the association")
        self._sent = self._sent % 0xFFFF + 1
        request.MessageID = self._sent
        number, pending = self._sent, True
        try:
            self._say(request, message, self._context_id(request))
            while pending:
                answer = self._answer_to(number)
                pending = answer.Status in _PENDING
                yield answer
        except OSError:
            self._close()
            raise Unanswered("the peer stopped answering") from None

    def _context_id(self, request: Any) -> int:
        uid = getattr(request, "RequestedSOPClassUID", None) or request.AffectedSOPClassUID
        return int(self.accepted[str(uid)].context_id)

    def _say(self, primitive: Any, message: DIMSEMessage, context_id: int) -> None:
        message.primitive_to_message(primitive)
        self._stream.sendall(b"".join(_encoded(message, context_id, self._largest)))

    def _encoded(self, sop_class: str, dataset: Dataset) -> BytesIO:
        syntax = self.accepted[sop_class].transfer_syntax[0]
        return BytesIO(encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian) or b"")

    def _decoded(self, sop_class: str, data: BytesIO) -> Dataset:
        syntax = self.accepted[sop_class].transfer_syntax[0]
        return decode(data, syntax.is_implicit_VR, syntax.is_little_endian)

    def _readable(self, seconds: float) -> bool:
        pending = isinstance(self._stream, ssl.SSLSocket) and self._stream.pending()
        return bool(pending or select.select([self._stream], [], [], seconds)[0])

    def _hung_up(self) -> bool:
        """Return whether the peer said something unasked: it released, aborted or closed."""
        if not self._readable(0.0):
            return False
        return not isinstance(self._stream, ssl.SSLSocket) or _said(self._stream)

    def _answer_to(self, number: int) -> Any:
        """Return the next answer. Raises OSError where it is to another message, or none."""
        message = self._message()
        answer = message and message.message_to_primitive()
        if answer is None or getattr(answer, "MessageIDBeingRespondedTo", None) != number:
            raise OSError("the peer ended the association, or answers something else")
        return answer

    def _message(self) -> DIMSEMessage | None:
        message = DIMSEMessage()
        while True:
            kind, encoded = _receive(self._stream)
            if kind != _DATA:
                return None
            data = P_DATA_TF()
            data.decode(encoded)
            if message.decode_msg(data.to_primitive()):
                return message

    def _close(self) -> None:
        self.established = False
        self._stream.close()

    def release(self) -> None:
        """End the association in order."""
        self._end(A_RELEASE_RQ().encode(), listen=True)

    def abort(self) -> None:
        """End the association at once."""
        abort = A_ABORT_RQ()
        abort.source, abort.reason_diagnostic = 0x00, 0x00
        self._end(abort.encode(), listen=False)

    def _end(self, last: bytes, *, listen: bool) -> None:
        if self.established:
            try:
                self._stream.sendall(last)
                if listen:
                    _receive(self._stream)
            except OSError:
                pass  # gone already
            self._close()


def _said(stream: ssl.SSLSocket) -> bool:
    """Return whether there is more to read than TLS's own records (session tickets)."""
    patience = stream.gettimeout()
    stream.settimeout(0)
    try:
        stream.recv(1)
    except ssl.SSLWantReadError:
        return False
    except OSError:
        return True
    finally:
        stream.settimeout(patience)
    return True


def connect(
    peer: Address,
    calling_ae: str,
    classes: Sequence[str],
    timeout: float,
    secure: Secure | None = None,
    *,
    provider: bool = False,
) -> Link:
    """Return an association on which these SOP classes were proposed.

    Parameters
    ----------
    timeout
        Seconds to wait for the connection, and for each answer.
    secure
        Turns the connection into TLS.
    provider
        Whether we are the provider of the classes (to report events), not their user.

    Raises
    ------
    Insecure
        If the TLS handshake fails.
    Rejected
        If the peer rejects it.
    NothingAccepted
        If it accepts none of the classes.
    Unreachable
        If it does not answer.
    """
    proposed = _proposal(classes)
    try:
        stream = socket.create_connection((peer.host, peer.port), timeout)
    except socket.gaierror:
        raise Unreachable(f"{peer} is not there: its host name has no address") from None
    except OSError:
        raise Unreachable(_silent(peer)) from None
    try:
        if secure is not None:
            stream = _secured(stream, peer, secure)
        request = _request(peer, calling_ae, proposed, classes if provider else ())
        return _associated(stream, peer, request, proposed)
    except BaseException:
        stream.close()
        raise


def _secured(stream: socket.socket, peer: Address, secure: Secure) -> ssl.SSLSocket:
    try:
        return secure(stream)
    except ssl.SSLCertVerificationError as error:
        raise Insecure(
            f"{peer} shows a certificate that is not trusted: {error.verify_message}"
        ) from None
    except OSError:
        raise Insecure(f"{peer} does not agree on TLS: is it a TLS port?") from None


def _silent(peer: Address) -> str:
    return f"{peer} does not answer: is it running, and are host and port right?"


def _proposal(classes: Sequence[str]) -> list[PresentationContext]:
    pairs = [(uid, syntax) for uid in classes for syntax in SYNTAXES]
    proposed = []
    for number, (uid, syntax) in enumerate(pairs):
        context = build_context(uid, [syntax])
        context.context_id = 2 * number + 1
        proposed.append(context)
    return proposed


def _associated(
    stream: socket.socket, peer: Address, request: bytes, proposed: list[PresentationContext]
) -> Link:
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        stream.sendall(request)
        kind, encoded = _receive(stream)
    except OSError:
        raise Unreachable(_silent(peer)) from None
    if kind == _REJECTED:
        rejection = A_ASSOCIATE_RJ()
        rejection.decode(encoded)
        why = f"{rejection.result_str}, {rejection.reason_str}".lower()
        raise Rejected(
            f"{peer} rejected the association: {why}",
            permanent=rejection.result == _PERMANENT,
            unrecognised=(rejection.source, rejection.reason_diagnostic) == _UNRECOGNISED,
        )
    if kind != _ACCEPTED:
        raise Unreachable(_silent(peer))
    acceptance = A_ASSOCIATE_AC()
    acceptance.decode(encoded)
    answer = acceptance.to_primitive()
    accepted = _suited(proposed, answer)
    link = Link(stream, accepted, answer.maximum_length_received or 0)
    if not accepted:
        link.release()
        raise NothingAccepted(f"{peer} accepts none of the SOP classes offered")
    return link


def _request(
    peer: Address, calling_ae: str, proposed: list[PresentationContext], provided: Sequence[str]
) -> bytes:
    maximum, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    maximum.maximum_length_received = _OUR_MAXIMUM
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    primitive = A_ASSOCIATE()
    primitive.application_context_name = _APPLICATION_CONTEXT
    primitive.calling_ae_title = calling_ae
    primitive.called_ae_title = peer.ae_title
    primitive.presentation_context_definition_list = proposed
    primitive.user_information = [maximum, implementation, *map(_provider_role, provided)]
    request = A_ASSOCIATE_RQ()
    request.from_primitive(primitive)
    encoded: bytes = request.encode()
    return encoded


def _provider_role(sop_class: str) -> SCP_SCU_RoleSelectionNegotiation:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid = UID(sop_class)
    role.scu_role, role.scp_role = False, True
    return role


def _suited(
    proposed: list[PresentationContext], answer: A_ASSOCIATE
) -> Mapping[str, PresentationContext]:
    """Return of each class the first accepted context: ours come the best first."""
    agreed = {
        item.context_id
        for item in answer.presentation_context_definition_results_list
        if item.result == 0
    }
    found: dict[str, PresentationContext] = {}
    for context in proposed:
        if context.context_id in agreed:
            found.setdefault(str(context.abstract_syntax), context)
    return MappingProxyType(found)


def _encoded(message: DIMSEMessage, context_id: int, largest: int) -> Iterator[bytes]:
    for data in message.encode_msg(context_id, largest):
        pdu = P_DATA_TF()
        pdu.from_primitive(data)
        yield pdu.encode()


def _receive(stream: socket.socket) -> tuple[int, bytes]:
    """Return type and bytes of the next PDU.

    Raises
    ------
    OSError
        If it is not whole within the time-out, or longer than any answer.
    """
    end = time.monotonic() + (stream.gettimeout() or 0.0)
    header = _exactly(stream, _HEADER, end)
    length = int.from_bytes(header[2:], "big")
    if length > _LARGEST_ANSWER:
        raise OSError("the answer is longer than an answer can be")
    return header[0], header + _exactly(stream, length, end)


def _exactly(stream: socket.socket, count: int, end: float) -> bytes:
    data = bytearray()
    while len(data) < count:
        if time.monotonic() > end:
            raise TimeoutError("the answer did not come in time")
        chunk = stream.recv(count - len(data))
        if not chunk:
            raise ConnectionResetError("the peer closed the connection")
        data += chunk
    return bytes(data)
