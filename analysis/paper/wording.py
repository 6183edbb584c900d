"""The words of the page: patient, measurements, statements, and what must always be said."""

from collections.abc import Iterator
from typing import Final

from analysis.ecg import Acquisition, Lead, Patient, Recording, Sex
from analysis.paper.lettering import REPLACEMENT, printable
from analysis.result import (
    Measurements,
    ModelIdentity,
    Overall,
    Quality,
    QualityReason,
    Quantity,
    Result,
    Verdict,
)

SAFETY: Final = "AI analysis – not verified by a clinician – research use only – not an alarm"
NOTHING: Final = "–"

_OVERALL = {
    Overall.NORMAL: "Normal ECG",
    Overall.ABNORMAL: "Abnormal ECG",
    Overall.NO_LISTED_FINDING: "No listed finding above its threshold",
}
_SEX = {Sex.MALE: "male", Sex.FEMALE: "female", Sex.OTHER: "sex other"}
_UNITS = {"{H.B.}/min": " /min", "deg": "°", "1": "", "mV.ms": " mV·ms"}
_DECIMALS = {"mV": 2, "1": 3}
_MEASUREMENTS = {
    "rr_interval": "RR interval", "pr_interval": "PR interval", "qrs_duration": "QRS duration",
    "qt_interval": "QT interval", "jt_interval": "JT interval", "qt_dispersion": "QT dispersion",
    "qtc_bazett": "QTc Bazett", "qtc_fridericia": "QTc Fridericia",
    "qtc_framingham": "QTc Framingham", "qtc_hodges": "QTc Hodges", "qrs_axis": "QRS axis",
    "rr_variability": "RMSSD / mean RR", "sokolow_lyon": "Sokolow-Lyon", "sdnn": "SDNN",
    "rmssd": "RMSSD", "pnn50": "pNN50",
}  # fmt: skip


def person_name(name: str | None) -> str:
    """Return a name as a reader expects it: "Family, Given" for "Family^Given".

    Of the alphabetic, ideographic and phonetic spelling (PS3.5, 6.2.1) those that can be
    printed are shown; where none can, the first, with its unprintable characters replaced.
    """
    spellings = [printable(_spelled(group)) for group in (name or "").split("=")]
    given = [spelling for spelling in spellings if spelling]
    whole = [spelling for spelling in given if REPLACEMENT not in spelling]
    return " / ".join(whole or given[:1]) or "Name not stated"


def _spelled(group: str) -> str:
    family, *others = (part.strip() for part in group.split("^"))
    rest = " ".join(part for part in others if part)
    return ", ".join(part for part in (family, rest) if part)


def person(patient: Patient) -> str:
    """Return sex, age and birth date in one line, and which of them the source does not state."""
    known = {
        "sex": _SEX[patient.sex] if patient.sex else None,
        "age": None if patient.age is None else _age(patient.age),
        "birth date": f"born {patient.birth_date}" if patient.birth_date else None,
    }
    said = [words for words in known.values() if words]
    unknown = [name for name, words in known.items() if not words]
    return " · ".join(said + ([f"{', '.join(unknown)} not stated"] if unknown else []))


def _age(years: float) -> str:
    """Return an age in completed years; below two in completed months."""
    return f"{int(years)} years" if years >= 2 else f"{int(years * 12)} months"  # noqa: PLR2004 - infancy


def acquired(acquisition: Acquisition) -> str:
    """Return when the ECG was recorded."""
    if acquisition.acquired_at is None:
        return "Time of recording not stated"
    return f"Recorded {acquisition.acquired_at.isoformat(' ', 'seconds')}"


def device(acquisition: Acquisition) -> str:
    """Return what recorded it."""
    parts = (acquisition.manufacturer, acquisition.model, acquisition.software)
    return " ".join(part for part in parts if part) or "Device not stated"


def filters(acquisition: Acquisition) -> str:
    """Return the pass band and the notch filter that the source states."""
    low, high = acquisition.filter_low_frequency, acquisition.filter_high_frequency
    if low is not None and high is not None:
        band = f"{low:g}–{high:g} Hz"
    elif low is not None:
        band = f"from {low:g} Hz"
    elif high is not None:
        band = f"up to {high:g} Hz"
    else:
        band = "filter not stated"
    notch = acquisition.notch_filter_frequency
    return band if notch is None else f"{band}   notch {notch:g} Hz"


def measurement_name(name: str) -> str:
    """Return the short name of a global measurement: "PR interval"."""
    return _MEASUREMENTS.get(name) or name.replace("_", " ").capitalize()


def measurement_lines(meas: Measurements) -> Iterator[tuple[str, str, str]]:
    """Yield label, value and remark of each line; a missing value has its reason as remark."""
    yield "Heart rate", *value(meas.heart_rate)
    yield "PR interval", *value(meas.pr_interval)
    yield "QRS duration", *value(meas.qrs_duration)
    yield "QT interval", *value(meas.qt_interval)
    qtc, why = value(meas.qtc_fridericia)
    yield "QTc", qtc, why or "Fridericia"
    axes = (meas.p_axis, meas.qrs_axis, meas.t_axis)
    reasons = dict.fromkeys(axis.reason for axis in axes if axis.reason)
    yield "P / QRS / T axis", " / ".join(value(axis)[0] for axis in axes), "; ".join(reasons)


def value(quantity: Quantity) -> tuple[str, str]:
    """Return a value with its unit, or a dash and the reason why there is none."""
    if quantity.value is None:
        return NOTHING, quantity.reason or ""
    unit = _UNITS.get(quantity.unit, f" {quantity.unit}")
    number = f"{quantity.value:z.{_DECIMALS.get(quantity.unit, 0)}f}"
    return number.replace("-", "−") + unit, ""


def overall(result: Result) -> str:
    """Return the headline: the overall finding, or why there is none."""
    if not is_diagnostic(result):
        return f"Non-diagnostic ECG: {', '.join(reason(why) for why in _reasons(result.quality))}"
    return _OVERALL[result.overall]


def is_diagnostic(result: Result) -> bool:
    """Return whether the ECG may carry statements at all."""
    return (
        result.overall is not Overall.NON_DIAGNOSTIC
        and result.quality.verdict is not Verdict.NON_DIAGNOSTIC
    )


def quality(quality: Quality) -> str:
    """Return the verdict on the recording, with each reason and the leads that it names."""
    remarks = "; ".join(_remark(why, quality) for why in _reasons(quality))
    verdict = f"Quality of the recording: {quality.verdict}"
    return f"{verdict} – {remarks}" if remarks else verdict


def _remark(why: QualityReason, quality: Quality) -> str:
    leads = [lead for lead in Lead if why in quality.leads.get(lead, ())]
    return f"{reason(why)} ({' '.join(leads)})" if leads else reason(why)


def _reasons(quality: Quality) -> list[QualityReason]:
    of_leads = [why for lead in Lead for why in quality.leads.get(lead, ())]
    return list(dict.fromkeys((*quality.reasons, *of_leads)))


def reason(why: QualityReason) -> str:
    """Return a reason as it is spoken: "no QRS"."""
    return why.replace("-", " ").replace("qrs", "QRS")


def models(models: tuple[ModelIdentity, ...]) -> str:
    """Return name, version and the first twelve digits of the digest of each model."""
    named = [f"{model.name} {model.version} (sha256 {model.digest[:12]})" for model in models]
    return f"Model: {', '.join(named)}" if named else "No model"


def derived(recording: Recording) -> str:
    """Return which leads were computed from others; empty where none was."""
    leads = recording.derived_leads
    return f"derived: {' '.join(leads)}" if leads else ""
