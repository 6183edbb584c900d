"""Several ways to learn the same: each on the same recordings, judged on the same, over seeds.

What several seeds show is averaged; its interval draws patients, the same ones for every seed and
every way, and seeds (a bootstrap of two levels), so that a patient who stands in the test part
of several seeds counts as one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
from torch import nn

from analysis.recipe import Recipe
from training.answers import by_record, examples
from training.caches import Cache
from training.epochs import Examples
from training.fit import BEST, Fitted, fit, predict
from training.intervals import RESAMPLES, Array, Interval, bootstrap, interval
from training.labels import Values
from training.measures import ranking, ratio
from training.plan import Mode, Plan
from training.prepare import CannotTrain, Prepared, open_corpus, prepare
from training.splits import Order

LEAST: Final = 3
"""Patients with and without a finding in a test part, below which it is not judged there."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ground:
    """What a plan learns from and is judged on, in the form of the input."""

    plan: Plan
    """With the keys that can be learned, and the recipe of the base."""
    prepared: Prepared
    cache: Cache
    inherited: frozenset[str] = frozenset()
    """The recordings from which its base learned."""

    def examples(self, ids: Sequence[str]) -> Examples:
        """Return the rows of some recordings."""
        return examples(self.prepared, self.cache, ids)

    def learned(
        self, net: nn.Module, plan: Plan, train: Sequence[str], watch: Sequence[str], folder: Path
    ) -> Fitted:
        """Return the net after it learned from some recordings, others choosing the epoch.

        The corpus notes of the checkpoint that stays in the folder from whom it learned.
        """
        corpus = self.prepared.corpus
        parts = self.examples(train), self.examples(watch)
        try:
            fitted = fit(net, plan, *parts, folder, embeddings=corpus.embeddings)
        except ValueError as error:
            raise CannotTrain(str(error)) from None
        inherited = frozenset() if plan.mode is Mode.SCRATCH else self.inherited
        corpus.learned(checkpoint_digest(folder), {*train, *watch, *inherited})
        return fitted

    def judged(self, way: str, net: nn.Module, ids: Sequence[str]) -> "Trial":
        """Return what a net says of some recordings."""
        part = self.examples(ids)
        logits = predict(net, part.waveforms)
        return Trial(
            way=way,
            seed=self.plan.seed,
            answers=by_record(logits, part.ids, ids, self.plan.keys, self.plan.task),
            truth=self.prepared.matrix(ids),
            patients=tuple(self.prepared.records[record].patient for record in ids),
        )


def checkpoint_digest(folder: Path) -> str:
    """Return the SHA-256 of the weights that a fit left in its folder, as the corpus names them."""
    return sha256((folder / BEST).read_bytes()).hexdigest()


def ground(plan: Plan, recipe: Recipe, *, processes: int = 1, model: str | None = None) -> Ground:
    """Return what a plan learns from.

    Parameters
    ----------
    model
        Digest of the base: recordings from which it learned judge nothing, and what learns from
        it has learned from them too.

    Raises
    ------
    training.prepare.CannotTrain
        If nothing can be learned.
    """
    corpus = open_corpus(plan)
    prepare(plan)  # before a minute is spent
    cache = corpus.cache(recipe, processes=processes)
    taught = corpus.taught(model) if model else frozenset()
    prepared = prepare(plan, cache.unusable, taught=taught)
    return Ground(
        plan=replace(plan, keys=prepared.keys, recipe=recipe),
        prepared=prepared,
        cache=cache,
        inherited=taught,
    )


def with_seed(plan: Plan, seed: int) -> Plan:
    """Return the plan with another seed, for its split too."""
    order = plan.split if isinstance(plan.split, Order) else Order()
    return replace(plan, seed=seed, split=replace(order, seed=seed))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """What one way to learn came to with one seed."""

    way: str
    seed: int
    answers: Array
    """Logits, ``(records, keys)``."""
    truth: Values
    patients: tuple[str, ...]


def macro(trials: Sequence[Trial], way: str, *, resamples: int = RESAMPLES) -> Interval:
    """Return the macro AUROC of a way, the mean over its seeds."""
    return interval(_mean_over_seeds(_drawn(trials, resamples)[way]))


def ahead(trials: Sequence[Trial], way: str, other: str, *, resamples: int = RESAMPLES) -> Interval:
    """Return by how much a way's macro AUROC is above another's; pairs of one seed."""
    drawn = _drawn(trials, resamples)
    return interval(_mean_over_seeds(drawn[way] - drawn[other]))


def _drawn(trials: Sequence[Trial], resamples: int) -> Mapping[str, Array]:
    """Return macro AUROC by way, ``(seeds, 1 + resamples)``; seeds in rising order."""
    ordered = sorted(trials, key=lambda trial: trial.seed)
    ends = np.cumsum([len(trial.patients) for trial in ordered])
    patients = [patient for trial in ordered for patient in trial.patients]

    def statistic(weights: Array) -> Mapping[int, Array]:
        parts = np.split(weights, ends[:-1], axis=1)
        return {
            at: _macro(trial, part)
            for at, (trial, part) in enumerate(zip(ordered, parts, strict=True))
        }

    found = bootstrap(statistic, patients, resamples=resamples, seed=0)
    ways = dict.fromkeys(trial.way for trial in ordered)
    return {
        way: np.stack([found[at] for at, trial in enumerate(ordered) if trial.way == way])
        for way in ways
    }


def _macro(trial: Trial, weights: Array) -> Array:
    """Return the mean AUROC over the findings that can be judged, ``(resamples,)``."""
    figures = []
    for column, truth in zip(trial.answers.T, trial.truth.T, strict=True):
        rows = np.isfinite(truth) & np.isfinite(column)
        positive = truth[rows] > 0
        if min(positive.sum(), (~positive).sum()) >= LEAST:
            figures.append(ranking(column[rows], positive, weights[:, rows])[0])
    if not figures:
        return np.full(len(weights), np.nan)
    stacked = np.stack(figures)
    known = np.isfinite(stacked)
    return ratio(np.nan_to_num(stacked).sum(axis=0), known.sum(axis=0).astype(np.float64))


def _mean_over_seeds(figures: Array) -> Array:
    """Return the mean over the seeds, and over seeds drawn anew in each resample."""
    seeds, columns = figures.shape
    chosen = np.random.default_rng(1).integers(seeds, size=(seeds, columns))
    chosen[:, 0] = np.arange(seeds)
    return np.asarray(np.take_along_axis(figures, chosen, axis=0).mean(axis=0))
