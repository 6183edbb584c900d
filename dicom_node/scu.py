"""The node as a caller: C-ECHO, and C-STORE of files as they are, as a cart does it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID
from pynetdicom import dsutils
from pynetdicom.presentation import PresentationContext

from dicom_node.link import VERIFICATION, Address, Link, Unreachable, connect
from dicom_node.receive import WAVEFORMS
from dicom_node.tls import Secure

__all__ = ["Address", "Sent", "Unreachable", "echo", "encoded", "send"]


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


def echo(
    peer: Address,
    calling_ae: str,
    timeout: float = 10.0,
    *,
    secure: Secure | None = None,
    classes: Sequence[str] = WAVEFORMS,
) -> tuple[str, ...]:
    """Return the SOP classes that the peer accepts from us, after a successful C-ECHO.

    Of a peer that does not accept Verification, its answer to the association is enough.

    Raises
    ------
    Unreachable
        If it does not answer.
    """
    link = connect(peer, calling_ae, (VERIFICATION, *classes), timeout, secure)
    try:
        if VERIFICATION in link.accepted and not link.echo():
            raise Unreachable(f"{peer} let us in and did not answer C-ECHO")
        return tuple(UID(sop_class).name for sop_class in link.accepted)
    finally:
        link.release()


def send(
    files: Sequence[Path],
    peer: Address,
    calling_ae: str,
    timeout: float = 30.0,
    *,
    secure: Secure | None = None,
) -> Iterator[Sent]:
    """Yield what became of each file, sent on one association.

    Raises
    ------
    Unreachable
        If no association can be had.
    """
    link = connect(peer, calling_ae, (VERIFICATION, *WAVEFORMS), timeout, secure)
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
