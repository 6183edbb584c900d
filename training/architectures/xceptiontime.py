"""XceptionTime (Rahimian 2019), as ExChanGeAI ships it, with a head that can say no.

There the last convolution ends in BatchNorm and ReLU, so that no logit is ever negative and a
class can die at zero; here the head is linear. All else is the same.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.architectures.net import Image, Net, Pool, convolution


class Separable(nn.Module):
    """A convolution per channel, then one across channels."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.each = convolution(channels, channels, kernel, groups=channels)
        self.across = convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape."""
        across: Tensor = self.across(self.each(x))
        return across


class Xception(nn.Module):
    """Three separable convolutions and a maximum beside each other."""

    def __init__(self, inputs: int, filters: int, kernels: Sequence[int]) -> None:
        super().__init__()
        self.bottleneck = convolution(inputs, filters)
        self.branches = nn.ModuleList(Separable(filters, kernel) for kernel in kernels)
        self.maximum = nn.Sequential(
            nn.MaxPool2d((1, 3), stride=1, padding=(0, 1)), convolution(inputs, filters)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(batch, 4 filters, 1, samples)``."""
        narrow = self.bottleneck(x)
        branches = [branch(narrow) for branch in self.branches]
        return torch.cat([*branches, self.maximum(x)], dim=1)


class Block(nn.Module):
    """Two modules, the second twice as wide, beside a shortcut."""

    def __init__(self, inputs: int, filters: int, kernels: Sequence[int]) -> None:
        super().__init__()
        branches = len(kernels) + 1
        width = 2 * branches * filters
        self.body = nn.Sequential(
            Xception(inputs, filters, kernels),
            Xception(branches * filters, 2 * filters, kernels),
        )
        self.shortcut = nn.Sequential(convolution(inputs, width), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(batch, 8 filters, 1, samples)``."""
        return torch.relu_(self.body(x) + self.shortcut(x))


def xceptiontime(
    *,
    leads: int,
    outputs: int,
    features: int = 0,
    filters: int = 16,
    kernels: Sequence[int] = (39, 19, 9),
    step: int = 20,
    dropout: float = 0.0,
) -> Net:
    """Return the net.

    ``kernels`` (odd) are in samples, made for 100 Hz. ``step`` samples become one by their mean
    before the last layers: 0.2 s at 100 Hz, which is the original's fiftieth of ten seconds.
    """
    middle = 2 * (len(kernels) + 1) * filters
    wide = 4 * middle
    backbone = nn.Sequential(
        Image(),
        Block(leads, filters, kernels),
        Block(middle, 4 * filters, kernels),
        nn.AvgPool2d((1, step), ceil_mode=True, count_include_pad=False),
        _narrow(wide, wide // 2),
        _narrow(wide // 2, wide // 4),
        Pool(),
    )
    return Net(backbone, width=wide // 4, outputs=outputs, features=features, dropout=dropout)


def _narrow(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(convolution(inputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU())
