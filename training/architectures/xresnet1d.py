"""xresnet1d: He 2018's "bag of tricks" ResNet along time, as PTB-XL's benchmark has it.

Strodthoff 2021 (IEEE J Biomed Health Inform 25:1519) found its 101-layer form at the front for
most tasks: three small convolutions for a stem, bottleneck blocks of kernel 5, a shortcut that
takes means before it narrows, and mean and maximum over time before the head.
"""

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor, nn

from training.architectures.net import Image, Net, Pool, convolution

LAYERS: Final[Mapping[int, tuple[int, int, int, int]]] = MappingProxyType(
    {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
)
"""Blocks of each stage, by depth; from 50 on they have a bottleneck."""

_BOTTLENECK_FROM = 50
_STEM = (32, 32, 64)


class Block(nn.Module):
    """A residual block, with a bottleneck where ``expansion`` is above 1."""

    def __init__(
        self, inputs: int, width: int, *, expansion: int, stride: int, kernel: int
    ) -> None:
        super().__init__()
        outputs = expansion * width
        if expansion > 1:
            middle = [_activated(inputs, width, 1, 1), _activated(width, width, kernel, stride)]
        else:
            middle = [_activated(inputs, width, kernel, stride)]
        last = convolution(width, outputs, 1 if expansion > 1 else kernel)
        self.body = nn.Sequential(*middle, last, nn.BatchNorm2d(outputs))
        self.shortcut = nn.Sequential(
            nn.AvgPool2d((1, 2), ceil_mode=True, count_include_pad=False)
            if stride > 1
            else nn.Identity(),
            nn.Identity()
            if inputs == outputs
            else nn.Sequential(convolution(inputs, outputs), nn.BatchNorm2d(outputs)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(batch, expansion width, 1, samples / stride)``."""
        return torch.relu(self.body(x) + self.shortcut(x))


def xresnet1d(
    *,
    leads: int,
    outputs: int,
    features: int = 0,
    depth: int = 50,
    kernel: int = 5,
    dropout: float = 0.5,
) -> Net:
    """Return the net; ``depth`` is a key of ``LAYERS``, ``kernel`` is odd."""
    expansion = 4 if depth >= _BOTTLENECK_FROM else 1
    stem = [leads, *_STEM]
    parts: list[nn.Module] = [
        _activated(before, after, kernel, 2 if index == 0 else 1)
        for index, (before, after) in enumerate(pairwise(stem))
    ]
    parts.append(nn.MaxPool2d((1, 3), stride=(1, 2), padding=(0, 1)))
    inputs = _STEM[-1]
    for stage, count in enumerate(LAYERS[depth]):
        for index in range(count):
            stride = 2 if stage and index == 0 else 1
            width = 64 * 2**stage
            parts.append(Block(inputs, width, expansion=expansion, stride=stride, kernel=kernel))
            inputs = expansion * width
    backbone = nn.Sequential(Image(), *parts, Pool(maximum=True))
    return Net(backbone, width=2 * inputs, outputs=outputs, features=features, dropout=dropout)


def _activated(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        convolution(inputs, outputs, kernel, stride=stride), nn.BatchNorm2d(outputs), nn.ReLU()
    )
