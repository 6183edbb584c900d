"""The wide residual net with squeeze and excitation of the CinC challenges 2020 and 2021.

Eight blocks in four groups behind one wide convolution: eighteen layers (Min, CinC 2020:
"Bag of tricks"; Nejedly 2021 and Zhao 2020 are cousins). Blocks are pre-activated (He 2016,
Zagoruyko 2016) and weigh their channels before the shortcut is added (Hu 2018).
"""

import torch
from torch import Tensor, nn

from training.architectures.net import Image, Net, Pool, convolution

_BLOCKS = 2
_SQUEEZE = 8


class Excite(nn.Module):
    """Weigh each channel by what all of them hold (Hu 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(channels // _SQUEEZE, 4)
        self.squeeze = nn.Conv2d(channels, narrow, 1)
        self.excite = nn.Conv2d(narrow, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` weighed, same shape."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        weighed: Tensor = x * torch.sigmoid(self.excite(torch.relu(self.squeeze(mean))))
        return weighed


class Block(nn.Module):
    """Two pre-activated convolutions and an excitation beside a shortcut."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, stride: int, dropout: float
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            convolution(inputs, outputs, kernel, stride=stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Dropout(dropout),
            convolution(outputs, outputs, kernel),
            Excite(outputs),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else convolution(inputs, outputs, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(batch, outputs, 1, samples / stride)``."""
        summed: Tensor = self.body(x) + self.shortcut(x)
        return summed


def se_wide_resnet(
    *,
    leads: int,
    outputs: int,
    features: int = 0,
    widen: int = 2,
    kernel: int = 9,
    dropout: float = 0.2,
) -> Net:
    """Return the net; ``widen`` multiplies its 16, 32, 64 and 128 channels, ``kernel`` is odd."""
    inputs = 16 * widen
    blocks: list[nn.Module] = []
    for width in (16 * widen, 32 * widen, 64 * widen, 128 * widen):
        for index in range(_BLOCKS):
            stride = 2 if index == 0 else 1
            blocks.append(Block(inputs, width, kernel=kernel, stride=stride, dropout=dropout))
            inputs = width
    backbone = nn.Sequential(
        Image(),
        convolution(leads, 16 * widen, 15),
        *blocks,
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        Pool(),
    )
    return Net(backbone, width=inputs, outputs=outputs, features=features, dropout=dropout)
