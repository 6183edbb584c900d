"""Carts for tests: DICOM ECGs with identities of their own, and ways to push them."""

import io
import time
from pathlib import Path
from typing import Any

from pydicom import dcmread, dcmwrite
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context

from dicom_node.receive import VERIFICATION, WAVEFORMS
from dicom_node.report.uids import derive
from dicom_node.scu import Address

CART_FILE = Path(str(get_testdata_file("waveform_ecg.dcm")))


def cart_ecg(name: str, **changes: Any) -> Dataset:
    """Return pydicom's cart recording under UIDs made of a name; rhythm group only, so small."""
    dataset = dcmread(CART_FILE)
    dataset.WaveformSequence = dataset.WaveformSequence[:1]
    dataset.SOPInstanceUID = derive("test", name, "instance")
    dataset.SeriesInstanceUID = derive("test", name, "series")
    dataset.StudyInstanceUID = derive("test", name, "study")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset


def encoded(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def association(peer: Address, calling_ae: str = "CART", called_ae: str | None = None) -> Any:
    """Return an association, established or not, offering every ECG class."""
    ae = AE(calling_ae)
    ae.requested_contexts = [
        build_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        for uid in (VERIFICATION, *WAVEFORMS)
    ]
    ae.acse_timeout = ae.dimse_timeout = ae.connection_timeout = 15
    return ae.associate(peer.host, peer.port, ae_title=called_ae or peer.ae_title)


def push(peer: Address, *datasets: Dataset) -> list[int | None]:
    """Return the C-STORE status of each object, None where no answer came."""
    link = association(peer)
    if not link.is_established:
        return [None] * len(datasets)
    statuses: list[int | None] = []
    for dataset in datasets:
        try:
            answer = link.send_c_store(dataset)
            statuses.append(int(answer.Status) if "Status" in answer else None)
        except RuntimeError:
            statuses.append(None)
    if link.is_established:
        link.release()
    return statuses


def push_until_stored(peer: Address, dataset: Dataset, seconds: float = 120.0) -> bool:
    """Push as a cart does, again and again, until the node acknowledges."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if push(peer, dataset) == [0]:
            return True
        time.sleep(0.2)
    return False


def push_bytes(peer: Address, data: bytes, sop_class: str, sop_instance: str) -> int | None:
    """C-STORE these data set bytes as they are; return the status."""
    from pynetdicom.dimse_primitives import C_STORE  # noqa: PLC0415 - only here

    link = association(peer)
    assert link.is_established
    context = next(item for item in link.accepted_contexts if item.abstract_syntax == sop_class)
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = UID(sop_class)
    request.AffectedSOPInstanceUID = UID(sop_instance)
    request.Priority = 2
    request.DataSet = io.BytesIO(data)
    link._reactor_checkpoint.clear()
    link.dimse.send_msg(request, context.context_id)
    _, answer = link.dimse.get_msg(block=True)
    link._reactor_checkpoint.set()
    link.release()
    return None if answer is None else int(answer.Status)
