"""From logits to probabilities that mean what they say.

A calibration is fitted on the calibration set, which neither taught nor judges. It never
changes the order of two records by one finding, and goes into the ONNX graph behind the head, so
that the node serves exactly what was judged. Its tensors are called ``calibration.*``; fine-tuning
from a package drops them by that name.

"temperature" fits a scale and an offset for each finding (Platt 1999); for classes that exclude
each other one temperature and an offset for each class (bias-corrected temperature scaling,
Alexandari et al., ICML 2020). A temperature alone cannot undo a loss that weighed rare findings
up. "isotonic" is isotonic regression, its steps joined by lines at their centres (Oron &
Flournoy, Stat Biopharm Res 2017;9:258-267), so that it keeps the order.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit, logsumexp, softmax
from sklearn.isotonic import IsotonicRegression
from torch import Tensor, fx, nn
from torch.nn import functional

from training.convert import Imported
from training.intervals import Array
from training.plan import Calibration as Way
from training.plan import Task
from training.thresholds import FEW, choose_thresholds, thresholds

__all__ = [
    "FEW",
    "Calibrated",
    "Calibration",
    "Curve",
    "calibrate",
    "choose_thresholds",
    "thresholds",
    "without_calibration",
]

_PREFIX: Final = "calibration"
_SCALES: Final = (-4.0, 4.0)
"""Logarithm of the least and the greatest scale that is fitted."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A rising line of straight pieces, from a logit to a calibrated one.

    Parameters
    ----------
    knots, values
        Where pieces meet, and what the curve is there; at least one.
    before, after
        Slope before the first knot and after the last.
    """

    knots: tuple[float, ...] = (0.0,)
    values: tuple[float, ...] = (0.0,)
    before: float = 1.0
    after: float = 1.0

    def __post_init__(self) -> None:
        for name in ("knots", "values"):  # in the precision of the graph, to be the same there
            rounded = np.asarray(getattr(self, name), np.float32).tolist()
            object.__setattr__(self, name, tuple(rounded))

    def __call__(self, logits: Array) -> Array:
        """Return the calibrated logits, of the same shape; NaN stays NaN."""
        before = self.before * np.minimum(logits - self.knots[0], 0)
        after = self.after * np.maximum(logits - self.knots[-1], 0)
        return np.asarray(before + np.interp(logits, self.knots, self.values) + after)

    @property
    def is_line(self) -> bool:
        """Whether it is straight everywhere."""
        return len(self.knots) == 1 and self.before == self.after


def line(scale: float, offset: float) -> Curve:
    """Return the curve ``scale * logit + offset``."""
    return Curve((0.0,), (offset,), scale, scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What turns a net's logits into probabilities; made by :func:`calibrate`."""

    task: Task
    way: Way
    curves: tuple[Curve, ...]
    """One for each output."""
    notes: tuple[str, ...] = ()
    """A sentence for each output that stayed as it was, or about the whole."""

    def calibrated(self, logits: npt.ArrayLike) -> Array:
        """Return calibrated logits, ``(records, outputs)``: before sigmoid or softmax."""
        given = np.asarray(logits, np.float64)
        if self._reads_shares:
            given = log_softmax(given, axis=1)
        columns = [curve(column) for curve, column in zip(self.curves, given.T, strict=True)]
        return np.stack(columns, axis=1)

    def apply(self, logits: npt.ArrayLike) -> Array:
        """Return probabilities, ``(records, outputs)``; of a regression, the values."""
        return np.asarray(_ACTIVATIONS[self.task](self.calibrated(logits)))

    def module(self) -> nn.Module:
        """Return :meth:`calibrated` as a layer without anything to learn."""
        if self.way is Way.NONE:
            return nn.Identity()
        if all(curve.is_line for curve in self.curves):
            return Lines(self.curves)
        return Curves(self.curves, shares=self._reads_shares)

    @property
    def _reads_shares(self) -> bool:
        return self.task is Task.MULTI_CLASS and self.way is Way.ISOTONIC


_ACTIVATIONS: Final[dict[Task, Callable[[Array], Any]]] = {
    Task.MULTI_LABEL: expit,
    Task.MULTI_CLASS: lambda logits: softmax(logits, axis=1),
    Task.REGRESSION: np.asarray,
}


class Lines(nn.Module):
    """A scale and an offset for each output."""

    scale: Tensor
    offset: Tensor

    def __init__(self, curves: Sequence[Curve]) -> None:
        super().__init__()
        self.register_buffer("scale", _row([curve.after for curve in curves]))
        self.register_buffer("offset", _row([curve(np.zeros(1))[0] for curve in curves]))

    def forward(self, logits: Tensor) -> Tensor:
        """Return calibrated logits, ``(batch, outputs)``."""
        return logits * self.scale + self.offset


class Curves(nn.Module):
    """Straight pieces, each the part of the logit that lies within it times its slope.

    Parameters
    ----------
    shares
        Whether the curves read logarithms of softmax instead of logits.
    """

    first: Tensor
    start: Tensor
    before: Tensor
    knots: Tensor
    widths: Tensor
    slopes: Tensor

    def __init__(self, curves: Sequence[Curve], *, shares: bool) -> None:
        super().__init__()
        self.shares = shares
        most = max(len(curve.knots) for curve in curves)
        pieces = [_pieces(curve, most) for curve in curves]
        for name, part in zip(
            ("knots", "widths", "slopes"), zip(*pieces, strict=True), strict=True
        ):
            self.register_buffer(name, torch.tensor(np.array([part]), dtype=torch.float32))
        self.register_buffer("first", _row([curve.knots[0] for curve in curves]))
        self.register_buffer("start", _row([curve.values[0] for curve in curves]))
        self.register_buffer("before", _row([curve.before for curve in curves]))

    def forward(self, logits: Tensor) -> Tensor:
        """Return calibrated logits, ``(batch, outputs)``."""
        given = functional.log_softmax(logits, dim=1) if self.shares else logits
        below = functional.relu(self.first - given) * self.before
        reached = functional.relu(given.unsqueeze(2) - self.knots)
        within = torch.minimum(reached, self.widths)
        return self.start - below + (within * self.slopes).sum(dim=2)


def _pieces(curve: Curve, most: int) -> tuple[list[float], list[float], list[float]]:
    """Return start, width and slope of each piece from the first knot on, ``most`` in all."""
    knots, values = np.array(curve.knots), np.array(curve.values)
    spare = most - len(knots)
    widths = np.diff(knots)
    slopes = np.diff(values) / widths
    return (
        [*knots, *[knots[-1]] * spare],
        [*widths, _WIDE, *[0.0] * spare],
        [*slopes, curve.after, *[0.0] * spare],
    )


_WIDE: Final = 1e30
"""Width of the last piece, which has no end."""


def _row(values: Sequence[float]) -> Tensor:
    return torch.tensor([values], dtype=torch.float32)


class Calibrated(nn.Module):
    """A net with its calibration behind it: what is exported, parity proven and served."""

    def __init__(self, net: nn.Module, calibration: Calibration) -> None:
        super().__init__()
        self.features = getattr(net, "features", 0)
        self.net = net
        self.calibration = calibration.module()

    def forward(self, waveform: Tensor) -> Tensor:
        """Return calibrated logits, ``(batch, outputs)``, from ``(batch, leads, samples)``."""
        calibrated: Tensor = self.calibration(self.net(waveform))
        return calibrated


def without_calibration(net: nn.Module) -> nn.Module:
    """Return the net without its calibration, found by its name; without one, the net itself.

    Parameters
    ----------
    net
        A :class:`Calibrated`, or what :func:`training.convert.to_torch` made of one; the latter
        is changed.
    """
    if isinstance(net, Calibrated):
        return net.net
    if isinstance(net, Imported) and isinstance(net.head, fx.GraphModule):
        net.head = _cut(net.head)
    return net


def _cut(head: fx.GraphModule) -> nn.Module:
    """Return what stands before the calibration; a single layer as itself."""
    graph: Any = head.graph
    behind = [node for node in graph.nodes if _is_calibration(node)]
    if not behind:
        return head
    entries = {item for node in behind for item in node.all_input_nodes if item.op != "get_attr"}
    (logits,) = entries - set(behind)
    output = next(node for node in graph.nodes if node.op == "output")
    output.args = (logits,)
    graph.eliminate_dead_code()
    head.delete_all_unused_submodules()
    head.recompile()
    layers = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
    alone = len(layers) == 1 and layers[0].op == "call_module"
    return head.get_submodule(layers[0].target) if alone else head


def _is_calibration(node: Any) -> bool:
    return node.op == "call_module" and bool(re.match(rf"/?{_PREFIX}[/.]", str(node.target)))


def calibrate(
    logits: npt.ArrayLike,
    targets: npt.ArrayLike,
    task: Task,
    way: Way | str = Way.TEMPERATURE,
    *,
    keys: Sequence[str] = (),
) -> Calibration:
    """Return the calibration that fits these answers best.

    Parameters
    ----------
    logits
        ``(records, outputs)``, of the calibration set.
    targets
        ``(records, outputs)``: 1, 0 or NaN for unknown; of classes, one 1 in each row.
    keys
        Names of the outputs, for the notes.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    given, wanted = np.asarray(logits, np.float64), np.asarray(targets, np.float64)
    if given.ndim != 2 or given.shape != wanted.shape:  # noqa: PLR2004 - records, outputs
        raise ValueError(f"logits {given.shape} and targets {wanted.shape} must be of one shape")
    way = Way(way)
    outputs = given.shape[1]
    unchanged = Calibration(task=task, way=Way.NONE, curves=(line(1.0, 0.0),) * outputs)
    if way is Way.NONE:
        return unchanged
    if task is Task.REGRESSION:
        note = "A regression has no probabilities to calibrate."
        return Calibration(task=task, way=Way.NONE, curves=unchanged.curves, notes=(note,))
    if task is Task.MULTI_CLASS:
        known = np.isfinite(given).all(axis=1) & np.isfinite(wanted).all(axis=1)
        given, wanted = given[known], wanted[known]
        if way is Way.TEMPERATURE:
            curves, notes = _one_temperature(given, wanted)
            return Calibration(task=task, way=way, curves=curves, notes=notes)
        given = log_softmax(given, axis=1)
    fit = _FITS[way, task]
    names = keys or [f"output {number}" for number in range(1, outputs + 1)]
    found = [_of_finding(*column, fit) for column in zip(names, given.T, wanted.T, strict=True)]
    return Calibration(
        task=task,
        way=way,
        curves=tuple(curve for curve, _ in found),
        notes=tuple(note for _, note in found if note),
    )


_Fit = Callable[[Array, npt.NDArray[np.bool_]], Curve | None]


def _of_finding(name: str, given: Array, wanted: Array, fit: _Fit) -> tuple[Curve, str | None]:
    """Return the curve of one output, or the logit itself and why."""
    known = np.isfinite(given) & np.isfinite(wanted)
    positive = wanted[known] > 0
    counts = int(positive.sum()), int((~positive).sum())
    if min(counts) < FEW:
        return Curve(), (
            f"{name} is not calibrated: {counts[0]} records with it and {counts[1]} without;"
            f" {FEW} of each are needed."
        )
    curve = fit(given[known], positive)
    if curve is None:
        return Curve(), f"{name} is not calibrated: its logit does not rise with the finding."
    return curve, None


def _platt(given: Array, positive: npt.NDArray[np.bool_]) -> Curve | None:
    """Return the line of greatest likelihood, for targets held off 0 and 1 (Platt 1999)."""
    if given[positive].mean() <= given[~positive].mean():
        return None
    low, high = _held_off(positive)
    wanted = np.where(positive, high, low)

    def loss(parts: Array) -> tuple[float, Array]:
        scale, offset = np.exp(parts[0]), parts[1]
        sums = scale * given + offset
        apart = expit(sums) - wanted
        slope = np.array([(apart * given).mean() * scale, apart.mean()])
        return float((np.logaddexp(0, sums) - wanted * sums).mean()), slope

    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[_SCALES, (None, None)])
    return line(float(np.exp(found.x[0])), float(found.x[1]))


def _held_off(positive: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return what 0 and 1 count as, with so few examples."""
    ones, zeros = int(positive.sum()), int((~positive).sum())
    return 1 / (zeros + 2), (ones + 1) / (ones + 2)


def _isotonic(given: Array, positive: npt.NDArray[np.bool_]) -> Curve | None:
    return _stepped(given, positive, logit)


def _isotonic_share(given: Array, positive: npt.NDArray[np.bool_]) -> Curve | None:
    return _stepped(given, positive, np.log)


def _stepped(
    given: Array, positive: npt.NDArray[np.bool_], link: Callable[[Any], Any]
) -> Curve | None:
    """Return isotonic regression, its steps joined at their centres; None for a single step."""
    fitted = IsotonicRegression().fit_transform(given, positive)
    _, step, counts = np.unique(fitted, return_inverse=True, return_counts=True)
    centres = np.bincount(step, weights=given) / counts
    shares = np.bincount(step, weights=positive) / counts
    bounds = _held_off(positive)
    steepest = _STEEPEST / max(float(given.std()), _TINY)
    while len(counts) > 1:
        levels = link(np.clip(shares, *bounds))
        slopes = np.diff(levels) / np.maximum(np.diff(centres), _TINY)
        worst = int(np.argmax(np.where(slopes > 0, slopes, np.inf)))
        if 0 < slopes[worst] <= steepest:
            return Curve(
                tuple(centres.tolist()),
                tuple(levels.tolist()),
                before=min(1.0, float(slopes[0])),
                after=min(1.0, float(slopes[-1])),
            )
        centres, shares, counts = _merged(worst, centres, shares, counts)
    return None


_STEEPEST: Final = 10.0
"""Calibrated logits within a standard deviation of the logits: what is steeper would enlarge the
differences between two runtimes."""
_TINY: Final = 1e-12


def _merged(
    at: int, centres: Array, shares: Array, counts: npt.NDArray[np.intp]
) -> tuple[Array, Array, npt.NDArray[np.intp]]:
    """Return the steps, one and the next of them as one."""
    pair = slice(at, at + 2)
    whole = counts[pair].sum()
    joined = [counts[pair] @ part[pair] / whole for part in (centres, shares)]
    return (
        np.concatenate([centres[:at], joined[:1], centres[at + 2 :]]),
        np.concatenate([shares[:at], joined[1:], shares[at + 2 :]]),
        np.concatenate([counts[:at], [whole], counts[at + 2 :]]),
    )


_FITS: Final[dict[tuple[Way, Task], _Fit]] = {
    (Way.TEMPERATURE, Task.MULTI_LABEL): _platt,
    (Way.ISOTONIC, Task.MULTI_LABEL): _isotonic,
    (Way.ISOTONIC, Task.MULTI_CLASS): _isotonic_share,
}


def _one_temperature(given: Array, wanted: Array) -> tuple[tuple[Curve, ...], tuple[str, ...]]:
    """Return lines of one scale and an offset for each class; offsets weigh like one record."""
    outputs = given.shape[1]
    seen = int((wanted > 0).any(axis=0).sum())
    if len(given) < FEW or seen < 2:  # noqa: PLR2004 - classes to tell apart
        note = f"Not calibrated: {len(given)} records of {seen} classes are too few."
        return (Curve(),) * outputs, (note,)

    def loss(parts: Array) -> tuple[float, Array]:
        scale, offsets = np.exp(parts[0]), parts[1:]
        sums = scale * given + offsets
        apart = softmax(sums, axis=1) - wanted
        slope = np.array([(apart * given).sum() * scale, *(apart.sum(axis=0) + offsets)])
        value = (logsumexp(sums, axis=1) - (wanted * sums).sum(axis=1)).sum()
        return float(value + offsets @ offsets / 2) / len(given), slope / len(given)

    bounds = [_SCALES, *[(None, None)] * outputs]
    found = minimize(loss, np.zeros(outputs + 1), jac=True, method="L-BFGS-B", bounds=bounds)
    scale = float(np.exp(found.x[0]))
    return tuple(line(scale, float(offset)) for offset in found.x[1:]), ()
