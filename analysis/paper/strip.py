"""The rhythm strip with its beats: where each was found, of what kind, and how far apart."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.ecg import ECG, Signal
from analysis.paper.beats import beat_kinds, words_of
from analysis.paper.carried import SHADE, Carried
from analysis.paper.lettering import width
from analysis.paper.page import INK, QUIET, Item, Line, Rect, Text
from analysis.paper.scale import Frame, curves
from analysis.paper.tracing import (
    LEFT,
    PULSE_WIDTH,
    SECONDS,
    SPEED,
    WIDTH,
    Strip,
    level,
    rhythm_strip,
    samples_of,
)
from analysis.result import RR_INTERVALS, BeatKind, Result

Array = npt.NDArray[np.float64]

HEIGHT: Final = 28
"""mm of one strip."""
SYMBOLS: Final = {
    BeatKind.DOMINANT: "",
    BeatKind.PACED: "P",
    BeatKind.SUPRAVENTRICULAR: "S",
    BeatKind.ABERRANT: "A",
    BeatKind.VENTRICULAR: "V",
    BeatKind.OTHER: "?",
}
"""What stands over a beat; the dominant one has a tick alone."""
_GAINS: Final = (10.0, 5.0, 2.5)
_MARKS, _RR = 5.0, 4.0
_COLUMN: Final = 0.25 / SPEED
"""Seconds that are as wide as the pen."""
_SIZE: Final = 6.8
_AROUND_R: Final = (-0.2, 0.35)
"""Seconds before and after R that are shaded."""


@dataclass(frozen=True, slots=True)
class Strips:
    """Strips as drawn, and what must be said of them."""

    height: int
    """mm."""
    scale: str
    legend: str
    items: list[Item]


def draw_strips(result: Result, carried: Carried | None, top: float, most: int) -> Strips:
    """Return up to ``most`` strips that go on in time, with their beats.

    Parameters
    ----------
    result
        What is drawn.
    carried
        The statement whose beats or RR intervals are shown in grey.
    top
        In mm from the top of the page.
    most
        How many strips there is room for.
    """
    ecg = result.recording.ecg
    if not ecg.leads:
        return Strips(HEIGHT, "", "", [Text(LEFT + 2, top + 6, "No lead was recorded.", 8.5)])
    first = rhythm_strip(ecg, result.quality)
    kinds = beat_kinds(result)
    strips = [_later(first, part) for part in range(_count(ecg, first.start, most))]
    curves_of = [_levelled(samples_of(ecg, s.lead, s.start, s.seconds)) for s in strips]
    extents = [_extent(mv) for mv in curves_of]
    gain = _gain(extents)
    frames = [_frame(extent, top + row * HEIGHT, gain) for row, extent in enumerate(extents)]
    drawn = list(zip(frames, curves_of, strict=True))
    placed = zip(strips, frames, strict=True)
    grey = [rect for place in placed for rect in _shades(result, carried, *place)]
    items: list[Item] = [*grey, *curves(drawn, ecg.sampling_frequency, _COLUMN)]
    for strip, (frame, mv) in zip(strips, drawn, strict=True):
        items += _around(strip, mv, ecg.sampling_frequency, frame)
        items += _beats(result, strip, kinds, frame)
    shown = first.start + SECONDS * len(strips)
    rest = f"   up to {shown:g} s of {ecg.duration:g} s" if shown < ecg.duration else ""
    scale = f"Rhythm {first.label}   {SPEED:g} mm/s   {gain:g} mm/mV{rest}"
    return Strips(HEIGHT * len(strips), scale, _legend(kinds), items)


def _count(ecg: ECG, start: float, most: int) -> int:
    """Return how many strips the recording fills, of ``most``."""
    return max(1, min(most, int(-(-(ecg.duration - start) // SECONDS))))


def _later(first: Strip, part: int) -> Strip:
    if not part:
        return first
    start = first.start + part * SECONDS
    return Strip(first.lead, start, SECONDS, first.label)


def _levelled(samples: Signal) -> Array:
    """Return the samples above their median; what is no number is no sample."""
    mv = samples.astype(np.float64)
    mv[~np.isfinite(mv)] = np.nan
    return mv - level(mv)


def _extent(mv: Array) -> tuple[float, float]:
    """Return how far the curve and the calibration pulse reach above and below 0, mV."""
    return float(np.fmax.reduce(mv, initial=1.0)), -float(np.fmin.reduce(mv, initial=0.0))


def _gain(extents: Sequence[tuple[float, float]]) -> float:
    """Return the largest gain at which nothing is cut, else the smallest."""
    room = HEIGHT - _MARKS - _RR
    tallest = max(sum(extent) for extent in extents)
    return next((gain for gain in _GAINS if tallest * gain <= room), _GAINS[-1])


def _frame(extent: tuple[float, float], top: float, gain: float) -> Frame:
    """Return the frame in which the curve stands midway."""
    upper, lower = top + _MARKS, top + HEIGHT - _RR
    zero = min(max((upper + lower + (extent[0] - extent[1]) * gain) / 2, upper), lower)
    return Frame(LEFT + PULSE_WIDTH, upper, LEFT + WIDTH, lower, zero, SPEED, gain)


def _around(strip: Strip, mv: Array, rate: float, frame: Frame) -> Iterator[Item]:
    """Yield name, start and calibration pulse of a strip, and where it is cut."""
    top = frame.top - _MARKS
    yield Text(LEFT + 1, top + 4, strip.lead, 8.5, bold=True)
    if strip.start:
        yield Text(LEFT + 1, top + 7, f"{strip.start:.4g} s", 6.5)
    yield frame.pulse(0.2, LEFT)
    if not np.isfinite(mv).any():
        yield Text(frame.left, frame.zero - 1, "not recorded", 7, colour=QUIET)
    yield from frame.cut(mv, rate)


def _beats(
    result: Result, strip: Strip, kinds: tuple[BeatKind, ...], frame: Frame
) -> Iterator[Item]:
    """Yield a mark over each beat, and the RR intervals in ms between them."""
    seconds = result.measurements.r_peaks / result.recording.ecg.sampling_frequency
    shown = np.flatnonzero((seconds >= strip.start) & (seconds < strip.start + strip.seconds))
    places = (frame.left + (seconds - strip.start) * SPEED).tolist()
    rr = np.rint(np.diff(seconds) * 1000).astype(int).tolist()
    for row in shown.tolist():
        x, symbol = places[row], SYMBOLS[kinds[row]]
        yield Line(x, frame.top - 1.6, x, frame.top - 0.2, 0.35, INK)
        if symbol:
            half = width(symbol, 8, bold=True) / 2
            left = min(x - half, LEFT + WIDTH - 2 * half)
            yield Text(left, frame.top - 1.9, symbol, 8, bold=True)
        if row in shown[1:]:
            yield from _interval(places[row - 1], x, f"{rr[row - 1]}", frame.bottom + 2.9)


def _shades(result: Result, carried: Carried | None, strip: Strip, frame: Frame) -> Iterator[Rect]:
    """Yield grey behind the beats that carried a finding, or behind the RR intervals."""
    if carried is None:
        return
    if RR_INTERVALS in carried.explanation.carrying_parts:
        yield Rect(frame.left, frame.bottom, frame.right - frame.left, _RR, SHADE)
    seconds = result.measurements.r_peaks / result.recording.ecg.sampling_frequency - strip.start
    for row in carried.explanation.carrying_beats:
        left, right = (frame.x(seconds[row] + side) for side in _AROUND_R)
        left, right = max(left, frame.left), min(right, frame.right)
        if left < right:
            yield Rect(left, frame.top, right - left, frame.bottom - frame.top, SHADE)


def _interval(x0: float, x1: float, said: str, y: float) -> Iterator[Text]:
    wide = width(said, _SIZE)
    if wide < x1 - x0 - 0.6:
        yield Text((x0 + x1 - wide) / 2, y, said, _SIZE)


def _legend(kinds: Iterable[BeatKind]) -> str:
    """Return what the marks over the beats mean, of those that occur."""
    said = [f"{sign} {words_of(kind)}" for kind, sign in SYMBOLS.items() if sign and kind in kinds]
    return ", ".join(["| beat, below it the RR interval in ms", *said])
