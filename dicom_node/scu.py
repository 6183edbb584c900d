"""The node as a caller: C-ECHO, and C-STORE of files as they are, as a cart does it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.association import Association

from dicom_node.receive import VERIFICATION, WAVEFORMS

_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_AE_TITLE_LENGTH = 16
_LAST_PORT = 65535


class Unreachable(ConnectionError):
    """The peer does not answer, or does not let us in; the message says which."""


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


def associate(
    peer: Address, calling_ae: str, classes: Sequence[str], timeout: float
) -> Association:
    """Return an established association.

    Raises
    ------
    Unreachable
        If there is none to be had.
    """
    ae = AE(calling_ae)
    ae.requested_contexts = [build_context(uid, _SYNTAXES) for uid in classes]
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = timeout
    ae.maximum_pdu_size = 0
    try:
        association = ae.associate(peer.host, peer.port, ae_title=peer.ae_title)
    except OSError:
        raise Unreachable(f"{peer} is not there: its host name has no address") from None
    if association.is_established:
        return association
    if association.is_rejected:
        raise Unreachable(f"{peer} rejected the association: {_rejection(association)}")
    raise Unreachable(f"{peer} does not answer: is it running, and are host and port right?")


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
    association = associate(peer, calling_ae, (VERIFICATION, *WAVEFORMS), timeout)
    try:
        status = association.send_c_echo()
        if "Status" not in status or status.Status != 0:
            raise Unreachable(f"{peer} let us in and did not answer C-ECHO")
        return tuple(context.abstract_syntax.name for context in association.accepted_contexts)
    finally:
        association.release()


def send(
    files: Sequence[Path], peer: Address, calling_ae: str, timeout: float = 30.0
) -> Iterator[Sent]:
    """Yield what became of each file, sent on one association.

    Raises
    ------
    Unreachable
        If no association can be had.
    """
    association = associate(peer, calling_ae, (VERIFICATION, *WAVEFORMS), timeout)
    try:
        for file in files:
            yield _send(association, file)
    finally:
        if association.is_established:
            association.release()


def _send(association: Association, file: Path) -> Sent:
    start = time.perf_counter()
    try:
        dataset = dcmread(file)
        answer = association.send_c_store(dataset)
    except (OSError, InvalidDicomError):
        return Sent(file, None, "not a DICOM file that can be read", 0.0)
    except (ValueError, AttributeError):
        return Sent(file, None, "the peer accepts no such object", 0.0)
    except RuntimeError:
        return Sent(file, None, "the association ended", 0.0)
    took = 1e3 * (time.perf_counter() - start)
    if "Status" not in answer:
        return Sent(file, None, "no answer", took)
    return Sent(file, int(answer.Status), _meaning(int(answer.Status)), took)


def _meaning(status: int) -> str:
    known = {0x0000: "stored", 0xA700: "out of resources", 0xA900: "object and command disagree"}
    return known.get(status, f"refused with status 0x{status:04X}")
