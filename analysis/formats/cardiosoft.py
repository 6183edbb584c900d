"""GE CardioSoft and CASE XML (CardiologyXML): integers between commas, twelve leads.

The rhythm stands in StripData, the median beat among the measurements, and the loops of a
vectorcardiogram computed from it in VectorLoops; those are no recording and are left out.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final
from xml.etree.ElementTree import Element

from analysis.ecg import Acquisition, Annotation, Patient, Recording, VendorStatement
from analysis.formats import fields
from analysis.formats.channels import Channel, Strip, recording, shown
from analysis.formats.content import Content
from analysis.formats.markup import parse, root_of, text_of

_STEPS: Final[Mapping[str, float]] = MappingProxyType({"uVperLsb": 1e-3, "mVperLsb": 1.0})
_MEASUREMENTS: Final[Mapping[str, fields.Quantity]] = MappingProxyType(
    {
        "VentricularRate": fields.HEART_RATE,
        "RRInterval": fields.RR,
        "PPInterval": fields.PP,
        "PDuration": fields.P_DURATION,
        "PQInterval": fields.PR,
        "QRSDuration": fields.QRS_DURATION,
        "QTInterval": fields.QT,
        "QTCInterval": fields.QTC,
        "PAxis": fields.P_AXIS,
        "RAxis": fields.QRS_AXIS,
        "TAxis": fields.T_AXIS,
    }
)


def recognises(data: bytes) -> bool:
    """Return whether the bytes are a CardioSoft document."""
    return root_of(data) == "CardiologyXML"


def read(content: Content) -> Recording:
    """Return the ECG of a CardioSoft document.

    Raises
    ------
    Undecodable
        With the reason, and nothing else.
    """
    root = parse(content.data)
    strip = fields.only(root.findall("StripData"), "strip")
    rhythm = _strip(strip, _acquired_at(root))
    median, median_notes = fields.optional(lambda: _median(root))
    patient, patient_notes = _patient(root)
    acquisition, acquisition_notes = _acquisition(root)
    return recording(
        rhythm,
        format="GE CardioSoft XML",
        median=median,
        patient=patient,
        acquisition=acquisition,
        vendor_statements=_statements(root),
        annotations=_annotations(root, strip, rhythm),
        notes=(*median_notes, *patient_notes, *acquisition_notes),
    )


def _strip(block: Element, start: datetime | None = None) -> Strip:
    """Return the leads of StripData or MedianSamples; they have one rate and one resolution."""
    step = _unit_of(block, "Resolution", _STEPS)
    total = text_of(block, "ChannelSampleCountTotal")
    leads = block.findall("WaveformData")
    fields.require_count(text_of(block, "NumberOfLeads"), len(leads), "leads")
    return Strip(
        [_channel(lead, step, total) for lead in leads],
        _unit_of(block, "SampleRate", {"Hz": 1.0}),
        start,
    )


def _channel(lead: Element, step: float | None, total: str) -> Channel:
    samples = fields.samples_of_list(text_of(lead))
    fields.require_count(total, samples.size)
    return Channel(lead.get("lead", ""), samples, step)


def _unit_of(block: Element, name: str, units: Mapping[str, float]) -> float | None:
    """Return a value times its unit, or None where either is not known."""
    found = block.find(name)
    value = fields.number(text_of(found))
    unit = None if found is None else units.get(found.get("units", ""))
    return value and unit and value * unit


def _median(root: Element) -> Strip | None:
    block = root.find("RestingECGMeasurements/MedianSamples")
    return None if block is None else _strip(block)


def _acquired_at(root: Element) -> datetime | None:
    when = root.find("ObservationDateTime")
    hour, minute, second = (text_of(when, part) for part in ("Hour", "Minute", "Second"))
    return fields.moment(_day(when), f"{hour:0>2}:{minute:0>2}:{second:0>2}")


def _day(when: Element | None) -> str:
    """Return a date as ISO 8601 has it, or an empty string."""
    year, month, day = (text_of(when, part) for part in ("Year", "Month", "Day"))
    return f"{year}-{month:0>2}-{day:0>2}" if year else ""


def _acquisition(root: Element) -> tuple[Acquisition, tuple[str, ...]]:
    device = root.find("ClinicalInfo/DeviceInfo")
    filters = root.find("FilterSetting")
    mains = [hertz for hertz in (50.0, 60.0) if text_of(filters, f"Filter{hertz:.0f}Hz") == "Yes"]
    return fields.acquisition_of(
        acquired_at=_acquired_at(root),
        model=text_of(device, "Desc"),
        software=text_of(device, "SoftwareVer"),
        low=fields.number(text_of(filters, "HighPass")),
        high=fields.number(text_of(filters, "LowPass")),
        notch=mains[0] if len(mains) == 1 else None,
    )


def _patient(root: Element) -> tuple[Patient, tuple[str, ...]]:
    who = root.find("PatientInfo")
    age = root.find("PatientInfo/Age")
    return fields.patient_of(
        age=fields.age_in_years(text_of(age), "" if age is None else age.get("units", "")),
        birth_date=_day(root.find("PatientInfo/BirthDateTime")),
        recorded=_acquired_at(root),
        sex=text_of(who, "Gender"),
        identifier=text_of(who, "PID"),
        name=(text_of(who, "Name/FamilyName"), text_of(who, "Name/GivenName")),
    )


def _statements(root: Element) -> Iterator[VendorStatement]:
    for line in root.iterfind("Interpretation/Diagnosis/DiagnosisText"):
        if words := text_of(line):
            yield VendorStatement(text=words)


def _annotations(root: Element, strip: Element, rhythm: Strip) -> Iterator[Annotation]:
    values = root.find("RestingECGMeasurements")
    stated = {} if values is None else {value.tag: text_of(value) for value in values}
    yield from fields.measurements(stated, _MEASUREMENTS)
    times, classes = (strip.iterfind(f"ArrhythmiaResults/{n}") for n in ("Time", "BeatClass"))
    for place, (time, kind) in enumerate(zip(times, classes, strict=False), 1):
        if time.get("units") == "ms":
            text = f"QRS of class {shown(text_of(kind))}"
            yield from fields.beat(text_of(time), rhythm, text=text, group=place)
