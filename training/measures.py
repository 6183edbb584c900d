"""The figures by which answers are judged, for many weightings of the records at once.

Every function takes ``weights``, ``(resamples, records)``, and returns ``(resamples,)``: what
scikit-learn gives for ``sample_weight=weights[i]``, row by row, which the tests prove. NaN means
undefined.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from training.intervals import Array

Mask = npt.NDArray[np.bool_]

BINS: Final = 10
"""Of probability, equally wide (Guo et al., ICML 2017)."""


def ranking(scores: Array, positive: Mask, weights: Array) -> tuple[Array, Array]:
    """Return AUROC (equal scores count half) and AUPRC (average precision).

    Parameters
    ----------
    scores, positive
        ``(records,)``.
    """
    present, absent = np.flatnonzero(positive), np.flatnonzero(~positive)
    present = present[np.argsort(-scores[present], kind="stable")]
    absent = absent[np.argsort(-scores[absent], kind="stable")]
    falling, below = -scores[present], -scores[absent]
    drawn = np.take(weights, present, axis=1)
    alarms = np.zeros((len(weights), len(absent) + 1))
    np.cumsum(np.take(weights, absent, axis=1), axis=1, out=alarms[:, 1:])
    higher = np.take(alarms, np.searchsorted(below, falling), axis=1)
    level = np.take(alarms, np.searchsorted(below, falling, "right"), axis=1)
    last = np.searchsorted(falling, falling, "right") - 1  # of those with the same score
    found = np.take(np.cumsum(drawn, axis=1), last, axis=1)
    positives, negatives = drawn.sum(axis=1), alarms[:, -1]
    beaten = (drawn * (negatives[:, None] - (higher + level) / 2)).sum(axis=1)
    precision = (drawn * found / np.maximum(found + level, _TINY)).sum(axis=1)
    return ratio(beaten, positives * negatives), ratio(precision, positives)


_TINY: Final = 1e-300


def confusion(calls: Mask, positive: Mask, weights: Array) -> Array:
    """Return ``(resamples, 4)``: true and false positives, false and true negatives."""
    cells = [calls & positive, calls & ~positive, ~calls & positive, ~calls & ~positive]
    return np.asarray(weights @ np.stack(cells, axis=1).astype(np.float64))


def sensitivity(counts: Array) -> Array:
    """Return the share of those with it that are called present; ``counts`` of `confusion`."""
    return ratio(counts[:, 0], counts[:, 0] + counts[:, 2])


def specificity(counts: Array) -> Array:
    """Return the share of those without it that are called absent."""
    return ratio(counts[:, 3], counts[:, 1] + counts[:, 3])


def predictive_value(counts: Array) -> Array:
    """Return the share of those called present that have it."""
    return ratio(counts[:, 0], counts[:, 0] + counts[:, 1])


def f1(counts: Array) -> Array:
    """Return the harmonic mean of sensitivity and predictive value."""
    return ratio(2 * counts[:, 0], 2 * counts[:, 0] + counts[:, 1] + counts[:, 2])


def brier(probabilities: Array, positive: Mask, weights: Array) -> Array:
    """Return the mean squared difference between probability and truth (Brier 1950)."""
    return ratio(weights @ (probabilities - positive) ** 2, weights.sum(axis=1))


def reliability(probabilities: Array, positive: Mask, weights: Array) -> tuple[Array, Array]:
    """Return expected calibration error, and the share observed in each bin, ``(.., BINS)``."""
    inside = binned(probabilities)
    total = weights @ inside
    observed = weights @ (inside * positive[:, None])
    expected = weights @ (inside * probabilities[:, None])
    error = abs(observed - expected).sum(axis=1)
    return ratio(error, total.sum(axis=1)), ratio(observed, total)


def binned(probabilities: Array) -> Array:
    """Return which bin each probability lies in, ``(records, BINS)``, as ones and zeros."""
    place = np.clip((probabilities * BINS).astype(int), 0, BINS - 1)
    return np.asarray(np.eye(BINS)[place])


def error_by_chance(probabilities: Array, random: np.random.Generator, draws: int = 200) -> float:
    """Return the calibration error that as many records show on average if all is right.

    Truths are drawn from the probabilities themselves (consistency resampling, Bröcker & Smith,
    Weather and Forecasting 2007;22:651-661).
    """
    if not len(probabilities):
        return float("nan")
    inside = binned(probabilities)
    truths = random.random((draws, len(probabilities))) < probabilities
    apart = abs((truths - probabilities) @ inside).sum(axis=1)
    return float(apart.mean() / len(probabilities))


def deviation(predicted: Array, truth: Array, weights: Array) -> dict[str, Array]:
    """Return MAE, RMSE, bias (mean of predicted - truth) and Pearson's r."""
    total = weights.sum(axis=1)
    error = predicted - truth
    centre = truth.sum() / max(1, len(truth))  # so that squares stay small
    first, second = predicted - centre, truth - centre
    means = [ratio(weights @ values, total) for values in (first, second)]
    spread = [
        ratio(weights @ values**2, total) - mean**2
        for values, mean in zip((first, second), means, strict=True)
    ]
    together = ratio(weights @ (first * second), total) - means[0] * means[1]
    return {
        "MAE": ratio(weights @ abs(error), total),
        "RMSE": np.sqrt(ratio(weights @ error**2, total)),
        "bias": ratio(weights @ error, total),
        "r": ratio(together, np.sqrt(np.maximum(spread[0] * spread[1], 0))),
    }


def ratio(above: Array, below: Array) -> Array:
    """Return the quotient, NaN where nothing is below."""
    shape = np.broadcast_shapes(above.shape, below.shape)
    quotient: Array = np.divide(above, below, out=np.full(shape, np.nan), where=below > 0)
    return quotient
