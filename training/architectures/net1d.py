"""Net1D as ECGFounder has it (Hong 2020, Li 2025), with the names of its checkpoint.

A RegNet along time: bottlenecks of grouped convolutions with squeeze and excitation, zeros for
new channels, a maximum for the shortcut where time is halved. ECGFounder's nets carry BatchNorm
tensors that its forward pass never uses; ``norm`` brings them to life for training from scratch.
Layers are one-dimensional, so that the checkpoint's tensors fit by name and shape.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.architectures.net import Net, same_length

_KERNEL = 16
_GROUP = 16
"""Channels of one group."""


class SameConvolution(nn.Module):
    """A convolution of an even or unit kernel that keeps ``samples / stride``, rounded up."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.padding = same_length(kernel)
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride=stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(batch, outputs, samples / stride)``."""
        convolved: Tensor = self.conv(functional.pad(x, self.padding) if any(self.padding) else x)
        return convolved


class Block(nn.Module):
    """1 × 1, grouped and 1 × 1 convolution, excitation, shortcut; each pre-activated."""

    def __init__(
        self, inputs: int, outputs: int, *, stride: int, first: bool, norm: bool, dropout: float
    ) -> None:
        super().__init__()
        self.first = first
        self.stride = stride
        self.growth = outputs - inputs
        self.bn1 = nn.BatchNorm1d(inputs) if norm else nn.Identity()
        self.conv1 = SameConvolution(inputs, outputs)
        self.bn2 = nn.BatchNorm1d(outputs) if norm else nn.Identity()
        self.conv2 = SameConvolution(
            outputs, outputs, _KERNEL, stride=stride, groups=outputs // _GROUP
        )
        self.bn3 = nn.BatchNorm1d(outputs) if norm else nn.Identity()
        self.conv3 = SameConvolution(outputs, outputs)
        self.drop = nn.Dropout(dropout)
        self.se_fc1 = nn.Linear(outputs, outputs // 2)
        self.se_fc2 = nn.Linear(outputs // 2, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(batch, outputs, samples / stride)``."""
        out = self.conv1(x if self.first else self.drop(functional.silu(self.bn1(x))))
        out = self.conv2(self.drop(functional.silu(self.bn2(out))))
        out = self.conv3(self.drop(functional.silu(self.bn3(out))))
        excited = self.se_fc2(functional.silu(self.se_fc1(out.mean(dim=-1))))
        summed: Tensor = out * torch.sigmoid(excited).unsqueeze(-1) + self._shortcut(x)
        return summed

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = functional.max_pool1d(functional.pad(x, (0, self.stride - 1)), self.stride)
        if self.growth:
            x = functional.pad(x, (0, 0, self.growth // 2, self.growth - self.growth // 2))
        return x


class Stage(nn.Module):
    """Blocks of one width, the first of which halves the time."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.block_list = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(batch, channels, samples / 2)``."""
        passed: Tensor = self.block_list(x)
        return passed


class Backbone(nn.Module):
    """Everything but the head."""

    def __init__(
        self,
        leads: int,
        widths: Sequence[int],
        depths: Sequence[int],
        *,
        norm: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        inputs = widths[0]
        self.first_conv = SameConvolution(leads, inputs, _KERNEL, stride=2)
        self.first_bn = nn.BatchNorm1d(inputs) if norm else nn.Identity()
        stages = []
        for at, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = [
                Block(
                    width if index else inputs,
                    width,
                    stride=1 if index else 2,
                    first=at == index == 0,
                    norm=norm,
                    dropout=dropout,
                )
                for index in range(depth)
            ]
            stages.append(Stage(blocks))
            inputs = width
        self.stage_list = nn.Sequential(*stages)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return ``(batch, width)``."""
        stem = functional.silu(self.first_bn(self.first_conv(waveform)))
        embedding: Tensor = self.stage_list(stem).mean(dim=-1)
        return embedding


def net1d(
    *,
    leads: int,
    outputs: int,
    features: int = 0,
    widths: Sequence[int] = (64, 160, 160, 400, 400, 1024, 1024),
    depths: Sequence[int] = (2, 2, 2, 3, 3, 4, 4),
    norm: bool = False,
    dropout: float = 0.0,
) -> Net:
    """Return the net; made for 500 Hz. ``widths`` are multiples of 16."""
    backbone = Backbone(leads, widths, depths, norm=norm, dropout=dropout)
    return Net(backbone, width=widths[-1], outputs=outputs, features=features, dropout=0.0)
