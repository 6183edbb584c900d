"""Epochs under Lightning: batches, the net that learns from them, and the journal of them.

Everything that chance decides in an epoch comes from the plan's seed and the epoch's number, and
a checkpoint is written when an epoch is complete. So a run that was killed goes on from its last
whole epoch to the very result that it would have had.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from training.augment import augment, mixed
from training.losses import class_weights, make_loss, score
from training.optimise import (
    PLATEAU_EPOCHS,
    PLATEAU_FACTOR,
    Batch,
    factor,
    groups,
    make_optimiser,
    thaw,
)
from training.plan import Metric, Mode, Plan, Schedule
from training.shim import prepare_torchvision

prepare_torchvision()

import lightning.pytorch as pl  # noqa: E402 - the shim comes first

Rows = npt.NDArray[np.float32]

EPOCHS: Final = "epochs.jsonl"
LAST: Final = "last.ckpt"
BEST: Final = "best.ckpt"

_STATE: Final = "journal"


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Recordings in the recipe's form, and what is known of them.

    Parameters
    ----------
    waveforms
        ``(rows, leads, samples)``, float32; it may lie on disk.
    targets
        ``(rows, keys)``, float32, NaN for unknown.
    ids, patients
        The recording of each row, and whose it is.
    """

    waveforms: Rows
    targets: Rows
    ids: tuple[str, ...]
    patients: tuple[str, ...]

    def __post_init__(self) -> None:
        counts = {len(self.waveforms), len(self.targets), len(self.ids), len(self.patients)}
        if len(counts) > 1:
            raise ValueError("waveforms, targets, ids and patients are as many as each other")

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> "Examples":
        """Return some rows."""
        wanted = np.asarray(rows, np.int64)
        return Examples(
            self.waveforms[wanted],
            self.targets[wanted],
            tuple(self.ids[row] for row in wanted),
            tuple(self.patients[row] for row in wanted),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What one epoch came to."""

    number: int
    """From 1."""
    train_loss: float
    validation_loss: float
    metric: float
    """On the validation part; see :attr:`training.plan.Plan.watched`."""
    learning_rate: float
    """Of the head, when it ended."""
    seconds: float


class Ending(StrEnum):
    """Why a fit ended."""

    EPOCHS = "epochs"
    """All the epochs of the plan are done."""
    PATIENCE = "patience"
    """The metric has not become better for as many epochs as the plan allows."""
    BUDGET = "budget"
    """Another epoch would not fit into the plan's minutes."""
    DIVERGED = "diverged"
    """The loss is no number any more; what was learned before counts."""
    ASKED = "asked"
    """Someone asked it to stop; called again, it goes on."""


class Halt(Exception):
    """Someone asked to stop in the middle of an epoch."""


class Batches:
    """The batches of an epoch, in an order and with variations that come from its number.

    Parameters
    ----------
    epoch
        Says which epoch it is; without it, the rows come as they are and in their order.
    share
        Number of this process, and of all.
    """

    def __init__(
        self,
        part: Examples,
        plan: Plan,
        *,
        epoch: Callable[[], int] | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.part = part
        self.plan = plan
        self.epoch = epoch
        self.rank, self.world = share

    def __len__(self) -> int:
        return math.ceil(math.ceil(len(self.part) / self.world) / self.plan.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        epoch = None if self.epoch is None else self.epoch()
        for index, rows in enumerate(np.array_split(self._order(epoch), len(self))):
            wanted = np.sort(rows)
            waveforms, targets = np.array(self.part.waveforms[wanted]), self.part.targets[wanted]
            if epoch is not None:
                random = self._random(epoch, index, self.rank)
                waveforms, targets = self._varied(waveforms, targets, random)
            yield torch.from_numpy(waveforms), torch.from_numpy(targets)

    def _random(self, *places: int) -> np.random.Generator:
        return np.random.default_rng((self.plan.seed, *places))

    def _order(self, epoch: int | None) -> npt.NDArray[np.int64]:
        """Return this process's rows; every process has as many."""
        count = len(self.part)
        order = np.arange(count) if epoch is None else self._random(epoch).permutation(count)
        whole = np.resize(order, math.ceil(count / self.world) * self.world)
        return whole[self.rank :: self.world]

    def _varied(self, rows: Rows, targets: Rows, random: np.random.Generator) -> tuple[Rows, Rows]:
        how, rate = self.plan.augment, self.plan.recipe.sampling_frequency
        if self.plan.mode is Mode.HEAD:
            return mixed(rows, targets, how.mixup, random)
        return augment(rows, targets, how, sampling_frequency=rate, random=random)


class Learner(pl.LightningModule):
    """The net in the loop: what it loses, and which part of it learns when.

    Parameters
    ----------
    train, validation
        Their targets settled; see :func:`training.losses.settled`.
    rate
        The learning rate of the head.
    """

    def __init__(
        self, net: nn.Module, plan: Plan, train: Examples, validation: Examples, rate: float
    ) -> None:
        super().__init__()
        weights = class_weights(train.targets, plan.task) if plan.class_weights else None
        self.net = net
        self.plan = plan
        self.examples = train, validation
        self.rate = rate
        self.loss = make_loss(plan.task, plan.loss, weights)
        self.losses: list[Tensor] = []
        self.heard: list[tuple[Tensor, Tensor]] = []

    def train_dataloader(self) -> Batches:
        """Return the batches that teach, this process's share of them."""
        share = self.global_rank, self.trainer.world_size
        return Batches(self.examples[0], self.plan, epoch=lambda: self.current_epoch, share=share)

    def val_dataloader(self) -> Batches:
        """Return the batches that judge; every process judges all of them."""
        return Batches(self.examples[1], self.plan)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002 - a hook
        """Begin an epoch with its first batch, whether or not it follows another one."""
        if batch_idx:
            return
        self.losses, self.heard = [], []
        places = self.plan.seed, self.current_epoch, self.global_rank
        torch.manual_seed(int(np.random.SeedSequence(places).generate_state(1)[0]))
        if self.plan.mode is Mode.ALL:
            thaw(self.net, self.current_epoch, self.plan.epochs)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002 - a hook
        """Return the loss of a batch."""
        loss = self.loss(self.net(batch[0]), batch[1])
        self.losses.append(loss.detach())
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002 - a hook
        """Keep the logits of a batch."""
        self.heard.append((self.net(batch[0]).float(), batch[1]))

    def configure_optimizers(self) -> Any:
        """Return the optimiser, and what changes its rates step by step, if anything does."""
        optimiser = make_optimiser(self.plan, groups(self.net, self.plan.mode, self.rate))
        if self.plan.schedule in {Schedule.PLATEAU, Schedule.CONSTANT}:
            return optimiser
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor(self.plan.schedule, steps))
        return [optimiser], [{"scheduler": schedule, "interval": "step"}]

    def judged(self) -> tuple[float, float, float]:
        """Return the mean loss of the epoch's training, and loss and metric of its validation."""
        logits, targets = (torch.cat(items) for items in zip(*self.heard, strict=True))
        loss = float(self.loss(logits, targets))
        metric = loss
        if self.plan.watched is not Metric.LOSS:
            array = logits.double().cpu().numpy()
            metric = score(self.plan.watched, array, targets.cpu().numpy(), self.plan.task)
        return float(torch.stack(self.losses).mean()), loss, metric


class Journal(pl.Callback):
    """Writes down each epoch when it is complete, and says when it is time to end.

    Parameters
    ----------
    folder
        Gets ``epochs.jsonl``, ``last.ckpt`` and ``best.ckpt``.
    report
        Is called with each epoch.
    stopping
        Is asked after each batch.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        *,
        report: Callable[[Epoch], None],
        stopping: Callable[[], bool],
    ) -> None:
        self.folder = folder
        self.plan = plan
        self.report = report
        self.stopping = stopping
        self.rate = 0.0
        self.unit = 1.0
        self.epochs: list[Epoch] = []
        self.ending: Ending | None = None
        self._began = 0.0

    @property
    def best(self) -> Epoch:
        """The best epoch; of two alike the one with the smaller loss."""
        sign = -1 if self.plan.watched.falls else 1
        return max(self.epochs, key=lambda epoch: (sign * epoch.metric, -epoch.validation_loss))

    @property
    def seconds(self) -> float:
        """Of all epochs."""
        return sum(epoch.seconds for epoch in self.epochs)

    @property
    def state_key(self) -> str:
        """The name of its state in a checkpoint."""
        return _STATE

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        return {
            "plan": self.plan.digest,
            "rate": self.rate,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "ending": None if self.ending is None else self.ending.value,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        self.rate = state_dict["rate"]
        self.epochs = [Epoch(**epoch) for epoch in state_dict["epochs"]]
        self.ending = state_dict["ending"] and Ending(state_dict["ending"])

    def resume(self, net: nn.Module) -> Path | None:
        """Take up what lies in the folder; return the checkpoint to go on from, if there is one.

        Raises
        ------
        ValueError
            If it is another plan's, or another net's.
        """
        path = self.folder / LAST
        if not path.is_file():
            return None
        kept = torch.load(path, map_location="cpu", weights_only=True)
        state = kept["callbacks"][_STATE]
        if state["plan"] != self.plan.digest:
            raise ValueError(f"In {self.folder} lies a run of another plan.")
        if _shapes(_of_net(kept)) != _shapes(net.state_dict()):
            raise ValueError(f"In {self.folder} lies a run of another net.")
        self.load_state_dict(state)
        self._write()
        return path

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002 - a hook
        """Begin to measure time."""
        self._began = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Leave the loop where someone asks for it."""
        if trainer.strategy.reduce_boolean_decision(self.stopping(), all=False):
            raise Halt

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Enter the epoch, and keep it."""
        assert isinstance(pl_module, Learner)  # noqa: S101 - for the type checker
        taught, loss, metric = pl_module.judged()
        if not math.isfinite(loss):
            self.ending = Ending.DIVERGED
            trainer.should_stop = True
            return
        now = time.monotonic()
        epoch = Epoch(
            number=trainer.current_epoch + 1,
            train_loss=taught,
            validation_loss=loss,
            metric=self.unit * metric,
            learning_rate=float(trainer.optimizers[0].param_groups[-1]["lr"]),
            seconds=now - self._began,
        )
        self._began = now
        self.epochs.append(epoch)
        self.ending = self._ending()
        trainer.should_stop = self.ending is not None
        self._lower(trainer.optimizers[0])
        self._keep(trainer)
        self.report(epoch)

    def _ending(self) -> Ending | None:
        last = self.epochs[-1]
        if last.number >= self.plan.epochs:
            return Ending.EPOCHS
        if self.plan.patience and last.number - self.best.number >= self.plan.patience:
            return Ending.PATIENCE
        minutes = (self.seconds + last.seconds) / 60
        return Ending.BUDGET if self.plan.minutes and minutes > self.plan.minutes else None

    def _lower(self, optimiser: torch.optim.Optimizer) -> None:
        """Lower the rates where the metric has not become better for a while."""
        waited = self.epochs[-1].number - self.best.number
        if self.plan.schedule is Schedule.PLATEAU and waited and waited % PLATEAU_EPOCHS == 0:
            for group in optimiser.param_groups:
                group["lr"] *= PLATEAU_FACTOR

    def _keep(self, trainer: pl.Trainer) -> None:
        """Write the checkpoints, the best one first, each whole or not at all, then the curves."""
        draft = self.folder / f".{LAST}"
        trainer.save_checkpoint(draft)
        if trainer.is_global_zero:
            _sync(draft)
            if self.best is self.epochs[-1]:
                copy = self.folder / f".{BEST}"
                shutil.copyfile(draft, copy)
                _sync(copy)
                copy.replace(self.folder / BEST)
            draft.replace(self.folder / LAST)
            self._write()
        trainer.strategy.barrier()

    def _write(self) -> None:
        draft = self.folder / f".{EPOCHS}"
        draft.write_text("".join(f"{json.dumps(asdict(epoch))}\n" for epoch in self.epochs))
        draft.replace(self.folder / EPOCHS)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def restore(net: nn.Module, path: Path) -> None:
    """Give a net the weights that a checkpoint of it holds."""
    net.load_state_dict(_of_net(torch.load(path, map_location="cpu", weights_only=True)))


def _of_net(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors: Mapping[str, Tensor] = checkpoint["state_dict"]
    return {name.removeprefix("net."): values for name, values in tensors.items()}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: values.shape for name, values in tensors.items()}
