"""FHIR Observation (R4, R5) whose values are SampledData, alone or in a Bundle.

A sample is origin + factor × data; the unit of the origin is the unit of all. Where it is absent,
as in HL7's own example, amplitudes are unknown and the ECG is refused.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import numpy as np

from analysis.ecg import Acquisition, Annotation, Code, Patient, Recording, Sex, VendorStatement
from analysis.errors import Reason, Undecodable
from analysis.formats import fields
from analysis.formats.channels import Channel, Strip, recording, shown
from analysis.formats.common import MILLIVOLTS, lead_from_text
from analysis.formats.content import Content
from analysis.formats.hl7 import (
    LARGEST,
    PER_SECOND,
    code_of,
    lead_name,
    numbers,
    require_few,
    unit_of,
)

_SEXES: Final = {"male": Sex.MALE, "female": Sex.FEMALE, "other": Sex.OTHER}
_SCHEMES: Final[Mapping[str, str]] = {
    "urn:oid:2.16.840.1.113883.6.24": "MDC",
    "urn:iso:std:iso:11073:10101": "MDC",
    "http://loinc.org": "LN",
    "http://snomed.info/sct": "SCT",
}
_UNKNOWN: Final = re.compile(r"(?<!\S)[EUL](?!\S)")
"""An error, a value above the upper and one below the lower limit of detection."""


def recognises(data: bytes) -> bool:
    """Return whether the bytes are a JSON object that says which resource it is."""
    start = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    return start.startswith(b"{") and b'"resourceType"' in data


def read(content: Content) -> Recording:
    """Return the ECG of an Observation, or of the only one of a Bundle that holds samples.

    Raises
    ------
    Undecodable
        With the reason, and nothing else.
    """
    resources = list(_resources(_parsed(content.data)))
    found = [each for each in resources if any(_sampled(part) for part in _parts(each))]
    if not found:
        raise Undecodable(Reason.NO_WAVEFORM, "The resource holds no observation with samples.")
    if len(found) > 1:
        raise Undecodable(
            Reason.AMBIGUOUS, "The bundle holds several observations with samples; read each alone."
        )
    observation = found[0]
    parts = [part for part in _parts(observation) if _sampled(part)]
    require_few(len(parts))
    start = _start(observation)
    channels = tuple(map(_channel, parts))
    patient, patient_notes = _patient(observation, resources, start)
    return recording(
        Strip(channels, _common_rate(parts, channels), start),
        format="FHIR Observation",
        patient=patient,
        acquisition=_acquisition(observation, resources, start),
        vendor_statements=_statements(observation),
        annotations=_measurements(observation),
        notes=(*_blanks(channels), *patient_notes),
    )


def _parsed(data: bytes) -> dict[str, Any]:
    """Return the JSON object. Raises DAMAGED or TOO_LARGE where it is none."""
    try:
        found = json.loads(data.decode("utf-8-sig", "replace"))
    except RecursionError:
        raise Undecodable(Reason.TOO_LARGE, "The JSON is nested deeper than any ECG.") from None
    except ValueError:
        raise Undecodable(
            Reason.DAMAGED, "The JSON is cut or not well formed; send it again."
        ) from None
    return _object(found)


def _object(found: object) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _objects(found: object) -> list[dict[str, Any]]:
    """Return the objects of a list; one alone counts as a list of one."""
    each = found if isinstance(found, list) else [found]
    return [one for one in each if isinstance(one, dict)]


def _words(found: object) -> str:
    return found.strip() if isinstance(found, str) else ""


def _number(found: object) -> float | None:
    """Return a finite JSON number; true and false are none."""
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    with suppress(OverflowError):
        return float(found) if math.isfinite(found) else None
    return None


def _resources(root: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a resource, or the entries of a bundle, and what these contain."""
    entries = [_object(entry.get("resource")) for entry in _objects(root.get("entry"))]
    for resource in entries if root.get("resourceType") == "Bundle" else [dict(root)]:
        yield resource
        yield from _objects(resource.get("contained"))


def _parts(resource: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return an observation and its components; of any other resource nothing."""
    if resource.get("resourceType") != "Observation":
        return []
    return [resource, *_objects(resource.get("component"))]


def _sampled(part: Mapping[str, Any]) -> dict[str, Any]:
    return _object(part.get("valueSampledData"))


def _channel(part: Mapping[str, Any]) -> Channel:
    """Return one lead; several that are interleaved have no names."""
    sampled, name = _sampled(part), _name(part)
    dimensions = _number(sampled.get("dimensions", 1))
    if dimensions != 1 and lead_from_text(name) is not None:
        raise Undecodable(
            Reason.NO_LEADS, "Samples of several leads are interleaved and none of them is named."
        )
    if sampled.get("offsets") is not None:
        raise Undecodable(Reason.UNSUPPORTED, "Samples at uneven times are not read.")
    step, zero = _scale(sampled)
    return Channel(name, numbers(_words(sampled.get("data")), _UNKNOWN), step, zero)


def _name(part: Mapping[str, Any]) -> str:
    """Return what names the lead of an observation or component."""
    code = _object(part.get("code"))
    codings = _objects(code.get("coding"))
    coded = [_words(each.get(key)) for each in codings for key in ("code", "display")]
    return lead_name(*coded, _words(code.get("text")))


def _scale(sampled: Mapping[str, Any]) -> tuple[float | None, float]:
    """Return mV per step and the datum that stands for 0 mV; None where the unit is absent."""
    quantity = _object(sampled.get("origin"))
    origin, factor = _number(quantity.get("value")), _number(sampled.get("factor", 1))
    unit = _millivolts(quantity)
    if origin is None or not factor or unit is None:
        return None, 0.0
    zero = -origin / factor
    return (factor * unit, zero) if abs(zero) < LARGEST else (None, 0.0)


def _millivolts(quantity: Mapping[str, Any]) -> float | None:
    """Return mV per unit: by its code, else its text; None where the two contradict each other."""
    code, text = _words(quantity.get("code")), _words(quantity.get("unit"))
    unit = MILLIVOLTS.get(code or text)
    return unit if MILLIVOLTS.get(text, unit) == unit else None


def _rate(sampled: Mapping[str, Any]) -> float | None:
    """Return Hz: by the period in ms (R4), or by the interval and its unit (R5)."""
    period, interval = _number(sampled.get("period")), _number(sampled.get("interval"))
    per_second = PER_SECOND.get(_words(sampled.get("intervalUnit")))
    rates = {
        1000.0 / period if period else None,
        per_second / interval if interval and per_second else None,
    } - {None}
    if len(rates) > 1:
        raise Undecodable(Reason.AMBIGUOUS, "A lead states two sampling frequencies.")
    return next(iter(rates), None)


def _common_rate(parts: list[Mapping[str, Any]], channels: tuple[Channel, ...]) -> float | None:
    """Return the rate that the leads share. Raises AMBIGUOUS where they differ in time."""
    leads = [
        (_rate(_sampled(part)), channel.samples.size)
        for part, channel in zip(parts, channels, strict=True)
        if lead_from_text(channel.name) is not None
    ]
    if len({rate for rate, _ in leads}) > 1:
        raise Undecodable(Reason.AMBIGUOUS, "The leads have different sampling frequencies.")
    if len({samples for _, samples in leads}) > 1:
        raise Undecodable(Reason.DAMAGED, "The leads differ in length; send the file again.")
    return leads[0][0] if leads else _rate(_sampled(parts[0]))


def _blanks(channels: tuple[Channel, ...]) -> Iterator[str]:
    for channel in channels:
        blank = int(np.isnan(channel.samples).sum())
        if blank and lead_from_text(channel.name) is not None:
            yield f"Lead {shown(channel.name)} has {blank} unknown values: not recorded."


def _start(observation: Mapping[str, Any]) -> datetime | None:
    """Return when the first sample was taken, where it is stated with its time of day."""
    period = _object(observation.get("effectivePeriod"))
    for stated in (
        observation.get("effectiveDateTime"),
        observation.get("effectiveInstant"),
        period.get("start"),
    ):
        with suppress(ValueError):
            if "T" in (words := _words(stated)):
                return datetime.fromisoformat(words)
    return None


def _referred(reference: object, kind: str, resources: list[dict[str, Any]]) -> Mapping[str, Any]:
    """Return the resource of a kind that a reference names, by its identifier within the file."""
    identifier = _words(_object(reference).get("reference")).rpartition("/")[2].lstrip("#")
    for each in resources:
        same = _words(each.get("id")) == identifier.removeprefix("urn:uuid:")
        if identifier and same and each.get("resourceType") == kind:
            return each
    return {}


def _patient(
    observation: Mapping[str, Any], resources: list[dict[str, Any]], start: datetime | None
) -> tuple[Patient, tuple[str, ...]]:
    """Return what the file says of the subject, copied as it stands, and notes."""
    subject = _object(observation.get("subject"))
    person = _referred(subject, "Patient", resources)
    name = next(iter(_objects(person.get("name"))), {})
    given = name.get("given")
    names = [_words(name.get("family")), *map(_words, given if isinstance(given, list) else [])]
    identifiers = _objects(subject.get("identifier")) + _objects(person.get("identifier"))
    patient, notes = fields.patient_of(
        age=None,
        birth_date=_words(person.get("birthDate")),
        recorded=start,
        sex="",
        identifier=next((_words(each.get("value")) for each in identifiers), ""),
        name=names if any(names) else [_words(name.get("text")) or _words(subject.get("display"))],
    )
    return replace(patient, sex=_SEXES.get(_words(person.get("gender")))), notes


def _acquisition(
    observation: Mapping[str, Any], resources: list[dict[str, Any]], start: datetime | None
) -> Acquisition:
    reference = _object(observation.get("device"))
    device = _referred(reference, "Device", resources)
    model = _words(device.get("modelNumber")) or _words(reference.get("display"))
    return Acquisition(
        acquired_at=start,
        manufacturer=_words(device.get("manufacturer")) or None,
        model=model or None,
    )


def _code(concept: Mapping[str, Any]) -> Code | None:
    """Return the first coding of a concept."""
    coding = next(iter(_objects(concept.get("coding"))), {})
    value, meaning = _words(coding.get("code")), _words(coding.get("display"))
    scheme = _SCHEMES.get(_words(coding.get("system")), _words(coding.get("system")))
    if scheme == "MDC" and meaning.startswith("MDC_"):
        return code_of(meaning)
    return Code(scheme, value, meaning or value) if value else None


def _measurements(observation: Mapping[str, Any]) -> Iterator[Annotation]:
    """Yield the components that are a quantity."""
    for part in _parts(observation):
        quantity, code = _object(part.get("valueQuantity")), _code(_object(part.get("code")))
        value = _number(quantity.get("value"))
        if value is not None and code is not None:
            unit = _words(quantity.get("code")) or _words(quantity.get("unit"))
            yield Annotation(code=code, value=value, unit=unit_of(unit))


def _statements(observation: Mapping[str, Any]) -> Iterator[VendorStatement]:
    """Yield the interpretations of the ECG, and the components that are words."""
    concepts = _objects(observation.get("interpretation"))
    for part in _parts(observation):
        concepts += _objects(part.get("valueCodeableConcept"))
        if words := _words(part.get("valueString")):
            yield VendorStatement(text=words)
    for concept in concepts:
        code = _code(concept)
        if words := _words(concept.get("text")) or (code.meaning if code else ""):
            yield VendorStatement(text=words, code=code)
