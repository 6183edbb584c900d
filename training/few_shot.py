"""How few cases do: a start that has learned beside one that has not, on N positives each.

As UCSF's group showed it. Of the recordings that do not judge, N patients with the finding and N
without are drawn; four fifths of them teach and a fifth chooses the epoch, for N is all there is.
Both starts are the same net: the base as it came with a new head, and with random weights.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from torch import nn

from analysis.recipe import Recipe
from dicom_node.models import ModelStore
from training.bases import net_of, open_base
from training.intervals import Interval
from training.plan import Mode, Plan, Task
from training.prepare import CannotTrain
from training.trials import Ground, Trial, ahead, ground, macro, with_seed

COUNTS: Final = (10, 25, 50, 100)
SEEDS: Final = 5
LEARNED: Final = "learned"
RANDOM: Final = "random"
"""The two starts."""

Start = Callable[[Plan], nn.Module]
"""Makes a net with a new head for a plan, from random weights if its mode is `scratch`."""

_WATCHING: Final = 5
"""One patient in so many chooses the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """What N positives came to."""

    positives: int
    seeds: int
    learned: Interval
    random: Interval
    """AUROC on the test parts, the mean over the seeds."""
    difference: Interval
    said: str
    """Whether it paid to begin with what was learned elsewhere."""


def few_shot(
    plan: Plan,
    folder: Path,
    *,
    counts: Sequence[int] = COUNTS,
    seeds: int = SEEDS,
    store: ModelStore | None = None,
    processes: int = 1,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[Shot, ...]:
    """Return what each number of positives came to.

    Parameters
    ----------
    plan
        Of one finding, from a base that has learned, in the mode ``head`` or ``all``.
    folder
        Keeps every run, so that it may be killed and called again.
    seeds
        Each with a split and with draws of its own.

    Raises
    ------
    CannotTrain
        If the plan is of another kind, or nobody can be drawn.
    """
    base = open_base(plan, store)

    def start(run: Plan) -> nn.Module:
        return net_of(open_base(plan, store), run)

    return compare_starts(
        plan,
        folder,
        start,
        recipe=base.recipe,
        model=base.digest,
        counts=counts,
        seeds=seeds,
        processes=processes,
        report=report,
    )


def compare_starts(
    plan: Plan,
    folder: Path,
    start: Start,
    *,
    recipe: Recipe,
    model: str | None = None,
    counts: Sequence[int] = COUNTS,
    seeds: int = SEEDS,
    processes: int = 1,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[Shot, ...]:
    """Return what each number of positives came to, from any start; see :func:`few_shot`.

    Parameters
    ----------
    recipe, model
        The form of the net's input; the digest of what the learned start comes from.
    """
    _check(plan)
    trials: dict[int, list[Trial]] = {}
    for seed in range(plan.seed, plan.seed + seeds):
        field = ground(with_seed(plan, seed), recipe, processes=processes, model=model)
        for count, trial in _of_seed(field, folder / str(seed), counts, start):
            trials.setdefault(count, []).append(trial)
            report(f"Seed {seed}, {count} positives, {trial.way} start: done.")
    if not trials:
        raise CannotTrain(
            f"Fewer than {min(counts)} patients with {plan.keys[0]} can teach in every seed."
        )
    return tuple(_shot(plan, count, trials[count]) for count in sorted(trials))


def _check(plan: Plan) -> None:
    if plan.task is not Task.MULTI_LABEL or len(plan.keys) != 1:
        raise CannotTrain("Few-shot learning is of one finding, present or absent.")
    if plan.mode not in {Mode.HEAD, Mode.ALL}:
        raise CannotTrain(
            f"The mode {plan.mode} has no learned start to compare; take head or all, and a base."
        )


def _of_seed(
    field: Ground, folder: Path, counts: Iterable[int], start: Start
) -> Iterator[tuple[int, Trial]]:
    for count in counts:
        drawn = draw(field, count)
        if drawn is None:
            continue
        for way, mode in ((LEARNED, field.plan.mode), (RANDOM, Mode.SCRATCH)):
            run = replace(field.plan, mode=mode)
            fitted = field.learned(start(run), run, *drawn, folder / f"{count}-{way}")
            yield count, field.judged(way, fitted.net, field.prepared.split.test)


def draw(field: Ground, count: int) -> tuple[list[str], list[str]] | None:
    """Return recordings that teach and that choose the epoch; None if too few have the finding.

    ``count`` patients with the finding are drawn and as many without it, of those who do not
    judge.
    """
    prepared = field.prepared
    split = prepared.split
    people: dict[str, list[str]] = {}
    for record in (*split.train, *split.validation, *split.calibration):
        people.setdefault(prepared.records[record].patient, []).append(record)
    has = {person: bool((prepared.matrix(ids) == 1).any()) for person, ids in people.items()}
    random = np.random.default_rng((field.plan.seed, count))
    teach: list[str] = []
    watch: list[str] = []
    for value in (True, False):
        some = [person for person, present in has.items() if present is value]
        if value and len(some) < count:
            return None
        chosen = [some[at] for at in random.permutation(len(some))[:count]]
        watching = max(1, count // _WATCHING)
        watch += [record for person in chosen[:watching] for record in people[person]]
        teach += [record for person in chosen[watching:] for record in people[person]]
    return teach, watch


def _shot(plan: Plan, count: int, trials: Sequence[Trial]) -> Shot:
    difference = ahead(trials, LEARNED, RANDOM)
    learned, random = macro(trials, LEARNED), macro(trials, RANDOM)
    return Shot(
        positives=count,
        seeds=len(trials) // 2,
        learned=learned,
        random=random,
        difference=difference,
        said=(
            f"With {count} positives of {plan.keys[0]}, AUROC {learned} from {plan.base} and"
            f" {random} from random weights, difference {difference}: {_verdict(difference)}"
        ),
    )


def _verdict(difference: Interval) -> str:
    if difference.low is None or difference.high is None:
        return "nothing can be said."
    if difference.low > 0:
        return "the learned start paid."
    if difference.high < 0:
        return "the learned start did harm."
    return "it is not shown that the learned start paid."
