"""Which model should I use? Candidates side by side on one's own recordings, and one advised.

Each candidate is an architecture from scratch, or a learned base in one of its modes. A few knobs
are turned by Optuna on the validation part, within a time budget. Candidates are ranked on the
calibration part, which neither taught nor chose anything; the test part stays untouched for the
run that follows. Advised is the cheapest of those that are not shown to be worse than the best.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import optuna
import torch
from torch import nn

from dicom_node.models import ModelStore
from training.architectures import ARCHITECTURES, cost
from training.bases import net_of, open_base
from training.epochs import Epoch
from training.intervals import Interval
from training.plan import Mode, Plan, Task
from training.prepare import CannotTrain
from training.trials import Ground, Trial, ahead, ground, macro

KNOBS: Final = 4
"""Settings of the knobs that are tried for each candidate; the plan's own come first."""

_RATES: Final = (3e-4, 3e-2)
_DECAYS: Final = (1e-4, 1e-1)
_MIXUPS: Final = (0.0, 0.2)
_TIMED: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to a model."""

    base: str
    mode: Mode

    @property
    def name(self) -> str:
        """What people read."""
        return f"{Path(self.base).name}, {self.mode}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """What a candidate can do, and what it costs."""

    candidate: Candidate
    auroc: Interval
    """Macro, on the part that ranks."""
    behind: Interval
    """By how much the best one is above it, on the same recordings."""
    knobs: Mapping[str, float]
    """The learning rate, the weight decay and the mixup that did best."""
    tried: int
    """Settings of the knobs that there was time for."""
    parameters: int
    flops: int
    """Of one ECG; a multiply-add counts two."""
    milliseconds: float
    """For one ECG, on one CPU thread."""
    epoch_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """All candidates, the best one first, and the one that is advised."""

    ranked: tuple[Ranked, ...]
    advised: Candidate
    said: str
    """A paragraph."""
    left_out: tuple[str, ...]
    """A sentence for each candidate that could not be tried."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tried:
    candidate: Candidate
    trial: Trial
    knobs: Mapping[str, float]
    tried: int
    figures: Mapping[str, Any]


def candidates(bases: Sequence[str] = (), names: Sequence[str] = ()) -> tuple[Candidate, ...]:
    """Return the architectures from scratch, and learned bases by their head and as a whole."""
    fresh = [Candidate(base=name, mode=Mode.SCRATCH) for name in names or ARCHITECTURES]
    learned = [Candidate(base=base, mode=mode) for base in bases for mode in (Mode.HEAD, Mode.ALL)]
    return (*fresh, *learned)


def which_model(
    plan: Plan,
    folder: Path,
    *,
    among: Sequence[Candidate] | None = None,
    minutes: float,
    knobs: int = KNOBS,
    store: ModelStore | None = None,
    processes: int = 1,
    report: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Choice:
    """Return the candidates, ranked, and which one to use.

    Parameters
    ----------
    plan
        What is learned from what. Base and mode are the candidate's, and the search begins with
        the mode's usual learning rate.
    folder
        Keeps every run.
    among
        By default :func:`candidates`.
    minutes
        For all of them; each has an equal share of what is left when its turn comes, is tried
        once in any case, and ends a fit that takes longer than its share.
    knobs
        Settings that are tried for each, at most.

    Raises
    ------
    CannotTrain
        If none of them can be tried.
    """
    if plan.task is Task.REGRESSION:
        raise CannotTrain("Candidates are ranked by AUROC; of a number there is none.")
    among = candidates() if among is None else among
    ends = clock() + 60 * minutes
    done: list[_Tried] = []
    left_out = []
    for number, candidate in enumerate(among):
        share = max(0.0, ends - clock()) / (len(among) - number)
        each = min(plan.minutes or minutes, minutes / len(among))
        wanted = replace(
            plan, base=candidate.base, mode=candidate.mode, learning_rate=None, minutes=each
        )
        try:
            search = _Search(wanted, candidate, folder / str(number), store, processes)
            done.append(search.run(knobs, until=clock() + share, clock=clock))
        except CannotTrain as error:
            left_out.append(f"{candidate.name}: {error}")
            report(left_out[-1])
        else:
            report(f"{candidate.name}: AUROC {macro([done[-1].trial], candidate.name)}")
    if not done:
        raise CannotTrain(" ".join(left_out))
    ranked = _ranked(done)
    advised = _advised(ranked)
    return Choice(
        ranked=ranked,
        advised=advised.candidate,
        said=_paragraph(ranked, advised),
        left_out=tuple(left_out),
    )


class _Search:
    """The search for one candidate's knobs."""

    def __init__(
        self,
        plan: Plan,
        candidate: Candidate,
        folder: Path,
        store: ModelStore | None,
        processes: int,
    ) -> None:
        self.base = open_base(plan, store)
        self.ground: Ground = ground(
            plan, self.base.recipe, processes=processes, model=self.base.digest
        )
        self.plan = plan
        self.candidate = candidate
        self.folder = folder
        self.store = store
        self.best: tuple[float, nn.Module, tuple[Epoch, ...], Mapping[str, float]] | None = None

    def run(self, knobs: int, *, until: float, clock: Callable[[], float]) -> _Tried:
        with _quiet():
            sampler = optuna.samplers.TPESampler(seed=self.plan.seed)
            study = optuna.create_study(direction="maximize", sampler=sampler)
            study.enqueue_trial(_own(self.plan))
            for _ in range(knobs):
                if self.best is not None and clock() >= until:
                    break
                study.optimize(self._objective, n_trials=1)
        return self._judged(len(study.trials))

    def _objective(self, trial: optuna.Trial) -> float:
        rate = trial.suggest_float("learning_rate", *_RATES, log=True)
        decay = trial.suggest_float("weight_decay", *_DECAYS, log=True)
        mixup = trial.suggest_categorical("mixup", _MIXUPS)
        plan = replace(
            self.ground.plan,
            learning_rate=rate,
            weight_decay=decay,
            augment=replace(self.plan.augment, mixup=mixup),
        )
        net = net_of(open_base(self.plan, self.store), plan)
        split = self.ground.prepared.split
        fitted = self.ground.learned(
            net, plan, split.train, split.validation, self.folder / str(trial.number)
        )
        value = -fitted.best.metric if plan.watched.falls else fitted.best.metric
        if self.best is None or value > self.best[0]:
            self.best = value, fitted.net, fitted.epochs, dict(trial.params)
        return value

    def _judged(self, tried: int) -> _Tried:
        assert self.best is not None  # noqa: S101 - the first trial always runs
        _, net, epochs, knobs = self.best
        split, recipe = self.ground.prepared.split, self.ground.plan.recipe
        leads, samples = len(recipe.leads), recipe.samples
        price = cost(net, leads=leads, samples=samples)
        return _Tried(
            candidate=self.candidate,
            trial=self.ground.judged(
                self.candidate.name, net, split.calibration or split.validation
            ),
            knobs=knobs,
            tried=tried,
            figures={
                "parameters": price.parameters,
                "flops": price.flops,
                "milliseconds": _milliseconds(net, leads, samples),
                "epoch_seconds": median(epoch.seconds for epoch in epochs),
            },
        )


def _own(plan: Plan) -> dict[str, float | str]:
    """Return the plan's own knobs, as far as they lie where the search looks."""
    return {
        "learning_rate": plan.rate,
        "weight_decay": min(max(plan.weight_decay, _DECAYS[0]), _DECAYS[1]),
        "mixup": max(_MIXUPS) if plan.augment.mixup else min(_MIXUPS),
    }


@torch.no_grad()
def _milliseconds(net: nn.Module, leads: int, samples: int) -> float:
    """Return how long one ECG takes on one thread, the median of a few."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    waveform, times = torch.zeros(1, leads, samples), []
    for _ in range(_TIMED):
        started = time.perf_counter()
        net(waveform)
        times.append(1000 * (time.perf_counter() - started))
    torch.set_num_threads(threads)
    return median(times)


@contextmanager
def _quiet() -> Iterator[None]:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def _ranked(done: Sequence[_Tried]) -> tuple[Ranked, ...]:
    """Return the candidates, the highest AUROC first."""
    figures = {item.candidate.name: macro([item.trial], item.candidate.name) for item in done}
    ordered = sorted(done, key=lambda item: -_or_nothing(figures[item.candidate.name]))
    best = ordered[0].trial
    return tuple(
        Ranked(
            candidate=item.candidate,
            auroc=figures[item.candidate.name],
            behind=_behind(best, item.trial),
            knobs=item.knobs,
            tried=item.tried,
            **item.figures,
        )
        for item in ordered
    )


def _behind(best: Trial, other: Trial) -> Interval:
    if best is other:
        return Interval(value=0.0, low=0.0, high=0.0)
    if best.patients != other.patients:
        return Interval(reason="It was judged on other recordings.")
    return ahead([best, other], best.way, other.way)


def _or_nothing(figure: Interval) -> float:
    return -1.0 if figure.value is None else figure.value


def _advised(ranked: Sequence[Ranked]) -> Ranked:
    """Return the cheapest of those that are not shown to be worse than the best."""
    level = [item for item in ranked if item.behind.low is not None and item.behind.low <= 0]
    return min(level or ranked[:1], key=lambda item: item.milliseconds)


def _paragraph(ranked: Sequence[Ranked], advised: Ranked) -> str:
    best = ranked[0]
    others = len(ranked) - 1
    head = (
        f"Use {advised.candidate.name}: macro AUROC {advised.auroc},"
        f" {advised.parameters / 1e6:.2f} million parameters, {advised.flops / 1e6:.0f} MFLOP and"
        f" {advised.milliseconds:.1f} ms for one ECG, {advised.epoch_seconds:.1f} s for an epoch."
    )
    if not others:
        return f"{head} It is the only candidate that could be tried."
    if advised is best:
        why = "It is the best of them, and none that is not shown to be worse is cheaper."
    else:
        why = (
            f"The highest AUROC is that of {best.candidate.name}, {best.auroc}, but it is not"
            f" shown to be better (difference {advised.behind}), and takes"
            f" {best.milliseconds:.1f} ms."
        )
    knobs = ", ".join(f"{name} {value:.2g}" for name, value in advised.knobs.items())
    return (
        f"{head} {why} {others + 1} candidates were ranked on recordings that neither taught nor"
        f" chose; the test part is untouched. Begin with {knobs}."
    )
