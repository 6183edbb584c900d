"""How well held-out answers agree with the labels: calibration, thresholds, figures, intervals.

Nothing that is judged on a database was chosen on it: calibration and threshold of each group
of databases come from the answers on the others, and those from models that never saw them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from analysis.card import Metric

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.intp]
Measure = Callable[[Bools, Array], float]

SPECIFICITY: Final = 0.95
"""That a threshold keeps, but for findings with an aim of their own."""
SPECIFICITIES: Final = {"atrial_fibrillation": 0.97}
BOOTSTRAPS: Final = 500
SEED: Final = 20
MIN_POSITIVES: Final = 20
MIN_ELSEWHERE: Final = 3
"""Positives outside of the group that has most, for a figure that speaks for databases."""
MIN_PER_GROUP: Final = 3
MIN_AUROC: Final = 0.75
"""Below it a finding is not shipped."""
_CALIBRATED = 50
"""Positives from which a calibration error says something."""
_PARTS = 5
"""Of the records, each calibrated on the others."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """What held-out models said of one label, ``(records,)``.

    Parameters
    ----------
    truth
        1, 0; NaN where the source does not say.
    logit
        Before calibration.
    group
        Databases held out together have one number.
    answered
        Where the analysis does not abstain.
    """

    key: str
    truth: Array
    logit: Array
    group: Numbers
    answered: Bools

    def where(self, chosen: Bools) -> "Answers":
        """Return the chosen records."""
        return Answers(
            key=self.key,
            truth=self.truth[chosen],
            logit=self.logit[chosen],
            group=self.group[chosen],
            answered=self.answered[chosen],
        )


@dataclass(frozen=True, slots=True)
class Calibration:
    """A logit to a probability (Platt 1999), and from which on a finding is present."""

    scale: float
    offset: float
    threshold: float

    def probability(self, logit: Array) -> Array:
        """Return probabilities."""
        return np.asarray(expit(self.scale * logit + self.offset))


def calibrate(answers: Answers) -> Calibration:
    """Return the calibration of answers, and the threshold that keeps the specificity aimed at."""
    known = answers.where(~np.isnan(answers.truth) & answers.answered)
    scale, offset = _platt(known.logit, known.truth)
    probability = expit(scale * known.logit + offset)
    aim = SPECIFICITIES.get(answers.key, SPECIFICITY)
    threshold = np.quantile(probability[known.truth == 0], aim, method="higher")
    return Calibration(scale, offset, float(np.clip(threshold, 0.01, 0.99)))


def _platt(logit: Array, truth: Array | Bools) -> tuple[float, float]:
    """Return scale and offset of a logit, by maximum likelihood."""
    fitted = LogisticRegression(C=1e4).fit(logit[:, None], truth)
    return max(float(fitted.coef_[0, 0]), 1e-3), float(fitted.intercept_[0])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """One label on records whose source says something of it; none chosen for its answer."""

    key: str
    truth: Bools
    logit: Array
    group: Numbers
    answered: Bools
    probability: Array
    """Calibrated on the other groups."""
    present: Bools
    """By the threshold of the other groups."""

    def where(self, chosen: Bools) -> "Judged":
        """Return the chosen records."""
        return Judged(
            key=self.key,
            truth=self.truth[chosen],
            logit=self.logit[chosen],
            group=self.group[chosen],
            answered=self.answered[chosen],
            probability=self.probability[chosen],
            present=self.present[chosen],
        )

    @property
    def area(self) -> float:
        """AUROC where the analysis does not abstain."""
        return auroc(self.truth[self.answered], self.logit[self.answered])

    @property
    def counts(self) -> tuple[int, int]:
        """Positives, and those outside of the group with most."""
        counts = np.bincount(self.group[self.truth & self.answered], minlength=1)
        return int(counts.sum()), int(counts.sum() - counts.max())

    @property
    def assessable(self) -> bool:
        """Whether there are enough positives, in more than one group."""
        total, elsewhere = self.counts
        return total >= MIN_POSITIVES and elsewhere >= MIN_ELSEWHERE


def judge(answers: Answers) -> Judged:
    """Return the answers calibrated across groups."""
    known = answers.where(~np.isnan(answers.truth))
    probability = np.full(known.truth.shape, np.nan)
    present = np.zeros(known.truth.shape, np.bool_)
    for group in np.unique(known.group):
        here = known.group == group
        others = known.where(~here)
        if len(set(others.truth[others.answered])) > 1:
            found = calibrate(others)
            probability[here] = found.probability(known.logit[here])
            present[here] = probability[here] >= found.threshold
    return Judged(
        key=answers.key,
        truth=known.truth == 1,
        logit=known.logit,
        group=known.group,
        answered=known.answered,
        probability=probability,
        present=present,
    )


def pooled(judged: Judged, where: str) -> list[Metric]:
    """Return the figures of one label over all its records; ``where`` is what they are called."""
    every = np.isfinite(judged.probability)
    said = judged.answered & every
    present = judged.present.astype(np.float64)
    wanted = [
        ("AUROC", auroc, said, judged.logit),
        ("AUROC, abstentions too", auroc, every, judged.logit),
        ("coverage", _share, every, judged.answered.astype(np.float64)),
        ("sensitivity", _sensitivity, said, present),
        ("specificity", _specificity, said, present),
    ]
    if judged.truth[said].sum() >= _CALIBRATED:
        wanted += [
            ("ECE", calibration_error, said, judged.probability),
            ("ECE by chance", chance_error, said, judged.probability),
            ("ECE, recalibrated", calibration_error, said, _recalibrated(judged, said)),
        ]
    return [
        _metric((judged.key, where, name), measure, judged.truth[part], values[part])
        for name, measure, part, values in wanted
    ]


def area(judged: Judged, where: str) -> list[Metric]:
    """Return the AUROC of a group of records, none where too few are there."""
    said = judged.where(judged.answered)
    positives = int(said.truth.sum())
    if min(positives, len(said.truth) - positives) < MIN_PER_GROUP:
        return []
    return [_metric((judged.key, where, "AUROC"), auroc, said.truth, said.logit)]


def _metric(of: tuple[str, str, str], measure: Measure, truth: Bools, score: Array) -> Metric:
    key, data, name = of
    low, high = interval(measure, truth, score)
    return Metric(
        label=key,
        data=data,
        measure=name,
        value=round(measure(truth, score), 4),
        low=round(low, 4),
        high=round(high, 4),
        positives=int(truth.sum()),
        negatives=int((~truth).sum()),
    )


def interval(measure: Measure, truth: Bools, score: Array) -> tuple[float, float]:
    """Return the 95 % bootstrap interval over records."""
    random = np.random.default_rng(SEED)
    values: list[float] = []
    while len(values) < BOOTSTRAPS:
        drawn = random.integers(len(truth), size=len(truth))
        if 0 < truth[drawn].sum() < len(truth):
            values.append(measure(truth[drawn], score[drawn]))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def auroc(truth: Bools, score: Array) -> float:
    """Return the area under the ROC curve, ties counting half (Mann and Whitney 1947)."""
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return 0.0
    above = rankdata(score)[truth].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def calibration_error(truth: Bools, probability: Array) -> float:
    """Return the expected calibration error over ten bins of equal width (Guo 2017)."""
    bins = np.minimum((10 * probability).astype(np.intp), 9)
    gaps = [abs((probability[bins == at] - truth[bins == at]).sum()) for at in np.unique(bins)]
    return float(sum(gaps) / len(truth))


def chance_error(truth: Bools, probability: Array) -> float:  # noqa: ARG001 - as of a measure
    """Return the calibration error to expect of perfect probabilities on so few records.

    In each bin the mean deviation of a sum of draws, taken as normal.
    """
    bins = np.minimum((10 * probability).astype(np.intp), 9)
    spread = np.bincount(bins, probability * (1 - probability))
    return float(np.sqrt(2 / np.pi * spread).sum() / len(probability))


def _recalibrated(judged: Judged, said: Bools) -> Array:
    """Return probabilities for each fifth of the records as calibrated on the other four."""
    fifth = np.arange(len(said)) % _PARTS
    probability = np.empty(len(said))
    for part in range(_PARTS):
        rest = said & (fifth != part)
        scale, offset = _platt(judged.logit[rest], judged.truth[rest])
        here = fifth == part
        probability[here] = expit(scale * judged.logit[here] + offset)
    return probability


def _share(truth: Bools, answered: Array) -> float:  # noqa: ARG001 - the signature of a measure
    return float(answered.mean())


def _sensitivity(truth: Bools, present: Array) -> float:
    return float(present[truth].mean())


def _specificity(truth: Bools, present: Array) -> float:
    return float(1 - present[~truth].mean())
