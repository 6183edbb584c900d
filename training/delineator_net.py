"""The network of the delineator: a small U-net along time that hears all leads at once.

Leads are the rows of its feature maps. Convolutions run along time only and are the same for
every lead; leads meet where the mean and the greatest over them are added back to each (Zaheer
2017, deep sets), so that any number of them, in any order, will do. Each mark is a distribution
over time whose mean is its position, finer than a sample (Sun 2018, integral regression).
"""

import torch
from torch import Tensor, nn

from analysis.delineator import SAMPLES
from analysis.result import FIDUCIAL_KINDS

KINDS = len(FIDUCIAL_KINDS)
STRIDE = 2
"""Samples of the input to one step of the output."""


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            inputs, outputs, (1, kernel), stride=(1, stride), padding=(0, kernel // 2), bias=False
        ),
        nn.BatchNorm2d(outputs),
    )


class Block(nn.Module):
    """Two convolutions beside a shortcut (He 2016)."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels, kernel)
        self.second = _convolution(channels, channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape."""
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class Consult(nn.Module):
    """Tell each lead what all of them hold at that moment."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = _convolution(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape."""
        return torch.relu(x + self.mix(over_leads(x)))


def over_leads(x: Tensor) -> Tensor:
    """Return mean and maximum over the leads, ``(batch, 2 channels, 1, samples)``."""
    return torch.cat([x.mean(dim=2, keepdim=True), x.amax(dim=2, keepdim=True)], dim=1)


class Net(nn.Module):
    """Logits over time of every mark, and of whether there is a P wave.

    Parameters
    ----------
    widths
        Channels at a half, a quarter and an eighth of the rate.
    """

    def __init__(self, widths: tuple[int, int, int] = (24, 40, 56)) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.stem = _convolution(3, fine, 9, stride=2)
        self.fine_in = Block(fine, 7)
        self.down_middle = _convolution(fine, middle, 5, stride=2)
        self.middle_in = Block(middle, 5)
        self.down_coarse = _convolution(middle, coarse, 5, stride=2)
        self.bottom = nn.Sequential(Block(coarse, 5), Consult(coarse), Block(coarse, 5))
        self.up_middle = nn.ConvTranspose2d(coarse, middle, (1, 2), stride=(1, 2))
        self.middle_out = Block(middle, 5)
        self.up_fine = nn.ConvTranspose2d(middle, fine, (1, 2), stride=(1, 2))
        self.fine_out = nn.Sequential(Consult(fine), Block(fine, 7))
        self.each = nn.Conv2d(fine, KINDS, 1)
        self.all = nn.Sequential(
            _convolution(2 * fine, middle, 7),
            nn.ReLU(),
            nn.Conv2d(middle, KINDS, (1, 7), padding=(0, 3)),
        )
        self.p_wave = nn.Conv2d(2 * coarse, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``(batch, kinds, leads + 1, steps)``, the last row of all leads, and P.

        Parameters
        ----------
        x
            ``(batch, leads, samples)`` in mV, of any scale.
        """
        fine = self.fine_in(torch.relu(self.stem(scaled(x))))
        middle = self.middle_in(torch.relu(self.down_middle(fine)))
        bottom = self.bottom(torch.relu(self.down_coarse(middle)))
        middle = self.middle_out(torch.relu(middle + self.up_middle(bottom)))
        fine = self.fine_out(torch.relu(fine + self.up_fine(middle)))
        marks = torch.cat([self.each(fine), self.all(over_leads(fine))], dim=2)
        p_wave = self.p_wave(over_leads(bottom)).mean(dim=(1, 2, 3))
        return marks, p_wave


def scaled(x: Tensor) -> Tensor:
    """Return each lead in three loudnesses, ``(batch, 3, leads, samples)``, free of scale.

    A lead is divided by the geometric mean of its own size and that of all leads, so that a
    small one is heard, but not as loud as a large one.
    """
    x = x - x.mean(dim=2, keepdim=True)
    power = (x * x).mean(dim=2, keepdim=True)
    size = ((power + 1e-8) * (power.mean(dim=1, keepdim=True) + 1e-8)) ** 0.25
    x = (x / size).unsqueeze(1)
    return torch.cat([x / 4, torch.tanh(x), torch.tanh(5 * x)], dim=1)


def positions(logits: Tensor) -> Tensor:
    """Return the mean of each distribution over time, in samples of the input."""
    steps = torch.arange(SAMPLES // STRIDE, dtype=torch.float32)
    return STRIDE * (torch.softmax(logits, dim=-1) * steps).sum(dim=-1)
