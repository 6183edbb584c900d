"""DICOM ECG waveforms: the one decoder and the one General ECG encoder of the house.

pydicom tolerates what an ECG may not: it returns raw counts where the sensitivity is absent,
reads big-endian and companded samples as if they were linear and little-endian, and inflates
without limit. So the samples are decoded here, from bytes walked under limits; pydicom gives
the dictionary, the character sets, and the Dataset that a report writer copies from.
"""

import warnings
from io import BytesIO

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian

from analysis.ecg import Recording
from analysis.errors import Reason, Undecodable
from analysis.formats.dicom.decode import recording
from analysis.formats.dicom.elements import (
    Encoded,
    damaged,
    little_endian,
    looks_like_dicom,
    split,
)
from analysis.formats.dicom.encode import Identity, encode
from analysis.formats.dicom.leads import lead_code, lead_source_sequence

__all__ = [
    "Identity",
    "decode",
    "encode",
    "lead_code",
    "lead_source_sequence",
    "looks_like_dicom",
    "parse",
    "read",
]


def read(data: bytes) -> Recording:
    """Return the ECG of a DICOM file, with or without its preamble.

    Raises
    ------
    Undecodable
        With the reason; nothing else.
    """
    return _guarded(data)


def decode(dataset: Dataset) -> Recording:
    """Return the ECG of a dataset in memory. Raises Undecodable, and nothing else."""
    return _guarded(dataset)


def _guarded(source: bytes | Dataset) -> Recording:
    try:
        return recording(split(source) if isinstance(source, bytes) else _encoded(source))
    except (Undecodable, MemoryError):
        raise
    except Exception as error:  # the boundary: one place catches
        raise damaged(f"The object cannot be decoded ({type(error).__name__}).") from error


def _encoded(dataset: Dataset) -> Encoded:
    """Return a dataset as the bytes that it would be sent as."""
    _, little_endian = getattr(dataset, "original_encoding", (None, None))
    buffer = DicomBytesIO()
    buffer.is_little_endian = little_endian is not False  # OW bytes keep their order
    buffer.is_implicit_VR = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_dataset(buffer, dataset)
    return Encoded({}, b"", buffer.getvalue(), implicit=False, big_endian=little_endian is False)


def parse(data: bytes) -> Dataset:
    """Return the dataset of a DICOM file, every element of it decoded.

    Nothing that is read from it later can fail. What big-endian files hold is in little-endian
    order, as the Dataset says.

    Raises
    ------
    Undecodable
        TOO_LARGE beyond 64 MiB (also inflated), 16 levels or 200,000 elements; DAMAGED where
        the structure or any value is broken; UNSUPPORTED; NOT_RECOGNISED.
    """
    if not looks_like_dicom(data):
        raise Undecodable(Reason.NOT_RECOGNISED, "The bytes are no DICOM object.")
    encoded = split(data)
    encoded.dataset()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _dataset(encoded)
    except MemoryError:
        raise
    except Exception as error:  # the boundary to pydicom, which raises nine kinds
        raise damaged(f"The object cannot be decoded ({type(error).__name__}).") from error


def _dataset(encoded: Encoded) -> Dataset:
    body = read_dataset(BytesIO(encoded.body), encoded.implicit, not encoded.big_endian)
    meta = read_dataset(BytesIO(encoded.head), is_implicit_VR=False, is_little_endian=True)
    dataset = FileDataset(
        BytesIO(),
        body,
        file_meta=FileMetaDataset(meta),
        is_implicit_VR=encoded.implicit,
        is_little_endian=True,
    )
    _decode_elements(dataset, swap=encoded.big_endian)
    if encoded.big_endian:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _decode_elements(dataset: Dataset, *, swap: bool) -> None:
    """Make pydicom decode every value now, and put binary ones in little-endian order."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _decode_elements(item, swap=swap)
        elif swap and isinstance(element.value, bytes):
            element.value = little_endian(element.value, element.VR.encode())
        else:
            str(element.value)
