"""The DICOM waveform decoder: the same millivolts from every way to store them."""

import json
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_objects import STORED, TWELVE, code, dataset, group, synthetic, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from support import shared

from analysis.ecg import Lead, Recording, Sex
from analysis.errors import Reason, Undecodable
from analysis.formats import read
from analysis.formats.dicom import decode, parse

SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)
STEP = 0.04


def refusal(source: object) -> Reason:
    with pytest.raises(Undecodable) as caught:
        read(source)
    assert caught.value.message.endswith(".")
    return caught.value.reason


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rate=st.sampled_from([100, 250, 500, 1000]),
    unit=st.sampled_from(["uV", "mV", "nV", "V"]),
    order=st.permutations(TWELVE),
    stored=st.sampled_from([*((name, None) for name in STORED), ("SS", 12), ("US", 12)]),
    median=st.sampled_from(["none", "after", "before"]),
    labelled=st.booleans(),
    naming=st.sampled_from(["MDC", "SCPECG", "text"]),
    syntax=st.sampled_from(SYNTAXES),
)
def test_every_way_to_store_an_ecg_gives_the_same_millivolts(
    *,
    rate: int,
    unit: str,
    order: list[str],
    stored: tuple[str, int | None],
    median: str,
    labelled: bool,
    naming: str,
    syntax: str,
) -> None:
    signal = synthetic(rate)
    rows = [TWELVE.index(name) for name in order]
    interpretation, bits = stored
    options = {
        "rate": rate,
        "unit": unit,
        "step": STEP,
        "stored": interpretation,
        "bits": bits,
        "naming": naming,
    }
    rhythm = group(signal[rows], order, label="RHYTHM" if labelled else None, **options)
    beat = group(
        signal[rows, : round(1.2 * rate)],
        order,
        originality="DERIVED",
        label="MEDIAN BEAT" if labelled else None,
        **options,
    )
    groups = {"none": [rhythm], "after": [rhythm, beat], "before": [beat, rhythm]}[median]

    recording = read(written(dataset(groups), syntax))

    assert recording.ecg.leads == tuple(Lead(name) for name in order)
    assert recording.ecg.sampling_frequency == rate
    assert np.abs(recording.ecg.signal - signal[rows]).max() <= STEP
    assert np.abs(recording.ecg.signal - signal[rows]).max() < 1e-4
    assert (recording.median_beat is not None) == (median != "none")
    assert recording.notes == ()


def test_the_real_cart_file_equals_its_samples_times_their_scale_bit_for_bit() -> None:
    path = get_testdata_file("waveform_ecg.dcm")
    recording = read(path)
    raw = pydicom.dcmread(path).waveform_array(0).T / 1.25
    assert np.array_equal(recording.ecg.signal, (np.rint(raw) * (1.25 * 1e-3)).astype("f4"))
    assert recording.ecg.leads == tuple(Lead(name) for name in TWELVE)
    assert recording.median_beat.samples == 1200
    assert recording.format == "DICOM 12-Lead ECG Waveform"


def test_the_real_cart_file_gives_its_patient_device_words_and_marks() -> None:
    recording = read(get_testdata_file("waveform_ecg.dcm"))
    patient = recording.patient
    assert (patient.age, patient.sex, patient.identifier) == (42.0, Sex.FEMALE, "642341")
    assert [s.text for s in recording.vendor_statements] == ["RITMO SINUSALE", "ECG NORMALE"]
    peaks = [a.samples for a in recording.annotations if a.group and a.group >= 100]
    assert len(peaks) == 60
    assert recording.annotations[20].samples == (526.0,)
    values = {a.code.meaning: (a.value, a.unit) for a in recording.annotations if a.unit}
    assert values["QT Interval"] == (368.0, "ms")
    assert recording.acquisition.model == "el250"
    assert recording.acquisition.filter_high_frequency == 300.0
    assert "Anonymous" not in repr(recording.patient)


@pytest.mark.parametrize("preamble", [True, False])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_file_is_recognised_with_and_without_its_preamble(*, syntax: str, preamble: bool) -> None:
    data = written(dataset([group(synthetic())]), syntax, preamble=preamble)
    assert read(data).ecg.samples == 2000
    assert read(written(dataset([group(synthetic())]), syntax)).ecg.samples == 2000


def test_a_bare_dataset_without_file_meta_information_is_read() -> None:
    for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
        data = written(dataset([group(synthetic())]), syntax)
        start = data.index(b"\x08\0\x16\0")
        assert read(data[start:]).ecg.samples == 2000


def test_a_parsed_dataset_decodes_like_its_file_in_every_transfer_syntax() -> None:
    for syntax in SYNTAXES:
        data = written(dataset([group(synthetic())]), syntax)
        parsed = parse(data)
        samples = group(synthetic()).WaveformData
        assert parsed.WaveformSequence[0].WaveformData == samples
        again = decode(parsed)
        assert np.array_equal(again.ecg.signal, read(data).ecg.signal)


def changed(**changes: object) -> bytes:
    """Return an object whose one group has these values; None removes one."""
    part = group(synthetic())
    for keyword, value in changes.items():
        if value is None:
            delattr(part, keyword)
        else:
            setattr(part, keyword, value)
    return written(dataset([part]))


def channel_changed(**changes: object) -> bytes:
    part = group(synthetic())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for definition in part.ChannelDefinitionSequence:
            for keyword, value in changes.items():
                if value is None:
                    delattr(definition, keyword)
                else:
                    element = pydicom.DataElement(
                        pydicom.datadict.tag_for_keyword(keyword),
                        pydicom.datadict.dictionary_VR(keyword),
                        value,
                        validation_mode=0,
                    )
                    definition.add(element)
        return written(dataset([part]))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"SamplingFrequency": None}, Reason.NO_RATE),
        ({"SamplingFrequency": "0"}, Reason.NO_RATE),
        ({"SamplingFrequency": "1e9"}, Reason.NO_RATE),
        ({"SamplingFrequency": "-500"}, Reason.NO_RATE),
        ({"NumberOfWaveformChannels": 1}, Reason.DAMAGED),
        ({"NumberOfWaveformChannels": 0}, Reason.NO_WAVEFORM),
        ({"NumberOfWaveformSamples": 1000}, Reason.DAMAGED),
        ({"NumberOfWaveformSamples": 4_000_000_000}, Reason.DAMAGED),
        ({"ChannelDefinitionSequence": None}, Reason.DAMAGED),
        ({"ChannelDefinitionSequence": []}, Reason.DAMAGED),
        ({"WaveformSampleInterpretation": "UB"}, Reason.DAMAGED),
        ({"WaveformBitsAllocated": 64}, Reason.UNSUPPORTED),
        ({"WaveformData": None}, Reason.NO_WAVEFORM),
        ({"MultiplexGroupLabel": "MEDIAN BEAT"}, Reason.NO_WAVEFORM),
    ],
)
def test_a_group_that_contradicts_itself_is_refused(
    changes: dict[str, Any], reason: Reason
) -> None:
    assert refusal(changed(**changes)) is reason


@pytest.mark.parametrize(
    "changes",
    [
        {"ChannelSensitivity": None},
        {"ChannelSensitivity": "0"},
        {"ChannelSensitivity": "-40"},
        {"ChannelSensitivity": "1e308"},
        {"ChannelSensitivityCorrectionFactor": "1e308"},
        {"ChannelSensitivityCorrectionFactor": "0"},
        {"ChannelBaseline": "1e300"},
        {"ChannelSensitivityUnitsSequence": None},
        {"ChannelSensitivityUnitsSequence": [code("mm[Hg]", "UCUM", "mmHg")]},
        {"ChannelSensitivityUnitsSequence": [code("MV", "UCUM", "megavolt")]},
    ],
)
def test_an_amplitude_that_cannot_be_known_is_refused(changes: dict[str, Any]) -> None:
    assert refusal(channel_changed(**changes)) is Reason.NO_SCALE


@pytest.mark.parametrize("word", [b"nan ", b"inf ", b"4_0 ", b"4\\0 ", b"1e99"])
def test_a_sensitivity_that_is_no_number_is_refused(word: bytes) -> None:
    data = channel_changed(ChannelSensitivity="4321")
    assert refusal(data.replace(b"4321", word)) is Reason.NO_SCALE


def test_an_absent_correction_factor_counts_as_one_with_a_note_unless_only_some_lack_it() -> None:
    recording = read(channel_changed(ChannelSensitivityCorrectionFactor=None))
    assert any("CorrectionFactor" in note for note in recording.notes)
    part = group(synthetic())
    del part.ChannelDefinitionSequence[3].ChannelSensitivityCorrectionFactor
    assert refusal(written(dataset([part]))) is Reason.NO_SCALE


@pytest.mark.parametrize("spelling", ["uV", "uv", "µV"])
def test_spellings_of_the_microvolt_are_read_in_any_character_set(spelling: str) -> None:
    for charset in ("ISO_IR 100", "ISO_IR 192"):
        units = [code(spelling, "UCUM", "microvolt")]
        part = group(synthetic())
        for definition in part.ChannelDefinitionSequence:
            definition.ChannelSensitivityUnitsSequence = units
        data = written(dataset([part], SpecificCharacterSet=charset))
        assert np.abs(read(data).ecg.signal - synthetic()).max() < 1e-4


def test_a_lead_is_known_by_its_code_and_a_different_name_is_noted() -> None:
    part = group(synthetic())
    part.ChannelDefinitionSequence[6].ChannelSourceSequence[0].CodeMeaning = "Lead V2"
    recording = read(written(dataset([part])))
    assert recording.ecg.leads[6] is Lead.V1
    assert any("V1" in note and "V2" in note for note in recording.notes)


def test_two_codes_that_name_two_leads_are_ambiguous() -> None:
    part = group(synthetic())
    part.ChannelDefinitionSequence[0].ChannelSourceSequence.append(
        code("5.6.3-9-2", "SCPECG", "Lead II")
    )
    assert refusal(written(dataset([part]))) is Reason.AMBIGUOUS


def test_the_same_lead_twice_in_a_group_is_ambiguous() -> None:
    names = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V1", "V3", "V4", "V5", "V6")
    assert refusal(written(dataset([group(synthetic(), names)]))) is Reason.AMBIGUOUS


def test_channels_of_no_known_lead_are_left_out_with_a_note() -> None:
    names = (*TWELVE[:11], "HRA 1-2")
    recording = read(written(dataset([group(synthetic(), names, naming="text")])))
    assert len(recording.ecg.leads) == 11
    assert "HRA 1-2" in recording.notes[0]


def test_no_known_lead_at_all_is_refused() -> None:
    names = tuple(f"C{n}" for n in range(12))
    data = written(dataset([group(synthetic(), names, naming="text")]))
    assert refusal(data) is Reason.NO_LEADS


def test_a_pressure_beside_an_ecg_is_left_out_and_a_pressure_alone_is_no_ecg() -> None:
    hemodynamic = "1.2.840.10008.5.1.4.1.1.9.2.1"
    signal = synthetic()[[1, 6]]
    part = group(signal, ("II", "ART"), naming="text")
    part.ChannelDefinitionSequence[1].ChannelSensitivityUnitsSequence[0].CodeValue = "mm[Hg]"
    recording = read(written(dataset([part], SOPClassUID=hemodynamic)))
    assert recording.ecg.leads == (Lead.II,)
    assert "ART" in recording.notes[0]
    alone = group(signal[:1], ("ART",), naming="text")
    alone.ChannelDefinitionSequence[0].ChannelSensitivityUnitsSequence[0].CodeValue = "mm[Hg]"
    data = written(dataset([alone], SOPClassUID=hemodynamic))
    assert refusal(data) is Reason.NOT_AN_ECG


@pytest.mark.parametrize(
    "sop_class",
    [
        "1.2.840.10008.5.1.4.1.1.9.3.1",
        "1.2.840.10008.5.1.4.1.1.9.7.1",
        "1.2.840.10008.5.1.4.1.1.88.33",
        "1.2.840.10008.5.1.4.1.1.104.1",
        "1.2.840.10008.5.1.4.1.1.7",
        "1.2.3",
    ],
)
def test_objects_of_other_classes_are_not_an_ecg(sop_class: str) -> None:
    data = written(dataset([group(synthetic())], SOPClassUID=sop_class))
    assert refusal(data) is Reason.NOT_AN_ECG


def test_missing_limb_leads_are_computed_and_named() -> None:
    rows = [0, 1, *range(6, 12)]
    recording = read(written(dataset([group(synthetic()[rows], [TWELVE[r] for r in rows])])))
    assert recording.derived_leads == (Lead.III, Lead.aVR, Lead.aVL, Lead.aVF)
    assert np.abs(recording.ecg[Lead.aVF] - synthetic()[5]).max() < 1e-4
    assert any("aVF" in note for note in recording.notes)


def test_limb_leads_that_contradict_each_other_are_noted_and_not_changed() -> None:
    signal = synthetic()
    signal[2] += 0.4
    recording = read(written(dataset([group(signal)])))
    assert any("limb leads contradict" in note for note in recording.notes)
    assert np.abs(recording.ecg.signal - signal).max() < 1e-4


def padded(signal: np.ndarray, padding: int) -> bytes:
    part = group(signal)
    part.add_new("WaveformPaddingValue", "OW", np.array(padding, "<i2").tobytes())
    return written(dataset([part]))


def test_a_padding_value_at_the_end_of_the_range_becomes_no_sample() -> None:
    signal = synthetic()
    signal[7, 100:110] = -32768 * STEP
    recording = read(padded(signal, -32768))
    assert np.isnan(recording.ecg[Lead.V2][100:110]).all()
    assert np.isnan(recording.ecg.signal).sum() == 10
    assert len(recording.notes) == 1
    assert any("V2" in note and "10 samples" in note for note in recording.notes)


def test_a_padding_value_that_is_an_ordinary_sample_is_kept_with_a_note() -> None:
    recording = read(padded(synthetic(), 0))
    assert not np.isnan(recording.ecg.signal).any()
    assert any("ordinary sample" in note for note in recording.notes)


def test_a_padding_value_unchanged_for_a_second_is_a_lead_that_was_off() -> None:
    signal = synthetic()
    signal[:, :] += 0.08 * (np.arange(2000) % 2)
    signal[7, 500:1200] = 0.0
    recording = read(padded(signal, 0))
    off = np.isnan(recording.ecg[Lead.V2])
    assert off[500:1200].all()
    assert off.sum() < 1000


def test_twelve_bits_whose_unused_bits_are_zero_get_their_sign() -> None:
    part = group(synthetic(), bits=12)
    stored = np.frombuffer(part.WaveformData, "<i2") & 0x0FFF
    part.WaveformData = stored.astype("<i2").tobytes()
    assert np.abs(read(written(dataset([part]))).ecg.signal - synthetic()).max() < 1e-4


def test_samples_that_need_more_bits_than_declared_are_ambiguous() -> None:
    part = group(synthetic() * 100, bits=12)
    assert refusal(written(dataset([part]))) is Reason.AMBIGUOUS


@pytest.mark.parametrize(
    ("interpretation", "codes", "values"),
    [
        ("MB", [0x00, 0x7F, 0x80, 0xFF, 0x8F, 0x70], [-8031, 0, 8031, 0, 4191, -30]),
        ("AB", [0x55, 0xD5, 0x2A, 0xAA, 0x80, 0x00], [-1, 1, -4032, 4032, 688, -688]),
    ],
)
def test_companded_samples_are_expanded_by_g711(
    interpretation: str, codes: list[int], values: list[int]
) -> None:
    part = group(np.zeros((1, len(codes))), ["I"], stored="UB", step=0.001)
    part.ChannelDefinitionSequence[0].ChannelBaseline = "0"
    part.WaveformSampleInterpretation = interpretation
    part.WaveformData = bytes(codes)
    signal = read(written(dataset([part]))).ecg.signal[0]
    assert np.rint(signal * 1000).astype(int).tolist() == values


def sequential(offsets: list[str | None]) -> bytes:
    signal = synthetic(seconds=10)
    parts = []
    for index, offset in enumerate(offsets):
        rows = slice(3 * index, 3 * index + 3)
        window = slice(1250 * index, 1250 * index + 1250)
        part = group(signal[rows, window], TWELVE[rows], label=f"GROUP {index + 1}")
        if offset is not None:
            part.MultiplexGroupTimeOffset = offset
        parts.append(part)
    return written(dataset(parts))


def test_groups_recorded_one_after_the_other_share_one_time_axis() -> None:
    recording = read(sequential(["0", "2500", "5000", "7500"]))
    signal = synthetic(seconds=10)
    assert recording.ecg.samples == 5000
    for index in range(12):
        recorded = slice(1250 * (index // 3), 1250 * (index // 3) + 1250)
        row = recording.ecg[TWELVE[index]]
        assert np.abs(row[recorded] - signal[index, recorded]).max() < 1e-4
        assert np.isnan(row).sum() == 3750
    assert any("one time axis" in note for note in recording.notes)


def test_groups_that_do_not_say_when_they_began_are_ambiguous() -> None:
    assert refusal(sequential([None, None, None, None])) is Reason.AMBIGUOUS
    assert refusal(sequential(["0", "2500", "1e12", "7500"])) is Reason.AMBIGUOUS


def test_a_rhythm_strip_supplies_its_lead_over_the_whole_time() -> None:
    signal = synthetic(seconds=10)
    short = [group(signal[:3, :1250], TWELVE[:3]), group(signal[6:9, 1250:2500], TWELVE[6:9])]
    strip = group(signal[1:2], ["II"], label="STRIP")
    for part, offset in zip([*short, strip], ("0", "2500", "0"), strict=True):
        part.MultiplexGroupTimeOffset = offset
    recording = read(written(dataset([*short, strip])))
    assert not np.isnan(recording.ecg[Lead.II]).any()
    assert np.isnan(recording.ecg[Lead.I]).sum() == 3750


def test_a_broken_median_beat_is_left_out_and_the_rhythm_read() -> None:
    beat = group(synthetic()[:, :600], originality="DERIVED", label="MEDIAN BEAT")
    beat.NumberOfWaveformSamples = 17
    recording = read(written(dataset([beat, group(synthetic())])))
    assert recording.median_beat is None
    assert any("Group 1 was left out" in note for note in recording.notes)


def test_skew_and_channel_status_are_noted() -> None:
    part = group(synthetic())
    part.ChannelDefinitionSequence[1].ChannelSampleSkew = "2"
    part.ChannelDefinitionSequence[8].ChannelStatus = "DISCONNECTED"
    notes = read(written(dataset([part]))).notes
    assert any("II" in note and "skew" in note for note in notes)
    assert any("V3" in note and "DISCONNECTED" in note for note in notes)


@pytest.mark.parametrize(
    ("facts", "age"),
    [
        ({"PatientAge": "045Y"}, 45),
        ({"PatientAge": "006M"}, 0.5),
        ({"PatientBirthDate": "20000102"}, 24),
        ({"PatientAge": "045Y", "PatientBirthDate": "20000102"}, None),
        ({"PatientBirthDate": "18000102"}, None),
        ({}, None),
    ],
)
def test_age_comes_from_the_object_and_a_contradiction_leaves_it_unknown(
    facts: dict[str, str], age: float | None
) -> None:
    recording = read(written(dataset([group(synthetic())], **facts)))
    assert recording.patient.age == (age if age is None else pytest.approx(age, abs=0.01))


def test_the_time_of_acquisition_carries_its_offset() -> None:
    for at, zone in (("20240102030405.5+0130", None), ("20240102030405.5", "+0130")):
        item = dataset([group(synthetic())], AcquisitionDateTime=at)
        if zone:
            item.TimezoneOffsetFromUTC = zone
        start = read(written(item)).ecg.start
        assert start.isoformat() == "2024-01-02T03:04:05.500000+01:30"


def test_a_name_in_another_script_is_copied_verbatim() -> None:
    name = "Иванов^Иван"
    for charset in ("ISO_IR 144", "ISO_IR 192"):
        data = written(
            dataset([group(synthetic())], SpecificCharacterSet=charset, PatientName=name)
        )
        assert read(data).patient.name == name


def test_an_unspecified_lead_keeps_that_name() -> None:
    part = group(synthetic()[:1], ["I"])
    part.ChannelDefinitionSequence[0].ChannelSourceSequence = [
        code("2:0", "MDC", "Unspecified lead")
    ]
    assert read(written(dataset([part]))).ecg.leads == (Lead.ECG,)


def test_a_deflated_bomb_is_refused_before_it_grows() -> None:
    item = dataset([group(synthetic())])
    item.add_new(0x00091010, "OB", bytes(80 * 2**20))
    assert refusal(written(item, DeflatedExplicitVRLittleEndian)) is Reason.TOO_LARGE


@pytest.mark.parametrize("defined", [True, False])
def test_deep_nesting_is_refused_without_recursing(*, defined: bool) -> None:
    content = b""
    for _ in range(300):
        size = len(content) if defined else 0xFFFFFFFF
        item = b"\xfe\xff\x00\xe0" + size.to_bytes(4, "little") + content
        item += b"" if defined else b"\xfe\xff\x0d\xe0\0\0\0\0"
        size = len(item) if defined else 0xFFFFFFFF
        content = b"\x40\0\x30\xa7SQ\0\0" + size.to_bytes(4, "little") + item
        content += b"" if defined else b"\xfe\xff\xdd\xe0\0\0\0\0"
    assert refusal(written(dataset([])) + content) is Reason.TOO_LARGE


def test_a_flood_of_items_is_refused() -> None:
    flood = b"\xfe\xff\x00\xe0\0\0\0\0" * 300_000
    data = written(dataset([]))
    header = b"\x00\x54\x20\x01SQ\0\0" + len(flood).to_bytes(4, "little")
    assert refusal(data + header + flood) is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"", Reason.NOT_RECOGNISED),
        (b"hello", Reason.NOT_RECOGNISED),
        (bytes(1000), Reason.NOT_RECOGNISED),
        (bytes(128) + b"DICM", Reason.NOT_AN_ECG),
        ("/nowhere/absent.dcm", Reason.UNREADABLE),
        ("/", Reason.UNREADABLE),
        ("a\0b", Reason.UNREADABLE),
    ],
)
def test_what_cannot_be_opened_or_recognised_is_refused(source: object, reason: Reason) -> None:
    assert refusal(source) is reason


def test_a_path_an_open_file_and_bytes_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "anything.at.all"
    path.write_bytes(written(dataset([group(synthetic())])))
    with path.open("rb") as file:
        results = [read(path), read(str(path)), read(path.read_bytes()), read(file)]
    assert all(np.array_equal(r.ecg.signal, results[0].ecg.signal) for r in results)


EXPECTED_REFUSALS = {
    "d06_no_sensitivity.dcm": Reason.NO_SCALE,
    "d31_short_data.dcm": Reason.DAMAGED,
    "d42_ep_intracardiac.dcm": Reason.NOT_AN_ECG,
    "d43_sr_ecg_report.dcm": Reason.NOT_AN_ECG,
    "d53_truncated_mid_waveform.dcm": Reason.DAMAGED,
}


def test_every_derived_file_equals_its_truth_or_is_refused() -> None:
    folder = shared("ecg", "dicom_derived")
    truths = json.loads((folder / "truth.json").read_text())
    assert {path.name for path in folder.glob("*.dcm")} == truths.keys()
    for name, truth in truths.items():
        if name in EXPECTED_REFUSALS:
            assert refusal(folder / name) is EXPECTED_REFUSALS[name], name
        else:
            check(read(folder / name), truth, name)


def check(recording: Recording, truth: dict, name: str) -> None:
    ecg = recording.ecg.select(
        [lead for lead in recording.ecg.leads if lead not in recording.derived_leads]
    )
    leads = [lead for lead in truth["leads"] if lead != "ART"]
    assert list(ecg.leads) == leads, name
    assert ecg.sampling_frequency == truth["fs"], name
    if truth["n"] is None:
        return
    assert ecg.samples == truth["n"], name
    microvolts = ecg.signal.astype(float) * 1000
    tolerance = 0.01  # µV: closer than the 1 LSB asked for
    assert np.abs(microvolts.min(axis=1) - truth["min_uV"]).max() < tolerance, name
    assert np.abs(microvolts.max(axis=1) - truth["max_uV"]).max() < tolerance, name
    assert np.abs(microvolts[:, :3].T - truth["first3_uV"]).max() < tolerance, name
    assert np.abs(microvolts.sum(axis=1) - truth["sum_uV"]).max() < 5, name


@pytest.mark.parametrize(
    "name", ["ecg2dcm_synthetic_muse", "ecgprocess_example-DICOM1", "pixelmed_39da47b7_test_ecg"]
)
def test_real_files_of_other_vendors_equal_their_stored_samples(name: str) -> None:
    path = shared("ecg", "dicom", f"{name}.dcm")
    recording = read(path)
    item = pydicom.dcmread(path).WaveformSequence[0]
    first = item.ChannelDefinitionSequence[0]
    unit = first.ChannelSensitivityUnitsSequence[0].CodeValue
    factor = float(first.ChannelSensitivity) * float(first.ChannelSensitivityCorrectionFactor)
    raw = np.frombuffer(item.WaveformData, "<i2").reshape(-1, 12).T
    expected = raw * factor * {"uV": 1e-3, "mV": 1.0}[unit]
    assert np.abs(recording.ecg.signal - expected).max() < 1e-6
    assert recording.notes == ()


def test_all_combinations_of_storage_and_syntax_agree_on_one_ecg() -> None:
    signal = synthetic()
    for stored, syntax in product(STORED, SYNTAXES):
        data = written(dataset([group(signal, stored=stored)]), syntax)
        assert np.abs(read(data).ecg.signal - signal).max() < 1e-4, (stored, syntax)
