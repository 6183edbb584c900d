"""The card of a model that was trained here, and the ECGs that prove it on every machine."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from statistics import median
from typing import Final

from analysis.card import Activation, Card, Label, Metric, Source
from analysis.ecg import ECG
from analysis.recipe import Recipe
from analysis.synthetic import Kind, simulate
from training.convert import INPUT, OUTPUT
from training.corpus import Record
from training.evaluate import Evaluation
from training.plan import Mode, Plan, Task
from training.shipped.corpus import SOURCES

ADULT: Final = 18.0
"""Years."""
ACTIVATIONS: Final[Mapping[Task, Activation]] = {
    Task.MULTI_LABEL: Activation.SIGMOID,
    Task.MULTI_CLASS: Activation.SOFTMAX,
    Task.REGRESSION: Activation.NONE,
}

_USE: Final = (
    "Research use. A second reader beside the measurements; a physician reviews every finding. "
    "It is no alarm and triggers no treatment."
)
_MEASURES: Final = ("AUROC", "AUPRC", "F1", "sensitivity", "specificity", "Brier", "ECE")
_LONGEST_NAME: Final = 40
_LONGEST_TEXT: Final = 8_000
_RATE: Final = 500.0
"""Hz of the ECGs of a self-test."""


def make_card(
    plan: Plan,
    *,
    version: str,
    created: date,
    thresholds: Sequence[float],
    evaluation: Evaluation,
    judged: str,
    taught: Iterable[Record],
    start: str,
    inherited: Sequence[Source],
    notes: Sequence[str],
) -> Card:
    """Return the card of a net.

    Parameters
    ----------
    thresholds
        One for each of the plan's keys.
    judged
        On which recordings `evaluation` was made, in words.
    taught
        The recordings that it learned from.
    start
        The name of its base.
    inherited
        The data sets that its base learned from.
    notes
        What limits it, one sentence each.
    """
    records = tuple(taught)
    own = tuple(_sources(records))
    return Card(
        name=card_name(plan.name),
        version=version,
        created=created.isoformat(),
        intended_use=_USE,
        limits=_limits(plan, start, len(records), notes),
        input=INPUT,
        output=OUTPUT,
        recipe=plan.recipe,
        activation=ACTIVATIONS[plan.task],
        labels=tuple(map(Label.of, plan.keys, thresholds)),
        threshold_purpose=f"{plan.threshold_purpose}, fitted on the calibration part.",
        minimum_age=_minimum_age(records),
        training_data=(*own, *(source for source in inherited if source not in own)),
        metrics=tuple(_metrics(evaluation, judged)),
    )


def card_name(name: str) -> str:
    """Return a plan's name with the characters that a card allows."""
    plain = re.sub(r"[^A-Za-z0-9 ._+-]+", "-", name).strip(" ._+-")
    return plain[:_LONGEST_NAME] or "model"


def self_test(recipe: Recipe) -> tuple[ECG, ...]:
    """Return simulated ECGs, of nobody, in which the recipe finds all its leads."""
    duration = max(10.0, recipe.samples / recipe.sampling_frequency)
    kinds = (Kind.SINUS, Kind.ATRIAL_FIBRILLATION)
    return tuple(simulate(kind, duration=duration, sampling_frequency=_RATE).ecg for kind in kinds)


def _limits(plan: Plan, start: str, records: int, notes: Sequence[str]) -> str:
    scratch = plan.mode is Mode.SCRATCH
    begun = f"random weights ({start})" if scratch else f"{start} (mode {plan.mode})"
    text = f"It learned from {records} recordings, from {begun}. {' '.join(notes)}"
    return text[:_LONGEST_TEXT].strip()


def _minimum_age(records: Sequence[Record]) -> float | None:
    ages = [record.age for record in records if record.age is not None]
    return None if ages and median(ages) < ADULT else ADULT


def _sources(records: Iterable[Record]) -> Iterable[Source]:
    counts = Counter(record.site for record in records)
    for site, count in sorted(counts.items()):
        licence, citation = SOURCES.get(site, ("not stated", "not stated"))
        yield Source(name=site, records=count, licence=licence, citation=citation)


def _metrics(evaluation: Evaluation, judged: str) -> Iterable[Metric]:
    for item in evaluation.keys:
        for measure in _MEASURES:
            figure = item.figures.get(measure)
            if figure is None or figure.value is None or figure.low is None or figure.high is None:
                continue
            yield Metric(
                label=item.key,
                data=judged,
                measure=measure,
                value=figure.value,
                low=figure.low,
                high=figure.high,
                positives=item.positives,
                negatives=item.records - item.positives,
            )
