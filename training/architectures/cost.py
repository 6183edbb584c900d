"""What a net costs, known before a minute is spent."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Size and work of a net."""

    parameters: int
    trainable: int
    flops: int
    """Floating-point operations of one forward pass on one ECG; a multiply-add counts two."""


def cost(net: nn.Module, *, leads: int, samples: int) -> Cost:
    """Return what the net costs for ECGs of ``(leads, samples)``."""
    sizes = [(item.numel(), item.requires_grad) for item in net.parameters()]
    training = net.training
    device = next(net.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.zeros(1, leads, samples, device=device))
    net.train(training)
    return Cost(
        parameters=sum(size for size, _ in sizes),
        trainable=sum(size for size, learns in sizes if learns),
        flops=counter.get_total_flops(),
    )
