"""HL7 v3 Annotated ECG (ANSI/HL7 V3 ECG R1-2004, PORT_MT020001), read as the files state it.

Values of a sequence are origin + scale × digit, both with their units. The rhythm is told from
the representative beat by the code of its series; series that were recorded one after the other
share one time axis.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from xml.etree.ElementTree import Element

import numpy as np

from analysis.ecg import Recording
from analysis.errors import Reason, Undecodable
from analysis.formats.aecg_facts import acquisition_of, patient_of
from analysis.formats.aecg_marks import Clock, marks_of
from analysis.formats.calibration import samples_of_ecg
from analysis.formats.channels import Channel, Strip, recording, shown
from analysis.formats.common import MILLIVOLTS
from analysis.formats.content import Content
from analysis.formats.fields import number
from analysis.formats.hl7 import (
    LARGEST,
    PER_SECOND,
    Axis,
    Piece,
    clock,
    lead_name,
    moment,
    numbers,
    one_axis,
    require_few,
)
from analysis.formats.markup import parse, root_of, text_of

_BEAT: Final = "REPRESENTATIVE_BEAT"
_END: Final = 2.0
"""Seconds in which a calibration pulse is looked for."""
_PULSE_TOLERANCE: Final = 0.02
"""mV."""
_DURATION_TOLERANCE: Final = 1.0


def recognises(data: bytes) -> bool:
    """Return whether the root element is that of an annotated ECG."""
    return root_of(data) == "AnnotatedECG"


def read(content: Content) -> Recording:
    """Return the ECG of an annotated ECG.

    Raises
    ------
    Undecodable
        With the reason, and nothing else.
    """
    root = parse(content.data)
    require_few(sum(1 for _ in root.iter("sequence")))
    series, beats, notes = _kinds(root)
    sets = [found for each in series for found in _sets(each) if found.piece.channels]
    if not sets:
        raise Undecodable(Reason.NO_WAVEFORM, "The annotated ECG holds no rhythm series.")
    axis = one_axis([found.piece for found in sets])
    axis, cropped = _without_calibration(axis)
    start = _began(sets, axis)
    marks = marks_of([(each, _zero(each, start, axis)) for each in series], beats, _clock(axis))
    patient, patient_notes = patient_of(root, start)
    acquisition, device_notes = acquisition_of(series[0], start)
    median, median_notes = _median(beats)
    return recording(
        Strip(axis.channels, axis.rate, start),
        format="HL7 aECG",
        median=median,
        patient=patient,
        acquisition=acquisition,
        vendor_statements=marks.statements,
        annotations=marks.annotations,
        notes=(
            *notes, *axis.notes, *cropped, *_blanks(sets), *_lengths(series, sets),
            *patient_notes, *device_notes, *marks.notes, *median_notes,
        ),
    )  # fmt: skip


def _kinds(root: Element) -> tuple[list[Element], list[Element], tuple[str, ...]]:
    """Return the rhythm series, the representative beats, and notes on what is neither."""
    stated = root.findall("component/series")
    derived = [each for one in stated for each in one.findall("derivation/derivedSeries")]
    beats = [each for each in (*stated, *derived) if _is_beat(each)]
    rhythm = [each for each in stated if not _is_beat(each)]
    others = sum(not _is_beat(each) for each in derived)
    notes = (f"{others} derived series other than a representative beat were left out.",)
    return rhythm, beats, notes if others else ()


def _is_beat(series: Element) -> bool:
    return _code(series).upper() == _BEAT


def _is_time(sequence: Element) -> bool:
    return _code(sequence).upper().startswith("TIME_")


def _code(element: Element) -> str:
    code = element.find("code")
    return "" if code is None else code.get("code", "").strip()


@dataclass(frozen=True, slots=True, eq=False)
class _Set:
    """One sequence set: its channels, and what its time sequence says."""

    piece: Piece
    head: datetime | None


def _sets(series: Element) -> Iterator[_Set]:
    for element in series.findall("component/sequenceSet"):
        sequences = element.findall("component/sequence")
        times = [each for each in sequences if _is_time(each)]
        channels = tuple(_channel(each) for each in sequences if not _is_time(each))
        if len({channel.samples.size for channel in channels} - {0}) > 1:
            raise Undecodable(
                Reason.DAMAGED, "Leads of one sequence set differ in length; send it again."
            )
        rates = {_rate(each) for each in times}
        if len(rates) > 1:
            raise Undecodable(Reason.AMBIGUOUS, "A sequence set states two sampling frequencies.")
        head, start = _head(times, _start(series))
        yield _Set(Piece(channels, next(iter(rates), None), start), head)


def _channel(sequence: Element) -> Channel:
    """Return one lead (SLIST_PQ: origin, scale and digits)."""
    code, value = sequence.find("code"), sequence.find("value")
    attributes = {} if code is None else code.attrib
    name = lead_name(attributes.get("code", ""), attributes.get("displayName", ""))
    step, zero = _scale(value)
    return Channel(name, numbers(text_of(value, "digits")), step, zero)


def _scale(value: Element | None) -> tuple[float | None, float]:
    """Return mV per digit and the digit that stands for 0 mV; None where a unit is absent."""
    scale, scale_unit = _quantity(value, "scale")
    origin, origin_unit = _quantity(value, "origin")
    if scale is None or origin is None or scale_unit not in MILLIVOLTS:
        return None, 0.0
    step = scale * MILLIVOLTS[scale_unit]
    if origin == 0.0 or step == 0.0:
        return step, 0.0
    zero = -origin * MILLIVOLTS.get(origin_unit, np.nan) / step
    return (step, zero) if abs(zero) < LARGEST else (None, 0.0)


def _quantity(value: Element | None, name: str) -> tuple[float | None, str]:
    """Return a physical quantity (PQ) below an element: its number and unit."""
    found = None if value is None else value.find(name)
    if found is None:
        return None, ""
    return number(found.get("value", "")), found.get("unit", "").strip()


def _rate(sequence: Element) -> float | None:
    """Return Hz of a time sequence (GLIST); None where it states none."""
    value = sequence.find("value")
    increment, unit = _quantity(value, "increment")
    generated = value is not None and not {"period", "denominator"} & value.attrib.keys()
    if not generated or not increment or unit not in PER_SECOND:
        return None
    return PER_SECOND[unit] / increment


def _head(times: Sequence[Element], low: datetime | None) -> tuple[datetime | None, float | None]:
    """Return when a set began: as a moment, and in seconds on the clock of the file."""
    for each in times:
        value = each.find("value/head")
        stated = "" if value is None else value.get("value", "")
        if _code(each).upper() == "TIME_ABSOLUTE" and (head := moment(stated)):
            return head, clock(head)
    seconds = next((s for s in map(_seconds, times) if s is not None), None)
    if low is None or seconds is None:
        return low, seconds
    return _after(low, seconds), clock(low) + seconds


def _seconds(sequence: Element) -> float | None:
    """Return the head of a relative time sequence in seconds."""
    head, unit = _quantity(sequence.find("value"), "head")
    relative = _code(sequence).upper() == "TIME_RELATIVE" and unit in PER_SECOND
    return head / PER_SECOND[unit] if relative and head is not None else None


def _after(low: datetime, seconds: float) -> datetime | None:
    try:
        return low + timedelta(seconds=seconds)
    except OverflowError:
        return None


def _start(series: Element) -> datetime | None:
    """Return when a series began by its effective time."""
    for name in ("low", "center"):
        found = series.find(f"effectiveTime/{name}")
        if found is not None and (low := moment(found.get("value", ""))):
            return low
    return None


def _began(sets: Sequence[_Set], axis: Axis) -> datetime | None:
    heads = [each.head for each in sets if each.piece.start == axis.start]
    return next(filter(None, heads), None)


def _clock(axis: Axis) -> Clock:
    samples = max(channel.samples.size for channel in axis.channels)
    return Clock(axis.start or 0.0, axis.rate, samples)


def _zero(series: Element, start: datetime | None, axis: Axis) -> float:
    """Return the second on the clock of the file from which relative times of a series count."""
    low = _start(series)
    if low is not None:
        return clock(low)
    return 0.0 if start is None else axis.start or 0.0


def _median(beats: Sequence[Element]) -> tuple[Strip | None, tuple[str, ...]]:
    """Return the first representative beat, and notes."""
    try:
        found = [each.piece for beat in beats for each in _sets(beat) if each.piece.channels]
    except Undecodable as error:
        return None, (f"The median beat was left out: {error.message}",)
    if not found:
        return None, ()
    more = f"{len(found) - 1} further representative beats were left out."
    return Strip(found[0].channels, found[0].rate), (more,) if len(found) > 1 else ()


def _without_calibration(axis: Axis) -> tuple[Axis, tuple[str, ...]]:
    """Return the axis without the second in which Philips carts record their 1 mV pulse."""
    scaled = [channel for channel in axis.channels if channel.step]
    if not scaled or len({channel.samples.size for channel in axis.channels}) > 1:
        return axis, ()
    window = round(_END * axis.rate)
    end = np.stack([(c.samples[-window:] - c.zero) * (c.step or 0.0) for c in scaled])
    cropped = end.shape[1] - samples_of_ecg(end, axis.rate, _PULSE_TOLERANCE)
    if not cropped:
        return axis, ()
    channels = tuple(replace(each, samples=each.samples[:-cropped]) for each in axis.channels)
    note = "The last second holds the cart's calibration pulse and was cropped."
    return replace(axis, channels=channels), (note,)


def _blanks(sets: Sequence[_Set]) -> Iterator[str]:
    for channel in (channel for each in sets for channel in each.piece.channels):
        blank = int(np.isnan(channel.samples).sum())
        if blank:
            yield f"Lead {shown(channel.name)} has {blank} unknown values: not recorded."


def _lengths(series: Sequence[Element], sets: Sequence[_Set]) -> Iterator[str]:
    """Yield where the only series says to last another time than its samples do."""
    if len(series) != 1 or len(sets) != 1 or not sets[0].piece.rate:
        return
    low, high = (series[0].find(f"effectiveTime/{name}") for name in ("low", "high"))
    ends = [moment(each.get("value", "")) for each in (low, high) if each is not None]
    if len(ends) < 2 or not ends[0] or not ends[1]:  # noqa: PLR2004 - low and high
        return
    stated = clock(ends[1]) - clock(ends[0])
    held = sets[0].piece.samples / sets[0].piece.rate
    if abs(stated - held) > _DURATION_TOLERANCE:
        yield f"The series says it lasts {stated:g} s and holds {held:g} s of samples."
