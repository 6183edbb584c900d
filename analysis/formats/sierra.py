"""Philips XML (SierraECG, PhilipsECG): PageWriter, TraceMaster and IntelliSpace exports.

Ten seconds of ECG are followed by one that ends with a calibration pulse. The representative
beats have a rate and a resolution of their own, and a sentinel where they hold no sample.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt

from analysis.ecg import Acquisition, Annotation, Code, Patient, Recording, VendorStatement
from analysis.errors import Reason, Undecodable
from analysis.formats import fields, sierra_samples
from analysis.formats.calibration import samples_of_ecg
from analysis.formats.channels import Channel, Strip, recording, shown
from analysis.formats.content import Content
from analysis.formats.markup import parse, root_of, text_of
from analysis.formats.sierra_samples import MICROVOLT, stated

_TYPES: Final = frozenset({"SierraECG", "PhilipsECG"})
_VERSIONS: Final = frozenset({"1.03", "1.04", "1.04.01", "1.04.02"})
_ABSENT: Final = 32767
_STATEMENT: Final = "interpretations/interpretation/statement"
_MEASUREMENTS: Final[Mapping[str, fields.Quantity]] = MappingProxyType(
    {
        "heartrate": fields.HEART_RATE,
        "rrint": fields.RR,
        "print": fields.PR,
        "meanprint": fields.PR,
        "qrsdur": fields.QRS_DURATION,
        "meanqrsdur": fields.QRS_DURATION,
        "qtint": fields.QT,
        "meanqtint": fields.QT,
        "meanqtc": fields.QTC,
        "qtcb": fields.QTC_BAZETT,
        "qtcf": fields.QTC_FRIDERICIA,
        "pfrontaxis": fields.P_AXIS,
        "qrsfrontaxis": fields.QRS_AXIS,
        "tfrontaxis": fields.T_AXIS,
    }
)


def recognises(data: bytes) -> bool:
    """Return whether the bytes are a Philips document."""
    return root_of(data) == "restingecgdata"


def read(content: Content) -> Recording:
    """Return the ECG of a Philips document.

    Raises
    ------
    Undecodable
        With the reason, and nothing else.
    """
    root = parse(content.data)
    version = _version(root)
    rhythm, rhythm_notes = _rhythm(root)
    median, median_notes = fields.optional(lambda: _median(root))
    patient, patient_notes = _patient(root)
    acquisition, acquisition_notes = _acquisition(root)
    return recording(
        rhythm,
        format=f"Philips XML {version}",
        median=median,
        patient=patient,
        acquisition=acquisition,
        vendor_statements=_statements(root),
        annotations=_annotations(root),
        notes=(
            *rhythm_notes,
            *median_notes,
            *patient_notes,
            *acquisition_notes,
            *_statement_notes(root),
        ),
    )


def _version(root: Element) -> str:
    kind = text_of(root, "documentinfo/documenttype")
    version = text_of(root, "documentinfo/documentversion")
    if kind not in _TYPES or version not in _VERSIONS:
        raise Undecodable(
            Reason.UNSUPPORTED,
            f"Documents of type {shown(kind) or 'unknown'}, version {shown(version) or 'unknown'} "
            "are not read; export PhilipsECG 1.04.",
        )
    return version


def _rhythm(root: Element) -> tuple[Strip, tuple[str, ...]]:
    stored = sierra_samples.stored(root)
    named = stored.samples[: len(stored.names)]
    length = samples_of_ecg((named - stored.zero) * stored.step, stored.rate, stored.step)
    channels = [
        Channel(name, row[:length], stored.step, stored.zero)
        for name, row in zip(stored.names, named, strict=True)
    ]
    return Strip(channels, stored.rate, _acquired_at(root)), (
        *_cropped(length, named.shape[1]),
        *_unnamed(stored.samples[len(named) :, :length]),
    )


def _cropped(length: int, whole: int) -> Iterator[str]:
    if length < whole:
        yield (
            "The last second was cropped: it ends with the cart's calibration pulse (1 mV in "
            "all leads at once)."
        )


def _unnamed(channels: npt.NDArray[np.int64]) -> Iterator[str]:
    if held := int(np.ptp(channels, axis=1).astype(bool).sum()) if channels.size else 0:
        yield f"The file holds signals of {held} more channels without naming them; left out."


def _median(root: Element) -> Strip | None:
    """Return the representative beats, which have a rate and a resolution of their own."""
    beats = root.find("waveforms/repbeats")
    if beats is None:
        return None
    if beats.get("dataencoding") != "Base64" or beats.get("compression"):
        raise Undecodable(Reason.UNSUPPORTED, "It is written in an unknown encoding.")
    rate = fields.number(beats.get("samplespersec", ""))
    step = fields.number(beats.get("resolution", ""))
    return Strip([_beat(beat, rate, step and step * MICROVOLT) for beat in beats], rate)


def _beat(beat: Element, rate: float | None, step: float | None) -> Channel:
    """Return one lead; from version 1.04 on its samples stand in an element of their own."""
    waveform = beat.find("waveform")
    holder = beat if waveform is None else waveform
    samples = fields.samples_of_base64(text_of(holder)).astype(np.float64)
    duration = fields.number(holder.get("duration", ""))
    if rate and duration is not None:
        fields.require_count(str(duration * rate / 1000), samples.size)
    samples[samples == _ABSENT] = np.nan
    return Channel(beat.get("leadname", ""), samples, step)


def _acquired_at(root: Element) -> datetime | None:
    when = root.find("dataacquisition")
    return None if when is None else fields.moment(when.get("date", ""), when.get("time", ""))


def _acquisition(root: Element) -> tuple[Acquisition, tuple[str, ...]]:
    machine = root.find("dataacquisition/machine")
    detail = "" if machine is None else machine.get("detaildescription", "")
    manufacturer, _, rest = detail.partition(":")
    low, _, high = stated(root, "signalbandwidth").partition("-")
    return fields.acquisition_of(
        acquired_at=_acquired_at(root),
        manufacturer=manufacturer.strip(),
        model=text_of(machine),
        software=rest.partition(":")[2].strip(),
        low=fields.number(stated(root, "hipass") or low),
        high=fields.number(stated(root, "lowpass") or high),
        notch=fields.number(stated(root, "notchfilterfreqs")),
    )


def _patient(root: Element) -> tuple[Patient, tuple[str, ...]]:
    """Return the patient; the attribute defaultage is a setting of the cart, no age."""
    who = root.find("patient/generalpatientdata")
    names = ("lastname", "firstname", "middlename")
    return fields.patient_of(
        age=fields.age_in_years(_known(who, "age/years"), "years"),
        birth_date=_known(who, "age/dateofbirth"),
        recorded=_acquired_at(root),
        sex=_known(who, "sex"),
        identifier=_known(who, "patientid"),
        name=[_known(who, f"name/{name}") for name in names],
    )


def _known(element: Element | None, path: str) -> str:
    """Return a text, empty where the cart writes dashes for what it does not know."""
    text = text_of(element, path)
    return text if text.strip("-") else ""


def _statements(root: Element) -> Iterator[VendorStatement]:
    """Yield the overall severity, then the statements with their reasons."""
    interpretation = root.find("interpretations/interpretation")
    if interpretation is None:
        return
    severity = interpretation.find("severity")
    code = "" if severity is None else severity.get("code", "")
    yield from _statement(text_of(severity).strip("- "), "", code)
    for statement in interpretation.findall("statement"):
        words, because, code = (
            text_of(statement, name)
            for name in ("leftstatement", "rightstatement", "statementcode")
        )
        yield from _statement(words, because, code)


def _statement(words: str, because: str, code: str) -> Iterator[VendorStatement]:
    if text := ": ".join(filter(None, (words, because))):
        yield VendorStatement(text=text, code=Code("99PHILIPS", code, words) if code else None)


def _statement_notes(root: Element) -> Iterator[str]:
    found = root.findall("interpretations/interpretation")
    if len(found) > 1:
        yield f"Of {len(found)} interpretations the first was read."
    edited = (its.get("editedflag", "").lower() for its in root.iterfind(_STATEMENT))
    if "true" in edited:
        yield "The statements were edited; not all of them are the cart's own."


def _annotations(root: Element) -> Iterator[Annotation]:
    for name in ("globalmeasurements", "interpretationmeasurements"):
        values = root.find(f"interpretations/interpretation/{name}")
        stated = {} if values is None else {value.tag: text_of(value) for value in values}
        yield from fields.measurements(stated, _MEASUREMENTS)
