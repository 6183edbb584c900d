"""What every architecture is: a backbone that embeds an ECG, and a linear head that judges it.

Convolutions along time are written as 2-D ones of height 1 wherever a CPU runs them faster in
channels-last order; weights and activations then stay in that order throughout.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

_QUICK = 13
"""Samples of the longest kernel that the CPU's convolutions learn quickly."""


class Net(nn.Module):
    """Logits from an ECG.

    Parameters
    ----------
    backbone
        From ``(batch, leads, samples)`` to ``(batch, width)``. Its children are in the order in
        which the signal passes them, so that they can be thawed from the last to the first.
    width
        Of the embedding.
    outputs
        Number of logits.
    features
        Number of measurements that are put beside the embedding.
    dropout
        Share of the embedding that is dropped before the head while it learns.
    """

    def __init__(
        self, backbone: nn.Module, *, width: int, outputs: int, features: int, dropout: float
    ) -> None:
        super().__init__()
        self.width = width
        self.features = features
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = linear_head(width + features, outputs)

    def embed(self, waveform: Tensor) -> Tensor:
        """Return the embedding, ``(batch, width)``."""
        embedding: Tensor = self.backbone(waveform)
        return embedding

    def forward(self, waveform: Tensor, features: Tensor | None = None) -> Tensor:
        """Return logits, ``(batch, outputs)``.

        Parameters
        ----------
        waveform
            ``(batch, leads, samples)``.
        features
            ``(batch, features)``, where the net was built for some.
        """
        embedding = self.embed(waveform)
        if features is not None:
            embedding = torch.cat([embedding, features], dim=1)
        logits: Tensor = self.head(self.dropout(embedding))
        return logits


class Image(nn.Module):
    """Turn the signal into an image of height 1 in channels-last order."""

    def forward(self, waveform: Tensor) -> Tensor:
        """Return ``(batch, leads, 1, samples)``."""
        return waveform.unsqueeze(2).contiguous(memory_format=torch.channels_last)


class Pool(nn.Module):
    """Mean over time and, beside it, where asked for, the maximum."""

    def __init__(self, *, maximum: bool = False) -> None:
        super().__init__()
        self.maximum = maximum

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(batch, channels)``, or twice as many."""
        mean = x.mean(dim=(2, 3))
        return torch.cat([mean, x.amax(dim=(2, 3))], dim=1) if self.maximum else mean


class LongConvolution(nn.Conv2d):
    """A convolution along time that learns in parts, in evaluation one as any other.

    Up to 13 samples a processor finds the gradient of the weights twice as fast for each of
    them; the parts of a longer kernel are convolutions whose results are added.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(batch, outputs, 1, samples)``."""
        kernel, before = self.kernel_size[1], self.kernel_size[1] // 2
        if not self.training or x.device.type != "cpu" or x.shape[3] < kernel:
            return super().forward(x)
        parts = []
        for weight in self.weight.chunk(math.ceil(kernel / _QUICK), dim=3):
            shifted = functional.pad(x, (before, weight.shape[3] - 1 - before))
            parts.append(functional.conv2d(shifted, weight))
            before -= weight.shape[3]
        summed: Tensor = sum(parts[1:], start=parts[0])
        return summed


def convolution(
    inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Return a convolution along time that keeps ``samples / stride``, without bias."""
    long = kernel > _QUICK and stride == groups == 1
    kind = LongConvolution if long else nn.Conv2d
    return kind(
        inputs,
        outputs,
        (1, kernel),
        stride=(1, stride),
        padding=(0, kernel // 2),
        groups=groups,
        bias=False,
    )


def linear_head(width: int, outputs: int) -> nn.Linear:
    """Return a new head; see :func:`initialise`."""
    head = nn.Linear(width, outputs)
    initialise(head)
    return head


def initialise(net: nn.Module) -> None:
    """Draw the net's weights anew, as they are before any training.

    Convolutions: normal, variance 2 / fan-out, which keeps the size of gradients through ReLUs
    (He 2015). BatchNorm: scale 1, shift 0, mean 0, variance 1. Linear layers, the head among
    them: uniform within ±√(6 / (inputs + outputs)), bias 0 (Glorot 2010), so that a new head
    begins near "as likely as not". Weights that belong to no layer (operands of an imported
    graph): two dimensions or more like a linear layer; a vector stays, for it may be a gain.
    Every other layer that can: by its own ``reset_parameters``.
    """
    for module in net.modules():
        _initialise(module)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        fan_out = module.weight[:, 0].numel() / module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        _zero_bias(module)
    elif isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        _zero_bias(module)
    elif callable(reset := getattr(module, "reset_parameters", None)):
        reset()
    else:
        for parameter in module.parameters(recurse=False):
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)


def _zero_bias(layer: nn.Conv1d | nn.Conv2d | nn.Linear) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def same_length(kernel: int) -> tuple[int, int]:
    """Return the zeros before and after a signal that an even kernel needs to keep its length."""
    return math.ceil(kernel / 2) - 1, kernel // 2
