"""The median beats: a panel for each lead, and all leads over each other with the intervals.

Larger than standard paper, as a reader takes a magnifying glass: 50 mm/s and 20 mm/mV, or the
next smaller scale that holds them, which is printed. Each lead stands on its level at the QRS
onset. The lines are the onsets and offsets over all leads, from which the intervals are taken;
the ticks are the peaks of the lead itself.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.ecg import Lead
from analysis.paper import wording
from analysis.paper.carried import BAR, SHADE, Carried
from analysis.paper.lettering import fit, width
from analysis.paper.page import BAND, INK, QUIET, UNIT, Item, Line, Rect, Text, Trace
from analysis.paper.scale import Frame, curves
from analysis.paper.tracing import LEFT, PULSE_WIDTH, SECONDS, SPEED
from analysis.result import SEGMENTS, Measurements, Quality, Result

Array = npt.NDArray[np.float64]
Numbers = Mapping[Lead, Sequence[int]]

_ROOM: Final = SECONDS * SPEED
_WIDEST: Final = 62.0
_PER_ROW: Final = 6
_SPEEDS: Final = (50.0, 25.0, 12.5)
_GAINS: Final = (20.0, 10.0, 5.0, 2.5)
_TITLE: Final = 5.0
_GAP: Final = 1.0
_AROUND_ROW: Final = _TITLE + 2 * _GAP
_STEP: Final = 4.0
_PULSE: Final = 0.1  # s
_LONGEST: Final = 8.0  # mm, of a bar
_SHORTEST_BAR: Final = 0.05  # of the longest
_HAIRLINE: Final = 0.13  # mm
_FINE: Final = 0.006  # s, a pen's width, of which both extremes are drawn
_COARSE: Final = 0.008  # s, the same where many curves lie on each other
_AROUND: Final = 0.04  # s shown before the first and after the last mark
_BEFORE_QRS, _AFTER_QRS = 0.1, 0.4  # s shown where P or T was not found
_SHARE_OF_RR: Final = 0.7  # of which nothing more is shown then
_ENDS: Final = ("p_onset", "p_offset", "qrs_onset", "qrs_offset", "t_onset", "t_offset")
_PEAKS: Final = ("p_peak", "r_peak", "t_peak")
_BRACKETS: Final = (
    ("P", "p_duration", "p_onset", "p_offset"),
    ("PR", "pr_interval", "p_onset", "qrs_onset"),
    ("QRS", "qrs_duration", "qrs_onset", "qrs_offset"),
    ("QT", "qt_interval", "qrs_onset", "t_offset"),
)


@dataclass(frozen=True, slots=True, eq=False)
class _Beat:
    """What is shown of the median beat.

    Parameters
    ----------
    mv
        By lead that was used, above its level at the QRS onset.
    extents
        By lead, how far it reaches above and below that level, mV.
    rate
        Hz.
    ends
        The marks of all leads together, in s from the first sample shown.
    peaks
        Those of each lead's own waves, in samples shown.
    speed
        mm per second.
    """

    mv: Mapping[Lead, Array]
    extents: Mapping[Lead, tuple[float, float]]
    rate: float
    ends: Mapping[str, float]
    peaks: Mapping[Lead, Sequence[float]]
    speed: float

    def extent(self, leads: Iterable[Lead]) -> tuple[float, float]:
        """Return how far any of the leads reaches above and below its level, mV."""
        above, below = zip(*(self.extents[lead] for lead in leads), strict=True)
        return max(above), max(below)


def height(result: Result) -> int:
    """Return the mm that the median beats take."""
    if result.measurements.median_beat is None:
        return 10
    return 54 if len(result.recording.ecg.leads) <= _PER_ROW else 82


def draw_complexes(
    result: Result, numbers: Numbers, carried: Carried | None, top: float
) -> tuple[str, list[Item]]:
    """Return the scale in words, and the median beats.

    Parameters
    ----------
    result
        What is drawn.
    numbers
        Of the statements that rest on a lead.
    carried
        The statement whose leads and parts of the beat are shown in grey.
    top
        In mm from the top of the page.
    """
    leads = sorted(result.recording.ecg.leads, key=list(Lead).index)
    panels = leads if len(leads) > 1 else []
    rows = [panels[at : at + _PER_ROW] for at in range(0, len(panels), _PER_ROW)]
    wide = min(_WIDEST, _ROOM / (1 + min(len(panels), _PER_ROW)))
    beat = _beat(result, leads, wide - _GAP)
    if beat is None:
        why = result.measurements.qrs_duration.reason or "it was not measured"
        return "", [Text(LEFT + 2, top + 6, fit(f"No median beat: {why}", 200, 8.5), 8.5)]
    bottom = top + height(result)
    common = _common(beat, (top, bottom), wide)
    tallest = sum(_tallest(beat, row) for row in rows)
    gain = _gain(tallest, len(rows) * _AROUND_ROW, bottom - top) if rows else common.gain
    framed = list(_panels(beat, rows, (top, bottom), wide, gain))
    return f"Median beats {beat.speed:g} mm/s   {gain:g} mm/mV", [
        *_shades(beat, framed, common, carried),
        common.pulse(_PULSE, LEFT),
        _end_lines(beat, [common, *(frame for lead, frame in framed if lead in beat.mv)]),
        *curves([(common, mv) for mv in beat.mv.values()], beat.rate, _COARSE, 0.2),
        *curves(
            [(frame, beat.mv[lead]) for lead, frame in framed if lead in beat.mv],
            beat.rate,
            _FINE,
            0.3,
        ),
        *_intervals(result.measurements, beat, leads, common, bottom),
        *(
            item
            for lead, frame in framed
            for item in _panel(beat, lead, frame, numbers.get(lead, ()), result.quality)
        ),
        *_bars(framed, carried),
    ]


def _common(beat: _Beat, span: tuple[float, float], wide: float) -> Frame:
    """Return the frame of all leads together, above the intervals."""
    top, bottom = span[0] + _TITLE, span[1] - _STEP * len(_BRACKETS) - 3 * _GAP
    above, below = beat.extent(beat.mv)
    extent = (max(above, 1.0), below)  # of the calibration pulse
    gain = _gain(sum(extent), 2 * _GAP, bottom - top)
    left, zero = LEFT + PULSE_WIDTH, _level(extent, top, bottom, gain)
    return Frame(left, top, left + wide - _GAP, bottom, zero, beat.speed, gain)


def _panels(
    beat: _Beat, rows: Sequence[Sequence[Lead]], span: tuple[float, float], wide: float, gain: float
) -> Iterator[tuple[Lead, Frame]]:
    """Yield the frame of each lead, its level moved as little as it takes to hold the curve."""
    tops = _tops(beat, rows, *span, gain)
    for row, above, below in zip(rows, tops[:-1], tops[1:], strict=True):
        top, bottom = above + _TITLE, below - _GAP
        level = _level(beat.extent(row), top, bottom, gain)
        for column, lead in enumerate(row, 1):
            left = LEFT + PULSE_WIDTH + column * wide
            up, down = (part * gain for part in beat.extents[lead])
            zero = min(max(min(level, bottom - down), top + up), bottom)
            yield lead, Frame(left, top, left + wide - _GAP, bottom, zero, beat.speed, gain)


def _beat(result: Result, leads: Sequence[Lead], room: float) -> _Beat | None:
    """Return as much of the median beat as a panel of ``room`` mm can hold."""
    meas = result.measurements
    median, marks = meas.median_beat, meas.median_fiducials
    if median is None or not np.isfinite(median.signal).any():
        return None
    rate = median.sampling_frequency
    first, last = _span(meas, median.samples, rate)
    speed = next((s for s in _SPEEDS if (last - first) / rate * s <= room), _SPEEDS[-1])
    last = min(last, first + math.floor(room / speed * rate))
    mv = median.signal[:, first:last].astype(np.float64)
    mv -= _levels(mv, marks.get("qrs_onset", np.nan) - first)
    above = np.nan_to_num(np.fmax.reduce(mv, axis=1)).clip(0).tolist()
    below = np.nan_to_num(-np.fmin.reduce(mv, axis=1)).clip(0).tolist()
    extents = dict(zip(median.leads, zip(above, below, strict=True), strict=True))
    rows = dict(zip(median.leads, mv, strict=True))
    shown = [lead for lead in leads if lead in rows and np.isfinite(rows[lead]).any()]
    return _Beat(
        {lead: rows[lead] for lead in shown},
        {lead: extents.get(lead, (0.0, 0.0)) for lead in leads},
        rate,
        {kind: (marks.get(kind, np.nan) - first) / rate for kind in _ENDS},
        _peaks(result, leads, first, rate),
        speed,
    )


def _span(meas: Measurements, samples: int, rate: float) -> tuple[int, int]:
    """Return the samples between which all marks lie, and nothing of the next beat."""
    marks = meas.median_fiducials
    onset, offset = (marks.get(kind, math.nan) for kind in ("qrs_onset", "qrs_offset"))
    if not math.isfinite(offset - onset):
        return 0, samples
    p_onset, t_offset = marks.get("p_onset", math.nan), marks.get("t_offset", math.nan)
    early = p_onset if math.isfinite(p_onset) else onset - _BEFORE_QRS * rate
    rr = meas.rr_interval.value or math.inf
    late = min(offset + _AFTER_QRS * rate, onset + _SHARE_OF_RR * rr / 1000 * rate)
    late = t_offset if math.isfinite(t_offset) else late
    around = _AROUND * rate
    return max(0, math.floor(early - around)), min(samples, math.ceil(late + around))


def _levels(mv: Array, onset: float) -> Array:
    """Return the level of each lead, ``(leads, 1)``: at the QRS onset, else its median."""
    if np.isfinite(onset) and 0 <= round(onset) < mv.shape[1]:
        return mv[:, [round(onset)]]
    return np.nan_to_num(np.median(mv, axis=1, keepdims=True))


def _peaks(
    result: Result, leads: Sequence[Lead], first: int, rate: float
) -> Mapping[Lead, Sequence[float]]:
    """Return the peaks of each lead's own waves, from a beat that carries the median's marks."""
    meas, ratio = result.measurements, rate / result.recording.ecg.sampling_frequency
    row = _typical(meas, result.leads.beats)
    if row is None:
        return {}
    origin = float(meas.fiducials["global"]["qrs_onset"][row])
    shift = meas.median_fiducials["qrs_onset"] - first
    return {
        lead: [(float(meas.fiducials[lead][kind][row]) - origin) * ratio + shift for kind in _PEAKS]
        for lead in leads
        if lead in meas.fiducials
    }


def _typical(meas: Measurements, dominant: Sequence[int]) -> int | None:
    """Return a dominant beat that has every mark, or the one that has most."""
    marks = meas.fiducials.get("global", {})
    if not dominant or "qrs_onset" not in meas.median_fiducials:
        return None
    known = sum(np.isfinite(marks[kind][list(dominant)]) for kind in ("qrs_onset", *_PEAKS))
    return dominant[int(np.argmax(known))]


def _gain(mv: float, rest: float, room: float) -> float:
    """Return the largest gain at which ``mv`` and ``rest`` mm have room, else the smallest."""
    return next((gain for gain in _GAINS if mv * gain + rest <= room), _GAINS[-1])


def _tallest(beat: _Beat, row: Iterable[Lead]) -> float:
    """Return the mV from top to bottom of the tallest panel of a row."""
    return max(sum(beat.extents[lead]) for lead in row)


def _tops(
    beat: _Beat, rows: Sequence[Sequence[Lead]], top: float, bottom: float, gain: float
) -> list[float]:
    """Return the border of each row and the last one: what each needs, and an equal spare."""
    needs = [_tallest(beat, row) * gain + _AROUND_ROW for row in rows]
    scale = min(1.0, (bottom - top) / (sum(needs) or 1.0))
    spare = (bottom - top - scale * sum(needs)) / max(1, len(rows))
    return [top, *(top + end for end in accumulate(scale * need + spare for need in needs))]


def _level(extent: tuple[float, float], top: float, bottom: float, gain: float) -> float:
    """Return the height of 0 mV at which curves of this extent stand midway."""
    above, below = extent
    return min(max(round((top + bottom + (above - below) * gain) / 2), top), bottom)


def _panel(
    beat: _Beat, lead: Lead, frame: Frame, numbers: Sequence[int], quality: Quality
) -> Iterator[Item]:
    """Yield what stands about the curve of a lead."""
    if numbers:
        yield from _highlight(frame, numbers)
    yield Text(frame.left + 1, frame.top - 1.1, lead, 8.5, bold=True)
    mv = beat.mv.get(lead)
    if mv is None:
        why = ", ".join(map(wording.reason, quality.leads.get(lead, ()))) or "no samples"
        said = fit(f"not used: {why}", frame.right - frame.left - 1, 6.5)
        yield Text(frame.left + 1, frame.top + 4, said, 6.5, colour=QUIET)
        return
    if frame.gain <= _GAINS[-1]:
        yield from frame.cut(mv, beat.rate)
    for at in beat.peaks.get(lead, ()):
        yield from _tick(mv, beat.rate, at, frame)


def _shades(
    beat: _Beat, framed: Iterable[tuple[Lead, Frame]], common: Frame, carried: Carried | None
) -> Iterator[Rect]:
    """Yield grey behind the parts that carried a finding, in the leads that did, else in all."""
    if carried is None:
        return
    leads = carried.explanation.carrying_leads
    frames = [frame for lead, frame in framed if lead in leads] or [common]
    for frame in frames:
        for name in carried.explanation.carrying_parts:
            for start, end in _places(beat, name):
                left, right = max(frame.x(start), frame.left), min(frame.x(end), frame.right)
                if left < right:
                    yield Rect(left, frame.top, right - left, frame.bottom - frame.top, SHADE)


def _places(beat: _Beat, name: str) -> Iterator[tuple[float, float]]:
    """Yield where a part of the beat lies, in s: what lies between two beats is at both ends."""
    if name in SEGMENTS:
        start, end = SEGMENTS[name]
        yield beat.ends[start], beat.ends[end]
    else:
        yield -math.inf, beat.ends["p_onset" if name == "TP" else "qrs_onset"]
        yield beat.ends["t_offset"], math.inf


def _bars(framed: Iterable[tuple[Lead, Frame]], carried: Carried | None) -> Iterator[Rect]:
    """Yield beside the name of each lead a bar as long as its weight is great."""
    weights = carried.explanation.leads if carried else {}
    greatest = max(weights.values(), default=0.0)
    for lead, frame in framed:
        share = weights.get(lead, 0.0) / greatest if greatest > 0 else 0.0
        if share >= _SHORTEST_BAR:
            yield Rect(frame.left + 9, frame.top - 3.2, share * _LONGEST, 1.8, BAR)


def _highlight(frame: Frame, numbers: Sequence[int]) -> Iterator[Item]:
    """Yield a frame around the panel, and the numbers of its statements white on black."""
    left, top, right, bottom = frame.left, frame.top - _TITLE + 0.4, frame.right, frame.bottom
    yield Rect(left, top, right - left, _TITLE - 0.6, BAND)
    for ends in ((left, top, right, top), (left, bottom, right, bottom)):
        yield Line(*ends, 0.4)
    for ends in ((left, top, left, bottom), (right, top, right, bottom)):
        yield Line(*ends, 0.4)
    for place, number in enumerate(reversed(numbers), 1):
        yield from numbered(right - 0.3 - place * 3.6, top + 3.4, number)


def numbered(x: float, y: float, number: int) -> Iterator[Item]:
    """Yield the number of a statement, white on black."""
    yield Rect(x, y - 2.7, 3.2, 3.4, INK)
    middle = (3.2 - width(str(number), 7.5, bold=True)) / 2
    yield Text(x + middle, y, str(number), 7.5, bold=True, colour="#ffffff")


def _end_lines(beat: _Beat, frames: Iterable[Frame]) -> Trace:
    """Return an upright hairline in every frame for each onset and offset of all leads."""
    ends = [
        ((frame.x(at), frame.top), (frame.x(at), frame.bottom))
        for frame in frames
        for at in beat.ends.values()
        if frame.left <= frame.x(at) <= frame.right
    ]
    points = np.array(ends).reshape(-1, 2) * UNIT
    starts = np.arange(len(points)) % 2 == 0
    return Trace(points.round().astype(np.int32), starts, _HAIRLINE, QUIET)


def _tick(mv: Array, rate: float, at: float, frame: Frame) -> Iterator[Line]:
    """Yield a tick beyond the peak of a wave, on the side to which it points."""
    if not 0 <= at <= mv.size - 1:
        return
    value = float(mv[round(at)])
    side = 1.0 if value >= 0 else -1.0
    near, far = (frame.y(value + side * mm / frame.gain) for mm in (0.8, 2.6))
    if near != far:
        yield Line(frame.x(at / rate), near, frame.x(at / rate), far, 0.35)


def _intervals(
    meas: Measurements, beat: _Beat, leads: Sequence[Lead], frame: Frame, bottom: float
) -> Iterator[Item]:
    """Yield the title, the marks and the intervals of all leads together."""
    title = "All leads" if len(leads) > 1 else leads[0]
    yield Text(frame.left + 1, frame.top - 1.1, title, 8.5, bold=True)
    if len(leads) > 1:
        x = frame.left + 3 + width(title, 8.5, bold=True)
        yield Text(x, frame.top - 1.1, f"{frame.gain:g} mm/mV", 6.5)
    for level, (name, measurement, first, last) in enumerate(_BRACKETS, 1):
        value = getattr(meas, measurement).value
        x0, x1 = (frame.x(beat.ends[end]) for end in (first, last))
        if value is not None and x0 < x1:
            y = bottom - 1.5 - (len(_BRACKETS) - level) * _STEP
            yield from _bracket(x0, min(x1, frame.right), y, f"{name} {value:.0f} ms", frame)


def _bracket(x0: float, x1: float, y: float, label: str, frame: Frame) -> Iterator[Item]:
    """Yield an interval with its name and value: after it, or over it where there is no room."""
    yield Line(x0, y, x1, y, 0.3)
    yield from (Line(x, y - 1.1, x, y + 1.1, 0.3) for x in (x0, x1))
    wide = width(label, 6.8, bold=True)
    if x1 + 1 + wide <= frame.right:
        yield Text(x1 + 1, y + 0.9, label, 6.8, bold=True)
    else:
        yield Text((x0 + x1 - wide) / 2, y - 0.6, label, 6.8, bold=True)
