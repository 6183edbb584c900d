"""Why a model found what it found: which leads, which part of the beat, which beats.

Occlusion (Zeiler and Fergus 2014): one part of the model's input after the other is made
neutral, and the log-odds that a finding then loses are the weight of the part. A lead falls
silent, as a missing one does. A part of the beat is bridged by a straight line in every beat, a
single beat from its P to its T wave. The RR intervals are made even by moving the beats. What
was measured on a part counts as not measured with it.

It says what the model used, not what is wrong with the heart.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from analysis.codes import VOCABULARY
from analysis.ecg import ECG, Lead, Signal
from analysis.features import Features, Table, chosen
from analysis.model import Model
from analysis.recipe import Length
from analysis.result import (
    FIDUCIAL_KINDS,
    RR_INTERVALS,
    SEGMENTS,
    BeatKind,
    Explanation,
    Finding,
    Marks,
    Measurements,
    Segment,
)
from analysis.standardise import Standardised, resampling_ratio, standardise

LARGEST: Final = 16 * 2**20
"""Bytes of the largest package that is explained: each finding asks it 20 to 45 times more."""
METHOD: Final = "occlusion of the model's input"

ECTOPIC: Final = frozenset({"pac", "pvc", "atrial_bigeminy", "ventricular_bigeminy"})
"""Findings that single beats carry."""
RHYTHMS: Final = frozenset(
    {"sinus_rhythm", "sinus_bradycardia", "sinus_tachycardia", "sinus_arrhythmia",
     "atrial_fibrillation", "atrial_flutter", "svt", "av_block_2", "av_block_3"}
)  # fmt: skip
"""Findings that the RR intervals carry and what lies between the ventricles' waves."""
_UNEXPLAINED = frozenset({"normal"})
"""What rests on everything at once."""

_ATRIAL = frozenset({"P", "PR", "TP", "TQ"})
MEASURED: Final[Mapping[str, tuple[str, ...]]] = {
    "P": ("p_", "bump_", "led_by_p"),
    "PR": ("pr_", "led_by_p"),
    "QRS": ("qrs_", "q_", "r_", "s_", "r2_", "half_", "sokolow_", "cornell_",
            "conduction_margin", "rbbb_margin"),
    "ST": ("st_", "repolarisation_margin"),
    "T": ("t_", "qt", "jt_", "repolarisation_margin"),
    "TP": ("atrial_",),
    "TQ": ("atrial_",),
    RR_INTERVALS: ("rr_", "irregularity", "entropy", "early_", "fibrillation_"),
}  # fmt: skip
"""How the features are named that are measured on a part (:mod:`analysis.features`)."""
MEASURED_ON_BEATS: Final = (
    "oddest.", "earliest.", "strangest.", "alike_", "odd_", "early_", "ventricular_",
    "supraventricular_", "aberrant_",
)  # fmt: skip
"""The same of those that are measured on the beats out of the usual."""
_USUAL = frozenset({BeatKind.DOMINANT, BeatKind.PACED})
_BEAT = 0.06  # s before and after R that stand for a beat without marks
_RIGID = 0.1  # s before and after R that move as one
_MOST_BEATS = 24  # tried one by one; more are tried in groups
_MOST_NAMED = 4  # beats of which each time is said
_SURE = 1e-6  # probability from which nothing is surer
_DIGITS = 3

Spans = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
Group = tuple[int, ...]
_Part = TypeVar("_Part")


class _Input(NamedTuple):
    """What the model reads: the waveform in its form, and the features that it names."""

    signal: Signal
    features: Features


@dataclass(frozen=True, slots=True, eq=False)
class _Reading:
    """What a model was given of one ECG."""

    model: Model
    ecg: ECG
    standard: Standardised
    features: Features
    measurements: Measurements

    def ask(self, inputs: Sequence[_Input]) -> Marks:
        """Return the probability of each label, ``(inputs, labels)``."""
        signals, features = zip(*inputs, strict=True)
        return self.model.probabilities(np.stack(signals), np.stack(features))


@dataclass(frozen=True, slots=True, eq=False)
class _Window:
    """What the model read at once, and the beats in it.

    Parameters
    ----------
    whole
        With nothing removed.
    names
        Of the features.
    leads
        Of the signal's rows.
    rate
        Hz.
    rows
        ``(beats,)``: which beats of the recording these are.
    r_peaks
        ``(beats,)``, in samples of this window.
    marks
        The same of each kind of fiducial over all leads; NaN = absent.
    unusual
        ``(beats,)``: whether a beat is ectopic, or of another shape.
    """

    whole: _Input
    names: tuple[str, ...]
    leads: tuple[Lead, ...]
    rate: float
    rows: Rows
    r_peaks: Marks
    marks: Mapping[str, Marks]
    unusual: npt.NDArray[np.bool_]

    def without(self, signal: Signal, lost: Iterable[str]) -> _Input:
        """Return the input with this signal and without the features of these names."""
        gone = np.isin(self.names, list(lost))
        return _Input(signal, np.where(gone, np.nan, self.whole.features).astype(np.float32))


def explain(
    model: Model, ecg: ECG, measurements: Measurements, key: str, known: Table | None = None
) -> Explanation:
    """Return what carried one finding of a model; see :func:`explain_all`."""
    (explanation,) = explain_all(model, ecg, measurements, (key,), known)
    return explanation


def explain_all(
    model: Model,
    ecg: ECG,
    measurements: Measurements,
    keys: Sequence[str],
    known: Table | None = None,
) -> tuple[Explanation, ...]:
    """Return what carried each finding, in the window of the recording where it is likeliest.

    Findings of the same window share twenty to forty inputs.

    Parameters
    ----------
    model
        Which found them.
    ecg
        In mV, as the model was given it.
    measurements
        Of the same ECG: where its beats are.
    keys
        Labels of the model.
    known
        The features of the ECG by name, for a model that reads any.

    Raises
    ------
    ValueError
        If the model has no such label, cannot read this ECG, or its features are not known.
    """
    if not keys:
        return ()
    labels = [label.key for label in model.card.labels]
    if unknown := sorted(set(keys) - set(labels)):
        raise ValueError(f"the model has no label {', '.join(unknown)}")
    standard = standardise(ecg, model.card.recipe)
    if standard.unusable:
        raise ValueError(f"the model cannot read this ECG: {standard.unusable}")
    if model.card.features and known is None:
        raise ValueError("the model reads features, and none are given")
    features = chosen(known or {}, model.card.features)
    reading = _Reading(model, ecg, standard, features, measurements)
    columns = {key: labels.index(key) for key in keys}
    likeliest = reading.ask([_Input(each, features) for each in standard.windows]).argmax(axis=0)
    found: dict[str, Explanation] = {}
    for number in sorted({int(likeliest[column]) for column in columns.values()}):
        here = {key: column for key, column in columns.items() if likeliest[column] == number}
        found |= _explained(reading, _window(reading, number), here)
    return tuple(found[key] for key in keys)


def explain_present(
    models: Sequence[Model],
    ecg: ECG,
    measurements: Measurements,
    findings: Iterable[Finding],
    known: Table | None = None,
    *,
    keys: Container[str] = VOCABULARY,
) -> tuple[tuple[Finding, ...], tuple[Explanation, ...]]:
    """Return the findings with what carried those that a model calls present, and how it is known.

    Only those of the keys are asked for, for each costs as much as twenty further readings.

    Evidence is a sentence: "carried by QRS in V1, V2". What is absent or not assessed stays as it
    is and has no explanation; nor has what a model above :data:`LARGEST` says, which would be
    asked for seconds.
    """
    findings = tuple(findings)
    explanations = tuple(
        chain.from_iterable(
            explain_all(model, ecg, measurements, _present(model, findings, keys), known)
            for model in models
            if model.size <= LARGEST
        )
    )
    of = {(item.model, item.key): item for item in explanations}
    seconds = measurements.r_peaks / ecg.sampling_frequency
    told = [
        _told(finding, of.get((finding.model or "", finding.key)), seconds) for finding in findings
    ]
    return tuple(told), explanations


def _present(model: Model, findings: Iterable[Finding], keys: Container[str]) -> tuple[str, ...]:
    return tuple(
        finding.key
        for finding in findings
        if finding.model == model.identity.name
        and finding.present
        and finding.key in keys
        and finding.key not in _UNEXPLAINED
    )


def _told(finding: Finding, explanation: Explanation | None, seconds: Marks) -> Finding:
    if explanation is None:
        return finding
    said = sentence(explanation, seconds)
    evidence = (said, *finding.evidence) if said else finding.evidence
    return replace(finding, evidence=evidence, leads=explanation.carrying_leads)


def sentence(explanation: Explanation, seconds: Marks) -> str:
    """Return what carried a finding in words, empty where no part stands out.

    Parameters
    ----------
    explanation
        The weights.
    seconds
        ``(beats,)``: time of each R peak from the first sample.
    """
    parts = list(explanation.carrying_parts)
    if beats := explanation.carrying_beats:
        parts = [_these(seconds[list(beats)])]
    where, leads = " and ".join(parts), ", ".join(explanation.carrying_leads)
    inside = ", read in " if RR_INTERVALS in parts else " in "
    said = inside.join(filter(None, (where, leads)))
    return f"carried by {said}" if said else ""


def _these(seconds: Marks) -> str:
    if seconds.size > _MOST_NAMED:
        return f"{seconds.size} beats"
    times = ", ".join(f"{second:.1f} s" for second in seconds)
    return f"the beat{'s' * (seconds.size > 1)} at {times}"


def _window(reading: _Reading, number: int) -> _Window:
    """Return one window of the model's input with the beats whose R peak lies in it."""
    standard, measurements = reading.standard, reading.measurements
    start = _start(standard, reading.ecg, number)
    rate = standard.recipe.sampling_frequency
    ratio = rate / reading.ecg.sampling_frequency
    peaks = measurements.r_peaks * ratio - start
    rows = np.flatnonzero((peaks >= 0) & (peaks < standard.recipe.samples))
    every = measurements.fiducials.get("global", {})
    unknown = np.full(peaks.size, np.nan)
    kinds = measurements.beat_kinds or (BeatKind.DOMINANT,) * peaks.size
    return _Window(
        whole=_Input(standard.windows[number], reading.features),
        names=reading.model.card.features,
        leads=standard.recipe.leads,
        rate=rate,
        rows=rows,
        r_peaks=peaks[rows],
        marks={kind: (every.get(kind, unknown) * ratio - start)[rows] for kind in FIDUCIAL_KINDS},
        unusual=np.array([kind not in _USUAL for kind in kinds], dtype=np.bool_)[rows],
    )


def _start(standard: Standardised, ecg: ECG, number: int) -> int:
    """Return the sample of the resampled recording that a window's first one is."""
    recipe, start = standard.recipe, standard.starts[number]
    if recipe.length is not Length.CROP_CENTRE:
        return start
    ratio = resampling_ratio(ecg.sampling_frequency, recipe.sampling_frequency)
    whole = -(-ecg.samples * ratio.numerator // ratio.denominator)
    skipped: int = max(0, whole - standard.signal.shape[1]) // 2
    return start + skipped


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Lost:
    """What each label loses without each part: log-odds, in the order of the labels."""

    leads: Mapping[Lead, Sequence[float]]
    segments: Mapping[str, Sequence[float]]
    beats: Mapping[Group, Sequence[float]]
    rhythm: Mapping[str, Sequence[float]]


def _explained(
    reading: _Reading, window: _Window, columns: Mapping[str, int]
) -> dict[str, Explanation]:
    """Return the explanation of each key, from one window."""
    answer = reading.ask([window.whole])[0]
    spans = _spans(window)
    weigh = partial(_weigh, reading, _odds(answer))
    groups = _groups(window) if ECTOPIC & columns.keys() else ()
    lost = _Lost(
        leads=weigh({lead: _silent(window, lead) for lead in _recorded(reading.standard)}),
        segments=weigh({name: _bridged(window, name, ends) for name, ends in spans.items()}),
        beats=weigh({group: _beatless(window, group) for group in groups}),
        rhythm=weigh({RR_INTERVALS: _evened(window)} if RHYTHMS & columns.keys() else {}),
    )
    places = {name: _place(window, ends) for name, ends in spans.items()}
    return {
        key: Explanation(
            key=key,
            model=reading.model.identity.name,
            baseline=float(answer[column]),
            leads={lead: each[column] for lead, each in lost.leads.items()},
            segments=_segments(key, places, lost, column),
            beats=_of_beats(window, lost, column) if key in ECTOPIC else (),
            rhythm=lost.rhythm[RR_INTERVALS][column] if key in RHYTHMS else None,
            method=METHOD,
        )
        for key, column in columns.items()
    }


def _segments(
    key: str, places: Mapping[str, tuple[float, float]], lost: _Lost, column: int
) -> tuple[Segment, ...]:
    """Return those parts of every beat on which a finding of this kind may rest."""
    if key in ECTOPIC:
        return ()
    return tuple(
        Segment(name=name, start=start, end=end, weight=lost.segments[name][column])
        for name, (start, end) in places.items()
        if key not in RHYTHMS or name in _ATRIAL
    )


def _of_beats(window: _Window, lost: _Lost, column: int) -> tuple[tuple[int, float], ...]:
    """Return the row and the weight of each beat: the greatest of any group that it is in."""
    weights: dict[int, float] = {}
    for group, each in lost.beats.items():
        for beat in group:
            weights[beat] = max(weights.get(beat, -np.inf), each[column])
    return tuple((int(window.rows[beat]), weight) for beat, weight in sorted(weights.items()))


def _odds(probabilities: Marks) -> Marks:
    return np.asarray(logit(np.clip(probabilities, _SURE, 1 - _SURE)))


def _weigh(
    reading: _Reading, odds: Marks, changed: Mapping[_Part, _Input]
) -> dict[_Part, list[float]]:
    """Return the log-odds that each label loses with each change; 0 where there is no number."""
    if not changed:
        return {}
    lost = np.nan_to_num(odds - _odds(reading.ask(list(changed.values()))))
    return dict(zip(changed, (lost.round(_DIGITS) + 0.0).tolist(), strict=True))


# What is changed


def _recorded(standard: Standardised) -> list[Lead]:
    return [lead for lead in standard.recipe.leads if lead not in standard.missing_leads]


def _silent(window: _Window, lead: Lead) -> _Input:
    """Return the input without a lead: zero, as the recipe makes a missing one."""
    signal = window.whole.signal.copy()
    signal[window.leads.index(lead)] = 0
    return window.without(signal, [name for name in window.names if name.startswith(f"{lead}.")])


def _bridged(window: _Window, part: str, ends: Spans) -> _Input:
    """Return the input without a part of every beat."""
    return window.without(bridge(window.whole.signal, ends), _measured_on(window, part))


def _measured_on(window: _Window, part: str) -> list[str]:
    return [name for name in window.names if name.rpartition(".")[2].startswith(MEASURED[part])]


def _beatless(window: _Window, group: Group) -> _Input:
    """Return the input without some beats, and their features where no unusual one is left."""
    left = np.delete(window.unusual, group).any()
    last = window.unusual.any() and not left
    lost = [name for name in window.names if last and name.startswith(MEASURED_ON_BEATS)]
    return window.without(bridge(window.whole.signal, _whole(window)[list(group)]), lost)


def _evened(window: _Window) -> _Input:
    """Return the input with its beats moved to even intervals, what lies between stretched."""
    return window.without(
        even(window.whole.signal, window.r_peaks, _RIGID * window.rate),
        _measured_on(window, RR_INTERVALS),
    )


def bridge(signal: Signal, ends: Spans) -> Signal:
    """Return the signal with a straight line over each span, ``(spans, 2)``; NaN = no span."""
    at = np.arange(signal.shape[1])
    kept = ~((at > ends[:, :1]) & (at < ends[:, 1:])).any(axis=0)
    if not kept.any():
        return np.zeros_like(signal)
    return np.stack([np.interp(at, at[kept], row[kept]) for row in signal]).astype(np.float32)


def even(signal: Signal, r_peaks: Marks, rigid: float) -> Signal:
    """Return the signal with even RR intervals; so many samples about each R peak move as one."""
    if r_peaks.size < 3:  # noqa: PLR2004 - two intervals are needed to be uneven
        return signal
    at = np.arange(signal.shape[1])
    moved = r_peaks + np.rint(np.linspace(r_peaks[0], r_peaks[-1], r_peaks.size) - r_peaks)
    around = rigid * np.array([-1, 1])
    source, target = (
        np.concatenate([[0], np.add.outer(each, around).ravel().clip(0, at[-1]), at[-1:]])
        for each in (r_peaks, moved)
    )
    where = np.interp(at, np.maximum.accumulate(target), source)
    return np.stack([np.interp(where, at, row) for row in signal]).astype(np.float32)


# Where it is


def _spans(window: _Window) -> dict[str, Spans]:
    """Return the ends of each part of the beat, ``(beats, 2)`` in samples; NaN = absent."""
    marks = window.marks
    found = {name: np.stack([marks[a], marks[b]], axis=1) for name, (a, b) in SEGMENTS.items()}
    between = "TP" if np.isfinite(marks["p_onset"]).any() else "TQ"
    next_onset = np.fmin(marks["p_onset"], marks["qrs_onset"])[1:]
    found[between] = np.stack([marks["t_offset"][:-1], next_onset], axis=1)
    return {name: ends for name, ends in found.items() if _there(ends).any()}


def _there(ends: Spans) -> npt.NDArray[np.bool_]:
    """Return which beats have the part: at a fast rate T runs into the next P."""
    there: npt.NDArray[np.bool_] = ends[:, 1] > ends[:, 0]
    return there


def _place(window: _Window, ends: Spans) -> tuple[float, float]:
    """Return where a part of the beat lies, in ms after the R peak."""
    after = np.median((ends - window.r_peaks[: len(ends), None])[_there(ends)], axis=0)
    start, end = (1000 / window.rate * after).round(1).tolist()
    return start, end


def _groups(window: _Window) -> tuple[Group, ...]:
    """Return the beats one by one, in groups of neighbours where they are many, then the unusual.

    Where several beats each suffice for a finding, only all of them together are missed.
    """
    count = window.rows.size
    parts = np.array_split(np.arange(count), min(count, _MOST_BEATS) or 1)
    groups = [*parts, np.flatnonzero(window.unusual)]
    return tuple(dict.fromkeys(tuple(group.tolist()) for group in groups if group.size))


def _whole(window: _Window) -> Spans:
    """Return the ends of each beat: P onset to T offset, or as much of it as was marked."""
    marks, around = window.marks, _BEAT * window.rate
    start = _first_known(marks["p_onset"], marks["qrs_onset"], window.r_peaks - around)
    end = _first_known(marks["t_offset"], marks["qrs_offset"], window.r_peaks + around)
    return np.stack([start, end], axis=1)


def _first_known(*choices: Marks) -> Marks:
    """Return the first of the choices that is known, beat by beat."""
    best, *others = choices
    for other in others:
        best = np.where(np.isfinite(best), best, other)
    return best
