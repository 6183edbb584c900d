"""Storage commitment (PS3.4 Annex J), both ways: asked of destinations, given to callers.

As user: what a destination took is confirmed by its N-EVENT-REPORT, on the same association or
on one of its own; without a word in time it is looked for by C-FIND, and sent again where it is
not found. As provider: a request becomes a row before it is answered, and the report goes out,
again and again if need be, with what the ledger holds and the spool can prove.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.ledger import Due, Ledger, Promise
from dicom_node.link import Address, Link, Unreachable, connect
from dicom_node.settings import DicomServer, Settings
from dicom_node.spool import Spool
from dicom_node.tls import Secure, caller

log = structlog.get_logger()

PUSH_MODEL: Final = "1.2.840.10008.1.20.1"
INSTANCE: Final = "1.2.840.10008.1.20.1.1"
"""The well-known SOP Instance of the push model."""
STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"

REQUEST: Final = 1
"""Action Type ID: request storage commitment."""
COMPLETE, INCOMPLETE = 1, 2
"""Event Type ID: all committed, or failures exist."""

NO_SUCH_INSTANCE: Final = 0x0112
CLASS_CONFLICT: Final = 0x0119
PROCESSING_FAILURE: Final = 0x0110

_PAUSE, _LONGEST = 5.0, 300.0

Reference = tuple[str, str]
"""SOP Class and SOP Instance UID."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider reported on one transaction."""

    transaction: str
    committed: tuple[str, ...]
    """SOP Instance UIDs."""
    refused: Mapping[str, int]
    """SOP Instance UID → Failure Reason (0008,1197)."""


def request(transaction: str, references: Iterable[Reference]) -> Dataset:
    """Return the action information of a request (PS3.4 Table J.3-1)."""
    information = Dataset()
    information.TransactionUID = transaction
    information.ReferencedSOPSequence = [_reference(item) for item in references]
    return information


def references_of(information: Dataset) -> tuple[str, tuple[Reference, ...]] | None:
    """Return transaction and references of a request, or None where it is none."""
    transaction = str(information.get("TransactionUID", ""))
    items = information.get("ReferencedSOPSequence") or ()
    references = tuple(
        (str(item.get("ReferencedSOPClassUID", "")), str(item.get("ReferencedSOPInstanceUID", "")))
        for item in items
    )
    return (transaction, references) if transaction and references else None


def answer_of(information: Dataset) -> Answer:
    """Return what an event report says (PS3.4 Table J.3-2)."""
    refused = {
        str(item.get("ReferencedSOPInstanceUID", "")): int(item.get("FailureReason") or 0)
        for item in information.get("FailedSOPSequence") or ()
    }
    committed = (
        str(item.get("ReferencedSOPInstanceUID", ""))
        for item in information.get("ReferencedSOPSequence") or ()
    )
    return Answer(str(information.get("TransactionUID", "")), tuple(committed), refused)


def report(
    transaction: str, committed: Sequence[Reference], refused: Mapping[Reference, int]
) -> tuple[int, Dataset]:
    """Return event type and information that tell a caller what is committed."""
    information = Dataset()
    information.TransactionUID = transaction
    if committed:
        information.ReferencedSOPSequence = [_reference(item) for item in committed]
    if refused:
        information.FailedSOPSequence = [
            _reference(item, reason) for item, reason in refused.items()
        ]
    return (INCOMPLETE if refused else COMPLETE), information


def _reference(item: Reference, reason: int | None = None) -> Dataset:
    made = Dataset()
    made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = item
    if reason is not None:
        made.FailureReason = reason
    return made


# As user


def is_held(link: Link, item: Due, file: bytes) -> bool:
    """Return whether a peer finds the object at its own place in study and series.

    Raises
    ------
    Unanswered
        If it does not say.
    """
    ours = dcmread(BytesIO(file), specific_tags=["StudyInstanceUID", "SeriesInstanceUID"])
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "IMAGE"
    identifier.StudyInstanceUID = ours.StudyInstanceUID
    identifier.SeriesInstanceUID = ours.SeriesInstanceUID
    identifier.SOPInstanceUID = item.sop_instance_uid
    found = [
        str(match.get("SOPInstanceUID", "")) for match in link.find(STUDY_ROOT_FIND, identifier)
    ]
    return item.sop_instance_uid in found


# As provider


class Promiser:
    """Tells callers what is committed, until each has heard it.

    Parameters
    ----------
    settings
        Where each caller hears: a destination of its AE title, else its entry's port.
    ledger, spool
        What is held.
    clock
        UTC, seconds since the epoch.
    """

    def __init__(
        self, settings: Settings, *, ledger: Ledger, spool: Spool, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._spool = spool
        self._clock = clock

    def run(self, stopping: Callable[[], bool], wait: Callable[[float], object]) -> None:
        """Tell callers until told to stop."""
        while not stopping():
            if not self.step():
                wait(0.5)

    def step(self) -> bool:
        """Return whether a report was due; it was tried."""
        promise = self._ledger.promise_due(self._clock())
        if promise is None:
            return False
        told = self._tell(promise)
        if told:
            self._ledger.promise_kept(promise)
        else:
            wait = min(_PAUSE * 2.0 ** min(promise.attempts, 30), _LONGEST)
            self._ledger.promise_later(promise, self._clock() + wait)
        log.info("commitment_reported", told=told, calling_ae=promise.calling_ae)
        return True

    def _tell(self, promise: Promise) -> bool:
        where = reply_to(self._settings, promise.calling_ae, promise.address)
        if where is None:
            return False
        address, secure = where
        kind, information = self._report(promise)
        here = self._settings.dicom.ae_title
        try:
            link = connect(address, here, (PUSH_MODEL,), 30.0, secure, provider=True)
        except Unreachable:
            return False
        status = link.report(PUSH_MODEL, INSTANCE, kind, information)
        link.release()
        return status == 0

    def _report(self, promise: Promise) -> tuple[int, Dataset]:
        judged = {item: self._judge(item) for item in promise.references}
        committed = [item for item, reason in judged.items() if reason == 0]
        refused = {item: reason for item, reason in judged.items() if reason}
        return report(promise.transaction, committed, refused)

    def _judge(self, item: Reference) -> int:
        """Return 0 where the bytes are here and whole, else the Failure Reason."""
        sop_class, sop_instance = item
        held = self._ledger.held(sop_instance)
        if not held:
            return NO_SUCH_INSTANCE
        if all(found != sop_class for found, _ in held):
            return CLASS_CONFLICT
        try:
            for _, blob in held:
                self._spool.read(blob)
        except OSError:
            return PROCESSING_FAILURE
        return 0


def reply_to(
    settings: Settings, calling_ae: str, address: str
) -> tuple[Address, Secure | None] | None:
    """Return where a caller hears reports, or None where the settings do not say."""
    for item in settings.destinations:
        if isinstance(item, DicomServer) and item.ae_title == calling_ae:
            return Address(item.ae_title, item.host, item.port), caller(settings.tls, item)
    for peer in settings.dicom.peers:
        if peer.ae_title == calling_ae and peer.port is not None:
            return Address(calling_ae, address, peer.port), None
    return None
