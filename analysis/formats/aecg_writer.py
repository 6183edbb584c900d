"""One recording to one HL7 v3 Annotated ECG (PORT_MT020001), in the order of its schema.

Strict out: MDC lead codes, integer digits with origin and scale in µV, times with their units.
Identifiers are made of the content, so the same recording gives the same bytes.
"""

import hashlib
import re
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from analysis.ecg import ECG, Acquisition, Lead, Patient, Recording, Sex, Signal
from analysis.formats.aecg_elements import (
    SYSTEMS,
    add_act,
    add_mdc,
    add_path,
    add_text,
    add_value,
    decimal,
)
from analysis.formats.aecg_facts import REPORTED_AGE
from analysis.formats.aecg_writer_marks import write_marks
from analysis.formats.hl7 import LEADS, MAX_SEQUENCES, PER_SECOND

STEPS: Final = (1.0, 0.5, 0.25, 0.1, 0.05, 0.01)
"""µV per digit; the coarsest that holds a lead exactly is taken, else the finest."""

_GENDER: Final = "2.16.840.1.113883.5.1"
_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NAMESPACE: Final = uuid.UUID("0f3b2c57-6c1e-5d0b-9f0e-2a8f4a4f6d11")
_SEXES: Final = {Sex.MALE: "M", Sex.FEMALE: "F", Sex.OTHER: "UN"}
_LARGEST: Final = 2**31


def encode(recording: Recording, stem: str) -> Mapping[str, bytes]:
    """Return the content of the file ``<stem>.xml``.

    Where a lead was not recorded throughout, the leads stand in several sequence sets, each with
    its time; blank samples before the first and after the last of all leads have no place.

    Raises
    ------
    ValueError
        With one sentence, where an annotated ECG cannot hold the recording: a lead without
        samples, a value that is not finite, too many gaps, a text or time it cannot say.
    """
    try:
        root = _document(recording)
    except OverflowError:
        raise ValueError("the recording ends after the last year that a clock knows") from None
    digest = hashlib.sha256(_bytes(root)).hexdigest()
    for place, element in enumerate(root.iter("id")):
        if element.get("root") == "":
            element.set("root", str(uuid.uuid5(_NAMESPACE, f"{digest}/{place}")))
    return {f"{stem}.xml": _bytes(root)}


def _bytes(root: Element) -> bytes:
    text: str = tostring(root, encoding="unicode")
    if _FORBIDDEN.search(text):
        raise ValueError("a text holds control characters, which XML cannot hold")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _document(recording: Recording) -> Element:
    acquisition = recording.acquisition
    start = recording.ecg.start or acquisition.acquired_at
    root = Element(
        "AnnotatedECG",
        {
            "xmlns": "urn:hl7-org:v3",
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "type": "Observation",
        },
    )
    SubElement(root, "id", root="")
    SubElement(
        root, "code", code="93000", codeSystem="2.16.840.1.113883.6.12", codeSystemName="CPT-4"
    )
    if recording.derived_leads:
        computed = ", ".join(recording.derived_leads)
        add_text(root, "text", f"{computed} computed from the recorded limb leads.")
    _interval(root, start, recording.ecg.duration)
    _subject(root, recording.patient)
    _age(root, recording.patient)
    series = add_path(root, "component/series")
    _series(series, recording.ecg, "RHYTHM", start, acquisition)
    if recording.annotations or recording.vendor_statements:
        write_marks(series, recording)
    if recording.median_beat is not None:
        _beat(series, recording.median_beat, start, acquisition)
    indent(root, " ")
    return root


def _interval(parent: Element, start: datetime | None, seconds: float) -> None:
    """Write from when to when something was recorded."""
    time = SubElement(parent, "effectiveTime")
    if start is None:
        time.set("nullFlavor", "UNK")
        return
    SubElement(time, "low", value=_moment(start), inclusive="true")
    end = start + timedelta(seconds=seconds)
    SubElement(time, "high", value=_moment(end), inclusive="false")


def _moment(time: datetime) -> str:
    """Return a time stamp (TS) with its zone, if known."""
    return f"{time.year:04}{time:%m%d%H%M%S.%f%z}"


def _subject(root: Element, patient: Patient) -> None:
    """Write who the ECG is of, and the trial that the schema demands."""
    assignment = add_path(root, "componentOf/timepointEvent/componentOf/subjectAssignment")
    subject = add_path(assignment, "subject/trialSubject")
    _identifier(subject, patient.identifier)
    person = SubElement(subject, "subjectDemographicPerson")
    if patient.name is not None:
        add_text(person, "name", patient.name)
    if patient.sex is not None:
        sex = _SEXES[patient.sex]
        SubElement(person, "administrativeGenderCode", code=sex, codeSystem=_GENDER)
    if patient.birth_date is not None:
        SubElement(person, "birthTime", value=patient.birth_date.isoformat().replace("-", ""))
    _identifier(add_path(assignment, "componentOf/clinicalTrial"), None)


def _identifier(parent: Element, extension: str | None) -> None:
    attributes = {"nullFlavor": "UNK"} if extension is None else {"extension": extension}
    SubElement(parent, "id", attributes)


def _age(root: Element, patient: Patient) -> None:
    """Write the age; what is unknown is said, lest it be counted from the birth date."""
    if patient.age is None and patient.birth_date is None:
        return
    observation = add_path(root, "controlVariable/relatedObservation")
    attributes = {"codeSystem": SYSTEMS["LN"], "displayName": "Reported Age"}
    SubElement(observation, "code", {"code": REPORTED_AGE, **attributes})
    if patient.age is None:
        add_value(observation, "PQ", nullFlavor="UNK")
    else:
        add_value(observation, "PQ", value=decimal(patient.age), unit="a")


def _series(
    series: Element, ecg: ECG, code: str, start: datetime | None, acquisition: Acquisition
) -> None:
    """Write the parts of a series up to its sequence sets."""
    SubElement(series, "id", root="")
    add_act(series, code)
    _interval(series, start, ecg.duration)
    _author(add_path(series, "author/seriesAuthor"), acquisition)
    for identifier, detail, frequency in (
        ("FILTER_LOW_PASS", "FILTER_CUTOFF_FREQ", acquisition.filter_high_frequency),
        ("FILTER_HIGH_PASS", "FILTER_CUTOFF_FREQ", acquisition.filter_low_frequency),
        ("FILTER_NOTCH", "FILTER_NOTCH_FREQ", acquisition.notch_filter_frequency),
    ):
        if frequency is not None:
            outer = add_path(series, "controlVariable/controlVariable")
            add_mdc(outer, "code", f"MDC_ECG_CTL_VBL_ATTR_{identifier}")
            inner = add_path(outer, "component/controlVariable")
            add_mdc(inner, "code", f"MDC_ECG_CTL_VBL_ATTR_{detail}")
            add_value(inner, "PQ", value=decimal(frequency), unit="Hz")
    for (first, last), leads in _spans(ecg).items():
        sequences = add_path(series, "component/sequenceSet")
        _time(sequences, ecg.sampling_frequency, start, first)
        for lead in leads:
            _sequence(sequences, lead, ecg[lead][first:last])


def _author(author: Element, acquisition: Acquisition) -> None:
    device = SubElement(author, "manufacturedSeriesDevice")
    if acquisition.model is not None:
        add_text(device, "manufacturerModelName", acquisition.model)
    if acquisition.software is not None:
        add_text(device, "softwareName", acquisition.software)
    if acquisition.manufacturer is not None:
        add_text(add_path(author, "manufacturerOrganization"), "name", acquisition.manufacturer)


def _spans(ecg: ECG) -> Mapping[tuple[int, int], list[Lead]]:
    """Return the leads by the samples, from first to before last, that were recorded of each."""
    if np.isinf(ecg.signal).any():
        raise ValueError("a lead holds a value that is not finite")
    spans: dict[tuple[int, int], list[Lead]] = {}
    for lead in ecg.leads:
        edges = np.flatnonzero(np.diff(~np.isnan(ecg[lead]), prepend=False, append=False))
        if not edges.size:
            raise ValueError(f"lead {lead} has no samples, which no sequence can say")
        for first, last in edges.reshape(-1, 2).tolist():
            spans.setdefault((first, last), []).append(lead)
    if sum(1 + len(leads) for leads in spans.values()) > MAX_SEQUENCES // 2:
        raise ValueError("the recording has more gaps than its sequences can say")
    return spans


def _time(sequences: Element, rate: float, start: datetime | None, first: int) -> None:
    """Write the time sequence of a set: when its first sample was taken, and the increment."""
    sequence = add_path(sequences, "component/sequence")
    increment, unit = _increment(rate)
    seconds = first / rate
    if start is None:
        add_act(sequence, "TIME_RELATIVE")
        value = add_value(sequence, "GLIST_PQ")
        SubElement(value, "head", value=decimal(seconds), unit="s")
    else:
        add_act(sequence, "TIME_ABSOLUTE")
        value = add_value(sequence, "GLIST_TS")
        SubElement(value, "head", value=_moment(start + timedelta(seconds=seconds)))
    SubElement(value, "increment", value=increment, unit=unit)


def _increment(rate: float) -> tuple[str, str]:
    """Return the time between samples and its unit, such that the rate comes back exactly."""
    written = [(decimal(PER_SECOND[unit] / rate), unit) for unit in ("s", "ms", "us")]
    exact = [each for each in written if PER_SECOND[each[1]] / float(each[0]) == rate]
    return min(exact or written[:1], key=lambda each: len(each[0]))


def _sequence(sequences: Element, lead: Lead, signal: Signal) -> None:
    """Write one lead: origin, scale and digits."""
    sequence = add_path(sequences, "component/sequence")
    add_mdc(sequence, "code", f"MDC_ECG_LEAD_{LEADS[lead]}")
    step, digits = _digits(signal)
    value = add_value(sequence, "SLIST_PQ")
    SubElement(value, "origin", value="0", unit="uV")
    SubElement(value, "scale", value=decimal(step), unit="uV")
    SubElement(value, "digits").text = " ".join(map(str, digits))


def _digits(signal: Signal) -> tuple[float, list[int]]:
    """Return µV per digit, and the digits."""
    microvolts = signal.astype(np.float64) * 1000.0
    for step in STEPS:
        digits = np.rint(microvolts / step)
        if np.array_equal((digits * (step * 1e-3)).astype(np.float32), signal):
            break
    if np.abs(digits).max() >= _LARGEST:
        raise ValueError("a lead holds more volts than the digits of its sequence can")
    return step, digits.astype(np.int64).tolist()


def _beat(series: Element, beat: ECG, start: datetime | None, acquisition: Acquisition) -> None:
    if np.isnan(beat.signal).any():
        raise ValueError("the median beat has gaps, which a representative beat cannot have")
    derived = add_path(series, "derivation/derivedSeries")
    _series(derived, beat, "REPRESENTATIVE_BEAT", start, acquisition)
