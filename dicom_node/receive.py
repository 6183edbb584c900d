"""Reception: C-ECHO and C-STORE, acknowledged only when bytes and ledger row are durable.

Nothing is decoded here. An association's thread writes the bytes; one committer thread syncs
folders and commits rows for whatever is waiting, so that a burst shares its commits and an
idle node adds no delay.
"""

import hashlib
import queue
import shutil
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

import structlog
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, evt
from pynetdicom.presentation import PresentationContext
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.commitment import (
    PROCESSING_FAILURE,
    PUSH_MODEL,
    REQUEST,
    answer_of,
    references_of,
)
from dicom_node.failpoints import reach
from dicom_node.ledger import Event, Ledger, Receipt, Received
from dicom_node.link import VERIFICATION
from dicom_node.reasons import Quarantine, Refusal
from dicom_node.report import part10
from dicom_node.settings import Dicom, Storage, Tls
from dicom_node.spool import Spool
from dicom_node.tls import Certificates, server
from dicom_node.wire import Caller, FreshContext, Limits, Server

log = structlog.get_logger()

WAVEFORMS: Final = (
    "1.2.840.10008.5.1.4.1.1.9.1.1",  # 12-lead ECG Waveform Storage
    "1.2.840.10008.5.1.4.1.1.9.1.2",  # General ECG Waveform Storage
    "1.2.840.10008.5.1.4.1.1.9.1.3",  # Ambulatory ECG Waveform Storage
    "1.2.840.10008.5.1.4.1.1.9.1.4",  # General 32-bit ECG Waveform Storage
    "1.2.840.10008.5.1.4.1.1.9.2.1",  # Hemodynamic Waveform Storage: some carts' ECGs
    "1.2.840.10008.5.1.4.1.1.9.3.1",  # Cardiac Electrophysiology: quarantined with its reason
)
TRANSFER_SYNTAXES: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
MISMATCH: Final = 0xA900
INVALID_ARGUMENT: Final = 0x0115

_NO_TLS: Final = Tls()
_UID_LENGTH = 64
_COMMIT_DEADLINE = 30.0
_SOP_CLASS_UID = (0x0008, 0x0016)
_SOP_INSTANCE_UID = (0x0008, 0x0018)
_IDENTITY_WITHIN = 4096  # bytes; in every real object both stand in the first hundred


def contexts() -> list[PresentationContext]:
    """Return what the port accepts: ECG waveforms, never deflated or big-endian; commitment."""
    syntaxes = [UID(syntax) for syntax in TRANSFER_SYNTAXES]
    commitment = build_context(PUSH_MODEL, syntaxes)
    commitment.scu_role = commitment.scp_role = True  # it reports to us, and we to others
    return [*(build_context(uid, syntaxes) for uid in (VERIFICATION, *WAVEFORMS)), commitment]


def limits(settings: Dicom) -> Limits:
    """Return the limits of the port."""
    return Limits(
        pdu=settings.maximum_pdu,
        message=settings.maximum_object,
        pdu_deadline=settings.pdu_deadline,
        handshake_deadline=settings.handshake_deadline,
        idle_deadline=settings.idle_deadline,
        associations=settings.maximum_associations,
    )


def disk_is_low(settings: Storage) -> bool:
    """Return whether the data folder's volume is below the watermark."""
    usage = shutil.disk_usage(settings.folder)
    return usage.free < max(settings.free_bytes, settings.free_fraction * usage.total)


@dataclass(frozen=True, slots=True)
class PinnedPlan:
    """What will be done with an object, fixed when it is received."""

    text: str
    digest: str


class Committer:
    """Commits whatever is waiting in one transaction, then lets every waiter go.

    Parameters
    ----------
    ledger, spool
        Where rows and bytes are made durable.
    plan
        Returns the plan to pin.
    ring
        Called with the number of objects to work on, once they are durable.
    """

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        plan: Callable[[], PinnedPlan],
        ring: Callable[[int], None],
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._plan = plan
        self._ring = ring
        self._waiting: queue.SimpleQueue[tuple[Received, Future[Receipt]]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="committer", daemon=True).start()

    def commit(self, item: Received) -> Receipt:
        """Return what the object is, once its bytes and its row are durable.

        Raises
        ------
        OSError
            If they could not be made so.
        """
        future: Future[Receipt] = Future()
        self._waiting.put((item, future))
        return future.result(_COMMIT_DEADLINE)

    def _run(self) -> None:
        while True:
            group = [self._waiting.get()]
            while not self._waiting.empty():
                group.append(self._waiting.get())
            self._commit(group)

    def _commit(self, group: list[tuple[Received, Future[Receipt]]]) -> None:
        try:
            receipts = self._durable([item for item, _ in group])
        except Exception as error:  # noqa: BLE001 - each waiter must be answered
            if len(group) > 1:
                for waiting in group:
                    self._commit([waiting])
            else:
                group[0][1].set_exception(OSError(str(error)))
            return
        for (_, future), receipt in zip(group, receipts, strict=True):
            future.set_result(receipt)
        self._ring(sum(receipt in (Receipt.NEW, Receipt.RELEASED) for receipt in receipts))

    def _durable(self, group: list[Received]) -> list[Receipt]:
        self._spool.sync(item.blob for item in group)
        reach("before_ledger")
        plan = self._plan()
        receipts = self._ledger.receive(group, plan.text, plan.digest)
        reach("after_ledger")
        return receipts


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An object as it came in, by whichever door."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    data_set: bytes
    originator: str = ""
    """AE title that had it fetched; empty where it was just sent."""


class Intake:
    """What every door shares: what is wanted, and how it becomes durable.

    Parameters
    ----------
    storage
        Its watermark.
    ledger, spool
        Where what is received becomes durable.
    committer
        Makes it so.
    """

    def __init__(
        self, storage: Storage, *, ledger: Ledger, spool: Spool, committer: Committer
    ) -> None:
        self._storage = storage
        self._ledger = ledger
        self._spool = spool
        self._committer = committer

    def unwanted(self, arrival: Arrival) -> Refusal | None:
        """Return why an object is not to be kept, or None."""
        uids = (arrival.sop_class_uid, arrival.sop_instance_uid)
        if not all(map(_fits, uids)) or not arrival.data_set:
            return Refusal.MISMATCH
        implicit = arrival.transfer_syntax == ImplicitVRLittleEndian
        if identity(arrival.data_set, implicit=implicit) not in (None, uids):
            return Refusal.MISMATCH
        return Refusal.OUT_OF_RESOURCES if disk_is_low(self._storage) else None

    def keep(self, arrival: Arrival, caller: Caller) -> None:
        """Make an object durable: bytes and row; an object received before changes nothing.

        Raises
        ------
        OSError
            If that was not possible.
        """
        uids = (arrival.sop_class_uid, arrival.sop_instance_uid)
        data = part10.header(*uids, arrival.transfer_syntax) + arrival.data_set
        if self._ledger.knows(uids[1], hashlib.sha256(data).hexdigest()):
            log.info("received", receipt=Receipt.DUPLICATE, calling_ae=caller.calling_ae)
            return
        blob = self._spool.write(data)
        receipt = self._committer.commit(
            Received(
                sop_class_uid=uids[0],
                sop_instance_uid=uids[1],
                blob=blob,
                calling_ae=caller.calling_ae,
                called_ae=caller.called_ae,
                address=caller.address,
                originator=arrival.originator,
                received_at=time.time(),
            )
        )
        if receipt is Receipt.CONFLICT:
            self.record(Quarantine.CONFLICT, caller)
            log.error("uid_conflict", calling_ae=caller.calling_ae, sha256=blob.sha256)
        else:
            log.info("received", receipt=receipt, calling_ae=caller.calling_ae, sha256=blob.sha256)

    def record(self, reason: Refusal | Quarantine, caller: Caller, detail: str = "") -> None:
        """Add what was refused, or set aside, to the audit trail."""
        self.audit(
            Event(
                event="refused" if isinstance(reason, Refusal) else "quarantined",
                reason=reason,
                calling_ae=caller.calling_ae,
                called_ae=caller.called_ae,
                address=caller.address,
                detail=detail,
            )
        )

    def audit(self, event: Event) -> None:
        """Add an event to the audit trail; a full disk must not change the answer."""
        try:
            self._ledger.record(event, time.time())
        except SQLAlchemyError as error:
            log.error("audit_failed", reason=event.reason, error=type(error).__name__)  # noqa: TRY400


ReplyTo = Callable[[str, str], object | None]
"""(calling AE title, address) → where that caller hears reports, or None."""


def _nowhere(_calling_ae: str, _address: str) -> None:
    return None


class Receiver:
    """The clinical port.

    Parameters
    ----------
    dicom, storage
        Their settings.
    tls
        Where to find certificates; with them there is a TLS port too.
    reply_to
        Returns where a caller hears of a storage commitment, or None.
    ledger, spool
        Where what is received becomes durable.
    committer
        Makes it so.
    """

    def __init__(
        self,
        dicom: Dicom,
        storage: Storage,
        *,
        ledger: Ledger,
        spool: Spool,
        committer: Committer,
        tls: Tls = _NO_TLS,
        reply_to: ReplyTo = _nowhere,
    ) -> None:
        self._reply_to = reply_to
        self._dicom = dicom
        self._ledger = ledger
        self._intake = Intake(storage, ledger=ledger, spool=spool, committer=committer)
        self._servers = []
        if dicom.plain:
            self._servers.append(self._server(dicom.port, None))
        if tls.enabled:
            self._servers.append(self._server(tls.port, Certificates(tls, server).context))

    def _server(self, port: int, secure: FreshContext | None) -> Server:
        return Server(
            self._dicom.ae_title,
            (self._dicom.host, port),
            contexts=contexts(),
            limits=limits(self._dicom),
            admission=self._admission,
            handlers=[
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_N_ACTION, self._promise),
                (evt.EVT_N_EVENT_REPORT, self._hear),
                (evt.EVT_ACCEPTED, self._accepted),
            ],
            broken=self._broken,
            tls=secure,
        )

    def start(self) -> None:
        """Accept connections from now on."""
        for port in self._servers:
            port.start()

    def stop(self, seconds: float) -> None:
        """Stop accepting, then wait up to `seconds` for open associations to end."""
        for port in self._servers:
            port.stop(seconds)

    def _admission(self, caller: Caller) -> Refusal | None:
        refusal = self._judge(caller)
        if refusal is not None:
            self._intake.record(refusal, caller)
        return refusal

    def _judge(self, caller: Caller) -> Refusal | None:
        wanted = self._dicom.ae_title
        if self._dicom.require_called_ae_title and caller.called_ae != wanted:
            return Refusal.CALLED_AE_TITLE
        titled = [peer for peer in self._dicom.peers if peer.ae_title in ("*", caller.calling_ae)]
        if not titled:
            return Refusal.CALLING_AE_TITLE
        asked = caller.calling_ae, caller.address
        if not any(peer.admits(*asked, caller.certificate) for peer in titled):
            certified = frozenset(peer.certificate for peer in titled if peer.certificate)
            known = any(peer.admits(*asked, certified) for peer in titled)
            return Refusal.CERTIFICATE if known else Refusal.ADDRESS
        return None

    def _accepted(self, event: evt.Event) -> None:
        if not event.assoc.accepted_contexts:
            offered = sorted({item.abstract_syntax for item in event.assoc.rejected_contexts})
            self._intake.record(Refusal.SOP_CLASS, _caller(event), ", ".join(offered[:8]))

    def _broken(self, why: Refusal, address: str, what: str) -> None:
        self._intake.audit(Event(event="refused", reason=why, address=address, detail=what))

    def _store(self, event: evt.Event) -> int:
        arrival, caller = _arrival(event), _caller(event)
        if arrival.sop_class_uid == event.context.abstract_syntax:
            refusal = self._intake.unwanted(arrival)
        else:
            refusal = Refusal.MISMATCH
        if refusal is None:
            try:
                self._intake.keep(arrival, caller)
            except OSError as error:
                log.error("store_failed", error=type(error).__name__)  # noqa: TRY400 - no trace
                refusal = Refusal.OUT_OF_RESOURCES
            else:
                return SUCCESS
        self._intake.record(refusal, caller)
        return OUT_OF_RESOURCES if refusal is Refusal.OUT_OF_RESOURCES else MISMATCH

    def _promise(self, event: evt.Event) -> tuple[int, None]:
        """Return the status of a request for storage commitment, once it is a row."""
        caller = _caller(event)
        asked = references_of(event.action_information)
        if event.action_type != REQUEST or asked is None:
            return INVALID_ARGUMENT, None
        if self._reply_to(caller.calling_ae, caller.address) is None:
            self._intake.record(Refusal.NO_REPLY_ADDRESS, caller)
            return PROCESSING_FAILURE, None
        try:
            self._ledger.promise(*asked, caller.calling_ae, caller.address, time.time())
        except SQLAlchemyError as error:
            log.error("promise_failed", error=type(error).__name__)  # noqa: TRY400 - no trace
            return PROCESSING_FAILURE, None
        return SUCCESS, None

    def _hear(self, event: evt.Event) -> tuple[int, None]:
        """Return the status of a destination's report on a storage commitment."""
        answer = answer_of(event.event_information)
        settled = self._ledger.answered(
            answer.transaction, answer.committed, answer.refused, time.time()
        )
        log.info("commitment_heard", calling_ae=_caller(event).calling_ae, objects=settled)
        return SUCCESS, None


def _arrival(event: evt.Event) -> Arrival:
    request = event.request
    return Arrival(
        sop_class_uid=str(request.AffectedSOPClassUID),
        sop_instance_uid=str(request.AffectedSOPInstanceUID),
        transfer_syntax=str(event.context.transfer_syntax),
        data_set=request.DataSet.getvalue(),
        originator=str(request.MoveOriginatorApplicationEntityTitle or "").strip(),
    )


def _caller(event: evt.Event) -> Caller:
    request = event.assoc.requestor.primitive
    return Caller(
        calling_ae=request.calling_ae_title.strip(),
        called_ae=request.called_ae_title.strip(),
        address=event.assoc.requestor.address_info.address,
    )


def _fits(uid: str) -> bool:
    """Return whether file meta information can hold the UID (PS3.5 §9.1)."""
    return uid.isascii() and 0 < len(uid) <= _UID_LENGTH


def identity(data: bytes, *, implicit: bool) -> tuple[str, str] | None:
    """Return SOP Class and SOP Instance UID as the data set states them, or None.

    Only the first elements of group 0008 are looked at, which hold plain values before them in
    every real object; anything else is left to the worker, which decodes.
    """
    position, found = 0, {}
    while position + 8 <= min(len(data), _IDENTITY_WITHIN):
        group, element = struct.unpack_from("<HH", data, position)
        if (group, element) > _SOP_INSTANCE_UID:
            break
        if implicit:
            (length,) = struct.unpack_from("<L", data, position + 4)
        elif data[position + 4 : position + 6] in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC"):
            break
        else:
            (length,) = struct.unpack_from("<H", data, position + 6)
        position += 8
        found[group, element] = data[position : position + length].strip(b"\0 ").decode("latin-1")
        position += length
    if found.keys() >= {_SOP_CLASS_UID, _SOP_INSTANCE_UID}:
        return found[_SOP_CLASS_UID], found[_SOP_INSTANCE_UID]
    return None
