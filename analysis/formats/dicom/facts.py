"""What stands around the samples: patient, device, and the cart's own words and marks."""

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Final

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

from analysis.ecg import Acquisition, Annotation, Code, Lead, Patient, Sex, VendorStatement
from analysis.formats.dicom.elements import Item, items, number, text, value
from analysis.formats.dicom.groups import Channel

_YEARS: Final[Mapping[str, float]] = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_OLDEST: Final = 130.0
_AGE_TOLERANCE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Texts:
    """Decodes texts by the Specific Character Set (0008,0005) of their object."""

    encodings: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, dataset: Item) -> "Texts":
        """Return the decoder for a dataset; an unknown character set is read as Latin-1."""
        names = text(dataset, "SpecificCharacterSet").split("\\")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                return cls(tuple(convert_encodings([name.strip() for name in names])))
            except (LookupError, UserWarning):
                return cls(("iso8859",), ("The character set is unknown; texts may be misspelt.",))

    def read(self, item: Item, keyword: str, *, person: bool = False) -> str:
        """Return a text without its padding, "" where it is absent."""
        encoded = value(item, keyword)
        if encoded.isascii() and b"\x1b" not in encoded:
            return encoded.decode("ascii").strip(" \0")
        delimiters = PN_DELIMS if person else TEXT_VR_DELIMS
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return str(decode_bytes(encoded, self.encodings, delimiters)).strip(" \0")


def patient_of(dataset: Item, texts: Texts, recorded: date | None) -> tuple[Patient, list[str]]:
    """Return what the object says of the patient, and notes; identity is copied verbatim."""
    birth = _date(text(dataset, "PatientBirthDate"))
    age, notes = _age(text(dataset, "PatientAge"), birth, recorded)
    sex = text(dataset, "PatientSex")
    patient = Patient(
        age=age,
        sex=Sex(sex) if sex in {"M", "F", "O"} else None,
        identifier=texts.read(dataset, "PatientID") or None,
        name=texts.read(dataset, "PatientName", person=True) or None,
        birth_date=birth,
    )
    return patient, notes


def _age(stated: str, birth: date | None, recorded: date | None) -> tuple[float | None, list[str]]:
    """Return the age in years: as stated, else by the birth date; unknown if they disagree."""
    match = re.fullmatch(r"(\d{3})([DWMY])", stated)
    said = int(match[1]) * _YEARS[match[2]] if match else None
    counted = (recorded - birth).days / 365.25 if birth and recorded else None
    if said is not None and counted is not None and abs(said - counted) > _AGE_TOLERANCE:
        return None, ["Patient's age and birth date contradict each other; age unknown."]
    age = counted if said is None else said
    if age is None or 0 <= age <= _OLDEST:
        return age, []
    return None, ["The patient's age is impossible; age unknown."]


def _date(stated: str) -> date | None:
    with suppress(ValueError):
        return datetime.strptime(stated, "%Y%m%d").replace(tzinfo=UTC).date()
    return None


def recorded_on(dataset: Item) -> date | None:
    """Return the day of the recording, else of the study."""
    moments = ("AcquisitionDateTime", "AcquisitionDate", "ContentDate", "StudyDate")
    days = (_date(text(dataset, keyword)[:8]) for keyword in moments)
    return next(filter(None, days), None)


def acquisition_of(
    dataset: Item, texts: Texts, channels: Sequence[Channel]
) -> tuple[Acquisition, list[str]]:
    """Return how the recording was made, and notes."""
    low, high, notch = (
        _common(channels, f"{name}Frequency") for name in ("FilterLow", "FilterHigh", "NotchFilter")
    )
    notes = []
    if low and high and low >= high:
        low = high = None
        notes.append("The filter edges contradict each other and were left out.")
    acquisition = Acquisition(
        acquired_at=_acquired_at(dataset),
        manufacturer=texts.read(dataset, "Manufacturer") or None,
        model=texts.read(dataset, "ManufacturerModelName") or None,
        software=texts.read(dataset, "SoftwareVersions").replace("\\", ", ") or None,
        filter_low_frequency=low,
        filter_high_frequency=high,
        notch_filter_frequency=notch,
    )
    return acquisition, notes


def _common(channels: Sequence[Channel], keyword: str) -> float | None:
    """Return the value that all channels share; 0 says that there is no such filter."""
    found = {number(channel.definition, keyword) for channel in channels}
    return (found.pop() or None) if len(found) == 1 else None


_MOMENT: Final = re.compile(r"(\d{14})(?:\.(\d{1,6}))?([+-]\d{4})?")


def _acquired_at(dataset: Item) -> datetime | None:
    """Return Acquisition DateTime (0008,002A), else Content Date and Time, with its offset."""
    stated = text(dataset, "AcquisitionDateTime")
    stated = stated or text(dataset, "ContentDate") + text(dataset, "ContentTime")
    match = _MOMENT.fullmatch(stated)
    if not match:
        return None
    offset = match[3] or text(dataset, "TimezoneOffsetFromUTC")
    with suppress(ValueError):
        moment = datetime.strptime(match[1], "%Y%m%d%H%M%S").replace(tzinfo=_zone(offset))
        return moment + timedelta(microseconds=int((match[2] or "0").ljust(6, "0")))
    return None


def _zone(offset: str) -> timezone | None:
    if not re.fullmatch(r"[+-]\d{4}", offset):
        return None
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))


@dataclass(frozen=True, slots=True)
class Axis:
    """How channels and samples of the object map to the rhythm."""

    leads: Mapping[tuple[int, int], Lead]
    """By group and channel, both from 1."""
    firsts: Mapping[int, int]
    """Where each group's first sample stands in the rhythm."""
    rate: float


def annotations_of(
    dataset: Item, texts: Texts, axis: Axis
) -> tuple[tuple[Annotation, ...], tuple[VendorStatement, ...]]:
    """Return the marks and values, and the statements, of the object (PS3.3 §C.10.10)."""
    found = items(dataset, "WaveformAnnotationSequence")
    annotations = tuple(filter(None, (_annotation(item, texts, axis) for item in found)))
    statements = tuple(statement for item in found for statement in _statements(item, texts))
    return annotations, statements


def _annotation(item: Item, texts: Texts, axis: Axis) -> Annotation | None:
    """Return one item, or None where it marks samples of another group than the rhythm."""
    references = list(_references(item))
    groups = {group for group, _ in references}
    if text(item, "TemporalRangeType") and groups and not groups <= axis.firsts.keys():
        return None
    place = number(item, "AnnotationGroupNumber")
    return Annotation(
        text=texts.read(item, "UnformattedTextValue") or None,
        code=_first_code(item, "ConceptNameCodeSequence", texts),
        value=_single(item, "NumericValue"),
        unit=_unit(item, texts),
        leads=tuple(axis.leads[key] for key in references if key in axis.leads),
        samples=tuple(_positions(item, axis, groups)),
        group=None if place is None else int(place),
    )


def _references(item: Item) -> Iterator[tuple[int, int]]:
    encoded = value(item, "ReferencedWaveformChannels")
    numbers = [int.from_bytes(encoded[i : i + 2], "little") for i in range(0, len(encoded), 2)]
    return zip(numbers[::2], numbers[1::2], strict=False)


def _positions(item: Item, axis: Axis, groups: set[int]) -> Iterator[float]:
    """Yield 0-based samples of the rhythm; those of DICOM begin at 1, per group."""
    first = axis.firsts.get(min(groups), 0) if groups else 0
    encoded = value(item, "ReferencedSamplePositions")
    for i in range(0, len(encoded) - 3, 4):
        yield float(first + int.from_bytes(encoded[i : i + 4], "little") - 1)
    for seconds in _numbers(text(item, "ReferencedTimeOffsets")):
        yield first + seconds * axis.rate


def _single(item: Item, keyword: str) -> float | None:
    found = list(_numbers(text(item, keyword)))
    return found[0] if len(found) == 1 else None


def _numbers(stated: str) -> Iterator[float]:
    for part in filter(None, stated.split("\\")):
        with suppress(ValueError):
            if math.isfinite(found := float(part)):
                yield found


def _first_code(item: Item, keyword: str, texts: Texts) -> Code | None:
    for code in items(item, keyword):
        return Code(
            text(code, "CodingSchemeDesignator"),
            text(code, "CodeValue"),
            texts.read(code, "CodeMeaning"),
        )
    return None


def _unit(item: Item, texts: Texts) -> str | None:
    code = _first_code(item, "MeasurementUnitsCodeSequence", texts)
    return code.value if code else None


def _statements(item: Item, texts: Texts) -> Iterator[VendorStatement]:
    """Yield what an item says of the whole recording: free text, or a coded finding."""
    if text(item, "TemporalRangeType"):
        return
    if words := texts.read(item, "UnformattedTextValue"):
        yield VendorStatement(text=words)
    if code := _first_code(item, "ConceptCodeSequence", texts):
        yield VendorStatement(text=code.meaning, code=code)
