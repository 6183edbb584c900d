"""HL7 aECG: origin, scale and time as stated, one axis for all series, marks in their places."""

from contextlib import suppress
from datetime import datetime

import numpy as np
import pytest
from damage import damaged
from dicom_objects import TWELVE, synthetic
from files_hl7 import (
    aecg,
    annotation,
    annotations,
    lead,
    plain_aecg,
    region,
    sequence_set,
    series,
    steps,
    time,
    twelve,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from support import shared

from analysis.ecg import Code, Lead, Sex
from analysis.errors import Reason, Undecodable
from analysis.formats import read

START = datetime(2024, 1, 2, 3, 4, 5)  # noqa: DTZ001 - the file states no zone


def refusal(data: bytes) -> Reason:
    with pytest.raises(Undecodable) as caught:
        read(data)
    assert caught.value.message.endswith(".")
    return caught.value.reason


def one_lead(*, scale: str = "", origin: str = "", digits: str = "1 2 3", **more: str) -> bytes:
    stated = {"scale": scale or '<scale value="40" unit="uV"/>'}
    stated["origin"] = origin or '<origin value="0" unit="uV"/>'
    return aecg(series(sequence_set(time(), lead("II", digits.split(), **stated, **more))))


def test_twelve_leads_come_back_in_millivolts_with_their_rate_and_start() -> None:
    recording = read(plain_aecg())
    assert recording.format == "HL7 aECG"
    assert recording.ecg.leads == tuple(Lead(name) for name in TWELVE)
    assert np.array_equal(recording.ecg.signal, synthetic().astype(np.float32))
    assert recording.ecg.sampling_frequency == 500.0
    assert recording.ecg.start == recording.acquisition.acquired_at == START
    assert recording.notes == ()


@given(
    st.lists(st.integers(-32768, 32767), min_size=1, max_size=50),
    st.sampled_from(("nV", "uV", "mV")),
    st.integers(1, 20),
    st.integers(-1000, 1000),
)
@settings(max_examples=40, deadline=None)
def test_a_sample_is_origin_plus_scale_times_digit(
    digits: list[int], unit: str, scale: int, origin: int
) -> None:
    millivolts = {"nV": 1e-6, "uV": 1e-3, "mV": 1.0}[unit]
    data = one_lead(
        scale=f'<scale value="{scale}" unit="{unit}"/>',
        origin=f'<origin value="{origin}" unit="{unit}"/>',
        digits=" ".join(map(str, digits)),
    )
    expected = (origin + scale * np.array(digits, np.float64)) * millivolts
    assert np.allclose(read(data).ecg["II"], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "increment",
    ['value="0.002" unit="s"', 'value="2" unit="ms"', 'value="2000" unit="us"'],
)
def test_the_increment_counts_in_its_unit(increment: str) -> None:
    data = aecg(series(sequence_set(time(increment=increment), twelve())))
    assert read(data).ecg.sampling_frequency == 500.0


def test_a_rate_that_is_no_whole_number_is_not_rounded() -> None:
    data = aecg(series(sequence_set(time(increment='value="3.3" unit="ms"'), twelve())))
    assert read(data).ecg.sampling_frequency == 1000.0 / 3.3


@pytest.mark.parametrize(
    ("scale", "origin"),
    [
        ('<scale value="40"/>', ""),
        ('<scale value="40" unit="mm"/>', ""),
        ("<scale/>", ""),
        ('<scale value="0" unit="uV"/>', ""),
        ('<scale value="nan" unit="uV"/>', ""),
        ("", '<origin value="7"/>'),
        ("", "<origin/>"),
        ("", '<origin value="1e300" unit="uV"/>'),
    ],
)
def test_a_scale_or_origin_without_number_or_unit_is_refused(scale: str, origin: str) -> None:
    assert refusal(one_lead(scale=scale, origin=origin)) is Reason.NO_SCALE


def test_integers_without_a_unit_have_no_scale() -> None:
    data = one_lead(scale='<scale value="1"/>', origin='<origin value="0"/>', kind="SLIST_INT")
    assert refusal(data) is Reason.NO_SCALE


@pytest.mark.parametrize(
    "increment",
    ['value="0.002"', 'value="0" unit="s"', 'value="-1" unit="s"', 'value="x" unit="s"',
     'value="2" unit="min"', 'value="1e-320" unit="s"'],
)  # fmt: skip
def test_an_increment_that_says_no_rate_is_refused(increment: str) -> None:
    data = aecg(series(sequence_set(time(increment=increment), twelve())))
    assert refusal(data) is Reason.NO_RATE


def test_a_set_without_a_time_sequence_is_refused() -> None:
    assert refusal(aecg(series(sequence_set(twelve())))) is Reason.NO_RATE


def test_two_time_sequences_that_contradict_each_other_are_refused() -> None:
    both = time() + time('value="0" unit="s"', 'value="4" unit="ms"')
    assert refusal(aecg(series(sequence_set(both, twelve())))) is Reason.AMBIGUOUS


def test_a_file_without_series_holds_no_waveform() -> None:
    assert refusal(aecg()) is Reason.NO_WAVEFORM
    assert refusal(aecg(series())) is Reason.NO_WAVEFORM


def test_null_flavours_are_not_recorded_and_never_zero() -> None:
    recording = read(one_lead(digits="1 NaN PINF ninf NA 6"))
    assert np.isnan(recording.ecg["II"]).tolist() == [False, True, True, True, True, False]
    assert any("4 unknown values" in note for note in recording.notes)


@pytest.mark.parametrize("digits", ["1 2_0 3", "1 0x2 3", "1 2,5 3", "1 --2 3", "1 ٣ 3", "1 1e300"])
def test_a_word_that_is_no_sample_is_refused(digits: str) -> None:
    assert refusal(one_lead(digits=digits)) is Reason.DAMAGED


def test_a_lost_sample_is_noticed_because_the_leads_of_a_set_are_equally_long() -> None:
    short = lead("V1", steps()[6][1:])
    data = aecg(series(sequence_set(time(), lead("II", steps()[1]), short)))
    assert refusal(data) is Reason.DAMAGED


def test_the_representative_beat_is_told_by_its_code_and_not_by_its_place() -> None:
    beat = sequence_set(time('value="0" unit="s"'), twelve(steps()[:, :300]))
    rhythm = sequence_set(time(), twelve())
    first = aecg(series(beat, code="REPRESENTATIVE_BEAT"), series(rhythm))
    derived = "<derivation>" + series(beat, code="REPRESENTATIVE_BEAT", tag="derivedSeries")
    last = aecg(series(rhythm, derived + "</derivation>"))
    for data in (first, last):
        recording = read(data)
        assert recording.ecg.samples == 2000
        assert recording.median_beat is not None
        assert recording.median_beat.samples == 300


def test_a_damaged_median_beat_is_left_out_with_a_note() -> None:
    beat = sequence_set(time('value="0" unit="s"'), lead("II", ["x"]))
    derived = series(beat, code="REPRESENTATIVE_BEAT", tag="derivedSeries")
    rhythm = sequence_set(time(), twelve())
    recording = read(aecg(series(rhythm, f"<derivation>{derived}</derivation>")))
    assert recording.median_beat is None
    assert any(note.startswith("The median beat was left out") for note in recording.notes)


def quarters() -> list[tuple[float, int]]:
    """Return when each quarter of a print begins, and its first row."""
    return [(0.0, 0), (1.0, 3), (2.0, 6), (3.0, 9)]


@pytest.mark.parametrize("relative", [False, True])
def test_leads_of_one_quarter_after_the_other_share_an_axis_with_nan_between(
    relative: bool,  # noqa: FBT001 - which kind of clock
) -> None:
    sets = []
    for second, row in quarters():
        head = f'value="{second}" unit="s"' if relative else f"2024010203040{5 + second:.3f}"
        names = TWELVE[row : row + 3]
        rows = steps()[row : row + 3, round(second * 500) : round(second * 500) + 500]
        leads = (lead(name, each) for name, each in zip(names, rows, strict=True))
        sets.append(sequence_set(time(head), *leads))
    recording = read(aecg(series(*sets)))
    assert recording.ecg.signal.shape == (12, 2000)
    assert recording.ecg.start == START
    for second, row in quarters():
        inside = slice(round(second * 500), round(second * 500) + 500)
        recorded = ~np.isnan(recording.ecg.signal[row])
        assert recorded[inside].all()
        assert recorded.sum() == 500
        assert np.array_equal(
            recording.ecg.signal[row, inside], synthetic()[row, inside].astype(np.float32)
        )
    assert any("share one time axis" in note for note in recording.notes)


def test_pieces_of_one_lead_are_joined_where_they_follow_each_other() -> None:
    pieces = [sequence_set(time(f"2024010203040{5 + n}"), lead("II", [n] * 500)) for n in range(3)]
    ecg = read(aecg(*(series(piece) for piece in pieces))).ecg
    assert np.array_equal(ecg["II"], np.repeat(np.float32([0, 0.04, 0.08]), 500))


def test_of_a_lead_that_stands_twice_at_the_same_time_the_longest_is_taken() -> None:
    short = sequence_set(time(), lead("II", [1] * 500), lead("V1", [2] * 500))
    whole = sequence_set(time(), lead("II", [3] * 2000))
    recording = read(aecg(series(short), series(whole)))
    assert (recording.ecg["II"] == np.float32(0.12)).all()
    assert np.isnan(recording.ecg["V1"][500:]).all()
    assert any(note.startswith("II stands 2 times") for note in recording.notes)


def test_pieces_in_other_scales_are_brought_to_one() -> None:
    fine = lead("II", [40] * 500, scale='<scale value="1" unit="uV"/>')
    sets = [sequence_set(time(), lead("II", [1] * 500)), sequence_set(time("20240102030406"), fine)]
    assert np.allclose(read(aecg(series(*sets))).ecg["II"], 0.04)


@pytest.mark.parametrize("head", ["19700101000000", 'value="1e300" unit="s"'])
def test_series_too_far_apart_are_no_one_recording(head: str) -> None:
    sets = sequence_set(time(), lead("II", [1] * 500)), sequence_set(time(head), lead("V1", [1]))
    assert refusal(aecg(series(*sets))) is Reason.AMBIGUOUS


def test_series_that_do_not_say_when_they_began_are_refused() -> None:
    sets = [sequence_set(time("?"), lead(name, [1] * 50)) for name in ("II", "V1")]
    assert refusal(aecg(series(*sets, low=None))) is Reason.AMBIGUOUS


def test_a_series_of_another_rate_is_left_out_with_a_note() -> None:
    slow = sequence_set(time(increment='value="8" unit="ms"'), lead("V1", [1] * 50))
    recording = read(aecg(series(sequence_set(time(), twelve())), series(slow)))
    assert recording.ecg.samples == 2000
    assert any("another sampling frequency" in note for note in recording.notes)


def test_a_series_that_says_to_last_longer_than_its_samples_is_noted() -> None:
    data = aecg(series(sequence_set(time(), twelve()), high="20240102030415"))
    assert "The series says it lasts 10 s and holds 4 s of samples." in read(data).notes


def test_a_channel_that_is_no_lead_is_left_out_and_other_signals_alone_are_refused() -> None:
    pressure = lead("II", [1, 2, 3]).replace("MDC_ECG_LEAD_II", "MDC_PRESS_BLD_ART_ABP")
    recording = read(aecg(series(sequence_set(time(), lead("II", [1, 2, 3]), pressure))))
    assert recording.ecg.leads == (Lead.II,)
    assert any("PRESS" in note for note in recording.notes)
    assert refusal(aecg(series(sequence_set(time(), pressure)))) is Reason.NOT_AN_ECG


def test_a_code_that_contradicts_its_display_name_is_refused() -> None:
    odd = lead("II", [1]).replace("LEAD_II", 'LEAD_II" displayName="V1')
    assert refusal(aecg(series(sequence_set(time(), odd)))) is Reason.AMBIGUOUS


def test_the_subject_is_copied_as_it_stands() -> None:
    subject = (
        '<id root="1.2.3" extension=" SBJ-1 "/><subjectDemographicPerson><name>Doe <given>A'
        '</given></name><administrativeGenderCode code="F"/><birthTime value="19600102"/>'
        "</subjectDemographicPerson>"
    )
    patient = read(aecg(series(sequence_set(time(), twelve())), subject=subject)).patient
    assert (patient.identifier, patient.name, patient.sex) == ("SBJ-1", "Doe A", Sex.FEMALE)
    assert patient.age == pytest.approx(64, abs=0.1)


@pytest.mark.parametrize(
    ("value", "age"),
    [
        ('value="46" unit="a"', 46.0),
        ('value="6" unit="mo"', 0.5),
        ('value="46"', None),
        ('unit="a"', None),
        ('value="900" unit="a"', None),
    ],
)
def test_a_reported_age_counts_in_its_unit(value: str, age: float | None) -> None:
    before = (
        '<controlVariable><relatedObservation><code code="21612-7"/>'
        f"<value {value}/></relatedObservation></controlVariable>"
    )
    data = aecg(series(sequence_set(time(), twelve())), before=before)
    assert read(data).patient.age == age


def test_the_device_and_its_filters_are_read() -> None:
    def control(kind: str, part: str, hertz: str) -> str:
        inner = f'<code code="{part}"/><value value="{hertz}" unit="Hz"/>'
        return (
            f'<controlVariable><controlVariable><code code="{kind}"/><component>'
            f"<controlVariable>{inner}</controlVariable></component></controlVariable>"
            "</controlVariable>"
        )

    device = (
        "<author><seriesAuthor><manufacturedSeriesDevice><manufacturerModelName>E 1"
        "</manufacturerModelName><softwareName>5.3</softwareName></manufacturedSeriesDevice>"
        "<manufacturerOrganization><name>Maker</name></manufacturerOrganization></seriesAuthor>"
        "</author>"
        + control("MDC_ECG_CTL_VBL_ATTR_FILTER_LOW_PASS", "CUTOFF", "150")
        + control("MDC_ECG_CTL_VBL_ATTR_FILTER_HIGH_PASS", "CUTOFF", "0.05")
        + control("MDC_ATTR_FILTER_NOTCH", "MDC_ATTR_NOTCH_FREQ", "nan")
    )
    made = read(aecg(series(device, sequence_set(time(), twelve())))).acquisition
    assert (made.manufacturer, made.model, made.software) == ("Maker", "E 1", "5.3")
    assert (made.filter_low_frequency, made.filter_high_frequency) == (0.05, 150.0)
    assert made.notch_filter_frequency is None


def test_waves_lie_on_the_samples_of_the_rhythm() -> None:
    p_wave = region(
        (
            "TIME_ABSOLUTE",
            '<value><low value="20240102030405.1"/><high value="20240102030405.2"/></value>',
        )
    )
    t_wave = region(("TIME_RELATIVE", '<value><high value="600" unit="ms"/></value>'))
    peak = region(("TIME_RELATIVE", '<value value="0.32" unit="s"/>'), ("MDC_ECG_LEAD_V2", ""))
    beat = annotation(
        "MDC_ECG_BEAT",
        '<value code="MDC_ECG_BEAT_NORMAL"/>',
        "",
        annotation("MDC_ECG_WAVC", '<value code="MDC_ECG_WAVC_PWAVE"/>', p_wave),
        annotation("MDC_ECG_WAVC", '<value code="MDC_ECG_WAVC_TWAVE"/>', t_wave),
        annotation(
            "MDC_ECG_WAVC_TYPE",
            '<value code="MDC_ECG_WAVC_RWAVE"/>',
            "",
            annotation("MDC_ECG_WAVC_TYPE", '<value code="MDC_ECG_WAVC_PEAK"/>', peak),
        ),
        annotation("MDC_ECG_TIME_PD_PR", '<value value="148" unit="ms"/>'),
    )
    found = read(aecg(series(sequence_set(time(), twelve()), annotations(beat)))).annotations
    kind, p, t, r, pr = found
    assert kind.code == Code("MDC", "MDC_ECG_BEAT_NORMAL", "")
    assert (p.code, p.samples) == (Code("MDC", "10:256", "P wave"), (50.0, 100.0))
    assert (t.text, t.samples) == ("T wave offset", (300.0,))
    assert (r.code, r.samples, r.leads) == (Code("MDC", "10:576", ""), (160.0,), (Lead.V2,))
    assert (pr.code, pr.value, pr.unit) == (Code("MDC", "2:15872", ""), 148.0, "ms")
    assert {each.group for each in found} == {1}


def test_a_mark_outside_the_recording_is_left_out_with_a_note() -> None:
    late = region(("TIME_RELATIVE", '<value value="99" unit="s"/>'))
    item = annotation("MDC_ECG_WAVC", '<value code="MDC_ECG_WAVC_RWAVE"/>', late)
    recording = read(aecg(series(sequence_set(time(), twelve()), annotations(item))))
    assert recording.annotations == ()
    assert "1 marks lie outside the recording and were left out." in recording.notes


def test_the_marks_of_a_representative_beat_lie_nowhere_in_the_rhythm() -> None:
    place = region(("TIME_RELATIVE", '<value><low value="10" unit="ms"/></value>'))
    items = (
        annotation("MDC_ECG_WAVC", '<value code="MDC_ECG_WAVC_PWAVE"/>', place),
        annotation("MDC_ECG_TIME_PD_PR", '<value value="148" unit="ms"/>', place),
    )
    beat = sequence_set(time('value="0" unit="s"'), twelve(steps()[:, :300]))
    derived = series(beat, annotations(*items), code="REPRESENTATIVE_BEAT", tag="derivedSeries")
    rhythm = sequence_set(time(), twelve())
    found = read(aecg(series(rhythm, f"<derivation>{derived}</derivation>"))).annotations
    assert [(each.value, each.samples) for each in found] == [(148.0, ())]


def test_a_misspelt_unit_is_mended_with_a_note_and_an_absent_one_stays_absent() -> None:
    items = (
        annotation("MDC_ECG_HEART_RATE", '<value value="52" unit="bmp"/>'),
        annotation("MDC_ECG_TIME_PD_RR", '<value value="1463"/>'),
    )
    recording = read(aecg(series(sequence_set(time(), twelve()), annotations(*items))))
    assert [each.unit for each in recording.annotations] == ["{H.B.}/min", None]
    assert "The unit bmp was read as beats per minute." in recording.notes


def test_words_of_a_device_are_statements_and_those_of_a_person_are_annotations() -> None:
    words = annotation(
        "MDC_ECG_INTERPRETATION_STATEMENT", "<value>(SB) SINUS\n BRADYCARDIA</value>"
    )
    rhythm = annotation(
        "MDC_ECG_RHY", '<value code="MDC_ECG_RHY_SINUS_RHY" displayName="Sinus Rhythm"/>'
    )
    rows = sequence_set(time(), twelve())
    device = read(aecg(series(rows, annotations(words, rhythm))))
    person = read(aecg(series(rows, annotations(words, author="assignedPerson"))))
    assert [each.text for each in device.vendor_statements] == [
        "(SB) SINUS BRADYCARDIA",
        "Sinus Rhythm",
    ]
    assert person.vendor_statements == ()
    assert [each.text for each in person.annotations] == ["(SB) SINUS BRADYCARDIA"]


def test_a_second_of_calibration_at_the_end_is_cropped_with_a_note() -> None:
    rhythm = np.concatenate([steps(), np.zeros((12, 500), np.int64)], axis=1)
    rhythm[:, -150:-50] = 25
    recording = read(aecg(series(sequence_set(time(), twelve(rhythm)))))
    assert recording.ecg.samples == 2000
    assert any("calibration" in note for note in recording.notes)


@pytest.mark.parametrize("change", ["ITSVersion", "utf-16", "no declaration"])
def test_the_encoding_of_the_bytes_counts_and_not_what_is_declared(change: str) -> None:
    data = plain_aecg()
    if change == "utf-16":
        data = data.decode().encode("utf-16")
    elif change == "no declaration":
        data = data.partition(b"?>")[2]
    else:
        data = data.replace(b"UTF-8", b"UTF-16", 1)
    assert np.array_equal(read(data).ecg.signal, synthetic().astype(np.float32))


def test_more_sequences_than_an_ecg_has_are_refused() -> None:
    many = "".join(sequence_set(time(), lead("II", [1])) for _ in range(2100))
    assert refusal(aecg(series(many))) is Reason.TOO_LARGE


def test_damage_behind_many_comments_is_answered_at_once() -> None:
    data = b"<!-- a cart -->\n" * 60 + b"\0<AnnotatedECG>"
    assert refusal(data) is Reason.NOT_RECOGNISED
    assert read(b"<!-- a cart -->\n" * 60 + plain_aecg().partition(b"?>")[2]).ecg.samples == 2000


def test_damage_gives_a_refusal_or_a_recording() -> None:
    beat = annotation(
        "MDC_ECG_BEAT", "", "", annotation("MDC_ECG_TIME_PD_PR", '<value value="1"/>')
    )
    rows = sequence_set(time(), twelve(steps()[:, :40]))
    source = aecg(series(rows, annotations(beat), low="20240102030405", high="20240102030415"))
    for copy in damaged(source, 400, seed=3):
        with suppress(Undecodable):
            assert read(copy).ecg.samples


# --- real files


def test_the_same_ecg_in_dicom_scp_and_aecg_is_bit_equal() -> None:
    recording = read(shared("ecg", "hl7_aecg", "hl7_official_Example_aECG.xml"))
    other = read(shared("ecg", "dicom_derived", "d01_12lead_ref_explicit.dcm"))
    assert np.array_equal(recording.ecg.select(other.ecg.leads).signal, other.ecg.signal)
    assert recording.median_beat is not None
    assert recording.median_beat.samples == 599
    assert (recording.acquisition.model, recording.patient.identifier) == ("ELI250", "SBJ-123")
    assert [each.text for each in recording.vendor_statements] == ["Sinus Rhythm"]
    first = recording.annotations[1]
    assert (first.code, first.samples) == (Code("MDC", "10:256", ""), (61.0, 112.0))


@pytest.mark.parametrize("name", ["ecgkit_ecg_hl7.xml", "fda_subject1_0.xml"])
def test_copies_of_the_official_example_hold_the_same_samples(name: str) -> None:
    official = read(shared("ecg", "hl7_aecg", "hl7_official_Example_aECG.xml"))
    copy = read(shared("ecg", "hl7_aecg", name))
    assert np.array_equal(copy.ecg.signal, official.ecg.signal)


@pytest.mark.parametrize(
    "name",
    ["", "_effectiveTime_interval", "_effectiveTime_low", "_nouuid"],
)
def test_the_minimum_of_the_fda_is_one_lead_of_thirteen_samples(name: str) -> None:
    ecg = read(shared("ecg", "hl7_aecg", f"fda_minimum_aecg{name}.xml")).ecg
    assert (ecg.leads, ecg.samples, ecg.sampling_frequency) == ((Lead.II,), 13, 500.0)
    assert ecg["II"][-1] == np.float32(-0.0225)


def test_the_empty_file_of_the_fda_holds_no_waveform() -> None:
    path = shared("ecg", "hl7_aecg", "fda_empty.xml")
    assert refusal(path.read_bytes()) is Reason.NO_WAVEFORM


def test_a_vendors_export_with_relative_time_is_read() -> None:
    recording = read(shared("ecg", "hl7_aecg", "cvrg_hl7aecg-Example2.xml"))
    assert recording.ecg.signal.shape == (12, 10000)
    assert recording.ecg.sampling_frequency == 1000.0
    assert recording.annotations[0].unit == "{H.B.}/min"
    assert recording.patient.sex is None


def test_the_export_of_biosig_is_within_one_step_of_its_source() -> None:
    truth = read(shared("ecg", "wfdb", "A0001.hea")).ecg
    export = read(shared("ecg", "derived_biosig", "A0001_biosig.xml")).ecg
    assert export.sampling_frequency == truth.sampling_frequency
    assert np.abs(export.select(truth.leads).signal - truth.signal).max() < 0.001


def test_the_export_of_a_philips_converter_loses_its_calibration_second() -> None:
    name = "sierra_1_04_ad4d3d80_converted.xml"
    recording = read(shared("ecg", "philips_sierra_xml", name))
    assert recording.ecg.samples == 5000
    assert [each.text[:4] for each in recording.vendor_statements] == ["(SB)", "(NPT"]
    assert any("calibration" in note for note in recording.notes)
