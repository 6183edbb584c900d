"""Which figures a card shows: pooled, of each database, of women and men, of each lead."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.card import Metric
from analysis.ecg import Sex
from analysis.features import names
from training.shipped.build import group_of
from training.shipped.corpus import LABELS
from training.shipped.examples import Example
from training.shipped.judge import (
    MIN_AUROC,
    MIN_ELSEWHERE,
    MIN_POSITIVES,
    Answers,
    Judged,
    area,
    judge,
    pooled,
)
from training.shipped.plans import Plan

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

POOLED: Final = "all held-out databases"
STRICT: Final = f"{POOLED}, what LUDB's recordings cannot show counted too"
RATES: Final = "sinus rhythm at the measured rate, nothing learned"
_UNLEARNT = frozenset({"AUROC", "AUROC, abstentions too", "coverage"})
_LIMITS: Final = {"sinus_bradycardia": 60.0, "sinus_tachycardia": 100.0}  # per minute
_ELDERLY: Final = 65.0  # years


def figures(plan: Plan, examples: Sequence[Example], answers: Answers) -> list[Metric]:
    """Return the figures of one label."""
    judged = judge(answers)
    known = ~np.isnan(answers.truth)
    if plan.alone:
        return [
            metric
            for name, chosen in _readings(examples).items()
            if _both(part := judged.where(chosen[known]))
            for metric in pooled(part, name)
        ]
    people = {name: chosen[known] for name, chosen in _people(examples).items()}
    return [
        *pooled(judged, POOLED),
        *_strict(examples, answers),
        *_of_databases(plan, judged),
        *(metric for name, part in people.items() for metric in area(judged.where(part), name)),
    ]


def rates(plan: Plan, examples: Sequence[Example]) -> list[Metric]:
    """Return how well sinus rhythm at the measured rate, nothing learned, agrees with labels."""
    found = []
    for key, limit in _LIMITS.items():
        stated = np.array([key in item.rates for item in examples])
        answered = np.array([key not in item.silent for item in examples])
        score, known = _sinus_rate(examples, limit, tachycardia=key == "sinus_tachycardia")
        judged = Judged(
            key=key,
            truth=np.array([item.rates.get(key, False) for item in examples]),
            logit=score,
            group=group_of(examples, plan.groups),
            answered=answered & known,
            probability=np.full(len(examples), 0.5),
            present=np.zeros(len(examples), np.bool_),
        ).where(stated)
        if _both(judged):
            found += [item for item in pooled(judged, RATES) if item.measure in _UNLEARNT]
            found += _of_databases(plan, judged)
    return found


def _sinus_rate(
    examples: Sequence[Example], limit: float, *, tachycardia: bool
) -> tuple[Array, Bools]:
    """Return the rate, with its sign so that more means likelier, and where it was measured.

    Where no P waves lead the beats it counts no further than the limit: that is how the node
    speaks, which calls no other rhythm sinus tachycardia or bradycardia.
    """
    rate, led = (
        np.array([item.features[names().index(name)] for item in examples], dtype=np.float64)
        for name in ("heart_rate", "led_by_p")
    )
    sign = 1.0 if tachycardia else -1.0
    known = np.isfinite(rate)
    score = sign * np.where(known, rate, np.nanmedian(rate))
    return np.where(led == 1, score, np.minimum(score, sign * limit)), known


def _of_databases(plan: Plan, judged: Judged) -> list[Metric]:
    return [
        metric
        for number, sources in enumerate(plan.groups)
        for metric in area(judged.where(judged.group == number), " + ".join(sources))
    ]


def _strict(examples: Sequence[Example], answers: Answers) -> list[Metric]:
    """Return the figures with what is withheld; none where nothing is."""
    column = LABELS.index(answers.key)
    withheld = np.array([example.withheld[column] for example in examples], dtype=np.float64)
    if np.isnan(withheld).all():
        return []
    truth = np.where(np.isnan(answers.truth), withheld, answers.truth)
    return pooled(judge(replace(answers, truth=truth)), STRICT)


def _both(judged: Judged) -> bool:
    said = judged.truth[judged.answered]
    return bool(said.any() and not said.all())


def _readings(examples: Sequence[Example]) -> dict[str, Bools]:
    """Return which examples were read how: by which leads, by which recorder."""
    names = np.array(
        [
            f"{item.source}, {item.reading}"
            if item.source in {"CinC2017", "MIT-BIH"}
            else f"{item.reading}, 12-lead databases"
            for item in examples
        ]
    )
    return {str(name): names == name for name in dict.fromkeys(names.tolist())}


def _people(examples: Sequence[Example]) -> dict[str, Bools]:
    age = np.array([np.nan if item.age is None else item.age for item in examples])
    return {
        "women": np.array([item.sex is Sex.FEMALE for item in examples]),
        "men": np.array([item.sex is Sex.MALE for item in examples]),
        "under 65 years": age < _ELDERLY,
        "65 years and more": age >= _ELDERLY,
    }


def not_shipped(
    plan: Plan,
    examples: Sequence[Example],
    judged: Mapping[str, Judged],
    shipped: Sequence[str],
) -> dict[str, str]:
    """Return why each finding that was thought of is not shipped."""
    reasons = {
        key: f"AUROC {item.area:.2f}, below {MIN_AUROC}" if item.assessable else _few(*item.counts)
        for key, item in judged.items()
        if key not in shipped
    }
    if plan.alone:
        return reasons
    groups = group_of(examples, plan.groups)
    for key in LABELS:
        if key not in plan.labels:
            present = np.array([item.labels[LABELS.index(key)] == 1 for item in examples])
            counts = np.bincount(groups[present], minlength=1)
            reasons[key] = _few(int(counts.sum()), int(counts.sum() - counts.max()))
    return reasons


def _few(positives: int, elsewhere: int) -> str:
    if positives >= MIN_POSITIVES and elsewhere >= MIN_ELSEWHERE:
        return "the criteria say it"
    return (
        f"not assessable, {positives} recordings with it, {elsewhere} outside of the group of "
        "databases that has most"
    )
