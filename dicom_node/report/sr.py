"""The ECG report as a Comprehensive SR after TID 3700 (PS3.16).

A content item is its attributes by keyword (PS3.3 C.17.3), as the standard's tables give them; that
each equals the one highdicom would make is proved by the tests.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Final

from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from analysis.ecg import STANDARD_12, Code
from analysis.result import Finding, Overall, Quantity, Result, Statement
from dicom_node.report import concepts as c
from dicom_node.report.draft import Attributes, Draft
from dicom_node.report.objects import (
    SAFETY_SENTENCE,
    Device,
    Inputs,
    Role,
    headline,
    models_line,
    spoken,
)
from dicom_node.report.shell import (
    acquired_at,
    ascii_text,
    date_time,
    equipment,
    identity,
    placement,
    reference,
)

COMPREHENSIVE_SR: Final = "1.2.840.10008.5.1.4.1.1.88.33"

_DECIMALS: Final = {"ms": 1, "deg": 1, "{H.B.}/min": 1}
_LINE: Final = (
    ("heart_rate", "Heart rate", "/min"),
    ("pr_interval", "PR", "ms"),
    ("qrs_duration", "QRS", "ms"),
    ("qt_interval", "QT", "ms"),
    ("qtc_fridericia", "QTc (Fridericia)", "ms"),
    ("qrs_axis", "QRS axis", "deg"),
)

_CONTAINS = "CONTAINS"
_PROPERTY = "HAS PROPERTIES"
_MODIFIER = "HAS CONCEPT MOD"
_CONTEXT = "HAS OBS CONTEXT"


def ecg_report(inputs: Inputs) -> Draft:
    """Return the report as a Comprehensive SR Storage instance (PS3.3 A.35.3)."""
    brought = identity(inputs.source)
    ours = equipment(inputs.device) | placement(inputs, Role.SR, COMPREHENSIVE_SR)
    return Draft(brought, ours | _general(inputs) | _content(inputs))


def _general(inputs: Inputs) -> Attributes:
    """SR Document Series and SR Document General (PS3.3 C.17.1, C.17.2)."""
    date, time = date_time(inputs.written_at)
    return {
        "Modality": "SR",
        "SeriesDescription": "ECG report by AI, not verified",
        "ReferencedPerformedProcedureStepSequence": [],
        "ContentDate": date,
        "ContentTime": time,
        "PreliminaryFlag": "PRELIMINARY",
        "CompletionFlag": "COMPLETE",
        "VerificationFlag": "UNVERIFIED",
        "PerformedProcedureCodeSequence": [],
        "CurrentRequestedProcedureEvidenceSequence": [_evidence(inputs.source)],
    }


def _evidence(source: Dataset) -> Attributes:
    series = {
        "SeriesInstanceUID": source.SeriesInstanceUID,
        "ReferencedSOPSequence": [reference(source)],
    }
    return {"StudyInstanceUID": source.StudyInstanceUID, "ReferencedSeriesSequence": [series]}


def _content(inputs: Inputs) -> Attributes:
    """TID 3700, rows in its order."""
    result = inputs.result
    items = [
        _code(c.LANGUAGE, inputs.options.language, _MODIFIER),
        *_observer(inputs.device),
        _code(c.PROCEDURE_REPORTED, _procedure(result), _MODIFIER),
        _container(c.PROCEDURE_DESCRIPTIONS, _waveform_information(inputs), "3708"),
        _container(c.QUANTITATIVE_ANALYSIS, [_global_measurements(result)]),
        _container(c.QUALITATIVE_ANALYSIS, _qualitative_analysis(result), "3717"),
        _container(c.SUMMARY, _summary(result), "3719"),
    ]
    root = _container(c.ECG_REPORT, items, "3700")
    del root["RelationshipType"]
    return root


def _observer(device: Device) -> Iterator[Attributes]:
    """TID 1002 with TID 1004: the device is the observer."""
    yield _code(c.OBSERVER_TYPE, c.OBSERVER_DEVICE, _CONTEXT)
    yield _item("UIDREF", c.OBSERVER_UID, _CONTEXT, {"UID": device.device_uid})
    yield _text(c.OBSERVER_NAME, device.station_name, _CONTEXT)
    yield _text(c.OBSERVER_MANUFACTURER, device.manufacturer, _CONTEXT)
    yield _text(c.OBSERVER_MODEL_NAME, device.model_name, _CONTEXT)
    yield _text(c.OBSERVER_SERIAL_NUMBER, device.serial_number, _CONTEXT)


def _procedure(result: Result) -> Code:
    return c.TWELVE_LEAD_ECG if _is_twelve_lead(result) else c.ELECTROCARDIOGRAM


def _is_twelve_lead(result: Result) -> bool:
    return set(STANDARD_12) <= set(result.recording.ecg.leads)


def _waveform_information(inputs: Inputs) -> Iterator[Attributes]:
    """TID 3708; every algorithm after TID 4019."""
    source, result = inputs.source, inputs.result
    referenced = {"ReferencedSOPSequence": [reference(source)]}
    yield _item("WAVEFORM", c.SOURCE_OF_MEASUREMENT, _CONTAINS, referenced)
    if _is_twelve_lead(result):
        yield _code(c.LEAD_SYSTEM, c.UNSPECIFIED_12_LEAD)
    yield _item("DATETIME", c.PROCEDURE_DATETIME, _CONTAINS, {"DateTime": acquired_at(source)})
    yield _num(c.SAMPLE_RATE, result.recording.ecg.sampling_frequency, "Hz")
    yield from _algorithm("ECG measurements and criteria", inputs.device.software_version)
    for model in result.models:
        yield from _algorithm(model.name, model.version, f"sha256={model.digest}")


def _algorithm(name: str, version: str, *parameters: str) -> Iterator[Attributes]:
    yield _text(c.ALGORITHM_NAME, name)
    yield _text(c.ALGORITHM_VERSION, version)
    yield from (_text(c.ALGORITHM_PARAMETERS, parameter) for parameter in parameters)


def _global_measurements(result: Result) -> Attributes:
    """TID 3713; what could not be measured is said in words."""
    named = list(result.measurements.quantities())
    items = [_measurement(name, q) for name, q in named if is_reported(name, q)]
    missing = [f"{_words(name)}: {q.reason}" for name, q in named if q.value is None]
    if missing:
        items.append(_text(c.COMMENT, f"Not measured. {'; '.join(missing)}."))
    return _container(c.GLOBAL_MEASUREMENTS, items, "3713")


def is_reported(name: str, quantity: Quantity) -> bool:
    """Return whether the measurement has a code, a coded unit and a finite value."""
    return (
        name in c.MEASUREMENTS
        and quantity.unit in c.UNITS
        and quantity.value is not None
        and math.isfinite(quantity.value)
    )


def _measurement(name: str, quantity: Quantity) -> Attributes:
    item = _num(c.MEASUREMENTS[name], quantity.value or 0.0, quantity.unit)
    if name in c.FORMULAS:
        item["ContentSequence"] = [_code(c.ALGORITHM_NAME, c.FORMULAS[name], _PROPERTY)]
    return item


def _words(name: str) -> str:
    return name.replace("_", " ")


def _qualitative_analysis(result: Result) -> Iterator[Attributes]:
    """TID 3717: what the statements say, coded, or that there is nothing to say."""
    statements = spoken(result)
    yield from (_finding(statement, result) for statement in statements)
    if not statements:
        yield _code(c.FINDINGS_SUMMARY, _without_findings(result))


def _without_findings(result: Result) -> Code:
    if result.overall is Overall.NON_DIAGNOSTIC:
        return c.NOTHING_SUCCEEDED
    return c.PARTLY_WITHOUT_FINDINGS if result.not_assessed else c.WITHOUT_FINDINGS


def _finding(statement: Statement, result: Result) -> Attributes:
    finding = _basis(statement, result)
    item = _code(c.ECG_FINDING, statement.code)
    properties = [_text(c.EQUIVALENT_MEANING, statement.text, _PROPERTY)]
    if finding is not None and finding.probability is not None:
        properties.append(_num(c.PROBABILITY, finding.probability, "1", _PROPERTY))
    if finding is not None and finding.threshold is not None:
        properties.append(_num(c.THRESHOLD, finding.threshold, "1", _PROPERTY))
    properties.append(_text(c.ALGORITHM_NAME, _who(statement, finding), _PROPERTY))
    properties.extend(_text(c.COMMENT, line, _PROPERTY) for line in statement.evidence)
    item["ContentSequence"] = properties
    return item


def _basis(statement: Statement, result: Result) -> Finding | None:
    """Return the finding that the statement rests on: same key, present, same origin."""
    found = (
        finding
        for finding in result.findings
        if finding.present and (finding.key, finding.origin) == (statement.key, statement.origin)
    )
    return next(found, None)


def _who(statement: Statement, finding: Finding | None) -> str:
    model = finding.model if finding else None
    return f"{statement.origin.value}: {model}" if model else statement.origin.value


def _summary(result: Result) -> Iterator[Attributes]:
    """TID 3719: what is said, what was not assessed, and what this report is not."""
    lines = [
        *headline(result),
        *_measured(result),
        *result.not_assessed,
        models_line(result),
        SAFETY_SENTENCE,
    ]
    yield _text(c.SUMMARY, "\n".join(lines))
    if result.overall in c.OVERALL:
        yield _code(c.OVERALL_FINDING, c.OVERALL[result.overall])
    yield _text(c.QUALITY_ASSESSMENT, _quality(result))


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


def _container(name: Code, items: Iterable[Attributes], template: str | None = None) -> Attributes:
    values: Attributes = {"ContinuityOfContent": "CONTINUOUS", "ContentSequence": list(items)}
    if template:
        identified = {"MappingResource": "DCMR", "TemplateIdentifier": template}
        values["ContentTemplateSequence"] = [identified]
    return _item("CONTAINER", name, _CONTAINS, values)


def _code(name: Code, value: Code, relationship: str = _CONTAINS) -> Attributes:
    return _item("CODE", name, relationship, {"ConceptCodeSequence": value})


def _text(name: Code, value: str, relationship: str = _CONTAINS) -> Attributes:
    text = ascii_text(value)
    values = {"TextValue": text if text.strip() else "not stated"}
    return _item("TEXT", name, relationship, values)


def _num(name: Code, value: float, unit: str, relationship: str = _CONTAINS) -> Attributes:
    number = round(float(value), _DECIMALS.get(unit, 4))
    measured = {
        "NumericValue": format_number_as_ds(number),
        "FloatingPointValue": number,
        "MeasurementUnitsCodeSequence": c.UNITS[unit],
    }
    return _item("NUM", name, relationship, {"MeasuredValueSequence": [measured]})


def _item(value_type: str, name: Code, relationship: str, values: Attributes) -> Attributes:
    return {
        "RelationshipType": relationship,
        "ValueType": value_type,
        "ConceptNameCodeSequence": name,
    } | values
