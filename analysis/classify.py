"""What the models find in an ECG: a probability, a threshold, and an answer or an abstention."""

from collections.abc import Sequence

import numpy as np

from analysis.card import Label
from analysis.ecg import ECG, Patient
from analysis.features import Table, chosen, measure_features
from analysis.model import Model, Probabilities
from analysis.recipe import Recipe
from analysis.result import Finding, Origin
from analysis.standardise import Standardised, can_read, standardise

NOBODY = Patient()


def suited(models: Sequence[Model], ecg: ECG) -> tuple[Model, ...]:
    """Return the models that speak on an ECG: none whose every label a fuller one judges there.

    Fuller is a model that needs more leads. One that cannot read the ECG displaces nobody, and
    is itself displaced by none: it says why it cannot.
    """
    return tuple(
        model for model in models if not any(_displaces(other, model, ecg) for other in models)
    )


def _displaces(other: Model, model: Model, ecg: ECG) -> bool:
    keys, others = ({label.key for label in item.card.labels} for item in (model, other))
    fuller = _needed(other.card.recipe) > _needed(model.card.recipe)
    return fuller and keys <= others and can_read(ecg, other.card.recipe)


def _needed(recipe: Recipe) -> int:
    return len(recipe.leads) - recipe.allowed_missing


def classify(
    models: Sequence[Model],
    ecgs: Sequence[ECG],
    patients: Sequence[Patient] | None = None,
    tables: Sequence[Table] | None = None,
) -> tuple[tuple[Finding, ...], ...]:
    """Return the findings of every model for each ECG, in the order of the cards' labels.

    A recording longer than a model's input is read in windows. A finding's probability is
    then the highest of any window, for a finding that one window shows is there; that of
    ``normal`` is the lowest, for a recording is normal only if all of it is.

    Parameters
    ----------
    models
        All of them read every ECG.
    ecgs
        In mV, any leads, rate and length.
    patients
        Whose, for the age; None where nothing is known.
    tables
        Every feature of each ECG (:func:`analysis.features.table`), where it was measured
        already; None = measured here, if a model reads features.

    Returns
    -------
    tuple
        One tuple of findings for each ECG. A finding that was not assessed says why: too
        little signal, a missing lead (``normal`` needs all), a patient too young or, where
        the finding's definition asks for adults, of unknown age.
    """
    known = [NOBODY] * len(ecgs) if patients is None else patients
    if tables is None and any(model.card.features for model in models):
        tables = [measure_features(ecg) for ecg in ecgs]
    columns = [_classify(model, ecgs, known, tables or [{}] * len(ecgs)) for model in models]
    return tuple(
        tuple(finding for column in columns for finding in column[index])
        for index in range(len(ecgs))
    )


def _classify(
    model: Model, ecgs: Sequence[ECG], patients: Sequence[Patient], tables: Sequence[Table]
) -> list[tuple[Finding, ...]]:
    standards = [standardise(ecg, model.card.recipe) for ecg in ecgs]
    probabilities = _probabilities(model, standards, tables)
    return [
        tuple(
            _finding(model, label, column, standard, patient)
            for label, column in zip(model.card.labels, windows.T, strict=True)
        )
        for standard, windows, patient in zip(standards, probabilities, patients, strict=True)
    ]


def _probabilities(
    model: Model, standards: Sequence[Standardised], tables: Sequence[Table]
) -> list[Probabilities]:
    """Return ``(windows, labels)`` for each ECG, from one batch of all; NaN where unusable.

    Each window of a recording goes with the features of all of it.
    """
    usable = [standard.windows for standard in standards if not standard.unusable]
    known = [
        np.tile(chosen(table, model.card.features), (len(standard.windows), 1))
        for standard, table in zip(standards, tables, strict=True)
        if not standard.unusable
    ]
    read = np.empty((0, 0))
    if usable:
        read = model.probabilities(np.concatenate(usable), np.concatenate(known))
    ends = np.cumsum([len(windows) for windows in usable])
    parts = iter(np.split(read, ends[:-1]))
    unread = np.full((1, len(model.card.labels)), np.nan)
    return [unread if standard.unusable else next(parts) for standard in standards]


def _finding(
    model: Model,
    label: Label,
    windows: Probabilities,
    standard: Standardised,
    patient: Patient,
) -> Finding:
    probability = float(windows.min() if label.key == "normal" else windows.max())
    reason = _why_not(model, label, standard, patient)
    if reason is None and np.isnan(probability):
        reason = "the model gave no number"
    return Finding(
        key=label.key,
        code=label.entry.code,
        name=label.entry.name,
        probability=None if np.isnan(probability) else probability,
        threshold=label.threshold,
        present=None if reason else probability >= label.threshold,
        origin=Origin.MODEL,
        model=model.identity.name,
        evidence=_evidence(label, windows),
        reason=reason,
    )


def _why_not(model: Model, label: Label, standard: Standardised, patient: Patient) -> str | None:
    """Return why the label cannot be assessed, or None."""
    if standard.unusable:
        return standard.unusable
    if label.key == "normal" and standard.missing_leads:
        return f"not normal without {', '.join(standard.missing_leads)}"
    youngest = model.card.minimum_age
    if youngest is None:
        return None
    if patient.age is None:
        return "the patient's age is unknown" if label.entry.adult_only else None
    if patient.age < youngest:
        return f"the model learned from patients of {youngest:g} years and more"
    return None


def _evidence(label: Label, windows: Probabilities) -> tuple[str, ...]:
    if len(windows) == 1:
        return ()
    above = int((windows >= label.threshold).sum())
    return (f"above its threshold in {above} of {len(windows)} windows",)
