"""One ECG in, one result out: the order of the rooms, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from analysis import criteria, features, statements
from analysis.classify import classify, suited
from analysis.ecg import ECG, STANDARD_12, Patient, Recording
from analysis.explain import explain_present
from analysis.measure import everything
from analysis.model import Model, shipped_models
from analysis.quality import Assessed, examine
from analysis.result import Finding, Origin, Result, Verdict

ALGORITHM_REVISION = "5"
"""Raised whenever the same ECG may give another result."""

QTcFormula = Literal["bazett", "fridericia", "framingham", "hodges"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a site may choose."""

    qtc_formula: QTcFormula = "fridericia"
    """Which QTc is judged and reported."""


@cache
def _shipped() -> tuple[Model, ...]:
    return shipped_models()


def analyse(
    x: Recording | ECG,
    models: Model | Sequence[Model] | None = None,
    *,
    patient: Patient | None = None,
    options: Options | None = None,
) -> Result:
    """Return measurements, findings and statements of one ECG.

    Parameters
    ----------
    x
        What was read, or a bare ECG.
    models
        One model, several, or None for the shipped ones. An empty sequence: criteria only. A
        model for few leads is silent where a fuller one judges the same (:func:`suited`).
    patient
        Age and sex, where the recording does not say or says otherwise.
    options
        The site's choices.
    """
    recording = Recording(ecg=x, format="ECG") if isinstance(x, ECG) else x
    who = recording.patient if patient is None else patient
    chosen = suited(_models(models), recording.ecg)
    seen = examined(recording.ecg)
    quality = seen.quality
    measured = everything(recording.ecg, seen)
    formula = (options or Options()).qtc_formula
    case = criteria.Case(
        measurements=measured.measurements,
        leads=measured.leads,
        rhythm=measured.rhythm,
        quality=quality,
        patient=who,
        qtc=getattr(measured.measurements, f"qtc_{formula}"),
        qtc_formula=formula,
    )
    known = features.table(seen, measured)
    of_models = _of_models(chosen, recording.ecg, case, known)
    of_criteria = criteria.assess(case)
    told = statements.stated((*of_models, *of_criteria))
    found, explanations = explain_present(
        chosen,
        recording.ecg,
        case.measurements,
        of_models,
        known,
        keys=frozenset(item.key for item in told if item.origin is Origin.MODEL),
    )
    findings = (*found, *of_criteria)
    normal = statements.may_be_normal(recording, quality, who, findings)
    lines = statements.state(findings, normal=normal)
    return Result(
        recording=recording,
        statements=lines,
        findings=findings,
        measurements=measured.measurements,
        leads=measured.leads,
        quality=quality,
        models=tuple(model.identity for model in chosen),
        overall=statements.overall(quality, lines),
        not_assessed=statements.not_assessed(findings),
        explanations=explanations,
    )


def examined(ecg: ECG) -> Assessed:
    """Return the quality of an ECG, for what it was meant to be.

    A recording with fewer than half of the twelve leads is judged by the leads that it has, and
    is a limited reading at best.
    """
    twelve = examine(ecg, expected=STANDARD_12)
    if 2 * sum(lead in ecg for lead in STANDARD_12) >= len(STANDARD_12) or not ecg.leads:
        return twelve
    own = examine(ecg, expected=ecg.leads)
    if own.quality.verdict is Verdict.NON_DIAGNOSTIC:
        return twelve
    quality = replace(twelve.quality, verdict=Verdict.LIMITED)
    return replace(own, quality=quality)


def _models(models: Model | Sequence[Model] | None) -> tuple[Model, ...]:
    if models is None:
        return _shipped()
    return (models,) if isinstance(models, Model) else tuple(models)


def _of_models(
    models: Sequence[Model], ecg: ECG, case: criteria.Case, known: features.Table
) -> tuple[Finding, ...]:
    """Return the models' findings; each that may not be judged on this ECG abstains."""
    (found,) = classify(models, [ecg], [case.patient], [known])
    return tuple(_gated(finding, case) for finding in found)


def _gated(finding: Finding, case: criteria.Case) -> Finding:
    reason = criteria.abstention(finding.key, case)
    if finding.present and reason is None:
        reason = statements.against_rate(finding.key, case.measurements.heart_rate)
    if reason is None or finding.present is None:
        return finding
    return replace(finding, probability=None, present=None, reason=reason)
