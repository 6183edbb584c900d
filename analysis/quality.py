"""Can this ECG be read at all? The gate before every measurement and every finding.

Each lead is judged by itself (missing, flat, clipped, gaps), by its spectrum (mains, wander)
and by whether its beats resemble each other (noise); the record by what is left.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage
from scipy.signal import filtfilt, iirnotch

from analysis.beats import (
    Array,
    Beats,
    Floats,
    Prepared,
    detect,
    fill_gaps,
    prepare,
    windows,
    without_mains,
)
from analysis.cardiac import traits
from analysis.ecg import ECG, STANDARD_12, Lead
from analysis.result import Quality, QualityReason, Verdict
from analysis.reversal import suspected

Mask = npt.NDArray[np.bool_]

_FLAT = 0.01  # mV from lowest to highest within a second
_FLAT_SHARE = 0.4  # of the seconds
_GAPS_SHARE = 0.1  # of the samples
_CLIPPED_SHARE = 0.02  # of the samples at exactly one extreme, in runs
_TWO_LEVELS = 0.7  # of the samples within a twentieth of the range of the extremes
_LESSER_LEVEL = 0.1  # of the samples at the lesser of the two
_WANDER_BAND, _WANDER = (0.05, 0.5), 0.25  # Hz, mV rms
_MAINS_FREQUENCIES, _MAINS = (50.0, 60.0), 0.03  # Hz ± 1, mV rms
_NOTCH = 25.0  # quality factor of the filters that remove them
_MAINS_BESIDE, _MAINS_CLEARNESS = 3.0, 4.0  # Hz beside them; times the power there that mains have
_LIKENESS, _SCATTER = 0.55, 0.025  # of beats to each other, mV rms about their mean: noise
_LOUD_LIKENESS, _LOUD_SCATTER = 0.8, 0.2  # the same where the noise is loud
_ONE_HEART = 0.65  # likeness of beats over all leads together: below it nothing beats
_SLOWER = 0.2  # s: what is slower than a QRS complex
_DECILE = 0.7  # of the correlations of beats to each other
_COMPARED = 24  # beats at least, where there are as many
_BEAT = (0.1, 0.2)  # s before and after R that are compared
_SHORTEST, _SHORT = 1.0, 5.0  # s of signal: below the first none is read, below the other less
_FEWEST = 2  # whole beats, to tell a heart from noise by their likeness
_LOWEST_RATE = 100.0  # Hz

_HARMLESS = frozenset({QualityReason.MAINS, QualityReason.WANDER})
_UNREADABLE = frozenset(
    {
        QualityReason.NO_QRS,
        QualityReason.FEW_BEATS,
        QualityReason.ONE_SOURCE,
        QualityReason.NO_HEART,
    }
)
_ORDER = (
    QualityReason.TOO_SHORT,
    QualityReason.NO_QRS,
    QualityReason.FEW_BEATS,
    QualityReason.ONE_SOURCE,
    QualityReason.NO_HEART,
    QualityReason.ARM_REVERSAL,
    QualityReason.LEG_REVERSAL,
    QualityReason.NOT_SIMULTANEOUS,
    QualityReason.MISSING,
    QualityReason.FLAT,
    QualityReason.NOISE,
    QualityReason.CLIPPED,
    QualityReason.GAPS,
    QualityReason.LOW_RATE,
    QualityReason.MAINS,
    QualityReason.WANDER,
)


@dataclass(frozen=True, slots=True, eq=False)
class Assessed:
    """A quality with what was computed on the way, for whoever measures next.

    Parameters
    ----------
    quality
        The judgement.
    usable
        The recorded leads that may be measured, in their order.
    prepared, beats
        Of the usable leads; None where there is none.
    """

    quality: Quality
    usable: tuple[Lead, ...]
    prepared: Prepared | None
    beats: Beats | None


def assess(ecg: ECG, *, expected: tuple[Lead, ...] = STANDARD_12) -> Quality:
    """Return the quality of an ECG for a reader who expects these leads.

    Every recorded and every expected lead has an entry in ``leads``; an empty one is a good
    lead. The verdict is non-diagnostic where less than a second or fewer than two QRS complexes
    were found, where these do not resemble each other as those of one heart do, or where half
    of the expected leads cannot be used, and limited where anything else of weight is wrong.
    It never raises.
    """
    return examine(ecg, expected=expected).quality


def examine(ecg: ECG, *, expected: tuple[Lead, ...]) -> Assessed:
    """Return the quality with the prepared signal and the beats it rests on."""
    faults = _missing(ecg, expected) | _own_faults(ecg)
    rows = _rows(ecg, faults)
    readable = ecg.duration >= _SHORTEST
    humming = np.array([QualityReason.MAINS in faults[ecg.leads[row]] for row in rows], np.bool_)
    prepared = prepare(_quieted(_selected(ecg, rows), humming)) if rows and readable else None
    beats = detect(prepared) if prepared else None
    if prepared and beats:
        noisy = _noisy(prepared, beats, humming)
        for row, noise in zip(rows, noisy, strict=True):
            faults[ecg.leads[row]] += (QualityReason.NOISE,) * bool(noise)
        prepared, rows = _of_rows(prepared, ~noisy), _rows(ecg, faults)
    usable = tuple(ecg.leads[row] for row in rows)
    record = _record_faults(ecg, prepared, beats)
    if prepared and beats:
        record += suspected(prepared, beats, usable)
        record += _no_heart(prepared, beats, usable)
    return Assessed(
        _judged(record, faults, expected, looked=beats is not None), usable, prepared, beats
    )


def _missing(ecg: ECG, expected: tuple[Lead, ...]) -> dict[Lead, tuple[QualityReason, ...]]:
    return {lead: () if lead in ecg else (QualityReason.MISSING,) for lead in expected}


def _rows(ecg: ECG, faults: Mapping[Lead, tuple[QualityReason, ...]]) -> list[int]:
    return [row for row, lead in enumerate(ecg.leads) if set(faults[lead]) <= _HARMLESS]


def _selected(ecg: ECG, rows: list[int]) -> ECG:
    return ecg if len(rows) == len(ecg.leads) else ecg.select(ecg.leads[row] for row in rows)


def _quieted(ecg: ECG, humming: Mask) -> ECG:
    """Return the ECG without mains in the leads that hum: notch filters, without phase shift."""
    notches = [hertz for hertz in _MAINS_FREQUENCIES if 2 * hertz < ecg.sampling_frequency]
    if not humming.any() or not notches:
        return ecg
    signal = fill_gaps(ecg.signal).copy()
    for hertz in notches:
        b, a = iirnotch(hertz, _NOTCH, ecg.sampling_frequency)
        signal[humming] = filtfilt(b, a, signal[humming], axis=1)
    return ECG(signal=signal, leads=ecg.leads, sampling_frequency=ecg.sampling_frequency)


def _of_rows(prepared: Prepared, chosen: Mask) -> Prepared | None:
    if chosen.all():
        return prepared
    if not chosen.any():
        return None
    return Prepared(prepared.clean[chosen], prepared.qrs[chosen], prepared.sampling_frequency)


def _own_faults(ecg: ECG) -> dict[Lead, tuple[QualityReason, ...]]:
    """Return what each recorded lead shows by itself."""
    if not ecg.signal.size:
        return dict.fromkeys(ecg.leads, (QualityReason.MISSING,))
    recorded = np.isfinite(ecg.signal)
    gapless = fill_gaps(ecg.signal)
    wander, mains = _spectral(gapless, ecg.sampling_frequency)
    found = {
        QualityReason.MISSING: ~recorded.any(axis=1),
        QualityReason.GAPS: (recorded.mean(axis=1) < 1 - _GAPS_SHARE) & recorded.any(axis=1),
        QualityReason.FLAT: _flat(gapless, ecg.sampling_frequency) & recorded.any(axis=1),
        QualityReason.CLIPPED: _clipped(gapless),
        QualityReason.MAINS: mains > _MAINS,
        QualityReason.WANDER: wander > _WANDER,
    }
    return {
        lead: tuple(reason for reason, rows in found.items() if rows[row])
        for row, lead in enumerate(ecg.leads)
    }


def _flat(gapless: Floats, sampling_frequency: float) -> Mask:
    """Return which leads do not move for a good part of the seconds."""
    length = max(1, min(round(sampling_frequency), gapless.shape[1]))
    whole = gapless[:, : gapless.shape[1] // length * length]
    seconds = whole.reshape(len(gapless), -1, length)
    still: Mask = (seconds.max(axis=2) - seconds.min(axis=2) < _FLAT).mean(axis=1) > _FLAT_SHARE
    return still


def _clipped(gapless: Floats) -> Mask:
    """Return which leads dwell at their extremes, as saturated ones and square waves do."""
    low, high = gapless.min(axis=1, keepdims=True), gapless.max(axis=1, keepdims=True)
    at_extreme = (gapless == low) | (gapless == high)
    resting = at_extreme[:, 1:] & (gapless[:, 1:] == gapless[:, :-1])
    near = (high - low) / 20
    at_low = (gapless < low + near).mean(axis=1)
    at_high = (gapless > high - near).mean(axis=1)
    two_levels = (at_low + at_high > _TWO_LEVELS) & (np.minimum(at_low, at_high) > _LESSER_LEVEL)
    moving = (high - low)[:, 0] > 10 * _FLAT
    saturated: Mask = moving & (
        (resting.sum(axis=1) > _CLIPPED_SHARE * gapless.shape[1]) | two_levels
    )
    return saturated


def _spectral(gapless: Floats, sampling_frequency: float) -> tuple[Array, Array]:
    """Return the rms of wander, and of mains, where they stand out, in each lead, mV."""
    samples = gapless.shape[1]
    spectrum = np.abs(fft.rfft(gapless - gapless.mean(axis=1, keepdims=True))) / samples
    frequency = fft.rfftfreq(samples, 1 / sampling_frequency)

    def power(low: float, high: float) -> Array:
        first, last = np.searchsorted(frequency, (low, high))
        within: Array = 2 * np.sum(spectrum[:, first:last] ** 2, axis=1)
        return within

    wander = power(*_WANDER_BAND)
    mains = np.zeros(len(gapless))
    for hertz in _MAINS_FREQUENCIES:
        low, high = hertz - 1, hertz + 1
        beside = [power(low + step, high + step) for step in (-_MAINS_BESIDE, _MAINS_BESIDE)]
        within = power(low, high)
        mains = np.maximum(mains, np.where(within > _MAINS_CLEARNESS * sum(beside) / 2, within, 0))
    return np.sqrt(wander), np.sqrt(mains)


def likeness(prepared: Prepared, beats: Beats) -> Floats:
    """Return how like each other the beats of each lead are: 1 the same, 0 noise, (leads,).

    The seventh decile of the correlations between any two beats, so that a bigeminus is not
    taken for noise. A single beat is like itself; no beat is noise.
    """
    return _likeness(_some_beats(prepared, beats))


def _likeness(cut: Floats) -> Floats:
    if cut.shape[1] < 2:  # noqa: PLR2004 - nothing to compare
        return np.full(len(cut), float(cut.shape[1]))
    cut = cut / (np.linalg.norm(cut, axis=2, keepdims=True) + 1e-9)
    pairs = np.triu_indices(cut.shape[1], 1)
    ordered = np.sort((cut @ cut.transpose(0, 2, 1))[:, *pairs], axis=1)
    like: Floats = ordered[:, int(_DECILE * ordered.shape[1])]
    return like


def _noisy(prepared: Prepared, beats: Beats, humming: Mask) -> Mask:
    """Return which leads are noise: beats unlike each other, by more than a small lead has.

    Mains are told by themselves and make no noise of a lead that hums.
    """
    cut = _some_beats(prepared, beats)
    if not cut.shape[1]:
        return np.zeros(len(cut), np.bool_)
    if humming.any():
        cut[humming] = without_mains(cut[humming], prepared.sampling_frequency)
    scatter = (cut - cut.mean(axis=1, keepdims=True)).std(axis=(1, 2))
    like = _likeness(cut)
    noisy: Mask = (like < _LIKENESS) & (scatter > _SCATTER)
    noisy |= (like < _LOUD_LIKENESS) & (scatter > _LOUD_SCATTER)
    return noisy if _of_one_heart(cut[~noisy], prepared) else np.ones_like(noisy)


def _of_one_heart(cut: Floats, prepared: Prepared) -> bool:
    """Return whether the beats resemble each other over all leads together.

    Noise too low for any one lead to be called noisy does not, however its peaks were aligned:
    twelve leads agree by chance far less than one.
    """
    smooth = without_mains(cut, prepared.sampling_frequency)
    sharp = smooth - ndimage.uniform_filter1d(smooth, prepared.samples(_SLOWER), mode="nearest")
    leads, beats, samples = sharp.shape
    together = sharp.transpose(1, 0, 2).reshape(1, beats, leads * samples)
    return bool(_likeness(together)[0] >= _ONE_HEART)


def _some_beats(prepared: Prepared, beats: Beats) -> Floats:
    """Return enough beats for comparison, ``(leads, beats, samples)`` about their means."""
    before, after = (prepared.samples(part) for part in _BEAT)
    few = beats.r_peaks[:: max(1, beats.r_peaks.size // _COMPARED)]
    cut = windows(prepared.clean, few, before, after)
    cut = cut[~np.isnan(cut[:, 0]).any(axis=1)].transpose(1, 0, 2)
    centred: Floats = cut - cut.mean(axis=2, keepdims=True)
    return centred


def _record_faults(
    ecg: ECG,
    prepared: Prepared | None,
    beats: Beats | None,
) -> list[QualityReason]:
    recorded = np.isfinite(ecg.signal)
    together = recorded.all(axis=0).mean() if recorded.size else 0.0
    longest = recorded.mean(axis=1).max() if recorded.size else 0.0
    found = {
        QualityReason.TOO_SHORT: ecg.duration * longest < _SHORT,
        QualityReason.NO_QRS: beats is not None and not beats.r_peaks.size,
        QualityReason.FEW_BEATS: _few(prepared, beats),
        QualityReason.NOT_SIMULTANEOUS: recorded.any(axis=1).sum() > 1 and together < 0.5 * longest,
        QualityReason.LOW_RATE: ecg.sampling_frequency < _LOWEST_RATE,
    }
    return [reason for reason, present in found.items() if present]


def _no_heart(prepared: Prepared, beats: Beats, usable: tuple[Lead, ...]) -> list[QualityReason]:
    """Return why what repeats itself is not the beats of a heart."""
    seen = traits(prepared, beats, usable)
    if seen is None:
        return []
    found = {
        QualityReason.ONE_SOURCE: seen.of_one_source,
        QualityReason.NO_HEART: seen.of_no_heart,
    }
    return [reason for reason, present in found.items() if present]


def _few(prepared: Prepared | None, beats: Beats | None) -> bool:
    """Return whether there are too few whole beats to tell a heart from noise."""
    if not prepared or not beats or not beats.r_peaks.size:
        return False
    before, after = (prepared.samples(part) for part in _BEAT)
    last = prepared.clean.shape[1] - after
    whole = (beats.r_peaks >= before) & (beats.r_peaks <= last)
    return bool(whole.sum() < _FEWEST)


def _judged(
    record: list[QualityReason],
    faults: Mapping[Lead, tuple[QualityReason, ...]],
    expected: tuple[Lead, ...],
    *,
    looked: bool,
) -> Quality:
    of_leads = {reason for lead in expected for reason in faults[lead]}
    reasons = tuple(reason for reason in _ORDER if reason in of_leads or reason in record)
    lost = sum(not set(faults[lead]) <= _HARMLESS for lead in expected)
    if not looked or _UNREADABLE & set(record) or 2 * lost >= len(expected):
        verdict = Verdict.NON_DIAGNOSTIC
    else:
        verdict = Verdict.FULL if set(reasons) <= {QualityReason.WANDER} else Verdict.LIMITED
    return Quality(verdict=verdict, reasons=reasons, leads=faults)
