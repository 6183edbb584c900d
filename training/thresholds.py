"""From which probability a finding counts as present, for a stated purpose.

Thresholds are fitted on the calibration set, after calibration, and stored in the package.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from training.intervals import Array

FEW: Final = 5
"""Records with or without a finding, below which it is not calibrated and gets no threshold."""
UNDECIDED: Final = 0.5
"""Threshold of a finding for which none can be chosen."""

_NEVER: Final = 1e-6
"""Least distance of a threshold from 0 and 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """The probability from which a finding counts as present, and what it does."""

    key: str
    value: float
    sensitivity: float | None = None
    specificity: float | None = None
    """On the records it was chosen on."""
    reason: str | None = None
    """Why it is 0.5 for want of anything better."""


def thresholds(
    probabilities: npt.ArrayLike, targets: npt.ArrayLike, keys: Sequence[str], purpose: str
) -> tuple[float, ...]:
    """Return the threshold of each finding; see :func:`choose_thresholds`."""
    chosen = choose_thresholds(probabilities, targets, keys, purpose)
    return tuple(item.value for item in chosen)


def choose_thresholds(
    probabilities: npt.ArrayLike, targets: npt.ArrayLike, keys: Sequence[str], purpose: str
) -> tuple[Threshold, ...]:
    """Return thresholds that serve a purpose best, halfway between two probabilities seen.

    Parameters
    ----------
    probabilities, targets
        ``(records, keys)``, calibrated, of the calibration set; NaN where unknown.
    purpose
        ``"specificity 0.95"`` (as sensitive as that allows), ``"sensitivity 0.90"`` (as
        specific as that allows) or ``"f-max"``.

    Raises
    ------
    ValueError
        If the purpose is none of these.
    """
    choose = _purpose(purpose)
    columns = zip(
        keys,
        np.asarray(probabilities, np.float64).T,
        np.asarray(targets, np.float64).T,
        strict=True,
    )
    return tuple(_threshold(key, given, wanted, choose) for key, given, wanted in columns)


_Choose = Callable[[Array, Array, Array], "np.intp | int"]
"""From sensitivity, specificity and F1 of each candidate, rising, to the place of the best."""


def _purpose(purpose: str) -> _Choose:
    words = re.fullmatch(r"(specificity|sensitivity) (0?\.\d+)|f-max", purpose.strip().lower())
    if words is None:
        raise ValueError(
            f"{purpose!r} is no purpose of a threshold: it is"
            " 'specificity 0.95', 'sensitivity 0.90' (or another number below 1) or 'f-max'"
        )
    aim = float(words[2] or 0)
    if words[1] == "specificity":
        return lambda _, specificity, __: np.argmax(specificity >= aim)
    if words[1] == "sensitivity":
        return lambda sensitivity, _, __: np.flatnonzero(sensitivity >= aim)[-1]
    return lambda _, __, f1: np.argmax(f1)


def _threshold(key: str, given: Array, wanted: Array, choose: _Choose) -> Threshold:
    known = np.isfinite(given) & np.isfinite(wanted)
    scores, positive = given[known], wanted[known] > 0
    with_it, without = np.sort(scores[positive]), np.sort(scores[~positive])
    if min(len(with_it), len(without)) < FEW:
        reason = (
            f"{key} has no threshold of its own: {len(with_it)} records with it and"
            f" {len(without)} without; {FEW} of each are needed."
        )
        return Threshold(key=key, value=UNDECIDED, reason=reason)
    seen = np.unique(np.concatenate([scores, [0.0, 1.0]]))
    candidates = np.concatenate([[0.0], (seen[1:] + seen[:-1]) / 2, [1.0]])
    missed = np.searchsorted(with_it, candidates)
    alarms = len(without) - np.searchsorted(without, candidates)
    found = len(with_it) - missed
    sensitivity, specificity = found / len(with_it), 1 - alarms / len(without)
    best = choose(sensitivity, specificity, 2 * found / (2 * found + alarms + missed))
    return Threshold(
        key=key,
        value=float(np.clip(candidates[best], _NEVER, 1 - _NEVER)),
        sensitivity=float(sensitivity[best]),
        specificity=float(specificity[best]),
    )
