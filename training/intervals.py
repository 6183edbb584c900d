"""How sure a figure is: 95 % intervals by the bootstrap, over patients and not over recordings.

Recordings of one patient resemble each other, so whole patients are drawn, with replacement
(Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 8 and 13: the percentile
interval). A resample is a row of weights that says how often each recording was drawn; a
statistic takes many such rows at once.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Name = TypeVar("Name")
Statistic = Callable[[Array], Mapping[Name, Array]]
"""From weights, ``(resamples, recordings)``, to named figures, ``(resamples,)`` each."""

RESAMPLES: Final = 1000
_PERCENT: Final = (2.5, 97.5)
_CELLS: Final = 2**18
"""Weights that are held at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its 95 % interval; None where it cannot be had, and then why."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "–"
        if self.low is None or self.high is None:
            return rounded(self.value)
        return f"{rounded(self.value)} ({rounded(self.low)} to {rounded(self.high)})"


def rounded(value: float, digits: int = 3) -> str:
    """Return a number as it is read."""
    return f"{value:.{digits}f}".replace("-", "−")


def weights(patients: npt.ArrayLike, resamples: int, seed: int) -> Iterator[Array]:
    """Yield rows of weights, ``(rows, recordings)``: first one of ones, then the resamples.

    Parameters
    ----------
    patients
        Of each recording.
    """
    names, person = np.unique(np.asarray(patients), return_inverse=True)
    yield np.ones((1, len(person)))
    random = np.random.default_rng(seed)
    rows = max(1, _CELLS // max(1, len(person)))
    for at in range(0, resamples if len(names) else 0, rows):
        yield _drawn(random, len(names), min(rows, resamples - at))[:, person]


def _drawn(random: np.random.Generator, people: int, rows: int) -> Array:
    """Return how often each of so many people is drawn, ``(rows, people)``."""
    drawn = random.integers(people, size=(rows, people))
    places = drawn + people * np.arange(rows)[:, None]
    times = np.bincount(places.ravel(), minlength=rows * people)
    return times.reshape(rows, people).astype(np.float64)


def bootstrap(
    statistic: Statistic[Name], patients: npt.ArrayLike, *, resamples: int = RESAMPLES, seed: int
) -> Mapping[Name, Array]:
    """Return each figure of the sample itself and of its resamples, ``(1 + resamples,)``."""
    parts = [statistic(rows) for rows in weights(patients, resamples, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def interval(figures: Array, *, centred: bool = False) -> Interval:
    """Return the first figure, and between which two 95 % of the others lie.

    Parameters
    ----------
    figures
        Of :func:`bootstrap`. Resamples in which it is undefined (NaN) are left out; where that
        is most of them, there is no interval.
    centred
        Whether the resamples are moved so that their mean is the first figure: an error above 0
        (calibration) is larger in every resample, for records repeat there.
    """
    value, drawn = float(figures[0]), figures[1:]
    if not np.isfinite(value):
        return Interval(reason="It is undefined for these records.")
    defined = drawn[np.isfinite(drawn)]
    if 2 * len(defined) <= len(drawn):
        return Interval(value=value, reason="It is undefined in most resamples.")
    low, high = np.percentile(defined, _PERCENT)
    if centred:
        low, high = np.maximum(np.array([low, high]) + value - defined.mean(), 0)
    return Interval(value=value, low=float(low), high=float(high))
