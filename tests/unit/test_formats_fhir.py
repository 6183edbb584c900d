"""FHIR: SampledData by origin, factor and period, and nothing where the unit is not said."""

import json
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from damage import damaged
from dicom_objects import TWELVE, synthetic
from files_hl7 import coded, component, observation, plain_observation, resource, sampled
from support import shared

from analysis.ecg import Code, Lead, Sex
from analysis.errors import Reason, Undecodable
from analysis.formats import read


def refusal(data: bytes) -> Reason:
    with pytest.raises(Undecodable) as caught:
        read(data)
    assert caught.value.message.endswith(".")
    return caught.value.reason


def one(**changes: Any) -> bytes:
    """Return an observation of lead II alone."""
    return resource(observation(component("II", [1, 2, 3], **changes)))


def test_twelve_components_come_back_in_millivolts() -> None:
    recording = read(resource(plain_observation()))
    assert recording.format == "FHIR Observation"
    assert recording.ecg.leads == tuple(Lead(name) for name in TWELVE)
    assert np.allclose(recording.ecg.signal, synthetic(), atol=1e-6)
    assert recording.ecg.sampling_frequency == 500.0
    start = recording.ecg.start
    assert start is not None
    assert start.replace(tzinfo=None) == datetime(2024, 1, 2, 3, 4, 5)  # noqa: DTZ001 - compared bare
    assert start.utcoffset() == timedelta(hours=1)
    assert recording.notes == ()


def test_a_single_lead_may_be_the_value_of_the_observation_itself() -> None:
    single = observation(code=coded("V2"), valueSampledData=sampled([1, 2]), component=[])
    assert read(resource(single)).ecg.leads == (Lead.V2,)


def test_an_observation_of_no_particular_lead_is_an_unnamed_ecg() -> None:
    single = observation(valueSampledData=sampled([1, 2]), component=[])
    assert read(resource(single)).ecg.leads == (Lead.ECG,)


def test_the_origin_is_added_after_the_factor() -> None:
    origin = {"value": -200, "unit": "uV", "code": "uV"}
    assert np.allclose(read(one(origin=origin, factor=2.5)).ecg["II"], [-0.1975, -0.195, -0.1925])
    absent = read(one(origin=origin, factor=None)).ecg["II"]
    assert np.allclose(absent, [-0.199, -0.198, -0.197])


@pytest.mark.parametrize(
    "origin",
    [
        {"value": 0},
        {"value": 0, "unit": "mm[Hg]"},
        {"value": 0, "unit": "mV", "code": "mm[Hg]"},
        {"value": 0, "unit": "mV", "code": "uV"},
        {"unit": "mV"},
        {"value": "0", "unit": "mV"},
        {"value": True, "unit": "mV"},
        {"value": 1e300, "unit": "mV"},
        None,
    ],
)
def test_an_origin_without_number_or_unit_is_refused(origin: dict[str, object] | None) -> None:
    assert refusal(one(origin=origin)) is Reason.NO_SCALE


def test_the_words_of_a_unit_do_not_count_beside_its_code() -> None:
    origin = {"value": 0, "unit": "microvolts", "code": "uV"}
    assert np.allclose(read(one(origin=origin, factor=1)).ecg["II"], [0.001, 0.002, 0.003])


@pytest.mark.parametrize(
    ("changes", "rate"),
    [
        ({"period": 4}, 250.0),
        ({"period": 3.3}, 1000 / 3.3),
        ({"period": None, "interval": 2, "intervalUnit": "ms"}, 500.0),
        ({"period": None, "interval": 0.004, "intervalUnit": "s"}, 250.0),
        ({"period": 4, "interval": 4, "intervalUnit": "ms"}, 250.0),
    ],
)
def test_the_rate_is_that_of_the_period_or_the_interval(
    changes: dict[str, Any], rate: float
) -> None:
    assert read(one(**changes)).ecg.sampling_frequency == rate


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"period": None}, Reason.NO_RATE),
        ({"period": 0}, Reason.NO_RATE),
        ({"period": -2}, Reason.NO_RATE),
        ({"period": None, "interval": 2}, Reason.NO_RATE),
        ({"period": None, "interval": 2, "intervalUnit": "min"}, Reason.NO_RATE),
        ({"period": 2, "interval": 4, "intervalUnit": "ms"}, Reason.AMBIGUOUS),
        ({"offsets": "0 2 5"}, Reason.UNSUPPORTED),
        ({"dimensions": 2}, Reason.NO_LEADS),
        ({"dimensions": "x"}, Reason.NO_LEADS),
        ({"factor": 0}, Reason.NO_SCALE),
        ({"factor": "2"}, Reason.NO_SCALE),
        ({"data": None}, Reason.NO_WAVEFORM),
        ({"data": 17}, Reason.NO_WAVEFORM),
        ({"data": "1 2 X"}, Reason.DAMAGED),
        ({"data": "1 2e 3"}, Reason.DAMAGED),
    ],
)
def test_what_is_not_said_or_contradicts_itself_is_refused(
    changes: dict[str, Any], reason: Reason
) -> None:
    assert refusal(one(**changes)) is reason


def test_errors_and_values_beyond_the_limits_are_not_recorded() -> None:
    recording = read(one(data="1 E U L 5"))
    assert np.isnan(recording.ecg["II"]).tolist() == [False, True, True, True, False]
    assert recording.notes == ("Lead II has 3 unknown values: not recorded.",)


def test_leads_that_differ_in_length_or_rate_are_refused() -> None:
    length = observation(component("I", [1, 2, 3]), component("II", [1, 2]))
    rate = observation(component("I", [1, 2]), component("II", [1, 2], period=4))
    assert refusal(resource(length)) is Reason.DAMAGED
    assert refusal(resource(rate)) is Reason.AMBIGUOUS


def test_a_code_that_contradicts_its_display_is_refused() -> None:
    odd = component("II", [1])
    odd["code"]["coding"][0]["display"] = "MDC_ECG_ELEC_POTL_III"
    assert refusal(resource(observation(odd))) is Reason.AMBIGUOUS


def test_another_signal_is_left_out_and_alone_refused() -> None:
    breath = component("I", [1] * 9, period=40)
    breath["code"] = {"text": "Respiration"}
    recording = read(resource(observation(component("II", [1, 2]), breath)))
    assert recording.ecg.leads == (Lead.II,)
    assert refusal(resource(observation(breath))) is Reason.NOT_AN_ECG


def bundle(*resources: dict[str, Any]) -> bytes:
    return resource({"resourceType": "Bundle", "entry": [{"resource": each} for each in resources]})


def test_a_bundle_with_one_such_observation_is_read_with_its_patient_and_device() -> None:
    person = {
        "resourceType": "Patient",
        "id": "p1",
        "identifier": [{"value": "P-17"}],
        "name": [{"family": "Doe", "given": ["Ann", "B"]}],
        "gender": "female",
        "birthDate": "1960-01-02",
    }
    device = {"resourceType": "Device", "id": "d1", "manufacturer": "Maker", "modelNumber": "E 1"}
    ecg = plain_observation() | {
        "subject": {"reference": "Patient/p1"},
        "device": {"reference": "Device/d1"},
    }
    other = {"resourceType": "Patient", "id": "p2", "identifier": [{"value": "P-18"}]}
    recording = read(bundle(other, person, device, ecg))
    patient = recording.patient
    assert (patient.identifier, patient.name, patient.sex) == ("P-17", "Doe^Ann^B", Sex.FEMALE)
    assert patient.age == pytest.approx(64, abs=0.1)
    assert (recording.acquisition.manufacturer, recording.acquisition.model) == ("Maker", "E 1")


def test_the_patient_of_another_reference_is_not_taken() -> None:
    stranger = {"resourceType": "Patient", "id": "p2", "identifier": [{"value": "P-18"}]}
    ecg = plain_observation() | {"subject": {"reference": "Patient/p1", "display": "A. Doe"}}
    patient = read(bundle(stranger, ecg)).patient
    assert (patient.identifier, patient.name) == (None, "A. Doe")


def test_a_bundle_with_several_such_observations_is_refused() -> None:
    assert refusal(bundle(plain_observation(), plain_observation())) is Reason.AMBIGUOUS


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bundle(), Reason.NO_WAVEFORM),
        (resource({"resourceType": "Patient"}), Reason.NO_WAVEFORM),
        (b'{"resourceType":' + b"[" * 100_000, Reason.TOO_LARGE),
        (b'{"resourceType": "Observation", ', Reason.DAMAGED),
        (one(factor=0.5).replace(b"0.5", b"9" * 5000), Reason.DAMAGED),
        (resource(observation(*[component("II", [1])] * 5000)), Reason.TOO_LARGE),
    ],
)
def test_what_holds_no_ecg_is_refused_with_its_reason(data: bytes, reason: Reason) -> None:
    assert refusal(data) is reason


@pytest.mark.parametrize("wrong", [None, 1, "x", [], {}, [1], [[]], True])
@pytest.mark.parametrize(
    "field", ["component", "code", "subject", "device", "effectiveDateTime", "interpretation"]
)
def test_a_field_of_another_type_is_no_traceback(field: str, wrong: object) -> None:
    with suppress(Undecodable):
        assert read(resource(plain_observation() | {field: wrong})).ecg.samples == 2000


def test_measurements_and_interpretations_are_passed_on() -> None:
    rate = {
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "valueQuantity": {"value": 52, "unit": "beats/min"},
    }
    words = {"code": {"text": "interpretation"}, "valueString": "Otherwise normal"}
    source = plain_observation()
    source["component"] += [rate, words]
    source["interpretation"] = [{"text": "Sinus rhythm"}]
    recording = read(resource(source))
    assert recording.annotations[0].code == Code("LN", "8867-4", "")
    assert (recording.annotations[0].value, recording.annotations[0].unit) == (52.0, "{H.B.}/min")
    assert {each.text for each in recording.vendor_statements} == {
        "Sinus rhythm",
        "Otherwise normal",
    }


def test_damage_gives_a_refusal_or_a_recording() -> None:
    source = resource(observation(*(component(name, range(-20, 20)) for name in TWELVE)))
    for copy in damaged(source, 400, seed=5):
        with suppress(Undecodable):
            assert read(copy).ecg.samples


# --- real files


@pytest.mark.parametrize(
    "name", ["hl7_r4_Observation-ekg.json", "mitw_SC4.12LeadsECG_data_example.json"]
)
def test_examples_without_a_unit_are_refused_and_readable_with_one(name: str) -> None:
    data = shared("ecg", "fhir", name).read_bytes()
    assert refusal(data) is Reason.NO_SCALE
    stated = json.loads(data)
    for each in stated["component"]:
        each["valueSampledData"]["origin"]["code"] = "mV"
    recording = read(resource(stated))
    assert recording.ecg.samples in {116, 500}
    assert recording.ecg.start is not None
