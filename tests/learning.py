"""Small learning tasks for tests: waves of a known size under noise, and nets that learn them."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from analysis.recipe import Recipe
from training.architectures import Net, initialise
from training.architectures.net import Image, Pool, convolution
from training.fit import Examples
from training.plan import Augment, Plan

RECIPE = Recipe(
    sampling_frequency=50.0,
    samples=100,
    stride=100,
    minimum_seconds=1.0,
    leads=("I", "II", "V1"),
    allowed_missing=2,
)
PLAN = Plan(
    name="waves",
    keys=("rbbb", "lbbb"),
    recipe=RECIPE,
    epochs=4,
    batch_size=16,
    learning_rate=0.01,
    patience=0,
    augment=Augment.none(),
)
FULL = replace(PLAN, augment=Augment(mixup=0.2))


def examples(
    count: int, seed: int = 0, *, keys: int = 2, leads: int = 3, samples: int = 100
) -> Examples:
    """Return noise in which each finding is a wave in a lead of its own, a tenth unknown."""
    random = np.random.default_rng(seed)
    present = random.random((count, keys)) < 0.4
    waveforms = 0.3 * random.standard_normal((count, leads, samples))
    for key in range(keys):
        wave = np.sin(np.arange(samples) / (2 + key // leads))
        waveforms[:, key % leads] += present[:, key, None] * wave
    targets = np.where(random.random(present.shape) < 0.1, np.nan, present)
    names = tuple(f"{seed}-{number}" for number in range(count))
    return Examples(waveforms.astype(np.float32), targets.astype(np.float32), names, names)


TRAIN, VALIDATION = examples(64, 1), examples(48, 2)


def net(*, leads: int = 3, outputs: int = 2, width: int = 16, dropout: float = 0.0) -> Net:
    """Return a small net of two blocks, always with the same weights."""
    torch.manual_seed(0)
    blocks = [
        nn.Sequential(convolution(inputs, width, 9, stride=2), nn.BatchNorm2d(width), nn.ReLU())
        for inputs in (leads, width)
    ]
    backbone = nn.Sequential(Image(), *blocks, Pool())
    made = Net(backbone, width=width, outputs=outputs, features=0, dropout=dropout)
    initialise(made)
    return made
