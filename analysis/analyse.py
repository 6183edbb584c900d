"""One ECG in, one result out: the order of the rooms, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from analysis import criteria, statements
from analysis.classify import classify
from analysis.ecg import ECG, STANDARD_12, Patient, Recording
from analysis.measure import everything
from analysis.model import Model, load_model
from analysis.quality import examine
from analysis.result import Finding, Result

ALGORITHM_REVISION = "3"
"""Raised whenever the same ECG may give another result."""

QTcFormula = Literal["bazett", "fridericia", "framingham", "hodges"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a site may choose."""

    qtc_formula: QTcFormula = "fridericia"
    """Which QTc is judged and reported."""


@cache
def _shipped() -> Model:
    return load_model(None)


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
        One model, several, or None for the shipped one. An empty sequence: criteria only.
    patient
        Age and sex, where the recording does not say or says otherwise.
    options
        The site's choices.
    """
    recording = Recording(ecg=x, format="ECG") if isinstance(x, ECG) else x
    who = recording.patient if patient is None else patient
    chosen = _models(models)
    examined = examine(recording.ecg, expected=STANDARD_12)
    quality = examined.quality
    measured = everything(recording.ecg, examined)
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
    findings = (*_of_models(chosen, recording.ecg, case), *criteria.assess(case))
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
    )


def _models(models: Model | Sequence[Model] | None) -> tuple[Model, ...]:
    if models is None:
        return (_shipped(),)
    return (models,) if isinstance(models, Model) else tuple(models)


def _of_models(models: Sequence[Model], ecg: ECG, case: criteria.Case) -> tuple[Finding, ...]:
    """Return the models' findings; each that may not be judged on this ECG abstains."""
    (found,) = classify(models, [ecg], [case.patient])
    return tuple(_gated(finding, case) for finding in found)


def _gated(finding: Finding, case: criteria.Case) -> Finding:
    paced = case.rhythm.paced
    reason = criteria.not_assessable(finding.key, case.quality, case.patient, paced=paced)
    if finding.present and reason is None:
        reason = statements.against_rate(finding.key, case.measurements.heart_rate)
    if reason is None or finding.present is None:
        return finding
    return replace(finding, probability=None, present=None, reason=reason)
