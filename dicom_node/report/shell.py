"""What all result objects share: the source's identity, and our equipment.

Identity is copied verbatim, as bytes where the source came in Explicit VR Little Endian, so that
neither a wrong character set nor an odd value is repaired, lost or guessed at. Our own text is
ASCII: it is valid in every character set that a source may declare.
"""

import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from analysis.result import ModelIdentity
from dicom_node.report.concepts import PROCESSING_EQUIPMENT, coded
from dicom_node.report.objects import PRODUCT, Inputs, Role, Unreportable
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

_STUDY_TAGS: Final = frozenset(Tag(tag_for_keyword(word)) for word in STUDY_KEYWORDS)
_SIGNS: Final = str.maketrans({"µ": "u", "–": "-", "−": "-", "≥": ">=", "≤": "<=", "×": "x"})
_DT: Final = re.compile(r"[12][0-9]{7}([0-9]{2}){0,3}(\.[0-9]{1,6})?([+-][0-9]{4})?")
_LONG_STRING: Final = 64
_SHORT_STRING: Final = 16


def ascii_text(text: str, limit: int | None = None) -> str:
    """Return the text in printable ASCII and line ends, cut to `limit` characters."""
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


def is_public(dataset: Dataset) -> bool:
    """Return whether the dataset holds no private element, at any depth."""
    return not any(
        _is_private(element.tag)
        or (element.VR == "SQ" and not all(map(is_public, dataset[element.tag].value)))
        for element in list(dataset.values())
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
    for keyword in MAY_BE_EMPTY:
        if keyword not in dataset:
            setattr(dataset, keyword, None)
    return dataset


def place(dataset: Dataset, inputs: Inputs, role: Role, sop_class_uid: str) -> None:
    """Make the dataset an instance of its own, in a series of its own (PS3.3 C.12.1)."""
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = inputs.uid(Level.INSTANCE, role)
    dataset.SeriesInstanceUID = inputs.uid(Level.SERIES, role)
    dataset.SeriesNumber = inputs.options.series_numbers[role]
    dataset.InstanceNumber = 1
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = date_time(inputs.written_at)
    dataset.SeriesDate, dataset.SeriesTime = date_time(inputs.written_at)
    dataset.ContentQualification = inputs.options.qualification.value
    earlier = dataset.get("ContributingEquipmentSequence") or ()
    dataset.ContributingEquipmentSequence = [*earlier, *_contributions(inputs)]


def equip(dataset: Dataset, inputs: Inputs) -> None:
    """Name this node as the General Equipment that made the object (PS3.3 C.7.5.1)."""
    dataset.update(_equipment(inputs))


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


def reference(source: Dataset) -> Dataset:
    """Return a reference to the source instance (PS3.3 10.8)."""
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return item


def _contributions(inputs: Inputs) -> list[Dataset]:
    node = _contribution("ECG analysis, by AI; not verified")
    node.update(_equipment(inputs))
    node.ManufacturerModelName = PRODUCT
    return [node, *(_model(model) for model in inputs.result.models)]


def _contribution(description: str) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [coded(PROCESSING_EQUIPMENT)]
    item.ContributionDescription = description
    return item


def _model(model: ModelIdentity) -> Dataset:
    item = _contribution("AI model")
    item.Manufacturer = PRODUCT
    item.ManufacturerModelName = component(model.name)
    item.SoftwareVersions = component(model.version)
    item.DeviceUID = device_uid(model.digest)
    return item


def _equipment(inputs: Inputs) -> Dataset:
    device = inputs.device
    item = Dataset()
    item.Manufacturer = component(device.manufacturer)
    item.ManufacturerModelName = component(device.model_name)
    item.DeviceSerialNumber = component(device.serial_number)
    item.SoftwareVersions = component(device.software_version)
    item.StationName = component(device.station_name, _SHORT_STRING)
    item.DeviceUID = device.device_uid
    return item
