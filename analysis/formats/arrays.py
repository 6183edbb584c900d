"""Tables in binary files: NumPy (.npy, .npz) and Parquet.

No pickle is ever loaded, and no size that a file states is believed before its bytes are there.
What `analysis.write` writes, an .npz or a .parquet with its leads, unit and rate, needs no
statement of the caller.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Final
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt

from analysis.ecg import Recording
from analysis.errors import Reason, Undecodable
from analysis.formats.channels import MAX_SAMPLES
from analysis.formats.content import Content
from analysis.formats.fields import number
from analysis.formats.tables import Table, table_recording

MAX_INFLATED: Final = 2**28
"""Bytes of an archive: 67 million samples of float32."""
MAX_MEMBERS: Final = 1000

_HEADERS: Final = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

_Array = npt.NDArray[Any]


# NumPy


def recognises_npy(data: bytes) -> bool:
    """Return whether the bytes begin as one NumPy array."""
    return data.startswith(b"\x93NUMPY")


def read_npy(content: Content) -> Recording:
    """Return the ECG of one array; the caller states leads, unit and rate.

    Raises
    ------
    Undecodable
        With the reason, and nothing else.
    """
    table = Table(columns=_numbers(_npy(content.data)), format="NumPy")
    return table_recording(table, content.stated)


def recognises_npz(data: bytes) -> bool:
    """Return whether the bytes begin as an archive whose first file is a NumPy array."""
    return data.startswith(b"PK\x03\x04") and b".npy" in data[30:158]


def read_npz(content: Content) -> Recording:
    """Return the ECG of an archive of arrays: `signal`, `leads`, `fs` (Hz) and `unit`.

    Raises
    ------
    Undecodable
        With the reason, and nothing else.
    """
    arrays = _npz(content.data)
    if "signal" not in arrays:
        raise Undecodable(Reason.UNSUPPORTED, "The archive has no array named signal.")
    table = Table(
        columns=_numbers(arrays["signal"]),
        format="NumPy",
        names=_words(arrays.get("leads")),
        unit=next(iter(_words(arrays.get("unit")) or ()), None),
        rate=_scalar(arrays.get("fs")),
    )
    return table_recording(table, content.stated)


def _npz(data: bytes) -> Mapping[str, _Array]:
    if data.count(b"PK\1\2") > MAX_MEMBERS:
        raise Undecodable(Reason.TOO_LARGE, "The archive holds more files than any ECG.")
    with _library("archive"), ZipFile(BytesIO(data)) as archive:
        return dict(_members(archive))


def _members(archive: ZipFile) -> Iterator[tuple[str, _Array]]:
    """Yield what is of use in the archive, one byte more than allowed unpacked at most."""
    left = MAX_INFLATED
    for name in ("signal", "leads", "fs", "unit"):
        if f"{name}.npy" not in archive.namelist():
            continue
        with archive.open(f"{name}.npy") as file:
            data = file.read(left + 1)
        left -= len(data)
        if left < 0:
            raise Undecodable(Reason.TOO_LARGE, "The archive holds more than any ECG.")
        yield name, _npy(data)


def _npy(data: bytes) -> _Array:
    """Return an array whose bytes are all there. Raises DAMAGED or UNSUPPORTED."""
    file = BytesIO(data)
    with _library("array"):
        shape, columns_first, kind = _HEADERS[np.lib.format.read_magic(file)](file)
        if kind.hasobject:
            raise Undecodable(Reason.UNSUPPORTED, "The array holds objects and no numbers.")
        count = math.prod(shape)
        if min(shape, default=1) < 0 or count * kind.itemsize != len(data) - file.tell():
            raise Undecodable(Reason.DAMAGED, "The array is not as long as its header says.")
        flat = np.frombuffer(data, kind, count, file.tell())
        return flat.reshape(shape, order="F" if columns_first else "C")


def _numbers(array: _Array) -> _Array:
    """Return an array of real numbers of at most two axes. Raises UNSUPPORTED or TOO_LARGE."""
    if array.dtype.kind not in "iuf" or array.ndim > 2:  # noqa: PLR2004 - leads and samples
        raise Undecodable(Reason.UNSUPPORTED, "The array is no table of real numbers.")
    if array.size > MAX_SAMPLES:
        raise Undecodable(Reason.TOO_LARGE, "The array has more samples than any ECG read here.")
    return array


def _words(array: _Array | None) -> list[str] | None:
    return None if array is None or array.dtype.kind != "U" else array.ravel().tolist()


def _scalar(array: _Array | None) -> float | None:
    return None if array is None or array.size != 1 else float(_numbers(array).item())


# Parquet


def recognises_parquet(data: bytes) -> bool:
    """Return whether the bytes begin and end as a Parquet file."""
    return data.startswith(b"PAR1") and data.endswith(b"PAR1")


def read_parquet(content: Content) -> Recording:
    """Return the ECG of a Parquet file; its metadata may say `sampling_frequency` and `unit`.

    Raises
    ------
    Undecodable
        With the reason, and nothing else.
    """
    try:
        from pyarrow import BufferReader  # type: ignore[import-untyped]  # noqa: PLC0415 - extra
        from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError:
        raise Undecodable(
            Reason.UNSUPPORTED, "Parquet needs the extra: pip install 'sinusnode[formats]'."
        ) from None
    with _library("Parquet file"):
        file = ParquetFile(BufferReader(content.data), page_checksum_verification=True)
        if file.metadata.num_rows * file.metadata.num_columns > MAX_SAMPLES:
            raise Undecodable(Reason.TOO_LARGE, "The table has more samples than any ECG.")
        found = file.read(use_threads=False)
        columns = np.stack([np.asarray(column, np.float64) for column in found.columns])
    said = found.schema.metadata or {}
    table = Table(
        columns=columns,
        format="Parquet",
        names=found.column_names,
        unit=said.get(b"unit", b"").decode("utf-8", "replace") or None,
        rate=number(said.get(b"sampling_frequency", b"").decode("utf-8", "replace")),
    )
    return table_recording(table, content.stated)


@contextmanager
def _library(what: str) -> Iterator[None]:
    """Turn whatever a library raises at damaged bytes into a refusal."""
    try:
        yield
    except (Undecodable, MemoryError):
        raise
    except Exception as error:  # the boundary: NumPy, zipfile and pyarrow raise many kinds
        raise Undecodable(
            Reason.DAMAGED, f"The {what} cannot be decoded ({type(error).__name__})."
        ) from error
