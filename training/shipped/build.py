"""Fitting what a plan asks for, on all records and with each group of databases held out."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from training.shipped.corpus import LABELS
from training.shipped.examples import Example
from training.shipped.fit import fit, logits
from training.shipped.forest import SoftForests, grow, scale
from training.shipped.judge import Answers
from training.shipped.net import Net
from training.shipped.plans import Groups, Plan, columns, margins

log = logging.getLogger(__name__)

Array = npt.NDArray[np.float64]

SEED = 20
NETS = 1
EPOCHS = 30
_AUXILIARY, _ALONE = 0.3, 0.4
"""What a record of one or two leads, and one read by a single lead, counts."""
_ONE_SIDED, _MOST = 0.2, 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What a graph is made of, before calibration."""

    forests: SoftForests
    nets: Sequence[Net]

    @torch.no_grad()
    def answer(self, plan: Plan, example: Example) -> Array:
        """Return the logits of the plan's labels, over windows as ``classify`` does it."""
        found = self.forests(torch.from_numpy(example.features[None]))[0].double().numpy()
        if self.nets:
            mean = logits(self.nets, example)
            for at, key in enumerate(plan.labels):
                if key in plan.shapes:
                    found[at] += mean[LABELS.index(key)]
        return np.asarray(found)


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where fitted networks are kept, so that a broken run goes on where it broke off."""

    folder: Path | None
    epochs: int = EPOCHS
    nets: int = NETS

    def net(self, examples: Sequence[Example], seed: int) -> Net:
        """Return a network fitted to the examples, or the same one from an earlier run."""
        kept = self._place(examples, seed)
        if kept and kept.exists():
            net = Net(leads=len(examples[0].signal), labels=len(LABELS))
            net.load_state_dict(torch.load(kept, weights_only=True))
            return net.eval()
        net = fit(examples, seed=seed, epochs=self.epochs)
        if kept:
            torch.save(net.state_dict(), kept)
        log.info("fitted a network, seed %d", seed)
        return net

    def _place(self, examples: Sequence[Example], seed: int) -> Path | None:
        if self.folder is None:
            return None
        content = hashlib.sha256(f"{seed} {self.epochs}".encode())
        for example in examples:
            content.update(example.signal.tobytes() + example.labels.tobytes())
        return self.folder / f"net-{content.hexdigest()[:16]}.pt"


def make(
    plan: Plan,
    examples: Sequence[Example],
    auxiliary: Sequence[Example],
    workshop: Workshop,
    seed: int = SEED,
) -> Parts:
    """Return forests and networks fitted to all of these."""
    everyone = (*examples, *auxiliary)
    features = np.stack([item.features for item in everyone]).astype(np.float64)
    measured = scale(features)
    filled = measured.fill(features)
    forests = []
    for key, family in plan.labels.items():
        truth = _truth(everyone, key)
        known = ~np.isnan(truth)
        weight = _weights(everyone, truth)
        forests.append(grow(filled[known], truth[known], weight[known], columns(family), seed=seed))
    count = workshop.nets if plan.shapes else 0
    nets = [workshop.net(examples, 100 * seed + at) for at in range(count)]
    return Parts(SoftForests(forests, measured, margins(plan.labels)), nets)


def held_out(
    plan: Plan, examples: Sequence[Example], auxiliary: Sequence[Example], workshop: Workshop
) -> Array:
    """Return logits ``(examples, labels)``, each from parts that never saw its database."""
    answers = np.empty((len(examples), len(plan.labels)))
    groups = group_of(examples, plan.groups)
    for number, sources in enumerate(plan.groups):
        rest = [item for item, group in zip(examples, groups, strict=True) if group != number]
        if len(rest) == len(examples):
            continue
        parts = make(plan, rest, auxiliary, workshop, SEED + 1 + number)
        for at in np.flatnonzero(groups == number):
            answers[at] = parts.answer(plan, examples[int(at)])
        log.info("%s: held out %s", plan.stem, " and ".join(sources))
    return answers


def group_of(examples: Sequence[Example], groups: Groups) -> npt.NDArray[np.intp]:
    """Return the number of the group that each example belongs to."""
    index = {name: at for at, sources in enumerate(groups) for name in sources}
    return np.array([index[item.source] for item in examples])


def answers_of(plan: Plan, examples: Sequence[Example], found: Array) -> list[Answers]:
    """Return the held-out answers label by label."""
    return [
        Answers(
            key=key,
            truth=_truth(examples, key),
            logit=found[:, at],
            group=group_of(examples, plan.groups),
            answered=np.array([key not in item.silent for item in examples]),
        )
        for at, key in enumerate(plan.labels)
    ]


def _truth(examples: Sequence[Example], key: str) -> Array:
    column = LABELS.index(key)
    return np.array([item.labels[column] for item in examples], dtype=np.float64)


def _weights(examples: Sequence[Example], truth: Array) -> Array:
    """Return what each record counts for a label.

    Within a database, absent and present weigh the same, so that nothing is gained by telling
    databases apart; where one knows but one of them, it weighs little.
    """
    origin = np.array([f"{item.source}, {_share(item)}" for item in examples])
    weight = np.zeros(len(examples))
    for name in np.unique(origin):
        here = (origin == name) & ~np.isnan(truth)
        counts = np.array([(truth[here] == side).sum() for side in (0, 1)])
        even = np.minimum(counts.sum() / np.maximum(2 * counts, 1), _MOST)
        sides = even if counts.all() else np.full(2, _ONE_SIDED)
        weight[here] = sides[truth[here].astype(np.intp)]
    kind = [_share(item) for item in examples]
    return np.asarray(weight * kind)


def _share(example: Example) -> float:
    if example.source in {"CinC2017", "MIT-BIH"}:
        return _AUXILIARY
    return _ALONE if example.alone else 1.0
