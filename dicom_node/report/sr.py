"""The ECG report as a Comprehensive SR after TID 3700 (PS3.16)."""

from collections.abc import Iterator
from typing import Final

from analysis.codes import LEAD_CODES
from analysis.ecg import Code, Patient
from analysis.result import Overall, Result, Statement
from dicom_node.report import concepts as c
from dicom_node.report import items as i
from dicom_node.report.comparison import prior_ecg
from dicom_node.report.comparison import sentence as comparison
from dicom_node.report.document import (
    COMPREHENSIVE_SR,
    algorithms,
    document,
    finding,
    is_twelve_lead,
    preamble,
)
from dicom_node.report.draft import Attributes, Draft
from dicom_node.report.measured import quantitative_analysis
from dicom_node.report.objects import (
    SAFETY_SENTENCE,
    Inputs,
    Role,
    headline,
    is_reported,
    models_line,
    spoken,
)
from dicom_node.report.shell import acquired_at, reference

__all__ = ["COMPREHENSIVE_SR", "ecg_report", "is_reported"]

_LINE: Final = (
    ("heart_rate", "Heart rate", "/min"),
    ("pr_interval", "PR", "ms"),
    ("qrs_duration", "QRS", "ms"),
    ("qt_interval", "QT", "ms"),
    ("qtc_fridericia", "QTc (Fridericia)", "ms"),
    ("qrs_axis", "QRS axis", "deg"),
)


def ecg_report(inputs: Inputs) -> Draft:
    """Return the report as a Comprehensive SR Storage instance (PS3.3 A.35.3)."""
    return document(inputs, Role.SR, COMPREHENSIVE_SR, _content)


def _content(inputs: Inputs) -> Attributes:
    """TID 3700, rows in its order."""
    result = inputs.result
    items = [
        *preamble(inputs),
        i.container(c.PATIENT_CHARACTERISTICS, _patient(result.recording.patient), "3704"),
        prior_ecg(inputs),
        i.container(c.PROCEDURE_DESCRIPTIONS, _waveform_information(inputs), "3708"),
        i.container(c.QUANTITATIVE_ANALYSIS, quantitative_analysis(result)),
        i.container(c.QUALITATIVE_ANALYSIS, _qualitative_analysis(result), "3717"),
        i.container(c.SUMMARY, _summary(inputs), "3719"),
    ]
    return i.container(c.ECG_REPORT, items, "3700")


def _patient(patient: Patient) -> Iterator[Attributes]:
    """TID 3704: what the criteria were told, or that it is unknown."""
    if patient.age is None:
        yield i.absent(c.SUBJECT_AGE, c.VALUE_UNKNOWN)
    else:
        yield i.number(c.SUBJECT_AGE, patient.age, "a")
    yield i.code(c.SUBJECT_SEX, c.SEXES[patient.sex])


def _waveform_information(inputs: Inputs) -> Iterator[Attributes]:
    """TID 3708; every algorithm after TID 4019."""
    source, result = inputs.source, inputs.result
    yield i.moment(c.PROCEDURE_DATETIME, inputs.local(acquired_at(source)))
    yield i.waveform(c.SOURCE_OF_MEASUREMENT, reference(source))
    if is_twelve_lead(result):
        yield i.code(c.LEAD_SYSTEM, c.UNSPECIFIED_12_LEAD)
    yield from _acquisition(result)
    yield from algorithms(inputs)


def _acquisition(result: Result) -> Iterator[Attributes]:
    """Yield what the source says of cart and filters (CID 3690)."""
    said = result.recording.acquisition
    if cart := " ".join(filter(None, (said.manufacturer, said.model, said.software))):
        yield i.text(c.EQUIPMENT_IDENTIFICATION, cart)
    frequencies = {
        c.SAMPLE_RATE: result.recording.ecg.sampling_frequency,
        c.LOW_PASS_FREQUENCY: said.filter_high_frequency,
        c.NOTCH_FREQUENCY: said.notch_filter_frequency,
    }
    for concept, frequency in frequencies.items():
        if frequency is not None:
            yield i.number(concept, frequency, "Hz")


def _qualitative_analysis(result: Result) -> Iterator[Attributes]:
    """TID 3717: what the statements say, coded, or in words that there is nothing to say."""
    statements = spoken(result)
    yield from (_finding(statement, result) for statement in statements)
    if not statements:
        yield i.text(c.ECG_FINDING, " ".join(headline(result)))
    how_much = i.code(c.FINDINGS_SUMMARY, _succeeded(result, found=bool(statements)))
    if result.not_assessed:
        sentences = [i.text(c.NOT_ASSESSED, why, i.PROPERTY) for why in result.not_assessed]
        how_much["ContentSequence"] = sentences
    yield how_much


def _succeeded(result: Result, *, found: bool) -> Code:
    """Return how much was assessed (CID 6047)."""
    if result.overall is Overall.NON_DIAGNOSTIC:
        return c.NOTHING_SUCCEEDED
    if result.not_assessed:
        return c.PARTLY_WITH_FINDINGS if found else c.PARTLY_WITHOUT_FINDINGS
    return c.WITH_FINDINGS if found else c.WITHOUT_FINDINGS


def _finding(statement: Statement, result: Result) -> Attributes:
    item = finding(statement, result)
    item["ContentSequence"] += _inferred_from(statement)
    return item


def _inferred_from(statement: Statement) -> Iterator[Attributes]:
    """Yield the leads that carried a statement, and its numbers."""
    for lead in statement.leads:
        if lead in LEAD_CODES:
            yield i.code(c.LEAD_ID, LEAD_CODES[lead], i.INFERRED)
    yield from (i.text(c.EVIDENCE, line, i.INFERRED) for line in statement.evidence)


def _summary(inputs: Inputs) -> Iterator[Attributes]:
    """TID 3719: what is said, what was not assessed, and what this report is not."""
    result = inputs.result
    lines = [
        *headline(result),
        *_measured(result),
        comparison(inputs),
        *result.not_assessed,
        models_line(result),
        SAFETY_SENTENCE,
    ]
    yield i.text(c.SUMMARY, "\n".join(lines))
    if result.overall in c.OVERALL:
        yield i.code(c.OVERALL_FINDING, c.OVERALL[result.overall])
    yield i.text(c.QUALITY_ASSESSMENT, _quality(result))


def _measured(result: Result) -> Iterator[str]:
    """Yield one line of measurements, for viewers that show a number without its name."""
    quantities = dict(result.measurements.quantities())
    shown = [
        f"{label} {quantities[name].value:.0f} {unit}"
        for name, label, unit in _LINE
        if is_reported(name, quantities[name])
    ]
    if shown:
        yield f"{', '.join(shown)}."


def _quality(result: Result) -> str:
    quality = result.quality
    leads = [f"{lead}: {', '.join(why)}" for lead, why in quality.leads.items() if why]
    return "; ".join(
        [f"Signal quality: {quality.verdict}", *(r.value for r in quality.reasons), *leads]
    )
