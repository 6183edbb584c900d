"""Our own checker of the rules that no validator knows.

dciodvfy, dsrdump and their kind judge attributes, types and relationships. None of them knows a
template (TID), a context group (CID), whether a code exists, or the limits of a waveform IOD. The
node asks :func:`check` of every object before it sends one.

The rows of TID 3700 and its sub-templates are tables below: Requirement Type M and what we add to
it by rule (an algorithm is always named with its version, a report always says something).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID

from analysis.codes import LEAD_CODES, VOCABULARY
from analysis.ecg import Code
from dicom_node.report import concepts as c
from dicom_node.report.annotated import DESCRIPTION
from dicom_node.report.objects import Qualification, is_own
from dicom_node.report.pdf import ENCAPSULATED_PDF
from dicom_node.report.shell import MAY_BE_EMPTY, is_public
from dicom_node.report.sr import COMPREHENSIVE_SR
from dicom_node.report.waveforms import LIMITS, annotation_faults, group_faults, iod_faults


def check(dataset: Dataset) -> tuple[str, ...]:
    """Return what is wrong with a result object, one sentence each; empty means good."""
    sop_class_uid = str(dataset.get("SOPClassUID") or "")
    rules = _RULES.get(sop_class_uid)
    if rules is None:
        return (f"SOP class {sop_class_uid or 'absent'} is none of a result object",)
    return tuple(fault for rule in (*_COMMON, *rules) for fault in rule(dataset))


# What every result object keeps


def _identifiers(dataset: Dataset) -> Iterator[str]:
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if not UID(str(dataset.get(keyword) or "")).is_valid:
            yield f"{keyword} is absent or no UID"
    for keyword in MAY_BE_EMPTY:
        if keyword not in dataset:
            yield f"{keyword} (type 2) is absent"
    meta = getattr(dataset, "file_meta", None)
    if meta and meta.get("MediaStorageSOPInstanceUID") != dataset.get("SOPInstanceUID"):
        yield "file meta information names another instance"
    if meta and meta.get("MediaStorageSOPClassUID") != dataset.get("SOPClassUID"):
        yield "file meta information names another class"


def _series(dataset: Dataset) -> Iterator[str]:
    for keyword in ("SeriesNumber", "InstanceNumber", "SeriesDescription", "SeriesDate"):
        if not str(dataset.get(keyword) or ""):
            yield f"{keyword} is absent"
    for keyword in ("ContentDate", "ContentTime"):
        if not dataset.get(keyword):
            yield f"{keyword} is absent"


def _provenance(dataset: Dataset) -> Iterator[str]:
    if not is_own(dataset) or not dataset.get("ContributingEquipmentSequence"):
        yield "Contributing Equipment does not name us"
    if dataset.get("ContentQualification") not in set(Qualification):
        yield "Content Qualification is absent or unknown"
    if not is_public(dataset):
        yield "holds private elements"


# Encapsulated PDF (PS3.3 C.24)


def _pdf(dataset: Dataset) -> Iterator[str]:
    if dataset.get("Modality") != "DOC":
        yield "Modality is not DOC"
    if dataset.get("MIMETypeOfEncapsulatedDocument") != "application/pdf":
        yield "MIME type is not application/pdf"
    if dataset.get("BurnedInAnnotation") != "YES":
        yield "Burned In Annotation is not YES"
    if not dataset.get("DocumentTitle"):
        yield "Document Title is absent"
    if _first_code(dataset, "ConceptNameCodeSequence") != c.ECG_REPORT:
        yield "Concept Name is not ECG Report"
    yield from _references(dataset, "SourceInstanceSequence")
    yield from _document(dataset)


def _document(dataset: Dataset) -> Iterator[str]:
    document = dataset.get("EncapsulatedDocument") or b""
    if not document.startswith(b"%PDF-"):
        yield "the document is no PDF"
    length = int(dataset.get("EncapsulatedDocumentLength") or 0)
    if len(document) != length + length % 2:
        yield "Encapsulated Document Length is not the document's"


# Annotated ECG (PS3.3 A.34, C.10.9, C.10.10)


def _waveform(dataset: Dataset) -> Iterator[str]:
    sop_class_uid = str(dataset.SOPClassUID)
    if dataset.get("Modality") != LIMITS[sop_class_uid].modality:
        yield f"Modality is not {LIMITS[sop_class_uid].modality}"
    if not dataset.get("AcquisitionDateTime"):
        yield "Acquisition DateTime is absent"
    if "AcquisitionContextSequence" not in dataset:
        yield "Acquisition Context Sequence is absent"
    if dataset.get("SeriesDescription") != DESCRIPTION:
        yield "Series Description does not say that it is a copy"
    yield from iod_faults(dataset, sop_class_uid)
    for number, group in enumerate(dataset.get("WaveformSequence") or (), 1):
        yield from (f"group {number}: {fault}" for fault in group_faults(group))
    yield from _references(dataset, "ReferencedInstanceSequence")


def _annotations(dataset: Dataset) -> Iterator[str]:
    groups = list(dataset.get("WaveformSequence") or ())
    items = list(dataset.get("WaveformAnnotationSequence") or ())
    for number, item in enumerate(items, 1):
        yield from (f"annotation {number} {fault}" for fault in annotation_faults(item, groups))
    if not any(str(item.get("UnformattedTextValue") or "").startswith("AI:") for item in items):
        yield "no annotation says what AI found"


def _references(dataset: Dataset, keyword: str) -> Iterator[str]:
    items = dataset.get(keyword) or ()
    uids = {str(item.get("ReferencedSOPInstanceUID") or "") for item in items}
    if not uids - {""} or str(dataset.get("SOPInstanceUID")) in uids:
        yield f"{keyword} does not reference the source"


# ECG report: the document (PS3.3 C.17.2, C.17.3)


def _flags(dataset: Dataset) -> Iterator[str]:
    if dataset.get("Modality") != "SR":
        yield "Modality is not SR"
    if dataset.get("CompletionFlag") != "COMPLETE":
        yield "Completion Flag is not COMPLETE"
    if dataset.get("PreliminaryFlag") != "PRELIMINARY":
        yield "Preliminary Flag is not PRELIMINARY"
    if dataset.get("VerificationFlag") != "UNVERIFIED":
        yield "Verification Flag is not UNVERIFIED: no AI verifies its own report"
    for keyword in ("ReferencedPerformedProcedureStepSequence", "PerformedProcedureCodeSequence"):
        if keyword not in dataset:
            yield f"{keyword} (type 2) is absent"


def _evidence(dataset: Dataset) -> Iterator[str]:
    """Every instance that the tree references is listed as evidence of its study."""
    listed = {
        str(instance.get("ReferencedSOPInstanceUID"))
        for study in dataset.get("CurrentRequestedProcedureEvidenceSequence") or ()
        for series in study.get("ReferencedSeriesSequence") or ()
        for instance in series.get("ReferencedSOPSequence") or ()
    }
    for _, item in _tree(dataset):
        for instance in item.get("ReferencedSOPSequence") or ():
            if str(instance.get("ReferencedSOPInstanceUID")) not in listed:
                yield "the evidence does not list a referenced instance"


# ECG report: the content (PS3.16 TID 3700)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a template: what stands there, how often, and what stands below it."""

    concept: Code
    value_type: str
    relationship: str = "CONTAINS"
    at_least: int = 0
    at_most: int | None = None
    values: frozenset[Code] | None = None
    """Codes allowed; None allows any known one."""
    rows: tuple["Row", ...] = ()


def _required(concept: Code, value_type: str, relationship: str = "CONTAINS") -> Row:
    return Row(
        concept=concept, value_type=value_type, relationship=relationship, at_least=1, at_most=1
    )


_FORMULA = Row(
    concept=c.ALGORITHM_NAME,
    value_type="CODE",
    relationship="HAS PROPERTIES",
    at_most=1,
    values=frozenset(c.FORMULAS.values()),
)
_FINDING = (
    Row(concept=c.EQUIVALENT_MEANING, value_type="TEXT", relationship="HAS PROPERTIES"),
    Row(concept=c.PROBABILITY, value_type="NUM", relationship="HAS PROPERTIES", at_most=1),
    Row(concept=c.THRESHOLD, value_type="NUM", relationship="HAS PROPERTIES", at_most=1),
    Row(concept=c.ALGORITHM_NAME, value_type="TEXT", relationship="HAS PROPERTIES", at_least=1),
    Row(concept=c.COMMENT, value_type="TEXT", relationship="HAS PROPERTIES"),
)
_TID_3708 = (
    _required(c.SOURCE_OF_MEASUREMENT, "WAVEFORM"),
    Row(concept=c.LEAD_SYSTEM, value_type="CODE", at_most=1),
    _required(c.PROCEDURE_DATETIME, "DATETIME"),
    Row(concept=c.SAMPLE_RATE, value_type="NUM", at_most=1),
    Row(concept=c.ALGORITHM_NAME, value_type="TEXT", at_least=1),
    Row(concept=c.ALGORITHM_VERSION, value_type="TEXT", at_least=1),
    Row(concept=c.ALGORITHM_PARAMETERS, value_type="TEXT"),
)
_TID_3713 = (
    *(
        Row(concept=concept, value_type="NUM", rows=(_FORMULA,))
        for concept in dict.fromkeys(c.MEASUREMENTS.values())
    ),
    Row(concept=c.COMMENT, value_type="TEXT"),
)
_TID_3717 = (
    Row(concept=c.ECG_FINDING, value_type="CODE", rows=_FINDING),
    Row(
        concept=c.FINDINGS_SUMMARY,
        value_type="CODE",
        at_most=1,
        values=frozenset({c.WITHOUT_FINDINGS, c.PARTLY_WITHOUT_FINDINGS, c.NOTHING_SUCCEEDED}),
    ),
)
_TID_3719 = (
    _required(c.SUMMARY, "TEXT"),
    Row(
        concept=c.OVERALL_FINDING,
        value_type="CODE",
        at_most=1,
        values=frozenset(c.OVERALL.values()),
    ),
    Row(concept=c.QUALITY_ASSESSMENT, value_type="TEXT"),
)


def _section(concept: Code, rows: tuple[Row, ...]) -> Row:
    return Row(concept=concept, value_type="CONTAINER", at_least=1, at_most=1, rows=rows)


TID_3700: Final = (
    _required(c.LANGUAGE, "CODE", "HAS CONCEPT MOD"),
    Row(
        concept=c.OBSERVER_TYPE,
        value_type="CODE",
        relationship="HAS OBS CONTEXT",
        at_least=1,
        at_most=1,
        values=frozenset({c.OBSERVER_DEVICE}),
    ),
    _required(c.OBSERVER_UID, "UIDREF", "HAS OBS CONTEXT"),
    _required(c.PROCEDURE_REPORTED, "CODE", "HAS CONCEPT MOD"),
    _section(c.PROCEDURE_DESCRIPTIONS, _TID_3708),
    _section(c.QUANTITATIVE_ANALYSIS, (_section(c.GLOBAL_MEASUREMENTS, _TID_3713),)),
    _section(c.QUALITATIVE_ANALYSIS, _TID_3717),
    _section(c.SUMMARY, _TID_3719),
)
"""TID 3700 with TID 1204, 1002, 3708, 4019, 3713, 3717 and 3719; all are extensible."""


def _root(dataset: Dataset) -> Iterator[str]:
    template = next(iter(dataset.get("ContentTemplateSequence") or ()), Dataset())
    if (template.get("MappingResource"), template.get("TemplateIdentifier")) != ("DCMR", "3700"):
        yield "Content Template is not DCMR 3700"
    if dataset.get("ValueType") != "CONTAINER":
        yield "the root is no CONTAINER"
    if _first_code(dataset, "ConceptNameCodeSequence") != c.ECG_REPORT:
        yield "the document title is not ECG Report"
    yield from _match(dataset, TID_3700, "TID 3700")


def _match(parent: Dataset, rows: tuple[Row, ...], where: str) -> Iterator[str]:
    items = list(parent.get("ContentSequence") or ())
    for row in rows:
        found = [item for item in items if _name(item) == row.concept]
        place = f"{where}, {row.concept.meaning}"
        if len(found) < row.at_least:
            yield f"{place}: absent"
        if row.at_most is not None and len(found) > row.at_most:
            yield f"{place}: {len(found)} times"
        for item in found:
            yield from _match_one(item, row, place)


def _match_one(item: Dataset, row: Row, place: str) -> Iterator[str]:
    if item.get("ValueType") != row.value_type:
        yield f"{place}: value type is not {row.value_type}"
    if item.get("RelationshipType") != row.relationship:
        yield f"{place}: relationship is not {row.relationship}"
    if row.values is not None and _first_code(item, "ConceptCodeSequence") not in row.values:
        yield f"{place}: the code is not one of the context group"
    yield from _match(item, row.rows, place)


def _items(dataset: Dataset) -> Iterator[str]:
    """Every content item has a value of its type, under a parent that may have it."""
    for parent, item in _tree(dataset):
        name = _name(item)
        label = name.meaning if name else "an unnamed item"
        if item.get("RelationshipType") == "CONTAINS" and parent.get("ValueType") != "CONTAINER":
            yield f"{label}: only a CONTAINER contains"
        if name is None or name not in _known_codes():
            yield f"{label}: the concept is no known code"
        fault = _VALUES.get(str(item.get("ValueType")), _unknown_type)(item)
        if fault:
            yield f"{label}: {fault}"


def _unknown_type(item: Dataset) -> str | None:
    return f"value type {item.get('ValueType')} is none of ours"


def _code_fault(item: Dataset) -> str | None:
    value = _first_code(item, "ConceptCodeSequence")
    if value is not None and value.scheme == "RFC5646":
        return None
    return None if value in _known_codes() else "the value is no known code"


def _number_fault(item: Dataset) -> str | None:
    measured = list(item.get("MeasuredValueSequence") or ())
    if len(measured) != 1 or measured[0].get("NumericValue") is None:
        return "one measured value is needed"
    unit = _first_code(measured[0], "MeasurementUnitsCodeSequence")
    return None if unit in set(c.UNITS.values()) else "the unit is absent or not UCUM"


def _needs(keyword: str) -> Callable[[Dataset], str | None]:
    return lambda item: None if item.get(keyword) else f"{keyword} is absent"


_VALUES: Final = MappingProxyType(
    {
        "CODE": _code_fault,
        "NUM": _number_fault,
        "TEXT": _needs("TextValue"),
        "DATETIME": _needs("DateTime"),
        "UIDREF": _needs("UID"),
        "WAVEFORM": _needs("ReferencedSOPSequence"),
        "CONTAINER": _needs("ContinuityOfContent"),
    }
)


def _meaning(dataset: Dataset) -> Iterator[str]:
    """Judge what the items say together: no diagnosis of a poor ECG, versions, no silence."""
    values = [(_name(item), _first_code(item, "ConceptCodeSequence")) for _, item in _tree(dataset)]
    named = [name for name, _ in values]
    diagnosed = c.ECG_FINDING in named
    if (c.OVERALL_FINDING, c.NON_DIAGNOSTIC) in values and diagnosed:
        yield "a non-diagnostic ECG has a finding"
    if diagnosed == (c.FINDINGS_SUMMARY in named):
        yield "either findings or that there are none must be said"
    for section in dataset.get("ContentSequence") or ():
        if _name(section) == c.PROCEDURE_DESCRIPTIONS:
            yield from _versions(section)


def _versions(section: Dataset) -> Iterator[str]:
    """TID 4019: the version follows the name."""
    names = [_name(item) for item in section.get("ContentSequence") or ()]
    for name, following in zip(names, [*names[1:], None], strict=True):
        if name == c.ALGORITHM_NAME and following != c.ALGORITHM_VERSION:
            yield "TID 4019: an algorithm without its version"


def _tree(parent: Dataset) -> Iterator[tuple[Dataset, Dataset]]:
    """Yield every content item below the parent, with the item it stands under."""
    for item in parent.get("ContentSequence") or ():
        yield parent, item
        yield from _tree(item)


def _name(item: Dataset) -> Code | None:
    return _first_code(item, "ConceptNameCodeSequence")


def _first_code(item: Dataset, keyword: str) -> Code | None:
    found = next(iter(item.get(keyword) or ()), None)
    if found is None:
        return None
    return Code(
        str(found.get("CodingSchemeDesignator") or ""),
        str(found.get("CodeValue") or ""),
        str(found.get("CodeMeaning") or ""),
    )


@cache
def _known_codes() -> frozenset[Code]:
    """Every code of PS3.16 as pydicom has it, and those that this house uses besides."""
    standard = {
        Code(code.scheme_designator, code.value.replace(" ", ""), code.meaning)
        for scheme in (codes.DCM, codes.SCT, codes.LN, codes.MDC, codes.UCUM)
        for code in scheme.concepts.values()
    }
    ours = {value for value in vars(c).values() if isinstance(value, Code)}
    vocabulary = {entry.code for entry in VOCABULARY.values()}
    tables = (c.UNITS, c.MEASUREMENTS, c.FORMULAS, c.MARKS, c.OVERALL, LEAD_CODES)
    listed = {code for table in tables for code in table.values()}
    return frozenset(standard | ours | vocabulary | listed)


_COMMON: Final = (_identifiers, _series, _provenance)
_RULES: Final = MappingProxyType(
    {
        COMPREHENSIVE_SR: (_flags, _evidence, _root, _items, _meaning),
        ENCAPSULATED_PDF: (_pdf,),
    }
    | dict.fromkeys(LIMITS, (_waveform, _annotations))
)
