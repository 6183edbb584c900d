"""The rhythm of one ECG: which beats are normal, how irregular the others are, who leads them.

What the rhythm criteria look at beside intervals: premature beats and their origin, whether a P
wave repeats itself before the QRS complexes, atrial waves between them, and pacing spikes.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from analysis import pacing
from analysis.atria import Conduction, conduction, steady_wave
from analysis.beats import Beats, Floats, Prepared, windows
from analysis.ecg import ECG, Lead
from analysis.quality import Assessed
from analysis.result import BeatKind, Measurements, Quantity

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_EARLY = 0.8  # of the interval after it: a beat this early is premature
_EARLY_FOR_ALL = 0.88  # of the median interval, which a premature beat must undercut too
_EARLY_SHARE = 0.1  # of the beats of an ectopic shape that come early at least
_WIDER = 25.0  # ms that a ventricular beat is wider than the dominant ones
_WIDE = 120.0  # ms
_KEPT = 0.75  # of the smallest RR differences: what single ectopic beats cannot reach
_P_WINDOW = (0.30, 0.076)  # s before R in which a P wave is looked for
_P_SHARE = 0.5  # of the RR interval that this window may reach back
_BEFORE_QRS = 0.01  # s between that and the QRS
_SHORTEST_P = 0.05  # s
_FEWEST = 4  # beats whose P waves can be compared
_P_LEADS = 3  # the leads of most constant P waves
_ALIKE = (0.030, 3)  # s at least, pairs at least: within which RR intervals are alike
_MOST_INTERVALS = 200  # of a long recording whose entropy is told
_TQ = (0.45, 0.75, 0.05)  # s after R at an RR interval of 1 s, at most of RR, s before R
_MOST_SPANS = 100  # that are looked at, spread over a long recording
_ATRIAL_LEADS = (Lead.II, Lead.III, Lead.aVF, Lead.V1)
_FLUTTER_BAND, _FLUTTER_STEP = (3.5, 6.0), 0.1  # Hz, 210 to 360 per minute
_FEWEST_NN = 5
_TINY = 1e-12
_EACH_BEAT = 0.8  # of the beats: nearly every
_FLUTTER_SHARE, _FLUTTER_CYCLES = 0.5, 1.4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rhythm:
    """What was seen of the rhythm; NaN = could not be told.

    Parameters
    ----------
    rr
        ``(beats - 1,)``, RR intervals in ms.
    ventricular, supraventricular
        ``(beats,)``: ectopic beats by origin; the supraventricular ones are premature, the
        ventricular ones of a shape that is.
    aberrant
        ``(beats,)``: the supraventricular ones of another shape than the dominant one.
    paced_beats
        ``(beats,)``: with a spike before the QRS.
    normal
        ``(beats,)``: of dominant shape and not premature.
    irregularity
        RMS of the lower three quarters of the RR differences, over the median RR: single
        ectopic beats do not raise it.
    entropy
        Coefficient of sample entropy of the RR intervals: how little one tells of the next
        (Lake and Moorman 2011).
    p_constancy
        Power of the mean signal before the QRS over what chance leaves of single beats, in the
        leads where it is greatest: about 1 without P waves.
    p_likeness
        Correlation of the signal before one QRS with the mean of the others, in the same
        leads: 1 where P waves repeat themselves, about 0 without.
    p_share
        Of the dominant beats that have a P wave of their own.
    atrial_frequency, atrial_share, atrial_cycles
        Of the strongest periodic wave between T and QRS: Hz, its share of the power there, and
        how many of its cycles fit between them.
    wave_frequency, wave_share
        Of the strongest steady wave through T waves and pauses: Hz, its share of the power
        between the QRS complexes.
    spike
        Median height of the sharpest peak before the QRS, mV, where it stands out; else 0.
    conduction
        How P waves and beats follow each other; None where P waves cannot be followed.
    """

    rr: Array
    ventricular: Mask
    supraventricular: Mask
    normal: Mask
    irregularity: float
    p_constancy: float
    p_share: float
    atrial_frequency: float
    atrial_share: float
    atrial_cycles: float
    spike: float
    aberrant: Mask
    paced_beats: Mask
    entropy: float = np.nan
    p_likeness: float = np.nan
    wave_frequency: float = np.nan
    wave_share: float = np.nan
    conduction: Conduction | None = None

    @property
    def premature(self) -> Mask:
        """``(beats,)``: ectopic beats of either origin."""
        return self.ventricular | self.supraventricular

    @property
    def nn(self) -> Array:
        """Intervals in ms from one normal beat to the next."""
        return self.rr[self.normal[:-1] & self.normal[1:]]

    @property
    def flutters(self) -> bool:
        """Whether atrial waves follow one another between T and QRS."""
        return self.atrial_share >= _FLUTTER_SHARE and self.atrial_cycles >= _FLUTTER_CYCLES

    @property
    def paced(self) -> bool:
        """Whether spikes stand before the QRS complexes."""
        return self.spike >= pacing.SMALLEST


def of_examined(ecg: ECG, examined: Assessed, measurements: Measurements) -> Rhythm:
    """Return the rhythm of an ECG that has been examined and measured."""
    prepared, beats = examined.prepared, examined.beats
    if prepared is None or beats is None or not beats.r_peaks.size:
        return _NOTHING
    rr = np.diff(beats.r_peaks) / prepared.sampling_frequency * 1000
    premature = _premature(beats, rr)
    widths = _widths(measurements, ecg.sampling_frequency)
    ventricular = _ventricular(beats, widths, premature)
    supraventricular = premature & ~ventricular
    frequency, share, cycles = _atrial(prepared, beats, examined.usable)
    spike, paced_beats = pacing.spikes(ecg, examined.usable, measurements.r_peaks)
    wave_frequency, wave_share = steady_wave(
        _atrial_rows(prepared, examined.usable), beats, prepared.sampling_frequency
    )
    before_qrs = _before_qrs(prepared, beats, measurements, ecg.sampling_frequency)
    return Rhythm(
        rr=rr,
        ventricular=ventricular,
        supraventricular=supraventricular,
        aberrant=supraventricular & (beats.classes != 0),
        paced_beats=paced_beats,
        normal=(beats.classes == 0) & ~premature,
        irregularity=irregularity(rr),
        entropy=entropy(rr),
        p_constancy=_constancy(before_qrs),
        p_likeness=_likeness(before_qrs),
        p_share=_p_share(measurements, beats),
        atrial_frequency=frequency,
        atrial_share=share,
        atrial_cycles=cycles,
        wave_frequency=wave_frequency,
        wave_share=wave_share,
        spike=spike,
        conduction=conduction(prepared, beats),
    )


_NO_MASK = np.empty(0, np.bool_)
_NOTHING = Rhythm(
    rr=np.empty(0),
    ventricular=_NO_MASK,
    supraventricular=_NO_MASK,
    normal=_NO_MASK,
    aberrant=_NO_MASK,
    paced_beats=_NO_MASK,
    irregularity=np.nan,
    p_constancy=np.nan,
    p_share=np.nan,
    atrial_frequency=np.nan,
    atrial_share=np.nan,
    atrial_cycles=np.nan,
    spike=np.nan,
)


def complete(measurements: Measurements, rhythm: Rhythm) -> Measurements:
    """Return the measurements with heart rate variability and the atrial rate.

    Of normal-to-normal intervals (Task Force of ESC and NASPE 1996). Ten seconds are short: the
    values are comparable only with others of ten seconds.
    """
    both = rhythm.normal[:-1] & rhythm.normal[1:]
    nn, changes = rhythm.nn, np.diff(rhythm.rr)[both[:-1] & both[1:]]
    within = f"of {nn.size} normal-to-normal intervals in {rhythm.rr.sum() / 1000:.0f} s"
    beats = tuple(np.flatnonzero(rhythm.normal).tolist())
    if nn.size < _FEWEST_NN or changes.size < _FEWEST_NN - 1:
        sdnn = rmssd = pnn50 = np.nan
    else:
        sdnn, rmssd = float(nn.std(ddof=1)), float(np.sqrt(np.mean(changes**2)))
        pnn50 = 100 * float(np.mean(np.abs(changes) > 50))  # noqa: PLR2004 - ms, by its name
    return replace(
        measurements,
        beat_kinds=_kinds(rhythm),
        atrial_rate=_atrial_rate(measurements, rhythm),
        sdnn=_variability(sdnn, "ms", f"standard deviation {within}", beats),
        rmssd=_variability(rmssd, "ms", f"RMS of the differences {within}", beats),
        pnn50=_variability(pnn50, "%", f"differences above 50 ms {within}", beats),
    )


def _kinds(rhythm: Rhythm) -> tuple[BeatKind, ...]:
    kinds = np.where(rhythm.normal, BeatKind.DOMINANT, BeatKind.OTHER).astype(object)
    kinds[rhythm.supraventricular] = BeatKind.SUPRAVENTRICULAR
    kinds[rhythm.aberrant] = BeatKind.ABERRANT
    kinds[rhythm.ventricular] = BeatKind.VENTRICULAR
    return tuple(map(BeatKind, kinds.tolist()))


def _variability(value: float, unit: str, method: str, beats: tuple[int, ...]) -> Quantity:
    if np.isfinite(value):
        return Quantity(value=float(value), unit=unit, method=method, beats=beats)
    reason = f"fewer than {_FEWEST_NN} successive normal-to-normal intervals"
    return Quantity(value=None, unit=unit, method=method, reason=reason)


def _atrial_rate(measurements: Measurements, rhythm: Rhythm) -> Quantity:
    """Return the rate of the atria: of P waves before each beat, or of flutter waves."""
    p_peaks = measurements.fiducials.get("global", {}).get("p_peak", np.empty(0))
    rate = measurements.heart_rate
    led = p_peaks.size > 1 and bool(np.isfinite(p_peaks).mean() >= _EACH_BEAT)
    if rhythm.conduction and (rhythm.conduction.waves > 1).any():
        method = "P waves followed between T and QRS"
        return Quantity(value=60000 / rhythm.conduction.interval, unit=rate.unit, method=method)
    if led and rate.value is not None:
        return replace(rate, method="P waves before the QRS complexes, at their mean rate")
    if rhythm.flutters:
        method = "strongest periodic wave between T and QRS"
        return Quantity(value=60 * rhythm.atrial_frequency, unit=rate.unit, method=method)
    reason = "P waves were not found before nearly every beat"
    return Quantity(value=None, unit=rate.unit, method="P waves", reason=reason)


def _premature(beats: Beats, rr: Array) -> Mask:
    """Return which beats come early for their surroundings, also in a bigeminus."""
    if rr.size < 2:  # noqa: PLR2004 - early for what?
        return np.zeros(rr.size + 1, np.bool_)
    before, after = rr[:-1], rr[1:]
    early = (before < _EARLY * after) & (before < _EARLY_FOR_ALL * np.median(after))
    premature: Mask = np.concatenate([[False], early, beats.premature[-1:]])
    premature[1:] &= ~premature[:-1] | (beats.classes[1:] != 0)
    premature |= beats.premature & (beats.classes != 0)
    return premature


def _widths(measurements: Measurements, sampling_frequency: float) -> Array:
    """Return the QRS duration of each beat in ms, NaN where it was not measured."""
    marks = measurements.fiducials["global"]
    widths: Array = (marks["qrs_offset"] - marks["qrs_onset"]) * (1000 / sampling_frequency)
    return widths


def _ventricular(beats: Beats, widths: Array, premature: Mask) -> Mask:
    """Return which beats are of a shape unlike the dominant one, wider, and early in part.

    A shape that never comes early may be a bundle branch block that comes and goes.
    """
    usual = widths[(beats.classes == 0) & np.isfinite(widths)]
    typical = np.median(usual) if usual.size else np.nan
    wider: Mask = (widths > typical + _WIDER) | (widths >= max(_WIDE, typical))
    early = np.bincount(beats.classes, premature) >= _EARLY_SHARE * np.bincount(beats.classes)
    ventricular: Mask = (beats.classes != 0) & wider & early[beats.classes]
    return ventricular


def irregularity(rr: Array) -> float:
    """Return the RMS of the lower three quarters of the RR differences, over the median RR.

    NaN where there are fewer than three differences. Single ectopic beats do not raise it.
    """
    changes = np.sort(np.abs(np.diff(rr)))
    if changes.size < _FEWEST - 1:
        return np.nan
    kept = changes[: int(np.ceil(_KEPT * changes.size))]
    return float(np.sqrt(np.mean(kept**2)) / np.median(rr))


def entropy(rr: Array) -> float:
    """Return the coefficient of sample entropy of RR intervals in ms (Lake and Moorman 2011).

    How rarely two successive intervals repeat themselves where the first does, with the
    tolerance taken out: above about -1.4 in atrial fibrillation, below in sinus rhythm. The
    tolerance is 30 ms or what leaves three pairs alike. NaN with fewer than five intervals.
    """
    rr = rr[:_MOST_INTERVALS]
    if rr.size <= _FEWEST:
        return np.nan
    apart = np.abs(rr[:-1, None] - rr[None, :-1])
    both = np.maximum(apart, np.abs(rr[1:, None] - rr[None, 1:]))
    pairs = np.triu_indices(rr.size - 1, 1)
    once, twice = apart[pairs], both[pairs]
    least, count = _ALIKE
    tolerance = max(1000 * least, float(np.partition(twice, count - 1)[count - 1]))
    conditional = (once <= tolerance).sum() / (twice <= tolerance).sum()
    return float(np.log(conditional * 2 * tolerance / rr.mean()))


def _before_qrs(
    prepared: Prepared, beats: Beats, measurements: Measurements, sampling_frequency: float
) -> Floats | None:
    """Return where P waves may be, ``(beats, leads, samples)``, after the longer RR intervals.

    There the T wave before does not reach into the P wave, nor are the beats premature. None
    where there are too few of them.
    """
    chosen, usual = _after_longer_half(beats, prepared.sampling_frequency)
    if chosen.size < _FEWEST:
        return None
    onset = measurements.fiducials["global"]["qrs_onset"] - measurements.r_peaks
    onset = onset[np.isfinite(onset)] / sampling_frequency
    end = max(_P_WINDOW[1], _BEFORE_QRS - float(np.median(onset)) if onset.size else 0.0)
    begin = max(min(_P_WINDOW[0], _P_SHARE * usual), end + _SHORTEST_P)
    before, last = prepared.samples(begin), prepared.samples(end)
    cut = windows(prepared.clean, chosen, before, 1)[:, :, : before - last]
    cut = cut[~np.isnan(cut).any(axis=(1, 2))].astype(np.float64)
    return _detrended(cut) if len(cut) >= _FEWEST and cut.shape[2] >= _FEWEST else None


def _constancy(cut: Floats | None) -> float:
    """Return the power of the mean P over chance."""
    if cut is None:
        return np.nan
    mean = cut.mean(axis=0)
    chance = ((cut - mean) ** 2).sum(axis=(0, 2)) / (len(cut) - 1) / len(cut)
    each = np.sort((mean**2).sum(axis=1) / np.maximum(chance, _TINY))
    return float(each[-_P_LEADS:].mean())


def _likeness(cut: Floats | None) -> float:
    """Return the usual correlation of one P with the sum of the others."""
    if cut is None:
        return np.nan
    others = cut.sum(axis=0) - cut
    power = np.sqrt((cut**2).sum(axis=2) * (others**2).sum(axis=2))
    each = np.median((cut * others).sum(axis=2) / np.maximum(power, _TINY), axis=0)
    return float(np.sort(each)[-_P_LEADS:].mean())


def _after_longer_half(beats: Beats, rate: float) -> tuple[npt.NDArray[np.intp], float]:
    """Return the R peaks of dominant shape after the longer RR intervals; their median in s."""
    rr = np.diff(beats.r_peaks) / rate
    dominant = beats.classes[1:] == 0
    if not dominant.any():
        return np.empty(0, np.intp), np.nan
    few = max(_FEWEST, (int(dominant.sum()) + 1) // 2)
    longest = np.argsort(np.where(dominant, -rr, 0.0), kind="stable")[:few]
    longest = longest[dominant[longest]]
    return beats.r_peaks[longest + 1], float(np.median(rr[longest]))


def _detrended(rows: Floats) -> Floats:
    """Return the rows less the straight line through each."""
    time = np.arange(rows.shape[-1]) - (rows.shape[-1] - 1) / 2
    slope = rows @ time / (time @ time)
    level: Floats = rows - rows.mean(axis=-1, keepdims=True) - slope[..., None] * time
    return level


def _p_share(measurements: Measurements, beats: Beats) -> float:
    onsets = measurements.fiducials["global"]["p_onset"][beats.dominant]
    return float(np.isfinite(onsets).mean()) if onsets.size else np.nan


def _atrial(
    prepared: Prepared, beats: Beats, usable: tuple[Lead, ...]
) -> tuple[float, float, float]:
    """Return frequency, share of power and number of cycles of the wave between T and QRS."""
    rows = _atrial_rows(prepared, usable)
    spans = _tq_spans(beats, prepared.sampling_frequency)
    if not rows.size or spans.shape[0] < _FEWEST - 1:
        return np.nan, np.nan, np.nan
    step = prepared.samples(0.008)
    parts = [np.arange(first, last, step) for first, last in spans.tolist()]
    samples = np.concatenate(parts)
    owner = np.repeat(np.arange(len(parts)), [part.size for part in parts])
    wave = rows[:, samples].astype(np.float64)
    wave -= np.stack([np.bincount(owner, row) / np.bincount(owner) for row in wave])[:, owner]
    frequencies = np.arange(*_FLUTTER_BAND, _FLUTTER_STEP)
    radians = -2j * np.pi / prepared.sampling_frequency * samples
    turns = np.empty((frequencies.size, samples.size), np.complex128)
    turns[0], turns[1:] = np.exp(_FLUTTER_BAND[0] * radians), np.exp(_FLUTTER_STEP * radians)
    np.multiply.accumulate(turns, axis=0, out=turns)
    power = np.abs(wave @ turns.T) ** 2 * (2 / samples.size)
    share = (power / np.maximum((wave**2).sum(axis=1, keepdims=True), _TINY)).mean(axis=0)
    best = int(np.argmax(share))
    length = float(np.median(np.diff(spans, axis=1))) / prepared.sampling_frequency
    return float(frequencies[best]), float(share[best]), float(frequencies[best] * length)


def _atrial_rows(prepared: Prepared, usable: tuple[Lead, ...]) -> Floats:
    """Return the leads in which atrial waves are seen best, ``(leads, samples)``."""
    return prepared.clean[[usable.index(lead) for lead in _ATRIAL_LEADS if lead in usable]]


def _tq_spans(beats: Beats, rate: float) -> npt.NDArray[np.intp]:
    """Return first and last sample between the T wave and the next QRS, ``(spans, 2)``."""
    rr = np.diff(beats.r_peaks) / rate
    usual, most, before = _TQ
    t_offset = np.minimum(usual * np.sqrt(np.minimum(rr, 1.2)), most * rr)
    first = beats.r_peaks[:-1] + t_offset * rate
    spans = np.stack([first, beats.r_peaks[1:] - before * rate], axis=1).astype(np.intp)
    spans = spans[spans[:, 1] - spans[:, 0] > before * rate]
    return spans[:: 1 + len(spans) // _MOST_SPANS]
