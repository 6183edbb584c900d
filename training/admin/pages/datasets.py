"""What the data sets hold, and how well any model reads the labelled part of the corpus."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from analysis.classify import classify
from analysis.ecg import Patient
from analysis.errors import ModelRejected
from analysis.model import Model, load_model
from analysis.result import Finding
from training.admin.access import Office
from training.admin.api import models
from training.admin.api.corpus import corpus_of
from training.admin.pages.holdings import Holdings, holdings_of
from training.admin.pages.words import finding_name
from training.admin.problems import Problem
from training.admin.queries import Qualities
from training.admin.tables import recordings, spoken
from training.corpus import Corpus, Record
from training.corpus_report import flattered, label_counts
from training.labels import TAUGHT_BY_DEFAULT, Values

MOST: Final = 400
"""Recordings that one look at a model takes; a run's report takes all."""
AT_ONCE: Final = 100
"""Recordings of the corpus whose quality one request looks at."""
RESAMPLES: Final = 200
_TOP: Final = 20


def summary(office: Office) -> dict[str, Any]:
    """Return what the page of the data sets draws."""
    corpus = corpus_of(office)
    found = holdings_of(corpus)
    return {
        "corpus": _corpus(found),
        "node": _node(office),
        "models": [item for item in models.models(office) if item.present],
        "warnings": _warnings(found),
        "sites": sorted({record.site for record in found.records}),
    }


def _corpus(found: Holdings) -> dict[str, Any]:
    records = found.records
    counts = sorted(label_counts(records, found.labels), key=lambda item: -item.present)
    ages = Counter(_decade(r.age) for r in records)
    return {
        "recordings": len(records),
        "patients": len({record.patient for record in records}),
        "hours": sum(record.duration for record in records) / 3600,
        "unlabelled": sum(record.id not in found.said for record in records),
        "labels": {
            "names": [finding_name(item.key) for item in counts[:_TOP]],
            "present": [item.present for item in counts[:_TOP]],
            "absent": [item.absent for item in counts[:_TOP]],
        },
        "ages": _bars(ages),
        "sexes": _bars(Counter(_SEXES.get(r.sex or "", "unknown") for r in records)),
        "devices": _bars(Counter(record.device for record in records)),
        "quarters": _bars(Counter(record.quarter or "unknown" for record in records)),
    }


def _decade(age: int | None) -> str:
    return "unknown" if age is None else f"{age // 10 * 10}–{age // 10 * 10 + 9}"


_SEXES: Final = {"M": "male", "F": "female", "O": "other"}


def _bars(counts: Counter[str]) -> dict[str, Any]:
    names = sorted(counts, key=lambda name: (name == "unknown", len(name), name))
    return {"names": names, "counts": [counts[name] for name in names]}


def _node(office: Office) -> dict[str, Any]:
    """Return how well what the node received could be read, and what it stated."""
    by = sa.func.count()
    quality = office.ledger.query(
        sa.select(recordings.c.quality, by)
        .where(recordings.c.analysed)
        .group_by(recordings.c.quality)
    )
    said = office.ledger.query(
        sa.select(spoken.c.key, by).group_by(spoken.c.key).order_by(by.desc()).limit(_TOP)
    )
    return {
        "quality": _bars(Counter({str(row[0]): int(row[1]) for row in quality})),
        "statements": {
            "names": [finding_name(row[0]) for row in said],
            "counts": [int(row[1]) for row in said],
        },
    }


def _warnings(found: Holdings) -> list[str]:
    opposed = len(found.labels.contradictions)
    return [f"{opposed} labels contradict each other and count as unknown."] if opposed else []


# How well the recordings can be read


def quality(office: Office) -> dict[str, Any]:
    """Return how many recordings of the corpus can be read how well, after a look at some more."""
    corpus = corpus_of(office)
    found = Qualities(office.ledger, corpus)
    left = found.look(frozenset(holdings_of(corpus).ids), AT_ONCE)
    return {"quality": _bars(found.counts), "left": left}


# A model on the labelled part


def evaluation(office: Office, digest: str, site: str) -> dict[str, Any]:
    """Return how a model does on recordings of the corpus whose labels it can be held against.

    Patients from whom it learned are left out.

    Parameters
    ----------
    digest
        Of the model.
    site
        Whose recordings judge; "" for those of every site.

    Raises
    ------
    Problem
        If there is no such model, or nothing to hold it against.
    """
    found = models.one(office, digest)
    corpus = corpus_of(office)
    held = holdings_of(corpus)
    path = models.store_of(office).path(found.digest)
    try:
        document = _evaluated(path, corpus.folder, held.stamp, digest, site)
    except ModelRejected as error:
        raise Problem(HTTPStatus.CONFLICT, error.message, reason=error.reason) from None
    if not document["keys"]:
        raise Problem(HTTPStatus.CONFLICT, _nobody(document["excluded"]), reason="no-labels")
    return document | {"model": f"{found.name} {found.version}"}


def _nobody(excluded: int) -> str:
    if excluded:
        return (
            f"It learned from the patients of all {excluded} recordings whose labels could judge"
            " it; the report of its run has the honest figures."
        )
    return "No recording of the corpus has a label of a finding that this model knows."


@lru_cache(maxsize=8)
def _evaluated(
    path: Path, folder: Path, _changed: tuple[int, ...], digest: str, site: str
) -> dict[str, Any]:
    from training.evaluate import evaluate  # noqa: PLC0415 - scikit-learn takes a second to load

    model, corpus = load_model(path), Corpus(folder)
    keys = tuple(label.key for label in model.card.labels)
    judges = _judges(corpus, keys, digest, site)
    known = [at for at in range(len(keys)) if np.isfinite(judges.truth[:, at]).any()]
    if not known:
        return {"keys": [], "excluded": judges.excluded}
    answers = _answers(model, corpus, judges.records)
    found = evaluate(
        answers[:, known],
        judges.truth[:, known],
        keys=[keys[at] for at in known],
        patients=[record.patient for record in judges.records],
        thresholds=[model.card.labels[at].threshold or 0.5 for at in known],
        resamples=RESAMPLES,
    )
    return {
        "records": found.records,
        "patients": found.patients,
        "excluded": judges.excluded,
        "caution": flattered(model.card, judges.records) or "",
        "keys": [_key(item) for item in found.keys],
    }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Judges:
    """The recordings that a model is held against."""

    records: tuple[Record, ...]
    truth: Values
    """``(records, keys)``, NaN where nobody said."""
    excluded: int
    """Labelled recordings that may not judge: the model learned from their patients."""


def _judges(corpus: Corpus, keys: Sequence[str], digest: str, site: str) -> _Judges:
    held = holdings_of(corpus)
    truth = held.labels.select(origins=TAUGHT_BY_DEFAULT, keys=keys).matrix(held.ids)
    taught = corpus.taught(digest)
    patients = {record.patient for record in held.records if record.id in taught}
    said = np.isfinite(truth).any(axis=1) if held.ids else np.empty(0, bool)
    labelled = [
        row for row in np.flatnonzero(said).tolist() if site in {"", held.records[row].site}
    ]
    apart = [row for row in labelled if held.records[row].patient not in patients]
    rows = _evenly(apart, MOST)
    return _Judges(
        records=tuple(held.records[row] for row in rows),
        truth=truth[rows],
        excluded=len(labelled) - len(apart),
    )


def _evenly(rows: Sequence[int], most: int) -> npt.NDArray[np.intp]:
    """Return at most so many of the rows, from the first to the last."""
    places = np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.intp)
    return np.asarray(rows, np.intp)[places]


def _answers(model: Model, corpus: Corpus, records: Sequence[Record]) -> npt.NDArray[np.float64]:
    """Return ``(records, labels)`` probabilities, NaN where it abstained."""
    found = []
    for record in records:
        patient = Patient(age=record.age, sex=record.sex)
        ((*findings,),) = classify([model], [corpus.ecg(record.id)], [patient])
        found.append([_probability(item) for item in findings])
    return np.array(found, np.float64).reshape(len(records), len(model.card.labels))


def _probability(item: Finding) -> float:
    return np.nan if item.probability is None else item.probability


def _key(item: Any) -> dict[str, Any]:
    auroc = item.figures.get("AUROC")
    return {
        "key": item.key,
        "name": finding_name(item.key),
        "records": item.records,
        "positives": item.positives,
        "threshold": item.threshold,
        "auroc": None if auroc is None or auroc.value is None else
        {"value": auroc.value, "low": auroc.low, "high": auroc.high},
        "why": auroc.reason if auroc is not None else None,
        "confusion": item.confusion,
        "roc": item.roc,
        "points": [
            {"name": p.name, "threshold": p.threshold, "sensitivity": p.sensitivity,
             "specificity": p.specificity, "f1": p.f1,
             "around": {name: (i.low, i.high) for name, i in p.figures.items()}}
            for p in item.operating_points
        ],
    }  # fmt: skip
