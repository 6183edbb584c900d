"""What goes into a report and what comes out of it."""

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException

from analysis.ecg import Code
from analysis.result import Overall, Quantity, Result, Statement
from dicom_node.report.concepts import CHANGES, MEASUREMENT_UNITS
from dicom_node.report.uids import Level, object_uid

PRODUCT: Final = "Sinusnode"
"""Manufacturer's Model Name that marks every object of ours (see :func:`is_own`)."""

SAFETY_SENTENCE: Final = (
    "AI result, not verified by a clinician. For research use. "
    "Not an alarm and no urgent notification."
)


UNREADABLE: Final = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, struct.error,
    BytesLengthException,
)  # fmt: skip
"""What pydicom and its values raise where a source holds something else than its VR says."""


class Unreportable(Exception):
    """No object can be written for this source; never retry.

    Parameters
    ----------
    message
        One sentence: what is missing, and what to do. It never holds patient data.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Role(StrEnum):
    """Which object of the result set; also the middle of its file name."""

    SR = "sr"
    PDF = "pdf"
    ECG = "ecg"
    SC = "sc"
    TID1500 = "tid1500"
    ANNOTATION = "annotation"


class Message(StrEnum):
    """What goes to systems outside DICOM, where the settings name any."""

    HL7 = "hl7"
    FHIR = "fhir"


class Qualification(StrEnum):
    """Content Qualification (0018,9004)."""

    PRODUCT = "PRODUCT"
    RESEARCH = "RESEARCH"
    SERVICE = "SERVICE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One installation of the node, as General Equipment (PS3.3 C.7.5.1) names it."""

    device_uid: str
    software_version: str
    station_name: str
    """Usually the AE title."""
    serial_number: str
    manufacturer: str = PRODUCT
    model_name: str = PRODUCT


_ENGLISH: Final = Code("RFC5646", "en-US", "English (United States)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What a site may choose."""

    roles: tuple[Role, ...] = (Role.SR, Role.PDF, Role.ECG)
    series_numbers: Mapping[Role, int] = field(
        default_factory=lambda: MappingProxyType(dict(zip(Role, range(901, 907), strict=True)))
    )
    qualification: Qualification = Qualification.RESEARCH
    language: Code = _ENGLISH
    utc_offset: timedelta = timedelta(0)
    """Local time of our own dates, where the source has no Timezone Offset From UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultObject:
    """One finished object: a complete DICOM file (PS3.10) or a message, and how to name it."""

    role: Role | Message
    sop_class_uid: str
    """Empty for a message; so is the series."""
    sop_instance_uid: str
    series_instance_uid: str
    data: bytes = field(repr=False)
    faults: tuple[str, ...] = ()
    """What :func:`check` found in it, before it was encoded; only a faultless one may be sent."""


class NoComparison(StrEnum):
    """Why an ECG is not compared with an earlier one."""

    NOT_ASKED = "not-asked"
    NONE = "none-in-ledger"
    CONFLICT = "identity-conflict"
    NOT_MEASURED = "not-measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """The patient's previous ECG, as far as a report compares with it."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    acquired_at: str
    """DT, as its source says it."""
    measurements: Mapping[str, float]
    """By name, of those that :func:`comparable` gives, in the units of the report."""
    same_algorithm: bool = True
    """Whether it was measured by the revision that measured the present one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """Everything an object is made from; nothing else may enter it."""

    source: Dataset
    source_sha256: str
    result: Result
    plan_digest: str
    received_at: datetime
    device: Device
    options: ReportOptions
    page: bytes
    previous: Previous | NoComparison = NoComparison.NOT_ASKED

    def __post_init__(self) -> None:
        if self.received_at.tzinfo is None:
            raise ValueError("received_at needs a time zone")

    def uid(self, level: Level, role: Role | Message) -> str:
        """Return the UID of this role's instance or series."""
        return object_uid(
            level,
            source_uid=str(self.source.SOPInstanceUID),
            source_sha256=self.source_sha256,
            plan_digest=self.plan_digest,
            role=role,
        )

    @property
    def written_at(self) -> datetime:
        """The ledger's time of receipt, in the local time of the study."""
        return self.received_at.astimezone(timezone(self._utc_offset()))

    def local(self, moment: str) -> str:
        """Return a DT without the suffix that says local time of the study, or UTC in its place.

        Timezone Offset From UTC holds for what has no suffix (PS3.3 C.12.1.1.8), and DCMTK up to
        3.6.7 refuses the suffix +0000. Another offset stays as it is.
        """
        digits, suffix = _SUFFIX.fullmatch(moment).groups()  # type: ignore[union-attr]  # matches all
        if not suffix or _parse_offset(suffix) == self._utc_offset():
            return digits
        return moment if _parse_offset(suffix) else _shifted(digits, self._utc_offset())

    def _utc_offset(self) -> timedelta:
        text = str(self.source.get("TimezoneOffsetFromUTC") or "")
        if not text:
            return self.options.utc_offset
        try:
            return _parse_offset(text)
        except ValueError:
            raise Unreportable(
                "The source's Timezone Offset From UTC (0008,0201) is not of the form &ZZXX."
            ) from None


_SUFFIX: Final = re.compile(r"([^+-]*)([+-]\d{4})?")


def _shifted(digits: str, offset: timedelta) -> str:
    """Return a DT later by an offset, to the hour at least."""
    whole, point, fraction = digits.partition(".")
    known = max(len(whole), len("YYYYMMDDHH"))
    moment = datetime.strptime(whole.ljust(14, "0"), "%Y%m%d%H%M%S") + offset  # noqa: DTZ007 - local
    return f"{moment:%Y%m%d%H%M%S}"[:known] + point + fraction


def _parse_offset(text: str) -> timedelta:
    sign = {"+": 1, "-": -1}.get(text[0])
    if sign is None or len(text) != 5 or not text[1:].isdigit():  # noqa: PLR2004 - &ZZXX
        raise ValueError(text)
    offset = sign * timedelta(hours=int(text[1:3]), minutes=int(text[3:]))
    if abs(offset) >= timedelta(days=1):
        raise ValueError(text)
    return offset


def spoken(result: Result) -> tuple[Statement, ...]:
    """Return the statements that may be said: none of a poor ECG, and Normal only if overall so."""
    if result.overall is Overall.NON_DIAGNOSTIC:
        return ()
    normal = result.overall is Overall.NORMAL
    return tuple(item for item in result.statements if item.key != "normal" or normal)


def is_reported(name: str, quantity: Quantity) -> bool:
    """Return whether the measurement has a code, the unit of that code and a finite value."""
    return (
        quantity.unit == MEASUREMENT_UNITS.get(name)
        and quantity.value is not None
        and math.isfinite(quantity.value)
    )


def comparable(result: Result) -> dict[str, float]:
    """Return the measurements that a later ECG may be compared with; none of a poor ECG."""
    if result.overall is Overall.NON_DIAGNOSTIC:
        return {}
    quantities = dict(result.measurements.quantities())
    measured = ((name, quantities[name]) for name in CHANGES)
    return {
        name: quantity.value
        for name, quantity in measured
        if is_reported(name, quantity) and quantity.value is not None
    }


def headline(result: Result) -> tuple[str, ...]:
    """Return the lines a reader sees first: the statements, or why there are none."""
    lines = tuple(statement.text for statement in spoken(result))
    if result.overall is Overall.NON_DIAGNOSTIC:
        reasons = ", ".join(reason.value for reason in result.quality.reasons) or "not stated"
        return (f"Non-diagnostic ECG. Reasons: {reasons}. {result.quality.caution}".rstrip(),)
    if result.overall is Overall.NO_LISTED_FINDING:
        other = "other " if lines else ""
        return (*lines, f"No {other}listed finding above its threshold.")
    return lines or ("No statement.",)


def models_line(result: Result) -> str:
    """Return one sentence that names every model with version and digest."""
    named = [f"{m.name} {m.version} (sha256 {m.digest[:12]})" for m in result.models]
    return f"Models: {', '.join(named)}." if named else "No model was run."


def is_own(dataset: Any) -> bool:
    """Return whether the object is ours: written by this product, here or elsewhere.

    Judged by Manufacturer's Model Name, of the equipment and of every Contributing Equipment
    item, so that an annotated copy, which keeps its cart's equipment, is known too.
    """
    equipment = [dataset, *(dataset.get("ContributingEquipmentSequence") or ())]
    names = (str(item.get("ManufacturerModelName") or "") for item in equipment)
    return any(name.strip(" \0").casefold() == PRODUCT.casefold() for name in names)
