"""The use case: from a plan and a corpus to a candidate model, and the honest answer how good.

Checks come first, and a plan that cannot be learned is refused in a sentence. Then each stage
leaves what it made in the run's folder, whole or not at all, and is not done twice: a run that
was killed at any moment goes on where it was, to the same result. The test part is read once,
when everything that could have been chosen has been chosen.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from torch import nn

from analysis.card import Card
from analysis.codes import VOCABULARY
from analysis.errors import ModelRejected
from analysis.model import load_model
from dicom_node.models import ModelStore
from training.answers import beside, by_record, examples
from training.bases import Base, check_same, net_of, open_base, read_base
from training.caches import Cache
from training.calibrate import FEW, Calibrated, Calibration, calibrate, thresholds
from training.cards import flattered, make_card, self_test
from training.convert import Parity, parity, to_onnx
from training.evaluate import Difference, Evaluation, evaluate, groups_of
from training.fit import LAST, Ending, Epoch, Examples, Fitted, NothingLearned, fit, predict
from training.gate import Verdict, judge, separate
from training.intervals import Array
from training.lead_subsets import sentence as lead_sentence
from training.lead_subsets import try_subsets
from training.plan import CURRENT, Mode, Plan, Task
from training.prepare import CannotTrain, Prepared, open_corpus, prepare
from training.publish import publish
from training.report_html import write_report
from training.splits import Split
from training.steps import Stage, Step

RUN, PLAN, SPLIT, NOTES = "run.json", "plan.json", "split.json", "notes.json"
EVALUATION, OTHER, DIFFERENCE = "evaluation.json", "current.json", "difference.json"
TESTED, PARITY, VERDICT, OUTCOME = "tested.json", "parity.json", "verdict.json", "outcome.json"
BASE, PACKAGE, NET = "base.onnx", "package.onnx", "net.onnx"

_PARITY_RECORDS: Final = 256


class Stopped(Exception):
    """Somebody asked the run to stop; called again, it goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run."""

    folder: Path
    model: str | None
    """Digest of the package, a candidate now; None where none could be made."""
    passed: bool
    """Whether the promotion gate lets it pass."""
    said: str
    """The honest answer, in a sentence or two."""
    notes: tuple[str, ...]
    """What was left out, and what limits the result."""

    def to_mapping(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self) | {"folder": str(self.folder)}

    @classmethod
    def of(cls, folder: Path) -> "Outcome | None":
        """Return what came of the run of a folder; None if it has not come to its end."""
        try:
            document = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return cls(**document | {"folder": folder, "notes": tuple(document["notes"])})


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
    _once(folder / PLAN, final.to_json)
    work = _Work(plan=final, base=base, prepared=prepared, cache=cache, folder=folder)
    fitted = _fitted(work, report, stopping)
    report(Step(stage=Stage.CALIBRATE, said="It calibrates the probabilities."))
    served = _serve(work, fitted.net)
    report(Step(stage=Stage.JUDGE, said="It reads the test part, once."))
    judged = _judge(work, served, store, clock())
    report(Step(stage=Stage.PUBLISH, said="It makes the package, and proves it the same net."))
    made = _publish(work, served, judged, store, began=began, now=clock())
    report(Step(stage=Stage.REPORT, said="It writes the report."))
    return _conclude(work, fitted, judged, made)


# Each stage


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Work:
    """What every stage needs."""

    plan: Plan
    """As it came to be: the findings that are left, the base's recipe."""
    base: Base
    prepared: Prepared
    cache: Cache
    folder: Path

    @property
    def calibrating(self) -> tuple[str, ...]:
        """The recordings on which calibration and thresholds are fitted.

        Where the calibration part has too few of a finding, the validation part helps out.
        """
        split = self.prepared.split
        matrix = self.prepared.matrix(split.calibration)
        counts = [(matrix == value).sum(axis=0).min() for value in (0, 1)]
        number = self.plan.task is Task.REGRESSION
        enough = number or (len(matrix) and min(counts) >= FEW)
        return split.calibration if enough else (*split.calibration, *split.validation)

    @property
    def judging(self) -> tuple[str, ...]:
        """The recordings on which it is judged."""
        split = self.prepared.split
        return split.test or split.validation

    @property
    def taught(self) -> tuple[str, ...]:
        """Every recording that something was learned from or chosen by."""
        split = self.prepared.split
        return tuple(sorted({*split.train, *split.validation, *split.calibration}))

    @property
    def inherited(self) -> frozenset[str]:
        """The recordings that its base learned from."""
        if self.base.digest is None or self.plan.mode is Mode.SCRATCH:
            return frozenset()
        return self.prepared.corpus.taught(self.base.digest)

    @property
    def known(self) -> Card | None:
        """The card of its base, where that has learned before and has one."""
        return None if self.plan.mode is Mode.SCRATCH else self.base.card

    def examples(self, ids: Sequence[str]) -> Examples:
        return examples(self.prepared, self.cache, ids)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Served:
    """The net as it would serve."""

    net: nn.Module
    calibration: Calibration
    thresholds: tuple[float, ...]
    notes: tuple[str, ...]
    """A sentence for each thing that limits it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """How good it is."""

    evaluation: Evaluation
    current: Evaluation | None
    difference: Difference | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What came out."""

    model: str | None
    card: Card | None
    parity: Parity
    verdict: Verdict


def _claim(folder: Path, plan: Plan, now: float) -> float:
    """Return when the run of this folder began; refuse the folder of another plan."""
    first = json.dumps({"plan": plan.digest, "began": now})
    run = json.loads(_once(folder / RUN, lambda: first))
    if run["plan"] != plan.digest:
        raise CannotTrain(f"{folder} holds the run of another plan.")
    return float(run["began"])


def _pinned(folder: Path, plan: Plan, store: ModelStore | None) -> Plan:
    """Return the plan with the model that was current when the run began."""
    if plan.base != CURRENT:
        return plan
    path = folder / BASE
    if not path.is_file():
        _put(path, read_base(CURRENT, store)[0])
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
    _once(path, prepared.split.to_json)
    notes = json.loads(_once(folder / NOTES, lambda: json.dumps(prepared.notes, indent=1)))
    return replace(prepared, notes=tuple(notes))


def _fitted(work: _Work, report: Callable[[Step], None], stopping: Callable[[], bool]) -> Fitted:
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


def _serve(work: _Work, net: nn.Module) -> _Served:
    """Return the net with calibration and thresholds, fitted where nothing is judged."""
    plan, ids = work.plan, work.calibrating
    part = work.examples(ids)
    logits = predict(net, part.waveforms)
    truth = work.prepared.matrix(ids)
    if plan.task is Task.MULTI_LABEL:  # each curve rises: the window that counts stays the same
        windows, wanted = by_record(logits, part.ids, ids, plan.keys, plan.task), truth
    else:
        windows, wanted = logits, part.targets
    calibration = calibrate(windows, wanted, plan.task, plan.calibration, keys=plan.keys)
    chosen: tuple[float, ...] = ()
    if plan.task is not Task.REGRESSION:
        answers = by_record(calibration.apply(logits), part.ids, ids, plan.keys, plan.task)
        chosen = thresholds(answers, truth, plan.keys, plan.threshold_purpose)
    tried = try_subsets(net, calibration, plan, work.examples(work.prepared.split.validation))
    notes = [lead_sentence(tried), *calibration.notes]
    if set(ids) & set(work.prepared.split.validation):
        notes.append("The calibration part has too few of some finding: the validation part helps.")
    return _Served(net=net, calibration=calibration, thresholds=chosen, notes=tuple(notes))


# The judgement


def _judge(work: _Work, served: _Served, store: ModelStore | None, now: float) -> _Judged:
    """Return how good it is, beside the current model; read from the folder if it is there."""
    folder, ids = work.folder, work.judging
    touched = {"at": now, "part": _part(work), "records": len(ids), "digest": _digest(ids)}
    _once(folder / TESTED, lambda: json.dumps(touched))
    if not (folder / DIFFERENCE).is_file():
        answers = _answers(work, served, ids)
        evaluation = _evaluated(work, answers, served.thresholds)
        _once(folder / EVALUATION, evaluation.to_json)
        current, difference = _beside_current(work, answers, store) or (None, None)
        _once(folder / OTHER, current.to_json if current else _null)
        _once(folder / DIFFERENCE, difference.to_json if difference else _null)
    return _Judged(
        evaluation=Evaluation.from_json((folder / EVALUATION).read_text()),
        current=_unless_null(folder / OTHER, Evaluation.from_json),
        difference=_unless_null(folder / DIFFERENCE, Difference.from_json),
    )


def _part(work: _Work) -> str:
    return "test" if work.prepared.split.test else "validation"


def _answers(work: _Work, served: _Served, ids: Sequence[str]) -> Array:
    part = work.examples(ids)
    answers = served.calibration.apply(predict(served.net, part.waveforms))
    return by_record(answers, part.ids, ids, work.plan.keys, work.plan.task)


def _evaluated(work: _Work, answers: Array, chosen: Sequence[float]) -> Evaluation:
    records = [work.prepared.records[record] for record in work.judging]
    return evaluate(
        answers,
        work.prepared.matrix(work.judging),
        keys=work.plan.keys,
        patients=[record.patient for record in records],
        thresholds=chosen or None,
        task=work.plan.task,
        groups=groups_of(records),
        seed=work.plan.seed,
    )


def _beside_current(
    work: _Work, answers: Array, store: ModelStore | None
) -> tuple[Evaluation, Difference] | None:
    digests = store.current() if store else ()
    if store is None or not digests:
        return None
    return beside(
        store.load(digests[0]),
        work.plan,
        work.prepared.corpus,
        [work.prepared.records[record] for record in work.judging],
        truth=work.prepared.matrix(work.judging),
        answers=answers,
    )


# What comes out


def _publish(
    work: _Work,
    served: _Served,
    judged: _Judged,
    store: ModelStore | None,
    *,
    began: float,
    now: float,
) -> _Made:
    """Return what came out: a candidate of the registry, or a plain ONNX file and why."""
    folder = work.folder
    created = datetime.fromtimestamp(began, UTC).date()
    card = _card(work, served, judged, created) if _packable(work.plan) else None
    path = folder / (PACKAGE if card else NET)
    if not path.is_file():
        content, found = _export(work, served, card)
        _put(folder / PARITY, json.dumps(asdict(found)).encode())
        _put(path, content)
    content, same = path.read_bytes(), Parity(**json.loads((folder / PARITY).read_text()))
    verdict = _verdict(work, judged, same, content if card else None)
    _put(folder / VERDICT, verdict.to_json().encode())
    made = _Made(model=None, card=card, parity=same, verdict=verdict)
    if card is None:
        return made
    digest = hashlib.sha256(content).hexdigest()
    work.prepared.corpus.learned(digest, {*work.taught, *work.inherited})
    if store is not None:
        store.add_candidate(content, now, _evidence(work, judged, made))
    return replace(made, model=digest)


def _verdict(work: _Work, judged: _Judged, same: Parity, package: bytes | None) -> Verdict:
    every = {record.id: record for record in work.prepared.corpus.records}
    learned = {*work.taught, *work.inherited}
    return judge(
        judged.evaluation,
        judged.current,
        judged.difference,
        same,
        self_test=None if package is None else _loads(package),
        separation=separate(
            [every[record] for record in learned if record in every],
            [every[record] for record in work.judging if record in every],
        ),
    )


def _loads(package: bytes) -> bool:
    try:
        load_model(package)
    except ModelRejected:
        return False
    return True


def _packable(plan: Plan) -> bool:
    """Whether the node could report it: findings of the vocabulary alone."""
    return plan.task is not Task.REGRESSION and all(key in VOCABULARY for key in plan.keys)


def _card(work: _Work, served: _Served, judged: _Judged, created: date) -> Card:
    prepared = work.prepared
    return make_card(
        work.plan,
        version=f"{created:%Y.%m.%d}-{work.folder.name}",
        created=created,
        thresholds=served.thresholds,
        evaluation=judged.evaluation,
        judged=f"{_part(work)} part: {len(work.judging)} recordings",
        taught=[prepared.records[record] for record in work.taught],
        start=work.base.name,
        inherited=work.known.training_data if work.known else (),
        notes=(*served.notes, *prepared.notes),
    )


def _export(work: _Work, served: _Served, card: Card | None) -> tuple[bytes, Parity]:
    """Return the ONNX form, and how far it is from the net: a gate."""
    net = Calibrated(served.net, served.calibration).eval()
    signal, recipe = work.cache.signal, work.plan.recipe
    rows = np.linspace(0, len(signal) - 1, min(_PARITY_RECORDS, len(signal))).astype(int)
    waveforms = np.asarray(signal[rows])
    if card is None:
        content = to_onnx(net, leads=len(recipe.leads), samples=recipe.samples)
        return content, parity(net, content, waveforms)
    package = publish(net, card, waveforms=waveforms, self_test=self_test(recipe))
    return package.content, package.parity


def _evidence(work: _Work, judged: _Judged, made: _Made) -> dict[str, Any]:
    """Return what speaks for a candidate, as the registry keeps it."""
    difference = judged.difference
    return {
        "run": work.folder.name,
        "corpus": str(work.prepared.corpus.folder.absolute()),
        "base": work.base.digest or work.base.name,
        "plan": work.plan.to_mapping(),
        "parity": asdict(made.parity),
        "verdict": json.loads(made.verdict.to_json()),
        "evaluation": json.loads(judged.evaluation.to_json()),
        "difference": json.loads(difference.to_json()) if difference else None,
    }


def _conclude(work: _Work, fitted: Fitted, judged: _Judged, made: _Made) -> Outcome:
    """Return the outcome, after the report was written."""
    prepared = work.prepared
    before = tuple(_cautions(work))
    write_report(
        work.folder,
        plan=work.plan,
        split=prepared.split,
        epochs=fitted.epochs,
        evaluation=judged.evaluation,
        difference=judged.difference,
        verdict=made.verdict,
        card=made.card,
        notes=[*before, *(note for note in prepared.notes if note not in prepared.split.warnings)],
    )
    outcome = Outcome(
        folder=work.folder,
        model=made.model,
        passed=made.verdict.passed,
        said=_said(work, judged, made),
        notes=(*before, *prepared.notes, *judged.evaluation.notes),
    )
    _put(work.folder / OUTCOME, json.dumps(outcome.to_mapping(), indent=1).encode())
    (work.folder / LAST).unlink(missing_ok=True)
    return outcome


def _cautions(work: _Work) -> Iterator[str]:
    """Yield a sentence for each thing by which the figures may flatter."""
    judging = [work.prepared.records[record] for record in work.judging]
    if work.known and not work.inherited and (said := flattered(work.known, judging)):
        yield said
    mine = json.loads((work.folder / TESTED).read_text(encoding="utf-8"))
    others = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in work.folder.parent.glob(f"*/{TESTED}")
    ]
    same = [item for item in others if item["digest"] == mine["digest"] and item["at"] < mine["at"]]
    if same:
        yield (
            f"The {mine['part']} part judged {len(same)} runs before this one: what was chosen by"
            " it is no longer new to it."
        )


def _said(work: _Work, judged: _Judged, made: _Made) -> str:
    evaluation = judged.evaluation
    figure = evaluation.figure(evaluation.leading)
    head = (
        f"{evaluation.leading} {figure} on {evaluation.patients} patients of the {_part(work)} part"
    )
    if made.model is None:
        return (
            f"{head}; no package: {', '.join(work.plan.keys)} is no finding that the node reports."
        )
    if made.verdict.passed:
        return f"{head}; it passes the gate, and a person may promote it."
    return f"{head}; it does not pass the gate: {' '.join(made.verdict.reasons)}"


# Files, each whole or not there


def _once(path: Path, make: Callable[[], str]) -> str:
    """Return the text of a file, which is made if it is not there yet."""
    if not path.is_file():
        _put(path, make().encode())
    return path.read_text(encoding="utf-8")


def _put(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _null() -> str:
    return "null"


_Form = TypeVar("_Form")


def _unless_null(path: Path, read: Callable[[str], _Form]) -> _Form | None:
    text = path.read_text(encoding="utf-8")
    return None if text == _null() else read(text)


def _digest(ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()
