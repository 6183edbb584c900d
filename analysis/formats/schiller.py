"""Schiller XML (SEMA EDI): integers between commas, averaged beats before the rhythm.

Measurements, filters and texts are pairs of a name and a value. Their units are not in the
file; they are those of the vendor's report: ms, beats per minute, degrees and Hz.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final
from xml.etree.ElementTree import Element

from analysis.ecg import Acquisition, Patient, Recording, VendorStatement
from analysis.errors import Reason, Undecodable
from analysis.formats import fields
from analysis.formats.channels import Channel, Strip, recording, shown
from analysis.formats.content import Content
from analysis.formats.markup import parse, root_of, text_of

_RHYTHM: Final = frozenset({"ECG_RHYTHM", "ECG_RHYTHMS"})
_MEDIAN: Final = frozenset({"ECG_AVERAGE", "ECG_AVERAGES"})
_STEPS: Final[Mapping[str, float]] = MappingProxyType({"UV": 1e-3})
_MEASUREMENTS: Final[Mapping[str, fields.Quantity]] = MappingProxyType(
    {
        "HR": fields.HEART_RATE,
        "RR": fields.RR,
        "P": fields.P_DURATION,
        "PQ": fields.PR,
        "QRS": fields.QRS_DURATION,
        "QT": fields.QT,
        "QTC": fields.QTC,
        "AXIS_P": fields.P_AXIS,
        "AXIS_QRS": fields.QRS_AXIS,
        "AXIS_T": fields.T_AXIS,
    }
)


def recognises(data: bytes) -> bool:
    """Return whether the bytes are a document of SEMA."""
    return (root_of(data) or "").endswith("SchillerEDI")


def read(content: Content) -> Recording:
    """Return the ECG of a SEMA document.

    Raises
    ------
    Undecodable
        With the reason, and nothing else.
    """
    root = parse(content.data)
    rhythm = fields.only(_of_types(root, _RHYTHM), "rhythm")
    median, median_notes = fields.optional(lambda: _median(root))
    patient, patient_notes = _patient(root)
    acquisition, acquisition_notes = _acquisition(root)
    return recording(
        _strip(rhythm, _acquired_at(root)),
        format="Schiller XML (SEMA EDI)",
        median=median,
        patient=patient,
        acquisition=acquisition,
        vendor_statements=_statements(root),
        annotations=fields.measurements(_pairs(root, "annotation_global"), _MEASUREMENTS),
        notes=(*_left_out(root), *median_notes, *patient_notes, *acquisition_notes),
    )


def _strip(block: Element, start: datetime | None = None) -> Strip:
    step = fields.number(text_of(block, "resolution/yres/unitperbit"))
    unit = _STEPS.get(text_of(block, "resolution/yres/units"))
    channels = block.findall("channel")
    return Strip(
        [_channel(channel, step and unit and step * unit) for channel in channels],
        _rate(block),
        start,
    )


def _rate(block: Element) -> float | None:
    """Return the rate in Hz; the one exponent that is known to mean Hz is 1."""
    exponent = text_of(block, "resolution/samplerate/exponent") or "1"
    value = fields.number(text_of(block, "resolution/samplerate/value"))
    return value if exponent == "1" else None


def _channel(channel: Element, step: float | None) -> Channel:
    if text_of(channel, "datastype") != "COMMASEPARATE":
        raise Undecodable(Reason.UNSUPPORTED, "Only samples between commas are read.")
    samples = fields.samples_of_list(text_of(channel, "data"))
    fields.require_count(text_of(channel, "samplecount"), samples.size)
    return Channel(text_of(channel, "name"), samples, step)


def _median(root: Element) -> Strip | None:
    found = _of_types(root, _MEDIAN)
    return _strip(fields.only(found, "set of them")) if found else None


def _of_types(root: Element, types: frozenset[str]) -> list[Element]:
    return [block for block in root.iter("wavedata") if text_of(block, "type") in types]


def _left_out(root: Element) -> Iterator[str]:
    for kind in sorted({text_of(block, "type") for block in root.iter("wavedata")}):
        if kind not in _RHYTHM | _MEDIAN:
            yield f"Waves of type {shown(kind) or 'unknown'} were left out."


def _pairs(root: Element, tag: str) -> dict[str, str]:
    return {text_of(pair, "name"): text_of(pair, "value") for pair in root.iter(tag)}


def _acquired_at(root: Element) -> datetime | None:
    when = root.find("examdescript/startdatetime")
    return fields.moment(text_of(when, "date"), text_of(when, "time")[:6])


def _acquisition(root: Element) -> tuple[Acquisition, tuple[str, ...]]:
    device = next(root.iter("aquiringdevice"), None)
    filters = {name: fields.number(value) for name, value in _pairs(root, "filter").items()}
    return fields.acquisition_of(
        acquired_at=_acquired_at(root),
        manufacturer=text_of(device, "hardware/vendor"),
        model=text_of(device, "hardware/model"),
        software=text_of(device, "software/version"),
        low=filters.get("HIGHPASS_CUTOFF_FREQ"),
        high=filters.get("LOWPASS_CUTOFF_FREQ"),
        notch=filters.get("MAINS"),
    )


def _patient(root: Element) -> tuple[Patient, tuple[str, ...]]:
    who = root.find("patdata")
    return fields.patient_of(
        age=None,
        birth_date=text_of(who, "birthdate"),
        recorded=_acquired_at(root),
        sex=text_of(who, "gender"),
        identifier=text_of(who, "id"),
        name=(text_of(who, "lastname"), text_of(who, "firstname")),
    )


def _statements(root: Element) -> Iterator[VendorStatement]:
    for block in root.iter("textdata"):
        if text_of(block, "type") == "INTERPRETATION":
            for line in filter(None, map(str.strip, text_of(block, "textdata").splitlines())):
                yield VendorStatement(text=line)
