"""HL7 version 2: leads by code, scale and rate by their facets, and files embedded in a message."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from io import BytesIO

import numpy as np
import pytest
from damage import damaged
from dicom_objects import TWELVE, synthetic
from files_hl7 import (
    MDC_NUMBERS,
    embedding,
    message,
    millivolts,
    monitored,
    obr,
    plain_aecg,
    plain_message,
    sequence_set,
    series,
    steps,
    time,
    twelve,
)
from files_hl7 import aecg as aecg_of
from support import shared

from analysis.ecg import Code, Lead, Sex
from analysis.errors import Reason, Undecodable
from analysis.formats import read

START = datetime(2024, 1, 2, 3, 4, 5)  # noqa: DTZ001 - the message states no zone
RATE = "NM|0^MDC_ATTR_SAMP_RATE^MDC|.1|500|264608^MDC_DIM_PER_SEC^MDC"
RAW = "NM|2327^MDC_ATTR_NU_MSMT_RES^MDC|.2|0.04|266418^MDC_DIM_MILLI_VOLT^MDC"


def refusal(data: bytes) -> Reason:
    with pytest.raises(Undecodable) as caught:
        read(data)
    assert caught.value.message.endswith(".")
    return caught.value.reason


def one(values: str = "1^2^3", **changes: object) -> bytes:
    """Return a message with lead II alone."""
    return message(obr(), monitored("II", values.split("^"), place=1, **changes))  # type: ignore[arg-type]


def test_twelve_leads_of_a_monitor_come_back_in_millivolts() -> None:
    recording = read(plain_message())
    assert recording.format == "HL7 v2"
    assert recording.ecg.leads == tuple(Lead(name) for name in TWELVE)
    assert np.allclose(recording.ecg.signal, synthetic(), atol=0.0005)
    assert recording.ecg.sampling_frequency == 500.0
    assert recording.ecg.start == recording.acquisition.acquired_at == START
    assert recording.notes == ()


@pytest.mark.parametrize("wrapping", ["mllp", "bom", "newlines", "other separators"])
def test_a_message_is_recognised_however_it_is_wrapped(wrapping: str) -> None:
    data = plain_message()
    if wrapping == "mllp":
        data = b"\x0b" + data + b"\x1c\r"
    elif wrapping == "bom":
        data = b"\xef\xbb\xbf" + data
    elif wrapping == "newlines":
        data = data.replace(b"\r", b"\r\n")
    else:
        data = data.translate(bytes.maketrans(b"|^~", b"#@!"))
    assert read(data).ecg.signal.shape == (12, 2000)


def test_the_patient_is_copied_as_the_message_has_it() -> None:
    patient = read(plain_message()).patient
    assert (patient.identifier, patient.name) == ("P-17", "Doe^Ann^B^Dr")
    assert patient.sex is Sex.FEMALE
    assert patient.age == pytest.approx(64, abs=0.1)


@pytest.mark.parametrize(
    ("unit", "millivolt"),
    [
        ("266419^MDC_DIM_MICRO_VOLT^MDC", 1e-3),
        ("266418", 1.0),
        ("mV^mV^UCUM", 1.0),
        ("uV", 1e-3),
    ],
)
def test_units_count_in_every_spelling(unit: str, millivolt: float) -> None:
    assert np.allclose(
        read(one("1.5^2^3", unit=unit)).ecg["II"], np.multiply([1.5, 2, 3], millivolt)
    )


@pytest.mark.parametrize(
    "unit",
    ["", "266016^MDC_DIM_MMHG^MDC", "266418^MDC_DIM_PERCENT^MDC", "262656^MDC_DIM_DIMLESS^MDC"],
)
def test_a_lead_without_a_unit_of_voltage_is_refused(unit: str) -> None:
    assert refusal(one(unit=unit)) is Reason.NO_SCALE


def test_raw_samples_count_in_the_resolution_of_their_facet() -> None:
    recording = read(one("1^-2^50", unit="", facets=(RATE, RAW)))
    assert np.allclose(recording.ecg["II"], [0.04, -0.08, 2.0])


def test_whole_numbers_with_a_unit_and_a_resolution_are_refused_and_fractions_are_not() -> None:
    assert refusal(one("1^-2^50", facets=(RATE, RAW))) is Reason.AMBIGUOUS
    assert np.allclose(read(one("1.2^-2^50", facets=(RATE, RAW))).ecg["II"], [1.2, -2, 50])


@pytest.mark.parametrize(
    "facets",
    [
        (),
        ("NM|0^MDC_ATTR_SAMP_RATE^MDC|.1|500|",),
        ("NM|0^MDC_ATTR_SAMP_RATE^MDC|.1|0|264640^MDC_DIM_HZ^MDC",),
        ("NM|0^MDC_ATTR_SAMP_RATE^MDC|.1|x|264640^MDC_DIM_HZ^MDC",),
        ("NM|0^MDC_ATTR_SAMP_RATE^MDC|9|500|264640^MDC_DIM_HZ^MDC",),
    ],
)
def test_a_rate_that_is_absent_or_of_another_lead_is_refused(facets: tuple[str, ...]) -> None:
    assert refusal(one(facets=facets)) is Reason.NO_RATE


def test_two_rates_that_contradict_each_other_are_refused() -> None:
    assert refusal(one(facets=(RATE, RATE.replace("500", "250")))) is Reason.AMBIGUOUS


def test_a_number_and_a_name_of_different_leads_are_refused() -> None:
    assert refusal(one(code="131331^MDC_ECG_LEAD_III^MDC")) is Reason.AMBIGUOUS


@pytest.mark.parametrize(
    "code",
    ["131330", "131330^MDC_ECG_ELEC_POTL_II^MDC", "^MDC_ECG_LEAD_II^MDC", "LOCAL^Lead II^99"],
)
def test_a_lead_is_known_by_its_number_its_identifier_or_its_text(code: str) -> None:
    assert read(one(code=code)).ecg.leads == (Lead.II,)


def test_other_waves_are_left_out_with_a_note_and_alone_refused() -> None:
    pleth = {"code": "150452^MDC_PULS_OXIM_PLETH^MDC", "unit": ""}
    wave = monitored("I", [1] * 700, place=2, **pleth)  # type: ignore[arg-type]
    recording = read(message(obr(), monitored("II", ["1.5", "2"], place=1), wave))
    assert recording.ecg.leads == (Lead.II,)
    assert any("PLETH" in note for note in recording.notes)
    assert refusal(message(obr(), wave)) is Reason.NOT_AN_ECG


def test_the_declared_invalid_value_is_nan_unless_it_is_an_ordinary_one() -> None:
    invalid = "NM|196660^MDC_EVT_INOP^MDC|.3|{}|"
    raw = {"unit": "", "facets": (RATE, RAW, invalid.format(32767))}
    blank = read(one("1^32767^3", **raw))
    assert np.isnan(blank.ecg["II"]).tolist() == [False, True, False]
    assert any("1 unknown values" in note for note in blank.notes)
    kept = read(one("1^0^3", unit="", facets=(RATE, RAW, invalid.format(0))))
    assert kept.ecg["II"][1] == 0
    assert any("was kept" in note for note in kept.notes)


def test_an_empty_place_is_not_recorded_and_keeps_the_others_in_theirs() -> None:
    found = read(one("^1.5^^2^"))
    assert np.array_equal(found.ecg["II"], np.float32([np.nan, 1.5, np.nan, 2]), equal_nan=True)


@pytest.mark.parametrize("values", ["1^2 5^3", "1^x^3", "1^2~3^4", "1^1e300^2", "1^2_0"])
def test_a_word_that_is_no_sample_is_refused(values: str) -> None:
    assert refusal(one(values)) is Reason.DAMAGED


def test_leads_that_differ_in_length_are_refused() -> None:
    leads = monitored("I", [1.5] * 9, place=1), monitored("II", [1.5] * 8, place=2)
    assert refusal(message(obr(), *leads)) is Reason.DAMAGED


def test_samples_beyond_their_stated_range_are_noted() -> None:
    limits = "NR|0^MDC_ATTR_DATA_RANGE^MDC|.2|-5^5|266418^MDC_DIM_MILLI_VOLT^MDC"
    assert read(one("1.5^2", facets=(RATE, limits))).notes == ()
    assert read(one("1.5^9", facets=(RATE, limits))).notes == (
        "Lead II goes beyond the range that the message states.",
    )


def test_seconds_that_follow_each_other_are_joined_with_nan_for_a_lost_one() -> None:
    segments: list[str] = []
    for second in (0, 1, 3):
        row = [f"{second + 0.5}"] * 500
        start = f"2024010203040{5 + second}.000"
        segments += [obr(start), monitored("II", row, place=1)]
    recording = read(message(*segments))
    ecg = recording.ecg
    assert np.array_equal(
        ecg["II"], np.repeat(np.float32([0.5, 1.5, np.nan, 3.5]), 500), equal_nan=True
    )
    assert ecg.start == START


def test_each_observation_may_state_its_own_start_and_zone() -> None:
    data = one("1.5^2", start="20240102030405.5+0100")
    start = read(data).ecg.start
    assert start is not None
    assert start.utcoffset() == timedelta(hours=1)
    assert start.astimezone(UTC).microsecond == 500_000


def definitions(sensitivity: str = "2.5&uV", more: str = "") -> str:
    """Return two channels by chapter 7; the second takes over what it leaves out."""
    return f"OBX|1|CD|5&CHN|1|1&I^^{sensitivity}^2&100&0{more}^500^-2048&2047~2&II"


@pytest.mark.parametrize(
    "samples",
    ["NA|5&WAV|1|104^108^112~96^92^88", "MA|5&WAV|1|104^96~108^92~112^88"],
)
def test_samples_by_channel_and_by_time_are_the_same_ecg(samples: str) -> None:
    time_of = "OBX|2|TS|5&TIM|1|20240102030405.5"
    recording = read(
        message(obr(), definitions(), time_of, f"OBX|3|{samples}", kind="ORU^W01", version="2.3")
    )
    assert recording.ecg.leads[:2] == (Lead.I, Lead.II)
    assert np.allclose(recording.ecg["I"], [0.02, 0.04, 0.06])
    # the second channel has no calibration of its own, so that its zero is 0
    assert np.allclose(recording.ecg["II"], np.multiply([96, 92, 88], 0.005))
    assert recording.ecg.start == START + timedelta(seconds=0.5)


@pytest.mark.parametrize(
    "samples", ["NA|5&WAV|1|1^2~3^4~5^6", "MA|5&WAV|1|1^2^3~4^5^6", "MA|5&WAV|1|1^2~3"]
)
def test_another_number_of_channels_than_defined_is_refused(samples: str) -> None:
    assert refusal(message(obr(), definitions(), f"OBX|3|{samples}")) is Reason.DAMAGED


def test_a_channel_definition_without_unit_is_refused() -> None:
    data = message(obr(), definitions("2.5"), "OBX|3|MA|5&WAV|1|1^2~3^4")
    assert refusal(data) is Reason.NO_SCALE


def test_measurements_and_interpretations_are_passed_on() -> None:
    rate = "OBX|7|NM|147842^MDC_ECG_HEART_RATE^MDC|1|52|264864^MDC_DIM_BEAT_PER_MIN^MDC"
    words = r"OBX|8|TX|18844-1^EKG impression^LN||Sinus\T\rhythm~Otherwise normal"
    recording = read(message(obr(), monitored("II", ["1.5"], place=1), rate, words))
    heart_rate = recording.annotations[0]
    assert (heart_rate.code, heart_rate.value) == (Code("MDC", "2:16016", ""), 52.0)
    assert heart_rate.unit == "{H.B.}/min"
    assert [each.text for each in recording.vendor_statements] == [
        "Sinus&rhythm",
        "Otherwise normal",
    ]


@pytest.mark.parametrize("encoding", ["Base64", "Hex"])
def test_an_embedded_file_is_read_by_its_own_reader(encoding: str) -> None:
    recording = read(message(obr(), embedding(plain_aecg(), encoding)))
    assert recording.format == "HL7 aECG"
    assert np.array_equal(recording.ecg.signal, synthetic().astype(np.float32))
    assert recording.patient.identifier is None
    assert any("embeds" in note for note in recording.notes)


def test_an_embedded_file_of_another_patient_is_refused() -> None:
    rhythm = series(sequence_set(time(), twelve(steps()[:, :500])))
    other = aecg_of(rhythm, subject='<id extension="P-18"/>')
    same = aecg_of(rhythm, subject='<id extension="P-17"/>')
    assert refusal(message(obr(), embedding(other))) is Reason.AMBIGUOUS
    assert read(message(obr(), embedding(same))).patient.identifier == "P-17"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (message(obr(), embedding(b"%PDF-1.7 ...")), Reason.NOT_RECOGNISED),
        (message(obr(), embedding(plain_aecg()[:900])), Reason.DAMAGED),
        (message(obr(), embedding(plain_message())), Reason.NO_WAVEFORM),
        (message(obr(), *[embedding(plain_aecg())] * 2), Reason.AMBIGUOUS),
        (message(obr(), embedding(b"")), Reason.NOT_RECOGNISED),
        (message(obr()), Reason.NO_WAVEFORM),
        (message(obr(), kind="ADT^A01"), Reason.NOT_AN_ECG),
        (plain_message() * 2, Reason.UNSUPPORTED),
        (message(*[obr()] * 41_000), Reason.TOO_LARGE),
        (message(*[monitored("II", [1], place=n) for n in range(5000)]), Reason.TOO_LARGE),
    ],
)
def test_what_holds_no_ecg_is_refused_with_its_reason(data: bytes, reason: Reason) -> None:
    assert refusal(data) is reason


def test_names_in_another_character_set_are_read_or_noted() -> None:
    data = plain_message().decode().replace("Doe^Ann", "Döe^Ann").encode("latin-1")
    header = data.split(b"\r")[0]
    stated = data.replace(header, header + b"||||||8859/1")
    assert read(stated).patient.name == "Döe^Ann^B^Dr"
    assert "The character set is unknown; texts may be misspelt." in read(data).notes


def test_damage_gives_a_refusal_or_a_recording() -> None:
    rows = [row[:40] for row in millivolts()]
    leads = (monitored(n, r, place=MDC_NUMBERS[n]) for n, r in zip(TWELVE, rows, strict=True))
    by_chapter_7 = message(obr(), definitions(), "OBX|3|MA|5&WAV|1|" + "~".join(["1^-2"] * 50))
    for source in (message(obr(), *leads), by_chapter_7):
        for copy in damaged(source, 300, seed=4):
            with suppress(Undecodable):
                assert read(copy).ecg.samples


# --- real files


def test_the_message_of_a_monitor_holds_the_ecg_it_was_made_of() -> None:
    path = shared("ecg", "hl7v2", "derived_pcd01_12lead_mV_500hz.hl7")
    recording = read(BytesIO(path.read_bytes()))
    assert recording.ecg.signal.shape == (12, 5000)
    assert np.allclose(recording.ecg["I"][:3], [0.028, 0.039, 0.045])
    assert recording.patient.identifier == "DERIV-HL7-1"
    assert recording.notes == ()
