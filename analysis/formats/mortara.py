"""Mortara ELI XML: everything in attributes, samples in Base64, leads in any order."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Final
from xml.etree.ElementTree import Element

from analysis.ecg import Acquisition, Annotation, Patient, Recording, VendorStatement
from analysis.errors import Reason, Undecodable
from analysis.formats import fields
from analysis.formats.channels import Channel, Strip, recording
from analysis.formats.content import Content
from analysis.formats.markup import parse, root_of

_SAMPLES: Final = (("BITS", "16"), ("FORMAT", "SIGNED"), ("ENCODING", "BASE64"))
_MEASUREMENTS: Final[Mapping[str, fields.Quantity]] = MappingProxyType(
    {
        "VENT_RATE": fields.HEART_RATE,
        "AVERAGE_RR": fields.RR,
        "P_DURATION": fields.P_DURATION,
        "PR_DURATION": fields.PR,
        "QRS_DURATION": fields.QRS_DURATION,
        "QT": fields.QT,
        "QTC": fields.QTC,
        "QTB": fields.QTC_BAZETT,
        "QTF": fields.QTC_FRIDERICIA,
        "P_AXIS": fields.P_AXIS,
        "QRS_AXIS": fields.QRS_AXIS,
        "T_AXIS": fields.T_AXIS,
    }
)


def recognises(data: bytes) -> bool:
    """Return whether the bytes are an ELI document; others name their root ECG too."""
    return root_of(data) == "ECG" and b"SAMPLE_FREQ" in data.replace(b"\0", b"")


def read(content: Content) -> Recording:
    """Return the ECG of an ELI document.

    Raises
    ------
    Undecodable
        With the reason, and nothing else.
    """
    root = parse(content.data)
    channels = root.findall("CHANNEL")
    if not channels:
        raise Undecodable(Reason.NO_WAVEFORM, "The document has no rhythm.")
    median, median_notes = fields.optional(lambda: _median(root))
    patient, patient_notes = _patient(root)
    acquisition, acquisition_notes = _acquisition(root)
    return recording(
        _strip(channels, _acquired_at(root)),
        format="Mortara ELI XML",
        median=median,
        patient=patient,
        acquisition=acquisition,
        vendor_statements=_statements(root),
        annotations=_annotations(root),
        notes=(*median_notes, *patient_notes, *acquisition_notes),
    )


def _strip(channels: Sequence[Element], start: datetime | None = None) -> Strip:
    rates = {channel.get("SAMPLE_FREQ", "") for channel in channels}
    if len(rates) > 1:
        raise Undecodable(Reason.UNSUPPORTED, "The leads differ in rate, which is not read yet.")
    rate = fields.number(next(iter(rates), ""))
    return Strip([_channel(channel, channel, rate) for channel in channels], rate, start)


def _median(root: Element) -> Strip | None:
    """Return the typical cycle, which states its samples once for all leads."""
    cycle = root.find("TYPICAL_CYCLE")
    beats = [] if cycle is None else cycle.findall("TYPICAL_CYCLE_CHANNEL")
    if cycle is None or not beats:
        return None
    rate = fields.number(cycle.get("SAMPLE_FREQ", ""))
    return Strip([_channel(beat, cycle, rate) for beat in beats], rate)


def _channel(channel: Element, stated: Element, rate: float | None) -> Channel:
    """Return a lead whose samples are of the kind that an element states."""
    for name, known in _SAMPLES:
        if stated.get(name, known).upper() != known:
            raise Undecodable(
                Reason.UNSUPPORTED, "Only signed samples of 16 bits in Base64 are read."
            )
    if fields.number(stated.get("OFFSET", "0")) != 0:
        raise Undecodable(
            Reason.UNSUPPORTED, "A lead has an offset, and what one means is not published."
        )
    samples = fields.samples_of_base64(channel.get("DATA", ""))
    _require_duration(stated.get("DURATION", ""), samples.size, rate)
    steps = fields.number(stated.get("UNITS_PER_MV", ""))
    return Channel(channel.get("NAME", ""), samples, 1 / steps if steps else None)


def _require_duration(stated: str, held: int, rate: float | None) -> None:
    """Refuse a lead whose DURATION is neither its samples nor its milliseconds."""
    if not rate or fields.number(stated) != held * 1000 / rate:
        fields.require_count(stated, held)


def _acquired_at(root: Element) -> datetime | None:
    day, _, time = root.get("ACQUISITION_TIME_XML", "").partition("T")
    plain = root.get("ACQUISITION_TIME", "")
    return fields.moment(day, time) or fields.moment(plain[:8], plain[8:14])


def _acquisition(root: Element) -> tuple[Acquisition, tuple[str, ...]]:
    source = _attributes(root, "SOURCE")
    return fields.acquisition_of(
        acquired_at=_acquired_at(root),
        manufacturer=source.get("MANUFACTURER", "").strip(),
        model=source.get("MODEL", "").strip(),
        software=source.get("ACQUIRING_DEVICE_SW_VERSION", "").strip(),
        high=fields.number(source.get("LOW_PASS_FILTER", "")),
    )


def _patient(root: Element) -> tuple[Patient, tuple[str, ...]]:
    who = _attributes(root, "SUBJECT")
    return fields.patient_of(
        age=fields.age_in_years(root.get("AGE", ""), root.get("AGE_UNITS", "")),
        birth_date=who.get("DOB_XML", "") or who.get("DOB", ""),
        recorded=_acquired_at(root),
        sex=who.get("GENDER", "").strip(),
        identifier=who.get("ID", "").strip(),
        name=(who.get("LAST_NAME", "").strip(), who.get("FIRST_NAME", "").strip()),
    )


def _attributes(root: Element, path: str) -> dict[str, str]:
    element = root.find(path)
    return {} if element is None else element.attrib


def _statements(root: Element) -> Iterator[VendorStatement]:
    for statement in root.iterfind("AUTOMATIC_INTERPRETATION/STATEMENT"):
        words = (statement.get("TEXT", "").strip(), statement.get("REASON", "").strip())
        if words[0]:
            yield VendorStatement(text=": ".join(filter(None, words)))


def _annotations(root: Element) -> Iterator[Annotation]:
    stated = root.attrib | _attributes(root, "TYPICAL_CYCLE")
    return fields.measurements(stated, _MEASUREMENTS)
