"""P waves followed by themselves, whether or not a QRS complex comes after them; flutter waves.

They are looked for between the QRS complexes, the usual T taken away, as what has one shape on
all leads together, and believed only where they keep time, their distances being whole
multiples of one interval with none missing in sight, or where one precedes nearly every beat.
Those that fall into a QRS follow from that interval.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, signal

from analysis.beats import (
    Array,
    Beats,
    Floats,
    Indices,
    Mask,
    Prepared,
    fill_gaps,
    median,
    windows,
)

_STEP = 4  # working samples: P waves are slow
_WIDTH = 0.018  # s, standard deviation of the smoothing: a P wave is a bump of 0.1 s
_SHAPE = 0.06  # s before and after its peak by which a P wave is known
_DISTANCE = 0.2  # s between two waves at least
_SAME_SHAPE, _SAME_SIZE = 0.8, 2.0  # correlation; ratio of heights
_PROMINENT = 3.0  # height of P waves over the median between T and QRS
_FEWEST = 4  # waves that make a rhythm
_SLOWEST, _FASTEST = 1.5, 0.4  # s from P to P: sinus rhythm of 40 to 150 per minute
_IN_TIME = 0.12  # of that interval
_MULTIPLES = 3  # intervals that two waves in sight may lie apart
_EACH_BEAT = 0.8  # of the beats: nearly every
_T_OFFSET = (0.45, 0.7)  # s after R at an RR interval of 1 s, at most of RR
_BEFORE_R, _QRS_OFFSET = 0.07, 0.12  # s before and after R that the QRS fills
_AFTER_R, _FADE = 0.6, 0.06  # s after R that QRS and T fill at most; in which T is faded out
_FEWEST_ALIKE = 3  # beats of which a median leaves the atria out
_SHORTEST_DELAY = 0.06  # s from the peak of P to that of R
_LONGEST_LOOK = 10.0  # s of a recording in which a steady wave is looked for
_FLUTTER_BAND, _ALL_BAND = (3.5, 6.0), (2.5, 20.0)  # Hz, the first 210 to 360 per minute
_STEADY = 0.2  # Hz by which a steady wave may wander to either side
_QRS_SPAN = (0.06, 0.09)  # s before and after R
_TINY = 1e-12
_SPECTRUM = 4096  # samples, for a step of 0.03 Hz


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conduction:
    """How P waves and QRS complexes follow each other.

    Parameters
    ----------
    interval
        Usual PP interval, ms.
    waves
        ``(beats - 1,)``: P waves from each R peak to the next.
    delays
        ``(beats - 1,)``, ms from the last of them to that R peak, NaN where there is none.
    """

    interval: float
    waves: Indices
    delays: Array


def conduction(prepared: Prepared, beats: Beats) -> Conduction | None:
    """Return how P waves and beats follow each other, or None where P cannot be followed."""
    rate = prepared.sampling_frequency / _STEP
    r_peaks = beats.r_peaks / prepared.sampling_frequency
    if r_peaks.size < _FEWEST:
        return None
    ventricles = _Ventricles(r_peaks, beats.classes, rate)
    bumps = _bumps(ventricles.cancelled(prepared.clean[:, ::_STEP]), rate)
    visible = ventricles.between(bumps.shape[1])
    found = _one_shape(bumps, visible, rate) / rate
    if found.size < _FEWEST:
        return None
    plain = ndimage.binary_erosion(visible, iterations=round(_SHAPE * rate))
    train = _in_time(found, plain, rate)
    if train:
        return _related(*train, r_peaks)
    related = _related(found, float(np.median(np.diff(found))), r_peaks)
    led = related.waves.max() == 1 and related.waves.mean() >= _EACH_BEAT
    return related if led else None


def steady_wave(rows: Floats, beats: Beats, sampling_frequency: float) -> tuple[float, float]:
    """Return the frequency, Hz, of the strongest steady wave of some leads and its share of power.

    Flutter waves keep time beneath T waves and pauses alike. What the ventricles make is spread
    over many frequencies where RR intervals vary; where they do not, it is as steady.

    Parameters
    ----------
    rows
        ``(leads, samples)``; the share is that of the lead in which it is greatest, of what
        lies between the QRS complexes from 2.5 to 20 Hz. NaN without a lead.
    """
    if not rows.size:
        return np.nan, np.nan
    rate = sampling_frequency / _STEP
    some = np.array(rows[:, : round(_LONGEST_LOOK * sampling_frequency) : _STEP], np.float64)
    centres = np.rint(beats.r_peaks / _STEP).astype(np.intp)
    before, after = (round(part * rate) for part in _QRS_SPAN)
    hidden = (centres[:, None] + np.arange(-before, after)).ravel()
    some[:, hidden[(hidden >= 0) & (hidden < some.shape[1])]] = np.nan
    spectrum = np.fft.rfft(fill_gaps(some) * np.hanning(some.shape[1]), _SPECTRUM, axis=1)
    power, frequency = np.abs(spectrum) ** 2, np.fft.rfftfreq(_SPECTRUM, 1 / rate)
    width = 2 * round(_STEADY / frequency[1]) + 1
    near, moment = (
        width * ndimage.uniform_filter1d(part, width, axis=1) for part in (power, power * frequency)
    )
    inside, whole = (
        (frequency >= low) & (frequency <= high) for low, high in (_FLUTTER_BAND, _ALL_BAND)
    )
    every = np.maximum(power[:, whole].sum(axis=1, keepdims=True), _TINY)
    share = np.where(inside, near / every, 0.0)
    lead, best = np.unravel_index(int(np.argmax(share)), share.shape)
    return float(moment[lead, best] / max(near[lead, best], _TINY)), float(share[lead, best])


@dataclass(frozen=True, slots=True, eq=False)
class _Ventricles:
    """The beats, ``(beats,)``: R peaks in s, classes; Hz of what they are looked for in."""

    r_peaks: Array
    classes: Indices
    rate: float

    def _t_offsets(self) -> Array:
        """Return where T has ended at the latest after each R peak but the last, s."""
        rr = np.diff(self.r_peaks)
        usual, most = _T_OFFSET
        offsets: Array = np.minimum(usual * np.sqrt(np.minimum(rr, 1.2)), most * rr)
        return offsets

    def _repeated(self) -> Mask:
        """Return which beats have enough of their class for a median."""
        repeated: Mask = np.bincount(self.classes)[self.classes] >= _FEWEST_ALIKE
        return repeated

    def cancelled(self, rows: Floats) -> Floats:
        """Return the rows less the median QRS and T of each class of beats.

        What does not follow the beats stays: atria that beat by themselves.
        """
        before, after = (round(part * self.rate) for part in (_BEFORE_R, _AFTER_R))
        ends = np.append(self._t_offsets(), 0.0)
        centres = np.rint(self.r_peaks * self.rate).astype(np.intp)
        where = centres[:, None] + np.arange(-before, after)
        inside = (where >= 0) & (where < rows.shape[1])
        where = np.clip(where, 0, rows.shape[1] - 1)
        fade = np.clip((ends[:, None] - np.arange(-before, after) / self.rate) / _FADE, 0, 1)
        left = rows.copy()
        for number in np.unique(self.classes[self._repeated()]):
            members = self.classes == number
            usual = median(rows[:, where[members]].transpose(1, 0, 2))
            usual = usual - usual[:, :1]
            for beat in np.flatnonzero(members):
                left[:, where[beat]] -= usual * (fade[beat] * inside[beat])
        return left

    def between(self, samples: int) -> Mask:
        """Return where a P wave can be seen, ``(samples,)``."""
        first = np.where(self._repeated()[:-1], _QRS_OFFSET, self._t_offsets())
        visible = np.zeros(samples, np.bool_)
        begins, ends = (self.r_peaks[:-1] + first), (self.r_peaks[1:] - _BEFORE_R)
        for begin, end in zip(begins * self.rate, ends * self.rate, strict=True):
            visible[round(begin) : round(end)] = True
        return visible


def _bumps(rows: Floats, rate: float) -> Floats:
    """Return how much each lead bulges."""
    bumps: Floats = -ndimage.gaussian_filter1d(rows, _WIDTH * rate, axis=1, order=2)
    return bumps


def _one_shape(bumps: Floats, visible: Mask, rate: float) -> Indices:
    """Return the peaks of the most frequent shape in sight, none where nothing stands out."""
    height = np.where(visible, np.sqrt((bumps**2).mean(axis=0)), 0.0)
    peaks, _ = signal.find_peaks(height, distance=max(1, round(_DISTANCE * rate)))
    peaks = peaks[height[peaks] > _PROMINENT * np.median(height[visible])] if peaks.size else peaks
    if peaks.size < _FEWEST:
        return np.empty(0, np.intp)
    reach = round(_SHAPE * rate)
    shapes = windows(bumps, peaks, reach, reach, beyond=0.0).reshape(peaks.size, -1)
    sizes = np.linalg.norm(shapes, axis=1)
    alike = (shapes @ shapes.T) / np.maximum(np.outer(sizes, sizes), 1e-12) > _SAME_SHAPE
    alike &= np.abs(np.log2(sizes / sizes[:, None])) < np.log2(_SAME_SIZE)
    chosen: Indices = peaks[alike[np.argmax(alike.sum(axis=1))]]
    return chosen


def _in_time(found: Array, plain: Mask, rate: float) -> tuple[Array, float] | None:
    """Return all P waves, those out of sight too, and their interval; None where they keep none.

    Of several intervals that fit, the longest. At most a third may be out of sight, none may be
    missing in plain sight.
    """
    gaps = np.diff(found)
    possible = np.sort((gaps[:, None] / np.arange(1, _MULTIPLES + 1)).ravel())[::-1]
    for interval in possible[(possible >= _FASTEST) & (possible <= _SLOWEST)]:
        steps = np.maximum(1, np.rint(gaps / interval)).astype(np.intp)
        late = np.abs(gaps / steps - interval) > _IN_TIME * interval
        if late.any() or steps.max() > _MULTIPLES or 3 * found.size < 2 * (steps.sum() + 1):
            continue
        every, hidden = _completed(found, gaps, steps)
        if not plain[np.rint(every[hidden] * rate).astype(np.intp)].any():
            return every, float(gaps.sum() / steps.sum())
    return None


def _completed(found: Array, gaps: Array, steps: Indices) -> tuple[Array, Mask]:
    """Return all waves where each gap holds so many steps, and which of them were not found."""
    first = np.cumsum(steps) - steps
    within = np.arange(steps.sum()) - np.repeat(first, steps)
    every = np.repeat(found[:-1], steps) + within * np.repeat(gaps / steps, steps)
    return np.append(every, found[-1]), np.append(within > 0, np.zeros(1, np.bool_))


def _related(p_peaks: Array, interval: float, r_peaks: Array) -> Conduction:
    """Return the relation from the first beat after the first P wave to the last P wave."""
    belongs = np.searchsorted(r_peaks, p_peaks + _SHORTEST_DELAY)
    waves = np.bincount(belongs, minlength=r_peaks.size + 1)[1 : r_peaks.size]
    last = np.searchsorted(p_peaks, r_peaks[1:] - _SHORTEST_DELAY, side="right") - 1
    delays = np.where(waves > 0, r_peaks[1:] - p_peaks[np.maximum(last, 0)], np.nan)
    return Conduction(interval=1000 * interval, waves=waves, delays=1000 * delays)
