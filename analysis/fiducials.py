"""Where the waves begin, peak and end: on the median beat of each class, then in each beat.

Averaging first and marking afterwards makes use of all ten seconds; marking all leads together
makes use of all twelve. The marks are those of the learned delineator, as far as they are
consistent with the rhythm and with each other, else the classical ones: there a wave ends where
its speed, the magnitude of its slope, has fallen to a fraction of what it was on its last flank;
the fractions are fitted to cardiologists' marks (ACCURACY.md says on which records).
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from analysis.beats import (
    WORKING_RATE,
    Array,
    Beats,
    Floats,
    Mask,
    Prepared,
    median,
    windows,
)
from analysis.delineator import BEFORE as LEARNED_BEFORE
from analysis.delineator import SAMPLES, SAMPLING_FREQUENCY, Delineator

DECIMATION = round(WORKING_RATE / SAMPLING_FREQUENCY)
"""Working samples to one of the learned delineator."""
BEFORE = LEARNED_BEFORE * DECIMATION
AFTER = SAMPLES * DECIMATION - BEFORE
"""Working samples around R that a template holds."""


_QRS_BEFORE, _QRS_AFTER = 0.12, 0.16  # s around R that a QRS may fill
_PAUSE = 0.024  # s of quiet that end a QRS
_PAUSING, _BUSY = 0.08, 4.0  # of the greatest and of the median speed: what is still quiet
_PR_SEGMENT, _ST_SEGMENT = 0.01, 0.04  # s at least between the QRS and its neighbours
_LONGEST_RR = 1.5  # s: beyond it QT and P do not follow the RR interval any more
_QT, _RATE_EXPONENT = 0.376, 0.43  # s from R to T offset at an RR interval of 1 s, and its growth
_EARLIEST_P = -0.36  # s from R
_ROOM = 0.04  # s between its neighbours that a wave needs
_SHORTEST_P = 10  # samples
_QRS_ENDS = [3, 5]  # columns of the marks
_PULL = 3.0  # samples that the classical ends of QRS move the learned ones at most
_SLACK = 10  # samples that R may lie outside of its QRS
_FEWEST = 2  # beats that can confirm a P wave
_REPEATED = 6.0  # power of the mean P over what the scatter of single beats would leave
_STILL = 0.1  # quantile of the speeds of a whole beat at which nothing moves
_ALIKE = 0.6  # correlation of the P of one beat with the mean P


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wave:
    """How one kind of wave is looked for; times in s from R, where not said otherwise."""

    smoothing: float
    """Standard deviation in s."""
    levelling: float
    """How much a lead of small waves is heard with the others: 0 by its size, 1 as much."""
    still: float
    """How many times the speed of standstill is no wave yet."""
    flank: float
    """Share of the greatest speed that makes a flank."""
    edges: tuple[float, float]
    """Share of the greatest speed at which the wave begins and ends on all leads together."""
    lead_edges: tuple[float, float]
    """The same on one lead."""
    own: float
    """Weight of the mark of one lead against the common mark."""
    lead_reach: float
    """How far a lead may exceed the common mark, s."""
    typical: float = 0.0
    """Where the peak usually is."""
    spread: float = 0.0
    """Standard deviation of that in s."""
    wide: float = 0.0
    """Standard deviation in s of what is too slow to be this wave."""
    reach: float = 0.0
    """From the peak to an end at most, s."""


_QRS = _Wave(
    smoothing=0.004, levelling=0.35, still=4.5, flank=0.1,
    edges=(0.03, 0.03), lead_edges=(0.06, 0.06), own=0.2, lead_reach=0.02,
)  # fmt: skip
_P = _Wave(
    smoothing=0.008, levelling=0.0, still=0.0, flank=0.6,
    edges=(0.20, 0.40), lead_edges=(0.35, 0.50), own=0.8, lead_reach=0.01,
    typical=-0.16, spread=0.06, wide=0.07, reach=0.10,
)  # fmt: skip
_T = _Wave(
    smoothing=0.012, levelling=0.7, still=3.0, flank=0.7,
    edges=(0.30, 0.15), lead_edges=(0.20, 0.35), own=0.8, lead_reach=0.06,
    typical=0.28, spread=0.08, wide=0.06, reach=0.12,
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Fiducials:
    """The marks of every beat and of the dominant median beat, in working samples.

    Parameters
    ----------
    marks
        ``(beats, leads + 1, 9)`` in the order of :data:`~analysis.result.FIDUCIAL_KINDS`; the
        last row is global; NaN = absent.
    median_beat
        ``(leads, samples)`` in mV.
    median_marks
        ``(leads + 1, 9)``, within the median beat.
    """

    marks: Floats
    median_beat: Floats
    median_marks: Floats


def delineate(
    prepared: Prepared, beats: Beats, delineator: Delineator | None = None
) -> Fiducials | None:
    """Return the fiducials of all beats, or None where there are no beats.

    Parameters
    ----------
    prepared, beats
        Of the leads to be marked.
    delineator
        What marks the median beats; None for the classical marks.
    """
    if not beats.r_peaks.size:
        return None
    cut = windows(prepared.clean, beats.r_peaks, BEFORE, AFTER)
    classes = [_members(beats, number) for number in range(beats.classes.max() + 1)]
    templates = np.stack([_median(cut[members]) for members in classes])
    intervals = _intervals(beats, classes, prepared.sampling_frequency)
    marks = _marks(_Template(templates, intervals, BEFORE, prepared.sampling_frequency), delineator)
    repeated, likeness = _p_likeness(cut, beats.dominant, marks[0, -1, 0], marks[0, -1, 2])
    marks[0, :, :3] = marks[0, :, :3] if repeated > _REPEATED else np.nan
    each = marks[beats.classes]
    each[..., :3] = np.where(likeness[:, None, None] > _ALIKE, marks[0, :, :3], np.nan)
    each += beats.r_peaks[:, None, None] - BEFORE
    each[(each < 0) | (each > prepared.clean.shape[1] - 1)] = np.nan
    return Fiducials(each, templates[0], marks[0])


def _marks(template: "_Template", delineator: Delineator | None) -> Floats:
    """Return the learned marks of the classes where they are sound, else the classical ones.

    The classical ends of QRS on all leads together, which owe nothing to one database's way of
    marking, draw the learned ones towards them.
    """
    if delineator is None:
        return template.marks()
    answers = [delineator.mark(beat[:, ::DECIMATION]) for beat in template.beats]
    marks: Floats = np.stack([answer.marks for answer in answers]) * DECIMATION
    p_wave = np.array([answer.p_wave for answer in answers]) >= delineator.card.p_threshold
    sound = _sound(marks)
    marks[:, -1, _QRS_ENDS] += _pull(marks[:, -1, _QRS_ENDS], template.qrs()[:, -1, ::2])
    marks = _in_rhythm(marks, p_wave, template.intervals * template.rate)
    return marks if sound.all() else np.where(sound[:, None, None], marks, template.marks())


def _pull(learned: Floats, classical: Floats) -> Floats:
    """Return how far the classical ends of QRS move the learned ones: half way, 6 ms at most."""
    return np.clip((classical - learned) / 2, -_PULL, _PULL)


def _sound(marks: Floats) -> Mask:
    """Return in which classes R lies within the QRS."""
    onset, offset = marks[:, -1, 3], marks[:, -1, 5]
    sound: Mask = (onset < BEFORE + _SLACK) & (offset > BEFORE - _SLACK)
    return sound


def _in_rhythm(marks: Floats, p_wave: Mask, intervals: Floats) -> Floats:
    """Return the marks without P waves in the T before and T waves that the next QRS cuts off.

    Parameters
    ----------
    marks
        ``(classes, leads + 1, 9)``.
    p_wave
        ``(classes,)``: where there is one.
    intervals
        RR before and after, ``(classes, 2)`` in samples.
    """
    p_peak, onset, t_peak, t_offset = marks[:, -1, [1, 3, 7, 8]].T
    kept = marks.copy()
    kept[~p_wave | (p_peak < t_offset - intervals[:, 0]), :, :3] = np.nan
    kept[t_peak > onset + intervals[:, 1], :, 6:] = np.nan
    return kept


def _members(beats: Beats, number: int) -> Mask:
    return beats.dominant if number == 0 else beats.classes == number


def _median(cut: Floats) -> Floats:
    """Return the median beat, ``(leads, samples)``, of whole beats where there are enough."""
    whole = ~np.isnan(cut[:, 0, :: cut.shape[2] - 1]).any(axis=1)
    chosen = cut[whole] if whole.sum() > 2 or whole.all() else _continued(cut)  # noqa: PLR2004 - a median resists one of three
    return median(chosen)


def _continued(cut: Floats) -> Floats:
    """Return the beats with their last sample held where the recording does not reach."""
    inside = ~np.isnan(cut[:, 0])
    positions = np.arange(cut.shape[2])
    first, last = inside.argmax(axis=1), positions[-1] - inside[:, ::-1].argmax(axis=1)
    nearest = np.clip(positions, first[:, None], last[:, None])
    return np.take_along_axis(cut, nearest[:, None, :], axis=2)


def _intervals(beats: Beats, classes: list[Mask], sampling_frequency: float) -> Array:
    """Return the usual RR intervals before and after a beat of each class, (classes, 2), s."""
    if beats.r_peaks.size < 2:  # noqa: PLR2004 - no interval at all
        return np.ones((len(classes), 2))
    rr = np.diff(beats.r_peaks) / sampling_frequency
    both = np.stack([np.append(rr[0], rr), np.append(rr, rr[-1])], axis=1)
    return np.stack([np.median(both[members], axis=0) for members in classes])


def _p_likeness(cut: Floats, dominant: Mask, onset: float, offset: float) -> tuple[float, Array]:
    """Return how firmly the P wave repeats itself, and how much each beat has of it.

    The first is the power of the mean over the dominant beats, relative to what the scatter of
    the single beats would leave in it by chance, as f waves do; the second the correlation of
    each beat, over all leads, with that mean.
    """
    if not offset - onset > _SHORTEST_P:
        return 0.0, np.zeros(len(cut))
    part = cut[:, :, max(0, round(onset)) : round(offset) + 1]
    part = np.nan_to_num(part - part.mean(axis=2, keepdims=True)).reshape(len(cut), -1)
    chosen = part[dominant & part.any(axis=1)]
    if len(chosen) < _FEWEST:
        return 0.0, np.zeros(len(cut))
    mean = chosen.mean(axis=0)
    chance = ((chosen - mean) ** 2).sum() / (len(chosen) - 1) / len(chosen)
    tiny = 1e-12
    likeness = part @ mean / (np.linalg.norm(part, axis=1) * np.linalg.norm(mean) + tiny)
    return float(mean @ mean / (chance + tiny)), likeness


@dataclass(frozen=True, slots=True, eq=False)
class _Template:
    """The median beats to be marked.

    Parameters
    ----------
    beats
        ``(classes, leads, samples)`` in mV.
    intervals
        RR before and after, ``(classes, 2)`` in s.
    centre
        Where R is.
    rate
        Hz.
    """

    beats: Floats
    intervals: Floats
    centre: int
    rate: float

    def marks(self) -> Floats:
        """Return ``(classes, leads + 1, 9)``, the last row of all leads together."""
        qrs = self.qrs()
        p_wave, t_wave = self._p_wave(qrs[:, -1:, 0]), self._t_wave(qrs[:, -1:, 2])
        return np.concatenate([p_wave, qrs, t_wave], axis=-1)

    def _at(self, seconds: Floats | float) -> Floats:
        """Return the position of a time from R, ``(classes, 1)``."""
        return np.broadcast_to(self.centre + self.rate * np.asarray(seconds), (len(self.beats), 1))

    def _speed(self, kind: _Wave) -> Floats:
        return _speed(_smoothed(self.beats, kind.smoothing * self.rate))

    def qrs(self) -> Floats:
        """Return ``(classes, leads + 1, 3)``: the marks of the QRS."""
        smooth = _smoothed(self.beats, _QRS.smoothing * self.rate)
        r_peak, first, last = self._at(0.0), self._at(-_QRS_BEFORE), self._at(_QRS_AFTER)
        common = _common(_speed(smooth), first, last, _QRS.levelling)
        usual = np.median(common, axis=-1, keepdims=True)
        quiet = np.maximum(_PAUSING * _top(common, first, last), _BUSY * usual)
        pause = _widened(common, _PAUSE / 2 * self.rate) < quiet
        time = np.arange(common.shape[-1])
        after = np.where(pause & (time > r_peak[..., None]), time, np.inf).min(axis=-1)
        before = np.where(pause & (time < r_peak[..., None]), time, -np.inf).max(axis=-1)
        return self._marked(
            smooth, _QRS, r_peak, np.maximum(first, before), np.minimum(last, after)
        )

    def _p_wave(self, qrs_onset: Floats) -> Floats:
        rr = np.minimum(self.intervals[:, :1], _LONGEST_RR)
        t_offset = _QT * rr**_RATE_EXPONENT - rr
        first = self._at(np.maximum(_EARLIEST_P, t_offset))
        last = qrs_onset - _PR_SEGMENT * self.rate
        return self._wave(_P, self._at(_P.typical), first, np.maximum(first, last))

    def _t_wave(self, qrs_offset: Floats) -> Floats:
        rr = np.minimum(self.intervals[:, 1:], _LONGEST_RR)
        first = qrs_offset + _ST_SEGMENT * self.rate
        last = self._at(np.minimum(0.75 * rr, rr - 0.2))
        typical = self._at(_T.typical * rr**_RATE_EXPONENT)
        return self._wave(_T, typical, first, np.maximum(first, last))

    def _wave(self, kind: _Wave, typical: Floats, first: Floats, last: Floats) -> Floats:
        """Return the marks of a wave whose peak lies between two positions."""
        smooth = _smoothed(_held(self.beats, first, last), kind.smoothing * self.rate)
        slow = _smoothed(smooth, kind.wide * self.rate)
        peak = _likely_peak(smooth - slow, first, last, typical, kind.spread * self.rate)
        reach = kind.reach * self.rate
        marks = self._marked(
            smooth, kind, peak, np.maximum(first, peak - reach), np.minimum(last, peak + reach)
        )
        marks[(last - first)[:, 0] < _ROOM * self.rate] = np.nan
        return marks

    def _marked(
        self, smooth: Floats, kind: _Wave, peak: Floats, first: Floats, last: Floats
    ) -> Floats:
        """Return onset, peak and offset of each lead and of all together."""
        still = kind.still * np.quantile(self._speed(kind), _STILL, axis=-1, keepdims=True)
        speed = np.maximum(_speed(smooth) - still, 0)
        common = _common(speed, first, last, kind.levelling)
        onset = _onset(common, peak, first, kind.edges[0], kind.flank)
        offset = _offset(common, peak, last, kind.edges[1], kind.flank)
        height = np.abs(smooth - _line(smooth, onset, offset))
        lead_peak = _greatest(height, onset, offset)
        first = np.maximum(first, onset - kind.lead_reach * self.rate)
        last = np.minimum(last, offset + kind.lead_reach * self.rate)
        lead_onset = _onset(speed, lead_peak, first, kind.lead_edges[0], kind.flank)
        lead_offset = _offset(speed, lead_peak, last, kind.lead_edges[1], kind.flank)
        lead_onset = onset + kind.own * (lead_onset - onset)
        lead_offset = offset + kind.own * (lead_offset - offset)
        leads = np.stack([lead_onset, lead_peak, lead_offset], axis=-1)
        return np.concatenate([leads, np.stack([onset, peak, offset], axis=-1)], axis=1)


def _speed(rows: Floats) -> Floats:
    return np.abs(np.gradient(rows, axis=-1))


def _smoothed(rows: Floats, deviation: float) -> Floats:
    smooth: Floats = ndimage.gaussian_filter1d(rows, deviation, mode="nearest", truncate=3.0)
    return smooth


def _inside(rows: Floats, first: Floats, last: Floats) -> Mask:
    time = np.arange(rows.shape[-1])
    inside: Mask = (time >= first[..., None]) & (time <= last[..., None])
    return inside


def _top(speed: Floats, first: Floats, last: Floats) -> Floats:
    top: Floats = np.where(_inside(speed, first, last), speed, 0).max(axis=-1, keepdims=True)
    return top


def _widened(speed: Floats, reach: float) -> Floats:
    widened: Floats = ndimage.maximum_filter1d(speed, 2 * round(reach) + 1, axis=-1)
    return widened


def _common(speed: Floats, first: Floats, last: Floats, levelling: float) -> Floats:
    """Return the root mean square over the leads, ``(classes, 1, samples)``."""
    levelled = speed * (_top(speed, first, last) + 1e-6) ** -levelling
    together: Floats = np.sqrt(np.mean(levelled**2, axis=1, keepdims=True))
    return together


def _offset(speed: Floats, inner: Floats, outer: Floats, fraction: float, flank: float) -> Floats:
    """Return where, from inner to outer, the speed after its last flank has fallen.

    Between two samples the position is interpolated.
    """
    inside = np.where(_inside(speed, inner, outer), speed, 0)
    top = inside.max(axis=-1, keepdims=True)
    time = np.arange(speed.shape[-1])
    last_flank = time[-1] - np.argmax((inside >= flank * top)[..., ::-1], axis=-1)
    fallen = (speed < fraction * top) & (time > last_flank[..., None])
    first = np.where(fallen.any(axis=-1), np.argmax(fallen, axis=-1), time[-1])
    fast, slow = _value(speed, first - 1), _value(speed, first)
    between = (fast - fraction * top[..., 0]) / np.maximum(fast - slow, 1e-12)
    offset: Floats = np.minimum(first - 1 + np.clip(between, 0, 1), outer)
    return offset


def _onset(speed: Floats, inner: Floats, outer: Floats, fraction: float, flank: float) -> Floats:
    end = speed.shape[-1] - 1
    onset: Floats = end - _offset(speed[..., ::-1], end - inner, end - outer, fraction, flank)
    return onset


def _value(rows: Floats, positions: Floats) -> Floats:
    """Return the value of each row at its position, ``(classes, leads or 1)``."""
    index = np.broadcast_to(np.rint(positions).astype(np.intp), rows.shape[:-1])
    index = np.clip(index, 0, rows.shape[-1] - 1)
    value: Floats = np.take_along_axis(rows, index[..., None], axis=-1)[..., 0]
    return value


def _held(rows: Floats, first: Floats, last: Floats) -> Floats:
    """Return the rows with what lies outside held at its value at the border."""
    time = np.arange(rows.shape[-1])
    index = np.clip(time, np.rint(first)[..., None], np.rint(last)[..., None]).astype(np.intp)
    index = np.clip(np.broadcast_to(index, rows.shape), 0, time[-1])
    return np.take_along_axis(rows, index, axis=-1)


def _line(rows: Floats, first: Floats, last: Floats) -> Floats:
    """Return the straight line of each row through its values at two positions."""
    start, end = _value(rows, first)[..., None], _value(rows, last)[..., None]
    length = np.maximum(last - first, 1)[..., None]
    fraction = (np.arange(rows.shape[-1]) - first[..., None]) / length
    line: Floats = start + (end - start) * fraction
    return line


def _greatest(height: Floats, first: Floats, last: Floats) -> Floats:
    inside = np.where(_inside(height, first, last), height, -1)
    greatest: Floats = np.argmax(inside, axis=-1).astype(np.float64)
    return greatest


def _likely_peak(
    wave: Floats, first: Floats, last: Floats, typical: Floats, spread: float
) -> Floats:
    """Return where the wave is greatest over all leads, near where it usually is."""
    likely = np.exp(-0.5 * ((np.arange(wave.shape[-1]) - typical[..., None]) / spread) ** 2)
    return _greatest(np.sqrt(np.mean(wave**2, axis=1, keepdims=True)) * likely, first, last)
