"""How good a package is on recordings that taught it nothing, beside another one if asked.

What is judged is the package as the node serves it: its recipe, its thresholds, ONNX Runtime.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.table import Table

from analysis.card import Activation
from analysis.errors import ModelRejected
from analysis.model import Model, load_model
from dicom_node.models import ModelStore
from training.answers import beside, columns, served_by
from training.bases import read_base
from training.convert import NotTheSame, Parity, parity, to_torch
from training.corpus import Corpus, Record
from training.corpus_report import flattered
from training.evaluate import Difference, Evaluation, evaluate, groups_of
from training.gate import Verdict, judge, separate
from training.labels import TAUGHT_BY_DEFAULT, Origin, Values
from training.plan import Mode, Plan, Task
from training.prepare import CannotTrain, choose_records, one_class, open_corpus
from training.publish import decisions
from training.report_html import write_report
from training.splits import PARTS, Split

_MEASURES: Final = ("AUROC", "AUPRC", "F1", "sensitivity", "specificity", "ECE")
_PARITY_RECORDS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which model is judged, and on what.

    Parameters
    ----------
    model, against
        A package, the digest of one, or "current".
    corpus
        The folder of the recordings.
    split, part
        A stored split and which part of it; without one every labelled recording judges.
    origins
        Whose labels judge; by default those that teach.
    sites
        Of which sites the recordings are; by default of all.
    """

    model: str
    corpus: str
    against: str | None = None
    split: Path | None = None
    part: str = "test"
    origins: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What came of it."""

    model: str
    """Name and version; so is `against`."""
    evaluation: Evaluation
    verdict: Verdict
    against: str | None = None
    other: Evaluation | None = None
    difference: Difference | None = None
    """How far the model is ahead of the other one."""
    notes: tuple[str, ...] = ()
    report: Path | None = None

    def to_mapping(self) -> dict[str, Any]:
        """Return the JSON form."""
        parts: dict[str, Evaluation | Verdict | Difference | None] = {
            "evaluation": self.evaluation,
            "verdict": self.verdict,
            "other": self.other,
            "difference": self.difference,
        }
        return {
            "model": self.model,
            "against": self.against,
            **{name: part and json.loads(part.to_json()) for name, part in parts.items()},
            "notes": self.notes,
            "report": self.report and str(self.report),
        }


def assess(
    question: Question, store: ModelStore | None = None, folder: Path | None = None
) -> Assessment:
    """Return how good a package is.

    Parameters
    ----------
    store
        The registry, for models that are named by digest.
    folder
        Gets the report, if there is one.

    Raises
    ------
    CannotTrain
        If nothing can be judged; the message says why in one sentence.
    """
    content, model = _loaded(question.model, store)
    plan = _plan(question, model)
    notes: list[str] = []
    corpus = open_corpus(plan)
    records = _records(question, plan, model, notes)
    if said := flattered(model.card, records):
        notes.append(said)
    plan, truth = _known(plan, corpus, records, notes)
    ids = [record.id for record in records]
    answers = columns(served_by(model, corpus, ids), model, plan.keys)
    evaluation = evaluate(
        answers,
        truth,
        keys=plan.keys,
        patients=[record.patient for record in records],
        thresholds=[label.threshold for label in model.card.labels if label.key in plan.keys],
        task=plan.task,
        groups=groups_of(records),
    )
    assessment = Assessment(
        model=_name(model),
        evaluation=evaluation,
        verdict=judge(
            evaluation,
            parity=_parity(content, corpus, model, ids),
            self_test=True,
            separation=separate(_taught(corpus, model), records),
        ),
        notes=(*notes, *evaluation.notes),
    )
    if question.against is not None:
        other = _loaded(question.against, store)[1]
        found = beside(other, plan, corpus, records, truth=truth, answers=answers)
        assessment = _compared(assessment, other, found)
    return replace(assessment, report=_reported(folder, plan, model, assessment))


def table(found: Assessment) -> Table:
    """Return the figures of every finding, and of all of them together, as a table."""
    head = ("finding", "with", "of", *_MEASURES, *(["ahead by"] if found.difference else []))
    shown = Table(*head, title=found.model)
    for item in found.evaluation.keys:
        figures = [str(item.figures[name]) for name in _MEASURES]
        ahead = [str(found.difference.keys.get(item.key, "–"))] if found.difference else []
        shown.add_row(item.key, str(item.positives), str(item.records), *figures, *ahead)
    macro = [str(found.evaluation.figure(name)) for name in _MEASURES]
    ahead = [str(found.difference.macro)] if found.difference else []
    shown.add_row("mean", "", str(found.evaluation.records), *macro, *ahead)
    return shown


# What is judged


def _loaded(name: str, store: ModelStore | None) -> tuple[bytes, Model]:
    content, _ = read_base(name, store)
    try:
        return content, load_model(content)
    except ModelRejected as error:
        raise CannotTrain(f"{name} cannot be judged: {error.message}") from None


def _plan(question: Question, model: Model) -> Plan:
    """Return the question as a plan: what the model finds, and whose labels judge."""
    card = model.card
    classes = card.activation is Activation.SOFTMAX
    try:
        return Plan(
            name=card.name,
            keys=tuple(label.key for label in card.labels),
            corpus=question.corpus,
            task=Task.MULTI_CLASS if classes else Task.MULTI_LABEL,
            base=_name(model),
            mode=Mode.CONTINUE,
            origins=tuple(map(Origin, question.origins)) or TAUGHT_BY_DEFAULT,
            sites=question.sites,
            recipe=card.recipe,
        )
    except ValueError as error:
        raise CannotTrain(str(error)) from None


def _records(question: Question, plan: Plan, model: Model, notes: list[str]) -> tuple[Record, ...]:
    """Return the recordings that judge: none of a patient from whom the model learned."""
    corpus = open_corpus(plan)
    records = choose_records(corpus, plan)
    if question.split is not None:
        part = frozenset(_part(question.split, question.part))
        records = tuple(record for record in records if record.id in part)
    known = {record.patient for record in _taught(corpus, model)}
    apart = tuple(record for record in records if record.patient not in known)
    if left := len(records) - len(apart):
        notes.append(f"{left} recordings are left out: the model learned from their patients.")
    if not apart:
        raise CannotTrain(" ".join([*notes, "No recording is left that could judge."]))
    return apart


def _part(path: Path, name: str) -> tuple[str, ...]:
    if name not in PARTS:
        raise CannotTrain(f"A part of a split is one of {', '.join(PARTS)}, not {name}.")
    try:
        return Split.load(path).parts.get(name, ())
    except (OSError, ValueError):
        raise CannotTrain(f"{path} holds no split.") from None


def _known(
    plan: Plan, corpus: Corpus, records: Sequence[Record], notes: list[str]
) -> tuple[Plan, Values]:
    """Return the plan of what the labels speak of, and their matrix."""
    table = corpus.labels.select(origins=plan.origins, keys=plan.keys)
    truth = table.matrix([record.id for record in records])
    spoken = [bool(np.isfinite(column).any()) for column in truth.T]
    keys = tuple(key for key, said in zip(plan.keys, spoken, strict=True) if said)
    if not keys:
        raise CannotTrain(
            f"No label of {' or '.join(plan.origins)} says anything of {', '.join(plan.keys)}."
        )
    if plan.task is Task.MULTI_CLASS:
        return plan, one_class(truth)
    if silent := [key for key in plan.keys if key not in keys]:
        notes.append(f"Not judged, for want of labels: {', '.join(silent)}.")
    return replace(plan, keys=keys), truth[:, spoken]


def _taught(corpus: Corpus, model: Model) -> tuple[Record, ...]:
    taught = corpus.taught(model.identity.digest)
    return tuple(record for record in corpus.records if record.id in taught)


def _parity(content: bytes, corpus: Corpus, model: Model, ids: Sequence[str]) -> Parity | None:
    """Return how far the package is from itself in torch; None where torch cannot read it."""
    cache = corpus.cache(model.card.recipe)
    rows = cache.rows(ids)[:_PARITY_RECORDS]
    try:
        net = to_torch(content).eval()
        return parity(net, content, np.asarray(cache.signal[rows]), decide=decisions(model.card))
    except (ModelRejected, NotTheSame):
        return None


def _compared(
    found: Assessment, other: Model, pair: tuple[Evaluation, Difference] | None
) -> Assessment:
    if pair is None:
        note = f"{_name(other)} finds nothing of the same: they are not compared."
        return replace(found, notes=(*found.notes, note))
    return replace(found, against=_name(other), other=pair[0], difference=pair[1])


def _reported(folder: Path | None, plan: Plan, model: Model, found: Assessment) -> Path | None:
    if folder is None:
        return None
    return write_report(
        folder,
        plan=plan,
        evaluation=found.evaluation,
        verdict=found.verdict,
        difference=found.difference,
        card=model.card,
        notes=[note for note in found.notes if note not in found.evaluation.notes],
    )


def _name(model: Model) -> str:
    return f"{model.card.name} {model.card.version}"
