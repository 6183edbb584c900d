"""MATLAB files of versions 4 and 5 (.mat) as bare tables: the one matrix of numbers in them.

Read here and not by scipy, which at damaged files ends the process. Cells, structures, text and
complex numbers are passed over; version 7.3, which is HDF5, is refused.

References
----------
MathWorks, MAT-File Format (chapter 1: version 5; appendix: version 4).
"""

import math
import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from analysis.ecg import Recording
from analysis.errors import Reason, Undecodable
from analysis.formats.channels import MAX_SAMPLES
from analysis.formats.content import Content
from analysis.formats.tables import Table, table_recording

MAX_INFLATED: Final = 2**28
"""Bytes of a compressed variable: 67 million samples of float32."""
MAX_VARIABLES: Final = 1000

_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_RATES: Final = {"fs", "sampling_frequency"}
_HEADER: Final = 128
"""Bytes before the first element of version 5."""
_MATRIX, _COMPRESSED = 14, 15
_TYPES: Final = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
"""Of the elements of version 5."""
_NUMERIC: Final = range(6, 16)
"""Classes of arrays of version 5 that hold numbers."""
_COMPLEX_OR_LOGICAL: Final = 0x0A00
_VERSION_4: Final = struct.Struct("<5i")
_TYPES_4: Final = ("<f8", "<f4", "<i4", "<i2", "<u2", "<u1")
_LONGEST_NAME: Final = 64

_Array = npt.NDArray[Any]
_Order = Literal["little", "big"]


def recognises(data: bytes) -> bool:
    """Return whether the bytes begin as a MATLAB file of any version."""
    return data.startswith((b"MATLAB ", _HDF5)) or _begins_as_version_4(data)


def read(content: Content) -> Recording:
    """Return the ECG of the one matrix in a MATLAB file; the caller states leads and unit.

    A scalar named `fs` or `sampling_frequency` is the rate in Hz.

    Raises
    ------
    Undecodable
        UNSUPPORTED for version 7.3; AMBIGUOUS where there are several matrices; and others with
        their reason.
    """
    data = content.data
    if data.startswith((b"MATLAB 7.3", _HDF5)):
        raise Undecodable(
            Reason.UNSUPPORTED, "MATLAB 7.3 files are HDF5; save with -v7 and send that."
        )
    variables = list(_version_4(data) if _begins_as_version_4(data) else _version_5(data))
    matrices = [array for _, array in variables if array.size > 1]
    if len(matrices) != 1:
        raise Undecodable(
            Reason.AMBIGUOUS if matrices else Reason.NO_WAVEFORM,
            f"The file holds {len(matrices)} matrices of numbers, and not the one of an ECG.",
        )
    rates = {
        float(array.item())
        for name, array in variables
        if array.size == 1 and name.lower() in _RATES
    }
    table = Table(
        columns=matrices[0], format="MATLAB", rate=rates.pop() if len(rates) == 1 else None
    )
    return table_recording(table, content.stated)


# Version 5


def _version_5(data: bytes) -> Iterator[tuple[str, _Array]]:
    """Yield the matrices of numbers with their names."""
    order: _Order = "little" if data[126:_HEADER] == b"IM" else "big"
    left = MAX_INFLATED
    for kind, content in _elements(data[_HEADER:], order):
        if kind == _COMPRESSED:
            inflated = _inflated(content, left)
            left -= len(inflated)
            kind, content = next(_elements(inflated, order), (0, b""))  # noqa: PLW2901 - what it holds
        if kind == _MATRIX and (found := _matrix(content, order)):
            yield found


def _elements(data: bytes, order: _Order) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the content of each element; small ones stand in their own tag."""
    at = count = 0
    while at + 8 <= len(data):
        kind, length = (int.from_bytes(data[at + n : at + n + 4], order) for n in (0, 4))
        first, end = at + 8, at + 8 + length
        if small := kind >> 16:
            kind, first, end = kind & 0xFFFF, at + 4, at + 4 + small
        count += 1
        if end > len(data) or small > 4 or count > MAX_VARIABLES:  # noqa: PLR2004 - bytes in a tag
            raise Undecodable(Reason.DAMAGED, "An element of the file is cut; save it again.")
        yield kind, data[first:end]
        at = end if kind == _COMPRESSED else end + -end % 8


def _inflated(data: bytes, most: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, most + 1)
    except zlib.error:
        raise Undecodable(Reason.DAMAGED, "A compressed variable is damaged.") from None
    if len(found) > most:
        raise Undecodable(Reason.TOO_LARGE, "The file holds more than any ECG.")
    if not stream.eof:
        raise Undecodable(Reason.DAMAGED, "A compressed variable is cut.")
    return found


def _matrix(data: bytes, order: _Order) -> tuple[str, _Array] | None:
    """Return the name and the numbers of an array, or None where it holds something else."""
    parts = list(islice(_elements(data, order), 4))
    if len(parts) < 4:  # noqa: PLR2004 - flags, shape, name, numbers
        return None
    (_, flags), (_, lengths), (_, name), (kind, numbers) = parts
    said = int.from_bytes(flags[:4], order)
    if said & 0xFF not in _NUMERIC or said & _COMPLEX_OR_LOGICAL or kind not in _TYPES:
        return None
    sign = "<" if order == "little" else ">"
    shape = np.frombuffer(lengths[: len(lengths) // 4 * 4], f"{sign}i4").tolist()
    return name.decode("latin-1"), _shaped(numbers, sign + _TYPES[kind], shape)


def _shaped(data: bytes, kind: str, shape: list[int]) -> _Array:
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * np.dtype(kind).itemsize != len(data):
        raise Undecodable(Reason.DAMAGED, "A matrix has not as many numbers as its shape says.")
    if len(shape) != 2:  # noqa: PLR2004 - rows and columns
        raise Undecodable(Reason.UNSUPPORTED, "An array of the file has more than two axes.")
    if count > MAX_SAMPLES:
        raise Undecodable(Reason.TOO_LARGE, "The file holds more than any ECG.")
    return np.frombuffer(data, kind).reshape(shape, order="F")


# Version 4


def _begins_as_version_4(data: bytes) -> bool:
    """Return whether the bytes begin with the five words of a matrix and its name."""
    if len(data) < _VERSION_4.size:
        return False
    kind, rows, columns, imaginary, length = _VERSION_4.unpack_from(data)
    name = data[_VERSION_4.size : _VERSION_4.size + max(length, 0)]
    return (
        kind % 10 in {0, 1}
        and 0 <= kind < 10 * len(_TYPES_4)
        and min(rows, columns) > 0
        and imaginary in {0, 1}
        and 1 < length <= _LONGEST_NAME
        and name.endswith(b"\0")
        and name[:-1].decode("latin-1").isidentifier()
    )


def _version_4(data: bytes) -> Iterator[tuple[str, _Array]]:
    """Yield the matrices of real numbers with their names."""
    at = count = 0
    while at < len(data):
        if not _begins_as_version_4(data[at : at + 256]) or count == MAX_VARIABLES:
            raise Undecodable(Reason.DAMAGED, "A variable of the file is damaged; save it again.")
        kind, rows, columns, imaginary, length = _VERSION_4.unpack_from(data, at)
        first = at + _VERSION_4.size
        numbers = _TYPES_4[kind // 10]
        size = rows * columns * np.dtype(numbers).itemsize
        begin, at = first + length, first + length + size * (1 + imaginary)
        if at > len(data):
            raise Undecodable(Reason.DAMAGED, "A variable of the file is cut; save it again.")
        count += 1
        if kind % 10 == 0 and not imaginary:
            name = data[first : begin - 1].decode("latin-1")
            yield name, _shaped(data[begin : begin + size], numbers, [rows, columns])
