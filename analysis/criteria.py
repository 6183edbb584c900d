"""Findings from measurements alone, each from a published definition, with its evidence.

Definitions are those of the AHA/ACCF/HRS recommendations for the standardization and
interpretation of the electrocardiogram, parts III (conduction, Surawicz 2009) and IV (QT, ST,
Rautaharju 2009), unless a function says otherwise. They hold for adults.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.codes import VOCABULARY
from analysis.ecg import Lead, Patient, Sex, Signal
from analysis.result import (
    Finding,
    Measurements,
    Origin,
    Quality,
    QualityReason,
    Quantity,
    Verdict,
)

ADULT = 18.0  # years

_BRADYCARDIA, _TACHYCARDIA = 60.0, 100.0  # per minute
_LONG_PR = 200.0  # ms
_WIDE_QRS = 120.0  # ms
_LONG_QTC = {Sex.MALE: 450.0, Sex.FEMALE: 460.0}  # ms, Rautaharju 2009
_SHORT_QTC = 330.0  # ms, HRS/EHRA/APHRS consensus (Priori 2013)
_LEFT_AXIS, _RIGHT_AXIS = -30.0, 90.0  # degrees, Surawicz 2009
_SINUS_P_AXIS = (-30.0, 105.0)  # degrees: P upright in II
_IRREGULAR = 0.12  # RMSSD / mean RR: above it the rhythm is irregular (Tateno & Glass 2001)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the criteria look at."""

    measurements: Measurements
    quality: Quality
    patient: Patient
    qtc: Quantity
    qtc_formula: str


class _Unassessed(Exception):
    """A criterion cannot be applied; the message says why."""


_Judgement = tuple[bool, tuple[str, ...]]
_Criterion = Callable[[Case], _Judgement]


def assess(case: Case) -> tuple[Finding, ...]:
    """Return one finding for each criterion: present, absent, or not assessed and why."""
    return tuple(_finding(key, criterion, case) for key, criterion in CRITERIA)


def _finding(key: str, criterion: _Criterion, case: Case) -> Finding:
    entry = VOCABULARY[key]
    try:
        _gate(key, case)
        present, evidence = criterion(case)
    except _Unassessed as why:
        return Finding(
            key=key, code=entry.code, name=entry.name, origin=Origin.CRITERIA, reason=str(why)
        )
    return Finding(
        key=key,
        code=entry.code,
        name=entry.name,
        present=present,
        origin=Origin.CRITERIA,
        evidence=evidence,
    )


def _gate(key: str, case: Case) -> None:
    reason = not_assessable(key, case.quality, case.patient)
    if reason is not None:
        raise _Unassessed(reason)


def not_assessable(key: str, quality: Quality, patient: Patient) -> str | None:
    """Return why a finding may not be judged on this ECG, or None (DESIGN §4)."""
    entry = VOCABULARY[key]
    if quality.verdict is Verdict.NON_DIAGNOSTIC:
        return "the ECG is non-diagnostic"
    if entry.adult_only and patient.age is None:
        return "the patient's age is not known"
    if entry.adult_only and patient.age is not None and patient.age < ADULT:
        return "the patient is under 18 years"
    if entry.not_when_reversed and QualityReason.ARM_REVERSAL in quality.reasons:
        return "limb leads may be reversed"
    return None


def _value(name: str, quantity: Quantity) -> float:
    if quantity.value is None:
        raise _Unassessed(f"{name}: {quantity.reason}")
    return quantity.value


def _regular(case: Case) -> bool:
    return _value("RR variability", case.measurements.rr_variability) <= _IRREGULAR


def _sinus(case: Case) -> bool:
    axis = case.measurements.p_axis.value
    upright = axis is None or _SINUS_P_AXIS[0] <= axis <= _SINUS_P_AXIS[1]
    return case.measurements.pr_interval.value is not None and upright


def _rate(case: Case) -> tuple[float, str]:
    rate = _value("heart rate", case.measurements.heart_rate)
    return rate, f"heart rate {rate:.0f}/min"


def sinus_rhythm(case: Case) -> _Judgement:
    """P waves with a sinus axis before the QRS complexes."""
    return _sinus(case), (_rate(case)[1],)


def sinus_bradycardia(case: Case) -> _Judgement:
    """Sinus rhythm below 60 per minute."""
    rate, text = _rate(case)
    return _sinus(case) and rate < _BRADYCARDIA, (text,)


def sinus_tachycardia(case: Case) -> _Judgement:
    """Sinus rhythm above 100 per minute."""
    rate, text = _rate(case)
    return _sinus(case) and rate > _TACHYCARDIA, (text,)


def atrial_fibrillation(case: Case) -> _Judgement:
    """Irregular RR intervals without P waves (ESC 2020, §3)."""
    no_p = case.measurements.pr_interval.value is None
    variability = _value("RR variability", case.measurements.rr_variability)
    return no_p and not _regular(case), (f"RR variability {variability:.2f}, no P waves",)


def av_block_1(case: Case) -> _Judgement:
    """PR interval above 200 ms."""
    interval = _value("PR interval", case.measurements.pr_interval)
    return interval > _LONG_PR, (f"PR interval {interval:.0f} ms",)


def _wide(case: Case) -> tuple[bool, str]:
    duration = _value("QRS duration", case.measurements.qrs_duration)
    return duration >= _WIDE_QRS, f"QRS duration {duration:.0f} ms"


def _qrs(case: Case, lead: Lead) -> Signal:
    """Return the lead's QRS in the median beat, above its onset, in mV."""
    meas = case.measurements
    marks = meas.median_fiducials
    onset, offset = marks.get("qrs_onset", np.nan), marks.get("qrs_offset", np.nan)
    if meas.median_beat is None or lead not in meas.median_beat or np.isnan(onset + offset):
        raise _Unassessed(f"lead {lead} has no measured QRS complex")
    beat = meas.median_beat[lead]
    return np.asarray(beat[int(onset) : int(offset) + 1] - beat[int(onset)], dtype=np.float32)


def _net(qrs: Signal) -> float:
    return float(qrs.max() + qrs.min())


def lbbb(case: Case) -> _Judgement:
    """QRS ≥ 120 ms, V1 mainly negative, I and V6 positive without Q (Surawicz 2009)."""
    wide, text = _wide(case)
    if not wide:
        return False, (text,)
    lateral = [_qrs(case, Lead.I), _qrs(case, Lead.V6)]
    present = (
        _net(_qrs(case, Lead.V1)) < 0
        and all(_net(qrs) > 0 for qrs in lateral)
        and all(not _starts_negative(qrs) for qrs in lateral)
        and all(_terminal(qrs) > -0.1 * float(qrs.max()) for qrs in lateral)
    )
    return present, (text, "V1 mainly negative; I and V6 positive without Q")


def rbbb(case: Case) -> _Judgement:
    """QRS ≥ 120 ms, terminal R in V1 and S in I and V6 (Surawicz 2009)."""
    wide, text = _wide(case)
    if not wide:
        return False, (text,)
    v1 = _qrs(case, Lead.V1)
    present = (
        _terminal(v1) > 0
        and float(v1.max()) > 0.2  # noqa: PLR2004 - mV: an R' worth the name
        and all(_terminal(_qrs(case, lead)) < 0 for lead in (Lead.I, Lead.V6))
    )
    return present, (text, "terminal R in V1, S in I and V6")


def ivcd(case: Case) -> _Judgement:
    """QRS ≥ 120 ms that is neither left nor right bundle branch block."""
    wide, text = _wide(case)
    return wide and not lbbb(case)[0] and not rbbb(case)[0], (text,)


def _starts_negative(qrs: Signal) -> bool:
    early = qrs[: max(len(qrs) // 3, 1)]
    return float(early.min()) < -0.1 * float(np.ptp(qrs))


def _terminal(qrs: Signal) -> float:
    """Return the mean of the last 40 % of the QRS, mV: which way the delayed forces point."""
    return float(qrs[int(0.6 * len(qrs)) :].mean())


def left_axis(case: Case) -> _Judgement:
    """QRS axis from −30° to −90°."""
    axis = _value("QRS axis", case.measurements.qrs_axis)
    return -90.0 <= axis < _LEFT_AXIS, (f"QRS axis {axis:.0f}°",)  # noqa: PLR2004 - degrees


def right_axis(case: Case) -> _Judgement:
    """QRS axis from 90° to 180°."""
    axis = _value("QRS axis", case.measurements.qrs_axis)
    return axis > _RIGHT_AXIS, (f"QRS axis {axis:.0f}°",)


def _qtc(case: Case) -> tuple[float, str]:
    if _wide(case)[0]:
        raise _Unassessed("QTc limits do not hold for a QRS of 120 ms or more")
    value = _value("QTc", case.qtc)
    return value, f"QTc {value:.0f} ms ({case.qtc_formula.capitalize()})"


def long_qt(case: Case) -> _Judgement:
    """QTc ≥ 450 ms in men, ≥ 460 ms in women (Rautaharju 2009)."""
    if case.patient.sex not in _LONG_QTC:
        raise _Unassessed("the patient's sex is not known")
    value, text = _qtc(case)
    return value >= _LONG_QTC[case.patient.sex], (text,)


def short_qt(case: Case) -> _Judgement:
    """QTc ≤ 330 ms (Priori 2013)."""
    value, text = _qtc(case)
    return value <= _SHORT_QTC, (text,)


CRITERIA: Sequence[tuple[str, _Criterion]] = (
    ("sinus_rhythm", sinus_rhythm),
    ("sinus_bradycardia", sinus_bradycardia),
    ("sinus_tachycardia", sinus_tachycardia),
    ("atrial_fibrillation", atrial_fibrillation),
    ("av_block_1", av_block_1),
    ("lbbb", lbbb),
    ("rbbb", rbbb),
    ("ivcd", ivcd),
    ("left_axis", left_axis),
    ("right_axis", right_axis),
    ("long_qt", long_qt),
    ("short_qt", short_qt),
)
"""Every criterion by the key of the finding it judges."""
