"""GE MUSE XML: the rhythm by its type, the baseline subtracted, the CRC never trusted blindly."""

from datetime import date, datetime

import numpy as np
import pytest
from dicom_objects import synthetic
from files_vendor_xml import (
    EIGHT,
    RATE,
    STEP,
    eight,
    muse,
    muse_waveform,
    mutants,
    outcome,
    refusal,
    words,
)
from support import shared

from analysis.ecg import STANDARD_12, Lead, Recording, Sex
from analysis.errors import Reason
from analysis.formats import read

REAL = {
    "braveheart_example1.xml": (-56193, 75365419, 84751),
    "braveheart_example2.xml": (-17823, 142883157, 26711),
    "braveheart_example3.xml": (-50680, 51272008, 55149),
    "synthetic_muse.xml": (442248, 63444260, 36784),
}
"""Sum and sum of squares of the rhythm, sum of the median, in steps, as ecgdatakit 2.0.3 reads."""


def steps(recording: Recording, step: float) -> np.ndarray:
    return np.rint(recording.ecg.select(map(Lead, EIGHT)).signal / step).astype(np.int64)


def test_eight_leads_become_twelve_and_the_median_before_the_rhythm_stays_apart() -> None:
    recording = read(muse().encode("latin-1"))
    assert recording.format == "GE MUSE XML"
    assert np.abs(recording.ecg.select(STANDARD_12).signal - synthetic()).max() < 1e-6
    assert recording.derived_leads == (Lead.III, Lead.aVR, Lead.aVL, Lead.aVF)
    assert recording.ecg.sampling_frequency == RATE
    assert recording.median_beat is not None
    assert np.abs(recording.median_beat.signal - eight(1.2) * STEP).max() < 1e-6
    assert recording.notes == ("III, aVR, aVL, aVF computed from the recorded limb leads.",)


@pytest.mark.parametrize("rhythm_first", [True, False])
def test_the_type_and_not_the_order_says_which_waveform_is_the_rhythm(
    *, rhythm_first: bool
) -> None:
    waveforms = [muse_waveform("Median", eight(1.2)), muse_waveform("Rhythm", eight())]
    recording = read(muse(*reversed(waveforms) if rhythm_first else waveforms).encode())
    assert recording.ecg.samples == eight().shape[1]


def test_what_stands_around_the_samples_is_read() -> None:
    recording = read(muse().encode())
    patient, acquisition = recording.patient, recording.acquisition
    assert (patient.age, patient.sex, patient.birth_date) == (45, Sex.FEMALE, date(1979, 12, 31))
    assert (patient.identifier, patient.name) == ("0815", "Sinus^Nota")
    assert (
        recording.ecg.start
        == acquisition.acquired_at
        == datetime.fromisoformat("2025-08-17T09:15:11")
    )
    assert (acquisition.model, acquisition.software) == ("MAC55", "1.02")
    edges = acquisition.filter_low_frequency, acquisition.filter_high_frequency
    assert edges == (0.56, 150.0)
    assert acquisition.notch_filter_frequency == 50.0


def test_the_baseline_is_the_stored_value_of_no_voltage() -> None:
    text = muse(muse_waveform("Rhythm", eight() + 200)).replace(
        "<FirstSampleBaseline>0<", "<FirstSampleBaseline>200<"
    )
    recording = read(text.encode())
    assert np.abs(recording.ecg.select(STANDARD_12).signal - synthetic()).max() < 1e-6
    assert any("baseline" in note for note in recording.notes)


def test_a_wrong_crc_is_noted_and_a_right_one_is_not() -> None:
    for kind, seconds in (("Rhythm", 4.0), ("Median", 1.2)):
        row = eight(seconds)[2]
        notes = read(muse().replace(words(row), words(row + 1)).encode()).notes
        assert [note for note in notes if f"CRC32 of lead V1 ({kind})" in note]
    assert not [note for note in read(muse().encode()).notes if "CRC32" in note]


def test_no_sample_changes_without_a_note() -> None:
    """Only the samples are damaged; scale and names have no redundancy."""
    text = muse(muse_waveform("Rhythm", eight()))
    sound, data = read(text.encode()), text.encode()
    lead = words(eight()[3]).encode()
    first = data.index(lead)
    for mutant in mutants(data, 300, 1, range(first, first + len(lead))):
        if recording := outcome(mutant):
            same = np.array_equal(recording.ecg.signal, sound.ecg.signal)
            assert same or any("CRC32" in note for note in recording.notes)


@pytest.mark.parametrize(
    ("exponent", "rate"), [("0", 500.0), ("1", 5000.0), ("-1", 50.0), ("", 500.0)]
)
def test_the_rate_is_the_base_times_a_power_of_ten(exponent: str, rate: float) -> None:
    text = muse().replace("<SampleExponent>0<", f"<SampleExponent>{exponent}<")
    assert read(text.encode()).ecg.sampling_frequency == rate


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("<WaveformType>Rhythm<", "<WaveformType>Median<", Reason.NO_WAVEFORM),
        ("<WaveformType>Median<", "<WaveformType>Rhythm<", Reason.AMBIGUOUS),
        ("<SampleBase>500<", "<SampleBase>0<", Reason.NO_RATE),
        ("<SampleBase>500<", "<SampleBase>nan<", Reason.NO_RATE),
        ("<SampleExponent>0<", "<SampleExponent>99<", Reason.NO_RATE),
        ("MICROVOLTS", "APPLES", Reason.NO_SCALE),
        ("PerBit>5.0<", "PerBit><", Reason.NO_SCALE),
        ("PerBit>5.0<", "PerBit>0<", Reason.NO_SCALE),
        ("PerBit>5.0<", "PerBit>1e300<", Reason.NO_SCALE),
        ("Baseline>0<", "Baseline>x<", Reason.NO_SCALE),
        ("<LeadID>II<", "<LeadID>I<", Reason.AMBIGUOUS),
        ("<LeadSampleSize>2<", "<LeadSampleSize>4<", Reason.UNSUPPORTED),
        ("CountTotal>2000<", "CountTotal>1999<", Reason.DAMAGED),
        ("ByteCountTotal>4000<", "ByteCountTotal>99999999999<", Reason.DAMAGED),
        ("<WaveFormData>", "<WaveFormData>=", Reason.DAMAGED),
        ("<WaveFormData>", "<WaveFormData>ä", Reason.DAMAGED),
    ],
)
def test_what_cannot_be_known_is_refused(old: str, new: str, reason: Reason) -> None:
    text = muse()
    assert old in text
    assert refusal(text.replace(old, new)) is reason


def test_leads_that_begin_at_different_times_are_refused() -> None:
    text = muse(muse_waveform("Rhythm", eight()))
    assert refusal(text.replace("TimeOffset>0<", "TimeOffset>4<", 1)) is Reason.UNSUPPORTED


def test_a_damaged_median_beat_is_left_out_with_a_note() -> None:
    recording = read(muse().replace("CountTotal>600<", "CountTotal>601<", 1).encode())
    assert recording.median_beat is None
    assert any(note.startswith("The median beat was left out") for note in recording.notes)


def test_leads_marked_off_and_other_waveforms_are_noted() -> None:
    text = muse(muse_waveform("Rhythm", eight()), muse_waveform("Episode", eight(1.2)))
    notes = read(text.replace("<LeadOff>FALSE<", "<LeadOff>TRUE<", 1).encode()).notes
    assert "The cart marked lead I as off." in notes
    assert "A waveform of type Episode was left out." in notes


DIAGNOSIS = (
    "<{0}><DiagnosisStatement><StmtText>Sinus</StmtText></DiagnosisStatement>"
    "<DiagnosisStatement><StmtFlag>ENDSLINE</StmtFlag><StmtText>{1}</StmtText>"
    "</DiagnosisStatement><DiagnosisStatement><StmtText>Abnormal ECG</StmtText>"
    "</DiagnosisStatement></{0}>"
)


@pytest.mark.parametrize("name", ["Diagnosis", "OriginalDiagnosis"])
def test_statements_are_joined_up_to_the_end_of_their_line(name: str) -> None:
    recording = read(muse(more=DIAGNOSIS.format(name, "rhythm")).encode())
    texts = [statement.text for statement in recording.vendor_statements]
    assert texts == ["Sinus rhythm", "Abnormal ECG"]


def test_an_edited_diagnosis_is_told() -> None:
    more = DIAGNOSIS.format("Diagnosis", "rhythm") + DIAGNOSIS.format("OriginalDiagnosis", "arrest")
    recording = read(muse(more=more).encode())
    assert recording.vendor_statements[0].text == "Sinus rhythm"
    assert any("edited" in note for note in recording.notes)


def test_measurements_beats_and_pacemaker_spikes_carry_codes_and_units() -> None:
    more = (
        "<RestingECGMeasurements><VentricularRate>75</VentricularRate><PRInterval>32767"
        "</PRInterval><RAxis>-20</RAxis></RestingECGMeasurements><QRSTimesTypes><QRS><Type>1"
        "</Type><Time>600</Time></QRS><QRS><Time>9999</Time></QRS></QRSTimesTypes>"
    )
    spikes = (
        "<PaceSpikes><PaceType>VENTRICULAR</PaceType>"
        "<IndexOffsets>10 510 x 99999</IndexOffsets></PaceSpikes>"
    )
    recording = read(muse(muse_waveform("Rhythm", eight(), more=spikes), more=more).encode())
    rate, axis, beat, paced = recording.annotations
    assert (rate.value, rate.unit) == (75.0, "{H.B.}/min")
    assert rate.code is not None
    assert rate.code.value == "2:16016"
    assert (axis.value, axis.unit) == (-20.0, "deg")
    assert (beat.text, beat.samples) == ("QRS of type 1", (300.0,))
    assert (paced.text, paced.samples) == ("Pacemaker spikes VENTRICULAR", (10.0, 510.0))


def test_an_age_that_contradicts_the_birth_date_is_unknown() -> None:
    recording = read(muse().replace("<PatientAge>45<", "<PatientAge>75<").encode())
    assert recording.patient.age is None
    assert any("contradict" in note for note in recording.notes)


@pytest.mark.parametrize(("unit", "age"), [("MONTHS", 45 / 12), ("DAYS", 45 / 365.25), ("", None)])
def test_the_age_counts_in_the_unit_that_is_stated(unit: str, age: float | None) -> None:
    text = muse().replace("12-31-1979", "").replace(">YEARS<", f">{unit}<")
    found = read(text.encode()).patient.age
    assert found == pytest.approx(age)


@pytest.mark.parametrize("seed", range(2))
def test_damage_is_refused_or_read_and_nothing_else(seed: int) -> None:
    for mutant in mutants(muse().encode(), 200, seed):
        outcome(mutant)


@pytest.mark.parametrize("name", REAL)
def test_real_files_have_the_samples_that_another_reader_finds(name: str) -> None:
    recording = read(shared("ecg", "ge_muse_xml", name))
    found = steps(recording, 0.00488)
    assert found.shape == (8, 5000)
    assert (found.sum(), (found**2).sum()) == REAL[name][:2]
    assert recording.median_beat is not None
    assert np.rint(recording.median_beat.signal / 0.00488).sum() == REAL[name][2]
    wrong = [note for note in recording.notes if "CRC32" in note]
    assert bool(wrong) is (name == "synthetic_muse.xml")


def test_the_same_ecg_in_muse_and_in_dicom_is_equal() -> None:
    xml = read(shared("ecg", "ge_muse_xml", "synthetic_muse.xml"))
    dicom = read(shared("ecg", "dicom", "ecg2dcm_synthetic_muse.dcm"))
    recorded = [Lead(name) for name in EIGHT]
    assert np.array_equal(xml.ecg.select(recorded).signal, dicom.ecg.select(recorded).signal)
    derived = xml.ecg.select(STANDARD_12).signal - dicom.ecg.select(STANDARD_12).signal
    assert np.abs(derived).max() < 0.6 * 0.00488, "the file has rounded them to its steps"
    assert xml.median_beat is not None
    assert dicom.median_beat is not None
    medians = (beat.select(recorded).signal for beat in (xml.median_beat, dicom.median_beat))
    assert np.array_equal(*medians)
    assert xml.acquisition.filter_low_frequency == dicom.acquisition.filter_low_frequency
