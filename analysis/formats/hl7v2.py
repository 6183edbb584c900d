r"""HL7 version 2 results (ORU) that hold an ECG, in the three ways they do.

Monitors follow IHE PCD-01: one observation (OBX) of type NA for each lead, named by its MDC code,
with facets below its sub-identifier (1.7.6.131329.1) for rate, resolution and range. Chapter 7 of
the standard defines channels (CD) apart from the samples (NA by channel, MA by sample). Carts
embed a whole file (ED), which its own reader reads.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from analysis.ecg import Acquisition, Annotation, Recording, VendorStatement
from analysis.errors import Reason, Undecodable
from analysis.formats import fields
from analysis.formats.channels import Strip, recording
from analysis.formats.content import Content
from analysis.formats.hl7 import BEATS_PER_MINUTE, clock, code_of, one_axis, require_few
from analysis.formats.hl7v2_message import Message, Observation
from analysis.formats.hl7v2_waves import pieces_of

_UCUM: Final[Mapping[str, str]] = {
    "MDC_DIM_BEAT_PER_MIN": BEATS_PER_MINUTE,
    "MDC_DIM_MILLI_SEC": "ms",
    "MDC_DIM_SEC": "s",
    "MDC_DIM_ANG_DEG": "deg",
    "MDC_DIM_MILLI_VOLT": "mV",
    "MDC_DIM_MICRO_VOLT": "uV",
}
_IMPRESSIONS: Final = frozenset({"8601-7", "18844-1"})
"""LOINC: EKG impression."""


def recognises(data: bytes) -> bool:
    """Return whether the bytes begin with a message header (MSH) and its separators."""
    return bool(_HEADER.match(data[:64]))


_HEADER: Final = re.compile(rb"(?:\xef\xbb\xbf)?[\x0b\s]*MSH([^\w\s])([^\w\s]{4})#?\1")


def read(content: Content) -> Recording:
    """Return the ECG of a message.

    Raises
    ------
    Undecodable
        With the reason, and nothing else.
    """
    message = Message.of(content.data)
    observations = message.observations()
    waves = [each for each in observations if each.type in {"NA", "MA"}]
    if not waves:
        return _embedded(message, observations)
    require_few(len(waves))
    pieces, notes = pieces_of(message, observations)
    axis = one_axis(pieces)
    starts = [each.start for each in waves if each.start and clock(each.start) == axis.start]
    start = next(iter(starts), None)
    patient, patient_notes = message.patient(start)
    return recording(
        Strip(axis.channels, axis.rate, start),
        format="HL7 v2",
        patient=patient,
        acquisition=Acquisition(acquired_at=start),
        vendor_statements=_statements(message, observations),
        annotations=_measurements(observations),
        notes=(*message.notes, *axis.notes, *notes, *patient_notes),
    )


def _measurements(observations: Sequence[Observation]) -> Iterator[Annotation]:
    """Yield the values that the sender measured on the ECG."""
    for each in observations:
        name = next((part for part in each.identifier if part.startswith("MDC_ECG_")), None)
        value = fields.number(each.value) if each.type == "NM" else None
        if name is not None and value is not None:
            units = [_UCUM.get(unit, unit) for unit in each.unit if not unit.isdigit()]
            yield Annotation(code=code_of(name), value=value, unit=next(iter(units), "") or None)


def _statements(message: Message, observations: Sequence[Observation]) -> Iterator[VendorStatement]:
    """Yield the interpretation, a statement for each repetition of its text."""
    for each in observations:
        interprets = any("ECG_INTERPRETATION" in part for part in each.identifier)
        if each.type in {"ST", "TX", "FT"} and (interprets or _IMPRESSIONS & set(each.identifier)):
            for words in filter(str.strip, each.value.split(message.tilde)):
                yield VendorStatement(text=message.unescaped(words.strip()))


def _embedded(message: Message, observations: Sequence[Observation]) -> Recording:
    """Return the ECG of the one embedded file (ED) that holds one."""
    from analysis import formats  # noqa: PLC0415 - the registry names this module

    refused = Undecodable(Reason.NO_WAVEFORM, "The message holds no waveform.")
    found: list[Recording] = []
    for each in observations:
        if each.type == "ED" and not recognises(data := _attached(message, each)):
            try:
                found.append(formats.read(data))
            except Undecodable as error:
                refused = Undecodable(error.reason, f"The embedded file: {error.message}")
    if not found:
        raise refused
    if len(found) > 1:
        raise Undecodable(Reason.AMBIGUOUS, "The message embeds several ECGs.")
    patient, _ = message.patient(None)
    within = found[0].patient.identifier
    if patient.identifier and within and patient.identifier != within:
        raise Undecodable(
            Reason.AMBIGUOUS, "The message and the file within it name different patients."
        )
    note = "The ECG is a file that an HL7 message embeds; facts are those of the file."
    return replace(found[0], notes=(note, *found[0].notes))


def _attached(message: Message, observation: Observation) -> bytes:
    """Return the bytes of encapsulated data: source, type, subtype, encoding, data."""
    encoding, _, data = observation.value.partition(message.caret)[2].rpartition(message.caret)
    encoding = encoding.rpartition(message.caret)[2].lower()
    with suppress(ValueError, binascii.Error):
        if encoding == "base64":
            return base64.b64decode("".join(data.split()), validate=True)
        if encoding == "hex":
            return bytes.fromhex(data)
    return message.unescaped(data).encode() if encoding == "a" else b""
