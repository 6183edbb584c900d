"""How weights move: which parts of a net move together, at what rate, and how that changes."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from training.losses import LossOf
from training.plan import Mode, Optimiser, Plan, Schedule

Batch = tuple[Tensor, Tensor]

PLATEAU_EPOCHS: Final = 3
"""Epochs without a better metric after which the rate of `Schedule.PLATEAU` falls."""
PLATEAU_FACTOR: Final = 1 / 3

_STAGES: Final = 4
"""Parts into which a backbone is divided at most."""
_SLOWER: Final = 1 / 2.6
"""Rate of each part beside the one behind it (Howard & Ruder 2018)."""
_THAWED_BY: Final = 1 / 3
"""Share of the epochs after which the whole net learns."""

_WARM_UP: Final = 0.25
_START: Final = 1 / 25
_END: Final = 1e-3
"""Share of the steps in which the one cycle rises; its rates at both ends (Smith 2018)."""
_LEFT: Final = 0.01
"""Of the rate, when `Schedule.EXPONENTIAL` ends."""

_LEAST_RATE, _MOST_RATE = 1e-6, 1.0
TRIALS: Final = 60
_SMOOTH: Final = 0.9
_DIVERGED: Final = 4.0
"""Times the least loss at which the search for a rate ends."""

_MAKERS: Final[dict[Optimiser, tuple[type[torch.optim.Optimizer], dict[str, Any]]]] = {
    Optimiser.ADAMW: (torch.optim.AdamW, {"fused": True}),
    Optimiser.ADAM: (torch.optim.Adam, {"fused": True}),
    Optimiser.NADAM: (torch.optim.NAdam, {}),
    Optimiser.RMSPROP: (torch.optim.RMSprop, {}),
    Optimiser.SGD: (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
}


def stages(net: nn.Module) -> list[list[nn.Module]]:
    """Return the parts of a net that learn together, from the signal to the head.

    Without a backbone of several parts the net is one.
    """
    backbone, head = getattr(net, "backbone", None), getattr(net, "head", None)
    if not isinstance(backbone, nn.Module) or not isinstance(head, nn.Module):
        return [[net]]
    parts = _flat(backbone)
    cuts = np.array_split(np.arange(len(parts)), min(_STAGES, len(parts)))
    return [*([parts[at] for at in cut] for cut in cuts), [head]]


def _flat(module: nn.Module) -> list[nn.Module]:
    """Return the module's children that can learn; those of an only child in its place."""
    children = [child for child in module.children() if any(True for _ in child.parameters())]
    own = any(True for _ in module.parameters(recurse=False))
    if own or not children:
        return [module]
    return _flat(children[0]) if len(children) == 1 else children


def groups(net: nn.Module, mode: Mode, rate: float) -> list[dict[str, Any]]:
    """Return the parameters with their learning rates, the signal's end slower than the head."""
    parts = stages(net) if mode is Mode.ALL else [[net]]
    listed = [[item for module in part for item in module.parameters()] for part in parts]
    rates = [rate * _SLOWER**distance for distance in reversed(range(len(parts)))]
    return [{"params": part, "lr": one} for part, one in zip(listed, rates, strict=True) if part]


def thaw(net: nn.Module, epoch: int, epochs: int) -> None:
    """Let the parts of a net learn that may do so in this epoch, the head's end first.

    The others stay as they are, the statistics of their BatchNorm included.
    """
    parts = stages(net)
    each = epochs * _THAWED_BY / len(parts)
    for distance, part in enumerate(reversed(parts)):
        learns = epoch >= math.floor(distance * each)
        for module in part:
            module.requires_grad_(learns).train(learns)


def make_optimiser(plan: Plan, parameters: Iterable[Any]) -> torch.optim.Optimizer:
    """Return the plan's optimiser of parameters or groups of them."""
    kind, options = _MAKERS[plan.optimiser]
    rate = 1.0 if isinstance(plan.rate, str) else plan.rate
    return kind(parameters, lr=rate, weight_decay=plan.weight_decay, **options)  # type: ignore[call-arg]  # all take both


def factor(schedule: Schedule, steps: int) -> Callable[[int], float]:
    """Return what the learning rate is multiplied by at each of so many steps."""
    if schedule is Schedule.ONE_CYCLE:
        return lambda step: _one_cycle(step / steps)
    if schedule is Schedule.EXPONENTIAL:
        return lambda step: float(_LEFT ** (step / steps))
    return lambda _: 1.0


def _one_cycle(at: float) -> float:
    if at < _WARM_UP:
        return _cosine(_START, 1.0, at / _WARM_UP)
    return _cosine(1.0, _END, min(1.0, (at - _WARM_UP) / (1 - _WARM_UP)))


def _cosine(start: float, end: float, at: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * at)) / 2


def find_learning_rate(net: nn.Module, plan: Plan, loss: LossOf, batches: Sequence[Batch]) -> float:
    """Return a learning rate from batches of the training part (Smith 2017).

    A copy of the net learns from them, at a rate that rises with each step, until its loss
    grows; a tenth of the rate at which it was least is taken.
    """
    trial = copy.deepcopy(net).train()
    optimiser = make_optimiser(plan, trial.parameters())
    rates = np.geomspace(_LEAST_RATE, _MOST_RATE, TRIALS)
    smooth, least, best = 0.0, math.inf, float(rates[len(rates) // 2])
    for step, rate in enumerate(rates):
        waveforms, targets = batches[step % len(batches)]
        for group in optimiser.param_groups:
            group["lr"] = float(rate)
        optimiser.zero_grad()
        cost = loss(trial(waveforms), targets)
        cost.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        smooth = _SMOOTH * smooth + (1 - _SMOOTH) * cost.item()
        mean = smooth / (1 - _SMOOTH ** (step + 1))
        if not mean < _DIVERGED * least:
            break
        if mean < least:
            least, best = mean, float(rate)
    return best / 10
