"""Our own checker of the rules that no validator knows.

dciodvfy, dsrdump and their kind judge attributes, types and relationships. None of them knows a
template (TID), a context group (CID), whether a code exists, or the limits of a waveform IOD. The
node asks :func:`check` of every object before it sends one.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from dicom_node.report import concepts as c
from dicom_node.report.annotated import DESCRIPTION
from dicom_node.report.annotation import tid3750_faults
from dicom_node.report.capture import SECONDARY_CAPTURE
from dicom_node.report.document import (
    COMPREHENSIVE_3D_SR,
    COMPREHENSIVE_SR,
    WAVEFORM_ANNOTATION_SR,
)
from dicom_node.report.draft import AttributeSet, first_code
from dicom_node.report.matching import Item
from dicom_node.report.objects import UNREADABLE, Qualification, is_own
from dicom_node.report.pdf import ENCAPSULATED_PDF
from dicom_node.report.shell import MAY_BE_EMPTY, is_public
from dicom_node.report.tid1500 import tid1500_faults
from dicom_node.report.tid3700 import tid3700_faults
from dicom_node.report.uids import is_uid
from dicom_node.report.waveforms import (
    LIMITS,
    annotation_faults,
    group_faults,
    iod_faults,
)


def check(dataset: AttributeSet) -> tuple[str, ...]:
    """Return what is wrong with a result object, one sentence each; empty means good."""
    sop_class_uid = str(dataset.get("SOPClassUID") or "")
    rules = _RULES.get(sop_class_uid)
    if rules is None:
        return (f"SOP class {sop_class_uid or 'absent'} is none of a result object",)
    try:
        return tuple(fault for rule in (*_COMMON, *rules) for fault in rule(dataset))
    except UNREADABLE as error:
        return (f"holds a value that cannot be read ({type(error).__name__})",)


# What every result object keeps


def _identifiers(dataset: AttributeSet) -> Iterator[str]:
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if not is_uid(dataset.get(keyword)):
            yield f"{keyword} is absent or no UID"
    for keyword in MAY_BE_EMPTY:
        if keyword not in dataset:
            yield f"{keyword} (type 2) is absent"
    meta = getattr(dataset, "file_meta", None)
    if meta and meta.get("MediaStorageSOPInstanceUID") != dataset.get("SOPInstanceUID"):
        yield "file meta information names another instance"
    if meta and meta.get("MediaStorageSOPClassUID") != dataset.get("SOPClassUID"):
        yield "file meta information names another class"


def _series(dataset: AttributeSet) -> Iterator[str]:
    for keyword in ("SeriesNumber", "InstanceNumber", "SeriesDescription", "SeriesDate"):
        if not str(dataset.get(keyword) or ""):
            yield f"{keyword} is absent"
    for keyword in ("ContentDate", "ContentTime"):
        if not dataset.get(keyword):
            yield f"{keyword} is absent"


def _provenance(dataset: AttributeSet) -> Iterator[str]:
    if "Manufacturer" not in dataset:
        yield "Manufacturer (type 2) is absent"
    if not is_own(dataset) or not dataset.get("ContributingEquipmentSequence"):
        yield "Contributing Equipment does not name us"
    if dataset.get("ContentQualification") not in set(Qualification):
        yield "Content Qualification is absent or unknown"
    if not is_public(dataset):
        yield "holds private elements"


# Encapsulated PDF (PS3.3 C.24)


def _pdf(dataset: AttributeSet) -> Iterator[str]:
    if dataset.get("Modality") != "DOC":
        yield "Modality is not DOC"
    if dataset.get("MIMETypeOfEncapsulatedDocument") != "application/pdf":
        yield "MIME type is not application/pdf"
    if dataset.get("BurnedInAnnotation") != "YES":
        yield "Burned In Annotation is not YES"
    if not dataset.get("DocumentTitle"):
        yield "Document Title is absent"
    if first_code(dataset.get("ConceptNameCodeSequence")) != c.ECG_REPORT:
        yield "Concept Name is not ECG Report"
    yield from _references(dataset, "SourceInstanceSequence")
    yield from _document(dataset)


def _document(dataset: AttributeSet) -> Iterator[str]:
    document = dataset.get("EncapsulatedDocument") or b""
    if not document.startswith(b"%PDF-"):
        yield "the document is no PDF"
    length = int(dataset.get("EncapsulatedDocumentLength") or 0)
    if len(document) != length + length % 2:
        yield "Encapsulated Document Length is not the document's"


# Secondary Capture (PS3.3 A.8.1)


def _picture(dataset: AttributeSet) -> Iterator[str]:
    for keyword, needed in _PICTURE.items():
        if dataset.get(keyword) != needed:
            yield f"{keyword} is not {needed}"
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    length = rows * columns * _PICTURE["SamplesPerPixel"]
    if not length or len(dataset.get("PixelData") or b"") != length + length % 2:
        yield "the pixel data are not rows times columns"
    if "PatientOrientation" not in dataset:
        yield "PatientOrientation (type 2) is absent"
    yield from _references(dataset, "ReferencedInstanceSequence")


_PICTURE: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "Modality": "OT",
        "ConversionType": "SYN",
        "BurnedInAnnotation": "YES",
        "PhotometricInterpretation": "RGB",
        "SamplesPerPixel": 3,
        "PlanarConfiguration": 0,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
    }
)


# Annotated ECG (PS3.3 A.34, C.10.9, C.10.10)


def _waveform(dataset: AttributeSet) -> Iterator[str]:
    sop_class_uid = str(dataset.get("SOPClassUID"))
    if dataset.get("Modality") != LIMITS[sop_class_uid].modality:
        yield f"Modality is not {LIMITS[sop_class_uid].modality}"
    if not dataset.get("AcquisitionDateTime"):
        yield "Acquisition DateTime is absent"
    if "AcquisitionContextSequence" not in dataset:
        yield "Acquisition Context Sequence is absent"
    if dataset.get("SeriesDescription") != DESCRIPTION:
        yield "Series Description does not say that it is a copy"
    groups = list(dataset.get("WaveformSequence") or ())
    yield from iod_faults(groups, sop_class_uid)
    for number, group in enumerate(groups, 1):
        yield from (f"group {number}: {fault}" for fault in group_faults(group))
    yield from _references(dataset, "ReferencedInstanceSequence")


def _annotations(dataset: AttributeSet) -> Iterator[str]:
    groups = list(dataset.get("WaveformSequence") or ())
    items = list(dataset.get("WaveformAnnotationSequence") or ())
    for number, item in enumerate(items, 1):
        yield from (f"annotation {number} {fault}" for fault in annotation_faults(item, groups))
    if not any(str(item.get("UnformattedTextValue") or "").startswith("AI:") for item in items):
        yield "no annotation says what AI found"


def _references(dataset: AttributeSet, keyword: str) -> Iterator[str]:
    items = dataset.get(keyword) or ()
    uids = {str(item.get("ReferencedSOPInstanceUID") or "") for item in items}
    if not uids - {""} or str(dataset.get("SOPInstanceUID")) in uids:
        yield f"{keyword} does not reference the source"


# Structured reports (PS3.3 C.17.2, C.17.3; PS3.16 TID 3700, 1500, 3750)


def _document_flags(dataset: AttributeSet) -> Iterator[str]:
    for keyword, needed in _FLAGS.items():
        if dataset.get(keyword) != needed:
            yield f"{keyword} is not {needed}"
    for keyword in ("ReferencedPerformedProcedureStepSequence", "PerformedProcedureCodeSequence"):
        if keyword not in dataset:
            yield f"{keyword} (type 2) is absent"


def _content(
    template: str, faults: Callable[[Item], Iterator[str]], dataset: AttributeSet
) -> Iterator[str]:
    found: AttributeSet = next(iter(dataset.get("ContentTemplateSequence") or ()), {})
    if (found.get("MappingResource"), found.get("TemplateIdentifier")) != ("DCMR", template):
        yield f"Content Template is not DCMR {template}"
    report = Item.read(dataset)
    yield from faults(report)
    listed = set(_evidence(dataset))
    for item in report.walk():
        for instance in item.values.get("ReferencedSOPSequence", ()):
            if str(instance.get("ReferencedSOPInstanceUID")) not in listed:
                yield "the evidence does not list a referenced instance"


def _evidence(dataset: AttributeSet) -> Iterator[str]:
    """Yield every instance listed as evidence, of this ECG and of an earlier one."""
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        for study in dataset.get(keyword) or ():
            for series in study.get("ReferencedSeriesSequence") or ():
                for instance in series.get("ReferencedSOPSequence") or ():
                    yield str(instance.get("ReferencedSOPInstanceUID"))


_FLAGS: Final = MappingProxyType(
    {
        "Modality": "SR",
        "CompletionFlag": "COMPLETE",
        "PreliminaryFlag": "PRELIMINARY",
        "VerificationFlag": "UNVERIFIED",
    }
)
"""No AI verifies its own report."""

_COMMON: Final = (_identifiers, _series, _provenance)
_RULES: Final = MappingProxyType(
    {
        COMPREHENSIVE_SR: (_document_flags, partial(_content, "3700", tid3700_faults)),
        COMPREHENSIVE_3D_SR: (_document_flags, partial(_content, "1500", tid1500_faults)),
        WAVEFORM_ANNOTATION_SR: (_document_flags, partial(_content, "3750", tid3750_faults)),
        ENCAPSULATED_PDF: (_pdf,),
        SECONDARY_CAPTURE: (_picture,),
    }
    | dict.fromkeys(LIMITS, (_waveform, _annotations))
)
