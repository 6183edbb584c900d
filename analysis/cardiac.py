"""Are these the beats of a heart? What repeats itself as beats do may be a tapped electrode.

A heart is a dipole that turns: P wave, QRS complex and T wave point in several directions, so
that its leads do not all show one waveform. It rests between its beats, its QRS complex is
neither a needle nor a slow wave, it does not begin at its steepest and ring on, and it is
followed by a T wave. What lacks one of these is no heart, however regular it is. The limits lie
beyond what recordings of hearts show, as ``LIMITS.md`` counts.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from analysis.beats import Beats, Floats, Prepared, median, windows
from analysis.ecg import Lead

_DERIVED = frozenset({Lead.III, Lead.aVR, Lead.aVL, Lead.aVF})
_FEWEST = 6  # independent leads that tell in how many directions a beat points
_BEAT = (0.3, 0.5)  # s before and after R
_WAVES = (0.2, 0.4)  # s before and after R that hold P, QRS and T
_QRS = 0.15  # s about R that hold the QRS, half of the RR interval at most
_REPOLARISING = (0.16, 0.45)  # s after R that hold the T wave, 0.8 of the RR interval at most
_SLOWER = 0.1  # s: what lasts as long is no part of a QRS
_AROUND = 0.1  # s about the steepest sample

_LINE = 0.9975  # of a beat's power in one direction: one waveform
_PLANE = ((0.985, 0.18), (0.9965, 0.18))  # of it in a plane, with such a speed at rest, and with
#   so little of its power before the steepest sample: mixtures of two waveforms
_RESTLESS, _UNEVEN = 0.27, (0.12, 0.5)  # speed at rest; the same with a spread of RR intervals
_NEEDLE = (0.017, 0.1)  # s of a QRS without a T wave of so many mV, as a pacing spike may have
_NO_T_WAVE = (0.016, 0.013)  # of the height of the QRS, mV
_RINGING = (0.14, 0.12)  # of the power before the steepest sample, with so low a T wave
_SLOWEST = 4.3  # Hz of a QRS


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What tells the beats of a heart from those of anything else, on the median beat.

    Parameters
    ----------
    line, plane
        How much of the power of all waves lies in one direction of the space of the leads, and
        in a plane of it; 0 where there are too few leads to tell.
    speed_at_rest
        Median of the spatial velocity over that of its peaks at the QRS.
    rr_spread
        Standard deviation of the RR intervals over their mean.
    qrs_width
        Seconds between 5 and 95 % of the power of the velocity.
    qrs_frequency
        Root mean square frequency of the QRS, Hz.
    power_before
        Share of that power that comes before the steepest sample.
    t_wave, t_share
        Range of what is slow after the QRS in the lead that shows most, mV, and over that of
        the QRS; NaN where the next beat leaves no room.
    """

    line: float
    plane: float
    speed_at_rest: float
    rr_spread: float
    qrs_width: float
    qrs_frequency: float
    power_before: float
    t_wave: float
    t_share: float

    @property
    def of_one_source(self) -> bool:
        """Whether all leads show one waveform, or mixtures of two that no heart has."""
        (restless, speed), (ringing, before) = _PLANE
        return (
            self.line > _LINE
            or (self.plane > restless and self.speed_at_rest > speed)
            or (self.plane > ringing and self.power_before < before)
        )

    @property
    def of_no_heart(self) -> bool:
        """Whether no heart beats so."""
        restless, spread = _UNEVEN
        width, excuse = _NEEDLE
        before, low = _RINGING
        share, height = _NO_T_WAVE
        return (
            self.speed_at_rest > _RESTLESS
            or (self.speed_at_rest > restless and self.rr_spread > spread)
            or (self.qrs_width < width and self.t_wave < excuse)
            or (self.power_before < before and self.t_share < low)
            or self.t_share < share
            or self.t_wave < height
            or self.qrs_frequency < _SLOWEST
        )


def traits(prepared: Prepared, beats: Beats, leads: tuple[Lead, ...]) -> Traits | None:
    """Return the traits of the dominant beats, None where none of them is whole.

    Parameters
    ----------
    prepared, beats
        Of these leads.
    leads
        Of the rows; those that follow from others tell nothing new.
    """
    rows = [row for row, lead in enumerate(leads) if lead not in _DERIVED] or [*range(len(leads))]
    clean = prepared.clean[rows]
    before, after = (prepared.samples(part) for part in _BEAT)
    cut = windows(clean, beats.r_peaks[beats.dominant], before, after)
    whole = cut[~np.isnan(cut[:, 0]).any(axis=1)]
    if not len(whole):
        return None
    beat = _centred(median(whole))
    intervals = np.diff(beats.r_peaks)
    rr = float(np.median(intervals)) if intervals.size else prepared.sampling_frequency
    half = prepared.samples(min(_QRS, rr / prepared.sampling_frequency / 2))
    qrs = _centred(beat[:, before - half : before + half])
    power = np.square(np.diff(qrs, axis=1)).sum(axis=0)
    t_wave = _t_wave(beat, prepared, rr)
    line, plane = _directions(whole, prepared)
    return Traits(
        line=line,
        plane=plane,
        speed_at_rest=_speed_at_rest(clean, beats, prepared),
        rr_spread=float(intervals.std() / intervals.mean()) if intervals.size else 0.0,
        qrs_width=_width(power) / prepared.sampling_frequency,
        qrs_frequency=_frequency(qrs, power) * prepared.sampling_frequency,
        power_before=_before(power, prepared.samples(_AROUND)),
        t_wave=t_wave,
        t_share=t_wave / float(np.ptp(qrs, axis=1).max()),
    )


def _centred(rows: Floats) -> Floats:
    centred: Floats = rows - rows.mean(axis=1, keepdims=True)
    return centred


def _directions(beats: Floats, prepared: Prepared) -> tuple[float, float]:
    """Return the share of the power of all waves in their first direction, and in the first two.

    Power is what two halves of the beats have in common, so that noise has none.
    """
    if beats.shape[1] < _FEWEST:
        return 0.0, 0.0
    peak = prepared.samples(_BEAT[0])
    before, after = (prepared.samples(part) for part in _WAVES)
    waves = beats[:, :, peak - before : peak + after]
    one, other = (_centred(median(half)) for half in (waves[::2], waves[-1::-2]))
    common = one @ other.T
    power = np.linalg.eigvalsh(common + common.T)
    return float(power[-1] / power.sum()), float(power[-2:].sum() / power.sum())


def _speed_at_rest(clean: Floats, beats: Beats, prepared: Prepared) -> float:
    speed = np.sqrt(np.square(np.diff(clean, axis=1)).sum(axis=0))
    fastest = ndimage.maximum_filter1d(speed, 2 * prepared.samples(_AROUND))
    at_qrs = fastest[np.minimum(beats.r_peaks, speed.size - 1)]
    return float(np.median(speed) / np.median(at_qrs))


def _width(power: Floats) -> int:
    """Return the samples between the first and the last twentieth of the power."""
    so_far = np.cumsum(power) / power.sum()
    first, last = np.searchsorted(so_far, (0.05, 0.95))
    return int(last - first)


def _frequency(qrs: Floats, power: Floats) -> float:
    """Return the root mean square frequency, cycles per sample."""
    return float(np.sqrt(power.sum() / np.square(qrs).sum()) / (2 * np.pi))


def _before(power: Floats, around: int) -> float:
    """Return the share of the power around the steepest sample that comes before it."""
    steepest = int(np.argmax(power))
    first = max(0, steepest - around)
    return float(power[first:steepest].sum() / power[first : steepest + around].sum())


def _t_wave(beat: Floats, prepared: Prepared, rr: float) -> float:
    """Return the range of what is slow after the QRS, mV; NaN where the RR interval is short."""
    peak = prepared.samples(_BEAT[0])
    slow = ndimage.uniform_filter1d(beat, prepared.samples(_SLOWER), axis=1)
    first, last = (min(prepared.samples(part), round(0.8 * rr)) for part in _REPOLARISING)
    after = slow[:, peak + first : peak + last]
    return float(np.ptp(after, axis=1).max()) if last > first else np.nan
