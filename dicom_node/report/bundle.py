"""The result as a FHIR R4 transaction: a DiagnosticReport with its Observations and its Device.

Every resource is created only if its identifier is not there yet, so that a transaction sent twice
makes nothing twice (FHIR R4 §3.1.0.8.1).
"""

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final
from uuid import UUID, uuid5

from analysis.ecg import Code
from analysis.result import Finding, Statement
from dicom_node.report import concepts as c
from dicom_node.report.document import basis
from dicom_node.report.objects import SAFETY_SENTENCE, Inputs, Message, spoken
from dicom_node.report.outside import IMPRESSION, STUDY, Order, Who, acquired, measured, remarks
from dicom_node.report.pdf import TITLE
from dicom_node.report.uids import Level, derive

Resource = dict[str, Any]

URI: Final = "urn:ietf:rfc:3986"
_SYSTEMS: Final = {
    "LN": "http://loinc.org",
    "SCT": "http://snomed.info/sct",
    "MDC": "urn:iso:std:iso:11073:10101",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "UCUM": "http://unitsofmeasure.org",
}
_ENTRIES: Final = UUID("0f5d8a1e-52a4-5c0b-8f43-6a1f3e1c9b7d")
_PRELIMINARY: Final = "preliminary"


def transaction(inputs: Inputs) -> bytes:
    """Return the Bundle as JSON; empty where the source has no Patient ID: then there is none."""
    who = Who.of(inputs.source)
    if not who.identifier:
        return b""
    device = _device(inputs)
    common = {
        "status": _PRELIMINARY,
        "subject": _subject(who),
        "effectiveDateTime": _moment(inputs),
        "issued": inputs.written_at.isoformat(timespec="milliseconds"),
    }
    made = {"device": _reference(device), "note": [{"text": SAFETY_SENTENCE}]}
    observations = [
        {"resourceType": "Observation", "identifier": [_identifier(inputs, f"observation {n}")]}
        | common | made | values
        for n, values in enumerate(_observations(inputs), 1)
    ]  # fmt: skip
    report = _report(inputs) | common | {"result": list(map(_reference, observations))}
    return _bundle([device, *observations, report])


def _bundle(resources: Iterable[Resource]) -> bytes:
    entries = [
        {
            "fullUrl": _full_url(resource),
            "resource": resource,
            "request": {
                "method": "POST",
                "url": resource["resourceType"],
                "ifNoneExist": f"identifier={URI}|{resource['identifier'][0]['value']}",
            },
        }
        for resource in resources
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    return json.dumps(bundle, ensure_ascii=False, separators=(",", ":")).encode()


def _full_url(resource: Resource) -> str:
    return f"urn:uuid:{uuid5(_ENTRIES, resource['identifier'][0]['value'])}"


def _reference(resource: Resource) -> Resource:
    return {"reference": _full_url(resource)}


def _identifier(inputs: Inputs, name: str) -> Resource:
    uid = derive("fhir", inputs.uid(Level.INSTANCE, Message.FHIR), name)
    return {"system": URI, "value": f"urn:oid:{uid}"}


def _subject(who: Who) -> Resource:
    """Return the patient by identifier: which Patient resource that is, the server knows."""
    identifier: Resource = {"value": who.identifier}
    if who.issuer_kind == "ISO":
        identifier["system"] = f"urn:oid:{who.issuer_uid}"
    if who.issuer:
        identifier["assigner"] = {"display": who.issuer}
    name = {"display": who.name} if who.name else {}
    return {"type": "Patient", "identifier": identifier} | name


def _moment(inputs: Inputs) -> str:
    """Return when the ECG was recorded as a dateTime: local time of the site if not stated."""
    digits, offset = acquired(inputs)
    offset = offset or f"{inputs.written_at:%z}"
    date = f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}"
    whole, _, fraction = digits[8:].partition(".")
    if not whole:
        return date
    time = whole.ljust(6, "0")
    decimals = f".{fraction}" if fraction else ""
    zone = f"{offset[:3]}:{offset[3:]}"
    return f"{date}T{time[:2]}:{time[2:4]}:{time[4:]}{decimals}{zone}"


def _coding(*codes: Code, text: str = "") -> Resource:
    coding = [
        {"system": _SYSTEMS.get(code.scheme, code.scheme), "code": code.value,
         "display": code.meaning}
        for code in codes
    ]  # fmt: skip
    return {"coding": coding} | ({"text": text} if text else {})


def _quantity(value: float, unit: str) -> Resource:
    return {"value": value, "unit": unit, "system": _SYSTEMS["UCUM"], "code": unit}


def _device(inputs: Inputs) -> Resource:
    """Return this node; another version of it is another device."""
    device = inputs.device
    uid = derive("fhir", device.device_uid, device.software_version)
    return {
        "resourceType": "Device",
        "identifier": [{"system": URI, "value": f"urn:oid:{uid}"}],
        "manufacturer": device.manufacturer,
        "serialNumber": device.serial_number,
        "deviceName": [{"name": device.model_name, "type": "model-name"}],
        "version": [{"value": device.software_version}],
    }


def _observations(inputs: Inputs) -> Iterator[Resource]:
    result = inputs.result
    for item in measured(result):
        yield {"code": _coding(item.code), "valueQuantity": _quantity(item.value, item.unit)}
    for statement in spoken(result):
        yield _statement(statement, basis(statement, result))


def _statement(statement: Statement, finding: Finding | None) -> Resource:
    value = _coding(statement.code, text=statement.text)
    made = {"code": _coding(IMPRESSION), "valueCodeableConcept": value}
    if finding is None or finding.probability is None:
        return made
    probability = round(finding.probability, 4)
    part = {"code": _coding(c.PROBABILITY), "valueQuantity": _quantity(probability, "1")}
    return made | {"component": [part]}


def _report(inputs: Inputs) -> Resource:
    order, result = Order.of(inputs.source), inputs.result
    codes = [statement.code for statement in spoken(result)]
    if result.overall in c.OVERALL:
        codes.insert(0, c.OVERALL[result.overall])
    page = base64.b64encode(inputs.page).decode("ascii")
    made: Resource = {
        "resourceType": "DiagnosticReport",
        "identifier": [_identifier(inputs, "report")],
        "category": [{"coding": [{"system": _CATEGORIES, "code": "EC"}]}],
        "code": _coding(STUDY),
        "imagingStudy": [
            {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{order.study}"}}
        ],
        "conclusion": "\n".join(remarks(result)),
        "conclusionCode": [_coding(code) for code in codes],
        "presentedForm": [
            {"contentType": "application/pdf", "data": page, "title": TITLE}
        ],
    }  # fmt: skip
    if not codes:
        del made["conclusionCode"]  # FHIR has no empty lists
    if order.accession:
        made["basedOn"] = [{"type": "ServiceRequest", "identifier": _accession(order.accession)}]
    return made


_CATEGORIES: Final = "http://terminology.hl7.org/CodeSystem/v2-0074"
_KINDS_OF_IDENTIFIER: Final = "http://terminology.hl7.org/CodeSystem/v2-0203"


def _accession(number: str) -> Resource:
    return {"type": {"coding": [{"system": _KINDS_OF_IDENTIFIER, "code": "ACSN"}]}, "value": number}


# The checker's side


def bundle_faults(message: bytes) -> Iterator[str]:
    """Yield what keeps a Bundle from being sent, one sentence each."""
    bundle = json.loads(message)
    entries = bundle["entry"]
    if (bundle["resourceType"], bundle["type"]) != ("Bundle", "transaction"):
        yield "it is no transaction"
    kinds = [entry["resource"]["resourceType"] for entry in entries]
    if kinds.count("DiagnosticReport") != 1 or kinds.count("Device") != 1:
        yield "there is not one DiagnosticReport by one Device"
    known = {entry["fullUrl"] for entry in entries}
    if len(known) != len(entries):
        yield "two resources have the same identifier"
    for entry in entries:
        yield from _resource_faults(entry, known)


def _resource_faults(entry: Resource, known: set[str]) -> Iterator[str]:
    resource, request = entry["resource"], entry["request"]
    kind, value = resource["resourceType"], resource["identifier"][0]["value"]
    if request["url"] != kind or request["ifNoneExist"] != f"identifier={URI}|{value}":
        yield f"a {kind} would be created twice"
    if kind == "Device":
        return
    if resource["status"] != _PRELIMINARY:
        yield f"a {kind} is not preliminary"
    if not resource["subject"]["identifier"]["value"]:
        yield f"a {kind} has no patient"
    if SAFETY_SENTENCE not in (resource.get("conclusion") or resource["note"][0]["text"]):
        yield f"a {kind} does not say what it is not"
    referred = [*resource.get("result", ()), *filter(None, [resource.get("device")])]
    if not all(reference["reference"] in known for reference in referred):
        yield f"a {kind} refers to what is not in the transaction"
