"""DICOM ECG waveforms: the one decoder and the one General ECG encoder of the house.

pydicom tolerates what an ECG may not: it returns raw counts where the sensitivity is absent,
reads big-endian and companded samples as if they were linear and little-endian, and inflates
without limit. So the samples are decoded here, from bytes walked under limits; pydicom gives
the dictionary, the character sets, and the Dataset that a report writer copies from.
"""

import warnings
from collections.abc import Callable
from typing import TypeVar

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from analysis.ecg import Recording
from analysis.errors import Reason, Undecodable
from analysis.formats.dicom.decode import recording
from analysis.formats.dicom.elements import Encoded, damaged, looks_like_dicom, split
from analysis.formats.dicom.encode import Identity, encode
from analysis.formats.dicom.leads import lead_code, lead_source_sequence
from analysis.formats.dicom.parsed import parsed

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


_T = TypeVar("_T")


def read(data: bytes) -> Recording:
    """Return the ECG of a DICOM file, with or without its preamble.

    Raises
    ------
    Undecodable
        With the reason; nothing else.
    """
    return _guarded(lambda: recording(split(data)))


def decode(dataset: Dataset) -> Recording:
    """Return the ECG of a dataset in memory. Raises Undecodable, and nothing else."""
    return _guarded(lambda: recording(_encoded(dataset)))


def parse(data: bytes) -> Dataset:
    """Return the dataset of a DICOM file, every element of it checked.

    Nothing that is read from it later can fail or warn. What big-endian files hold is in
    little-endian order, as the Dataset says.

    Raises
    ------
    Undecodable
        TOO_LARGE beyond 64 MiB (also inflated), 16 levels or 200,000 elements; DAMAGED where
        the structure or any value is broken; UNSUPPORTED; NOT_RECOGNISED.
    """
    if not looks_like_dicom(data):
        raise Undecodable(Reason.NOT_RECOGNISED, "The bytes are no DICOM object.")
    return _guarded(lambda: parsed(split(data)))


def _guarded(decoded: Callable[[], _T]) -> _T:
    try:
        return decoded()
    except (Undecodable, MemoryError):
        raise
    except Exception as error:  # the boundary: one place catches, pydicom raises nine kinds
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
    return Encoded({}, buffer.getvalue(), implicit=False, big_endian=little_endian is False)
