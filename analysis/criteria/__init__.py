"""Findings from measurements alone, each from a published definition, with its evidence.

The definitions are mostly those of the AHA/ACCF/HRS recommendations for the standardization and
interpretation of the electrocardiogram, parts III (conduction, Surawicz 2009), IV (ST, T, U and
QT, Rautaharju 2009) and V (hypertrophy, Hancock 2009), and of the Fourth Universal Definition
of Myocardial Infarction (Thygesen 2018). Each function names its own. They hold for adults.
"""

from collections.abc import Sequence

from analysis.codes import VOCABULARY
from analysis.criteria import conduction, infarction, repolarisation, rhythm, voltage
from analysis.criteria.case import ADULT, Case, Criterion, Unassessed
from analysis.ecg import Patient
from analysis.result import Finding, Origin, Quality, Verdict

__all__ = ["ADULT", "CRITERIA", "Case", "abstention", "assess", "not_assessable"]

CRITERIA: Sequence[tuple[str, Criterion]] = (
    *rhythm.CRITERIA,
    *conduction.CRITERIA,
    *voltage.CRITERIA,
    *repolarisation.CRITERIA,
    *infarction.CRITERIA,
)
"""Every criterion by the key of the finding it judges."""


def assess(case: Case) -> tuple[Finding, ...]:
    """Return one finding for each criterion: present, absent, or not assessed and why."""
    return tuple(_finding(key, criterion, case) for key, criterion in CRITERIA)


def _finding(key: str, criterion: Criterion, case: Case) -> Finding:
    entry = VOCABULARY[key]
    try:
        _gate(key, case)
        judged = criterion(case)
    except Unassessed as why:
        return Finding(
            key=key, code=entry.code, name=entry.name, origin=Origin.CRITERIA, reason=str(why)
        )
    return Finding(
        key=key,
        code=entry.code,
        name=entry.name,
        present=judged.present,
        origin=Origin.CRITERIA,
        evidence=judged.evidence,
        leads=judged.leads,
    )


def _gate(key: str, case: Case) -> None:
    reason = abstention(key, case)
    if reason is not None:
        raise Unassessed(reason)


def abstention(key: str, case: Case) -> str | None:
    """Return why nobody, criterion or model, may judge a finding on this ECG, or None."""
    reason = not_assessable(key, case.quality, case.patient, paced=case.rhythm.paced)
    if reason is None and key == "atrial_fibrillation" and rhythm.hides_fibrillation(case):
        return rhythm.HIDDEN
    return reason


def not_assessable(
    key: str, quality: Quality, patient: Patient, *, paced: bool = False
) -> str | None:
    """Return why a finding may not be judged on this ECG, or None (DESIGN §4)."""
    entry = VOCABULARY[key]
    if quality.verdict is Verdict.NON_DIAGNOSTIC:
        return "the ECG is non-diagnostic"
    if entry.adult_only and patient.age is None:
        return "the patient's age is not known"
    if entry.adult_only and patient.age is not None and patient.age < ADULT:
        return "the patient is under 18 years"
    if entry.not_when_paced and paced:
        return "the rhythm is paced"
    if entry.not_when_reversed and quality.reversed_leads:
        return "limb leads may be reversed"
    return None
