"""What every structured report of ours shares: its head, its evidence, observer and algorithms."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from analysis.ecg import STANDARD_12, Code
from analysis.result import Finding, Result, Statement
from dicom_node.report import concepts as c
from dicom_node.report import items as i
from dicom_node.report.comparison import compared, earlier
from dicom_node.report.draft import Attributes, Draft
from dicom_node.report.objects import PRODUCT, Device, Inputs, Previous, Role
from dicom_node.report.shell import date_time, equipment, identity, placement, reference
from dicom_node.report.uids import derive

COMPREHENSIVE_SR: Final = "1.2.840.10008.5.1.4.1.1.88.33"
COMPREHENSIVE_3D_SR: Final = "1.2.840.10008.5.1.4.1.1.88.34"
WAVEFORM_ANNOTATION_SR: Final = "1.2.840.10008.5.1.4.1.1.88.77"

DESCRIPTIONS: Final[Mapping[Role, str]] = MappingProxyType(
    {
        Role.SR: "ECG report by AI, not verified",
        Role.TID1500: "ECG measurements by AI, not verified",
        Role.ANNOTATION: "ECG annotations by AI, not verified",
    }
)
MEASUREMENTS_AND_CRITERIA: Final = "ECG measurements and criteria"
"""The name of what measures and applies criteria, as an algorithm (TID 4019)."""

_SCHEME: Final = {
    "CodingSchemeDesignator": c.PRIVATE,
    "CodingSchemeUID": derive("coding scheme", c.PRIVATE),
    "CodingSchemeName": f"{PRODUCT} private codes",
    "CodingSchemeResponsibleOrganization": PRODUCT,
}


def document(
    inputs: Inputs, role: Role, sop_class_uid: str, content: Callable[[Inputs], Attributes]
) -> Draft:
    """Return a document of this class, with the root of its content and the evidence for it."""
    brought = identity(inputs.source)
    ours = equipment(inputs.device) | placement(inputs, role, sop_class_uid)
    root = content(inputs)
    del root["RelationshipType"]
    return Draft(brought, ours | _general(inputs, role) | root)


def _general(inputs: Inputs, role: Role) -> Attributes:
    """SR Document Series and SR Document General (PS3.3 C.17.1, C.17.2)."""
    date, time = date_time(inputs.written_at)
    return {
        "Modality": "SR",
        "SeriesDescription": DESCRIPTIONS[role],
        "CodingSchemeIdentificationSequence": [_SCHEME],
        "ReferencedPerformedProcedureStepSequence": [],
        "ContentDate": date,
        "ContentTime": time,
        "PreliminaryFlag": "PRELIMINARY",
        "CompletionFlag": "COMPLETE",
        "VerificationFlag": "UNVERIFIED",
        "PerformedProcedureCodeSequence": [],
    } | _evidence(inputs, role)


def _evidence(inputs: Inputs, role: Role) -> Attributes:
    """List the ECG and, in the ECG report, the earlier one that it is compared with."""
    source, previous = inputs.source, compared(inputs)
    ecg = _listed(source.StudyInstanceUID, source.SeriesInstanceUID, reference(source))
    listed: Attributes = {"CurrentRequestedProcedureEvidenceSequence": [ecg]}
    if role is Role.SR and isinstance(previous, Previous):
        prior = previous.study_instance_uid, previous.series_instance_uid, earlier(previous)
        listed["PertinentOtherEvidenceSequence"] = [_listed(*prior)]
    return listed


def _listed(study: str, series: str, instance: Attributes) -> Attributes:
    """SOP Instance Reference Macro, hierarchical (PS3.3 C.17.2.1)."""
    of_series = {"SeriesInstanceUID": series, "ReferencedSOPSequence": [instance]}
    return {"StudyInstanceUID": study, "ReferencedSeriesSequence": [of_series]}


def preamble(inputs: Inputs) -> Iterator[Attributes]:
    """Yield language, observer and procedure: TID 1204, TID 1002 with TID 1004."""
    device = inputs.device
    yield i.code(c.LANGUAGE, inputs.options.language, i.MODIFIER)
    yield from _observer(device)
    yield i.code(c.PROCEDURE_REPORTED, _procedure(inputs.result), i.MODIFIER)


def _observer(device: Device) -> Iterator[Attributes]:
    """TID 1002 with TID 1004: the device is the observer."""
    yield i.code(c.OBSERVER_TYPE, c.OBSERVER_DEVICE, i.CONTEXT)
    yield i.uid(c.OBSERVER_UID, device.device_uid, i.CONTEXT)
    yield i.text(c.OBSERVER_NAME, device.station_name, i.CONTEXT)
    yield i.text(c.OBSERVER_MANUFACTURER, device.manufacturer, i.CONTEXT)
    yield i.text(c.OBSERVER_MODEL_NAME, device.model_name, i.CONTEXT)
    yield i.text(c.OBSERVER_SERIAL_NUMBER, device.serial_number, i.CONTEXT)


def _procedure(result: Result) -> Code:
    return c.TWELVE_LEAD_ECG if is_twelve_lead(result) else c.ELECTROCARDIOGRAM


def is_twelve_lead(result: Result) -> bool:
    """Return whether the ECG has the twelve standard leads."""
    return set(STANDARD_12) <= set(result.recording.ecg.leads)


def algorithms(inputs: Inputs, how: str = i.CONTAINS) -> Iterator[Attributes]:
    """Yield every algorithm after TID 4019."""
    device = inputs.device
    yield from measuring(device, how)
    for model in inputs.result.models:
        yield from _algorithm(model.name, model.version, how)
        yield i.text(c.ALGORITHM_PARAMETERS, f"sha256={model.digest}", how)


def measuring(device: Device, how: str = i.CONTAINS) -> Iterator[Attributes]:
    """Yield what measures and applies criteria, after TID 4019."""
    yield from _algorithm(MEASUREMENTS_AND_CRITERIA, device.software_version, how)
    yield i.text(c.ALGORITHM_MANUFACTURER, device.manufacturer, how)


def _algorithm(name: str, version: str, how: str) -> Iterator[Attributes]:
    yield i.text(c.ALGORITHM_NAME, name, how)
    yield i.text(c.ALGORITHM_VERSION, version, how)


def finding(statement: Statement, result: Result) -> Attributes:
    """Return a statement as a coded finding: in words too, how certain, and who says so."""
    item = i.code(c.ECG_FINDING, statement.code)
    item["ContentSequence"] = [
        i.text(c.EQUIVALENT_MEANING, statement.text, i.MODIFIER),
        *_certainty(statement, basis(statement, result)),
    ]
    return item


def _certainty(statement: Statement, finding: Finding | None) -> Iterator[Attributes]:
    """Yield probability and threshold of a model's finding, and who says so."""
    if finding is not None and finding.probability is not None:
        yield i.number(c.PROBABILITY, finding.probability, "1", i.PROPERTY)
    if finding is not None and finding.threshold is not None:
        yield i.number(c.THRESHOLD, finding.threshold, "1", i.PROPERTY)
    yield i.text(c.ALGORITHM_NAME, _who(statement, finding), i.PROPERTY)


def basis(statement: Statement, result: Result) -> Finding | None:
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
