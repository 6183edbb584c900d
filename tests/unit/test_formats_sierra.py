"""Philips XML: XLI expanded as the carts do, the calibration second cropped, sentinels absent."""

import base64
from datetime import date, datetime

import numpy as np
import numpy.typing as npt
import pytest
from dicom_objects import TWELVE, synthetic
from files_vendor_xml import (
    EIGHT,
    RATE,
    STEP,
    lzw,
    mutants,
    outcome,
    packed,
    refusal,
    sierra,
    sierra_repbeats,
    twelve,
    with_pulse,
    with_residuals,
    words,
    xli,
    xli_chunk,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support import shared

from analysis.ecg import LIMB, STANDARD_12, Lead, Recording, Sex
from analysis.errors import Reason, Undecodable
from analysis.formats import read, sierra_xli

REAL = {
    "cvrg_Philips103Example01.xml": (-155839, 142437973),
    "cvrg_ecg_97082525_1.xml": (-163281, 277379281),
    "jsierra_PhilipsExample02.xml": (-33050, 45533790),
    "seanvelasco_meaning.xml": (-7661290, 21779912346),
    "sierra_1_03_129DYPRG.XML": (-11384, 19240486),
    "sierra_1_03_repbeats_example.xml": (-11384, 19240486),
    "sierra_1_04_01_2020-5-18.xml": (-1660, 114901522),
    "sierra_1_04_ZZDEMOPTONLY_js_variant.xml": (-144290, 274209142),
    "sierra_1_04_ZZDEMOPTONLY_utf16.xml": (-144290, 274209142),
    "sierra_1_04_ad4d3d80_orig.xml": (-7661290, 21779912346),
}
"""Sum and sum of squares of eight leads over ten seconds, in steps of 5 µV, by ecgdatakit 2.0.3."""
ROUNDED_BY_THEMSELVES = {"129DYPRG", "repbeats_example", "ad4d3d80_orig", "seanvelasco"}
"""Their limb leads were filtered one by one, so that they obey the laws to two steps only."""
COLUMNS = arrays(np.int16, st.integers(3, 40), elements=st.integers(-(2**15), 2**15 - 1))


def real(name: str) -> Recording:
    return read(shared("ecg", "philips_sierra_xml", name))


@given(COLUMNS)
def test_a_compressed_channel_expands_to_what_it_was(row: npt.NDArray[np.int16]) -> None:
    """Any second difference: the carts' arithmetic wraps around at 16 bits."""
    assert np.array_equal(sierra_xli.decode(xli_chunk(row.astype(np.int64)), row.size), row[None])


@pytest.mark.parametrize("length", [5500, 60_000])
def test_long_channels_fill_the_table_of_codes_and_still_expand(length: int) -> None:
    row = np.random.default_rng(1).integers(-(2**15), 2**15, length)
    assert np.array_equal(sierra_xli.decode(xli_chunk(row), length)[0], row)


def test_a_code_may_stand_for_the_word_it_completes() -> None:
    row = np.zeros(400, np.int64)
    assert np.array_equal(sierra_xli.decode(xli_chunk(row), 400)[0], row)


@given(arrays(np.int64, (7, 20), elements=st.integers(-5000, 5000)))
def test_residuals_give_back_the_limb_leads(rows: npt.NDArray[np.int64]) -> None:
    stored = with_residuals(rows).astype(np.int16)
    assert np.array_equal(sierra_xli.with_limb_leads(stored), rows)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize(
    ("kind", "version"),
    [("SierraECG", "1.03"), ("PhilipsECG", "1.04"), ("PhilipsECG", "1.04.01")],
)
def test_every_version_is_read_compressed_or_not(
    *, compressed: bool, kind: str, version: str
) -> None:
    recording = read(sierra(compressed=compressed, kind=kind, version=version).encode())
    assert recording.format == f"Philips XML {version}"
    assert recording.ecg.leads == STANDARD_12
    assert np.abs(recording.ecg.signal - synthetic()).max() < 1e-6
    assert recording.ecg.sampling_frequency == RATE


def test_samples_may_stand_as_plain_numbers() -> None:
    plain = " ".join(map(str, with_pulse(twelve()).ravel().tolist()))
    recording = read(sierra(compressed=False, data=plain, dataencoding="Plain").encode())
    assert np.abs(recording.ecg.signal - synthetic()).max() < 1e-6


def test_unsigned_samples_with_an_offset_are_read() -> None:
    rows = with_pulse(twelve()) + 40_000
    recording = read(
        sierra(rows, compressed=False, signaloffset=40_000, signalsigned=False).encode()
    )
    assert np.abs(recording.ecg.signal - synthetic()).max() < 1e-6


def test_signals_that_wrap_around_are_read_as_they_were() -> None:
    """Second differences beyond 16 bits overflow other readers, or come out 65536 steps off."""
    rows = twelve()
    rows[6, ::50], rows[6, 25::50] = 30_000, -30_000
    recording = read(sierra(with_pulse(rows)).encode())
    assert np.array_equal(np.rint(recording.ecg[Lead.V1] / STEP), rows[6])


def test_the_last_second_is_cropped_where_it_ends_with_the_pulse() -> None:
    recording = read(sierra().encode())
    assert recording.ecg.samples == twelve().shape[1]
    assert any("calibration" in note for note in recording.notes)


def test_nothing_is_cropped_where_there_is_no_pulse() -> None:
    recording = read(sierra(pulse=False).encode())
    assert np.abs(recording.ecg.signal - synthetic()).max() < 1e-6
    assert recording.notes == ()


def test_a_lead_without_the_pulse_that_others_have_is_damaged() -> None:
    rows = with_pulse(twelve())
    rows[8, -60:] += 3
    assert refusal(sierra(rows)) is Reason.DAMAGED


def test_no_sample_changes_silently() -> None:
    """Second differences carry every fault to the pulse at the end."""
    data = sierra(with_pulse(twelve(2.0)), repbeats="").encode()
    sound = read(data).ecg.signal
    first = data.index(b">", data.index(b"<parsedwaveforms")) + 1
    region = range(first, data.index(b"</parsedwaveforms"))
    for mutant in mutants(data, 400, 1, region):
        recording = outcome(mutant)
        assert recording is None or np.array_equal(recording.ecg.signal, sound)


def test_sentinels_of_the_median_beat_are_no_samples() -> None:
    median = read(sierra().encode()).median_beat
    assert median is not None
    assert np.abs(median.signal[:, :600] - twelve(1.2) * 0.0025).max() < 1e-6
    assert np.isnan(median.signal[:, 600:]).all()


def test_the_median_beat_has_a_rate_and_a_resolution_of_its_own() -> None:
    beats = sierra_repbeats(samplespersec=1000, resolution="1.0").replace('"2400"', '"1200"')
    median = read(sierra(repbeats=beats).encode()).median_beat
    assert median is not None
    assert median.sampling_frequency == 1000
    assert np.nanmax(np.abs(median.signal[:, :600] - twelve(1.2) * 0.001)) < 1e-6


@pytest.mark.parametrize(
    "changes",
    [{"samplespersec": ""}, {"resolution": ""}, {"compression": "XLI"}, {"samplespersec": 400}],
)
def test_a_median_beat_that_says_too_little_is_left_out(changes: dict[str, str]) -> None:
    recording = read(sierra(repbeats=sierra_repbeats(**changes)).encode())
    assert recording.median_beat is None
    assert any(note.startswith("The median beat was left out") for note in recording.notes)


def test_the_first_version_names_its_leads_by_the_acquisition_type() -> None:
    details = "<signalcharacteristics><acquisitiontype>{}</acquisitiontype><numberchannelsvalid>12"
    details += "</numberchannelsvalid></signalcharacteristics></dataacquisition>"
    text = sierra(kind="SierraECG", version="1.03", leadlabels="")
    known = text.replace("</dataacquisition>", details.format("STD-12"))
    assert read(known.encode()).ecg.leads == STANDARD_12
    assert refusal(text.replace("</dataacquisition>", details.format("15-LEAD"))) is Reason.NO_LEADS
    assert refusal(text) is Reason.NO_LEADS


def test_channels_beyond_the_named_ones_are_noted_where_they_hold_a_signal() -> None:
    rows = with_pulse(np.concatenate([twelve(), twelve()[6:9]]))
    data = base64.b64encode(xli(with_residuals(rows))).decode()
    recording = read(sierra(data=data).encode())
    assert recording.ecg.leads == STANDARD_12
    assert any("3 more channels" in note for note in recording.notes)


def test_named_leads_beyond_twelve_are_read() -> None:
    rows = with_pulse(np.concatenate([twelve(), twelve()[6:9]]))
    data = base64.b64encode(xli(with_residuals(rows))).decode()
    labels = " ".join((*TWELVE, "V3R", "V4R", "V7"))
    recording = read(sierra(data=data, leadlabels=labels, numberofleads=15).encode())
    assert recording.ecg.leads == (*STANDARD_12, Lead.V3R, Lead.V4R, Lead.V7)


@pytest.mark.parametrize("declared", ["utf-8", "utf-16"])
def test_the_bytes_and_not_the_declaration_say_what_encoding_it_is(declared: str) -> None:
    assert read(sierra().encode(declared)).patient.identifier == "0815"


def test_what_stands_around_the_samples_is_read() -> None:
    recording = read(sierra().encode())
    patient, acquisition = recording.patient, recording.acquisition
    assert (patient.sex, patient.birth_date) == (Sex.FEMALE, date(1979, 12, 31))
    assert patient.age == pytest.approx(45.63, abs=0.01), "and not the default age of the cart"
    assert (patient.identifier, patient.name) == ("0815", "Sinus^Nota")
    assert acquisition.acquired_at == datetime.fromisoformat("2025-08-17T09:15:11")
    assert (acquisition.manufacturer, acquisition.model) == ("Philips", "PageWriter TC")
    assert acquisition.software == "A.07"
    edges = acquisition.filter_low_frequency, acquisition.filter_high_frequency
    assert (*edges, acquisition.notch_filter_frequency) == (0.05, 150.0, None)
    texts = [statement.text for statement in recording.vendor_statements]
    assert texts == ["ABNORMAL ECG", "SINUS BRADYCARDIA: V-rate<60"]
    assert recording.vendor_statements[1].code == ("99PHILIPS", "SB", "")
    values = {item.code.value: item.value for item in recording.annotations if item.code}
    assert values == {"2:16016": 41.0, "2:15880": 466.0}


def test_edited_statements_and_further_interpretations_are_told() -> None:
    text = sierra().replace("<statement>", '<statement editedflag="True">')
    text = text.replace("</interpretations>", "<interpretation/></interpretations>")
    notes = read(text.encode()).notes
    assert "Of 2 interpretations the first was read." in notes
    assert any("edited" in note for note in notes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": "MortaraECG"}, Reason.UNSUPPORTED),
        ({"version": "1.05"}, Reason.UNSUPPORTED),
        ({"version": ""}, Reason.UNSUPPORTED),
        ({"compression": "ZIP"}, Reason.UNSUPPORTED),
        ({"dataencoding": "Hex"}, Reason.UNSUPPORTED),
        ({"bitspersample": 12}, Reason.UNSUPPORTED),
        ({"resolution": ""}, Reason.NO_SCALE),
        ({"resolution": "1e400"}, Reason.NO_SCALE),
        ({"resolution": "1e9"}, Reason.NO_SCALE),
        ({"signaloffset": "x"}, Reason.NO_SCALE),
        ({"samplespersecond": 0}, Reason.NO_RATE),
        ({"samplespersecond": "nan"}, Reason.NO_RATE),
        ({"numberofleads": 0}, Reason.DAMAGED),
        ({"durationperchannel": 4999}, Reason.DAMAGED),
        ({"durationperchannel": 0}, Reason.DAMAGED),
        ({"durationperchannel": "1e15"}, Reason.TOO_LARGE),
        ({"durationperchannel": "1e7"}, Reason.TOO_LARGE),
        ({"leadlabels": "V1 V2 V3", "numberofleads": 3}, Reason.UNSUPPORTED),
        ({"leadlabels": " ".join(TWELVE[:11]) + " V5"}, Reason.AMBIGUOUS),
        ({"data": "%%"}, Reason.DAMAGED),
        ({"data": ""}, Reason.NO_WAVEFORM),
        ({"data": "AAAA"}, Reason.DAMAGED),
    ],
)
def test_what_cannot_be_known_is_refused(changes: dict[str, object], reason: Reason) -> None:
    assert refusal(sierra(**changes)) is reason  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"compression": ""}, {"compressflag": "False"}])
def test_uncompressed_samples_of_another_length_are_refused(changes: dict[str, str]) -> None:
    data = words(twelve().ravel()[:-1])
    assert refusal(sierra(data=data, **changes)) is Reason.DAMAGED  # type: ignore[arg-type]


def chunk(data: bytes, length: int | None = None, kind: int = 1) -> bytes:
    return (
        (len(data) if length is None else length).to_bytes(4, "little", signed=True)
        + bytes([kind, 0, 0, 0])
        + data
    )


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0",
        chunk(b"", 2**31 - 1),
        chunk(b"\0", -1),
        chunk(b""),
        chunk(lzw(bytes(8))[:-2]),
        chunk(lzw(bytes(10))),
        chunk(lzw(bytes(6))),
        chunk(packed([0, 999, 1023])),
        chunk(packed([300, 1023])),
        chunk(packed([1023])),
        chunk(packed([0] * 10_000)),
    ],
)
def test_a_chunk_that_lies_is_damaged(data: bytes) -> None:
    with pytest.raises(Undecodable) as caught:
        sierra_xli.decode(data, 4)
    assert caught.value.reason is Reason.DAMAGED


def test_more_channels_than_any_cart_has_are_too_large() -> None:
    with pytest.raises(Undecodable) as caught:
        sierra_xli.decode(65 * chunk(lzw(bytes(8))), 4)
    assert caught.value.reason is Reason.TOO_LARGE


def test_a_chunk_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(Undecodable) as caught:
        sierra_xli.decode(chunk(lzw(bytes(8)), kind=2), 4)
    assert caught.value.reason is Reason.UNSUPPORTED


@pytest.mark.parametrize("seed", range(2))
def test_damage_is_refused_or_read_and_nothing_else(seed: int) -> None:
    for mutant in mutants(sierra(with_pulse(twelve(2.0))).encode(), 200, seed):
        outcome(mutant)


@pytest.mark.parametrize("name", REAL)
def test_real_files_have_the_samples_that_another_reader_finds(name: str) -> None:
    recording = real(name)
    found = np.rint(recording.ecg.select(map(Lead, EIGHT)).signal / STEP).astype(np.int64)
    assert found.shape == (8, 5000)
    assert (found.sum(), (found**2).sum()) == REAL[name]
    assert recording.ecg.leads == STANDARD_12
    assert any("calibration" in note for note in recording.notes)


@pytest.mark.parametrize("name", REAL)
def test_limb_leads_of_real_files_obey_goldberger_to_half_a_step(name: str) -> None:
    """As they do only if the residuals are taken from halves that are cut towards zero."""
    limbs = np.rint(real(name).ecg.select(LIMB).signal.astype(np.float64) / STEP)
    one, two, three, right, left, foot = limbs
    off = np.stack([2 * right + one + two, 2 * left - one + three, 2 * foot - two - three])
    loose = any(word in name for word in ROUNDED_BY_THEMSELVES)
    assert np.abs(off).max() <= (3 if loose else 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sierra_1_04_ZZDEMOPTONLY_utf16.xml", "sierra_1_04_ZZDEMOPTONLY_js_variant.xml"),
        ("sierra_1_04_ad4d3d80_orig.xml", "seanvelasco_meaning.xml"),
    ],
)
def test_the_same_ecg_in_utf_8_and_utf_16_is_bit_equal(one: str, other: str) -> None:
    first, second = real(one), real(other)
    assert np.array_equal(first.ecg.signal, second.ecg.signal)
    assert first.median_beat is not None
    assert second.median_beat is not None
    assert np.array_equal(first.median_beat.signal, second.median_beat.signal, equal_nan=True)


def test_philips_own_conversion_to_aecg_has_no_bias_against_the_original() -> None:
    """It filters anew, up to 20 µV apart; halves rounded down would be 0.9 µV off in the mean."""
    original = real("sierra_1_04_ad4d3d80_orig.xml").ecg
    converted = real("sierra_1_04_ad4d3d80_converted.xml").ecg
    difference = converted.select(LIMB).signal[:, :5000] - original.select(LIMB).signal
    assert np.abs(difference).max() < 0.0201
    assert np.abs(difference.mean(axis=1)).max() < 0.0003


@pytest.mark.parametrize("name", ["sierra_invalid-doc-type.xml", "sierra_invalid-doc-version.xml"])
def test_other_documents_and_versions_are_refused(name: str) -> None:
    with pytest.raises(Undecodable) as caught:
        real(name)
    assert caught.value.reason is Reason.UNSUPPORTED


def test_beats_of_real_files_keep_their_rate_and_lose_their_sentinels() -> None:
    demo = real("sierra_1_04_ZZDEMOPTONLY_utf16.xml").median_beat
    touch = real("sierra_1_04_01_2020-5-18.xml").median_beat
    assert demo is not None
    assert touch is not None
    assert (demo.sampling_frequency, touch.sampling_frequency) == (500.0, 1000.0)
    assert np.isnan(demo.signal).sum() == 7200
    assert np.nanmax(np.abs(demo.signal)) < 5
    assert real("jsierra_PhilipsExample02.xml").median_beat is None, "it states no resolution"


def test_three_channels_of_a_paediatric_file_have_no_name() -> None:
    assert any("3 more channels" in note for note in real("cvrg_ecg_97082525_1.xml").notes)
