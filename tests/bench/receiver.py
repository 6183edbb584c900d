"""The PACS of the benchmark: a process of its own that notes when each result arrives.

The clock is the monotonic one of the machine, so that its times and the sender's compare.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from queue import Empty
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from dicom_node.deliver import RESULTS

AE_TITLE = "PACS"
OBJECTS = 3
"""Results of one ECG: report, page, annotated waveform."""


@dataclass(slots=True)
class Arrivals:
    """What has arrived, as the receiving process tells it."""

    _told: Any

    def complete(self, studies: set[str], patience: float) -> dict[str, float]:
        """Return when the last of the three results arrived, by study, once all are complete.

        Raises
        ------
        TimeoutError
            If any is missing after `patience` seconds.
        """
        count: Counter[str] = Counter()
        last: dict[str, float] = {}
        end = time.monotonic() + patience
        while any(count[study] < OBJECTS for study in studies):
            try:
                study, moment = self._told.get(timeout=max(0.0, end - time.monotonic()))
            except Empty:
                missing = sum(count[study] < OBJECTS for study in studies)
                raise TimeoutError(f"{missing} ECGs without all results") from None
            count[study] += 1
            last[study] = max(moment, last.get(study, 0.0))
        return {study: last[study] for study in studies}


@contextmanager
def receiving(port: int) -> Iterator[Arrivals]:
    """Run the receiver on a loopback port, once it listens."""
    context = get_context("spawn")
    told = context.Queue()
    process = context.Process(target=_serve, args=(port, told), daemon=True)
    process.start()
    try:
        told.get(timeout=60)
        yield Arrivals(told)
    finally:
        process.terminate()
        process.join()


def _serve(port: int, told: Any) -> None:
    def store(event: evt.Event) -> int:
        moment = time.monotonic()
        told.put((str(event.dataset.StudyInstanceUID), moment))
        return 0x0000

    ae = AE(AE_TITLE)
    for uid in RESULTS:
        ae.add_supported_context(uid, ExplicitVRLittleEndian)
    server = ae.make_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, store)])
    told.put("listening")
    server.serve_forever()
