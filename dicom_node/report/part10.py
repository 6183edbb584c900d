"""The DICOM file format (PS3.10): a data set as a file, at the speed of a live path.

pydicom writes an element in some 20 µs; an annotated ECG has two thousand, most of them bytes that
came in and go out unchanged. Those, plain text and plain numbers are encoded here; every other
value is left to pydicom.
"""

import struct
from collections.abc import Container
from functools import lru_cache
from typing import Any, Final

from pydicom.charset import default_encoding
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from analysis.ecg import Code
from dicom_node.report.concepts import coded
from dicom_node.report.draft import AttributeSet, Draft, attribute
from dicom_node.report.objects import PRODUCT, UNREADABLE, Unreportable
from dicom_node.report.uids import IMPLEMENTATION_CLASS_UID

_PREAMBLE: Final = bytes(128) + b"DICM"
_TEXT: Final = frozenset(
    ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT"]
)
_NUMBERS: Final = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d"}
_ZERO_PADDED: Final = frozenset({"UI", "OB", "OW", "UN"})
_LONGEST_SHORT: Final = 0xFFFF
_GROUP_LENGTH: Final = 12  # bytes of the element (0002,0000)

Charset = str | tuple[str, ...]


def encode(draft: Draft) -> bytes:
    """Return the file: zero preamble, Explicit VR Little Endian, fixed file meta information.

    Raises
    ------
    Unreportable
        If a value cannot be encoded.
    """
    charset = draft.get("SpecificCharacterSet") or default_encoding
    charset = charset if isinstance(charset, str) else tuple(charset)
    try:
        sop_class, instance = draft.get("SOPClassUID"), draft.get("SOPInstanceUID")
        return header(sop_class, instance, ExplicitVRLittleEndian) + _item(draft, charset)
    except UNREADABLE as error:
        raise Unreportable("A value of the source cannot be written again.") from error


def header(sop_class: str, sop_instance: str, transfer_syntax: str) -> bytes:
    """Return preamble and file meta information (PS3.10 §7.1): a function of these words alone."""
    body = _item(
        {
            "FileMetaInformationVersion": b"\0\1",
            "MediaStorageSOPClassUID": sop_class,
            "MediaStorageSOPInstanceUID": sop_instance,
            "TransferSyntaxUID": transfer_syntax,
            "ImplementationClassUID": IMPLEMENTATION_CLASS_UID,
            "ImplementationVersionName": PRODUCT.upper(),
        },
        default_encoding,
    )
    return _PREAMBLE + _encoded(0x00020000, "UL", len(body), default_encoding) + body


def data_set(file: bytes) -> bytes:
    """Return the data set of a file whose meta information begins with its length, as ours do."""
    (length,) = struct.unpack_from("<L", file, len(_PREAMBLE) + _GROUP_LENGTH - 4)
    return file[len(_PREAMBLE) + _GROUP_LENGTH + length :]


def _item(item: AttributeSet, charset: Charset) -> bytes:
    """Return the elements in the order of their tags."""
    if isinstance(item, dict):
        slots = _slots(tuple(item))
        return b"".join([_encoded(tag, vr, item[word], charset) for tag, vr, word in slots])
    if isinstance(item, Dataset):
        elements = _brought(item, {}, charset)
    else:
        slots = _slots(tuple(item.ours))
        ours = {tag: _encoded(tag, vr, item.ours[word], charset) for tag, vr, word in slots}
        elements = ours | _brought(item.brought, ours, charset)
    return b"".join([elements[tag] for tag in sorted(elements)])


@lru_cache(maxsize=1024)
def _slots(keywords: tuple[str, ...]) -> list[tuple[int, str, str]]:
    """Return tag, value representation and keyword, in the order of the tags."""
    known = ((*attribute(keyword), keyword) for keyword in keywords)
    return sorted((int(tag), vr, keyword) for tag, vr, keyword in known)


def _brought(dataset: Dataset, but: Container[int], charset: Charset) -> dict[int, bytes]:
    brought = [(int(e.tag), e) for e in list(dataset.values())]
    return {tag: _element(e, dataset, charset) for tag, e in brought if tag not in but}


def _element(element: Any, dataset: Dataset, charset: Charset) -> bytes:
    if element.is_raw and not _is_ready(element):
        element = dataset[element.tag]
    return _encoded(int(element.tag), element.VR, element.value, charset)


def _is_ready(element: RawDataElement) -> bool:
    """Return whether it came in the bytes that are to be written."""
    return element.VR is not None and element.is_little_endian and not element.is_implicit_VR


def _encoded(tag: int, vr: str, value: Any, charset: Charset) -> bytes:
    if vr == "CS" and isinstance(value, str) and value.isascii():
        return _word(tag, value)
    data = _value(vr, value, charset)
    if data is None:
        return _by_pydicom(DataElement(tag, vr, value, already_converted=True), charset)
    return _header(tag, vr, len(data) + len(data) % 2) + _even(vr, data)


@lru_cache(maxsize=1024)
def _word(tag: int, value: str) -> bytes:
    """Return a Code String element: few words, each many times."""
    return _header(tag, "CS", len(value) + len(value) % 2) + _even("CS", value.encode("ascii"))


def _value(vr: str, value: Any, charset: Charset) -> bytes | None:
    """Return the bytes of items, ASCII text, numbers or bytes; None leaves it to pydicom."""
    if isinstance(value, Code):
        return _code(*value, charset)
    if value is None or isinstance(value, bytes):
        return value or b""
    if vr == "SQ":
        return b"".join([_delimited(_item(item, charset)) for item in value])
    if vr in _NUMBERS:
        many = value if hasattr(value, "__iter__") else (value,)
        return struct.pack(f"<{len(many)}{_NUMBERS[vr]}", *many)
    text = str(value)
    if vr in _TEXT and not hasattr(value, "append") and text.isascii():
        return text.encode("ascii")
    return None


@lru_cache(maxsize=1024)
def _code(scheme: str, value: str, meaning: str, charset: Charset) -> bytes:
    return _delimited(_item(coded(Code(scheme, value, meaning)), charset))


def _delimited(body: bytes) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(body)) + body


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


def _by_pydicom(element: DataElement, charset: Charset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_data_element(buffer, element, charset if isinstance(charset, str) else list(charset))
    return bytes(buffer.getvalue())
