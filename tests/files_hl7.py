"""ECGs in the encodings of HL7, as senders write them, made for tests.

Written by hand and independent of the writer under test.
"""

import base64
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from dicom_objects import TWELVE, synthetic

STEP = 0.04
"""mV: `synthetic` obeys it exactly."""
RATE = 500
MDC_NUMBERS = dict(zip(TWELVE, (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8), strict=True))

Steps = npt.NDArray[np.int64]


def steps(signal: npt.NDArray[np.float64] | None = None) -> Steps:
    """Return twelve leads in steps of 40 µV, ``(12, samples)``."""
    return np.rint((synthetic() if signal is None else signal) / STEP).astype(np.int64)


# --- version 3: annotated ECG


def lead(
    name: str,
    digits: Iterable[object],
    *,
    scale: str = '<scale value="40" unit="uV"/>',
    origin: str = '<origin value="0" unit="uV"/>',
    kind: str = "SLIST_PQ",
) -> str:
    """Return one sequence of samples."""
    return (
        f'<component><sequence><code code="MDC_ECG_LEAD_{name.upper()}"/>'
        f'<value xsi:type="{kind}">{origin}{scale}<digits>{" ".join(map(str, digits))}</digits>'
        "</value></sequence></component>"
    )


def time(head: str = "20240102030405.000", increment: str = 'value="0.002" unit="s"') -> str:
    """Return an absolute time sequence, or a relative one where the head states a unit."""
    relative = "unit" in head
    stated = head if relative else f'value="{head}"'
    kind, list_of = ("TIME_RELATIVE", "GLIST_PQ") if relative else ("TIME_ABSOLUTE", "GLIST_TS")
    return (
        f'<component><sequence><code code="{kind}"/><value xsi:type="{list_of}">'
        f"<head {stated}/><increment {increment}/></value></sequence></component>"
    )


def sequence_set(*sequences: str) -> str:
    return f"<component><sequenceSet>{''.join(sequences)}</sequenceSet></component>"


def twelve(samples: Steps | None = None) -> str:
    rows = steps() if samples is None else samples
    return "".join(lead(name, row) for name, row in zip(TWELVE, rows, strict=True))


def series(
    *parts: str,
    code: str = "RHYTHM",
    low: str | None = "20240102030405",
    high: str | None = None,
    tag: str = "series",
) -> str:
    """Return one series; a derived one where the tag says so."""
    ends = "".join(
        f'<{name} value="{value}"/>' for name, value in (("low", low), ("high", high)) if value
    )
    return (
        f'<{tag}><code code="{code}"/><effectiveTime>{ends}</effectiveTime>{"".join(parts)}</{tag}>'
    )


def aecg(*series_of: str, subject: str = "", before: str = "") -> bytes:
    """Return an annotated ECG that holds the series."""
    components = "".join(f"<component>{each}</component>" for each in series_of)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><!-- a cart --><AnnotatedECG '
        'xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        "<componentOf><timepointEvent><componentOf><subjectAssignment><subject><trialSubject>"
        f"{subject}</trialSubject></subject></subjectAssignment></componentOf></timepointEvent>"
        f"</componentOf>{before}{components}</AnnotatedECG>"
    ).encode()


def plain_aecg() -> bytes:
    """Return twelve leads of four seconds."""
    return aecg(series(sequence_set(time(), twelve())))


def annotations(*items: str, author: str = "assignedDevice") -> str:
    """Return an annotation set."""
    return (
        "<subjectOf><annotationSet><author><assignedEntity><assignedAuthorType>"
        f"<{author}/></assignedAuthorType></assignedEntity></author>"
        + "".join(f"<component>{each}</component>" for each in items)
        + "</annotationSet></subjectOf>"
    )


def annotation(code: str, value: str = "", region: str = "", *within: str) -> str:
    """Return one annotation; `value` is that of its element, attributes and all."""
    inner = "".join(f"<component>{each}</component>" for each in within)
    return f'<annotation><code code="{code}"/>{value}{region}{inner}</annotation>'


def region(*boundaries: tuple[str, str]) -> str:
    """Return a region of interest, of codes and the XML that each bounds."""
    inner = "".join(
        f'<component><boundary><code code="{code}"/>{value}</boundary></component>'
        for code, value in boundaries
    )
    return f'<support><supportingROI classCode="ROIBND">{inner}</supportingROI></support>'


# --- version 2


def message(*segments: str, kind: str = "ORU^R01^ORU_R01", version: str = "2.6") -> bytes:
    """Return a message with its patient."""
    header = rf"MSH|^~\&|Monitor|Ward|Node|Site|20240102030405.000||{kind}|17|P|{version}"
    person = "PID|||P-17^^^Site||Doe^Ann^B^^Dr||19600102|F"
    return "\r".join((header, person, *segments, "")).encode()


def obr(start: str = "20240102030405.000") -> str:
    return f"OBR|1||X|WAVEFORM|||{start}"


def monitored(
    name: str,
    values: Sequence[object],
    *,
    place: int,
    unit: str = "266418^MDC_DIM_MILLI_VOLT^MDC",
    code: str | None = None,
    start: str = "",
    facets: Sequence[str] = (f"NM|0^MDC_ATTR_SAMP_RATE^MDC|.1|{RATE}|264608^MDC_DIM_PER_SEC^MDC",),
) -> str:
    """Return one lead by IHE PCD-01, with its facets (OBX-2, -3, end of -4, -5, -6)."""
    number = 131328 + MDC_NUMBERS.get(name, 0)
    code = code or f"{number}^MDC_ECG_LEAD_{name.upper()}^MDC"
    below = f"1.1.1.{1000 + place}"
    line = f"OBX|{place}|NA|{code}|{below}|{'^'.join(map(str, values))}|{unit}|||||F|||{start}"
    lines = [line]
    for facet in facets:
        kind, identifier, end, value, facet_unit = facet.split("|")
        lines.append(f"OBX|0|{kind}|{identifier}|{below}{end}|{value}|{facet_unit}")
    return "\r".join(lines)


def millivolts() -> list[list[str]]:
    """Return twelve leads as decimal millivolts."""
    return [[f"{value:.3f}" for value in row] for row in synthetic()]


def plain_message() -> bytes:
    """Return twelve leads of four seconds by IHE PCD-01."""
    leads = zip(TWELVE, millivolts(), strict=True)
    return message(
        obr(), *(monitored(name, row, place=place) for place, (name, row) in enumerate(leads, 1))
    )


def embedding(data: bytes, encoding: str = "Base64") -> str:
    """Return an observation that embeds a file."""
    text = base64.b64encode(data).decode() if encoding == "Base64" else data.hex()
    return f"OBX|1|ED|11524-6^EKG study^LN||^application^octet-stream^{encoding}^{text}"


# --- FHIR


def sampled(data: Sequence[object], /, **changes: Any) -> dict[str, Any]:
    """Return SampledData of 40 µV per step at 500 Hz; a change to None leaves a field out."""
    fields: dict[str, Any] = {
        "origin": {"value": 0, "unit": "mV", "code": "mV"},
        "period": 2,
        "factor": STEP,
        "dimensions": 1,
        "data": " ".join(map(str, data)),
    } | changes
    return {name: value for name, value in fields.items() if value is not None}


def coded(name: str) -> dict[str, Any]:
    """Return the MDC code of a lead."""
    return {
        "coding": [
            {
                "system": "urn:oid:2.16.840.1.113883.6.24",
                "code": str(131328 + MDC_NUMBERS[name]),
                "display": f"MDC_ECG_ELEC_POTL_{name.upper()}",
            }
        ]
    }


def component(name: str, data: Sequence[object], /, **changes: Any) -> dict[str, Any]:
    return {"code": coded(name), "valueSampledData": sampled(data, **changes)}


def observation(*components: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"code": "131328", "display": "MDC_ECG_ELEC_POTL"}]},
        "effectiveDateTime": "2024-01-02T03:04:05+01:00",
        "component": list(components),
    } | fields


def plain_observation(**changes: Any) -> dict[str, Any]:
    """Return twelve leads of four seconds."""
    rows = zip(TWELVE, steps().tolist(), strict=True)
    return observation(*(component(name, row, **changes) for name, row in rows))


def resource(found: object) -> bytes:
    return json.dumps(found).encode()
