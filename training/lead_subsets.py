"""How a net does when only some leads are there: which subsets it was tried with, and how well."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from torch import nn

from analysis.ecg import CHEST, LIMB, Lead
from analysis.recipe import Recipe
from training.answers import by_record
from training.calibrate import Calibration
from training.epochs import Examples, Rows
from training.evaluate import evaluate
from training.fit import predict
from training.intervals import Interval
from training.plan import Plan

SUBSETS: Final[Mapping[str, tuple[Lead, ...]]] = {
    "the limb leads": LIMB,
    "the chest leads": CHEST,
    "I and II": (Lead.I, Lead.II),
    "I": (Lead.I,),
    "II": (Lead.II,),
}
_RESAMPLES: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """How a net does with some leads alone."""

    name: str
    measure: str
    figure: Interval


def try_subsets(
    net: nn.Module, calibration: Calibration, plan: Plan, part: Examples
) -> tuple[Tried, ...]:
    """Return how a net does on recordings of which all but some leads were taken away.

    Parameters
    ----------
    part
        Recordings that taught it nothing, and need not be the test part. A lead that is taken
        away is a row of zeros, as one that is missing when an ECG is served.
    """
    ids = tuple(dict.fromkeys(part.ids))
    first = {record: row for row, record in reversed(list(enumerate(part.ids)))}
    rows = [first[record] for record in ids]
    found = []
    for name, kept in _of(plan.recipe):
        logits = predict(net, _silenced(part, kept))
        answers = by_record(calibration.apply(logits), part.ids, ids, plan.keys, plan.task)
        evaluation = evaluate(
            answers,
            part.targets[rows],
            keys=plan.keys,
            patients=[part.patients[row] for row in rows],
            task=plan.task,
            resamples=_RESAMPLES,
            seed=plan.seed,
        )
        measure = evaluation.leading
        found.append(Tried(name=name, measure=measure, figure=evaluation.figure(measure)))
    return tuple(found)


def _of(recipe: Recipe) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Yield the subsets that leave some of a recipe's leads, and which."""
    for name, leads in SUBSETS.items():
        kept = np.array([lead in leads for lead in recipe.leads])
        if kept.any() and not kept.all():
            yield name, kept


def _silenced(part: Examples, kept: npt.NDArray[np.bool_]) -> Rows:
    return np.asarray(part.waveforms[: len(part)]) * kept[:, None].astype(np.float32)


def sentence(tried: Sequence[Tried]) -> str:
    """Return what a card says of it."""
    listed = "; ".join(f"{item.name} alone {item.measure} {item.figure}" for item in tried)
    return f"Tried with fewer leads on the validation part: {listed}." if tried else ""
