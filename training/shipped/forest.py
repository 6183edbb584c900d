"""Decision trees as tensors: what measured numbers say of a finding, inside an ONNX graph.

Extremely randomised trees (Geurts 2006) make the most of few records and many measurements.
Each is filled up to a full tree and its comparisons are made soft, so that a feature a little
off on another machine moves the answer a little and never by a leaf; the graph then needs
nothing but gathering, products and sigmoids.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.ensemble import ExtraTreesClassifier
from torch import Tensor, nn
from torch.nn.functional import softplus

Array = npt.NDArray[np.float64]

DEPTH = 5
TREES = 150
LEAST_LEAF = 3
"""Records in a leaf at least."""
PART = 0.2
"""Of the features, tried at each split."""
SOFTNESS = 0.05
"""Width of a comparison, in standard deviations of the feature."""
_MARGIN = (-4.0, 2.0)
"""Between which the margin of a criterion counts."""
_FLOOR = 0.01
"""Probability added to either side, so that a forest is never certain."""


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """What stands for a missing feature, and how far one spreads, ``(features,)``."""

    median: Array
    spread: Array

    def fill(self, features: Array) -> Array:
        """Return the features with the median where one is NaN."""
        return np.where(np.isnan(features), self.median, features)


def scale(features: Array) -> Scale:
    """Return the scale of ``(records, features)``; a feature that is never there counts as 0."""
    known = np.isfinite(features)
    filled = np.where(known, features, np.nan)
    some = known.any(axis=0)
    median = np.zeros(features.shape[1])
    median[some] = np.nanmedian(filled[:, some], axis=0)
    middle = np.where(known, features, median)
    low, high = np.quantile(middle, (0.05, 0.95), axis=0)
    spread = np.where(high > low, (high - low) / 3.29, middle.std(axis=0))
    return Scale(median, np.where(spread > 0, spread, 1.0))


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """Full trees for one label.

    Parameters
    ----------
    column
        ``(trees, nodes)``: which feature a node looks at.
    limit
        ``(trees, nodes)``: up to which value it goes left.
    leaf
        ``(trees, leaves)``: part of the records that have the label.
    """

    column: npt.NDArray[np.int64]
    limit: Array
    leaf: Array


def grow(
    features: Array, truth: Array, weight: Array, columns: Sequence[int], *, seed: int
) -> Forest:
    """Return a forest for one label.

    Parameters
    ----------
    features
        ``(records, features)`` without NaN.
    truth, weight
        ``(records,)``: 0 or 1, and how much a record counts.
    columns
        The features it may look at.
    """
    trees = ExtraTreesClassifier(
        TREES, max_depth=DEPTH, min_samples_leaf=LEAST_LEAF, max_features=PART, random_state=seed
    )
    trees.fit(features[:, columns], truth, sample_weight=weight)
    full = [_full(tree.tree_, np.asarray(columns)) for tree in trees.estimators_]
    column, limit, leaf = (np.stack(parts) for parts in zip(*full, strict=True))
    return Forest(column, limit, leaf)


def _full(tree: Any, columns: npt.NDArray[np.int64]) -> tuple[npt.NDArray[Any], ...]:
    """Return columns, limits and leaves of a tree filled up to its full depth.

    Below a leaf both ways lead to its value.
    """
    places = np.zeros(2 ** (DEPTH + 1) - 1, dtype=np.intp)
    for place in range(2**DEPTH - 1):
        node = places[place]
        ends = tree.children_left[node] < 0
        places[2 * place + 1] = node if ends else tree.children_left[node]
        places[2 * place + 2] = node if ends else tree.children_right[node]
    inner, leaves = places[: 2**DEPTH - 1], places[2**DEPTH - 1 :]
    feature = tree.feature[inner]
    value = tree.value[leaves, 0]
    return (
        np.where(feature >= 0, columns[np.maximum(feature, 0)], 0),
        np.where(feature >= 0, tree.threshold[inner], 0.0),
        value[:, 1] / value.sum(axis=1),
    )


class SoftForests(nn.Module):
    """Logits of several labels, each by a forest of its own, from ``(batch, features)``.

    Parameters
    ----------
    forests
        One for each label.
    measured
        Scale of the features.
    margins
        For each label the feature whose value is added to its logit, or None.
    """

    column: Tensor
    limit: Tensor
    leaf: Tensor
    median: Tensor
    width: Tensor
    paths: Tensor
    margin: Tensor
    counted: Tensor

    def __init__(
        self, forests: Sequence[Forest], measured: Scale, margins: Sequence[int | None] = ()
    ) -> None:
        super().__init__()
        column = np.concatenate([forest.column for forest in forests])
        limit = np.concatenate([forest.limit for forest in forests])
        leaf = np.concatenate([forest.leaf for forest in forests])
        middle, width = measured.median[column], SOFTNESS * measured.spread[column]
        self.labels, self.trees = len(forests), len(leaf) // len(forests)
        self._keep("column", torch.from_numpy(column.reshape(-1)))
        self._keep("limit", torch.from_numpy((limit - middle) / width))
        self._keep("leaf", torch.from_numpy(leaf))
        self._keep("median", torch.from_numpy(measured.median))
        self._keep("width", torch.from_numpy(SOFTNESS * measured.spread))
        self._keep("paths", torch.from_numpy(_paths()))
        places = list(margins) or [None] * self.labels
        self._keep("margin", torch.tensor([place or 0 for place in places]))
        self._keep("counted", torch.tensor([float(place is not None) for place in places]))

    def _keep(self, name: str, values: Tensor) -> None:
        self.register_buffer(name, values.float() if values.is_floating_point() else values)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits, ``(batch, labels)``; NaN counts as the feature's median."""
        known = torch.where(features == features, features, self.median)  # noqa: PLR0124 - NaN is not itself
        scaled = torch.clamp((known - self.median) / self.width, -1e4, 1e4)
        beyond = scaled[:, self.column].reshape(-1, *self.limit.shape) - self.limit
        against = torch.cat([softplus(beyond), softplus(-beyond)], dim=2)  # log-odds of a way
        reached = torch.exp(-against @ self.paths)
        each = (reached * self.leaf).sum(dim=2)
        chance = each.reshape(-1, self.labels, self.trees).mean(dim=2)
        added = torch.clamp(known[:, self.margin], *_MARGIN) * self.counted
        return torch.log((chance + _FLOOR) / (1 - chance + _FLOOR)) + added


def _paths() -> npt.NDArray[np.float32]:
    """Return which ways lead to each leaf, ``(2 * nodes, leaves)``: left ways, then right ones."""
    nodes = 2**DEPTH - 1
    paths = np.zeros((2 * nodes, 2**DEPTH), dtype=np.float32)
    for leaf in range(2**DEPTH):
        place = 0
        for level in reversed(range(DEPTH)):
            right = leaf >> level & 1
            paths[place + nodes * right, leaf] = 1
            place = 2 * place + 1 + right
    return paths
