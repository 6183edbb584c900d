"""Infarction: ST elevation and pathological Q waves."""

from analysis.criteria.case import (
    Case,
    Criterion,
    Judgement,
    Unassessed,
    contiguous,
    in_contiguous_leads,
)
from analysis.criteria.conduction import lbbb, preexcited
from analysis.criteria.repolarisation import primary_leads
from analysis.ecg import Lead, Sex

_ELEVATION = 0.1  # mV in all leads but V2 and V3
_ELEVATION_WOMEN, _ELEVATION_MEN, _ELEVATION_YOUNG_MEN = 0.15, 0.2, 0.25  # mV in V2 and V3
_FORTY = 40.0  # years
_ANTERIOR = (Lead.V2, Lead.V3)
_ANTERIOR_Q = 20.0  # ms
_Q_DURATION, _Q_DEPTH = 30.0, 0.1  # ms, mV
_Q_LEADS = (
    Lead.I, Lead.II, Lead.III, Lead.aVL, Lead.aVF, Lead.V4, Lead.V5, Lead.V6,
)  # fmt: skip


def _limit(case: Case) -> float:
    """Return the limit of ST elevation in V2 and V3, mV, by age and sex."""
    if case.patient.sex is Sex.FEMALE:
        return _ELEVATION_WOMEN
    if case.patient.sex is not Sex.MALE or case.patient.age is None:
        raise Unassessed("the limit depends on age and sex")
    return _ELEVATION_MEN if case.patient.age >= _FORTY else _ELEVATION_YOUNG_MEN


def st_elevation(case: Case) -> Judgement:
    """ST at J in two contiguous leads ≥ 0.1 mV; V2, V3 by age and sex (UDMI 2018, table 2).

    In V2 and V3 0.15 mV in women, 0.2 mV in men from 40 years on, 0.25 mV in younger men.
    """
    anterior = _limit(case)
    leads = case.leads
    levels = {lead: leads.value(lead, "st_j") for lead in primary_leads(case)}
    met = [
        lead
        for lead, level in levels.items()
        if level >= (anterior if lead in _ANTERIOR else _ELEVATION)
    ]
    return in_contiguous_leads(levels, met, "ST")


def pathological_q(case: Case) -> Judgement:
    """Q or QS that tells of an infarction (UDMI 2018, table 3).

    Q over 20 ms or QS in V2 and V3; or Q ≥ 30 ms and ≥ 0.1 mV, or QS, in two leads of one
    group: I, aVL; II, III, aVF; V4 to V6. Not judged in left bundle branch block
    and pre-excitation.
    """
    if case.wide and (lbbb(case).present or preexcited(case)):
        raise Unassessed("Q waves follow the changed conduction")
    durations = {lead: case.lead(lead, "q_duration") for lead in (*_ANTERIOR, *_Q_LEADS)}
    anterior = [lead for lead in _ANTERIOR if durations[lead] > _ANTERIOR_Q]
    others = [lead for lead in _Q_LEADS if _deep(case, lead) and durations[lead] >= _Q_DURATION]
    found = (*contiguous(anterior), *contiguous(others))
    said = tuple(f"Q in {lead} {durations[lead]:.0f} ms" for lead in found)
    return Judgement(bool(found), said, found)


def _deep(case: Case, lead: Lead) -> bool:
    return case.lead(lead, "q_amplitude") >= _Q_DEPTH


CRITERIA: tuple[tuple[str, Criterion], ...] = (
    ("st_elevation", st_elevation),
    ("pathological_q", pathological_q),
)
