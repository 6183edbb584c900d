"""Fitting the network: augmentation, masked loss, and what it answers."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from analysis.ecg import Signal
from training.shipped.corpus import LABELS
from training.shipped.examples import Example, Labels
from training.shipped.net import Net

Array = npt.NDArray[np.float64]

BATCH = 32
CROP = 512
"""Samples that training looks at, of the thousand that are served: half the time, and enough
beats for a shape."""
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05
EMA_DECAY = 0.99
LEAST_WEIGHT, MOST_WEIGHT = 0.2, 4.0


def fit(examples: Sequence[Example], *, seed: int, epochs: int) -> Net:
    """Return a net fitted to the examples, in evaluation mode.

    The weights are averaged exponentially over the steps. The same seed, versions and thread
    count give the same weights.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    net = Net(leads=len(examples[0].signal), labels=len(LABELS))
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = _balance(examples)
    optimiser = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = max(1, len(examples) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, LEARNING_RATE, total_steps=epochs * steps, pct_start=0.2
    )
    average = get_ema_multi_avg_fn(EMA_DECAY)  # type: ignore[no-untyped-call]
    averaged = AveragedModel(net, multi_avg_fn=average, use_buffers=True)
    net.train()
    for _ in range(epochs):
        order = random.permutation(len(examples))
        for step in range(steps):
            batch = [examples[index] for index in order[step * BATCH : (step + 1) * BATCH]]
            loss = _loss(net, batch, weights, random)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            averaged.update_parameters(net)
    fitted = averaged.module.eval()
    assert isinstance(fitted, Net)  # noqa: S101 - for the type checker
    return fitted.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload,no-any-return]


def _loss(
    net: Net,
    batch: Sequence[Example],
    weights: Mapping[str, Labels],
    random: np.random.Generator,
) -> torch.Tensor:
    """Return the weighted mean cross-entropy over the labels that are known."""
    varied = [_augment(item, weights[item.source], random) for item in batch]
    signal, labels, weight = (np.stack(parts) for parts in zip(*varied, strict=True))
    return binary_cross_entropy_with_logits(
        net(torch.from_numpy(signal)),
        torch.from_numpy(labels),
        weight=torch.from_numpy(weight),
        reduction="sum",
    ) / max(float(weight.sum()), 1.0)


def _balance(examples: Sequence[Example]) -> dict[str, Labels]:
    """Return for each source the weights of absent and present, ``(2, labels)``.

    Within a source both weigh the same, so that nothing is gained by telling sources apart;
    where a source knows but one of them, it weighs little.
    """
    weights = {}
    for source in dict.fromkeys(item.source for item in examples):
        labels = np.stack([item.labels for item in examples if item.source == source])
        counts = np.stack([np.nansum(1 - labels, axis=0), np.nansum(labels, axis=0)])
        even = counts.sum(axis=0) / np.maximum(2 * counts, 1)
        one_sided = (counts == 0).any(axis=0)
        weights[source] = np.where(one_sided, LEAST_WEIGHT, np.clip(even, 0, MOST_WEIGHT))
    return {source: weight.astype(np.float32) for source, weight in weights.items()}


_NO_HEART = 0.06
"""Part of the examples in whose place stand noise or a flat line, without any finding."""
_FLAT = 0.3
"""Part of those that are flat."""


def _augment(
    item: Example, weights: Labels, random: np.random.Generator
) -> tuple[Signal, Labels, Labels]:
    """Return one varied input ``(leads, CROP)``, its labels and the weight of each."""
    if random.random() < _NO_HEART:
        absent = np.zeros_like(item.labels)
        return _no_heart(len(item.signal), random), absent, absent + 1
    cut = _stretch(item.signal, random)
    gains = random.uniform(0.8, 1.25) * random.uniform(0.9, 1.1, (len(cut), 1))
    noise = random.uniform(0.0, 0.03) * random.standard_normal(cut.shape)
    moved = _shift(cut, int(random.integers(-CROP // 10, CROP // 10 + 1)))
    varied = (gains * moved + noise) * cut.any(axis=1, keepdims=True)
    weight = np.where(item.labels == 1, weights[1], weights[0]) * ~np.isnan(item.labels)
    return _mask_leads(varied, random).astype(np.float32), np.nan_to_num(item.labels), weight


def _no_heart(leads: int, random: np.random.Generator) -> Signal:
    shape = (leads, CROP)
    white = random.standard_normal(shape)
    smooth = np.cumsum(random.standard_normal(shape), axis=1) / np.sqrt(CROP)
    noise = random.uniform(0.0, 0.3) * white + random.uniform(0.0, 0.5) * smooth
    still = random.uniform(0.0, 0.02) if random.random() < _FLAT else 1.0
    return np.asarray(still * noise, dtype=np.float32)


def _stretch(signal: Signal, random: np.random.Generator) -> Array:
    """Return a part of the signal, up to a quarter faster or slower, zeros where it ends."""
    pace = random.uniform(0.8, 1.25)
    room = max(0.0, signal.shape[1] - 1 - pace * (CROP - 1))
    at = random.uniform(0.0, room) + pace * np.arange(CROP)
    places = np.arange(signal.shape[1])
    return np.stack([np.interp(at, places, row, right=0.0) for row in signal])


def _shift(signal: Array, by: int) -> Array:
    """Return the signal moved in time, zeros coming in."""
    moved = np.zeros_like(signal)
    if by >= 0:
        moved[:, by:] = signal[:, : signal.shape[1] - by]
    else:
        moved[:, :by] = signal[:, -by:]
    return moved


def _mask_leads(signal: Array, random: np.random.Generator) -> Array:
    """Return the signal, sometimes with a few leads at zero, sometimes with but one or two."""
    chance = random.random()
    if chance < 0.6:  # noqa: PLR2004 - most stay whole
        return signal
    lost = random.uniform(0.0, 0.5) if chance < 0.85 else 0.9  # noqa: PLR2004 - see above
    keep = random.random((len(signal), 1)) >= lost
    keep[random.integers(len(signal))] = True
    return np.asarray(np.where(keep, signal, 0.0))


@torch.no_grad()
def logits(nets: Sequence[Net], item: Example) -> Array:
    """Return the record's mean logits ``(labels,)``, over its windows as ``classify`` does it."""
    windows = torch.from_numpy(item.windows)
    each: Array = torch.stack([net(windows) for net in nets]).mean(dim=0).double().numpy()
    normal = np.array(LABELS) == "normal"
    return np.asarray(np.where(normal, each.min(axis=0), each.max(axis=0)))
