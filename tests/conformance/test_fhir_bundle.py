"""The FHIR transaction: valid for another library, one patient, nothing that is made twice."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from pydicom.dataset import Dataset
from report_samples import PAGE, cart_file, objects, result_for, varied

from analysis.result import Overall, Result
from dicom_node.report import SAFETY_SENTENCE, Message, ReportOptions
from dicom_node.report.bundle import bundle_faults


def bundle(source: Dataset, result: Result | None = None, **changes: object) -> bytes:
    only = {"options": ReportOptions(roles=()), "messages": (Message.FHIR,)}
    made = objects(source, result, **(only | changes))[Message.FHIR]
    assert made.faults == ()
    return made.data


def resources(data: bytes, kind: str) -> list[dict[str, Any]]:
    entries = json.loads(data)["entry"]
    return [e["resource"] for e in entries if e["resource"]["resourceType"] == kind]


def report(data: bytes) -> dict[str, Any]:
    (found,) = resources(data, "DiagnosticReport")
    return found


@pytest.mark.parametrize("name", varied())
def test_every_kind_of_result_is_a_valid_transaction_or_none(name: str) -> None:
    source, result, _ = varied()[name]
    data = bundle(source, result)
    if not source.get("PatientID"):
        assert data == b""
        return
    read = Bundle.model_validate_json(data)
    assert read.type == "transaction"
    report = next(
        e.resource for e in read.entry if e.resource.__class__.__name__.startswith("Diag")
    )
    assert report.status == "preliminary"
    assert SAFETY_SENTENCE in report.conclusion


def test_measurements_are_observations_of_this_device_about_this_patient() -> None:
    source, result, _ = varied()["sinus rhythm"]
    data = bundle(source, result)
    (rate,) = [
        item for item in resources(data, "Observation")
        if item["code"]["coding"][0]["code"] == "8867-4"
    ]  # fmt: skip
    assert rate["valueQuantity"]["value"] == pytest.approx(
        result.measurements.heart_rate.value, abs=0.051
    )
    assert rate["valueQuantity"]["code"] == "/min"
    assert rate["subject"]["identifier"]["value"] == "P1"
    assert rate["status"] == "preliminary"
    assert rate["note"] == [{"text": SAFETY_SENTENCE}]
    device = next(e for e in json.loads(data)["entry"] if e["request"]["url"] == "Device")
    assert rate["device"] == {"reference": device["fullUrl"]}
    assert device["resource"]["version"] == [{"value": "0.1.0"}]


def test_the_report_refers_to_every_observation_and_bears_the_page() -> None:
    data = bundle(cart_file())
    entries = json.loads(data)["entry"]
    observations = [e["fullUrl"] for e in entries if e["request"]["url"] == "Observation"]
    found = report(data)
    assert [item["reference"] for item in found["result"]] == observations
    (form,) = found["presentedForm"]
    assert form["contentType"] == "application/pdf"
    assert base64.b64decode(form["data"]) == PAGE
    assert [c["coding"][0]["code"] for c in found["conclusionCode"]] == [
        "102594003", "49436004", "164873001",
    ]  # fmt: skip


def test_a_finding_of_a_model_bears_its_probability() -> None:
    (fibrillation, _) = [
        item for item in resources(bundle(cart_file()), "Observation")
        if item["code"]["coding"][0]["code"] == "8601-7"
    ]  # fmt: skip
    assert fibrillation["valueCodeableConcept"] == {
        "coding": [
            {
                "system": "http://snomed.info/sct",
                "code": "49436004",
                "display": "Atrial Fibrillation",
            }
        ],
        "text": "Atrial fibrillation.",
    }
    assert fibrillation["component"][0]["valueQuantity"]["value"] == 0.9321


def test_a_poor_ecg_is_told_as_non_diagnostic_and_without_a_diagnosis() -> None:
    source = cart_file()
    data = bundle(source, result_for(source, Overall.NON_DIAGNOSTIC))
    codes = {i["code"]["coding"][0]["code"] for i in resources(data, "Observation")}
    assert "8601-7" not in codes
    assert report(data)["conclusionCode"][0]["coding"][0]["code"] == "122753"


# Identity


def test_identity_is_the_sources_verbatim() -> None:
    source = cart_file()
    source.IssuerOfPatientID = "HOSPITAL"
    qualifier = Dataset()
    qualifier.UniversalEntityID, qualifier.UniversalEntityIDType = "1.2.3", "ISO"
    source.IssuerOfPatientIDQualifiersSequence = [qualifier]
    source.PatientName = "Doe^John"
    source.AccessionNumber = "A-1"
    found = report(bundle(source))
    assert found["subject"] == {
        "type": "Patient",
        "identifier": {
            "value": "642341", "system": "urn:oid:1.2.3", "assigner": {"display": "HOSPITAL"},
        },
        "display": "Doe^John",
    }  # fmt: skip
    assert found["basedOn"][0]["identifier"]["value"] == "A-1"
    study = found["imagingStudy"][0]["identifier"]
    assert study == {"system": "urn:dicom:uid", "value": f"urn:oid:{source.StudyInstanceUID}"}


def test_without_a_patient_id_there_is_no_transaction() -> None:
    source = cart_file()
    source.PatientID = " "
    assert bundle(source) == b""


@pytest.mark.parametrize(
    ("moment", "zone", "written"),
    [
        ("20260329005800.25+0100", None, "2026-03-29T00:58:00.25+01:00"),
        ("202603290058", "-0500", "2026-03-29T00:58:00-05:00"),
        ("20260329005800", None, "2026-03-29T00:58:00+00:00"),
        ("20260329", None, "2026-03-29"),
    ],
)
def test_the_time_of_the_ecg_is_what_the_source_says(
    moment: str, zone: str | None, written: str
) -> None:
    source = cart_file()
    source.AcquisitionDateTime = moment
    if zone:
        source.TimezoneOffsetFromUTC = zone
    assert report(bundle(source))["effectiveDateTime"] == written


# Sameness


def test_the_same_row_gives_the_same_bytes_and_another_plan_other_resources() -> None:
    first, other = bundle(cart_file()), bundle(cart_file(), plan_digest="2f" * 32)
    assert first == bundle(cart_file())
    conditions = [{e["request"]["ifNoneExist"] for e in json.loads(d)["entry"]
                   if e["request"]["url"] != "Device"} for d in (first, other)]  # fmt: skip
    assert not conditions[0] & conditions[1]


def test_every_resource_is_created_only_where_its_identifier_is_not_there() -> None:
    for entry in json.loads(bundle(cart_file()))["entry"]:
        identifier = entry["resource"]["identifier"][0]
        assert entry["request"] == {
            "method": "POST",
            "url": entry["resource"]["resourceType"],
            "ifNoneExist": f"identifier={identifier['system']}|{identifier['value']}",
        }


# Our own checker

Spoil = Callable[[dict[str, Any]], object]


def _report(made: dict[str, Any]) -> dict[str, Any]:
    return made["entry"][-1]["resource"]


DEFECTS: dict[str, Spoil] = {
    "a batch": lambda b: b.update(type="batch"),
    "no report": lambda b: b["entry"].pop(),
    "the same twice": lambda b: b["entry"].append(b["entry"][0]),
    "made again at each retry": lambda b: b["entry"][1]["request"].update(ifNoneExist=""),
    "final": lambda b: _report(b).update(status="final"),
    "of nobody": lambda b: _report(b)["subject"]["identifier"].update(value=""),
    "silent on what it is not": lambda b: b["entry"][1]["resource"].update(note=[{"text": "x"}]),
    "a result elsewhere": lambda b: _report(b)["result"].append({"reference": "urn:uuid:1"}),
    "a device elsewhere": lambda b: b["entry"][1]["resource"].update(device={"reference": "x"}),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_of_a_transaction_is_refused(name: str) -> None:
    made = json.loads(bundle(cart_file()))
    DEFECTS[name](made)
    assert list(bundle_faults(json.dumps(made).encode()))
