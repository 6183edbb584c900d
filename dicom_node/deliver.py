"""Delivery by C-STORE: one thread and one association per destination, errors told apart.

What a retry can mend is tried again with growing pauses; what it cannot is given up at once,
visibly. An unreachable destination costs one connection per pause, however much is waiting.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, build_context
from pynetdicom.association import Association

from dicom_node.failpoints import reach
from dicom_node.ledger import DeliveryState, Due, Ledger, Outcome
from dicom_node.reasons import Delivery
from dicom_node.receive import WAVEFORMS
from dicom_node.settings import Destination
from dicom_node.spool import Spool

log = structlog.get_logger()

RESULTS: Final = (
    "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive SR Storage
    "1.2.840.10008.5.1.4.1.1.104.1",  # Encapsulated PDF Storage
    *WAVEFORMS[:4],
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


def pause(attempts: int, destination: Destination, chance: float) -> float:
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


class Sender:
    """Delivers what is due to one destination.

    Parameters
    ----------
    destination, calling_ae
        Where to, and as whom.
    ledger, spool
        What is due, and its bytes.
    clock
        UTC, seconds since the epoch.
    """

    def __init__(
        self,
        destination: Destination,
        calling_ae: str,
        *,
        ledger: Ledger,
        spool: Spool,
        clock: Clock,
    ) -> None:
        self._destination = destination
        self._ledger = ledger
        self._spool = spool
        self._clock = clock
        self._association: Association | None = None
        self._used_at = 0.0
        self._failures = 0
        self._not_before = 0.0
        self._ae = _entity(destination, calling_ae)

    def run(self, stopping: Callable[[], bool], wait: Callable[[float], object]) -> None:
        """Deliver until told to stop."""
        while not stopping():
            if not self.step():
                self._let_go()
                wait(0.5)
        self.close()

    def step(self) -> bool:
        """Return whether something was due; it was tried."""
        now = self._clock()
        if now < self._not_before:
            return False
        batch = self._ledger.due(self._destination.name, now, _BATCH)
        if batch:
            outcomes = self._outcomes(batch)
            reach("before_commit")
            self._ledger.delivered(outcomes, self._clock())
        return bool(batch)

    def close(self) -> None:
        """Release the association, if one is open."""
        if self._association is not None and self._association.is_established:
            self._association.release()
        self._association = None

    def _let_go(self) -> None:
        if self._clock() - self._used_at > self._destination.linger:
            self.close()

    def _outcomes(self, batch: Sequence[Due]) -> list[Outcome]:
        """Return how each delivery ended; what was not tried for a broken link stays due."""
        outcomes = []
        for item in batch:
            end = self._send(item)
            outcomes.append(self._outcome(item, end))
            if isinstance(end, Failure) and self._association is None:
                self._back_off()
                rest = batch[len(outcomes) :]
                outcomes += [self._outcome(other, end) for other in rest]
                break
        return outcomes

    def _back_off(self) -> None:
        """Leave the whole destination alone for a while."""
        self._failures += 1
        wait = pause(self._failures, self._destination, random.random())  # noqa: S311 - jitter
        self._not_before = self._clock() + wait

    def _send(self, item: Due) -> End:
        reused = self._association is not None
        end = self._try(item)
        if isinstance(end, Failure) and end.reason is Delivery.NO_ANSWER and reused:
            end = self._try(item)  # the peer had closed the idle association
        return end

    def _try(self, item: Due) -> End:
        link = self._connect()
        if isinstance(link, Failure):
            return link
        context = next(
            (
                found
                for found in link.accepted_contexts
                if found.abstract_syntax == item.sop_class_uid
            ),
            None,
        )
        if context is None:
            return Failure(Delivery.NO_CONTEXT, permanent=True)
        explicit = context.transfer_syntax[0] == ExplicitVRLittleEndian
        return self._store(link, item, explicit=explicit)

    def _store(self, association: Association, item: Due, *, explicit: bool) -> End:
        try:
            path = self._spool.path(item.blob)
        except OSError:
            return Failure(Delivery.BYTES_LOST, permanent=True)
        answer = self._answer(association, path if explicit else dcmread(path))
        self._used_at = self._clock()
        reach("mid_delivery")
        if "Status" not in answer:
            self._drop()
            return Failure(Delivery.NO_ANSWER, permanent=False)
        self._failures = 0
        status = int(answer.Status)
        return judge(status) or status

    def _answer(self, association: Association, what: Path | Dataset) -> Dataset:
        """Return the C-STORE-RSP, empty where there is none."""
        try:
            return association.send_c_store(what)
        except RuntimeError:  # the association ended between two objects
            return Dataset()

    def _drop(self) -> None:
        if self._association is not None and self._association.is_established:
            self._association.abort()
        self._association = None

    def _connect(self) -> Association | Failure:
        if self._association is not None and self._association.is_established:
            return self._association
        self._association = None
        peer = self._destination
        try:
            association = self._ae.associate(peer.host, peer.port, ae_title=peer.ae_title)
        except OSError:  # its host name has no address
            return Failure(Delivery.UNREACHABLE, permanent=False)
        if not association.is_established:
            return _why_not(association)
        self._association = association
        return association

    def _outcome(self, item: Due, end: End) -> Outcome:
        if isinstance(end, int):
            return Outcome(delivery_id=item.delivery_id, state=DeliveryState.DELIVERED, status=end)
        failure, now = end, self._clock()
        if not failure.permanent and now - item.first_at > self._destination.retry_for:
            failure = replace(failure, reason=Delivery.GIVEN_UP, permanent=True)
        log.warning(
            "not_delivered",
            destination=self._destination.name,
            row=item.instance_id,
            role=item.role,
            reason=failure.reason,
            status=failure.status,
        )
        if failure.permanent:
            state, next_at = DeliveryState.FAILED, now
        else:
            wait = pause(item.attempts + 1, self._destination, random.random())  # noqa: S311
            state, next_at = DeliveryState.PENDING, max(self._not_before, now + wait)
        return Outcome(
            delivery_id=item.delivery_id,
            state=state,
            status=failure.status,
            reason=failure.reason,
            next_at=next_at,
        )


def _why_not(association: Association) -> Failure:
    if association.rejected_contexts:
        return Failure(Delivery.NO_CONTEXT, permanent=True)
    if not association.is_rejected:
        return Failure(Delivery.UNREACHABLE, permanent=False)
    permanent = association.acceptor.primitive.result == 0x01
    reason = Delivery.REJECTED_PERMANENT if permanent else Delivery.REJECTED_TRANSIENT
    return Failure(reason, permanent=permanent)


def _entity(destination: Destination, calling_ae: str) -> AE:
    """Return the SCU; results are streamed from their files as they are."""
    _config.STORE_SEND_CHUNKED_DATASET = True
    ae = AE(destination.calling_ae_title or calling_ae)
    ae.requested_contexts = [
        build_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]) for uid in RESULTS
    ]
    ae.connection_timeout = destination.timeout
    ae.acse_timeout = destination.timeout
    ae.dimse_timeout = destination.timeout
    ae.network_timeout = None  # the linger time ends an idle association
    ae.maximum_pdu_size = 0
    return ae
