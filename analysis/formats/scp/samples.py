"""The samples of EN 1064: leads (§5.6), beats (§5.7), reference beat (§5.8), rhythm (§5.9).

The rhythm may be stored as differences, as what is left when the reference beat is subtracted
from every beat like it, and, outside protected zones around the QRS complexes, decimated.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from analysis.ecg import Annotation, Code
from analysis.errors import Reason, Undecodable
from analysis.formats.channels import MAX_SAMPLES, Channel, Strip
from analysis.formats.dicom.leads import lead_from_number
from analysis.formats.scp.huffman import Tables, tables_of
from analysis.formats.scp.sections import Record, Section

_LONG_TERM: Final = 12
"""The section of long-term rhythms, from version 3.0 on."""
_SUBTRACTED: Final = 0b001
_SIMULTANEOUS: Final = 0b100
_REFERENCE: Final = 0
"""The kind of beat that the reference beat stands for."""
_WITHOUT_BIMODAL: Final = 30
"""From version 3.0 on, the flag of bimodal compression is reserved."""
_FULL: Final = 2**16 - 2
"""The most bytes of 16-bit samples that the byte count of a lead can state."""
_PADDING: Final = 16
"""A lead ends at an even byte: fewer bits than these stand behind its last sample."""
_FACTORS: Final = range(1, 17)
_MOST_BEATS: Final = 10_000
_PAUSES: Final = 2
"""Leads recorded one after the other stand on an axis no longer than so often their sum."""
_FIDUCIAL: Final = Code("SCPECG", "5.7.1-3", "Fiducial Point")

_Samples = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Span:
    """Where a lead was recorded: its first and last sample, counted from 1, on a common axis."""

    name: str
    first: int
    last: int

    @property
    def count(self) -> int:
        """Samples."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Beat:
    """A beat: its kind, its zone of subtraction and its fiducial point, in samples from 1."""

    kind: int
    first: int
    fiducial: int
    last: int


@dataclass(frozen=True, slots=True)
class Coded:
    """How the samples of section 5 or 6 are stored, and one stream of bytes for each lead."""

    multiplier: int
    """nV per unit."""
    interval: int
    """µs between two stored samples, outside protected zones where it is bimodal."""
    order: int
    """Of the differences stored: 0, 1 or 2."""
    bimodal: bool
    streams: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The reference beat (sections 4 and 5), and the beats that it was subtracted from."""

    coded: Coded
    leads: tuple[_Samples, ...] = field(repr=False)
    fiducial: int
    """Sample of the reference beat, from 1."""
    beats: tuple[Beat, ...]
    protected: tuple[tuple[int, int], ...]
    """First and last sample, from 1, of each zone that is never decimated."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """What sections 2 to 6 hold together."""

    rhythm: Strip
    median: Strip | None
    beats: tuple[Annotation, ...]
    notes: tuple[str, ...]


def samples_of(record: Record, start: datetime | None) -> Samples:
    """Return the rhythm, the reference beat and the marks of the beats.

    Raises
    ------
    Undecodable
        Where the rhythm cannot be had as the record says. A reference beat that the rhythm does
        not need is left out with a note.
    """
    spans, flags = _leads(_needed(record, 3))
    coded = _coded(_needed(record, 6), len(spans))
    tables = tables_of(section) if (section := record.get(2)) else None
    needed = bool(flags & _SUBTRACTED) or coded.bimodal
    reference, notes = _reference(record, spans, tables, needed=needed)
    subtracted = reference if flags & _SUBTRACTED else None
    decimated = reference if coded.bimodal else None
    interval = _interval(coded, subtracted, decimated)
    leads, lead_notes = _rhythm(spans, coded, tables, subtracted, decimated)
    return Samples(
        Strip(leads, 1e6 / interval, start),
        _median(spans, reference) if reference else None,
        tuple(_marks(spans, reference.beats if reference else ())),
        (*notes, *lead_notes, *_axis_notes(spans, flags, interval)),
    )


def _needed(record: Record, number: int) -> Section:
    section = record.get(number)
    if section is None:
        raise Undecodable(
            Reason.UNSUPPORTED if _LONG_TERM in record else Reason.NO_WAVEFORM,
            f"The record has no section {number}, and so no rhythm that could be read.",
        )
    return section


def _leads(section: Section) -> tuple[tuple[Span, ...], int]:
    """Return the leads of section 3, and its flags."""
    count, flags = section.unpack("BB", 0)
    spans = tuple(_span(*section.unpack("IIB", 2 + 9 * i)) for i in range(count))
    if not spans:
        raise Undecodable(Reason.NO_WAVEFORM, "The record has no leads.")
    axis = max(span.last for span in spans) - min(span.first for span in spans) + 1
    if axis * count > MAX_SAMPLES:
        raise Undecodable(Reason.TOO_LARGE, "The record has more samples than any ECG read here.")
    if axis > _PAUSES * sum(span.count for span in spans):
        raise Undecodable(Reason.DAMAGED, "Leads were recorded further apart than they are long.")
    return spans, flags


def _span(first: int, last: int, number: int) -> Span:
    if not 1 <= first <= last:
        raise Undecodable(Reason.DAMAGED, "A lead ends before it begins.")
    return Span(lead_from_number(number) or f"SCP-ECG lead {number}", first, last)


def _coded(section: Section, leads: int) -> Coded:
    """Return section 5 or 6. Raises NO_SCALE and NO_RATE where it does not state them."""
    multiplier, interval, order, bimodal = section.unpack("HHBB", 0)
    if not multiplier:
        raise Undecodable(
            Reason.NO_SCALE,
            f"The amplitude multiplier of section {section.number} is 0; amplitudes are unknown.",
        )
    if not interval:
        raise Undecodable(Reason.NO_RATE, f"The interval of section {section.number} is 0.")
    if order > 2:  # noqa: PLR2004 - second differences
        raise Undecodable(Reason.DAMAGED, f"Differences of order {order} are not defined.")
    streams = []
    at = 6 + 2 * leads
    for length in section.unpack(f"{leads}H", 6):
        streams.append(section.take(at, length))
        at += length
    bimodal = bool(bimodal) and section.number == 6 and section.protocol < _WITHOUT_BIMODAL  # noqa: PLR2004 - the section
    return Coded(multiplier, interval, order, bimodal, tuple(streams))


def _reference(
    record: Record, spans: Sequence[Span], tables: Tables | None, *, needed: bool
) -> tuple[Reference | None, tuple[str, ...]]:
    """Return the reference beat, or None and why; damage is refused where it is needed."""
    try:
        places, section = record.get(4), record.get(5)
        if places and section:
            return _referred(places, _coded(section, len(spans)), tables), ()
    except Undecodable as error:
        if needed:
            raise
        return None, (f"The median beat was left out: {error.message}",)
    if needed:
        raise Undecodable(
            Reason.DAMAGED,
            "The rhythm is stored as what a reference beat leaves over, and sections 4 and 5, "
            "which hold it, are not there.",
        )
    return None, ()


def _referred(places: Section, coded: Coded, tables: Tables | None) -> Reference:
    """Return the reference beat of sections 4 and 5."""
    length, fiducial, count = places.unpack("HHH", 0)
    if count > _MOST_BEATS:
        raise Undecodable(Reason.TOO_LARGE, f"The record marks {count} beats, more than any ECG.")
    beats = tuple(Beat(*places.unpack("HIII", 6 + 14 * i)) for i in range(count))
    at = 6 + 14 * count
    zones = range(count) if len(places.body) >= at + 8 * count else ()
    samples = round(1000 * length / coded.interval)
    return Reference(
        coded,
        tuple(
            _decoded(stream, samples, coded.order, tables)[0] if stream else np.empty(0, np.int16)
            for stream in coded.streams
        ),
        fiducial,
        beats,
        tuple(places.unpack("II", at + 8 * i) for i in zones),
    )


def _interval(coded: Coded, subtracted: Reference | None, decimated: Reference | None) -> int:
    """Return the µs between two samples of the rhythm; zones and ranges count in these."""
    if decimated:
        return decimated.coded.interval
    if subtracted and subtracted.coded.interval != coded.interval:
        raise Undecodable(
            Reason.UNSUPPORTED,
            "The rhythm and the reference beat that was subtracted from it differ in rate.",
        )
    return coded.interval


def _rhythm(
    spans: Sequence[Span],
    coded: Coded,
    tables: Tables | None,
    subtracted: Reference | None,
    decimated: Reference | None,
) -> tuple[list[Channel], Iterator[str]]:
    """Return the leads of the rhythm on one time axis, and notes."""
    stored = list(zip(spans, coded.streams, strict=True))
    if any(span.count > 8 * _FACTORS[-1] * len(stream) for span, stream in stored):
        raise Undecodable(Reason.DAMAGED, "A lead has more samples than its bytes can hold.")
    if decimated:
        leads = [_undecimated(*one, coded, tables, decimated) for one in stored]
        notes = _bimodal_notes(_factor(coded, decimated))
    else:
        found = [_decoded(stream, span.count, coded.order, tables) for span, stream in stored]
        leads = [samples for samples, _ in found]
        notes = _count_notes(spans, found)
    unit = coded.multiplier
    if subtracted:
        unit = math.gcd(unit, subtracted.coded.multiplier)
        leads = [
            _restored(span, samples * (coded.multiplier / unit), unit, subtracted, beat)
            for span, samples, beat in zip(spans, leads, subtracted.leads, strict=True)
        ]
    return [
        Channel(span.name, _on_axis(span, samples, spans), unit / 1e6)
        for span, samples in zip(spans, leads, strict=True)
    ], notes


def _decoded(
    stream: bytes, count: int, order: int, tables: Tables | None
) -> tuple[npt.NDArray[np.int16], int]:
    """Return the samples of a stream, and how many bits are left behind them."""
    values, left = tables.decode(stream, count) if tables else _plain(stream, count)
    if order == 2:  # noqa: PLR2004 - second differences
        values[1:2] -= values[:1]
        values[1:] = np.cumsum(values[1:])
    if order:
        values = np.cumsum(values)
    return values.astype(np.int16), left


def _plain(stream: bytes, count: int) -> tuple[npt.NDArray[np.int64], int]:
    """Return 16-bit samples, and the bits left; fewer only where no byte count could hold all."""
    if len(stream) < min(2 * count, _FULL):
        raise Undecodable(Reason.DAMAGED, "A lead holds fewer samples than its range says.")
    values = np.frombuffer(stream, "<i2", min(count, len(stream) // 2)).astype(np.int64)
    return values, 8 * len(stream) - 16 * values.size


def _count_notes(spans: Sequence[Span], found: Sequence[tuple[_Samples, int]]) -> Iterator[str]:
    leads = list(zip(spans, found, strict=True))
    if short := [span.name for span, (samples, _) in leads if samples.size < span.count]:
        yield (
            f"{', '.join(short)} hold fewer samples than their range says, as many as a byte count "
            "can state; the end was not stored."
        )
    if long := [span.name for span, (_, left) in leads if left >= _PADDING]:
        yield f"{', '.join(long)} hold more bytes than their samples need."


def _bimodal_notes(factor: int) -> Iterator[str]:
    yield (
        f"Outside the QRS zones only one sample in {factor} is stored (bimodal compression); "
        "those between were interpolated."
    )


def _factor(coded: Coded, reference: Reference) -> int:
    """Return how many samples one stands for outside protected zones."""
    factor = round(coded.interval / reference.coded.interval)
    if factor not in _FACTORS or abs(coded.interval - factor * reference.coded.interval) > factor:
        raise Undecodable(
            Reason.DAMAGED, "The intervals of rhythm and reference beat are no multiple."
        )
    return factor


def _undecimated(
    span: Span, stream: bytes, coded: Coded, tables: Tables | None, reference: Reference
) -> _Samples:
    """Return ``(samples,)`` of a lead that is decimated outside its protected zones (Annex C).

    What a gap between two zones has beyond a multiple of the factor is stored as it is. Where an
    encoder did otherwise, the stream does not end with the lead and its places are not known.
    """
    factor = _factor(coded, reference)
    gaps = _gaps(span, reference.protected)
    groups, rest = np.divmod(gaps[:, 1] - gaps[:, 0], factor)
    stored = span.count - int((groups * (factor - 1)).sum())
    values, left = _decoded(stream, stored, coded.order, tables)
    if left >= _PADDING or values.size < stored:
        raise Undecodable(
            Reason.AMBIGUOUS, f"Lead {span.name} holds another number of samples than its zones."
        )
    samples = np.empty(span.count)
    at = taken = 0
    for (first, end), count, single in zip(gaps, groups, rest, strict=True):
        samples[at:first] = values[taken : (taken := taken + first - at)]
        knots = values[taken : (taken := taken + count)]
        samples[first : end - single] = _interpolated(knots, factor)
        at = end - single
    samples[at:] = values[taken:]
    return samples


def _gaps(span: Span, protected: Iterable[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """Return ``(gaps, 2)``: begin and end of what no zone of a lead protects, from 0."""
    edge = np.ones(span.count + 2, np.bool_)
    edge[1:-1] = False
    for first, last in protected:
        edge[max(first - span.first + 1, 1) : max(last - span.first + 2, 1)] = True
    return np.flatnonzero(np.diff(edge)).reshape(-1, 2)


def _interpolated(knots: npt.NDArray[np.int16], factor: int) -> _Samples:
    """Return ``(knots * factor,)``: lines between the knots, level before and behind them.

    ECG Toolkit and BioSig agree on these; what BioSig smooths further is left as it is.
    """
    if not knots.size:
        return np.empty(0)
    places = np.arange(knots.size * factor)
    return np.interp(places, places[::factor] + factor // 2, knots)


def _restored(
    span: Span, samples: _Samples, unit: int, reference: Reference, beat: _Samples
) -> _Samples:
    """Return a lead with the reference beat added wherever it was subtracted, in this unit."""
    if not reference.beats or not beat.size:
        raise Undecodable(
            Reason.DAMAGED,
            "A reference beat was subtracted, and sections 4 and 5 do not say which or where.",
        )
    scaled = beat * (reference.coded.multiplier / unit)
    for place in reference.beats:
        begin = place.fiducial - reference.fiducial + 1
        first = max(place.first, span.first, begin)
        end = min(place.last + 1, span.first + samples.size, begin + beat.size)
        if place.kind == _REFERENCE and first < end:
            samples[first - span.first : end - span.first] += scaled[first - begin : end - begin]
    return samples


def _on_axis(span: Span, samples: _Samples, spans: Sequence[Span]) -> _Samples:
    """Return a lead on the time axis of all, NaN where it was not recorded."""
    first = min(other.first for other in spans)
    count = max(other.last for other in spans) - first + 1
    if span.count == count:
        return samples
    axis = np.full(count, np.nan)
    axis[span.first - first :][: samples.size] = samples
    return axis


def _median(spans: Sequence[Span], reference: Reference) -> Strip:
    return Strip(
        [
            Channel(span.name, samples, reference.coded.multiplier / 1e6)
            for span, samples in zip(spans, reference.leads, strict=True)
            if samples.size
        ],
        1e6 / reference.coded.interval,
    )


def _marks(spans: Sequence[Span], beats: Iterable[Beat]) -> Iterator[Annotation]:
    first, last = min(span.first for span in spans), max(span.last for span in spans)
    for group, beat in enumerate(beats):
        if first <= beat.fiducial <= last:
            yield Annotation(code=_FIDUCIAL, samples=(float(beat.fiducial - first),), group=group)


def _axis_notes(spans: Sequence[Span], flags: int, interval: int) -> Iterator[str]:
    if not flags & _SIMULTANEOUS:
        yield "The record does not say that its leads were recorded at the same time."
    if len({(span.first, span.last) for span in spans}) > 1:
        yield "The leads were recorded at different times; elsewhere they have no samples."
    rate = 1e6 / interval
    if not rate.is_integer() and round(1e6 / round(rate)) == interval:
        yield (
            f"The sampling interval is stored in whole microseconds; {rate:.2f} Hz stands for "
            f"what may have been {rate:.0f} Hz."
        )
