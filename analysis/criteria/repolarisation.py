"""Repolarisation: QT, ST depression and T waves."""

import numpy as np

from analysis.criteria.case import (
    Case,
    Criterion,
    Judgement,
    Unassessed,
    in_contiguous_leads,
    shown,
)
from analysis.criteria.conduction import lbbb, rbbb
from analysis.ecg import CHEST, Lead, Sex

_LONG_QTC = {Sex.MALE: 450.0, Sex.FEMALE: 460.0}  # ms
_SHORT_QTC = 330.0  # ms
_DEPRESSION = -0.05  # mV
_INVERSION = -0.1  # mV
_RIGHT_CHEST = frozenset({Lead.V1, Lead.V2, Lead.V3})
_JUDGED = (Lead.I, Lead.II, Lead.III, Lead.aVL, Lead.aVF, *CHEST)


def _qtc(case: Case) -> tuple[float, str]:
    if case.wide:
        raise Unassessed("QTc limits do not hold for a QRS of 120 ms or more")
    value = shown("QTc", case.qtc)
    return value, f"QTc {value:.0f} ms ({case.qtc_formula.capitalize()})"


def long_qt(case: Case) -> Judgement:
    """QTc ≥ 450 ms in men, ≥ 460 ms in women, QRS < 120 ms (Rautaharju 2009)."""
    if case.patient.sex not in _LONG_QTC:
        raise Unassessed("the patient's sex is not known")
    value, text = _qtc(case)
    return Judgement(value >= _LONG_QTC[case.patient.sex], (text,))


def short_qt(case: Case) -> Judgement:
    """QTc ≤ 330 ms (HRS/EHRA/APHRS consensus, Priori 2013)."""
    value, text = _qtc(case)
    return Judgement(value <= _SHORT_QTC, (text,))


def primary_leads(case: Case) -> tuple[Lead, ...]:
    """Return the leads in which ST and T tell of more than a changed conduction.

    Left bundle branch block, pre-excitation and other wide QRS complexes change all of them,
    right bundle branch block those of V1 to V3 (Rautaharju 2009: secondary abnormalities).
    """
    if not case.wide:
        return _JUDGED
    if rbbb(case).present and not lbbb(case).present:
        return tuple(lead for lead in _JUDGED if lead not in _RIGHT_CHEST)
    raise Unassessed("ST and T follow a QRS of 120 ms or more")


def _of(case: Case, name: str) -> dict[Lead, float]:
    leads = case.leads
    return {lead: leads.value(lead, name) for lead in primary_leads(case)}


def st_depression(case: Case) -> Judgement:
    """Horizontal or downsloping ST ≤ −0.05 mV in two contiguous leads (UDMI 2018, table 2).

    Taken as such: at J, and still at J + 80 ms.
    """
    at_j, later = _of(case, "st_j"), _of(case, "st_80")
    met = [
        lead for lead, level in at_j.items() if level <= _DEPRESSION and later[lead] <= _DEPRESSION
    ]
    return in_contiguous_leads(at_j, met, "ST")


def t_inversion(case: Case) -> Judgement:
    """T ≤ −0.1 mV in two contiguous leads with R above S (UDMI 2018, table 2)."""
    waves = _of(case, "t_amplitude")
    if not np.isfinite(list(waves.values())).any():
        raise Unassessed("no T wave was found")
    met = [lead for lead, value in waves.items() if value <= _INVERSION and _upright(case, lead)]
    return in_contiguous_leads(waves, met, "T")


def _upright(case: Case, lead: Lead) -> bool:
    return case.r(lead) > case.s(lead)


CRITERIA: tuple[tuple[str, Criterion], ...] = (
    ("long_qt", long_qt),
    ("short_qt", short_qt),
    ("st_depression", st_depression),
    ("t_inversion", t_inversion),
)
