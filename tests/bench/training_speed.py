"""Records per second of one training epoch, beside the loop of ExChanGeAI.

``python tests/bench/training_speed.py [--models ../shared/models] [--json]``

The other loop is written out here: the untrained ONNX file that ExChanGeAI ships, through
onnx2torch as it comes (put to rest, or it would not convert), batches of 8, Adam, cross entropy,
one ``DataLoader`` in the training process. Ours is the architecture of that name with its own
batch and AdamW. Both take the same simulated ECGs from memory on the same number of threads, in
turn; the median of the rounds counts, and processor time is given beside it, which other work on
the machine disturbs least. Afterwards both are asked how well they tell the two rhythms apart.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from analysis.recipe import Recipe
from analysis.standardise import standardise
from analysis.synthetic import Kind, simulate
from training.architectures import build
from training.mending import put_to_rest
from training.shim import prepare_torchvision

prepare_torchvision()

import onnx2torch  # noqa: E402 - the shim comes first

RECIPE = Recipe(sampling_frequency=100.0, samples=1000, stride=1000, minimum_seconds=5.0)
NETS = {
    "inceptiontime": ("InceptionTime_untrained", 2.0),
    "xceptiontime": ("XceptionTime_untrained", 1.1),
}
"""The file of each architecture, and the aim."""
BATCH, THEIR_BATCH = 32, 8
RATE = 1e-3

Epoch = Callable[[], None]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--records", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    waveforms, truth = records(arguments.records, seed=0)
    unseen = records(arguments.records, seed=10_000)
    rows = []
    for name, (file, aim) in NETS.items():
        torch.manual_seed(0)
        theirs = converted(arguments.models / f"{file}.onnx")
        ours = build(name, leads=12, outputs=2)
        epochs = {
            "theirs": their_epoch(theirs, waveforms, truth),
            "ours": our_epoch(ours, waveforms, truth),
        }
        row = {"net": name, "aim": aim} | measured(epochs, arguments.records, arguments.rounds)
        row |= {
            "theirs_accuracy": accuracy(theirs, *unseen),
            "ours_accuracy": accuracy(ours, *unseen),
        }
        rows.append(row)
        if not arguments.json:
            print_row(row)
    if arguments.json:
        print(json.dumps(rows))


def records(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return simulated sinus rhythm and LBBB in turn, and which is which."""
    kinds = (Kind.SINUS, Kind.LBBB)
    windows = [
        standardise(
            simulate(kinds[at % 2], seed=seed + at, sampling_frequency=100.0, noise=0.05).ecg,
            RECIPE,
        ).windows[0]
        for at in range(count)
    ]
    return torch.from_numpy(np.stack(windows)), torch.arange(count) % 2


def converted(path: Path) -> nn.Module:
    """Return ExChanGeAI's file as its own conversion gives it."""
    model = onnx.load(path)
    put_to_rest(model)
    model.opset_import[0].version = 17  # one file says 19, which onnx2torch does not read
    module: nn.Module = onnx2torch.convert(model)
    return module


def their_epoch(net: nn.Module, waveforms: Tensor, truth: Tensor) -> Epoch:
    """Return ExChanGeAI's loop over the records."""
    loader = DataLoader(TensorDataset(waveforms, truth), batch_size=THEIR_BATCH, shuffle=True)
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE)
    criterion = nn.CrossEntropyLoss()

    def epoch() -> None:
        net.train()
        for batch, wanted in loader:
            optimiser.zero_grad()
            loss = criterion(net(batch), wanted)
            loss.backward()
            optimiser.step()
            loss.item()

    return epoch


def our_epoch(net: nn.Module, waveforms: Tensor, truth: Tensor) -> Epoch:
    """Return our loop over the records."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=2 * RATE, fused=True)

    def epoch() -> None:
        net.train()
        for rows in torch.randperm(len(waveforms)).split(BATCH):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(net(waveforms[rows]), truth[rows])
            loss.backward()
            optimiser.step()

    return epoch


def measured(epochs: dict[str, Epoch], count: int, rounds: int) -> dict[str, float]:
    """Return records per second of wall and of processor time, the loops in turn."""
    wall: dict[str, list[float]] = {name: [] for name in epochs}
    processor: dict[str, list[float]] = {name: [] for name in epochs}
    for epoch in epochs.values():
        epoch()
    for _ in range(rounds):
        for name, epoch in epochs.items():
            started, used = time.perf_counter(), time.process_time()
            epoch()
            wall[name].append(time.perf_counter() - started)
            processor[name].append(time.process_time() - used)
    found = {f"{name}_per_second": count / statistics.median(wall[name]) for name in epochs}
    return found | {
        f"{name}_per_cpu_second": count / statistics.median(processor[name]) for name in epochs
    }


def accuracy(net: nn.Module, waveforms: Tensor, truth: Tensor) -> float:
    """Return the share of unseen records told right."""
    with torch.no_grad():
        return float((net.eval()(waveforms).argmax(dim=1) == truth).float().mean())


def print_row(row: dict[str, float | str]) -> None:
    """Print one net's figures."""
    print(
        f"{row['net']:14s} theirs {row['theirs_per_second']:6.1f}/s"
        f"  ours {row['ours_per_second']:6.1f}/s"
        f"  ×{row['ours_per_second'] / row['theirs_per_second']:.2f}"
        f"  (processor time ×{row['ours_per_cpu_second'] / row['theirs_per_cpu_second']:.2f},"
        f" aim ×{row['aim']:g})  unseen {row['theirs_accuracy']:.2f} / {row['ours_accuracy']:.2f}"
    )


if __name__ == "__main__":
    main()
