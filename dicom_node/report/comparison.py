"""Comparison with the patient's previous ECG: TID 3702, or why there is none."""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from analysis.result import Result
from dicom_node.report import concepts as c
from dicom_node.report import items as i
from dicom_node.report.draft import Attributes
from dicom_node.report.objects import Inputs, NoComparison, Previous, comparable

_LABELS: Final = MappingProxyType(
    {
        "heart_rate": "heart rate",
        "pr_interval": "PR",
        "qrs_duration": "QRS",
        "qt_interval": "QT",
        "qtc_fridericia": "QTc (Fridericia)",
        "qrs_axis": "QRS axis",
    }
)
_WHY: Final[Mapping[NoComparison, str]] = MappingProxyType(
    {
        NoComparison.NOT_ASKED: "it was not asked for",
        NoComparison.NONE: "this node knows no earlier ECG of this Patient ID and issuer",
        NoComparison.CONFLICT: "birth date or sex of the earlier ECG of this Patient ID differ",
        NoComparison.NOT_MEASURED: "this ECG and the earlier one share no measurement",
    }
)
_DIGITS: Final = re.compile(r"(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?")


def prior_ecg(inputs: Inputs) -> Attributes:
    """Return TID 3702: that a comparison was made, with which ECG and what changed, or why not."""
    previous = compared(inputs)
    rows = _changes(inputs, previous) if isinstance(previous, Previous) else _none()
    said = i.text(c.COMMENT, sentence(inputs))
    return i.container(c.PRIOR_PROCEDURES, [*rows, said], "3702")


def compared(inputs: Inputs) -> Previous | NoComparison:
    """Return the earlier ECG if there is anything to compare, or why there is not."""
    previous = inputs.previous
    if isinstance(previous, Previous) and not differences(inputs.result, previous):
        return NoComparison.NOT_MEASURED
    return previous


def differences(result: Result, previous: Previous) -> dict[str, tuple[float, float]]:
    """Return earlier and present value of what was measured on both ECGs."""
    now = comparable(result)
    shared = (name for name in now if name in previous.measurements)
    return {name: (previous.measurements[name], now[name]) for name in shared}


def change(name: str, before: float, now: float) -> float:
    """Return the difference; of an axis the shorter way round, above -180 and up to 180 degrees."""
    difference = now - before
    return 180 - (180 - difference) % 360 if name == "qrs_axis" else difference


def sentence(inputs: Inputs) -> str:
    """Return the comparison as a reader sees it: one line."""
    previous = compared(inputs)
    if not isinstance(previous, Previous):
        return f"No comparison with an earlier ECG: {_WHY[previous]}."
    changes = ", ".join(
        _spoken(name, before, now)
        for name, (before, now) in differences(inputs.result, previous).items()
    )
    doubt = "" if previous.same_algorithm else " It was measured by another algorithm revision."
    return f"Compared with the ECG of {_readable(previous.acquired_at)}: {changes}.{doubt}"


def _none() -> Iterator[Attributes]:
    yield i.code(c.COMPARISON_DONE, c.NO)


def _changes(inputs: Inputs, previous: Previous) -> Iterator[Attributes]:
    yield i.code(c.COMPARISON_DONE, c.YES)
    yield i.moment(c.PROCEDURE_DATETIME, inputs.local(previous.acquired_at))
    yield i.uid(c.STUDY_UID, previous.study_instance_uid)
    yield i.waveform(c.SOURCE_OF_MEASUREMENT, earlier(previous))
    for name, (before, now) in differences(inputs.result, previous).items():
        yield i.number(c.CHANGES[name], change(name, before, now), c.MEASUREMENT_UNITS[name])


def earlier(previous: Previous) -> Attributes:
    """Return a reference to the earlier waveform instance (PS3.3 10.8)."""
    return {
        "ReferencedSOPClassUID": previous.sop_class_uid,
        "ReferencedSOPInstanceUID": previous.sop_instance_uid,
    }


def _spoken(name: str, before: float, now: float) -> str:
    unit = "/min" if name == "heart_rate" else c.MEASUREMENT_UNITS[name]
    difference = change(name, before, now)
    return f"{_LABELS[name]} {before:.0f} to {now:.0f} {unit} ({difference:+.0f})"


def _readable(moment: str) -> str:
    """Return a DT as date and time, as far as it goes."""
    found = _DIGITS.match(moment)
    parts = [part for part in found.groups() if part] if found else []
    return " ".join(filter(None, ("-".join(parts[:3]), ":".join(parts[3:])))) or moment
