"""The use case: from a plan and a corpus to a candidate model, and the honest answer how good.

Checks come first, and a plan that cannot be learned is refused in a sentence. Then each stage
leaves what it made in the run's folder, whole or not at all, and is not done twice: a run that
was killed at any moment goes on where it was, to the same result. The test part is read once,
when everything that could have been chosen has been chosen.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from dicom_node.models import ModelStore
from training.bases import Base, check_same, net_of, open_base, read_base
from training.caches import Cache
from training.fit import Ending, Epoch, Fitted, NothingLearned, fit
from training.folders import BASE, NOTES, PLAN, RUN, SPLIT, once, put
from training.judgement import put_to_test, serve
from training.outcome import Outcome, bring_out, conclude
from training.plan import CURRENT, Mode, Plan
from training.prepare import CannotTrain, Prepared, open_corpus, prepare
from training.splits import Split
from training.steps import Stage, Step
from training.work import Work


class Stopped(Exception):
    """Somebody asked the run to stop; called again, it goes on."""


def _silent(step: Step) -> None:
    """Report nothing."""


def _never() -> bool:
    return False


def check(plan: Plan, store: ModelStore | None = None) -> Prepared:
    """Return what a plan would learn from. Raises CannotTrain with why it cannot be learned."""
    base = open_base(plan, store)
    return _prepared(plan, base, None, None)


def train(
    plan: Plan,
    folder: Path,
    *,
    store: ModelStore | None = None,
    processes: int = 1,
    report: Callable[[Step], None] = _silent,
    stopping: Callable[[], bool] = _never,
    clock: Callable[[], float] = time.time,
) -> Outcome:
    """Return what came of a plan.

    Parameters
    ----------
    folder
        Of this run alone; of a run that was killed there, it is gone on with.
    store
        The registry that takes the candidate, and has the current model; without one there is
        neither.
    processes
        That bring recordings into the recipe's form.
    report
        Is told how far it is.
    stopping
        Is asked now and then; true ends it, to be gone on with later.
    clock
        UTC, seconds since the epoch.

    Raises
    ------
    CannotTrain
        If nothing can be learned, before a minute is spent.
    Stopped
        If it was asked to stop.
    training.convert.NotTheSame
        If torch and the runtime differ: nothing is published then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    began = _claim(folder, plan, clock())
    if outcome := Outcome.of(folder):
        return outcome
    report(Step(stage=Stage.CHECK, said="It checks the plan."))
    base = open_base(_pinned(folder, plan, store), store)
    _prepared(plan, base, None, None)
    report(Step(stage=Stage.PREPARE, said="It brings recordings into the form of the input."))
    cache = open_corpus(plan).cache(base.recipe, processes=processes)
    prepared = _divided(folder, plan, base, cache)
    final = replace(plan, keys=prepared.keys, recipe=base.recipe)
    once(folder / PLAN, final.to_json)
    work = Work(plan=final, base=base, prepared=prepared, cache=cache, folder=folder)
    fitted = _fitted(work, report, stopping)
    report(Step(stage=Stage.CALIBRATE, said="It calibrates the probabilities."))
    served = serve(work, fitted.net)
    report(Step(stage=Stage.JUDGE, said="It reads the test part, once."))
    judged = put_to_test(work, served, store, clock())
    report(Step(stage=Stage.PUBLISH, said="It makes the package, and proves it the same net."))
    made = bring_out(work, served, judged, store, began=began, now=clock())
    report(Step(stage=Stage.REPORT, said="It writes the report."))
    return conclude(work, fitted, judged, made)


# Each stage


def _claim(folder: Path, plan: Plan, now: float) -> float:
    """Return when the run of this folder began; refuse the folder of another plan."""
    first = json.dumps({"plan": plan.digest, "began": now})
    run = json.loads(once(folder / RUN, lambda: first))
    if run["plan"] != plan.digest:
        raise CannotTrain(f"{folder} holds the run of another plan.")
    return float(run["began"])


def _pinned(folder: Path, plan: Plan, store: ModelStore | None) -> Plan:
    """Return the plan with the model that was current when the run began."""
    if plan.base != CURRENT:
        return plan
    path = folder / BASE
    if not path.is_file():
        put(path, read_base(CURRENT, store)[0])
    return replace(plan, base=str(path))


def _prepared(
    plan: Plan, base: Base, unusable: Mapping[str, str] | None, kept: Split | None
) -> Prepared:
    learned = base.digest is not None and plan.mode is not Mode.SCRATCH
    taught = open_corpus(plan).taught(base.digest) if learned and base.digest else frozenset()
    prepared = prepare(plan, unusable, kept=kept, taught=taught)
    if plan.mode is Mode.CONTINUE:
        check_same(base, replace(plan, keys=prepared.keys))
    return prepared


def _divided(folder: Path, plan: Plan, base: Base, cache: Cache) -> Prepared:
    """Return what teaches and what judges, the same in every attempt at the run."""
    path = folder / SPLIT
    kept = Split.load(path) if path.is_file() else None
    prepared = _prepared(plan, base, cache.unusable, kept)
    once(path, prepared.split.to_json)
    notes = json.loads(once(folder / NOTES, lambda: json.dumps(prepared.notes, indent=1)))
    return replace(prepared, notes=tuple(notes))


def _fitted(work: Work, report: Callable[[Step], None], stopping: Callable[[], bool]) -> Fitted:
    plan, split = work.plan, work.prepared.split

    def told(epoch: Epoch) -> None:
        said = f"Epoch {epoch.number} of {plan.epochs}: {plan.watched} {epoch.metric:.3f}."
        figures = asdict(epoch)
        number = figures.pop("number")
        report(Step(stage=Stage.FIT, said=said, epoch=number, epochs=plan.epochs, figures=figures))

    report(Step(stage=Stage.FIT, said="It learns.", epochs=plan.epochs))
    try:
        fitted = fit(
            net_of(work.base, plan),
            plan,
            work.examples(split.train),
            work.examples(split.validation),
            work.folder,
            report=told,
            stopping=stopping,
            embeddings=work.prepared.corpus.embeddings,
        )
    except NothingLearned:
        raise Stopped from None
    except ValueError as error:
        raise CannotTrain(str(error)) from None
    if fitted.stopped is Ending.ASKED:
        raise Stopped
    return fitted
