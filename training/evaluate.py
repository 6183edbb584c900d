"""How good answers are, on records that taught nothing: every figure with its interval.

A figure that so few patients cannot carry is None, with the reason. Records whose truth or
answer is unknown are left out finding by finding, and counted. Intervals are of patients
(:mod:`training.intervals`), figures those of :mod:`training.measures`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Self

import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_curve, roc_curve

from training import measures
from training.corpus import Record
from training.evaluation import (
    DEVIATES,
    MEASURES,
    RANKED,
    Bin,
    Difference,
    Evaluation,
    Figures,
    OfKey,
    OperatingPoint,
    Point,
    Subgroup,
    name_of,
)
from training.intervals import RESAMPLES, Array, Interval, bootstrap, interval
from training.measures import Mask
from training.plan import Task

__all__ = ["Difference", "Evaluation", "age_band", "compare", "evaluate", "groups_of"]

LEAST: Final = 3
"""Patients with a finding and without it, below which nothing is said of it."""

_BOTH: Final = frozenset({"AUROC", "AUPRC"})
_PRESENT: Final = frozenset({"F1", "sensitivity", "PPV"})
_ABSENT: Final = frozenset({"specificity"})
"""Which figures need patients with the finding, or without it, or both."""
_AIM: Final = 0.9
"""Sensitivity and specificity of the points shown beside F-max."""
_POINTS: Final = 200
"""Of a curve, at most."""
_PAIRS: Final = 400
"""Of a regression, shown at most."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Answers:
    """Truths and answers, ``(records, keys)`` each, and whose they are."""

    task: Task
    keys: tuple[str, ...]
    given: Array
    truth: Array
    calls: Mask
    patients: npt.NDArray[np.intp]
    """A number for each."""

    def of(self, rows: Mask) -> Self:
        return replace(
            self,
            given=self.given[rows],
            truth=self.truth[rows],
            calls=self.calls[rows],
            patients=self.patients[rows],
        )

    @property
    def known(self) -> Mask:
        """Where there are both."""
        return np.isfinite(self.given) & np.isfinite(self.truth)

    def counts(self, at: int) -> "_Counts":
        rows = self.known[:, at]
        positive = self.truth[rows, at] > 0
        people = self.patients[rows]
        return _Counts(
            patients=_different(people),
            present=_different(people[positive]),
            absent=_different(people[~positive]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    """Patients of a finding, who may be both with and without it."""

    patients: int
    present: int
    absent: int


def _different(people: npt.NDArray[np.intp]) -> int:
    return len(np.unique(people))


def evaluate(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    keys: Sequence[str],
    patients: Sequence[str],
    thresholds: Sequence[float] | None = None,
    task: Task = Task.MULTI_LABEL,
    groups: Mapping[str, Sequence[str]] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Return how good the answers are.

    Parameters
    ----------
    probabilities
        ``(records, keys)``; of a regression the values. NaN is no answer.
    targets
        ``(records, keys)``: 1 present, 0 absent, NaN unknown; of classes one 1 in each row.
    patients
        Of each record.
    thresholds
        From where each finding counts as present. By default 0.5; of classes, the likeliest.
    groups
        For each way to divide the records (sex, age …) the part that each record belongs to;
        where that is the same for all, it divides nothing.
    resamples, seed
        Of the bootstrap.

    Raises
    ------
    ValueError
        If shapes do not fit, or a probability lies outside 0 to 1.
    """
    answers = _answers(
        probabilities, targets, keys=keys, patients=patients, task=task, thresholds=thresholds
    )
    draw = partial(_figures, resamples=resamples, seed=seed)
    found = draw(answers)
    per_key = tuple(
        _of_key(answers, at, found, None if thresholds is None else float(thresholds[at]), seed)
        for at in range(len(keys))
    )
    averages = _averages(answers, found)
    whole = Evaluation(
        task=task,
        records=len(answers.given),
        patients=_different(answers.patients),
        resamples=resamples,
        seed=seed,
        keys=per_key,
        averages=averages,
        confusion=_classes(answers) if task is Task.MULTI_CLASS else None,
        notes=tuple(_notes(per_key, averages["macro"])),
    )
    parts = _parts(groups or {}, len(answers.given))
    return replace(
        whole,
        subgroups=tuple(
            _subgroup(answers.of(rows), by, name, whole, draw) for by, name, rows in parts
        ),
    )


def compare(
    probabilities_a: npt.ArrayLike,
    probabilities_b: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    keys: Sequence[str],
    patients: Sequence[str],
    task: Task = Task.MULTI_LABEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Return how far the first model is ahead of the second, by a paired bootstrap.

    Both are judged on the records that both answered, in the same resamples: by AUROC, of a
    regression by how much smaller its mean absolute error is. Arguments are those of
    :func:`evaluate`.
    """
    first, second = (
        _answers(given, targets, keys=keys, patients=patients, task=task)
        for given in (probabilities_a, probabilities_b)
    )
    both = first.known & second.known
    truth = np.where(both, first.truth, np.nan)
    first, second = replace(first, truth=truth), replace(second, truth=truth)
    measure = DEVIATES if task is Task.REGRESSION else RANKED
    sign = -1 if task is Task.REGRESSION else 1

    def apart(weights: Array) -> Mapping[int, Array]:
        pairs = (
            (_leading(first, at, weights), _leading(second, at, weights)) for at in range(len(keys))
        )
        return {at: sign * (ours - theirs) for at, (ours, theirs) in enumerate(pairs)}

    found = bootstrap(apart, first.patients, resamples=resamples, seed=seed)
    judged = {at: _reason(first, at, measure) for at in range(len(keys))}
    sound = [found[at] for at, reason in judged.items() if reason is None]
    return Difference(
        measure=measure,
        macro=interval(_mean(sound)) if sound else Interval(reason=_NOTHING),
        keys={
            key: interval(found[at]) if judged[at] is None else Interval(reason=judged[at])
            for at, key in enumerate(keys)
        },
        records=int(both.any(axis=1).sum()),
        patients=_different(first.patients[both.any(axis=1)]),
    )


def groups_of(records: Iterable[Record]) -> Mapping[str, tuple[str, ...]]:
    """Return the part that each record belongs to: by sex, age band, device and site."""
    listed = list(records)
    return {
        "sex": tuple(str(record.sex or _UNKNOWN) for record in listed),
        "age": tuple(age_band(record.age) for record in listed),
        "device": tuple(record.device or _UNKNOWN for record in listed),
        "site": tuple(record.site or _UNKNOWN for record in listed),
    }


_UNKNOWN: Final = "unknown"
_BANDS: Final = (18, 40, 65, 80)


def age_band(age: float | None) -> str:
    """Return the band that an age in years lies in."""
    if age is None or not np.isfinite(age):
        return _UNKNOWN
    below = [edge for edge in _BANDS if age < edge]
    if not below:
        return f"{_BANDS[-1]} and over"
    place = _BANDS.index(below[0])
    return f"{_BANDS[place - 1]} to {below[0] - 1}" if place else f"under {_BANDS[0]}"


def _answers(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    keys: Sequence[str],
    patients: Sequence[str],
    task: Task,
    thresholds: Sequence[float] | None = None,
) -> _Answers:
    given, truth = np.asarray(probabilities, np.float64), np.asarray(targets, np.float64)
    wanted = (len(patients), len(keys))
    if given.shape != wanted or truth.shape != wanted:
        raise ValueError(
            f"answers {given.shape} and truths {truth.shape} must both be of"
            f" {wanted[0]} records by {wanted[1]} keys"
        )
    if thresholds is not None and len(thresholds) != len(keys):
        raise ValueError(f"{len(thresholds)} thresholds are not one for each of {len(keys)} keys")
    answered = given[np.isfinite(given)]
    if task is not Task.REGRESSION and ((answered < 0) | (answered > 1)).any():
        raise ValueError("a probability lies outside 0 to 1")
    return _Answers(
        task=task,
        keys=tuple(keys),
        given=given,
        truth=truth,
        calls=_called(given, thresholds, task),
        patients=np.unique(np.asarray(patients, dtype=str), return_inverse=True)[1],
    )


def _called(given: Array, thresholds: Sequence[float] | None, task: Task) -> Mask:
    if task is Task.MULTI_CLASS and thresholds is None:
        return np.asarray(given.argmax(axis=1)[:, None] == np.arange(given.shape[1]))
    return np.asarray(given >= (0.5 if thresholds is None else np.asarray(thresholds)))


# Figures with their intervals

_Name = tuple[int, str]
"""Place of the key, and measure."""
_POOLED: Final = -1
"""In the place of a key: all of them at once."""
_Drawn = Mapping[_Name, Array]


def _figures(answers: _Answers, *, resamples: int, seed: int) -> _Drawn:
    """Return all figures of the sample and of its resamples."""
    statistic = partial(_statistic, answers)
    return bootstrap(statistic, answers.patients, resamples=resamples, seed=seed)


def _statistic(answers: _Answers, weights: Array) -> dict[_Name, Array]:
    columns = {at: _column(answers, at, weights) for at in range(len(answers.keys))}
    if answers.task is not Task.REGRESSION:
        columns[_POOLED] = _pooled(answers, weights)
    return {
        (at, measure): figures
        for at, column in columns.items()
        for measure, figures in column.items()
    }


def _column(answers: _Answers, at: int, weights: Array) -> dict[str, Array]:
    rows = answers.known[:, at]
    given, truth, drawn = answers.given[rows, at], answers.truth[rows, at], weights[:, rows]
    if answers.task is Task.REGRESSION:
        return measures.deviation(given, truth, drawn)
    return _of_calls(given, truth > 0, answers.calls[rows, at], drawn)


def _pooled(answers: _Answers, weights: Array) -> dict[str, Array]:
    """Return the figures over all records and findings at once."""
    rows, columns = np.nonzero(answers.known)
    given, truth = answers.given[rows, columns], answers.truth[rows, columns] > 0
    return _of_calls(given, truth, answers.calls[rows, columns], weights[:, rows])


def _of_calls(given: Array, positive: Mask, calls: Mask, weights: Array) -> dict[str, Array]:
    auroc, auprc = measures.ranking(given, positive, weights)
    counts = measures.confusion(calls, positive, weights)
    error, shares = measures.reliability(given, positive, weights)
    return {
        "AUROC": auroc,
        "AUPRC": auprc,
        "F1": measures.f1(counts),
        "sensitivity": measures.sensitivity(counts),
        "specificity": measures.specificity(counts),
        "PPV": measures.predictive_value(counts),
        "Brier": measures.brier(given, positive, weights),
        "ECE": error,
        "positives": weights @ positive,
        **{f"bin {number}": share for number, share in enumerate(shares.T)},
    }


def _leading(answers: _Answers, at: int, weights: Array) -> Array:
    rows = answers.known[:, at]
    given, truth, drawn = answers.given[rows, at], answers.truth[rows, at], weights[:, rows]
    if answers.task is Task.REGRESSION:
        return measures.deviation(given, truth, drawn)[DEVIATES]
    return measures.ranking(given, truth > 0, drawn)[0]


_NOTHING: Final = "There are too few patients to judge anything."


def _reason(answers: _Answers, at: int, measure: str) -> str | None:
    """Return why a figure of one key cannot be judged, or None."""
    counts = answers.counts(at)
    if counts.patients < LEAST:
        return f"Patients with a known truth and an answer: {counts.patients}; {LEAST} are needed."
    if answers.task is Task.REGRESSION:
        return None
    if measure in _BOTH | _PRESENT and counts.present < LEAST:
        return f"Patients with it: {counts.present}; {LEAST} are needed."
    if measure in _BOTH | _ABSENT and counts.absent < LEAST:
        return f"Patients without it: {counts.absent}; {LEAST} are needed."
    return None


def _judged(answers: _Answers, at: int, found: _Drawn) -> dict[str, Interval]:
    """Return the figures of one key."""
    reasons = {measure: _reason(answers, at, measure) for measure in MEASURES[answers.task]}
    return {
        measure: Interval(reason=reason) if reason else _interval(found[at, measure], measure)
        for measure, reason in reasons.items()
    }


def _interval(figures: Array, measure: str) -> Interval:
    return interval(figures, centred=measure == "ECE")


def _averages(answers: _Answers, found: _Drawn) -> dict[str, Figures]:
    """Return the means over the keys that can be judged."""
    if answers.task is Task.REGRESSION:
        return {"macro": _over_keys(answers, found, weighted=False)}
    positive = answers.truth > 0
    enough = all(
        _different(answers.patients[(answers.known & kind).any(axis=1)]) >= LEAST
        for kind in (positive, ~positive)
    )
    return {
        "macro": _over_keys(answers, found, weighted=False),
        "weighted": _over_keys(answers, found, weighted=True),
        "micro": {
            measure: _interval(found[_POOLED, measure], measure)
            if enough
            else Interval(reason=_NOTHING)
            for measure in MEASURES[answers.task]
        },
    }


def _over_keys(answers: _Answers, found: _Drawn, *, weighted: bool) -> Figures:
    return {
        measure: _over(answers, found, measure, weighted=weighted)
        for measure in MEASURES[answers.task]
    }


def _over(answers: _Answers, found: _Drawn, measure: str, *, weighted: bool) -> Interval:
    sound = [
        at
        for at in range(len(answers.keys))
        if _reason(answers, at, measure) is None and np.isfinite(found[at, measure][0])
    ]
    if not sound:
        return Interval(reason=_NOTHING)
    counts = [found[at, "positives"] for at in sound] if weighted else None
    return _interval(_mean([found[at, measure] for at in sound], counts), measure)


def _mean(figures: Sequence[Array], counts: Sequence[Array] | None = None) -> Array:
    """Return the mean over keys in each resample, of those that are defined there."""
    stacked = np.stack(figures)
    times = np.isfinite(stacked) * (1.0 if counts is None else np.stack(counts))
    return measures.ratio((np.nan_to_num(stacked) * times).sum(axis=0), times.sum(axis=0))


# One key


def _of_key(answers: _Answers, at: int, found: _Drawn, threshold: float | None, seed: int) -> OfKey:
    rows = answers.known[:, at]
    given, truth = answers.given[rows, at], answers.truth[rows, at]
    counts = answers.counts(at)
    unknown = int(np.isnan(answers.truth[:, at]).sum())
    item = OfKey(
        key=answers.keys[at],
        records=len(given),
        patients=counts.patients,
        unknown=unknown,
        unanswered=len(answers.truth) - unknown - len(given),
        figures=_judged(answers, at, found),
    )
    if answers.task is Task.REGRESSION:
        return replace(item, pairs=_thinned(zip(truth, given, strict=True), _PAIRS))
    positive = truth > 0
    item = replace(
        item,
        positives=int(positive.sum()),
        positive_patients=counts.present,
        threshold=threshold,
        confusion=_cells(answers.calls[rows, at], positive),
        reliability=tuple(_bins(given, at, found)),
    )
    if item.figures[RANKED].value is None:
        return item
    chance = measures.error_by_chance(given, np.random.default_rng(seed))
    false, true, cuts = roc_curve(positive, given)
    precision, recall, _ = precision_recall_curve(positive, given, drop_intermediate=True)
    return replace(
        item,
        chance_ece=chance,
        roc=_thinned(zip(false, true, strict=True)),
        precision_recall=_thinned(zip(recall, precision, strict=True)),
        operating_points=tuple(
            replace(point, figures=_figures_at(answers, at, point.threshold, found, seed))
            for point in _operating_points(false, true, cuts, positive)
        ),
    )


def _figures_at(
    answers: _Answers, at: int, threshold: float, found: _Drawn, seed: int
) -> dict[str, Interval]:
    """Return what a threshold does, in the same resamples as everything else."""
    rows = answers.known[:, at]
    calls, positive = answers.given[rows, at] >= threshold, answers.truth[rows, at] > 0

    def statistic(weights: Array) -> dict[str, Array]:
        counts = measures.confusion(calls, positive, weights[:, rows])
        return {name: measure(counts) for name, measure in _AT_A_THRESHOLD.items()}

    resamples = len(found[at, RANKED]) - 1
    drawn = bootstrap(statistic, answers.patients, resamples=resamples, seed=seed)
    return {name: interval(figures) for name, figures in drawn.items()}


_AT_A_THRESHOLD: Final = {
    "sensitivity": measures.sensitivity,
    "specificity": measures.specificity,
    "F1": measures.f1,
}


def _cells(calls: Mask, positive: Mask) -> tuple[int, int, int, int]:
    counts = measures.confusion(calls, positive, np.ones((1, len(calls))))[0]
    a, b, c, d = (int(count) for count in counts)
    return a, b, c, d


def _bins(given: Array, at: int, found: _Drawn) -> Iterable[Bin]:
    inside = measures.binned(given)
    for number, records in enumerate(inside.sum(axis=0)):
        if records:
            yield Bin(
                records=int(records),
                expected=float(given @ inside[:, number] / records),
                observed=_share(found[at, f"bin {number}"], int(records)),
            )


def _share(figures: Array, records: int) -> Interval:
    if records < LEAST:
        return Interval(value=float(figures[0]), reason=f"Recordings: {records}, too few.")
    return interval(figures)


def _operating_points(
    false: Array, true: Array, cuts: Array, positive: Mask
) -> Iterable[OperatingPoint]:
    """Yield the points of most F1, and of 90 % sensitivity and specificity."""
    ones, zeros = positive.sum(), (~positive).sum()
    found = true * ones
    f1 = 2 * found / (found + false * zeros + ones)
    places = {
        "F-max": np.argmax(f1),
        f"sensitivity {_AIM:.2f}": np.argmax(true >= _AIM),
        f"specificity {_AIM:.2f}": np.flatnonzero(false <= 1 - _AIM + _ROUNDING)[-1],
    }
    for name, at in places.items():
        yield OperatingPoint(
            name=name,
            threshold=float(min(cuts[at], 1.0)),
            sensitivity=float(true[at]),
            specificity=float(1 - false[at]),
            f1=float(f1[at]),
        )


_ROUNDING: Final = 1e-9


def _thinned(pairs: Iterable[tuple[float, float]], most: int = _POINTS) -> tuple[Point, ...]:
    """Return at most so many of the pairs, evenly, the first and the last among them."""
    listed = [(float(x), float(y)) for x, y in pairs]
    if len(listed) <= most:
        return tuple(listed)
    places = np.linspace(0, len(listed) - 1, most).round().astype(int)
    return tuple(listed[place] for place in places)


def _classes(answers: _Answers) -> tuple[tuple[int, ...], ...]:
    """Return how often each class was taken for which."""
    rows = answers.known.all(axis=1)
    truth, likeliest = answers.truth[rows].argmax(axis=1), answers.given[rows].argmax(axis=1)
    size = len(answers.keys)
    counts = np.bincount(truth * size + likeliest, minlength=size**2).reshape(size, size)
    return tuple(tuple(row) for row in counts.tolist())


# Parts of the records


def _parts(groups: Mapping[str, Sequence[str]], records: int) -> Iterable[tuple[str, str, Mask]]:
    for by, names in groups.items():
        if len(names) != records:
            raise ValueError(
                f"{len(names)} values of {by} are not one for each of {records} records"
            )
        column = np.asarray(names, dtype=str)
        parts = sorted(set(column.tolist()))
        for name in parts if len(parts) > 1 else ():
            yield by, name, column == name


def _subgroup(
    answers: _Answers,
    by: str,
    name: str,
    whole: Evaluation,
    draw: Callable[[_Answers], _Drawn],
) -> Subgroup:
    found = draw(answers)
    keys = {key: _judged(answers, at, found) for at, key in enumerate(answers.keys)}
    same = [
        whole.figure(whole.leading, key).value
        for key, figures in keys.items()
        if figures[whole.leading].value is not None
    ]
    everyone = [value for value in same if value is not None]
    return Subgroup(
        by=by,
        name=name,
        records=len(answers.given),
        patients=_different(answers.patients),
        macro=_averages(answers, found)["macro"],
        everyone=sum(everyone) / len(everyone) if everyone else None,
        keys=keys,
    )


def _notes(keys: Sequence[OfKey], macro: Figures) -> Iterable[str]:
    """Yield a sentence for each key that is not judged, and for records left out."""
    for item in keys:
        reasons = {figure.reason for figure in item.figures.values() if figure.value is None}
        for reason in sorted(filter(None, reasons)):
            yield f"{name_of(item.key)}: {reason}"
        if item.unanswered:
            yield f"{name_of(item.key)}: records without an answer, left out: {item.unanswered}."
    if keys and all(figure.value is None for figure in macro.values()):
        yield _NOTHING
