"""What systems outside DICOM are told of an ECG: whose it is, and measurements in LOINC.

Identity is the source's, verbatim; an ECG without a Patient ID is told to nobody.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Self

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from analysis.ecg import Code
from analysis.result import Result
from dicom_node.report.objects import (
    SAFETY_SENTENCE,
    Inputs,
    headline,
    is_reported,
    models_line,
)
from dicom_node.report.shell import acquired_at


def _ln(value: str, meaning: str) -> Code:
    return Code("LN", value, meaning)


STUDY: Final = _ln("11524-6", "EKG study")
IMPRESSION: Final = _ln("8601-7", "EKG impression")
MEASUREMENTS: Final[Mapping[str, Code]] = MappingProxyType(
    {
        "heart_rate": _ln("8867-4", "Heart rate"),
        "pr_interval": _ln("8625-6", "P-R Interval"),
        "qrs_duration": _ln("8633-0", "QRS duration"),
        "qt_interval": _ln("8634-8", "Q-T interval"),
        "qtc_bazett": _ln("76635-2", "Q-T interval corrected based on Bazett formula"),
        "qtc_fridericia": _ln("76634-5", "Q-T interval corrected based on Fridericia formula"),
        "p_axis": _ln("8626-4", "P wave axis"),
        "qrs_axis": _ln("8632-2", "QRS axis"),
        "t_axis": _ln("8638-9", "T wave axis"),
    }
)
_UNITS: Final = {"{H.B.}/min": "/min"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measurement."""

    code: Code
    value: float
    unit: str
    """UCUM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """The patient, as the source says it; empty where it is silent."""

    identifier: str
    issuer: str
    issuer_uid: str
    """Universal Entity ID of the issuer, and of which kind (ISO, DNS …)."""
    issuer_kind: str
    name: str
    """PN: component groups with `=`, components with `^`."""
    birth_date: str
    """DA."""
    sex: str

    @classmethod
    def of(cls, source: Dataset) -> Self:
        """Return the patient of a source."""
        qualifiers = next(iter(source.get("IssuerOfPatientIDQualifiersSequence") or ()), Dataset())
        return cls(
            identifier=_said(source, "PatientID"),
            issuer=_said(source, "IssuerOfPatientID"),
            issuer_uid=_said(qualifiers, "UniversalEntityID"),
            issuer_kind=_said(qualifiers, "UniversalEntityIDType"),
            name=_said(source, "PatientName"),
            birth_date=_said(source, "PatientBirthDate"),
            sex=_said(source, "PatientSex"),
        )


def _said(dataset: Dataset, keyword: str) -> str:
    value: Any = dataset.get(keyword)
    if isinstance(value, MultiValue):  # a backslash where none should be
        value = "\\".join(map(str, value))
    return "" if value is None else str(value).strip(" \0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the source says of the order; mostly nothing."""

    accession: str
    placer: str
    study: str
    """Study Instance UID."""

    @classmethod
    def of(cls, source: Dataset) -> Self:
        """Return the order of a source."""
        requests = (
            *(source.get("RequestAttributesSequence") or ()),
            *(source.get("ReferencedRequestSequence") or ()),
        )
        placers = (_said(one, _PLACER) for one in (*requests, source))
        return cls(
            accession=_said(source, "AccessionNumber"),
            placer=next(filter(None, placers), ""),
            study=_said(source, "StudyInstanceUID"),
        )


_PLACER: Final = "PlacerOrderNumberImagingServiceRequest"


def measured(result: Result) -> Iterator[Measured]:
    """Yield the measurements that have a code in LOINC."""
    quantities = dict(result.measurements.quantities())
    for name, code in MEASUREMENTS.items():
        quantity = quantities[name]
        if is_reported(name, quantity) and quantity.value is not None:
            unit = _UNITS.get(quantity.unit, quantity.unit)
            yield Measured(code=code, value=round(quantity.value, 1), unit=unit)


def remarks(result: Result) -> tuple[str, ...]:
    """Return what a reader must see: what this is not, first."""
    return (SAFETY_SENTENCE, *headline(result), *result.not_assessed, models_line(result))


def acquired(inputs: Inputs) -> tuple[str, str]:
    """Return when the ECG was recorded, YYYYMMDD[HHMMSS[.F]], and the offset from UTC, &ZZXX.

    The offset is empty where the source states none.
    """
    moment = acquired_at(inputs.source)
    at = max(moment.find("+"), moment.find("-"))
    digits, suffix = (moment, "") if at < 0 else (moment[:at], moment[at:])
    return digits, suffix or _said(inputs.source, "TimezoneOffsetFromUTC")
