"""A dataset as a DICOM file (PS3.10), at the speed of a live path.

pydicom writes an element in some 20 µs; an annotated ECG has two thousand, most of them bytes that
came in and go out unchanged. Those, plain text and plain numbers are encoded here; every other
value is left to pydicom.
"""

import io
import struct
from typing import Any, Final

from pydicom.charset import default_encoding
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from dicom_node.report.objects import PRODUCT, UNREADABLE, Unreportable
from dicom_node.report.uids import IMPLEMENTATION_CLASS_UID

_PREAMBLE: Final = bytes(128) + b"DICM"
_TEXT: Final = frozenset(
    ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT"]
)
_NUMBERS: Final = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d"}
_ZERO_PADDED: Final = frozenset({"UI", "OB", "OW", "UN"})
_LONGEST_SHORT: Final = 0xFFFF


def encode(dataset: Dataset) -> bytes:
    """Return the file: zero preamble, Explicit VR Little Endian, fixed file meta information.

    Raises
    ------
    Unreportable
        If a value cannot be encoded.
    """
    charset = dataset.get("SpecificCharacterSet") or default_encoding
    try:
        return _PREAMBLE + _file_meta(dataset) + _dataset(dataset, charset)
    except UNREADABLE as error:
        raise Unreportable("A value of the source cannot be written again.") from error


def _file_meta(dataset: Dataset) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = PRODUCT.upper()
    buffer = io.BytesIO()
    write_file_meta_info(buffer, meta)
    return buffer.getvalue()


def _dataset(dataset: Dataset, charset: Any) -> bytes:
    elements = sorted(dataset.values(), key=lambda element: int(element.tag))
    return b"".join([_element(element, dataset, charset) for element in elements])


def _element(element: Any, dataset: Dataset, charset: Any) -> bytes:
    if element.is_raw and (element.VR is None or element.is_implicit_VR):
        element = dataset[element.tag]
    vr = element.VR
    if element.is_raw:
        value = element.value or b""
    elif vr == "SQ":
        value = b"".join([_item(item, charset) for item in element.value])
    else:
        value = _plain(vr, element.value)
        if value is None:
            return _by_pydicom(element, charset)
    return _header(element.tag, vr, len(value) + len(value) % 2) + _even(vr, value)


def _item(item: Dataset, charset: Any) -> bytes:
    body = _dataset(item, charset)
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(body)) + body


def _plain(vr: str, value: Any) -> bytes | None:
    """Return the bytes of ASCII text, numbers or bytes; None leaves the value to pydicom."""
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    if vr in _NUMBERS:
        many = value if hasattr(value, "__iter__") else (value,)
        return struct.pack(f"<{len(many)}{_NUMBERS[vr]}", *many)
    text = str(value)
    if vr in _TEXT and not hasattr(value, "append") and text.isascii():
        return text.encode("ascii")
    return None


def _header(tag: int, vr: str, length: int) -> bytes:
    group, number = tag >> 16, tag & 0xFFFF
    if vr in EXPLICIT_VR_LENGTH_32:
        return struct.pack("<HH2sxxL", group, number, vr.encode(), length)
    if length > _LONGEST_SHORT:
        raise ValueError(f"{length} bytes are too long for {vr}")
    return struct.pack("<HH2sH", group, number, vr.encode(), length)


def _even(vr: str, value: bytes) -> bytes:
    if len(value) % 2 == 0:
        return value
    return value + (b"\0" if vr in _ZERO_PADDED else b" ")


def _by_pydicom(element: DataElement, charset: Any) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_data_element(buffer, element, charset)
    return bytes(buffer.getvalue())
