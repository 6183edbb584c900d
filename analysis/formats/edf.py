"""EDF, EDF+, BDF and BDF+: 16 or 24 bits, in records of equal length.

Read here and not by a library: those at hand shorten a cut file, pass on the integers of a
channel without a physical range as if they were physical, and join the pieces of an interrupted
recording.

References
----------
Kemp et al. 1992 (EDF); Kemp and Olivan 2003 (EDF+), www.edfplus.info; BioSemi (BDF).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import accumulate
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from analysis.ecg import Acquisition, Annotation, Patient, Recording
from analysis.errors import Reason, Undecodable
from analysis.formats.channels import MAX_SAMPLES, Channel, Strip, at_one_rate, recording
from analysis.formats.common import MILLIVOLTS, lead_from_text
from analysis.formats.content import Content
from analysis.formats.fields import acquisition_of, moment, number, patient_of

MAX_MARKS: Final = 500_000
"""Annotations, and records that tell their time: 24 hours in records of 0.2 s."""
JITTER: Final = 0.01
"""Seconds by which a record may begin early or late before that is a gap."""

_BYTES: Final = {b"0       ": 2, b"\xffBIOSEMI": 3}
"""Per sample, by the version field."""
_FIXED: Final = 256
_WIDTHS: Final = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
"""Characters of the fields of a signal header."""
_FIRST_YEAR: Final = 85
"""Of the two digits that stand for the years from 1985 to 2084 (EDF+ §2.1.3.2)."""
_TIMES: Final = frozenset({"EDF Annotations", "BDF Annotations"})
_MONTHS: Final = re.findall("...", "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC")
_ONSET: Final = re.compile(r"[+-]\d{1,12}(?:\.\d{0,20})?")

_Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Signal:
    label: str
    unit: str
    physical: tuple[float | None, float | None]
    digital: tuple[float | None, float | None]
    prefiltering: str
    first: int
    """Its first sample within a record."""
    samples: int
    """In a record."""

    @property
    def gain(self) -> float | None:
        """Units per step, or None where a range is absent, empty or upside down."""
        (low, high), (lowest, highest) = self.physical, self.digital
        if low is None or high is None or lowest is None or highest is None:
            return None
        return (high - low) / (highest - lowest) or None if highest > lowest else None

    def channel(self, samples: npt.NDArray[Any]) -> Channel:
        """Return the signal with its stored samples."""
        unit, gain = MILLIVOLTS.get(self.unit), self.gain
        if unit is None or gain is None:
            return Channel(self.label, samples, None)
        zero = (self.digital[0] or 0.0) - (self.physical[0] or 0.0) / gain
        return Channel(self.label, samples, unit * gain, zero)


@dataclass(frozen=True, slots=True)
class _Header:
    width: int
    """Bytes per sample."""
    patient: str
    recording: str
    start: datetime | None
    kind: str
    """EDF+C or EDF+D (BDF likewise); other words in a file that is not EDF+."""
    records: int
    """-1 where it was not known when the header was written."""
    duration: Fraction
    """Seconds per record."""
    signals: Sequence[_Signal]

    @property
    def length(self) -> int:
        """Bytes of the header."""
        return _FIXED * (1 + len(self.signals))

    @property
    def plus(self) -> bool:
        """Whether identification and time follow EDF+."""
        return self.kind[1:4] == "DF+"

    @property
    def interrupted(self) -> bool:
        """Whether the records need not follow each other in time."""
        return self.plus and self.kind[4:5] == "D"

    def rate(self, signal: _Signal) -> float | None:
        """Return samples per second, Hz, as the record states them."""
        return float(signal.samples / self.duration) if self.duration else None


@dataclass(frozen=True, slots=True)
class _Mark:
    """One time-stamped annotations list (EDF+ §2.2.2)."""

    record: int
    onset: float
    """Seconds after the start that the header tells."""
    duration: float
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Timing:
    """When the records begin, in seconds after the start that the header tells."""

    first: float = 0.0
    gaps: npt.NDArray[np.float64] | None = None
    """``(records,)`` after the first, where they leave gaps."""


def recognises(data: bytes) -> bool:
    """Return whether the bytes begin as the header of an EDF or BDF file."""
    return data[:8] in _BYTES and data[252:256].strip().isdigit()


def read(content: Content) -> Recording:
    """Return the ECG of an EDF, EDF+, BDF or BDF+ file; the gaps of an interrupted one are NaN.

    Raises
    ------
    Undecodable
        With the reason, and nothing else.
    """
    header = _header(content.data)
    records, notes = _records(header, content.data)
    timelines = [_marks(header, s, records) for s in header.signals if s.label in _TIMES]
    timing = _timing(header, timelines[0], len(records)) if timelines else _Timing()
    strip, rate_notes = _strip(header, records, timing)
    patient, patient_notes = _patient(header, strip.start)
    acquisition, acquisition_notes = _acquisition(header, strip.start)
    return recording(
        strip,
        format=("EDF" if header.width == 2 else "BDF") + "+" * header.plus,  # noqa: PLR2004 - bytes
        patient=patient,
        acquisition=acquisition,
        annotations=[
            item for marks in timelines for item in _annotations(marks, timing, strip.rate)
        ],
        notes=(*notes, *rate_notes, *patient_notes, *acquisition_notes),
    )


# Header and records


def _header(data: bytes) -> _Header:
    count = _integer(_text(data[252:256]))
    length = _FIXED * (1 + count)
    if _integer(_text(data[184:192])) != length or len(data) < length:
        raise Undecodable(Reason.DAMAGED, "The header is not as long as its signals need.")
    duration = _text(data[244:252])
    if not re.fullmatch(r"\d{1,8}(\.\d{0,7})?", duration):
        raise Undecodable(Reason.DAMAGED, "The duration of a record is no number.")
    kind, words = _text(data[192:236]), _text(data[88:168])
    return _Header(
        width=_BYTES[data[:8]],
        patient=_text(data[8:88]),
        recording=words,
        start=_start(_text(data[168:176]), _text(data[176:184]), words),
        kind=kind,
        records=_integer(_text(data[236:244])),
        duration=Fraction(duration),
        signals=tuple(_signals(data, count)),
    )


def _signals(data: bytes, count: int) -> Iterator[_Signal]:
    columns = list(_columns(data, count))
    sizes = [_integer(text) for text in columns[8]]
    if any(size < 0 for size in sizes):
        raise Undecodable(Reason.DAMAGED, "A signal has a negative number of samples.")
    firsts = accumulate(sizes, initial=0)
    for first, size, fields in zip(firsts, sizes, zip(*columns, strict=True), strict=False):
        label, _, unit, low, high, lowest, highest, prefiltering, _, _ = fields
        yield _Signal(
            label=label,
            unit=unit,
            physical=(number(low), number(high)),
            digital=(number(lowest), number(highest)),
            prefiltering=prefiltering,
            first=first,
            samples=size,
        )


def _columns(data: bytes, count: int) -> Iterator[list[str]]:
    """Yield each field of the signal headers, for every signal."""
    start = _FIXED
    for width in _WIDTHS:
        end = start + width * count
        yield [_text(data[at : at + width]) for at in range(start, end, width)]
        start = end


def _text(field: bytes) -> str:
    return field.decode("latin-1").strip(" \0")


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,8}", text):
        raise Undecodable(Reason.DAMAGED, "A count in the header is no number.")
    return int(text)


def _records(header: _Header, data: bytes) -> tuple[_Bytes, list[str]]:
    """Return ``(records, bytes)``, and notes. Raises DAMAGED where records are missing."""
    size = sum(signal.samples for signal in header.signals) * header.width
    held = (len(data) - header.length) // size if size else 0
    if not size or not header.records or not held:
        raise Undecodable(Reason.NO_WAVEFORM, "The file holds no samples.")
    if held < header.records:
        raise Undecodable(
            Reason.DAMAGED, f"The file is cut: {held} of its {header.records} records are there."
        )
    count = header.records if header.records > 0 else held
    block = np.frombuffer(data, np.uint8, count * size, header.length).reshape(count, size)
    notes = []
    if header.records < 0:
        notes.append("The number of records is not stated; all complete ones were read.")
    if rest := len(data) - header.length - count * size:
        notes.append(f"{rest} bytes after the last record were ignored.")
    return block, notes


def _strip(header: _Header, records: _Bytes, timing: _Timing) -> tuple[Strip, tuple[str, ...]]:
    """Return the leads at the rate that most of them have; other signals by name alone."""
    described = [
        (signal.channel(_samples(header, signal, records, timing)), header.rate(signal))
        for signal in header.signals
        if signal.label not in _TIMES
    ]
    start = header.start and header.start + timedelta(seconds=timing.first)
    strip, notes = at_one_rate(described, start)
    if timing.gaps is None:
        return strip, notes
    return strip, (*notes, "The recording is interrupted; its gaps hold no samples.")


def _samples(
    header: _Header, signal: _Signal, records: _Bytes, timing: _Timing
) -> npt.NDArray[Any]:
    """Return the stored integers of a lead, ``(samples,)``, NaN in gaps; none of other signals."""
    if lead_from_text(signal.label) is None:
        return np.empty(0)
    samples = _integers(_columns_of(header, signal, records), header.width)
    rate = header.rate(signal)
    if timing.gaps is None or not rate:
        return samples
    return _spread(samples.reshape(len(records), -1), timing.gaps * rate)


def _columns_of(header: _Header, signal: _Signal, records: _Bytes) -> _Bytes:
    """Return the bytes of one signal, ``(records, bytes)``."""
    first = signal.first * header.width
    return np.ascontiguousarray(records[:, first : first + signal.samples * header.width])


def _integers(raw: _Bytes, width: int) -> npt.NDArray[Any]:
    if width == 2:  # noqa: PLR2004 - bytes
        return raw.reshape(-1).view("<i2")
    wide = np.zeros((raw.size // 3, 4), np.uint8)
    wide[:, 1:] = raw.reshape(-1, 3)
    return wide.reshape(-1).view("<i4") >> 8


def _spread(records: npt.NDArray[Any], places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return ``(records, samples)`` put at their places on one axis, NaN between them.

    Raises
    ------
    Undecodable
        AMBIGUOUS where they overlap, TOO_LARGE where they are too far apart.
    """
    size = records.shape[1]
    if np.any(np.diff(places) < size - 0.5 - JITTER * size):
        raise Undecodable(Reason.AMBIGUOUS, "The records of the file overlap in time.")
    if places[-1] + size > MAX_SAMPLES:
        raise Undecodable(Reason.TOO_LARGE, "The gaps are longer than any ECG read here.")
    earliest = np.arange(len(places)) * size
    starts = np.maximum.accumulate(np.rint(places).astype(np.int64) - earliest) + earliest
    axis = np.full(int(starts[-1]) + size, np.nan)
    axis[starts[:, np.newaxis] + np.arange(size)] = records
    return axis


# Time and annotations


def _marks(header: _Header, signal: _Signal, records: _Bytes) -> list[_Mark]:
    """Return what an annotation signal holds, marks that only keep the time included."""
    raw = _columns_of(header, signal, records)
    items = len(raw) + np.count_nonzero((raw[:, :-1] == 0) & (raw[:, 1:] != 0))
    if items > MAX_MARKS:
        raise Undecodable(Reason.TOO_LARGE, "The file has more annotations than any ECG.")
    found = (
        _mark(record, item[0].decode("utf-8", "replace"))
        for record, row in enumerate(raw)
        for item in re.finditer(rb"[^\0]+", row)
    )
    return [mark for mark in found if mark is not None]


def _mark(record: int, item: str) -> _Mark | None:
    timing, *texts = item.split("\x14")
    onset, _, duration = timing.partition("\x15")
    if not texts or not _ONSET.fullmatch(onset):
        return None
    words = tuple(text.strip() for text in texts if text.strip())
    return _Mark(record, float(onset), number(duration) or 0.0, words)


def _timing(header: _Header, marks: Iterable[_Mark], records: int) -> _Timing:
    """Return when the records begin, by the first mark of each.

    Raises
    ------
    Undecodable
        DAMAGED where an interrupted recording does not tell the time of each record;
        AMBIGUOUS where one that is called continuous has gaps.
    """
    found: dict[int, float] = {}
    for mark in marks:
        found.setdefault(mark.record, mark.onset)
    if len(found) < records:
        if not header.interrupted:
            return _Timing(found.get(0, 0.0))
        raise Undecodable(Reason.DAMAGED, "A record of the interrupted file tells no time.")
    onsets = np.array(list(found.values()))
    late = np.diff(onsets) - float(header.duration)
    if not np.any(np.abs(late) > JITTER):
        return _Timing(float(onsets[0]))
    if header.interrupted:
        return _Timing(float(onsets[0]), onsets - onsets[0])
    raise Undecodable(Reason.AMBIGUOUS, "The file is called continuous, and its records are not.")


def _annotations(
    marks: Iterable[_Mark], timing: _Timing, rate: float | None
) -> Iterator[Annotation]:
    """Yield a mark of one or two samples, where it begins and ends, for each text."""
    for mark in marks:
        begin, end = (
            round((seconds - timing.first) * (rate or 0.0), 6)
            for seconds in (mark.onset, mark.onset + mark.duration)
        )
        for text in mark.texts:
            yield Annotation(text=text, samples=(begin, end) if end > begin else (begin,))


# Identification


def _start(day: str, time: str, words: str) -> datetime | None:
    """Return when the recording began: the day with four digits of the year where there is one."""
    if match := re.match(r"Startdate (\S+)", words):
        return moment(_iso_day(match[1]), time.replace(".", ":"))
    match = re.fullmatch(r"(\d\d)\.(\d\d)\.(\d\d)", day)
    if match is None:
        return None
    century = 19 if int(match[3]) >= _FIRST_YEAR else 20
    return moment(f"{century}{match[3]}-{match[2]}-{match[1]}", time.replace(".", ":"))


def _iso_day(stated: str) -> str:
    """Return a day such as 02-AUG-1951 in ISO 8601, other words as they are."""
    day, _, rest = stated.partition("-")
    month, _, year = rest.partition("-")
    if month.upper() not in _MONTHS:
        return stated
    return f"{year}-{_MONTHS.index(month.upper()) + 1:02}-{day}"


def _patient(header: _Header, recorded: datetime | None) -> tuple[Patient, tuple[str, ...]]:
    if not header.plus:
        free = any(_subfields(header.patient))
        return Patient(), ("The patient field follows no rule and was left out.",) * free
    identifier, sex, birth_date, name, *_ = (*_subfields(header.patient), "", "", "", "")
    return patient_of(
        age=None,
        birth_date=_iso_day(birth_date),
        recorded=recorded,
        sex=sex,
        identifier=identifier,
        name=(name,),
    )


def _acquisition(header: _Header, start: datetime | None) -> tuple[Acquisition, tuple[str, ...]]:
    """Return how it was made; filters where all leads share them ("HP:0.05Hz LP:150Hz N:50Hz")."""
    equipment = _subfields(header.recording)[4:5] if header.plus else []  # EDF+ §2.1.3.3.4
    texts = {s.prefiltering for s in header.signals if lead_from_text(s.label)}
    text = texts.pop() if len(texts) == 1 else ""
    acquisition, notes = acquisition_of(
        acquired_at=start,
        model="".join(equipment),
        low=_edge("HP", text),
        high=_edge("LP", text),
        notch=_edge("N(?:otch)?", text),
    )
    return acquisition, (*notes, "The filters of the leads differ.") if texts else notes


def _subfields(words: str) -> list[str]:
    return ["" if word == "X" else word for word in words.split(" ")]


def _edge(name: str, text: str) -> float | None:
    match = re.search(rf"\b{name}\s*[:=]?\s*(\d+(?:[.,]\d+)?)\s*(m?)Hz", text, re.IGNORECASE)
    value = number(match[1].replace(",", ".")) if match else None
    return value and (value / 1000 if match and match[2] else value)
