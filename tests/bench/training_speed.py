"""Training beside the loop of ExChanGeAI: whole nets from scratch, and a head on a frozen backbone.

``python tests/bench/training_speed.py [--models ../shared/models] [--json]``

The other loop is written out here: the ONNX file that ExChanGeAI ships, through onnx2torch as it
comes (put to rest, or it would not convert), batches of 8, Adam, cross entropy, one
``DataLoader`` in the training process, after each epoch a look at the validation part. Ours is
`training.fit.fit` as a plan calls it, Lightning, checkpoints and all: the architecture of that
name; for the head, the same file, its embeddings made within the time that is measured. Both
take the same simulated ECGs from memory on the same number of threads, in turn; the median of
the rounds counts, and processor time stands beside it, which other work on the machine disturbs
least. Both end with how well they tell the two rhythms apart in the validation part.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from analysis.recipe import Recipe
from analysis.standardise import standardise
from analysis.synthetic import Kind, simulate
from training.architectures import build
from training.convert import replace_head, to_torch
from training.exchangeai import describe
from training.fit import Examples, fit
from training.losses import auroc
from training.mending import put_to_rest
from training.plan import RECIPE, Augment, Mode, Plan, Task
from training.shim import prepare_torchvision

prepare_torchvision()

import onnx2torch  # noqa: E402 - the shim comes first

THEIR_BATCH, THEIR_RATE = 8, 1e-3
PLAN = Plan(
    name="speed",
    keys=("sinus_rhythm", "lbbb"),
    task=Task.MULTI_CLASS,
    learning_rate=4e-3,
    batch_size=16,
    patience=0,
    augment=Augment.none(),
)
Parts = tuple[Examples, Examples]
Job = Callable[[], float]
"""Learns once from the beginning, and returns the AUROC of the validation part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """What is learned, how long, and how much faster it is meant to be."""

    name: str
    file: str
    aim: float
    epochs: int
    rounds: int
    mode: Mode = Mode.SCRATCH


CONTESTS = (
    Contest(name="inceptiontime", file="InceptionTime_untrained", aim=2.0, epochs=3, rounds=3),
    Contest(name="xceptiontime", file="XceptionTime_untrained", aim=1.1, epochs=3, rounds=3),
    Contest(
        name="head alone",
        file="xc_super_pretrained",
        aim=15.0,
        epochs=30,
        rounds=1,
        mode=Mode.HEAD,
    ),
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--records", type=int, default=96)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not arguments.models.is_dir():
        print(f"Training is not measured: ExChanGeAI's files are not in {arguments.models}.")
        return
    torch.set_num_threads(arguments.threads)
    for item in CONTESTS:
        row = contest(item, arguments.models, arguments.records)
        print(json.dumps(row) if arguments.json else line(row), flush=True)


def contest(item: Contest, models: Path, count: int) -> dict[str, float | str]:
    """Return the figures of one net, both loops in turn."""
    content = (models / f"{item.file}.onnx").read_bytes()
    recipe = describe(content).recipe if item.mode is Mode.HEAD else RECIPE
    parts = examples(count, 0, recipe), examples(count // 2, 10_000, recipe)
    jobs = {"theirs": their_job(item, content, parts), "ours": our_job(item, content, parts)}
    wall: dict[str, list[float]] = {name: [] for name in jobs}
    processor: dict[str, list[float]] = {name: [] for name in jobs}
    found: dict[str, float] = {}
    for _ in range(item.rounds):
        for name, job in jobs.items():
            started, used = time.perf_counter(), time.process_time()
            found[name] = job()
            wall[name].append(time.perf_counter() - started)
            processor[name].append(time.process_time() - used)
    row: dict[str, float | str] = {"net": item.name, "epochs": item.epochs, "aim": item.aim}
    for name in jobs:
        row[f"{name}_seconds"] = statistics.median(wall[name])
        row[f"{name}_cpu_seconds"] = statistics.median(processor[name])
        row[f"{name}_per_second"] = count * item.epochs / statistics.median(wall[name])
        row[f"{name}_auroc"] = found[name]
    return row


def examples(count: int, seed: int, recipe: Recipe) -> Examples:
    """Return simulated sinus rhythm and LBBB in turn."""
    kinds = (Kind.SINUS, Kind.LBBB)
    ecgs = [simulate(kinds[at % 2], seed=seed + at, noise=0.1).ecg for at in range(count)]
    windows = np.stack([standardise(ecg, recipe).windows[0] for ecg in ecgs])
    targets = np.eye(2, dtype=np.float32)[np.arange(count) % 2]
    names = tuple(f"{seed + at}" for at in range(count))
    return Examples(windows, targets, names, names)


def converted(content: bytes) -> nn.Module:
    """Return ExChanGeAI's file as its own conversion gives it."""
    model = onnx.load_model_from_string(content)
    put_to_rest(model)
    model.opset_import[0].version = 17  # one file says 19, which onnx2torch does not read
    module: nn.Module = onnx2torch.convert(model)
    return module


def their_job(item: Contest, content: bytes, parts: Parts) -> Job:
    """Return ExChanGeAI's loop; of a head alone, all else is frozen and yet computed."""

    def job() -> float:
        torch.manual_seed(0)
        net = converted(content)
        learning = []
        for name, weights in net.named_parameters():
            weights.requires_grad = item.mode is not Mode.HEAD or "head" in name
            learning += [weights] if weights.requires_grad else []
        optimiser = torch.optim.Adam(learning, lr=THEIR_RATE)
        criterion = nn.CrossEntropyLoss()
        found = 0.0
        for _ in range(item.epochs):
            net.train()
            for batch, wanted in loader(parts[0], shuffle=True):
                optimiser.zero_grad()
                loss = criterion(net(batch), wanted)
                loss.backward()
                optimiser.step()
                loss.item()
            found = judged(net, parts[1])
        return found

    return job


def loader(part: Examples, *, shuffle: bool) -> DataLoader:
    """Return the records in batches of 8."""
    truth = torch.from_numpy(part.targets).argmax(dim=1)
    return DataLoader(TensorDataset(torch.from_numpy(part.waveforms), truth), THEIR_BATCH, shuffle)


@torch.no_grad()
def judged(net: nn.Module, part: Examples) -> float:
    """Return the AUROC of the second output."""
    net.eval()
    logits = torch.cat([net(batch) for batch, _ in loader(part, shuffle=False)]).double()
    return auroc((logits[:, 1] - logits[:, 0]).numpy(), part.targets[:, 1])


def our_job(item: Contest, content: bytes, parts: Parts) -> Job:
    """Return the fit of a plan."""
    plan = replace(PLAN, epochs=item.epochs, mode=item.mode)

    def job() -> float:
        torch.manual_seed(0)
        if item.mode is Mode.HEAD:
            net: nn.Module = to_torch(content)
            replace_head(net, 2)
        else:
            net = build(item.name, leads=12, outputs=2)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            fitted = fit(net, plan, *parts, path / "run", embeddings=path.joinpath)
        return fitted.epochs[-1].metric

    return job


def line(row: dict[str, float | str]) -> str:
    """Return one net's figures."""
    return (
        f"{row['net']:14s} {row['epochs']:2d} epochs"
        f"  theirs {row['theirs_per_second']:7.1f}/s  ours {row['ours_per_second']:7.1f}/s"
        f"  ×{row['theirs_seconds'] / row['ours_seconds']:.2f}"
        f"  (processor time ×{row['theirs_cpu_seconds'] / row['ours_cpu_seconds']:.2f},"
        f" aim ×{row['aim']:g})"
        f"  validation AUROC {row['theirs_auroc']:.3f} / {row['ours_auroc']:.3f}"
    )


if __name__ == "__main__":
    main()
