"""What all result objects share: the source's identity, and our equipment.

Identity is copied verbatim, as bytes where the source came in Explicit VR Little Endian, so that
neither a wrong character set nor an odd value is repaired, lost or guessed at. Our own text is
ASCII: it is valid in every character set that a source may declare.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from typing import Final

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from analysis.result import ModelIdentity
from dicom_node.report.concepts import PROCESSING_EQUIPMENT
from dicom_node.report.draft import Attributes, AttributeSet, Draft, attribute
from dicom_node.report.objects import PRODUCT, Device, Inputs, Role, Unreportable
from dicom_node.report.uids import Level, device_uid, is_uid

PATIENT_GROUPS: Final = frozenset({0x0010, 0x0012, 0x0038})
"""Patient, clinical trial and visit: copied whole (PS3.3 C.7.1.1, C.7.1.3, C.7.2.2, C.7.2.3)."""

STUDY_KEYWORDS: Final = (
    "SpecificCharacterSet", "TimezoneOffsetFromUTC", "StudyInstanceUID", "StudyID",
    "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber",
    "IssuerOfAccessionNumberSequence", "ReferringPhysicianName",
    "ReferringPhysicianIdentificationSequence", "ConsultingPhysicianName",
    "ConsultingPhysicianIdentificationSequence", "ProcedureCodeSequence",
    "PhysiciansOfRecord", "PhysiciansOfRecordIdentificationSequence",
    "NameOfPhysiciansReadingStudy", "PhysiciansReadingStudyIdentificationSequence",
    "ReferencedStudySequence", "RequestingService", "RequestingServiceCodeSequence",
    "ReasonForPerformedProcedureCodeSequence", "ReferencedPatientSequence",
    "AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence",
    "ReasonForVisit", "ReasonForVisitCodeSequence",
)  # fmt: skip
"""General Study and Patient Study (PS3.3 C.7.2.1, C.7.2.2), the character set and time zone."""

MAY_BE_EMPTY: Final = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
"""Type 2: present in every object, empty where the source does not know."""

SYNCHRONIZATION: Final = (
    "SynchronizationFrameOfReferenceUID", "SynchronizationTrigger", "AcquisitionTimeSynchronized",
)  # fmt: skip
"""Type 1 of their module (PS3.3 C.7.4.2): all of them, or none."""

_STUDY_TAGS: Final = frozenset(attribute(word)[0] for word in STUDY_KEYWORDS)
_SIGNS: Final = str.maketrans(
    {"µ": "u", "–": "-", "−": "-", "≥": ">=", "≤": "<=", "×": "x", "°": " deg"}
)
_DT: Final = re.compile(r"[12][0-9]{7}([0-9]{2}){0,3}(\.[0-9]{1,6})?([+-][0-9]{4})?")
_LONG_STRING: Final = 64
_SHORT_STRING: Final = 16


def ascii_text(text: str, limit: int | None = None) -> str:
    """Return the text in printable ASCII and line ends, cut to `limit` characters."""
    if text.isascii() and text.replace("\n", " ").isprintable():
        return text[:limit]
    decomposed = unicodedata.normalize("NFKD", text.translate(_SIGNS))
    kept = (sign for sign in decomposed if not unicodedata.combining(sign))
    printable = "".join(sign for sign in kept if sign == "\n" or sign.isprintable())
    return printable.encode("ascii", "replace").decode("ascii")[:limit]


def component(text: str, limit: int = _LONG_STRING) -> str:
    """Return the text as one value of a multi-valued LO or SH: ASCII, no backslash."""
    return ascii_text(text, limit).replace("\\", "/").replace("\n", " ")


def public_copy(source: Dataset, tags: Iterable[int] | None = None) -> Dataset:
    """Return a copy that holds no private element at any depth.

    Items of sequences are shared with the source where they hold none: change copies of them.
    A source in Explicit VR Little Endian passes its values on as the bytes they came in.
    """
    verbatim = source.original_encoding == (False, True)
    copy = Dataset({})
    for tag in list(source.keys()) if tags is None else tags:
        if _is_private(tag):
            continue
        element = source.get_item(tag) if verbatim else source[tag]
        if element.VR == "SQ":
            items = [i if is_public(i) else public_copy(i) for i in source[tag].value]
            copy[tag] = DataElement(tag, "SQ", Sequence(items))
        else:
            copy[tag] = element if element.is_raw else _fresh(element)
    if verbatim:
        charset = source.original_character_set if "SpecificCharacterSet" in copy else None
        copy.set_original_encoding(False, True, charset)  # noqa: FBT003 - pydicom's signature
    return copy


def _fresh(element: DataElement) -> DataElement:
    return DataElement(element.tag, element.VR, element.value, already_converted=True)


def is_public(item: AttributeSet) -> bool:
    """Return whether it holds no private element, at any depth; what is all ours never does."""
    if isinstance(item, Draft):
        sequences = (value for value in item.ours.values() if isinstance(value, list))
        return is_public(item.brought) and all(is_public(i) for s in sequences for i in s)
    return not isinstance(item, Dataset) or not any(
        _is_private(element.tag)
        or (element.VR == "SQ" and not all(map(is_public, item[element.tag].value)))
        for element in list(item.values())
    )


def _is_private(tag: int) -> bool:
    """Private, or a group length (retired)."""
    return bool(tag >> 16 & 1) or tag & 0xFFFF == 0


def identity(source: Dataset) -> Dataset:
    """Return Patient and Study of the source, verbatim; type 2 attributes it lacks are empty.

    Raises
    ------
    Unreportable
        If the source names no study or no instance, or one that is no UID.
    """
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if not is_uid(source.get(keyword)):
            raise Unreportable(
                f"The source has no valid {keyword}: its results would have no place in the PACS."
            )
    tags = (e.tag for e in list(source.values()))
    dataset = public_copy(
        source, (tag for tag in tags if tag.group in PATIENT_GROUPS or tag in _STUDY_TAGS)
    )
    for tag, vr in map(attribute, MAY_BE_EMPTY):
        if tag not in dataset:
            dataset[tag] = DataElement(tag, vr, None, already_converted=True)
    return dataset


def placement(
    inputs: Inputs, role: Role, sop_class_uid: str, earlier: Iterable[AttributeSet] = ()
) -> Attributes:
    """Return what makes an instance of its own, in a series of its own (PS3.3 C.12.1).

    Parameters
    ----------
    earlier
        Equipment that contributed before us.
    """
    date, time = date_time(inputs.written_at)
    return {
        "SOPClassUID": sop_class_uid,
        "SOPInstanceUID": inputs.uid(Level.INSTANCE, role),
        "SeriesInstanceUID": inputs.uid(Level.SERIES, role),
        "SeriesNumber": inputs.options.series_numbers[role],
        "InstanceNumber": 1,
        "InstanceCreationDate": date,
        "InstanceCreationTime": time,
        "SeriesDate": date,
        "SeriesTime": time,
        "ContentQualification": inputs.options.qualification.value,
        "ContributingEquipmentSequence": [*earlier, *_contributions(inputs)],
    }


def date_time(moment: datetime) -> tuple[str, str]:
    """Return DA and TM of a moment."""
    return moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")


def acquired_at(source: Dataset) -> str:
    """Return when the ECG was recorded, as a DT: the acquisition, else content or study time.

    Raises
    ------
    Unreportable
        If the source has no readable date at all.
    """
    candidates = [source.get("AcquisitionDateTime")]
    for name in ("Acquisition", "Content", "Study"):
        if source.get(f"{name}Date"):
            candidates.append(f"{source[f'{name}Date'].value}{source.get(f'{name}Time') or ''}")
            candidates.append(source[f"{name}Date"].value)
    for candidate in candidates:
        if _DT.fullmatch(str(candidate or "").strip()):
            return str(candidate).strip()
    raise Unreportable("The source does not say when the ECG was recorded (0008,002A).")


def reference(source: Dataset) -> Attributes:
    """Return a reference to the source instance (PS3.3 10.8)."""
    return {
        "ReferencedSOPClassUID": source.SOPClassUID,
        "ReferencedSOPInstanceUID": source.SOPInstanceUID,
    }


def _contributions(inputs: Inputs) -> Iterator[Attributes]:
    node = {"ContributionDescription": "ECG analysis, by AI; not verified"}
    yield _PROCESSED | node | equipment(inputs.device) | {"ManufacturerModelName": PRODUCT}
    yield from map(_model, inputs.result.models)


_PROCESSED: Final = {"PurposeOfReferenceCodeSequence": PROCESSING_EQUIPMENT}


def _model(model: ModelIdentity) -> Attributes:
    return _PROCESSED | {
        "ContributionDescription": "AI model",
        "Manufacturer": PRODUCT,
        "ManufacturerModelName": component(model.name),
        "SoftwareVersions": component(model.version),
        "DeviceUID": device_uid(model.digest),
    }


@lru_cache(maxsize=8)
def equipment(device: Device) -> Attributes:
    """Return this node as the General Equipment that made the object (PS3.3 C.7.5.1)."""
    return {
        "Manufacturer": component(device.manufacturer),
        "ManufacturerModelName": component(device.model_name),
        "DeviceSerialNumber": component(device.serial_number),
        "SoftwareVersions": component(device.software_version),
        "StationName": component(device.station_name, _SHORT_STRING),
        "DeviceUID": device.device_uid,
    }
