"""The network of the shipped models: a residual 1-D CNN with squeeze and excitation.

Convolutions along time are written as 2-D ones of height 1, which a CPU runs faster in
channels-last order. The shape follows He 2016 (residual blocks), Hu 2018 (squeeze and
excitation) and, for ECGs, Strodthoff 2021 (wide kernels, pooled by mean and maximum).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn


class Excite(nn.Module):
    """Weigh each channel by what all of them hold (Hu 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // 4, 1)
        self.excite = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` weighed, same shape."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        weighed: Tensor = x * torch.sigmoid(self.excite(torch.relu(self.squeeze(mean))))
        return weighed


class Block(nn.Module):
    """Two convolutions and an excitation beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(inputs, outputs, kernel, stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            _convolution(outputs, outputs, kernel, 1),
            nn.BatchNorm2d(outputs),
            Excite(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=(1, stride), bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(batch, outputs, 1, samples / stride)``."""
        return torch.relu(self.body(x) + self.shortcut(x))


class Net(nn.Module):
    """Logits of each label from ``(batch, leads, samples)``.

    Parameters
    ----------
    leads, labels
        Size of input and output.
    widths
        Channels of each stage; every stage but the first halves the time.
    dropout
        Before the head.
    """

    def __init__(
        self,
        *,
        leads: int,
        labels: int,
        widths: tuple[int, ...] = (32, 64, 96, 128),
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _convolution(leads, widths[0], 15, 2), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        blocks = [Block(widths[0], widths[0], kernel=9, stride=1)]
        for inputs, outputs in pairwise(widths):
            blocks.append(Block(inputs, outputs, kernel=7, stride=2))
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * widths[-1], labels)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, ``(batch, labels)``."""
        features = self.blocks(self.stem(x.unsqueeze(2)))
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(
        inputs,
        outputs,
        (1, kernel),
        stride=(1, stride),
        padding=(0, kernel // 2),
        bias=False,
    )
