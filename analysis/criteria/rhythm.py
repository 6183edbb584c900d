"""Rhythm: who leads the heart, how fast, how regularly, and what comes too early."""

from dataclasses import replace

import numpy as np

from analysis.criteria import av_block
from analysis.criteria.case import Case, Criterion, Judgement, Unassessed
from analysis.result import Measurements
from analysis.rhythm import Mask, Rhythm

_BRADYCARDIA, _TACHYCARDIA = 60.0, 100.0  # per minute
_SVT = 150.0  # per minute: below it a sinus rhythm whose P waves hide in T is more likely
_SINUS_P_AXIS = (-30.0, 105.0)  # degrees: P upright in II
_LEADS_MOST = 0.5  # of the dominant beats that have a P wave
_IRREGULAR = 0.055  # of the median RR
_CONSTANT_P = 8.0  # power of the mean P over chance
_STEADY_WAVE = 0.5  # of the power between the QRS complexes: flutter waves where RR vary
_NARROW = 110.0  # ms: QRS duration of adults without any conduction delay (Surawicz 2009)
_ENTROPY = -1.4  # above it: atrial fibrillation (Lake and Moorman 2011)
_LIKE_P = 0.7  # correlation of a P wave with the others
_LIKENESS = 0.05, 0.99  # between which that counts
_UNKNOWN = -1.0  # what counts for one of four that could not be told
_TINY = 1e-3
_ARRHYTHMIA = 160.0, 0.1  # ms and of the mean, from shortest to longest RR
_PAIRS = 3  # of a bigeminus
_PAUSE = 1.7  # of the median RR
HIDDEN = "a paced rhythm hides the irregularity of atrial fibrillation"
_TWO_TO_ONE = (120.0, 175.0)  # per minute: what flutter of 240 to 350 gives at 2:1


def _rate(case: Case) -> tuple[float, str]:
    rate = case.value("heart_rate")
    return rate, f"heart rate {rate:.0f}/min"


def led_by_p(measurements: Measurements, seen: Rhythm) -> bool:
    """Return whether P waves of sinus axis lead the QRS complexes.

    Where none was marked, among premature beats or in noise, it is enough that what stands
    before the QRS repeats itself as P waves do: if the QRS is narrow, RR intervals are no more
    irregular than in sinus rhythm, there are no flutter waves, and the rate is one at which
    neither a T wave nor flutter with 2:1 conduction is taken for P waves.
    """
    axis = measurements.p_axis.value
    if measurements.pr_interval.value is None or not seen.p_share >= _LEADS_MOST:
        return axis is None and _repeated_p(measurements, seen)
    return axis is None or _SINUS_P_AXIS[0] <= round(axis) <= _SINUS_P_AXIS[1]


def _repeated_p(measurements: Measurements, seen: Rhythm) -> bool:
    rate, qrs = measurements.heart_rate.value, measurements.qrs_duration.value
    usual = rate is not None and qrs is not None and rate < _TWO_TO_ONE[0] and qrs < _NARROW
    steady = seen.entropy < _ENTROPY and not seen.flutters and not seen.paced
    return bool(usual and _repeats(seen) and steady)


def _repeats(seen: Rhythm) -> bool:
    """Return whether something repeats itself before the QRS complexes."""
    return seen.p_constancy >= _CONSTANT_P and seen.p_likeness >= _LIKE_P


def flutters_irregularly(seen: Rhythm) -> bool:
    """Return whether RR intervals vary about atrial waves of one frequency.

    No P wave is marked, but what stands before the QRS repeats itself, because each QRS follows
    one of the waves.
    """
    irregular = seen.irregularity >= _IRREGULAR and not seen.p_share >= _LEADS_MOST
    return bool(irregular and _repeats(seen) and seen.wave_share >= _STEADY_WAVE)


def _sinus(case: Case) -> bool:
    return led_by_p(case.measurements, case.rhythm) and not _fibrillates(case)


def _p_waves(case: Case) -> tuple[str, ...]:
    axis, seen = case.measurements.p_axis.value, case.rhythm
    if not seen.p_share >= _LEADS_MOST and _repeated_p(case.measurements, seen):
        return (f"P waves repeat themselves before the QRS (correlation {seen.p_likeness:.2f})",)
    share = f"P before {100 * seen.p_share:.0f} % of beats"
    return (share,) if axis is None else (share, f"P axis {axis:.0f}°")


def _irregular(case: Case) -> bool:
    if np.isnan(case.rhythm.irregularity):
        raise Unassessed("too few beats to judge regularity")
    return case.rhythm.irregularity >= _IRREGULAR


def _fibrillates(case: Case) -> bool:
    """Return whether RR intervals are irregular and no constant P wave leads them."""
    irregular = case.rhythm.irregularity >= _IRREGULAR
    without_p = case.rhythm.p_constancy < _CONSTANT_P
    return irregular and without_p and av_block.second_degree(case) is None


def _without_p(case: Case) -> bool:
    """Return whether atrial waves of no sinus rhythm make RR intervals irregular."""
    return _fibrillates(case) or flutters_irregularly(case.rhythm)


def fibrillation_margin(seen: Rhythm) -> float:
    """Return how much speaks for atrial fibrillation, about 0 where it begins; NaN = too few beats.

    Four things must come together: RR intervals that differ, and that one another do not
    foretell, and a signal before the QRS that chance explains, and that does not repeat itself.
    Each is the logarithm of what was seen over its limit; what is missing of one counts most,
    and none alone decides.
    """
    if not seen.rr.size:
        return np.nan
    likeness = np.clip(seen.p_likeness, *_LIKENESS)
    logs = (
        np.log(max(seen.irregularity, _TINY) / _IRREGULAR),
        seen.entropy - _ENTROPY,
        np.log(_CONSTANT_P / max(seen.p_constancy, _TINY)),
        np.log((1 - likeness) / likeness * _LIKE_P / (1 - _LIKE_P)),
    )
    known = np.nan_to_num(logs, nan=_UNKNOWN)
    return float(-2 * np.log(np.mean(np.exp(-known / 2))))


def hides_fibrillation(case: Case) -> bool:
    """Return whether a paced, regular rhythm hides what atrial fibrillation is told by."""
    return case.rhythm.paced and not case.rhythm.irregularity >= _IRREGULAR


def sinus_rhythm(case: Case) -> Judgement:
    """P waves of sinus axis (upright in II) before the QRS complexes (AHA/ACCF/HRS 2007, II).

    Where none was marked, below 120 per minute and with a QRS below 110 ms it is enough that
    what stands before the QRS repeats itself, and that RR intervals foretell one another.
    """
    return Judgement(_sinus(case), (_rate(case)[1], *_p_waves(case)))


def sinus_bradycardia(case: Case) -> Judgement:
    """Sinus rhythm below 60 per minute (AHA/ACCF/HRS 2007, part II)."""
    rate, text = _rate(case)
    return Judgement(_sinus(case) and rate < _BRADYCARDIA, (text,))


def sinus_tachycardia(case: Case) -> Judgement:
    """Sinus rhythm above 100 per minute (AHA/ACCF/HRS 2007, part II).

    Not assessed where a tachycardia neither shows P waves nor fibrillates nor flutters.
    """
    rate, text = _rate(case)
    sinus = _sinus(case)
    told = sinus or _without_p(case) or case.rhythm.flutters
    if rate > _TACHYCARDIA and not told and case.measurements.pr_interval.value is None:
        raise Unassessed(f"P waves were not found in a tachycardia of {rate:.0f}/min")
    return Judgement(sinus and rate > _TACHYCARDIA, (text, *_p_waves(case)) if sinus else (text,))


def sinus_arrhythmia(case: Case) -> Judgement:
    """Sinus rhythm whose normal RR intervals differ by over 160 ms and 10 % (Surawicz 2008)."""
    case.value("rr_interval")
    intervals = case.rhythm.nn
    if intervals.size < _PAIRS:
        raise Unassessed("too few normal-to-normal intervals")
    spread = float(np.ptp(intervals))
    limit = max(_ARRHYTHMIA[0], _ARRHYTHMIA[1] * float(intervals.mean()))
    text = f"RR from {intervals.min():.0f} to {intervals.max():.0f} ms"
    return Judgement(_sinus(case) and spread > limit, (text,))


def atrial_fibrillation(case: Case) -> Judgement:
    """Irregularly irregular RR intervals without distinct repeating P waves (ESC 2020, §3)."""
    _irregular(case)
    if np.isnan(case.rhythm.p_constancy):
        raise Unassessed("too few beats to look for P waves")
    return Judgement(
        _fibrillates(case) and not case.rhythm.flutters,
        (
            f"RR irregularity {case.rhythm.irregularity:.2f} (limit {_IRREGULAR})",
            f"P constancy {case.rhythm.p_constancy:.1f} (limit {_CONSTANT_P:.0f})",
        ),
    )


def atrial_flutter(case: Case) -> Judgement:
    """Regular atrial waves of 210 to 360 per minute between T and QRS (ACC/AHA/HRS 2015).

    It is told where more than one wave fits between T and QRS, and where RR intervals vary about
    waves of one frequency. A regular tachycardia of 120 to 175 may be flutter with 2:1
    conduction: there it is not judged.
    """
    rate, seen = case.value("heart_rate"), case.rhythm
    if flutters_irregularly(seen):
        waves = f"atrial waves {60 * seen.wave_frequency:.0f}/min at varying RR intervals"
        power = f"{100 * seen.wave_share:.0f} % of the power between the QRS complexes"
        return Judgement(present=True, evidence=(f"{waves}, {power}",))
    if np.isnan(seen.atrial_share):
        raise Unassessed("too little between T and QRS to look for atrial waves")
    text = (
        f"atrial waves {60 * seen.atrial_frequency:.0f}/min, "
        f"{100 * seen.atrial_share:.0f} % of the power between T and QRS"
    )
    if seen.flutters:
        return Judgement(present=True, evidence=(text,))
    if _TWO_TO_ONE[0] <= rate <= _TWO_TO_ONE[1] and not _irregular(case):
        raise Unassessed("2:1 flutter cannot be told from another regular tachycardia")
    return Judgement(present=False, evidence=(text,))


def svt(case: Case) -> Judgement:
    """Regular narrow tachycardia from 150 per minute without a P before QRS (ACC/AHA 2015)."""
    rate, text = _rate(case)
    led = case.measurements.pr_interval.value is not None
    present = rate >= _SVT and not case.wide and not led and not _irregular(case)
    return Judgement(present, (text, "no P wave before the QRS complexes"))


def _counted(case: Case, mask: Mask, what: str) -> Judgement:
    case.value("rr_interval")
    count = int(mask.sum())
    return Judgement(count > 0, (f"{count} of {mask.size} beats {what} QRS",))


def pac(case: Case) -> Judgement:
    """Early beats of the dominant QRS, or no wider (AHA/ACCF/HRS 2007, part II)."""
    if _without_p(case):
        raise Unassessed("atrial premature beats cannot be told where P waves are missing")
    found = _counted(case, case.rhythm.supraventricular, "premature with a narrow")
    aberrant = int(case.rhythm.aberrant.sum())
    return replace(found, evidence=(*found.evidence, f"{aberrant} aberrant")) if aberrant else found


def pvc(case: Case) -> Judgement:
    """Beats of a wide QRS unlike the dominant one, which comes early (AHA/ACCF/HRS 2007, II)."""
    return _counted(case, case.rhythm.ventricular, "ectopic with a wide")


def _bigeminy(case: Case, mask: Mask, what: str) -> Judgement:
    case.value("rr_interval")
    longest = run = 0
    for this, following in zip(mask[:-1].tolist(), mask[1:].tolist(), strict=True):
        run = run + 1 if this != following else 0
        longest = max(longest, run)
    pairs = (longest + 1) // 2
    return Judgement(pairs >= _PAIRS, (f"{pairs} pairs of a normal and a premature {what} beat",))


def atrial_bigeminy(case: Case) -> Judgement:
    """Every second beat a supraventricular premature one, three times or more in a row."""
    if _without_p(case):
        raise Unassessed("atrial premature beats cannot be told where P waves are missing")
    return _bigeminy(case, case.rhythm.supraventricular, "supraventricular")


def ventricular_bigeminy(case: Case) -> Judgement:
    """Every second beat a ventricular premature one, three times or more in a row."""
    return _bigeminy(case, case.rhythm.ventricular, "ventricular")


def paced(case: Case) -> Judgement:
    """Spikes of 0.2 mV and more, sharper than any wave, before the QRS (AHA/ACCF/HRS 2007, I).

    Bipolar spikes are often smaller than the recording shows, so that absence proves nothing.
    """
    if np.isnan(case.rhythm.spike):
        raise Unassessed("pacing spikes need a sampling frequency of 250 Hz and a QRS complex")
    seen = case.rhythm.paced_beats
    return Judgement(
        case.rhythm.paced,
        (f"spikes {case.rhythm.spike:.1f} mV before {seen.sum()} of {seen.size} QRS complexes",),
    )


def av_block_2(case: Case) -> Judgement:
    """P waves on time that no QRS follows: Mobitz I and II, 2:1, advanced (Kusumoto 2019).

    Mobitz I: PR longer before the dropped QRS than after it; Mobitz II: the same PR in two beats
    before it and one after; 2:1: every second P wave; advanced: two in a row or more. Absent
    where one P wave leads each beat and no pause follows.
    """
    seen = case.rhythm.conduction
    if seen is None or not av_block.dropped(case).any():
        return _no_pause(case)
    if av_block.dissociated(case):
        return Judgement(present=False, evidence=(av_block.atria(seen),))
    kind = av_block.second_degree(case)
    if kind is None:
        raise Unassessed("P waves without a QRS complex follow no known pattern")
    return Judgement(present=True, evidence=(av_block.atria(seen), kind))


def _no_pause(case: Case) -> Judgement:
    _led(case)
    rr = case.rhythm.rr
    ratio = float(rr.max() / np.median(rr)) if rr.size else 1.0
    if ratio >= _PAUSE and not case.rhythm.premature.any():
        raise Unassessed("a pause may be a dropped beat or one of the sinus node")
    if case.rhythm.conduction is None and _rate(case)[0] < _BRADYCARDIA:
        raise Unassessed("P waves cannot be followed between T and QRS in a slow rhythm")
    return Judgement(present=False, evidence=(f"longest RR {ratio:.2f} of the median",))


def av_block_3(case: Case) -> Judgement:
    """P waves faster than a regular, slow ventricle and without relation to it (Kusumoto 2019).

    Absent where a P wave leads each beat at a constant distance.
    """
    seen = case.rhythm.conduction
    if seen is not None and av_block.dissociated(case):
        low, high = np.nanmin(seen.delays), np.nanmax(seen.delays)
        varying = f"P to R from {low:.0f} to {high:.0f} ms at regular RR"
        return Judgement(present=True, evidence=(av_block.atria(seen), _rate(case)[1], varying))
    _led(case)
    return Judgement(
        present=False, evidence=(f"PR interval {case.value('pr_interval'):.0f} ms, constant",)
    )


def _led(case: Case) -> None:
    if _fibrillates(case) or case.measurements.pr_interval.value is None:
        raise Unassessed("conduction from the atria needs P waves before the QRS complexes")


CRITERIA: tuple[tuple[str, Criterion], ...] = (
    ("sinus_rhythm", sinus_rhythm),
    ("sinus_bradycardia", sinus_bradycardia),
    ("sinus_tachycardia", sinus_tachycardia),
    ("sinus_arrhythmia", sinus_arrhythmia),
    ("atrial_fibrillation", atrial_fibrillation),
    ("atrial_flutter", atrial_flutter),
    ("svt", svt),
    ("pac", pac),
    ("pvc", pvc),
    ("atrial_bigeminy", atrial_bigeminy),
    ("ventricular_bigeminy", ventricular_bigeminy),
    ("paced", paced),
    ("av_block_2", av_block_2),
    ("av_block_3", av_block_3),
)
