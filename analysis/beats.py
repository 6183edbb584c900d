"""Where the heart beats: QRS complexes on all leads together, their classes, the median beat.

Every lead votes with its QRS-band envelope, weighted by how much that envelope stands out of
its own surroundings, so that a bad or flat lead has no say and one lead is as welcome as twelve.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage, signal

from analysis.ecg import ECG

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]
Indices = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]
Band = tuple[float, float]

QRS_BAND: Band = (8.0, 30.0)
"""Hz: where QRS complexes, wide ones too, stand out of P, T, wander and muscle."""
ECG_BAND: Band = (0.4, 80.0)
"""Hz: what fiducials are looked for in; wander and mains lie outside."""
WORKING_RATE = 500.0
"""Hz: about what every ECG is resampled to, so that one set of widths holds for all."""

_ENVELOPE = 0.08  # s, about one QRS
_BLOCK = 2.0  # s, holds a beat at 30/min
_REFRACTORY = 0.2  # s
_T_WAVE = 0.36  # s after a QRS in which a weaker peak is its T wave (Pan and Tompkins 1985)
_T_HEIGHT, _P_HEIGHT = 0.6, 0.7  # of its QRS: below it a neighbour is its T or its P wave
_ACCEPTED, _SEARCHED = 0.3, 0.16  # of the local QRS height; the latter in a long pause only
_LONG_PAUSE = 1.5  # of the usual RR interval
_SPIKE = 0.5  # mV that one sample may not stand out of both neighbours
_SMALLEST_QRS = 0.012  # mV in the QRS band, of the strongest lead
_PEAKINESS = 1.5  # QRS height over the median of the envelope
_NOISE = 1.4  # of that median: no lower a peak is accepted at once
_EARLY = 0.8  # of the usual RR interval
_DOUBT = 1.5  # of that median: no lower an early beat of another shape is one
_SHAPE = (0.08, 0.10)  # s before and after R: what beats are aligned and compared by
_SHIFT = 0.03  # s that alignment may move a beat
_BEAT = (0.10, 0.15)  # s before and after R: what tells classes
_ALIKE, _UNLIKE = 0.25, 4.0  # quantile of the differences that is noise; times it: another shape
_LIMITS = (0.16, 0.64)  # of the power of a beat, between which that lies
_MAINS_PERIOD = 0.02  # s
_TINY = 1e-12  # mV²
_CLASSES = 8


@dataclass(frozen=True, slots=True, eq=False)
class Beats:
    """The beats of one ECG.

    Parameters
    ----------
    r_peaks
        ``(beats,)``, 0-based samples at the working rate, aligned by shape.
    classes
        ``(beats,)``: beats of one number have one shape; 0 is the dominant one.
    premature
        ``(beats,)``: whether a beat comes early for its surroundings.
    """

    r_peaks: Indices
    classes: Indices
    premature: Mask

    @property
    def dominant(self) -> Mask:
        """``(beats,)``: the beats of dominant shape, those in time only if they suffice."""
        usual = self.classes == 0
        in_time = usual & ~self.premature
        dominant: Mask = in_time if 2 * in_time.sum() >= usual.sum() else usual
        return dominant


NO_BEATS = Beats(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, np.bool_))


def fill_gaps(recorded: Floats) -> Floats:
    """Return the signal with NaN bridged by straight lines; a lead without samples is zero."""
    missing = ~np.isfinite(recorded)
    if not missing.any():
        return recorded
    filled = recorded.copy()
    positions = np.arange(recorded.shape[1])
    for row, gaps in zip(filled, missing, strict=True):
        known = ~gaps
        row[gaps] = np.interp(positions[gaps], positions[known], row[known]) if known.any() else 0
    return filled


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """An ECG made ready for measuring: gaps bridged, filtered, at the working rate.

    Parameters
    ----------
    clean, qrs
        ``(leads, samples)`` in mV, in :data:`ECG_BAND` and in :data:`QRS_BAND`.
    sampling_frequency
        Of these signals, in Hz: :data:`WORKING_RATE`, but for a rounding of the length.
    """

    clean: Floats
    qrs: Floats
    sampling_frequency: float

    def samples(self, seconds: float) -> int:
        """Return the nearest whole number of samples, at least one."""
        return max(1, round(seconds * self.sampling_frequency))


def prepare(ecg: ECG) -> Prepared:
    """Return the ECG filtered without phase shift and resampled, in one transform.

    The first sample stays the first: a position here times the ratio of the rates is a
    position in the ECG.
    """
    if not ecg.signal.size:
        return Prepared(ecg.signal, ecg.signal, WORKING_RATE)
    ratio = Fraction(WORKING_RATE / ecg.sampling_frequency).limit_denominator(1000)
    margin = min(round(ecg.sampling_frequency), ecg.samples - 1)
    groups = fft.next_fast_len(-(-(ecg.samples + 2 * margin) // ratio.denominator), real=True)
    before, after = groups * ratio.denominator, groups * ratio.numerator
    extended = _mirrored(_without_spikes(fill_gaps(ecg.signal)), margin, before)
    rate = ecg.sampling_frequency * after / before
    spectrum = fft.rfft(extended)
    frequency = fft.rfftfreq(before, 1 / ecg.sampling_frequency)
    keep = int(np.searchsorted(frequency, 2 * ECG_BAND[1]))
    length = int(np.ceil(ecg.samples * after / before))
    clean, qrs = (
        fft.irfft(
            spectrum[:, :keep] * (_response(frequency[:keep], band) * (after / before)), after
        )[:, :length]
        for band in (ECG_BAND, QRS_BAND)
    )
    return Prepared(clean, qrs, rate)


def _without_spikes(gapless: Floats) -> Floats:
    """Return the signal with single samples far off both neighbours, pacing spikes, replaced."""
    first, middle, last = gapless[:, :-2], gapless[:, 1:-1], gapless[:, 2:]
    low, high = np.minimum(first, last), np.maximum(first, last)
    between = np.clip(middle, low, high)
    spikes = np.abs(middle - between) > _SPIKE
    if not spikes.any():
        return gapless
    clean = gapless.copy()
    clean[:, 1:-1][spikes] = between[spikes]
    return clean


def _mirrored(gapless: Floats, margin: int, size: int) -> Floats:
    """Return the signal continued by its odd reflections, so that it closes as a circle."""
    after = 2 * gapless[:, -1:] - gapless[:, -2 : -2 - margin : -1]
    before = 2 * gapless[:, :1] - gapless[:, margin:0:-1]
    fraction = np.linspace(0, 1, size - gapless.shape[1] - 2 * margin, dtype=np.float32)
    left = after[:, -1:] if margin else gapless[:, -1:]
    right = before[:, :1] if margin else gapless[:, :1]
    return np.concatenate([gapless, after, left + (right - left) * fraction, before], axis=1)


def _response(frequency: Array, band: Band) -> Floats:
    low, high = band
    with np.errstate(divide="ignore"):
        octaves = np.minimum(np.log2(frequency / low), np.log2(high / frequency))
    ramp = np.clip(octaves + 0.5, 0.0, 1.0)
    return (0.5 - 0.5 * np.cos(np.pi * ramp)).astype(np.float32)


def detect(prepared: Prepared) -> Beats:
    """Return the beats found on all leads together; none where nothing stands out as QRS."""
    if not prepared.qrs.size:
        return NO_BEATS
    envelope, weights = _envelope(prepared)
    peaks = _qrs_peaks(envelope, prepared)
    if not peaks.size or np.median(_height(prepared.qrs, peaks)) < _SMALLEST_QRS:
        return NO_BEATS
    each = weights[:, None]
    weighted = Prepared(prepared.clean * each, prepared.qrs * each, prepared.sampling_frequency)
    peaks, classes = _classify(weighted, _strongest(weighted, peaks))
    real = ~_doubtful(envelope, prepared, peaks, classes)
    _, classes = np.unique(classes[real], return_inverse=True)
    return Beats(peaks[real], classes, _premature(peaks[real]))


def _height(qrs: Floats, peaks: Indices) -> Floats:
    """Return the greatest deflection over the leads at each peak, mV."""
    height: Floats = np.abs(qrs[:, peaks]).max(axis=0)
    return height


def _envelope(prepared: Prepared) -> tuple[Floats, Floats]:
    """Return the common envelope, about 1 at a QRS, and the weight of each lead in it."""
    power = ndimage.uniform_filter1d(
        prepared.qrs**2, prepared.samples(_ENVELOPE), axis=1, mode="nearest"
    )
    each = np.sqrt(np.maximum(power, 0.0))
    samples = each.shape[1]
    starts = np.arange(max(1, round(samples / prepared.samples(_BLOCK))))
    starts = starts * samples // starts.size
    lengths = np.diff(starts, append=samples)
    highest = np.maximum.reduceat(each, starts, axis=1)
    mean = np.add.reduceat(each, starts, axis=1) / lengths
    height = ndimage.median_filter(highest, size=(1, 5), mode="nearest")
    tiny = np.float32(1e-6)
    standing_out = np.clip(highest / (mean + tiny) - 1.8, 0.02, 4.0) ** 2
    reliable = standing_out / standing_out.sum(axis=0)
    sizes = np.sqrt(np.minimum(height, 2 * np.median(height, axis=0)))
    weight = reliable * sizes / (height + tiny)
    common = (each * np.repeat(weight, lengths, axis=1)).sum(axis=0)
    usual = ndimage.median_filter(np.maximum.reduceat(common, starts), size=5, mode="nearest")
    return common / np.repeat(usual + tiny, lengths), np.median(weight, axis=1)


def _qrs_peaks(envelope: Floats, prepared: Prepared) -> Indices:
    """Return the samples where the envelope peaks as at a QRS."""
    distance = prepared.samples(_REFRACTORY)
    candidates, _ = signal.find_peaks(envelope, distance=distance, height=_SEARCHED)
    heights = envelope[candidates]
    surroundings = _surroundings(envelope, candidates, prepared)
    chosen = heights >= np.maximum(_ACCEPTED, _NOISE * surroundings)
    _drop_p_and_t(chosen, candidates, heights, prepared.samples(_T_WAVE))
    chosen = _search_back(candidates, heights, chosen)
    if not chosen.any():
        return np.empty(0, np.intp)
    if np.median(heights[chosen] / surroundings[chosen]) < _PEAKINESS:
        return np.empty(0, np.intp)
    peaks: Indices = candidates[chosen]
    return peaks


def _surroundings(envelope: Floats, candidates: Indices, prepared: Prepared) -> Floats:
    """Return the median of the envelope in the ten seconds about each candidate."""
    step = prepared.samples(0.05)
    sparse = envelope[::step]
    size = min(sparse.size, prepared.samples(10) // step)
    medians: Floats = ndimage.median_filter(sparse, size=size, mode="mirror")
    return medians[np.minimum(candidates // step, medians.size - 1)]


def _drop_p_and_t(chosen: Mask, candidates: Indices, heights: Floats, t_wave: int) -> None:
    """Unchoose what is much lower than a neighbour close by: its P or its T wave."""
    last = -1
    for this in np.flatnonzero(chosen).tolist():
        if last >= 0 and candidates[this] - candidates[last] < t_wave:
            if heights[this] < _T_HEIGHT * heights[last]:
                chosen[this] = False
                continue
            if heights[last] < _P_HEIGHT * heights[this]:
                chosen[last] = False
        last = this


def _search_back(candidates: Indices, heights: Floats, chosen: Mask) -> Mask:
    """Return the choice with the strongest candidate of each long pause added."""
    found = np.flatnonzero(chosen)
    if found.size < 3:  # noqa: PLR2004 - two RR intervals make one usual
        return chosen
    intervals = np.diff(candidates[found])
    usual = ndimage.median_filter(intervals, size=9, mode="nearest")
    completed = chosen.copy()
    for pause in np.flatnonzero(intervals > _LONG_PAUSE * usual):
        first, last = found[pause], found[pause + 1]
        margin = 0.4 * usual[pause]
        inside = np.arange(first + 1, last)
        inside = inside[
            (candidates[inside] - candidates[first] > margin)
            & (candidates[last] - candidates[inside] > margin)
        ]
        if inside.size:
            completed[inside[np.argmax(heights[inside])]] = True
    return completed


def _doubtful(envelope: Floats, prepared: Prepared, peaks: Indices, classes: Indices) -> Mask:
    """Return which beats are early, low and unlike the dominant ones: P, T or noise."""
    if peaks.size < 3:  # noqa: PLR2004 - early for which surroundings?
        return np.zeros(peaks.size, np.bool_)
    intervals = np.diff(peaks)
    usual = ndimage.median_filter(intervals, size=9, mode="nearest")
    short = intervals < _EARLY * usual
    early = np.append(False, short) | np.append(short, False)
    reach = prepared.samples(_ENVELOPE / 2)
    around = np.clip(peaks[:, None] + np.arange(-reach, reach + 1), 0, envelope.size - 1)
    surroundings = _surroundings(envelope, peaks, prepared)
    low = envelope[around].max(axis=1) < np.maximum(_ACCEPTED, _DOUBT * surroundings)
    doubtful: Mask = early & low & (classes != 0)
    return doubtful


def _strongest(weighted: Prepared, peaks: Indices) -> Indices:
    """Return the sample of greatest magnitude over all leads near each peak."""
    magnitude = np.einsum("ls,ls->s", weighted.qrs, weighted.qrs)
    reach = weighted.samples(_ENVELOPE / 2)
    around = np.clip(peaks[:, None] + np.arange(-reach, reach + 1), 0, magnitude.size - 1)
    strongest: Indices = around[np.arange(peaks.size), np.argmax(magnitude[around], axis=1)]
    return strongest


def windows(
    rows: Floats, centres: Indices, before: int, after: int, *, beyond: float = np.nan
) -> Floats:
    """Return ``(centres, leads, before + after)`` samples, with what lies beyond the recording."""
    samples = rows.shape[1]
    where = centres[:, None] + np.arange(-before, after)
    cut = rows[:, np.clip(where, 0, max(0, samples - 1))].transpose(1, 0, 2)
    for beat in np.flatnonzero((where[:, 0] < 0) | (where[:, -1] >= samples)):
        cut[beat][:, (where[beat] < 0) | (where[beat] >= samples)] = beyond
    return cut


def without_mains(rows: Floats, sampling_frequency: float) -> Floats:
    """Return the rows smoothed over 20 ms, in which mains of 50 and 60 Hz average out."""
    size = max(1, round(_MAINS_PERIOD * sampling_frequency))
    smooth: Floats = ndimage.uniform_filter1d(rows, size, axis=-1, mode="nearest")
    return smooth


def median(beats: Floats) -> Floats:
    """Return the median over the first axis; several times as fast as numpy's, without NaN."""
    ordered = np.sort(beats, axis=0)
    middle: Floats = (ordered[(len(beats) - 1) // 2] + ordered[len(beats) // 2]) / 2
    return middle


def _classify(weighted: Prepared, peaks: Indices) -> tuple[Indices, Indices]:
    """Return the peaks aligned within their classes, and the classes, 0 the dominant one."""
    peaks = _aligned(weighted, peaks)
    classes = _classes(weighted, peaks)
    if classes.any():
        for number in range(classes.max() + 1):
            members = classes == number
            peaks[members] = _aligned(weighted, peaks[members])
    order = np.argsort(peaks, kind="stable")
    distinct = np.diff(peaks[order], prepend=-1) > 0
    _, classes = np.unique(classes[order][distinct], return_inverse=True)
    return peaks[order][distinct], classes


def _shapes(weighted: Prepared, peaks: Indices, reach: int) -> Floats:
    before = weighted.samples(_SHAPE[0]) + reach
    after = weighted.samples(_SHAPE[1]) + reach
    return windows(weighted.qrs, peaks, before, after, beyond=0.0)


def _aligned(weighted: Prepared, peaks: Indices) -> Indices:
    """Return the peaks moved to where each beat fits the median beat of them all best."""
    if peaks.size < 2:  # noqa: PLR2004 - one beat is its own median
        return peaks
    reach = weighted.samples(_SHIFT)
    wide = _shapes(weighted, peaks, reach)
    length = wide.shape[2] - 2 * reach
    shifted = np.lib.stride_tricks.sliding_window_view(wide, length, axis=2)
    template = median(shifted[:, :, reach])
    likeness = np.einsum("blsw,lw->bs", shifted, template)
    moved = peaks + np.argmax(likeness, axis=1) - reach
    aligned: Indices = np.clip(moved, 0, weighted.qrs.shape[1] - 1)
    return aligned


def _classes(weighted: Prepared, peaks: Indices) -> Indices:
    """Return the class of each beat: greedily, the beat with most beats like it leads."""
    similar = _similar(weighted, peaks)
    classes = np.full(peaks.size, -1)
    for number in range(_CLASSES):
        free = classes < 0
        if not free.any():
            break
        leader = np.argmax(np.where(free, (similar & free).sum(axis=1), -1))
        classes[free & similar[leader]] = number
    classes[classes < 0] = classes.max() + 1
    return classes


def _similar(weighted: Prepared, peaks: Indices) -> Mask:
    """Return which beats have one shape, ``(beats, beats)``.

    Beats differ by the power of their difference, over that of both. How much of it is noise
    the most alike quarter of all pairs tells.
    """
    before, after = (weighted.samples(part) for part in _BEAT)
    beats = windows(weighted.clean, peaks, before, after, beyond=0.0)
    beats = without_mains(beats, weighted.sampling_frequency)
    beats = (beats - beats.mean(axis=2, keepdims=True)).reshape(peaks.size, -1)
    products = beats @ beats.T
    power = np.maximum(np.diag(products), _TINY)
    difference = (power[:, None] + power - 2 * products) / np.sqrt(np.outer(power, power))
    noise = np.quantile(difference, _ALIKE)
    similar: Mask = difference < np.clip(_UNLIKE * noise, *_LIMITS)
    return similar


def _premature(peaks: Indices) -> Mask:
    intervals = np.diff(peaks)
    if intervals.size < 3:  # noqa: PLR2004 - early for which surroundings?
        return np.zeros(peaks.size, np.bool_)
    usual = ndimage.median_filter(intervals, size=7, mode="nearest")
    return np.concatenate([[False], intervals < 0.8 * usual])
