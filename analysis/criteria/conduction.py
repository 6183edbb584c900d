"""Conduction: from the atria, through the bundle branches and fascicles, around the AV node."""

import numpy as np

from analysis.criteria.case import WIDE_QRS, Case, Criterion, Judgement
from analysis.ecg import CHEST, LIMB, Lead

_LONG_PR, _SHORT_PR = 200.0, 120.0  # ms
_INCOMPLETE = 110.0  # ms
_LATE = 60.0  # ms to the R peak in V5 and V6
_LATE_V1 = 50.0  # ms to the R peak in V1
_LATE_AVL = 45.0  # ms to the R peak in aVL
_LONG_S = 40.0  # ms
_NO_Q = 0.05  # mV of a Q in I, V5, V6 that is none
_NOTCH = 0.05  # mV
_FASCICLE = 45.0  # degrees
_DELTA = 0.35  # of the QRS that passes before half of its height is reached
_DELTA_LEADS = 6
_LATERAL, _RIGHT = (Lead.I, Lead.V6), (Lead.V1, Lead.V2)


def _qrs(case: Case) -> tuple[float, str]:
    duration = case.value("qrs_duration")
    return duration, f"QRS duration {duration:.0f} ms"


def av_block_1(case: Case) -> Judgement:
    """PR interval above 200 ms (AHA/ACCF/HRS 2007, part II)."""
    interval = case.value("pr_interval")
    return Judgement(interval > _LONG_PR, (f"PR interval {interval:.0f} ms",))


def _left(case: Case) -> bool:
    """Return whether QRS has the shape of left bundle branch block."""
    down = case.s(Lead.V1) > case.r(Lead.V1)
    monophasic = all(
        case.lead(lead, "q_amplitude") < _NO_Q and case.r(lead) > case.s(lead) for lead in _LATERAL
    )
    return down and monophasic and case.lead(Lead.V1, "r2_amplitude") < _NO_Q


def _delayed_left(case: Case) -> bool:
    leads = case.leads
    late = any(leads.value(lead, "r_peak_time") > _LATE for lead in (Lead.V5, Lead.V6))
    return late or case.lead(Lead.V6, "r_notch") >= _NOTCH


def lbbb(case: Case) -> Judgement:
    """QRS ≥ 120 ms, V1 mainly negative, I and V6 without Q, late or notched R (Surawicz 2009).

    Late: R peak over 60 ms in V5 or V6; notched: in V6.
    """
    duration, text = _qrs(case)
    if duration < WIDE_QRS:
        return Judgement(present=False, evidence=(text,))
    present = _left(case) and _delayed_left(case)
    times = [case.leads.value(lead, "r_peak_time") for lead in (Lead.V5, Lead.V6)]
    said = (
        text,
        f"R {case.r(Lead.V1):.2f} mV, S {case.s(Lead.V1):.2f} mV in V1",
        f"R peak after {np.nanmax([0.0, *times]):.0f} ms in V5, V6",
    )
    return Judgement(present, said, (Lead.V1, *_LATERAL) if present else ())


def incomplete_lbbb(case: Case) -> Judgement:
    """QRS 110 to 119 ms, no Q in I, V5, V6, R peak over 60 ms in V5 or V6 (Surawicz 2009)."""
    duration, text = _qrs(case)
    if not _INCOMPLETE <= duration < WIDE_QRS:
        return Judgement(present=False, evidence=(text,))
    times = [case.lead(lead, "r_peak_time") for lead in (Lead.V5, Lead.V6)]
    present = _left(case) and max(times) > _LATE
    return Judgement(present, (text, f"R peak in V5, V6 after {max(times):.0f} ms"))


def _right(case: Case) -> bool:
    """Return whether QRS has the shape of right bundle branch block."""
    late = any(_late_r(case, lead) for lead in _RIGHT)
    return late and all(_broad_s(case, lead) for lead in _LATERAL)


def _late_r(case: Case, lead: Lead) -> bool:
    late = case.leads.value(lead, "r_peak_time") > _LATE_V1
    return _second_r(case, lead) or (late and case.r(lead) > case.s(lead))


def _second_r(case: Case, lead: Lead) -> bool:
    return case.lead(lead, "r2_amplitude") > case.lead(lead, "r_amplitude")


def _broad_s(case: Case, lead: Lead) -> bool:
    width = case.lead(lead, "s_duration")
    return width > _LONG_S or width > case.lead(lead, "r_duration") > 0


def rbbb(case: Case) -> Judgement:
    """QRS ≥ 120 ms, R′ or late R in V1 or V2, broad S in I and V6 (Surawicz 2009).

    Late: R peak over 50 ms; broad: S over 40 ms, or longer than R.
    """
    duration, text = _qrs(case)
    if duration < WIDE_QRS:
        return Judgement(present=False, evidence=(text,))
    present = _right(case)
    widths = [case.lead(lead, "s_duration") for lead in _LATERAL]
    said = (
        text,
        f"R′ {case.lead(Lead.V1, 'r2_amplitude'):.2f} mV in V1",
        f"S {widths[0]:.0f} ms in I, {widths[1]:.0f} ms in V6",
    )
    return Judgement(present, said, (Lead.V1, *_LATERAL) if present else ())


def incomplete_rbbb(case: Case) -> Judgement:
    """R′ above R in V1 or V2 and broad S in I and V6 at QRS < 120 ms (Minnesota code 7-3)."""
    duration, text = _qrs(case)
    if duration >= WIDE_QRS:
        return Judgement(present=False, evidence=(text,))
    higher = tuple(lead for lead in _RIGHT if _second_r(case, lead))
    present = bool(higher) and all(_broad_s(case, lead) for lead in _LATERAL)
    said = (text, f"R′ above R in {', '.join(higher) or 'neither V1 nor V2'}")
    return Judgement(present, said, higher if present else ())


def ivcd(case: Case) -> Judgement:
    """QRS ≥ 120 ms that is neither left nor right bundle branch block (Minnesota code 7-4)."""
    duration, text = _qrs(case)
    wide = duration >= WIDE_QRS
    block = wide and (lbbb(case).present or rbbb(case).present or preexcited(case))
    return Judgement(wide and not block, (text,))


def lafb(case: Case) -> Judgement:
    """Axis −45° to −90°, qR in aVL, R peak there from 45 ms, QRS < 120 ms (Surawicz 2009)."""
    axis, (duration, text) = case.value("qrs_axis"), _qrs(case)
    said = (f"QRS axis {axis:.0f}°", text)
    if not (-90.0 <= axis <= -_FASCICLE and duration < WIDE_QRS):  # noqa: PLR2004 - degrees
        return Judgement(present=False, evidence=said)
    time = case.lead(Lead.aVL, "r_peak_time")
    present = case.lead(Lead.aVL, "q_amplitude") > 0 and time >= _LATE_AVL
    found = (*said, f"R peak in aVL after {time:.0f} ms")
    return Judgement(present, found, (Lead.aVL,) if present else ())


def lpfb(case: Case) -> Judgement:
    """Axis 90° to 180°, rS in I and aVL, qR in III and aVF, QRS < 120 ms (Surawicz 2009)."""
    axis, (duration, text) = case.value("qrs_axis"), _qrs(case)
    if not (axis >= 90.0 and duration < WIDE_QRS):  # noqa: PLR2004 - degrees
        return Judgement(present=False, evidence=(f"QRS axis {axis:.0f}°", text))
    present = all(0 < case.r(lead) < case.s(lead) for lead in (Lead.I, Lead.aVL)) and all(
        case.lead(lead, "q_amplitude") > 0 and case.r(lead) > case.s(lead)
        for lead in (Lead.III, Lead.aVF)
    )
    return Judgement(present, (f"QRS axis {axis:.0f}°", text))


def preexcited(case: Case) -> bool:
    """Return whether pre-excitation is seen: not, where there is no P wave."""
    return case.measurements.pr_interval.value is not None and preexcitation(case).present


def preexcitation(case: Case) -> Judgement:
    """PR < 120 ms, QRS ≥ 120 ms and a slurred upstroke (Surawicz 2009).

    Slurred: in half of the leads a third of the QRS passes before half of its height.
    """
    interval = case.value("pr_interval")
    duration, text = _qrs(case)
    said = (f"PR interval {interval:.0f} ms", text)
    if interval >= _SHORT_PR or duration < WIDE_QRS:
        return Judgement(present=False, evidence=said)
    times = {lead: case.lead(lead, "half_time") for lead in (*LIMB, *CHEST)}
    slurred = tuple(lead for lead, time in times.items() if time > _DELTA * duration)
    present = len(slurred) >= _DELTA_LEADS
    return Judgement(present, (*said, f"slurred in {len(slurred)} leads"), slurred)


CRITERIA: tuple[tuple[str, Criterion], ...] = (
    ("av_block_1", av_block_1),
    ("lbbb", lbbb),
    ("incomplete_lbbb", incomplete_lbbb),
    ("rbbb", rbbb),
    ("incomplete_rbbb", incomplete_rbbb),
    ("ivcd", ivcd),
    ("lafb", lafb),
    ("lpfb", lpfb),
    ("preexcitation", preexcitation),
)
