"""What the ECG page shows: a result and its samples as plain data, ready for JSON and templates.

Samples travel as whole steps of a microvolt or a multiple of it, so that a 12-lead ECG of ten
seconds is 160 kB; the page draws them and filters nothing. What names a patient is there only
for readers who may see it.
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from analysis.codes import VOCABULARY
from analysis.ecg import ECG, Recording, Sex
from analysis.paper import wording
from analysis.paper.beats import beat_kinds, words_of
from analysis.paper.tracing import rhythm_lead
from analysis.result import FIDUCIAL_KINDS, Finding, Measurements, Origin, Quantity, Result
from dicom_node.archive import capped, maker, quarter, vendor_keys

LONGEST: Final = 60.0
"""Seconds of a recording that one page takes."""
BLANK: Final = -(2**15)
"""What stands for no sample."""
COMPARED: Final = (
    "heart_rate", "pr_interval", "qrs_duration", "qt_interval", "qtc_fridericia", "p_axis",
    "qrs_axis", "t_axis",
)  # fmt: skip
"""Measurements that stand beside those of an earlier ECG."""

_SEX: Final = {Sex.MALE: "male", Sex.FEMALE: "female", Sex.OTHER: "other sex"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Whose ECG it is, in the words that the reader may see."""

    title: str
    """The name, or the pseudonym."""
    lines: tuple[str, ...]
    """Sex and age, when and with what it was recorded."""
    identified: bool


def identified(recording: Recording) -> Person:
    """Return the patient as the source states it, verbatim."""
    who = recording.patient
    lines = (
        f"ID {who.identifier or 'not stated'}",
        wording.person(who),
        wording.acquired(recording.acquisition),
        wording.device(recording.acquisition),
    )
    return Person(title=_name(who.name), lines=lines, identified=True)


def _name(stated: str | None) -> str:
    """Return "Family, Given" for "Family^Given", every spelling in its own script."""
    groups = ([part.strip() for part in group.split("^")] for group in (stated or "").split("="))
    spelled = [
        ", ".join(filter(None, (family, " ".join(filter(None, rest))))) for family, *rest in groups
    ]
    return " / ".join(filter(None, spelled)) or "Name not stated"


def pseudonymised(recording: Recording, pseudonym: str) -> Person:
    """Return what the archive would keep of the patient: no name, no day, no free text."""
    who, acquisition = recording.patient, recording.acquisition
    moment = acquisition.acquired_at or recording.ecg.start
    return person(
        f"Patient {pseudonym[:8]}" if pseudonym else "Patient not stated",
        sex=who.sex,
        age=capped(who.age),
        quarter_of=quarter(moment) if moment else None,
        device=maker(acquisition.manufacturer),
    )


def person(
    title: str, *, sex: Sex | None, age: int | None, quarter_of: str | None, device: str
) -> Person:
    """Return a pseudonymised patient from the facts that the archive declares."""
    said = (
        _SEX[sex] if sex else "sex not stated",
        "age not stated" if age is None else f"{age} years",
    )
    recorded = f"Recorded {quarter_of}" if quarter_of else "Time of recording not stated"
    return Person(
        title=title,
        lines=(" · ".join(said), recorded, f"Device: {device}"),
        identified=False,
    )


# Samples


def tracing(result: Result, *, seconds: float = LONGEST, blind: bool = False) -> dict[str, Any]:
    """Return the samples of an ECG with its beats and marks, as JSON can hold them.

    Parameters
    ----------
    result
        Joined with its recording.
    seconds
        How much of a longer recording is taken, from its beginning.
    blind
        Whether to leave out what the program found: for who reads before the AI.
    """
    ecg, meas = result.recording.ecg, result.measurements
    count = min(ecg.samples, round(seconds * ecg.sampling_frequency))
    about = {
        **_samples(ecg, count),
        "duration": ecg.duration,
        "rhythm": str(rhythm_lead(ecg, result.quality)) if ecg.leads else None,
    }
    if blind:
        return about | {"r_peaks": [], "kinds": [], "fiducials": {}, "median": None}
    shown = meas.r_peaks < count
    return about | {
        "r_peaks": _numbers(meas.r_peaks[shown]),
        "kinds": [
            {"kind": str(kind), "words": words_of(kind)}
            for kind, kept in zip(beat_kinds(result), shown, strict=True)
            if kept
        ],
        "fiducials": {
            lead: {kind: _numbers(marks[shown]) for kind, marks in kinds.items()}
            for lead, kinds in meas.fiducials.items()
        },
        "median": _median(meas),
    }


def _samples(ecg: ECG, count: int) -> dict[str, Any]:
    steps, counts = _quantised(ecg.signal[:, :count])
    return {
        "sampling_frequency": ecg.sampling_frequency,
        "samples": count,
        "leads": [str(lead) for lead in ecg.leads],
        "steps": steps,
        "signal": base64.b64encode(counts.tobytes()).decode("ascii"),
    }


def _quantised(signal: npt.NDArray[np.float32]) -> tuple[list[float], npt.NDArray[np.int16]]:
    """Return the mV of one step of each lead, and ``(leads, samples)`` little-endian steps."""
    finite = np.where(np.isfinite(signal), signal, 0.0).astype(np.float64)
    largest = np.abs(finite).max(axis=1, initial=0.0)
    steps = np.maximum(largest / (2**15 - 1), 0.001)
    counts = np.rint(finite / steps[:, None])
    whole = np.where(np.isfinite(signal), counts, BLANK).astype("<i2")
    return [float(step) for step in steps], whole


def _median(meas: Measurements) -> dict[str, Any] | None:
    beat = meas.median_beat
    if beat is None:
        return None
    marks = {
        kind: None if np.isnan(mark) else float(mark)
        for kind, mark in meas.median_fiducials.items()
        if kind in FIDUCIAL_KINDS
    }
    return {**_samples(beat, beat.samples), "fiducials": marks}


def _numbers(values: npt.NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 2) for value in values]


# Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement as a line of a table."""

    name: str
    words: str
    """The value with its unit, or a dash."""
    remark: str
    """How it was measured, or why it was not."""
    change: str = ""
    """Against the earlier ECG, signed."""
    before: str = ""


def measurements(result: Result) -> tuple[Row, ...]:
    """Return every global measurement, those that were made first."""
    rows = [_row(name, quantity) for name, quantity in result.measurements.quantities()]
    return tuple(sorted(rows, key=lambda row: row.words == wording.NOTHING))


def _row(name: str, quantity: Quantity) -> Row:
    words, why = wording.value(quantity)
    return Row(name=wording.measurement_name(name), words=words, remark=why or quantity.method)


def compared(now: Result, before: Result) -> tuple[Row, ...]:
    """Return the usual measurements beside those of an earlier ECG."""
    return tuple(
        _against(name, getattr(now.measurements, name), getattr(before.measurements, name))
        for name in COMPARED
    )


def _against(name: str, now: Quantity, before: Quantity) -> Row:
    change = ""
    if now.value is not None and before.value is not None:
        difference = round(now.value - before.value)
        change = f"{difference:+d}".replace("-", "−") if difference else "0"
    return Row(
        name=wording.measurement_name(name),
        words=wording.value(now)[0],
        remark=now.reason or before.reason or "",
        change=change,
        before=wording.value(before)[0],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The findings of one origin."""

    title: str
    present: tuple[Finding, ...]
    absent: tuple[Finding, ...]
    not_assessed: tuple[tuple[str, tuple[Finding, ...]], ...]
    """By the reason why."""


def findings(result: Result) -> tuple[Group, ...]:
    """Return the findings of each model and of the published criteria."""
    groups = [
        (
            f"Model {model.name} {model.version}",
            [f for f in result.findings if f.model == model.name],
        )
        for model in result.models
    ]
    ruled = [f for f in result.findings if f.origin is Origin.CRITERIA]
    return tuple(_group(title, some) for title, some in (*groups, ("Published criteria", ruled)))


def _group(title: str, some: Sequence[Finding]) -> Group:
    reasons = dict.fromkeys(finding.reason for finding in some if finding.reason)
    return Group(
        title=title,
        present=_sorted(some, present=True),
        absent=_sorted(some, present=False),
        not_assessed=tuple(
            (why, tuple(finding for finding in some if finding.reason == why)) for why in reasons
        ),
    )


def _sorted(some: Sequence[Finding], *, present: bool) -> tuple[Finding, ...]:
    return tuple(
        sorted((f for f in some if f.present is present), key=lambda f: -(f.probability or 0.0))
    )


def notes(result: Result, *, identified: bool) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield what must be said beside: quality, what was not assessed, what was derived.

    A cart's own statements are free text, so that only who may see the patient reads them;
    others read the findings that they mean.
    """
    recording = result.recording
    yield "Quality", (wording.quality(result.quality),)
    yield "Not assessed", () if wording.is_diagnostic(result) else result.not_assessed
    stated = recording.vendor_statements
    texts = [item.text for item in stated]
    names = [VOCABULARY[key].name for key in vendor_keys(stated)]
    yield "The cart's own program said", texts if identified else names
    yield "Reading the file", recording.notes if identified else ()
    yield "Derived leads", tuple(filter(None, [wording.derived(recording)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """One ECG as a line of a list."""

    overall: str
    rate: str
    statements: str


def headline(result: Result) -> Headline:
    """Return what a list says of an ECG."""
    return Headline(
        overall=wording.overall(result),
        rate=wording.value(result.measurements.heart_rate)[0],
        statements=" · ".join(line.text for line in result.statements),
    )
