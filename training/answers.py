"""Answers for recordings from those for rows: a longer recording is read in windows, as served."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.features import Features, chosen, measure_features
from analysis.model import Model
from training.caches import Cache, Rows
from training.corpus import Corpus, Record
from training.epochs import Examples
from training.evaluate import Difference, Evaluation, compare, evaluate
from training.intervals import Array
from training.labels import Values
from training.plan import Plan, Task
from training.prepare import Prepared

NORMAL = "normal"
"""The finding that every window must show."""


class View:
    """Some rows of a cache, read from the disk when they are asked for.

    It is indexed as an array of these rows would be.
    """

    def __init__(self, signal: Rows, rows: npt.NDArray[np.int64]) -> None:
        self._signal = signal
        self._rows = rows
        self.shape = (len(rows), *signal.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which: Any) -> Rows:
        """Return these of the rows, in memory."""
        return np.asarray(self._signal[self._rows[which]])


def examples(prepared: Prepared, cache: Cache, ids: Sequence[str]) -> Examples:
    """Return the rows of some recordings with what is known of them."""
    rows = cache.rows(ids)
    owners = tuple(cache.ids[row] for row in rows)
    return Examples(
        View(cache.signal, rows),  # type: ignore[arg-type]  # it is indexed like an array
        prepared.matrix(owners),
        owners,
        tuple(prepared.records[record].patient for record in owners),
    )


def by_record(
    values: Array, owners: Sequence[str], ids: Sequence[str], keys: Sequence[str], task: Task
) -> Array:
    """Return ``(records, keys)`` from ``(rows, keys)``; NaN for a recording without a row.

    A finding's answer is the highest of any row, that of ``normal`` the lowest, as
    :func:`analysis.classify.classify` has it; a number's is the mean.

    Parameters
    ----------
    owners
        The recording of each row.
    """
    places: dict[str, list[int]] = {}
    for row, record in enumerate(owners):
        places.setdefault(record, []).append(row)
    found = np.full((len(ids), len(keys)), np.nan)
    lowest = np.array([key == NORMAL for key in keys])
    for at, record in enumerate(ids):
        if record in places:
            found[at] = _settled(values[places[record]], lowest, task)
    return found


def _settled(windows: Array, lowest: npt.NDArray[np.bool_], task: Task) -> Array:
    if task is Task.REGRESSION:
        return np.asarray(windows.mean(axis=0))
    return np.asarray(np.where(lowest, windows.min(axis=0), windows.max(axis=0)))


# Of packages


def served_by(model: Model, corpus: Corpus, ids: Sequence[str]) -> Array:
    """Return the probabilities ``(records, labels)`` that a package gives recordings.

    NaN where its recipe cannot read one.
    """
    cache = corpus.cache(model.card.recipe, processes=1)
    rows = cache.rows(ids)
    owners = [cache.ids[row] for row in rows]
    measured = _measured(model, corpus, owners)
    parts = zip(_parts(rows), _parts(np.arange(len(rows))), strict=True)
    found = [model.probabilities(cache.signal[part], measured[those]) for part, those in parts]
    keys = [label.key for label in model.card.labels]
    return by_record(np.concatenate(found), owners, ids, keys, Task.MULTI_LABEL)


def _measured(model: Model, corpus: Corpus, owners: Sequence[str]) -> Features:
    """Return the features that a package reads beside the waveform, ``(rows, features)``."""
    wanted = model.card.features
    if not wanted:
        return np.empty((len(owners), 0), np.float32)
    known = {each: chosen(measure_features(corpus.ecg(each)), wanted) for each in set(owners)}
    return np.array([known[owner] for owner in owners], np.float32)


def _parts(rows: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    return np.array_split(rows, max(1, -(-len(rows) // _AT_ONCE)))


_AT_ONCE = 256
"""Rows that are brought into memory."""


def columns(answers: Array, model: Model, keys: Sequence[str]) -> Array:
    """Return the columns of some of a model's findings."""
    places = [label.key for label in model.card.labels]
    return answers[:, [places.index(key) for key in keys]]


def beside(
    model: Model,
    plan: Plan,
    corpus: Corpus,
    records: Sequence[Record],
    *,
    truth: Values,
    answers: Array,
) -> tuple[Evaluation, Difference] | None:
    """Return how a package does on the same recordings, and how far these answers are ahead.

    None where it finds nothing of the same.

    Parameters
    ----------
    plan
        Of the answers: their keys, their task, the seed of the bootstrap.
    truth, answers
        ``(records, keys)``.
    """
    labels = {label.key: label.threshold for label in model.card.labels}
    both = [key for key in plan.keys if key in labels]
    if not both or plan.task is not Task.MULTI_LABEL:
        return None
    places = [plan.keys.index(key) for key in both]
    theirs = columns(served_by(model, corpus, [record.id for record in records]), model, both)
    ways: dict[str, Any] = {
        "keys": both,
        "patients": [record.patient for record in records],
        "seed": plan.seed,
    }
    return (
        evaluate(theirs, truth[:, places], thresholds=[labels[key] for key in both], **ways),
        compare(answers[:, places], theirs, truth[:, places], **ways),
    )
