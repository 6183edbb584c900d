"""Delivery: one thread and one association per destination, errors told apart.

What a retry can mend is tried again with growing pauses; what it cannot is given up at once,
visibly. An unreachable destination costs one connection per pause, however much is waiting.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from types import MappingProxyType
from typing import Final

import structlog
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom.presentation import PresentationContext

from dicom_node.commitment import (
    INSTANCE,
    PUSH_MODEL,
    REQUEST,
    STUDY_ROOT_FIND,
    answer_of,
    is_held,
    request,
)
from dicom_node.failpoints import reach
from dicom_node.ledger import QUERY, RESPONSES, DeliveryState, Due, Ledger, Outcome
from dicom_node.link import (
    Address,
    Insecure,
    Link,
    NothingAccepted,
    Rejected,
    Unanswered,
    Unreachable,
    connect,
)
from dicom_node.reasons import Delivery
from dicom_node.receive import WAVEFORMS
from dicom_node.report.part10 import data_set
from dicom_node.scu import encoded
from dicom_node.settings import Destination, Outlet
from dicom_node.spool import Spool
from dicom_node.tls import Secure

log = structlog.get_logger()

OPTIONAL: Final = MappingProxyType(
    {
        "sc": "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture Image Storage
        "tid1500": "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR Storage
        "annotation": "1.2.840.10008.5.1.4.1.1.88.77",  # Waveform Annotation SR Storage
    }
)
"""The classes of what is written only where `report.objects` asks for it."""
RESULTS: Final = (
    "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive SR Storage
    "1.2.840.10008.5.1.4.1.1.104.1",  # Encapsulated PDF Storage
    *WAVEFORMS[:5],  # the copy keeps the class of a source that General ECG cannot hold
    *OPTIONAL.values(),
)
_BATCH = 60
_JITTER = 0.2
_DUPLICATE_SOP_INSTANCE = 0x0111
_TRANSIENT = (0x0110, 0x0213)  # processing failure, resource limitation (PS3.7 C.5)

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something was not delivered, and whether time can mend it."""

    reason: Delivery
    permanent: bool
    status: int | None = None


End = Failure | int
"""How an attempt ended: why not, or the C-STORE status that means delivered."""


def judge(status: int) -> Failure | None:
    """Return what a C-STORE status means for delivery; None = delivered (PS3.4 B.2.3)."""
    if status in (0x0000, _DUPLICATE_SOP_INSTANCE) or 0xB000 <= status <= 0xBFFF:  # noqa: PLR2004
        return None
    if 0xA700 <= status <= 0xA7FF or status in _TRANSIENT:  # noqa: PLR2004 - as the standard says
        return Failure(Delivery.OUT_OF_RESOURCES, permanent=False, status=status)
    return Failure(Delivery.REFUSED, permanent=True, status=status)


def pause(attempts: int, destination: Outlet, chance: float) -> float:
    """Return the seconds before the next attempt.

    Parameters
    ----------
    attempts
        How many were made, at least one.
    destination
        Its first and longest pause.
    chance
        0 to 1; spreads the pause by ±20 %.
    """
    longest = min(destination.retry_first * 2.0 ** min(attempts - 1, 30), destination.retry_longest)
    return longest * (1 - _JITTER + 2 * _JITTER * chance)


class Courier(ABC):
    """Delivers what is due to one destination; each kind of destination has its own.

    Parameters
    ----------
    outlet
        Its name and its patience.
    ledger, spool
        What is due, and its bytes.
    clock
        UTC, seconds since the epoch.
    """

    def __init__(self, outlet: Outlet, *, ledger: Ledger, spool: Spool, clock: Clock) -> None:
        self._outlet = outlet
        self._ledger = ledger
        self._spool = spool
        self._clock = clock
        self._used_at = 0.0
        self._failures = 0
        self._not_before = 0.0

    def run(
        self,
        stopping: Callable[[], bool],
        wait: Callable[[float], object],
        held: Callable[[], bool] = lambda: False,
    ) -> None:
        """Deliver until told to stop; nothing while it is held."""
        while not stopping():
            if held() or not self.step():
                self._let_go()
                wait(0.5)
        self.close()

    def step(self) -> bool:
        """Return whether something was due; it was tried."""
        now = self._clock()
        if now < self._not_before:
            return False
        self._hear()
        batch = self._ledger.due(self._outlet.name, now, _BATCH)
        if batch:
            outcomes = self._outcomes(batch)
            reach("before_commit")
            self._ledger.delivered(outcomes, self._clock())
        asked = self._outlet.commitment and self._confirmed()
        return bool(batch) or asked

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection, if one is open."""

    @abstractmethod
    def _hear(self) -> None:
        """Take what the destination has said unasked."""

    @abstractmethod
    def _is_down(self) -> bool:
        """Return whether the last failure was of the destination, not of the object."""

    @abstractmethod
    def _send(self, item: Due) -> End:
        """Return how one attempt ended."""

    @abstractmethod
    def _confirm(self, items: Sequence[Due]) -> None:
        """Find out whether the destination holds what it took."""

    def _let_go(self) -> None:
        if self._clock() - self._used_at > self._outlet.linger:
            self.close()

    def _confirmed(self) -> bool:
        """Return whether something was taken and not committed to; it was asked for."""
        overdue = self._clock() - self._outlet.commitment_wait
        items = self._ledger.unconfirmed(self._outlet.name, overdue, _BATCH)
        if items:
            self._confirm(items)
        return bool(items)

    def _outcomes(self, batch: Sequence[Due]) -> list[Outcome]:
        """Return how each delivery ended; what was not tried for a broken link stays due."""
        outcomes = []
        for item in batch:
            end = self._send(item)
            outcomes.append(self._outcome(item, end))
            if isinstance(end, Failure) and self._is_down():
                self._back_off()
                rest = batch[len(outcomes) :]
                outcomes += [self._outcome(other, end) for other in rest]
                break
        return outcomes

    def _back_off(self) -> None:
        """Leave the whole destination alone for a while."""
        self._failures += 1
        wait = pause(self._failures, self._outlet, random.random())  # noqa: S311 - jitter
        self._not_before = self._clock() + wait

    def _outcome(self, item: Due, end: End) -> Outcome:
        if isinstance(end, int):
            wanted = self._outlet.commitment
            state = DeliveryState.STORED if wanted else DeliveryState.DELIVERED
            return Outcome(delivery_id=item.delivery_id, state=state, status=end)
        failure, now = end, self._clock()
        if not failure.permanent and now - item.first_at > self._outlet.retry_for:
            failure = replace(failure, reason=Delivery.GIVEN_UP, permanent=True)
        log.warning(
            "not_delivered",
            destination=self._outlet.name,
            row=item.instance_id,
            role=item.role,
            reason=failure.reason,
            status=failure.status,
        )
        if failure.permanent:
            state, next_at = DeliveryState.FAILED, now
        else:
            wait = pause(item.attempts + 1, self._outlet, random.random())  # noqa: S311
            state, next_at = DeliveryState.PENDING, max(self._not_before, now + wait)
        return Outcome(
            delivery_id=item.delivery_id,
            state=state,
            status=failure.status,
            reason=failure.reason,
            next_at=next_at,
        )


class Sender(Courier):
    """Delivers by C-STORE.

    Parameters
    ----------
    destination, calling_ae
        Where to, and as whom.
    ledger, spool, clock
        As for every courier.
    secure
        Turns the connection into TLS.
    """

    def __init__(
        self,
        destination: Destination,
        calling_ae: str,
        *,
        ledger: Ledger,
        spool: Spool,
        clock: Clock,
        secure: Secure | None = None,
    ) -> None:
        super().__init__(destination, ledger=ledger, spool=spool, clock=clock)
        self._destination = destination
        self._secure = secure
        self._link: Link | None = None
        self._calling_ae = destination.calling_ae_title or calling_ae

    def close(self) -> None:
        """Release the association, if one is open."""
        if self._link is not None:
            self._link.release()
        self._link = None

    def _is_down(self) -> bool:
        return self._link is None

    # Storage commitment

    def _hear(self) -> None:
        """Take the event reports that have come on our own association."""
        for _, information in self._link.reports() if self._link else ():
            answer = answer_of(information)
            self._ledger.answered(
                answer.transaction, answer.committed, answer.refused, self._clock()
            )

    def _confirm(self, items: Sequence[Due]) -> None:
        fresh = [item for item in items if not item.asked]
        if fresh:
            self._ask(fresh)
        else:
            self._look_for(items)

    def _ask(self, items: Sequence[Due]) -> None:
        """Ask the destination to commit; it answers when it likes, here or at our port."""
        link = self._connect()
        if isinstance(link, Failure):
            self._back_off()
            return
        if PUSH_MODEL not in link.accepted:
            self._look_for(items)
            return
        transaction = generate_uid(prefix=None)
        references = [(item.sop_class_uid, item.sop_instance_uid) for item in items]
        self._ledger.asked(ids_of(items), transaction, self._clock())
        status = link.action(PUSH_MODEL, INSTANCE, REQUEST, request(transaction, references))
        self._used_at = self._clock()
        if status not in (None, 0):
            self._look_for(items)

    def _look_for(self, items: Sequence[Due]) -> None:
        """Ask by query what became of objects; without one, the C-STORE responses must do."""
        now = self._clock()
        try:
            link = self._associate((STUDY_ROOT_FIND,))
        except (NothingAccepted, Rejected):
            self._ledger.confirmed(ids_of(items), RESPONSES, now)
            return
        except Unreachable:
            self._back_off()
            return
        try:
            held = [item for item in items if is_held(link, item, self._spool.read(item.blob))]
        except (Unanswered, OSError):
            self._ledger.asked(ids_of(items), "", now)
            return
        finally:
            link.release()
        self._ledger.confirmed(ids_of(held), QUERY, now)
        self._ledger.resend(ids_of([item for item in items if item not in held]), now)

    def _send(self, item: Due) -> End:
        reused = self._link is not None
        end = self._try(item)
        if isinstance(end, Failure) and end.reason is Delivery.NO_ANSWER and reused:
            end = self._try(item)  # the peer had closed the idle association
        return end

    def _try(self, item: Due) -> End:
        link = self._connect()
        if isinstance(link, Failure):
            return link
        context = link.accepted.get(item.sop_class_uid)
        if context is None:
            return Failure(Delivery.NO_CONTEXT, permanent=True)
        try:
            file = self._spool.read(item.blob)
        except OSError:
            return Failure(Delivery.BYTES_LOST, permanent=True)
        status = link.store(item.sop_class_uid, item.sop_instance_uid, _as_wanted(file, context))
        self._used_at = self._clock()
        reach("mid_delivery")
        if status is None:
            link.abort()
            self._link = None
            return Failure(Delivery.NO_ANSWER, permanent=False)
        self._failures = 0
        return judge(status) or status

    def _connect(self) -> Link | Failure:
        if self._link is not None and self._link.established:
            return self._link
        self._link = None
        commitment = (PUSH_MODEL,) if self._destination.commitment else ()
        try:
            self._link = self._associate((*RESULTS, *commitment))
        except NothingAccepted:
            return Failure(Delivery.NO_CONTEXT, permanent=True)
        except Rejected as error:
            permanent = error.permanent
            reason = Delivery.REJECTED_PERMANENT if permanent else Delivery.REJECTED_TRANSIENT
            return Failure(reason, permanent=permanent)
        except Insecure:
            return Failure(Delivery.INSECURE, permanent=False)
        except Unreachable:
            return Failure(Delivery.UNREACHABLE, permanent=False)
        return self._link

    def _associate(self, classes: Sequence[str]) -> Link:
        peer = self._destination
        where = Address(peer.ae_title, peer.host, peer.port)
        return connect(where, self._calling_ae, classes, peer.timeout, self._secure)


def ids_of(items: Sequence[Due]) -> list[int]:
    """Return the deliveries of items."""
    return [item.delivery_id for item in items]


def _as_wanted(file: bytes, context: PresentationContext) -> bytes:
    """Return the data set of one of our files in the transfer syntax that the peer chose."""
    if context.transfer_syntax[0] == ExplicitVRLittleEndian:
        return data_set(file)
    return encoded(dcmread(BytesIO(file)), context)
