"""A net learns what a plan says: from scratch, by its head alone, as a whole, or further.

It may be killed at any moment: called again on its folder it goes on to the same result. See
:mod:`training.epochs` for the loop itself.
"""

import itertools
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from training.architectures import Net
from training.convert import Imported
from training.embeddings import digest, embed, kept
from training.epochs import (
    BEST,
    EPOCHS,
    LAST,
    Batches,
    Ending,
    Epoch,
    Examples,
    Halt,
    Journal,
    Learner,
    Rows,
    restore,
)
from training.losses import class_weights, make_loss, score, settled
from training.optimise import TRIALS, find_learning_rate
from training.plan import Metric, Mode, Plan, Task
from training.shim import prepare_torchvision

prepare_torchvision()

import lightning.pytorch as pl  # noqa: E402 - the shim comes first
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment  # noqa: E402 - the same
from lightning.fabric.plugins.environments.torchelastic import (  # noqa: E402 - the same
    TorchElasticEnvironment,
)

__all__ = [
    "BEST",
    "EPOCHS",
    "LAST",
    "Ending",
    "Epoch",
    "Examples",
    "Fitted",
    "NothingLearned",
    "fit",
    "predict",
    "trainer_options",
]

Array = npt.NDArray[np.float64]

_BATCH: Final = 64
_KNOWN_WARNINGS: Final = (r"`isinstance\(treespec, LeafSpec\)` is deprecated",)
"""Of Lightning beside this torch."""
_STILL: Final = 0.01
"""Spread of an embedding, as a share of their size, below which it counts as so large: what
hardly changes would carry the runtimes' rounding into the logits."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """A net that has learned."""

    net: nn.Module
    """With the weights of the best epoch, in evaluation mode, on the CPU."""
    epochs: tuple[Epoch, ...]
    best: Epoch
    learning_rate: float
    """As stated, or as found."""
    seconds: float
    """Of all the epochs."""
    stopped: Ending


class NothingLearned(Exception):
    """It was asked to stop before one epoch was complete."""


def _ignored(epoch: Epoch) -> None:
    """Report nothing."""


def _never() -> bool:
    return False


def fit(
    net: nn.Module,
    plan: Plan,
    train: Examples,
    validation: Examples,
    folder: Path,
    *,
    report: Callable[[Epoch], None] = _ignored,
    stopping: Callable[[], bool] = _never,
    embeddings: Callable[[str], Path] | None = None,
) -> Fitted:
    """Return the net, fitted in the plan's mode, with the weights of its best epoch.

    Parameters
    ----------
    net
        Its head has an output for each of the plan's keys. It learns in place.
    train, validation
        What teaches; and what says which epoch is best, and teaches nothing.
    folder
        Gets ``epochs.jsonl``, ``last.ckpt`` and ``best.ckpt``. A run that was killed there is
        gone on with.
    report
        Is called with each epoch that is done.
    stopping
        Is asked after each batch; true ends it, to be gone on with later.
    embeddings
        Where to keep what the backbone makes of recordings, by its name, for example
        :meth:`training.corpus.Corpus.embeddings`; without it they are made anew.

    Raises
    ------
    ValueError
        If nothing can be learned or judged from these examples, the plan asks for processes
        that nobody started, or the run of another plan or net lies in the folder.
    NothingLearned
        If it is asked to stop before the first epoch is complete.
    """
    options = trainer_options(plan, launched=_launched())
    folder.mkdir(parents=True, exist_ok=True)
    train, validation = (_settled(part, plan) for part in (train, validation))
    _check(plan, train, validation)
    scale = _Scale.of(plan, train)
    train, validation = (scale.of_targets(part) for part in (train, validation))
    if plan.mode is Mode.CONTINUE:
        scale.undo(net)
    pupil = net
    if plan.mode is Mode.HEAD:
        pupil = _Head.of(net)
        train, validation = pupil.hear(plan, train, validation, embeddings)
    journal = Journal(folder, plan, report=report, stopping=stopping)
    journal.unit = scale.spread if plan.watched is Metric.MAE else 1.0
    with torch.random.fork_rng(devices=[]):
        _learn(pupil, plan, (train, validation), journal, options)
    if not journal.epochs:
        raise ValueError(
            "The loss is no number in the first epoch: the learning rate is too high, or a"
            " recording holds what is no number."
        )
    restore(pupil.cpu(), folder / BEST)
    if isinstance(pupil, _Head):
        pupil.settle()
    scale.apply(net)
    return Fitted(
        net=net.requires_grad_().eval(),
        epochs=tuple(journal.epochs),
        best=journal.best,
        learning_rate=journal.rate,
        seconds=journal.seconds,
        stopped=journal.ending or Ending.ASKED,
    )


@torch.no_grad()
def predict(net: nn.Module, waveforms: Rows) -> Array:
    """Return the net's logits of ``(rows, leads, samples)``: ``(rows, outputs)``."""
    training, device = net.training, next(net.parameters()).device
    net.eval()
    parts = [
        net(torch.from_numpy(np.array(waveforms[at : at + _BATCH])).to(device)).double().cpu()
        for at in range(0, len(waveforms), _BATCH)
    ]
    net.train(training)
    return np.asarray(torch.cat(parts).numpy())


def trainer_options(plan: Plan, *, launched: bool) -> Mapping[str, Any]:
    """Return what the plan asks of Lightning: arithmetic, devices and machines.

    Parameters
    ----------
    launched
        Whether torchrun or Slurm started this process as one of several; "auto" is one device
        otherwise.

    Raises
    ------
    ValueError
        If the plan asks for several processes and nobody started them. Lightning would start
        this process's own command again, whatever that does.
    """
    devices = 1 if plan.devices == "auto" and not launched else plan.devices
    several = devices != 1 or plan.machines > 1
    if several and not launched:
        raise ValueError(
            f"The plan asks for {plan.devices} devices of {plan.machines} machines: start as many"
            " processes by torchrun or Slurm."
        )
    alike = "ddp_find_unused_parameters_true" if plan.mode is Mode.ALL else "ddp"
    return {
        "precision": plan.precision.value,
        "devices": devices,
        "num_nodes": plan.machines,
        "strategy": alike if several else "auto",
    }


# Before it begins


def _settled(part: Examples, plan: Plan) -> Examples:
    return replace(part, targets=settled(np.asarray(part.targets, np.float32), plan.task))


def _check(plan: Plan, train: Examples, validation: Examples) -> None:
    for name, part in (("train", train), ("validation", validation)):
        if part.targets.shape[1:] != (len(plan.keys),):
            raise ValueError(f"The plan names {len(plan.keys)} keys; the {name} part has others.")
        if not np.isfinite(part.targets).any():
            raise ValueError(f"Nothing is known of any recording of the {name} part.")
    if set(train.patients) & set(validation.patients):
        raise ValueError("A patient stands both in the train and in the validation part.")
    if plan.task is not Task.REGRESSION and plan.watched is not Metric.LOSS:
        trial = np.zeros(validation.targets.shape)
        if not math.isfinite(score(plan.watched, trial, validation.targets, plan.task)):
            raise ValueError(
                f"The {plan.watched} cannot be watched: no finding is both present and absent"
                " in the validation part."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """A number is learned in units of its spread; then the head is turned to its own unit."""

    mean: float = 0.0
    spread: float = 1.0

    @classmethod
    def of(cls, plan: Plan, train: Examples) -> "_Scale":
        if plan.task is not Task.REGRESSION:
            return cls()
        spread = float(np.nanstd(train.targets))
        if not spread:
            raise ValueError("The target is the same in every recording: nothing can be learned.")
        return cls(mean=float(np.nanmean(train.targets)), spread=spread)

    def of_targets(self, part: Examples) -> Examples:
        targets = (part.targets - np.float32(self.mean)) / np.float32(self.spread)
        return replace(part, targets=targets)

    def apply(self, net: nn.Module) -> None:
        self._turn(net, self.spread, self.mean)

    def undo(self, net: nn.Module) -> None:
        self._turn(net, 1 / self.spread, -self.mean / self.spread)

    @torch.no_grad()
    def _turn(self, net: nn.Module, gain: float, shift: float) -> None:
        if self == _Scale():
            return
        head = getattr(net, "head", None)
        if not isinstance(head, nn.Linear):
            raise ValueError("A number is learned by a linear head; this net has another.")  # noqa: TRY004 - bad input, no bug
        head.weight.mul_(gain)
        head.bias.mul_(gain).add_(shift)


class _Head(nn.Module):
    """The head of a net, on what its backbone makes of recordings.

    A linear head learns on embeddings of mean 0 and variance 1, which all weigh alike then, and
    takes their means and spreads into its weights in the end.
    """

    def __init__(self, net: Net | Imported) -> None:
        super().__init__()
        self.dropout = getattr(net, "dropout", nn.Identity())
        self.head = net.head
        self._net = (net,)  # not a part of this module
        self._mean, self._spread = torch.zeros(1), torch.ones(1)

    @classmethod
    def of(cls, net: nn.Module) -> "_Head":
        if not isinstance(net, Net | Imported):
            raise ValueError("Its head cannot be told apart; see training.custom.as_net.")  # noqa: TRY004 - bad input, no bug
        return cls(net)

    def forward(self, embedding: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(embedding))
        return logits

    def hear(
        self,
        plan: Plan,
        train: Examples,
        validation: Examples,
        embeddings: Callable[[str], Path] | None,
    ) -> tuple[Examples, Examples]:
        """Return the examples as the head hears them."""
        (net,) = self._net
        parts = [train, validation]
        if embeddings is None:
            rows = [embed(net, part.waveforms) for part in parts]
        else:
            place = embeddings(digest(net, plan.recipe))
            rows = [kept(net, part.waveforms, part.ids, place) for part in parts]
        if isinstance(self.head, nn.Linear):
            mean, spread = rows[0].mean(axis=0), rows[0].std(axis=0)
            size = float(np.sqrt(np.square(rows[0]).mean()))
            spread = np.maximum(spread, _STILL * size or 1).astype(np.float32)
            rows = [(some - mean) / spread for some in rows]
            self._mean, self._spread = torch.from_numpy(mean), torch.from_numpy(spread)
        heard = [replace(part, waveforms=some) for part, some in zip(parts, rows, strict=True)]
        return heard[0], heard[1]

    @torch.no_grad()
    def settle(self) -> None:
        """Turn the head to embeddings as they are."""
        if isinstance(self.head, nn.Linear):
            self.head.weight.div_(self._spread)
            self.head.bias.sub_(self.head.weight @ self._mean)


# While it learns


def _learn(
    net: nn.Module,
    plan: Plan,
    parts: tuple[Examples, Examples],
    journal: Journal,
    options: Mapping[str, Any],
) -> None:
    """Let the net learn until the journal knows why it ended, or until someone asks to stop."""
    checkpoint = journal.resume(net)
    if journal.ending is not None:
        return
    if checkpoint is None:
        journal.rate = _rate(net, plan, parts[0])
    learner = Learner(net.train(), plan, *parts, journal.rate)
    try:
        with _quiet():
            trainer = _trainer(plan, journal, options)
            trainer.fit(learner, ckpt_path=checkpoint, weights_only=True)
    except Halt:
        if not journal.epochs:
            raise NothingLearned("It was stopped before its first epoch was complete.") from None
    if not trainer.is_global_zero:
        raise SystemExit  # this process only helped


def _launched() -> bool:
    return TorchElasticEnvironment.detect() or SLURMEnvironment.detect()


def _rate(net: nn.Module, plan: Plan, train: Examples) -> float:
    if not isinstance(plan.rate, str):
        return plan.rate
    torch.manual_seed(plan.seed)
    weights = class_weights(train.targets, plan.task) if plan.class_weights else None
    loss = make_loss(plan.task, plan.loss, weights)
    batches = list(itertools.islice(Batches(train, plan, epoch=lambda: 0), TRIALS))
    return find_learning_rate(net, plan, loss, batches)


def _trainer(plan: Plan, journal: Journal, options: Mapping[str, Any]) -> pl.Trainer:
    return pl.Trainer(
        **options,
        max_epochs=plan.epochs,
        callbacks=[journal],
        default_root_dir=journal.folder,
        deterministic="warn" if torch.accelerator.is_available() else None,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave it to the journal to say what happens."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for known in _KNOWN_WARNINGS:
                warnings.filterwarnings("ignore", known)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
