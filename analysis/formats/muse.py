"""GE MUSE XML (restecg.dtd): eight leads in Base64, the median beat before the rhythm.

Only WaveformType says which waveform is which. Limb leads beyond I and II are not stored; the
carts compute them for the screen, as is done here.
"""

import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Final
from xml.etree.ElementTree import Element

from analysis.ecg import Acquisition, Annotation, Patient, Recording, VendorStatement
from analysis.errors import Reason, Undecodable
from analysis.formats import fields
from analysis.formats.channels import Channel, Strip, recording, shown
from analysis.formats.content import Content
from analysis.formats.markup import parse, root_of, text_of

_MILLIVOLTS: Final[Mapping[str, float]] = MappingProxyType(
    {"NANOVOLTS": 1e-6, "MICROVOLTS": 1e-3, "MILLIVOLTS": 1.0, "VOLTS": 1e3}
)
_MEASUREMENTS: Final[Mapping[str, fields.Quantity]] = MappingProxyType(
    {
        "VentricularRate": fields.HEART_RATE,
        "PRInterval": fields.PR,
        "QRSDuration": fields.QRS_DURATION,
        "QTInterval": fields.QT,
        "QTCorrected": fields.QTC,
        "QTcFrederica": fields.QTC_FRIDERICIA,
        "PAxis": fields.P_AXIS,
        "RAxis": fields.QRS_AXIS,
        "TAxis": fields.T_AXIS,
    }
)


def recognises(data: bytes) -> bool:
    """Return whether the bytes are a MUSE document."""
    return root_of(data) == "RestingECG"


def read(content: Content) -> Recording:
    """Return the ECG of a MUSE document.

    Raises
    ------
    Undecodable
        With the reason, and nothing else.
    """
    root = parse(content.data)
    waveform = fields.only(_of_type(root, "rhythm"), "waveform of type Rhythm")
    rhythm = _strip(waveform, _acquired_at(root))
    median, median_notes = fields.optional(lambda: _median(root))
    patient, patient_notes = _patient(root)
    acquisition, acquisition_notes = _acquisition(root, waveform)
    statements, statement_notes = _statements(root)
    return recording(
        rhythm,
        format="GE MUSE XML",
        median=median,
        patient=patient,
        acquisition=acquisition,
        vendor_statements=statements,
        annotations=_annotations(root, waveform, rhythm),
        notes=(
            *_left_out(root),
            *_crc_notes([waveform, *(_of_type(root, "median") if median else ())]),
            *_lead_notes(waveform),
            *median_notes,
            *patient_notes,
            *acquisition_notes,
            *statement_notes,
        ),
    )


def _of_type(root: Element, kind: str) -> list[Element]:
    return [
        waveform
        for waveform in root.iter("Waveform")
        if text_of(waveform, "WaveformType").lower() == kind
    ]


def _left_out(root: Element) -> Iterator[str]:
    types = {text_of(waveform, "WaveformType") for waveform in root.iter("Waveform")}
    for other in sorted(its for its in types if its.lower() not in {"rhythm", "median"}):
        yield f"A waveform of type {shown(other) or 'unknown'} was left out."


def _median(root: Element) -> Strip | None:
    found = _of_type(root, "median")
    return _strip(fields.only(found, "median beat")) if found else None


def _strip(waveform: Element, start: datetime | None = None) -> Strip:
    leads = waveform.findall("LeadData")
    _refuse_other_times(leads)
    return Strip([_channel(lead) for lead in leads], _rate(waveform), start)


def _rate(waveform: Element) -> float | None:
    """Return SampleBase times ten to the power of SampleExponent, in Hz."""
    base = fields.number(text_of(waveform, "SampleBase"))
    exponent = text_of(waveform, "SampleExponent") or "0"
    if base is None or not re.fullmatch(r"[+-]?\d", exponent):
        return None
    return base * 10.0 ** int(exponent)


def _refuse_other_times(leads: Sequence[Element]) -> None:
    for name in ("LeadTimeOffset", "LeadOffsetFirstSample"):
        if len({fields.number(text_of(lead, name) or "0") for lead in leads}) > 1:
            raise Undecodable(
                Reason.UNSUPPORTED, "The leads begin at different times, which is not read yet."
            )


def _channel(lead: Element) -> Channel:
    """Return a lead. FirstSampleBaseline is the stored value of 0 mV."""
    if text_of(lead, "LeadSampleSize") not in {"2", ""}:
        raise Undecodable(Reason.UNSUPPORTED, "Only samples of two bytes are read.")
    samples = fields.samples_of_base64(text_of(lead, "WaveFormData"))
    fields.require_count(text_of(lead, "LeadSampleCountTotal"), samples.size)
    fields.require_count(text_of(lead, "LeadByteCountTotal"), samples.nbytes)
    step = fields.number(text_of(lead, "LeadAmplitudeUnitsPerBit"))
    unit = _MILLIVOLTS.get(text_of(lead, "LeadAmplitudeUnits").upper())
    return Channel(
        text_of(lead, "LeadID"),
        samples,
        step and unit and step * unit,
        _baseline(lead),
    )


def _baseline(lead: Element) -> float:
    zero = fields.number(text_of(lead, "FirstSampleBaseline") or "0")
    return math.nan if zero is None else zero


def _lead_notes(waveform: Element) -> Iterator[str]:
    leads = waveform.findall("LeadData")
    if moved := [text_of(lead, "LeadID") for lead in leads if _baseline(lead)]:
        yield f"The baseline that the file states was subtracted from {_listed(moved)}."
    if off := [text_of(lead, "LeadID") for lead in leads if text_of(lead, "LeadOff") == "TRUE"]:
        yield f"The cart marked {_listed(off)} as off."


def _crc_notes(waveforms: Iterable[Element]) -> Iterator[str]:
    """Yield which leads do not have their CRC32; real systems write 0 or a stale one."""
    for waveform in waveforms:
        leads = waveform.findall("LeadData")
        if wrong := [text_of(lead, "LeadID") for lead in leads if not _has_its_crc(lead)]:
            yield (
                f"The CRC32 of {_listed(wrong)} ({text_of(waveform, 'WaveformType')}) does not "
                "match; some systems write it wrong, else the samples are damaged."
            )


def _has_its_crc(lead: Element) -> bool:
    stated = text_of(lead, "LeadDataCRC32")
    data = fields.bytes_of_base64(text_of(lead, "WaveFormData"))
    return not stated or stated == str(zlib.crc32(data))


def _listed(names: Sequence[str]) -> str:
    return f"lead{'s'[: len(names) > 1]} {', '.join(map(shown, names))}"


def _acquired_at(root: Element) -> datetime | None:
    test = root.find("TestDemographics")
    return fields.moment(_iso(text_of(test, "AcquisitionDate")), text_of(test, "AcquisitionTime"))


def _acquisition(root: Element, waveform: Element) -> tuple[Acquisition, tuple[str, ...]]:
    """Return how the recording was made; HighPassFilter counts in hundredths of a hertz."""
    test = root.find("TestDemographics")
    low = fields.number(text_of(waveform, "HighPassFilter"))
    return fields.acquisition_of(
        acquired_at=_acquired_at(root),
        model=text_of(test, "AcquisitionDevice"),
        software=text_of(test, "AcquisitionSoftwareVersion"),
        low=low and low / 100,
        high=fields.number(text_of(waveform, "LowPassFilter")),
        notch=fields.number(text_of(waveform, "ACFilter")),
    )


def _patient(root: Element) -> tuple[Patient, tuple[str, ...]]:
    who = root.find("PatientDemographics")
    return fields.patient_of(
        age=fields.age_in_years(text_of(who, "PatientAge"), text_of(who, "AgeUnits")),
        birth_date=_iso(text_of(who, "DateofBirth")),
        recorded=_acquired_at(root),
        sex=text_of(who, "Gender"),
        identifier=text_of(who, "PatientID"),
        name=(text_of(who, "PatientLastName"), text_of(who, "PatientFirstName")),
    )


def _iso(stated: str) -> str:
    """Return a date of MUSE (MM-DD-YYYY) as ISO 8601 has it."""
    return re.sub(r"(\d\d)-(\d\d)-(\d{4})", r"\3-\1-\2", stated)


def _statements(root: Element) -> tuple[list[VendorStatement], tuple[str, ...]]:
    """Return the diagnosis as it stands, and a note where someone has edited the cart's own."""
    lines, original = (list(_lines(root.find(n))) for n in ("Diagnosis", "OriginalDiagnosis"))
    edited = lines and original and lines != original
    note = "The diagnosis was edited; the cart's own statements were left out."
    return [VendorStatement(text=line) for line in lines or original], (note,) if edited else ()


def _lines(diagnosis: Element | None) -> Iterator[str]:
    """Yield the statements, joined up to each that ends its line."""
    words: list[str] = []
    for statement in () if diagnosis is None else diagnosis.findall("DiagnosisStatement"):
        words += filter(None, [text_of(statement, "StmtText")])
        flags = {text_of(flag).upper() for flag in statement.findall("StmtFlag")}
        if words and "ENDSLINE" in flags:
            yield " ".join(words)
            words = []
    if words:
        yield " ".join(words)


def _annotations(root: Element, waveform: Element, rhythm: Strip) -> Iterator[Annotation]:
    values = root.find("RestingECGMeasurements")
    values = root.find("OriginalRestingECGMeasurements") if values is None else values
    stated = {} if values is None else {value.tag: text_of(value) for value in values}
    yield from fields.measurements(stated, _MEASUREMENTS)
    yield from fields.measurements(
        {"GlobalRR": text_of(root, "QRSTimesTypes/GlobalRR")}, {"GlobalRR": fields.RR}
    )
    yield from _beats(root, rhythm)
    yield from _spikes(waveform, rhythm)


def _beats(root: Element, rhythm: Strip) -> Iterator[Annotation]:
    """Yield the QRS complexes; their times are milliseconds of the rhythm."""
    for place, beat in enumerate(root.iterfind("QRSTimesTypes/QRS"), 1):
        text = f"QRS of type {shown(text_of(beat, 'Type'))}"
        yield from fields.beat(text_of(beat, "Time"), rhythm, text=text, group=place)


def _spikes(waveform: Element, rhythm: Strip) -> Iterator[Annotation]:
    for spikes in waveform.findall("PaceSpikes"):
        found = map(fields.number, text_of(spikes, "IndexOffsets").split())
        places = tuple(at for at in found if at is not None and fields.within(at, rhythm))
        if places:
            kind = shown(text_of(spikes, "PaceType"))
            yield Annotation(text=f"Pacemaker spikes {kind}".strip(), samples=places)
