"""The judgement: the net as it would serve, and how good that is beside the current model.

Calibration and thresholds are fitted where nothing is judged; the test part is read once.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from dicom_node.models import ModelStore
from training.answers import beside, by_record
from training.calibrate import Calibration, calibrate, thresholds
from training.evaluate import Difference, Evaluation, evaluate, groups_of
from training.fit import predict
from training.folders import DIFFERENCE, EVALUATION, NULL, OTHER, TESTED, once, unless_null
from training.intervals import Array
from training.lead_subsets import sentence as lead_sentence
from training.lead_subsets import try_subsets
from training.plan import Task
from training.work import Work


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Served:
    """The net as it would serve."""

    net: nn.Module
    calibration: Calibration
    thresholds: tuple[float, ...]
    notes: tuple[str, ...]
    """A sentence for each thing that limits it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How good it is."""

    evaluation: Evaluation
    current: Evaluation | None
    difference: Difference | None


def serve(work: Work, net: nn.Module) -> Served:
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
    return Served(net=net, calibration=calibration, thresholds=chosen, notes=tuple(notes))


def put_to_test(work: Work, served: Served, store: ModelStore | None, now: float) -> Judged:
    """Return how good it is, beside the current model; read from the folder if it is there."""
    folder, ids = work.folder, work.judging
    touched = {"at": now, "part": work.part, "records": len(ids), "digest": _digest(ids)}
    once(folder / TESTED, lambda: json.dumps(touched))
    if not (folder / DIFFERENCE).is_file():
        answers = _answers(work, served, ids)
        evaluation = _evaluated(work, answers, served.thresholds)
        once(folder / EVALUATION, evaluation.to_json)
        current, difference = _beside_current(work, answers, store) or (None, None)
        once(folder / OTHER, lambda: current.to_json() if current else NULL)
        once(folder / DIFFERENCE, lambda: difference.to_json() if difference else NULL)
    return Judged(
        evaluation=Evaluation.from_json((folder / EVALUATION).read_text()),
        current=unless_null(folder / OTHER, Evaluation.from_json),
        difference=unless_null(folder / DIFFERENCE, Difference.from_json),
    )


def _answers(work: Work, served: Served, ids: Sequence[str]) -> Array:
    part = work.examples(ids)
    answers = served.calibration.apply(predict(served.net, part.waveforms))
    return by_record(answers, part.ids, ids, work.plan.keys, work.plan.task)


def _evaluated(work: Work, answers: Array, chosen: Sequence[float]) -> Evaluation:
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
    work: Work, answers: Array, store: ModelStore | None
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


def _digest(ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()
