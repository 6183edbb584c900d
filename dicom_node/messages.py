"""Delivery to systems outside DICOM: what HL7 and FHIR have in common."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Final

from dicom_node.deliver import Clock, Courier, End, Failure
from dicom_node.failpoints import reach
from dicom_node.ledger import Due, Ledger
from dicom_node.reasons import Delivery
from dicom_node.settings import Outlet
from dicom_node.spool import Spool

NO_PATIENT: Final = b""
"""What is stored for an ECG without a Patient ID: there is nothing to tell."""


class Messenger(Courier):
    """Delivers messages; the answer to each is all that can be known of it."""

    def __init__(self, outlet: Outlet, *, ledger: Ledger, spool: Spool, clock: Clock) -> None:
        super().__init__(outlet, ledger=ledger, spool=spool, clock=clock)
        self._down = False

    @abstractmethod
    def _tell(self, message: bytes) -> End:
        """Return how it ended; what time can mend is the destination's trouble."""

    def _hear(self) -> None:
        """Hear nothing: who is told does not speak unasked."""

    def _is_down(self) -> bool:
        return self._down

    def _confirm(self, items: Sequence[Due]) -> None:
        """Confirm nothing: there is no commitment to ask for."""

    def _send(self, item: Due) -> End:
        self._down = False
        try:
            message = self._spool.read(item.blob)
        except OSError:
            return Failure(Delivery.BYTES_LOST, permanent=True)
        if message == NO_PATIENT:
            return Failure(Delivery.NO_PATIENT_ID, permanent=True)
        end = self._tell(message)
        self._used_at = self._clock()
        reach("mid_delivery")
        self._down = isinstance(end, Failure) and not end.permanent
        if not self._down:
            self._failures = 0
        return end
