"""The node as a caller: C-ECHO, and C-STORE of files as they are, as a cart does it."""

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Self

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, dsutils
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext

from dicom_node.receive import VERIFICATION, WAVEFORMS

_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_AE_TITLE_LENGTH = 16
_MEDIUM: Final = 0  # Priority (0000,0700)
_REJECTED_PERMANENT: Final = 0x01
_LAST_PORT = 65535


class Unreachable(ConnectionError):
    """The peer does not answer, or does not let us in; the message says which."""


class NothingAccepted(Unreachable):
    """The peer accepts none of the SOP classes that were proposed."""


class Rejected(Unreachable):
    """The peer rejected the association."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


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
        return f"{self.ae_title}@{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one file."""

    file: Path
    status: int | None
    """C-STORE status, None where there was no answer or nothing to send."""
    message: str
    milliseconds: float

    @property
    def ok(self) -> bool:
        """Whether the peer took it."""
        return self.status == 0


class Link:
    """An association that stores: one object at a time, its answer read by whoever sent it.

    pynetdicom's own `send_c_store` shares the answers with a background thread, which at times
    takes one for itself, and leaves Nagle's algorithm on, which holds each message back.

    Parameters
    ----------
    association
        Established.
    """

    def __init__(self, association: Association) -> None:
        self._association = association
        self._dimse = association.dimse
        self._take = self._dimse.get_msg
        self._dimse.get_msg = self._for_the_reactor
        association._reactor_checkpoint.clear()  # noqa: SLF001 - that thread has nothing to do
        self._sent = 0
        self.accepted: Mapping[str, PresentationContext] = {
            str(context.abstract_syntax): context
            for context in sorted(
                association.accepted_contexts, key=lambda item: -_preference(item)
            )
        }
        """The presentation context of each accepted SOP class that suits us best."""
        stream = association.dul.socket.socket
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _for_the_reactor(self, block: bool = False) -> Any:  # noqa: FBT001, FBT002 - its signature
        return self._take(block) if block else (None, None)

    @property
    def established(self) -> bool:
        """Whether the peer is still there, as far as is known."""
        return bool(self._association.is_established)

    def echo(self) -> bool:
        """Return whether the peer answers C-ECHO."""
        return bool(self._association.send_c_echo().get("Status") == 0)

    def store(self, sop_class: str, sop_instance: str, data_set: bytes) -> int | None:
        """Return the C-STORE status; None where no answer came in time or the link broke.

        Parameters
        ----------
        sop_class, sop_instance
            What the command says; the class must be accepted.
        data_set
            Encoded in the transfer syntax of the accepted context.
        """
        if not self.established:
            return None
        self._sent = self._sent % 0xFFFF + 1
        request = C_STORE()
        request.MessageID = self._sent
        request.AffectedSOPClassUID = UID(sop_class)
        request.AffectedSOPInstanceUID = UID(sop_instance)
        request.Priority = _MEDIUM
        request.DataSet = BytesIO(data_set)
        self._dimse.send_msg(request, self.accepted[sop_class].context_id)
        _, answer = self._take(block=True)
        if answer is None or answer.MessageIDBeingRespondedTo != self._sent:
            return None
        return int(answer.Status)

    def release(self) -> None:
        """End the association in order."""
        if self.established:
            self._association.release()

    def abort(self) -> None:
        """End the association at once."""
        if self.established:
            self._association.abort()


def _preference(context: PresentationContext) -> int:
    """Return the rank of a context's transfer syntax among ours, the best first."""
    return _SYNTAXES.index(context.transfer_syntax[0])


def connect(peer: Address, entity: AE) -> Link:
    """Return an association with what the entity proposes.

    Raises
    ------
    Rejected
        If the peer rejects it.
    Unreachable
        If the peer does not answer.
    """
    try:
        association = entity.associate(peer.host, peer.port, ae_title=peer.ae_title)
    except OSError:
        raise Unreachable(f"{peer} is not there: its host name has no address") from None
    if association.is_established:
        return Link(association)
    if association.is_rejected:
        permanent = association.acceptor.primitive.result == _REJECTED_PERMANENT
        why = _rejection(association)
        raise Rejected(f"{peer} rejected the association: {why}", permanent=permanent)
    if association.acceptor.primitive is not None and association.rejected_contexts:
        raise NothingAccepted(f"{peer} accepts none of the SOP classes offered")
    raise Unreachable(f"{peer} does not answer: is it running, and are host and port right?")


def entity(calling_ae: str, classes: Sequence[str], timeout: float) -> AE:
    """Return the calling application entity, proposing these classes.

    Each transfer syntax is a context of its own, so that the choice is ours: an acceptor that
    likes Implicit VR better would make us encode every object again.
    """
    ae = AE(calling_ae)
    ae.requested_contexts = [
        build_context(uid, [syntax]) for uid in classes for syntax in _SYNTAXES
    ]
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = timeout
    ae.network_timeout = None  # whoever holds a link lets it go
    ae.maximum_pdu_size = 0
    return ae


def _rejection(association: Association) -> str:
    answer = association.acceptor.primitive
    return f"{answer.result_str}, {answer.reason_str}".lower()


def echo(peer: Address, calling_ae: str, timeout: float = 10.0) -> tuple[str, ...]:
    """Return the SOP classes that the peer accepts from us, after a successful C-ECHO.

    Raises
    ------
    Unreachable
        If it does not answer.
    """
    link = connect(peer, entity(calling_ae, (VERIFICATION, *WAVEFORMS), timeout))
    try:
        if not link.echo():
            raise Unreachable(f"{peer} let us in and did not answer C-ECHO")
        return tuple(UID(sop_class).name for sop_class in link.accepted)
    finally:
        link.release()


def send(
    files: Sequence[Path], peer: Address, calling_ae: str, timeout: float = 30.0
) -> Iterator[Sent]:
    """Yield what became of each file, sent on one association.

    Raises
    ------
    Unreachable
        If no association can be had.
    """
    link = connect(peer, entity(calling_ae, (VERIFICATION, *WAVEFORMS), timeout))
    try:
        for file in files:
            yield _send(link, file)
    finally:
        link.release()


def _send(link: Link, file: Path) -> Sent:
    start = time.perf_counter()
    try:
        dataset = dcmread(file)
        sop_class, instance = str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)
        if sop_class not in link.accepted:
            return Sent(file, None, "the peer accepts no such object", 0.0)
        status = link.store(sop_class, instance, encoded(dataset, link.accepted[sop_class]))
    except (OSError, InvalidDicomError, AttributeError):
        return Sent(file, None, "not a DICOM file that can be read", 0.0)
    except ValueError:
        return Sent(file, None, "it cannot be encoded as the peer wants it", 0.0)
    took = 1e3 * (time.perf_counter() - start)
    if status is None:
        return Sent(file, None, "no answer", took)
    return Sent(file, status, _meaning(status), took)


def encoded(dataset: Dataset, context: PresentationContext) -> bytes:
    """Return the data set in the transfer syntax of an accepted context.

    Raises
    ------
    ValueError
        If it cannot be encoded so.
    """
    syntax = context.transfer_syntax[0]
    data: bytes | None = dsutils.encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian)
    if data is None:
        raise ValueError("the data set cannot be encoded")
    return data


def _meaning(status: int) -> str:
    known = {0x0000: "stored", 0xA700: "out of resources", 0xA900: "object and command disagree"}
    return known.get(status, f"refused with status 0x{status:04X}")
