"""A small PACS on loopback, for the demo and for tests: it stores, and forgets nothing."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

Behaviour = Callable[[str], int]
"""SOP Class UID → C-STORE status to answer."""


def store(_sop_class_uid: str) -> int:
    """Answer success."""
    return 0x0000


@dataclass(slots=True)
class Pacs:
    """A storage SCP in this process.

    Parameters
    ----------
    port
        Of the loopback interface.
    ae_title
        What callers must call it.
    behaviour
        What it answers to a C-STORE; only what it answers 0 is kept.
    """

    port: int
    ae_title: str = "PACS"
    behaviour: Behaviour = store
    _files: dict[str, list[bytes]] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _server: object = None

    def __enter__(self) -> Self:
        ae = AE(self.ae_title)
        ae.supported_contexts = AllStoragePresentationContexts[:]
        ae.add_supported_context(Verification)
        ae.require_called_aet = True
        ae.maximum_associations = 100
        self._server = ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()  # type: ignore[attr-defined]

    def _store(self, event: evt.Event) -> int:
        status = self.behaviour(str(event.request.AffectedSOPClassUID))
        if status == 0:
            with self._changed:
                uid = str(event.request.AffectedSOPInstanceUID)
                self._files.setdefault(uid, []).append(event.encoded_dataset())
                self._changed.notify_all()
        return status

    @property
    def files(self) -> Mapping[str, list[bytes]]:
        """SOP Instance UID → every Part 10 file that arrived under it."""
        return MappingProxyType(self._files)

    def objects(self) -> list[Dataset]:
        """Return the first object under each UID, in order of arrival."""
        return [dcmread(DicomBytesIO(versions[0])) for versions in self._files.values()]

    def wait(self, count: int, seconds: float) -> bool:
        """Return whether `count` distinct objects were there within some seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._files) >= count, seconds)
