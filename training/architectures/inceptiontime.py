"""InceptionTime (Ismail Fawaz 2020), in the size that ExChanGeAI ships."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.architectures.net import Image, Net, Pool, convolution

_DEPTH = 2
"""Residual blocks, of three modules each."""


class Inception(nn.Module):
    """Three kernel lengths and a maximum beside each other."""

    def __init__(self, inputs: int, filters: int, kernels: Sequence[int]) -> None:
        super().__init__()
        self.bottleneck = convolution(inputs, filters) if inputs > 1 else nn.Identity()
        width = filters if inputs > 1 else 1
        self.branches = nn.ModuleList(convolution(width, filters, kernel) for kernel in kernels)
        self.maximum = nn.Sequential(
            nn.MaxPool2d((1, 3), stride=1, padding=(0, 1)), convolution(inputs, filters)
        )
        self.norm = nn.BatchNorm2d((len(kernels) + 1) * filters)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(batch, 4 filters, 1, samples)``."""
        narrow = self.bottleneck(x)
        branches = [branch(narrow) for branch in self.branches]
        return torch.relu_(self.norm(torch.cat([*branches, self.maximum(x)], dim=1)))


class Block(nn.Module):
    """Three inception modules beside a shortcut."""

    def __init__(self, inputs: int, filters: int, kernels: Sequence[int]) -> None:
        super().__init__()
        width = (len(kernels) + 1) * filters
        self.body = nn.Sequential(
            Inception(inputs, filters, kernels),
            Inception(width, filters, kernels),
            Inception(width, filters, kernels),
        )
        self.shortcut = nn.Sequential(
            nn.Identity() if inputs == width else convolution(inputs, width),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(batch, 4 filters, 1, samples)``."""
        return torch.relu_(self.body(x) + self.shortcut(x))


def inceptiontime(
    *,
    leads: int,
    outputs: int,
    features: int = 0,
    filters: int = 32,
    kernels: Sequence[int] = (39, 19, 9),
    dropout: float = 0.0,
) -> Net:
    """Return the net; ``kernels`` are odd and in samples, made for 100 Hz."""
    width = (len(kernels) + 1) * filters
    inputs = [leads, *[width] * (_DEPTH - 1)]
    blocks = [Block(count, filters, kernels) for count in inputs]
    backbone = nn.Sequential(Image(), *blocks, Pool())
    return Net(backbone, width=width, outputs=outputs, features=features, dropout=dropout)
