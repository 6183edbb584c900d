"""How far answers are from what is known: what training makes smaller, and what it is watched by.

A target is a number, or NaN where nothing is known. What is not known neither costs nor counts.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional

from training.plan import Loss, Metric, Task

Array = npt.NDArray[np.float64]
Targets = npt.NDArray[np.float32]
LossOf = Callable[[Tensor, Tensor], Tensor]
"""From logits and targets, both ``(batch, outputs)``, to one number."""

_GAMMA: Final = 2.0
"""Of the focal loss, as Lin 2017 found it best."""
_HEAVIEST: Final = 10.0
"""Weight of the rarest beside the mean."""


def settled(targets: Targets, task: Task) -> Targets:
    """Return the targets in the form that losses take.

    Of classes that exclude each other, one that is present makes the others absent; a row with
    none present, or with two, is unknown as a whole.
    """
    if task is not Task.MULTI_CLASS:
        return targets
    one = (targets == 1).sum(axis=1, keepdims=True) == 1
    return np.where(one, np.nan_to_num(targets), np.nan).astype(np.float32)


def class_weights(targets: Targets, task: Task) -> Targets:
    """Return what absent and present weigh, ``(2, outputs)``, so that both count alike.

    Of classes that exclude each other, the one that is present has all the weight.
    """
    counts = np.stack([(targets == value).sum(axis=0) for value in (0, 1)])
    total, among = counts.sum(axis=0), len(counts)
    if task is Task.MULTI_CLASS:
        total, among = counts[1].sum(), counts.shape[1]
    weights = total / (among * np.maximum(counts, 1))
    weights = np.asarray(np.clip(weights, 1 / _HEAVIEST, _HEAVIEST), np.float32)
    if task is Task.MULTI_CLASS:
        weights[0] = 0
    return weights


def make_loss(task: Task, kind: Loss, weights: Targets | None = None) -> LossOf:
    """Return the mean loss over what is known; 0 where nothing is.

    Parameters
    ----------
    weights
        As :func:`class_weights` gives them.
    """
    weigh = None if weights is None else torch.from_numpy(weights)
    gamma = _GAMMA if kind is Loss.FOCAL else 0.0
    each = _EACH[task]

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        known = targets.isfinite()
        wanted = targets.nan_to_num()
        heavy = known.float()
        if weigh is not None and task is not Task.REGRESSION:
            absent, present = weigh.to(logits.device)
            heavy = heavy * (absent + (present - absent) * wanted)
        costs = each(logits.float(), wanted, gamma)
        return (heavy * costs).sum() / heavy.sum().clamp(min=1e-6)

    return loss


def _binary(logits: Tensor, wanted: Tensor, gamma: float) -> Tensor:
    costs = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    if not gamma:
        return costs
    likely = torch.sigmoid(logits)
    return costs * (likely * (1 - wanted) + (1 - likely) * wanted) ** gamma


def _classes(logits: Tensor, wanted: Tensor, gamma: float) -> Tensor:
    """Return the cost of each row, in the columns that have a share of it."""
    log = functional.log_softmax(logits, dim=1)
    costs = -log if not gamma else -log * (1 - log.exp()) ** gamma
    return (costs * wanted).sum(dim=1, keepdim=True).expand_as(wanted)


def _square(logits: Tensor, wanted: Tensor, gamma: float) -> Tensor:  # noqa: ARG001 - as the others
    return (logits - wanted) ** 2


_EACH: Final = {Task.MULTI_LABEL: _binary, Task.MULTI_CLASS: _classes, Task.REGRESSION: _square}


# What is watched


def score(metric: Metric, logits: Array, targets: Targets, task: Task) -> float:
    """Return a metric over what is known; NaN where nothing can be said.

    Parameters
    ----------
    logits, targets
        ``(rows, outputs)``; the targets settled.
    """
    if task is Task.MULTI_CLASS:
        logits = functional.log_softmax(torch.from_numpy(logits), dim=1).numpy()
    found = [
        _SCORES[metric](column[known], truth[known])
        for column, truth in zip(_decided(metric, logits, task).T, targets.T, strict=True)
        if (known := np.isfinite(truth)).any()
    ]
    told = [value for value in found if np.isfinite(value)]
    return float(np.mean(told)) if told else float("nan")


def _decided(metric: Metric, logits: Array, task: Task) -> Array:
    """Return the logits; of classes, for F1, above 0 for the likeliest alone."""
    if metric is not Metric.F1 or task is not Task.MULTI_CLASS:
        return logits
    return np.where(logits == logits.max(axis=1, keepdims=True), 1.0, -1.0)


def auroc(scores: Array, truth: npt.NDArray[np.floating]) -> float:
    """Return the area under the ROC curve, ties by half; NaN of one class alone (Hanley 1982)."""
    present = truth == 1
    count, others = int(present.sum()), int((~present).sum())
    if not count or not others:
        return float("nan")
    ranks = rankdata(scores)[present].sum()
    return float((ranks - count * (count + 1) / 2) / (count * others))


def _auprc(scores: Array, truth: npt.NDArray[np.floating]) -> float:
    """Return the mean precision at each step of recall; equal scores are one step."""
    count = int((truth == 1).sum())
    if not 0 < count < len(truth):
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    steps = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(truth[order] == 1)[steps]
    return float((np.diff(hits, prepend=0) * hits / (steps + 1)).sum() / count)


def _f1(scores: Array, truth: npt.NDArray[np.floating]) -> float:
    said, true = scores > 0, truth == 1
    if not true.any():
        return float("nan")
    return float(2 * (said & true).sum() / (said.sum() + true.sum()))


def _mae(scores: Array, truth: npt.NDArray[np.floating]) -> float:
    return float(np.abs(scores - truth).mean())


_SCORES: Final = {Metric.AUROC: auroc, Metric.AUPRC: _auprc, Metric.F1: _f1, Metric.MAE: _mae}
