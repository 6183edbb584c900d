"""The tracing: which lead stands where, and its samples as a curve in millimetres.

Standard paper speed 25 mm/s and gain 10 mm/mV (AHA/ACC/HRS recommendations for the
standardization of the electrocardiogram, Part I, 2007). Samples are moved by one constant per
strip and otherwise drawn as they are: no filter, no interpolation.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.ecg import ECG, STANDARD_12, Lead, Signal
from analysis.paper.page import QUIET, UNIT, Grid, Line, Text, Trace
from analysis.result import Quality, QualityReason

Float = npt.NDArray[np.float64]

SPEED: Final = 25.0
"""mm per second."""
GAIN: Final = 10.0
"""mm per mV."""
SECONDS: Final = 10.0
"""Length of a full strip."""

LEFT: Final = 18.5
TOP: Final = 52.0
PULSE_WIDTH: Final = 10
WIDTH: Final = PULSE_WIDTH + round(SECONDS * SPEED)
HEIGHT: Final = 140
_TALLEST_ROW = 35
_COLUMN: Final = 0.05 / SPEED
"""Seconds that are 0.05 mm wide."""
_ROWS_OF_STRIPS = 4
_CUT_ABOVE, _CUT_BELOW = "▲", "▼"
_ABOVE_AND_BELOW = (4 / 7, 3 / 7)
_MARGIN = 1.0
_LARGEST_EXTENT = 50.0
_COLUMN_MISMATCH = 0.5
_RHYTHM_CHOICE = (Lead.II, Lead.MLII, Lead.V1, Lead.V5, Lead.I)
_HARMLESS = {QualityReason.MAINS, QualityReason.WANDER}


@dataclass(frozen=True, slots=True)
class Strip:
    """One lead over one span of time, in seconds from the first sample."""

    lead: Lead
    start: float
    seconds: float
    label: str


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """The samples of a strip in mm: right of its start, and above its baseline."""

    x: Float
    height: Float
    starts: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Row:
    """A band across the paper, in mm from the top of the page."""

    top: float
    baseline: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Tracing:
    """The drawn part of the page, and what must be said about it."""

    grid: Grid
    lines: tuple[Line, ...]
    traces: tuple[Trace, ...]
    texts: tuple[Text, ...]
    notes: tuple[str, ...]


def draw_tracing(ecg: ECG, quality: Quality) -> Tracing:
    """Return the tracing of an ECG on standard paper."""
    strips = arrange(ecg, quality)
    curves = [[_curve(ecg, strip) for strip in across] for across in strips]
    rows = _rows(curves)
    lines: list[Line] = []
    traces = [calibration_pulse(row) for row in rows]
    texts: list[Text] = []
    for row, across, drawn in zip(rows, strips, curves, strict=True):
        for column, (strip, curve) in enumerate(zip(across, drawn, strict=True)):
            x = LEFT + PULSE_WIDTH + column * strip.seconds * SPEED
            traces += [_trace(curve, x, row)] if curve.x.size else []
            texts += [*_lettering(strip, curve, x, row), *_cut_marks(curve, x, row)]
            lines += _separators(x, row) if column else []
    bottom = max((row.bottom for row in rows), default=TOP + _TALLEST_ROW)
    grid = Grid(LEFT, TOP, WIDTH, 5 * math.ceil((bottom - TOP) / 5))
    notes = _notes(ecg, strips, texts)
    return Tracing(grid, tuple(lines), tuple(traces), tuple(texts), notes)


def _rows(curves: Sequence[Sequence[Curve]]) -> list[Row]:
    """Return rows of equal height, or as tall as their curves need where that is not enough."""
    if not curves:
        return []
    total = min(_TALLEST_ROW * len(curves), HEIGHT)
    needs = np.array([_extent(across) for across in curves])
    usual = np.tile(total / len(curves) * np.array(_ABOVE_AND_BELOW), (len(curves), 1))
    room = usual if (needs <= usual).all() else share(needs, total)
    tops = TOP + np.concatenate([[0.0], room.sum(axis=1).cumsum()])
    return [
        Row(float(top), float(round(top + above)), float(bottom))
        for top, above, bottom in zip(tops[:-1], room[:, 0], tops[1:], strict=True)
    ]


def _extent(across: Sequence[Curve]) -> tuple[float, float]:
    """Return the mm that a row needs above and below its baseline, within reason."""
    heights = np.concatenate([[GAIN, 0.0], *(curve.height for curve in across)])
    above, below = heights.max() + _MARGIN, _MARGIN - heights.min()
    return min(above, _LARGEST_EXTENT), min(below, _LARGEST_EXTENT)


def share(needs: Float, total: float) -> Float:
    """Return what each gets of ``total``: its need and an equal part of what is left.

    Where it is not enough, nobody gets more than a common limit, so that one lead of mere noise
    does not cut the others.
    """
    spare = total - needs.sum()
    if spare >= 0:
        return np.asarray(needs + spare / needs.size)
    ascending = np.sort(needs, axis=None)
    before = np.concatenate([[0.0], ascending.cumsum()[:-1]])
    limits = (total - before) / np.arange(needs.size, 0, -1)
    return np.asarray(np.minimum(needs, limits[np.argmax(limits < ascending)]))


def _notes(ecg: ECG, strips: Sequence[Sequence[Strip]], texts: Sequence[Text]) -> tuple[str, ...]:
    shown = strips[-1][-1].start + SECONDS if strips else 0.0
    notes = ["Baseline: median of each strip (constant offset), no other processing"]
    if ecg.samples > round(shown * ecg.sampling_frequency):
        notes.append(f"first {shown:g} s of {ecg.duration:g} s")
    if any(text.text in {_CUT_ABOVE, _CUT_BELOW} for text in texts):
        notes.append(f"{_CUT_ABOVE}{_CUT_BELOW} cut at the border of the row")
    return tuple(notes)


def arrange(ecg: ECG, quality: Quality) -> list[tuple[Strip, ...]]:
    """Return the rows of the page.

    Up to four leads: strips of 10 s, going on in time while there is room. Up to six: two
    columns of 5 s. More: the standard 3 x 4 of 2.5 s, other leads below it. Tables end in a
    rhythm strip.
    """
    leads = sorted(ecg.leads, key=list(Lead).index)
    if len(leads) <= _ROWS_OF_STRIPS:
        return _full_strips(ecg, leads)
    table, columns = _table(leads)
    seconds = SECONDS / columns
    rows = [
        tuple(_cell(ecg, lead, column * seconds, seconds) for column, lead in enumerate(row))
        for row in table
    ]
    return [*rows, (rhythm_strip(ecg, quality),)]


def _full_strips(ecg: ECG, leads: Sequence[Lead]) -> list[tuple[Strip, ...]]:
    room = _ROWS_OF_STRIPS // max(len(leads), 1)
    parts = max(1, min(room, math.ceil(ecg.duration / SECONDS)))
    return [
        (Strip(lead, part * SECONDS, SECONDS, _named(lead, part * SECONDS, 0.0)),)
        for part in range(parts)
        for lead in leads
    ]


def _table(leads: Sequence[Lead]) -> tuple[list[tuple[Lead, ...]], int]:
    if len(leads) <= 6:  # noqa: PLR2004 - the limb leads
        return [tuple(leads[row::3]) for row in range(3)], 2
    standard = [lead for lead in STANDARD_12 if lead in leads]
    first = STANDARD_12 if len(standard) > 6 else ()  # noqa: PLR2004 - more than half
    rest = [lead for lead in leads if lead not in first]
    rows = [tuple(first[row::3]) for row in range(3)] if first else []
    return rows + [tuple(rest[at : at + 4]) for at in range(0, len(rest), 4)], 4


def _cell(ecg: ECG, lead: Lead, due: float, seconds: float) -> Strip:
    """Return the strip of a column; where nothing was recorded then, where something was."""
    start = due
    if ecg.duration < SECONDS - _COLUMN_MISMATCH:
        start = min(due, max(0.0, ecg.duration - seconds))
    if not np.isfinite(samples_of(ecg, lead, start, seconds)).any() and lead in ecg:
        recorded = np.isfinite(ecg[lead])
        start = float(recorded.argmax() / ecg.sampling_frequency) if recorded.any() else start
    return Strip(lead, start, seconds, _named(lead, start, due))


def samples_of(ecg: ECG, lead: Lead, start: float, seconds: float) -> Signal:
    """Return the samples of a lead in a span of time, none where there is no such lead."""
    recorded = ecg[lead] if lead in ecg else ecg.signal[:0].ravel()
    first = round(start * ecg.sampling_frequency)
    return recorded[first : first + round(seconds * ecg.sampling_frequency)]


def _named(lead: Lead, start: float, due: float) -> str:
    return f"{lead}" if start == due else f"{lead}  from {start:.4g} s"


def rhythm_lead(ecg: ECG, quality: Quality) -> Lead:
    """Return the lead of the rhythm strip: II, else the first usable of the usual ones."""
    choice = [lead for lead in (*_RHYTHM_CHOICE, *ecg.leads) if lead in ecg]
    usable = (lead for lead in choice if set(quality.leads.get(lead, ())) <= _HARMLESS)
    ordered = (*usable, *choice)
    return next((lead for lead in ordered if np.isfinite(ecg[lead]).any()), choice[0])


def rhythm_strip(ecg: ECG, quality: Quality) -> Strip:
    """Return the strip at the foot of the page; its label says where II cannot serve."""
    lead = rhythm_lead(ecg, quality)
    strip = _cell(ecg, lead, 0.0, SECONDS)
    if lead is Lead.II:
        return strip
    excuse = "not usable" if Lead.II in ecg else "not recorded"
    return replace(strip, label=f"{strip.label}  (II {excuse})")


def _separators(x: float, row: Row) -> list[Line]:
    """Return ticks at the borders of the row, where no one takes them for a QRS complex."""
    return [Line(x, row.top, x, row.top + 5, 0.3), Line(x, row.bottom - 3, x, row.bottom, 0.3)]


def _lettering(strip: Strip, curve: Curve, x: float, row: Row) -> Iterator[Text]:
    yield Text(x + 1.5, row.top + 4.2, strip.label, 9, bold=True)
    if not curve.x.size:
        yield Text(x + 1.5, row.baseline - 1, "not recorded", 7, colour=QUIET)


def calibration_pulse(row: Row) -> Trace:
    """Return the pulse of 1 mV for 200 ms that opens a row."""
    up = row.baseline - GAIN
    corners = [(0.0, row.baseline), (2.5, row.baseline), (2.5, up), (7.5, up)]
    corners += [(7.5, row.baseline), (float(PULSE_WIDTH), row.baseline)]
    points = np.array([(LEFT + x, y) for x, y in corners]) * UNIT
    return Trace(points.round().astype(np.int32), np.arange(len(corners)) == 0)


def _curve(ecg: ECG, strip: Strip) -> Curve:
    rate = ecg.sampling_frequency
    mv = samples_of(ecg, strip.lead, strip.start, strip.seconds).astype(np.float64)
    index, starts = pen_strokes(mv, rate)
    return Curve(index / rate * SPEED, GAIN * (mv[index] - level(mv)), starts)


def level(mv: Float) -> float:
    """Return the median of the finite samples, 0 where there are none; faster than NumPy's."""
    ascending = np.sort(mv[np.isfinite(mv)])
    size = ascending.size
    return float(ascending[(size - 1) // 2] + ascending[size // 2]) / 2 if size else 0.0


def _trace(curve: Curve, x: float, row: Row) -> Trace:
    y = np.clip(row.baseline - curve.height, row.top, row.bottom)
    points = np.stack([x + curve.x, y], axis=1) * UNIT
    return Trace(points.round().astype(np.int32), curve.starts)


def _cut_marks(curve: Curve, x: float, row: Row) -> Iterator[Text]:
    """Yield a mark in every 5 mm in which the curve leaves the row."""
    for mark, y, beyond in (
        (_CUT_ABOVE, row.top + 1.6, curve.height > row.baseline - row.top),
        (_CUT_BELOW, row.bottom - 0.4, curve.height < row.baseline - row.bottom),
    ):
        cut = curve.x[beyond]
        for cell in sorted({*(cut // 5)}):
            yield Text(x + float(cut[cut // 5 == cell].mean()) - 0.6, y, mark, 5)


def pen_strokes(
    mv: Float, rate: float, column: float = _COLUMN
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Return which samples are drawn, in order, and where the pen is set down anew.

    NaN lifts the pen. A sample between two gaps appears twice, so that it leaves a dot. Of each
    ``column`` of so many seconds both extremes are drawn.
    """
    index = np.flatnonzero(_drawn(mv, math.floor(column * rate)))
    finite = np.isfinite(mv[index])
    if finite.all():
        return index, np.arange(index.size) == 0
    before = np.concatenate([[False], finite])[:-1]
    after = np.concatenate([finite, [False]])[1:]
    times = np.where(finite, 1 + (~before & ~after), 0)
    starts = np.repeat(~before, times)
    index = np.repeat(index, times)
    starts[1:] &= index[1:] != index[:-1]
    return index, starts


def _drawn(mv: Float, size: int) -> npt.NDArray[np.bool_]:
    """Return a mask of what columns of ``size`` samples need: extremes, and the edges of gaps."""
    if size <= 2:  # noqa: PLR2004 - two samples are their own extremes
        return np.ones(len(mv), dtype=np.bool_)
    finite = np.isfinite(mv)
    keep = np.ones(len(mv), dtype=np.bool_)
    columns = np.where(finite, mv, np.nan)[: len(mv) // size * size].reshape(-1, size)
    offset = np.arange(len(columns)) * size
    keep[: columns.size] = False
    keep[offset + np.where(np.isnan(columns), np.inf, columns).argmin(axis=1)] = True
    keep[offset + np.where(np.isnan(columns), -np.inf, columns).argmax(axis=1)] = True
    edge = finite[1:] != finite[:-1]
    keep[1:] |= edge
    keep[:-1] |= edge
    return keep
