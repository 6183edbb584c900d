"""What comes out of a run: a candidate with its evidence, and the honest answer how good."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from analysis.card import Card
from analysis.codes import VOCABULARY
from analysis.errors import ModelRejected
from analysis.model import load_model
from dicom_node.models import ModelStore
from training.calibrate import Calibrated
from training.cards import make_card, self_test
from training.convert import Parity, parity, to_onnx
from training.corpus_report import flattered
from training.fit import LAST, Fitted
from training.folders import NET, OUTCOME, PACKAGE, PARITY, TESTED, VERDICT, put
from training.gate import Verdict, judge, separate
from training.judgement import Judged, Served
from training.plan import Plan, Task
from training.publish import publish
from training.report_html import write_report
from training.work import Work

_PARITY_RECORDS: Final = 256


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What came out."""

    model: str | None
    card: Card | None
    parity: Parity
    verdict: Verdict


def bring_out(
    work: Work,
    served: Served,
    judged: Judged,
    store: ModelStore | None,
    *,
    began: float,
    now: float,
) -> Made:
    """Return what came out: a candidate of the registry, or a plain ONNX file and why."""
    folder = work.folder
    created = datetime.fromtimestamp(began, UTC).date()
    card = _card(work, served, judged, created) if _packable(work.plan) else None
    path = folder / (PACKAGE if card else NET)
    if not path.is_file():
        content, found = _export(work, served, card)
        put(folder / PARITY, json.dumps(asdict(found)).encode())
        put(path, content)
    content, same = path.read_bytes(), Parity(**json.loads((folder / PARITY).read_text()))
    verdict = _verdict(work, judged, same, content if card else None)
    put(folder / VERDICT, verdict.to_json().encode())
    made = Made(model=None, card=card, parity=same, verdict=verdict)
    digest = hashlib.sha256(content).hexdigest()
    work.prepared.corpus.learned(digest, {*work.taught, *work.inherited})
    if card is None:
        return made
    if store is not None:
        store.add_candidate(content, now, _evidence(work, judged, made))
    return replace(made, model=digest)


def _verdict(work: Work, judged: Judged, same: Parity, package: bytes | None) -> Verdict:
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


def _card(work: Work, served: Served, judged: Judged, created: date) -> Card:
    prepared = work.prepared
    return make_card(
        work.plan,
        version=f"{created:%Y.%m.%d}-{work.folder.name}",
        created=created,
        thresholds=served.thresholds,
        evaluation=judged.evaluation,
        judged=f"{work.part} part: {len(work.judging)} recordings",
        taught=[prepared.records[record] for record in work.taught],
        start=work.base.name,
        inherited=work.known.training_data if work.known else (),
        notes=(*served.notes, *prepared.notes),
    )


def _export(work: Work, served: Served, card: Card | None) -> tuple[bytes, Parity]:
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


def _evidence(work: Work, judged: Judged, made: Made) -> dict[str, Any]:
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


def conclude(work: Work, fitted: Fitted, judged: Judged, made: Made) -> Outcome:
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
    put(work.folder / OUTCOME, json.dumps(outcome.to_mapping(), indent=1).encode())
    (work.folder / LAST).unlink(missing_ok=True)
    return outcome


def _cautions(work: Work) -> Iterator[str]:
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


def _said(work: Work, judged: Judged, made: Made) -> str:
    evaluation = judged.evaluation
    figure = evaluation.figure(evaluation.leading)
    head = (
        f"{evaluation.leading} {figure} on {evaluation.patients} patients of the {work.part} part"
    )
    if made.model is None:
        return (
            f"{head}; no package: {', '.join(work.plan.keys)} is no finding that the node reports."
        )
    if made.verdict.passed:
        return f"{head}; it passes the gate, and a person may promote it."
    return f"{head}; it does not pass the gate: {' '.join(made.verdict.reasons)}"
