"""The DICOM file format (PS3.10 §7): what stands before a data set, put on and taken off."""

import struct
from typing import Final

from dicom_node.report.uids import IMPLEMENTATION_CLASS_UID

_PREAMBLE: Final = bytes(128) + b"DICM"
_GROUP_LENGTH: Final = 12  # bytes of the element (0002,0000)


def header(sop_class: str, sop_instance: str, transfer_syntax: str) -> bytes:
    """Return preamble and file meta information: a function of these words alone."""
    elements = (
        _element(0x0001, b"OB", b"\0\1"),
        _element(0x0002, b"UI", _padded(sop_class)),
        _element(0x0003, b"UI", _padded(sop_instance)),
        _element(0x0010, b"UI", _padded(transfer_syntax)),
        _element(0x0012, b"UI", _padded(IMPLEMENTATION_CLASS_UID)),
    )
    body = b"".join(elements)
    return _PREAMBLE + _element(0x0000, b"UL", struct.pack("<L", len(body))) + body


def data_set(file: bytes) -> bytes:
    """Return the data set of a file whose meta information begins with its length."""
    (length,) = struct.unpack_from("<L", file, len(_PREAMBLE) + _GROUP_LENGTH - 4)
    return file[len(_PREAMBLE) + _GROUP_LENGTH + length :]


def _padded(uid: str) -> bytes:
    text = uid.encode("ascii")
    return text + b"\0" * (len(text) % 2)


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    length = struct.pack("<HL", 0, len(value)) if vr == b"OB" else struct.pack("<H", len(value))
    return struct.pack("<HH", 0x0002, number) + vr + length + value
