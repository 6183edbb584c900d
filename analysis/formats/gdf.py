"""GDF version 2: records of signals, each with its own number type, scale and filters.

References
----------
Schlögl, GDF - A general data format for biosignals (arXiv:cs/0608052); ÖNORM K 2204. The
duration of a record is a fraction up to version 2.20 and a float64 since.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.ecg import Acquisition, Patient, Recording
from analysis.errors import Reason, Undecodable
from analysis.formats.channels import Channel, Strip, at_one_rate, recording
from analysis.formats.common import lead_from_text
from analysis.formats.content import Content
from analysis.formats.fields import acquisition_of, patient_of

MAX_SIGNALS: Final = 1000

_BLOCK: Final = 256
_SIGNAL: Final = np.dtype(
    [
        ("label", "S16"), ("transducer", "S80"), ("unit", "S6"), ("unit_code", "<u2"),
        ("physical_low", "<f8"), ("physical_high", "<f8"),
        ("digital_low", "<f8"), ("digital_high", "<f8"),
        ("prefiltering", "S68"), ("low_pass", "<f4"), ("high_pass", "<f4"), ("notch", "<f4"),
        ("samples", "<u4"), ("kind", "<u4"), ("place", "V12"), ("sensor", "V20"),
    ]
)  # fmt: skip
"""The fields of a signal header; in the file each field stands for all signals together."""
_KINDS: Final = {
    1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<i8", 8: "<u8",
    16: "<f4", 17: "<f8",
}  # fmt: skip
_MILLIVOLTS: Final = {4256: 1e3, 4274: 1.0, 4275: 1e-3, 4276: 1e-6}
"""By the code of the unit (ISO/IEEE 11073-10101): V, mV, µV, nV."""
_FIRST_DAY: Final = 366
"""Of the proleptic calendar of Python, in days since the year 0."""
_SEXES: Final = ("", "M", "F", "")


class _Signal(NamedTuple):
    label: str
    step: float | None
    zero: float
    samples: int
    """In a record."""
    kind: str
    """Of number, as NumPy calls it."""
    first: int
    """Its first byte within a record."""
    filters: tuple[float, float, float]
    """Lower and upper edge of the pass band and the mains filter, Hz."""


def recognises(data: bytes) -> bool:
    """Return whether the bytes begin as a GDF header."""
    return data.startswith(b"GDF ") and len(data) >= _BLOCK


def read(content: Content) -> Recording:
    """Return the ECG of a GDF file; its events are left out with a note.

    Raises
    ------
    Undecodable
        UNSUPPORTED for version 1; and others with their reason.
    """
    data = content.data
    if not data.startswith(b"GDF 2."):
        raise Undecodable(Reason.UNSUPPORTED, "Only version 2 of GDF is read; convert it to EDF+.")
    count, blocks, records = (
        int.from_bytes(data[at : at + size], "little", signed=size > 2)  # noqa: PLR2004 - a count
        for at, size in ((252, 2), (184, 2), (236, 8))
    )
    if not 1 + count <= blocks <= len(data) // _BLOCK:
        raise Undecodable(Reason.DAMAGED, "The header is not as long as its signals need.")
    if count > MAX_SIGNALS:
        raise Undecodable(Reason.TOO_LARGE, "The file has more signals than any ECG.")
    signals = list(_signals(data, count))
    block, notes = _records(data[blocks * _BLOCK :], signals, records)
    strip, rate_notes = _strip(data, block, signals)
    patient, patient_notes = _patient(data, strip.start)
    acquisition, filter_notes = _acquisition(signals, strip.start)
    return recording(
        strip,
        format="GDF",
        patient=patient,
        acquisition=acquisition,
        notes=(*notes, *rate_notes, *patient_notes, *filter_notes),
    )


def _signals(data: bytes, count: int) -> Iterator[_Signal]:
    columns: dict[str, npt.NDArray[Any]] = {}
    at = _BLOCK
    for name in _SIGNAL.names or ():
        columns[name] = np.frombuffer(data, _SIGNAL[name], count, at)
        at += _SIGNAL[name].itemsize * count
    first = 0
    for row in range(count):
        said: dict[str, Any] = {name: column[row] for name, column in columns.items()}
        kind, size = _KINDS.get(int(said["kind"])), int(said["samples"])
        if kind is None:
            raise Undecodable(Reason.UNSUPPORTED, "A signal has numbers of a type not read here.")
        step, zero = _scale(said)
        yield _Signal(
            label=said["label"].decode("latin-1").strip(),
            step=step,
            zero=zero,
            samples=size,
            kind=kind,
            first=first,
            filters=(float(said["high_pass"]), float(said["low_pass"]), float(said["notch"])),
        )
        first += size * np.dtype(kind).itemsize


def _scale(said: Mapping[str, Any]) -> tuple[float | None, float]:
    """Return mV per step and the stored value of 0 mV; no step where a range says none."""
    low, high, lowest, highest = (
        float(said[name])
        for name in ("physical_low", "physical_high", "digital_low", "digital_high")
    )
    unit = _MILLIVOLTS.get(int(said["unit_code"]))
    gain = (high - low) / (highest - lowest) if highest > lowest else 0.0
    if unit is None or not gain or not np.isfinite(gain):
        return None, 0.0
    return unit * gain, lowest - low / gain


def _records(
    data: bytes, signals: Sequence[_Signal], stated: int
) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Return ``(records, bytes)``, and notes. Raises DAMAGED where records are missing."""
    size = sum(s.samples * np.dtype(s.kind).itemsize for s in signals)
    held = len(data) // size if size else 0
    if not held or not stated:
        raise Undecodable(Reason.NO_WAVEFORM, "The file holds no samples.")
    if held < stated:
        raise Undecodable(
            Reason.DAMAGED, f"The file is cut: {held} of its {stated} records are there."
        )
    count = stated if stated > 0 else held
    rest = len(data) - count * size
    notes = [f"{rest} bytes of events after the last record were left out."] if rest else []
    return np.frombuffer(data, np.uint8, count * size).reshape(count, size), notes


def _strip(
    data: bytes, block: npt.NDArray[np.uint8], signals: Sequence[_Signal]
) -> tuple[Strip, tuple[str, ...]]:
    duration = _duration(data)
    described = [
        (
            Channel(signal.label, _samples(block, signal), signal.step, signal.zero),
            signal.samples / duration if duration > 0 else None,
        )
        for signal in signals
    ]
    return at_one_rate(described, _moment(data[168:176]))


def _duration(data: bytes) -> float:
    """Return the seconds of a record, 0 where they are absurd."""
    if data[4:8] > b"2.20":
        (duration,) = struct.unpack_from("<d", data, 244)
        return float(duration) if np.isfinite(duration) else 0.0
    numerator, denominator = struct.unpack_from("<2I", data, 244)
    return float(numerator / denominator) if denominator else 0.0


def _samples(block: npt.NDArray[np.uint8], signal: _Signal) -> npt.NDArray[Any]:
    """Return the stored numbers of a lead, ``(samples,)``; none of other signals."""
    if lead_from_text(signal.label) is None:
        return np.empty(0)
    end = signal.first + signal.samples * np.dtype(signal.kind).itemsize
    return np.ascontiguousarray(block[:, signal.first : end]).reshape(-1).view(signal.kind)


def _moment(field: bytes) -> datetime | None:
    """Return a moment in days of 2**32 parts since the year 0, to the millisecond."""
    days = int.from_bytes(field, "little") / 2**32 - _FIRST_DAY
    with suppress(OverflowError, ValueError):
        if days > 1:
            start = datetime.fromordinal(int(days)) + timedelta(days=days % 1)
            return start + timedelta(microseconds=-start.microsecond + round(start.microsecond, -3))
    return None


def _patient(data: bytes, recorded: datetime | None) -> tuple[Patient, tuple[str, ...]]:
    words = data[8:74].decode("latin-1").strip(" \0").split(" ", 1)
    identifier, name = (("" if word == "X" else word) for word in (*words, "", "")[:2])
    born = _moment(data[176:184])
    return patient_of(
        age=None,
        birth_date=f"{born:%Y-%m-%d}" if born else "",
        recorded=recorded,
        sex=_SEXES[data[87] & 3],
        identifier=identifier,
        name=(name,),
    )


def _acquisition(
    signals: Sequence[_Signal], start: datetime | None
) -> tuple[Acquisition, tuple[str, ...]]:
    filters = {str(s.filters): s.filters for s in signals if lead_from_text(s.label)}
    told = ("The filters of the leads differ.",) if len(filters) > 1 else ()
    edges = next(iter(filters.values())) if len(filters) == 1 else (0.0, 0.0, 0.0)
    low, high, notch = (edge if np.isfinite(edge) else 0.0 for edge in edges)
    acquisition, notes = acquisition_of(acquired_at=start, low=low, high=high, notch=notch)
    return acquisition, (*notes, *told)
