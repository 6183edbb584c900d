"""SCP-ECG: every way to store samples comes back exactly, and no damaged sample passes."""

import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, timedelta, timezone
from itertools import pairwise

import numpy as np
import pytest
from damage import damaged
from dicom_objects import TWELVE, synthetic
from files_scp import (
    DEFAULT,
    OWN,
    Beats,
    Coding,
    Rhythm,
    Samples,
    Scp,
    coded,
    decimated,
    record,
    resealed,
)
from hypothesis import given
from hypothesis import strategies as st
from support import shared

from analysis.ecg import Lead, Recording, Sex
from analysis.errors import Reason, Undecodable
from analysis.formats import read

ROWS = [TWELVE.index(name) for name in ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")]
RECORDED = (Lead.I, Lead.II, Lead.V1, Lead.V2, Lead.V3, Lead.V4, Lead.V5, Lead.V6)
TABLES = {"plain": None, "default table": DEFAULT, "own tables": OWN}
STEP = 0.0025


def ecg(samples: int = 2000) -> Samples:
    """Return eight leads in units of 2.5 µV, with noise of a few units."""
    noise = np.random.default_rng(7).integers(-3, 4, (8, samples))
    signal = np.tile(synthetic()[ROWS], -(-samples // 2000))[:, :samples]
    return np.rint(signal / STEP).astype(np.int64) + noise


def simple(**changes: object) -> Scp:
    return replace(Scp(rhythm=Rhythm(stored=list(ecg()))), **changes)


def units(recording: Recording) -> Samples:
    """Return the recorded leads in units of 2.5 µV."""
    return np.rint(recording.ecg.signal[:8] / STEP).astype(np.int64)


def refusal(data: bytes) -> Undecodable:
    with pytest.raises(Undecodable) as caught:
        read(data)
    assert caught.value.message.endswith(".")
    return caught.value


def noted(recording: Recording, words: str) -> bool:
    return any(words in note for note in recording.notes)


# Samples


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("tables", TABLES.values(), ids=TABLES)
def test_samples_come_back_from_every_coding(order: int, tables: bytes | None) -> None:
    recording = read(simple(coding=Coding(order=order, tables=tables)).data())
    assert recording.format == "SCP-ECG"
    assert recording.ecg.leads[:8] == RECORDED
    assert recording.derived_leads == (Lead.III, Lead.aVR, Lead.aVL, Lead.aVF)
    assert recording.ecg.sampling_frequency == 500
    assert np.array_equal(units(recording), ecg())
    assert recording.ecg.signal[0, 300] == np.float32(ecg()[0, 300] * STEP)
    assert recording.notes == ("III, aVR, aVL, aVF computed from the recorded limb leads.",)


@given(
    samples=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=60),
    order=st.sampled_from([0, 1, 2]),
    tables=st.sampled_from(list(TABLES.values())),
)
def test_any_sixteen_bits_come_back(samples: list[int], order: int, tables: bytes | None) -> None:
    stored = np.array(samples)
    coding = Coding(order=order, tables=tables)
    recording = read(Scp(rhythm=Rhythm(stored=[stored]), coding=coding, leads=[2]).data())
    assert np.array_equal(np.rint(recording.ecg["II"] / STEP), stored)


def test_the_interval_in_whole_microseconds_is_not_rounded_to_a_nicer_rate() -> None:
    recording = read(simple(rhythm=Rhythm(stored=list(ecg()), interval=1667)).data())
    assert recording.ecg.sampling_frequency == 1e6 / 1667
    assert noted(recording, "599.88 Hz stands for what may have been 600 Hz")


def test_leads_of_other_times_share_one_axis() -> None:
    stored = [lead[:500] for lead in ecg()]
    spans = [(101, 600)] * 4 + [(601, 1100)] * 4
    recording = read(simple(rhythm=Rhythm(stored=stored), spans=spans, flags=0).data())
    assert recording.ecg.samples == 1000
    assert np.isfinite(recording.ecg["I"][:500]).all()
    assert np.isnan(recording.ecg["I"][500:]).all()
    assert np.isnan(recording.ecg["V6"][:500]).all()
    assert np.array_equal(np.rint(recording.ecg["V6"][500:] / STEP), stored[7])
    assert noted(recording, "recorded at different times")
    assert noted(recording, "does not say that its leads were recorded at the same time")


def test_leads_keep_their_names_and_unknown_ones_are_left_out() -> None:
    stored = [lead[:100] for lead in ecg()[:4]]
    recording = read(Scp(rhythm=Rhythm(stored=stored), leads=[11, 66, 16, 184]).data())
    assert recording.ecg.leads == (Lead.V3R, Lead.V8, Lead.X)
    assert noted(recording, "SCP-ECG lead 184")


def test_raw_leads_that_no_byte_count_can_state_end_with_a_note() -> None:
    """A Contec script writes 65534 bytes per lead whatever the range says."""
    lead = np.tile(ecg()[0], 20)
    rhythm = Rhythm(stored=[lead[:32767]])
    whole = Scp(rhythm=rhythm, coding=Coding(order=0, tables=None), leads=[1])
    recording = read(replace(whole, spans=[(1, 37855)]).data())
    assert np.array_equal(np.rint(recording.ecg["I"] / STEP), lead[:32767])
    assert noted(recording, "fewer samples than their range says")
    shorter = replace(whole, rhythm=Rhythm(stored=[lead[:2000]]), spans=[(1, 2001)])
    assert refusal(shorter.data()).reason is Reason.DAMAGED


def test_bytes_behind_the_samples_of_a_lead_are_noted() -> None:
    assert noted(read(simple(spans=[(1, 1500)] * 8).data()), "more bytes than their samples need")


# Reference beat and decimation

PLACES = [(0, 101, 151, 260), (0, 501, 551, 660), (1, 901, 951, 1060), (0, 1901, 1990, 2000)]


def beats(multiplier: int = 2500, interval: int = 2000) -> Beats:
    return Beats(
        beat=np.rint(60 * np.sin(np.arange(200) / 9) * np.arange(1, 9)[:, None]).astype(int),
        fiducial=81,
        places=PLACES,
        protected=[(121, 180), (521, 580), (921, 980), (1961, 2000)],
        multiplier=multiplier,
        interval=interval,
    )


def residual(rhythm: Samples, beats: Beats, multiplier: int = 2500) -> Samples:
    """Return what is left when the reference beat is subtracted, in units of the rhythm."""
    left = rhythm.copy()
    for kind, first, fiducial, last in beats.places:
        for at in range(first, last + 1):
            place = at - fiducial + beats.fiducial - 1
            if kind == 0 and 0 <= place < beats.beat.shape[1]:
                left[:, at - 1] -= beats.beat[:, place] * beats.multiplier // multiplier
    return left


@pytest.mark.parametrize("beat_multiplier", [2500, 5000])
@pytest.mark.parametrize("tables", TABLES.values(), ids=TABLES)
def test_a_subtracted_reference_beat_is_added_again(
    tables: bytes | None, beat_multiplier: int
) -> None:
    subtracted = beats(beat_multiplier)
    rhythm = Rhythm(stored=list(residual(ecg(), subtracted)))
    file = simple(rhythm=rhythm, flags=0b101, beats=subtracted, coding=Coding(tables=tables))
    recording = read(file.data())
    assert np.array_equal(units(recording), ecg())
    assert recording.median_beat is not None
    assert recording.median_beat.leads == RECORDED
    assert np.allclose(
        recording.median_beat.signal, subtracted.beat * beat_multiplier / 1e6, atol=1e-6
    )


def test_the_reference_beat_beside_a_whole_rhythm_changes_nothing() -> None:
    recording = read(simple(beats=beats()).data())
    assert np.array_equal(units(recording), ecg())
    assert recording.median_beat is not None
    marks = [mark.samples for mark in recording.annotations]
    assert marks == [(150.0,), (550.0,), (950.0,), (1989.0,)]


def interpolated(stored: Samples, protected: Sequence[tuple[int, int]], length: int) -> list[float]:
    """Return the lead of Annex C sample by sample: level, lines, level, then what was left."""
    inside = {at for first, last in protected for at in range(first - 1, last)}
    values, at, lead = list(stored), 0, []
    while at < length:
        gap = next((other for other in range(at, length) if other in inside), length) - at
        groups, single = divmod(gap, 4)
        knots, values = values[:groups], values[groups:]
        if knots:
            lines = [a + (b - a) * i / 4 for a, b in pairwise(knots) for i in range(4)]
            lead += [knots[0]] * 2 + lines + [knots[-1]] * 2
        at += gap
        while at < length and at in inside:
            single, at = single + 1, at + 1
        lead, values = lead + values[:single], values[single:]
    return lead


@pytest.mark.parametrize("length", [2000, 1998])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_bimodal_compression_is_exact_where_it_counts_and_interpolated_elsewhere(
    order: int, length: int
) -> None:
    kept = beats()
    kept = replace(kept, protected=[*kept.protected[:3], (1961, 1970)])
    left = residual(ecg(), kept)[:, :length]
    stored = [decimated(lead, kept.protected, 4) for lead in left]
    rhythm = Rhythm(stored=stored, interval=8000, bimodal=1)
    coding = Coding(order=order)
    spans = [(1, length)] * 8
    file = simple(rhythm=rhythm, flags=0b101, beats=kept, coding=coding, spans=spans)
    recording = read(file.data())
    assert recording.ecg.sampling_frequency == 500
    assert recording.ecg.samples == length
    assert noted(recording, "one sample in 4 is stored")
    found = np.rint(4 * recording.ecg.signal[:8] / STEP) / 4
    for first, last in kept.protected:
        assert np.array_equal(found[:, first - 1 : last], ecg()[:, first - 1 : last])
    added = ecg()[:, :length] - left
    expected = [interpolated(lead, kept.protected, length) for lead in stored]
    assert np.allclose(found, np.array(expected) + added, atol=0.01)


def test_version_3_has_no_bimodal_compression() -> None:
    rhythm = Rhythm(stored=list(ecg()), bimodal=1)
    assert np.array_equal(units(read(simple(rhythm=rhythm, protocol=30).data())), ecg())


def test_zones_that_do_not_fit_the_stored_samples_are_ambiguous() -> None:
    kept = beats()
    stored = [decimated(lead, kept.protected, 4) for lead in ecg()]
    rhythm = Rhythm(stored=stored, interval=8000, bimodal=1)
    more = replace(kept, protected=kept.protected[:2])
    file = simple(rhythm=rhythm, beats=more, spans=[(1, 2000)] * 8)
    assert refusal(file.data()).reason is Reason.AMBIGUOUS


@pytest.mark.parametrize("missing", [{4: b""}, {5: b""}, {4: b"", 5: b""}])
def test_a_rhythm_without_its_reference_beat_is_refused_not_returned_as_residual(
    missing: dict[int, bytes],
) -> None:
    subtracted = beats()
    rhythm = Rhythm(stored=list(residual(ecg(), subtracted)))
    file = simple(rhythm=rhythm, flags=0b101, beats=subtracted, others=missing)
    assert refusal(file.data()).reason is Reason.DAMAGED


def test_a_subtraction_without_places_is_refused() -> None:
    file = simple(flags=0b101, beats=replace(beats(), places=[]))
    assert refusal(file.data()).reason is Reason.DAMAGED


def test_a_subtraction_of_a_lead_without_its_reference_beat_is_refused() -> None:
    subtracted = beats()
    streams = [b"", *(Coding().stream(lead) for lead in subtracted.beat[1:])]
    file = simple(flags=0b101, beats=subtracted, others={5: coded(streams, 2500, 2000, 2, 0)})
    assert refusal(file.data()).reason is Reason.DAMAGED


def test_marks_outside_the_rhythm_are_left_out() -> None:
    places = [(0, 1, 0, 2), (0, 1, 50, 90), (0, 1, 2001, 90)]
    recording = read(simple(beats=replace(beats(), places=places, protected=[])).data())
    assert [mark.samples for mark in recording.annotations] == [(49.0,)]


def test_a_subtraction_at_another_rate_is_refused() -> None:
    file = simple(flags=0b101, beats=beats(interval=1000))
    assert refusal(file.data()).reason is Reason.UNSUPPORTED


def test_a_median_beat_that_the_rhythm_does_not_need_is_left_out_when_damaged() -> None:
    recording = read(simple(beats=beats(), others={5: b"\0\0"}).data())
    assert np.array_equal(units(recording), ecg())
    assert recording.median_beat is None
    assert noted(recording, "The median beat was left out")


# What is refused


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rhythm": Rhythm(stored=list(ecg()), multiplier=0)}, Reason.NO_SCALE),
        ({"rhythm": Rhythm(stored=list(ecg()), interval=0)}, Reason.NO_RATE),
        ({"rhythm": Rhythm(stored=list(ecg()), interval=60000)}, Reason.NO_RATE),
        ({"leads": (1, 2, 3, 4, 5, 6, 7, 7)}, Reason.AMBIGUOUS),
        ({"leads": range(31, 39)}, Reason.NO_LEADS),
        ({"spans": [(1, 2**32 - 1)] * 8}, Reason.TOO_LARGE),
        ({"spans": [(1, 2**22)] * 8}, Reason.DAMAGED),
        ({"spans": [(0, 1999)] * 8}, Reason.DAMAGED),
        ({"spans": [(9, 8)] * 8}, Reason.DAMAGED),
        ({"others": {6: b""}}, Reason.NO_WAVEFORM),
        ({"others": {3: b""}}, Reason.NO_WAVEFORM),
        ({"others": {3: b"\0\0"}}, Reason.NO_WAVEFORM),
        ({"others": {6: b"", 12: b"long"}}, Reason.UNSUPPORTED),
        ({"others": {6: coded([b"\0\0"] * 8, 2500, 2000, 3, 0)}}, Reason.DAMAGED),
        ({"others": {3: b"\xff\4"}}, Reason.DAMAGED),
        ({"others": {2: b"\0\0"}}, Reason.UNSUPPORTED),
        ({"others": {2: struct.pack("<H", 9)}}, Reason.UNSUPPORTED),
        ({"others": {2: struct.pack("<HHBBBhI", 1, 1, 33, 33, 1, 0, 0)}}, Reason.UNSUPPORTED),
        ({"others": {2: struct.pack("<HHBBBhI", 1, 1, 1, 1, 0, 7, 0)}}, Reason.UNSUPPORTED),
        ({"others": {2: struct.pack("<HH" + 2 * "BBBhI", 1, 2, *2 * (1, 1, 1, 0, 0))}},
         Reason.DAMAGED),
    ],
)  # fmt: skip
def test_what_cannot_be_known_is_refused(changes: dict[str, object], reason: Reason) -> None:
    assert refusal(simple(**changes).data()).reason is reason


def test_codes_that_switch_tables_forever_are_refused() -> None:
    tables = struct.pack("<HHBBBhIHBBBhI", 2, 1, 1, 1, 0, 2, 0, 1, 1, 1, 0, 1, 0)
    assert refusal(simple(others={2: tables}).data()).reason is Reason.DAMAGED


def test_a_makers_own_variant_is_refused_as_such() -> None:
    """Heal Force writes sections without the mark, bytes turned, samples of ten bits."""
    data = bytearray(simple().data())
    data[16:22] = bytes(6)
    assert refusal(bytes(data)).reason is Reason.UNSUPPORTED
    assert np.array_equal(units(read(resealed(bytes(data)))), ecg())


def test_a_record_that_is_cut_is_refused() -> None:
    data = simple().data()
    for size in (40, 200, len(data) // 2, len(data) - 1):
        assert refusal(data[:size]).reason is Reason.DAMAGED


# Checksums


def body_of(number: int, data: bytes) -> range:
    """Return where the body of a section stands in a record."""
    at = 22 + 10 * number
    _, length, first = struct.unpack_from("<HII", data, at)
    return range(first - 1 + 16, first - 1 + length)


def test_no_flipped_bit_changes_a_sample_in_silence() -> None:
    subtracted = beats()
    rhythm = Rhythm(stored=list(residual(ecg(), subtracted)))
    data = simple(rhythm=rhythm, flags=0b101, beats=subtracted).data()
    chance = np.random.default_rng(3)
    for number in (2, 3, 4, 5, 6):
        for _ in range(20):
            mutant = bytearray(data)
            mutant[chance.choice(body_of(number, data))] ^= 1 << chance.integers(8)
            assert refusal(bytes(mutant)).reason is Reason.DAMAGED


def test_a_damaged_section_without_samples_is_left_out_with_a_note() -> None:
    file = simple(tags=[(2, b"4711\0")])
    data = bytearray(file.data())
    data[body_of(1, data)[3]] ^= 1
    recording = read(bytes(data))
    assert recording.patient.identifier is None
    assert noted(recording, "Section 1 was left out")
    assert noted(recording, "The checksum of the record does not match")
    assert np.array_equal(units(recording), ecg())


def test_a_section_is_read_where_the_checksum_of_the_record_confirms_it() -> None:
    data = bytearray(simple().data())
    data[body_of(6, data)[0] - 16] ^= 1
    recording = read(resealed(bytes(data)))
    assert noted(recording, "The checksum of section 6 is wrong")
    assert np.array_equal(units(recording), ecg())


def test_bytes_behind_the_record_and_sections_of_the_maker_are_noted() -> None:
    recording = read(simple(others={9: b"own", 128: b"own"}).data() + b"tail")
    assert noted(recording, "Not read: section 9, 128")
    assert noted(recording, "4 bytes behind the end of the record")


def test_two_sections_of_one_number_are_refused() -> None:
    data = bytearray(simple(others={7: b"\0" * 8}).data())
    data[22 + 70 : 22 + 80] = data[22 + 60 : 22 + 70]
    assert refusal(resealed(bytes(data))).reason is Reason.DAMAGED


# Facts


def device(manufacturer: int = 255, language: int = 0, texts: bytes = b"") -> bytes:
    head = struct.pack("<HHHBB6sBBBB", 0, 0, 0, 0, manufacturer, b"ELI250", 20, 0, language, 0)
    return head + bytes(36 - len(head)) + texts


TAGS = [
    (0, b"Clark\0"),
    (1, b"Ann\0"),
    (2, b"SBJ-123\0junk"),
    (4, struct.pack("<HB", 49, 1)),
    (5, struct.pack("<HBB", 1953, 5, 8)),
    (8, b"\2"),
    (14, device(texts=b"rev\0serial\x00sw 1\0scp\0Maker\0")),
    (25, struct.pack("<HBB", 2002, 11, 22)),
    (26, bytes([9, 10, 11])),
    (27, struct.pack("<H", 5)),
    (28, struct.pack("<H", 150)),
    (29, b"\2"),
]


def with_tags(*changes: tuple[int, bytes]) -> Recording:
    return read(simple(tags=list((dict(TAGS) | dict(changes)).items())).data())


def test_the_header_says_who_when_and_with_what() -> None:
    recording = with_tags()
    patient, acquisition = recording.patient, recording.acquisition
    assert (patient.name, patient.identifier) == ("Clark^Ann", "SBJ-123")
    assert (patient.age, patient.sex) == (49.0, Sex.FEMALE)
    assert patient.birth_date == date(1953, 5, 8)
    assert acquisition.acquired_at is not None
    assert acquisition.acquired_at.isoformat() == "2002-11-22T09:10:11"
    assert recording.ecg.start == acquisition.acquired_at
    assert (acquisition.manufacturer, acquisition.model) == ("Maker", "ELI250")
    assert acquisition.software == "sw 1"
    assert acquisition.filter_low_frequency == 0.05
    assert acquisition.filter_high_frequency == 150.0
    assert acquisition.notch_filter_frequency == 50.0


def test_an_age_may_count_months_and_nothing_says_that_it_is_unknown() -> None:
    assert with_tags((4, struct.pack("<HB", 6, 2)), (5, bytes(4))).patient.age == 0.5
    assert with_tags((4, bytes(3)), (5, bytes(4))).patient.age is None


def test_dates_that_an_anonymiser_turned_are_unknown() -> None:
    recording = with_tags((5, b"\x07\x6c\x01\x01"), (25, b"\x07\xd0\x01\x01"))
    assert recording.patient.birth_date is None
    assert recording.acquisition.acquired_at is None
    assert recording.patient.age == 49.0
    assert noted(recording, "birth date is impossible")
    assert noted(recording, "date or time of acquisition is absent or impossible")


@pytest.mark.parametrize(
    ("offset", "zone"),
    [(60, timezone(timedelta(hours=1))), (0, UTC), (0x7FFF, None), (9000, None)],
)
def test_the_offset_from_utc_is_kept(offset: int, zone: timezone | None) -> None:
    recording = with_tags((34, struct.pack("<hH", offset, 0)))
    assert recording.acquisition.acquired_at is not None
    assert recording.acquisition.acquired_at.tzinfo == zone


@pytest.mark.parametrize(
    ("language", "codec"),
    [(0x00, "latin-1"), (0x13, "iso8859_5"), (0x07, "utf-16-le"), (0x37, "utf-8")],
)
def test_texts_are_decoded_by_the_language_of_the_record(language: int, codec: str) -> None:
    name = "Öberg" if codec == "latin-1" else "Орлов"
    recording = with_tags((0, f"{name}\0".encode(codec)), (1, b""), (14, device(language=language)))
    assert recording.patient.name == name


def test_a_manufacturer_may_be_a_number() -> None:
    assert with_tags((14, device(18))).acquisition.manufacturer == "Picker-Schwarzer"


def test_electrodes_and_a_pacemaker_are_noted() -> None:
    recording = with_tags((33, b"\2\0"), (32, b"\0\1\x2a"))
    assert noted(recording, "Mason-Likar")
    assert noted(recording, "pacemaker")


def test_tags_beyond_their_section_leave_the_patient_unknown() -> None:
    body = struct.pack("<BH", 2, 5) + b"4711\0" + struct.pack("<BH", 0, 9000)
    recording = read(simple(others={1: body}).data())
    assert recording.patient.identifier is None
    assert noted(recording, "Section 1 was left out")


# Results


def test_measurements_have_codes_and_units_and_sentinels_are_no_values() -> None:
    block = struct.pack("<5H3h", 100, 192, 267, 29999, 653, 48, 999, -30)
    body = struct.pack("<BBHH", 1, 0, 800, 29999) + block
    body += struct.pack("<HHHHB", 0, 75, 0, 402, 1)
    recording = read(simple(others={7: body}).data())
    assert [(item.code.meaning, item.value, item.unit) for item in recording.annotations] == [
        ("RR interval global", 800.0, "ms"),
        ("P onset", 100.0, "ms"),
        ("P offset", 192.0, "ms"),
        ("QRS onset", 267.0, "ms"),
        ("T offset", 653.0, "ms"),
        ("P Axis", 48.0, "deg"),
        ("T axis", -30.0, "deg"),
        ("Ventricular Heart Rate", 75.0, "{H.B.}/min"),
        ("QTc global using Bazett formula", 402.0, "ms"),
    ]


def test_measurements_of_a_lead_are_of_that_lead() -> None:
    values = [92, 157, 88, 19999, 17, 42, 0, 0, 0, -115]
    body = struct.pack("<HHHH10h", 1, 0, 3, 20, *values)
    recording = read(simple(others={10: body}).data())
    found = {item.code.value: (item.value, item.unit) for item in recording.annotations}
    assert {item.leads for item in recording.annotations} == {(Lead.V1,)}
    assert found["5.13.5-5"] == (92.0, "ms")
    assert found["5.13.5-7"] == (157.0, "ms")
    assert "5.13.5-11" not in found
    assert found["5.13.5-23"] == (-115.0, "uV")


def test_statements_are_texts_or_codes() -> None:
    head = struct.pack("<BHBBBBBB", 0, 2017, 5, 4, 16, 35, 17, 2)
    texts = struct.pack("<BH", 1, 10) + b"sinusrytm\0" + struct.pack("<BH", 2, 1) + b"\0"
    codes = struct.pack("<BH", 1, 6) + b"\1NORM\0" + struct.pack("<BH", 2, 8) + b"\2unsure\0"
    recording = read(simple(others={8: head + texts, 11: head + codes}).data())
    said = recording.vendor_statements
    assert [statement.text for statement in said] == ["sinusrytm", "NORM", "unsure"]
    assert [statement.code for statement in said] == [None, ("SCPECG", "NORM", "NORM"), None]


@pytest.mark.parametrize("number", [7, 8, 10, 11])
def test_a_result_that_is_cut_is_left_out_with_a_note(number: int) -> None:
    recording = read(simple(others={number: b"\xff" * 12}).data())
    assert noted(recording, f"Section {number} was left out")
    assert np.array_equal(units(recording), ecg())


# Damage


def small() -> bytes:
    kept = replace(beats(), beat=beats().beat[:2], places=PLACES[:2])
    kept = replace(kept, protected=kept.protected[:2])
    stored = [decimated(lead, kept.protected, 4) for lead in residual(ecg()[:2], kept)]
    return Scp(
        rhythm=Rhythm(stored=stored, interval=8000, bimodal=1),
        coding=Coding(tables=OWN),
        leads=(1, 2),
        spans=[(1, 2000)] * 2,
        flags=0b101,
        beats=kept,
        tags=TAGS,
        others={7: b"\1" * 60, 8: b"\0" * 40, 10: b"\1\0" * 30},
    ).data()


@pytest.mark.parametrize("region", [range(700), range(700, 1200)])
def test_damage_that_the_checksum_hides_gives_an_answer_or_a_refusal(region: range) -> None:
    answers = 0
    for mutant in damaged(small(), 400, seed=region.start, region=region):
        with suppress(Undecodable):
            answers += read(resealed(mutant)).ecg.samples > 0
    assert answers


def test_damage_is_never_a_changed_sample() -> None:
    data = small()
    expected = read(data).ecg.signal
    for mutant in damaged(data, 400, seed=9):
        try:
            found = read(mutant)
        except Undecodable:
            continue
        assert np.array_equal(found.ecg.signal, expected)


# Real files


def scp(name: str) -> Recording:
    return read(shared("ecg", "scp", name))


def test_the_record_of_the_conformance_test_is_its_raw_ecg() -> None:
    """Units of 5 µV, so that the raw ECG in µV is met within half a unit."""
    raw = np.frombuffer(shared("ecg", "scp", "pixelmed_PFE105_reference.raw").read_bytes(), "<i2")
    recording = scp("pixelmed_PFE105_redred.scp")
    found = recording.ecg.signal[:8].astype(np.float64) * 1000
    assert recording.ecg.leads[:8] == RECORDED
    assert np.abs(found - raw.reshape(5000, 8).T).max() < 2.5
    assert recording.acquisition.manufacturer == "Picker-Schwarzer"
    assert recording.patient.age == 62.0


def test_the_same_ecg_in_aecg_and_dicom_is_bit_equal() -> None:
    found = scp("ecgtoolkit_Example.scp")
    aecg = read(shared("ecg", "hl7_aecg", "hl7_official_Example_aECG.xml"))
    dicom = read(shared("ecg", "dicom_derived", "d01_12lead_ref_explicit.dcm"))
    variant = scp("cabolabs_Example_variant.scp")
    for other in (aecg, dicom, variant):
        assert np.array_equal(other.ecg.select(found.ecg.leads).signal, found.ecg.signal)
    assert found.median_beat is not None
    assert found.median_beat.samples == 599


def test_a_twin_without_its_patient_has_the_same_samples() -> None:
    known, twin = (
        scp(f"scptools_ECG_20170504_163507_{name}.SCP") for name in ("123456789", "ANON000009")
    )
    assert np.array_equal(known.ecg.signal, twin.ecg.signal)
    assert known.patient.name == "test^test"
    assert twin.patient.birth_date is None
    assert known.ecg.sampling_frequency == 1e6 / 1667
    assert known.vendor_statements[0].text == "sinusrytm (långsam)"
    assert known.acquisition.notch_filter_frequency == 50.0


def test_a_raw_record_without_chest_electrodes_reads() -> None:
    recording = scp("contec_0000050.scp")
    assert (recording.ecg.samples, recording.ecg.sampling_frequency) == (32767, 800.0)
    assert not recording.ecg.select([Lead.V1, Lead.V6]).signal.any()
    assert 1 < recording.ecg["I"].max() < 2
    assert noted(recording, "fewer samples than their range says")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("swifteen_test.scp", Reason.NO_SCALE),
        ("healforce_62_noncompliant.SCP", Reason.UNSUPPORTED),
        ("healforce_63_noncompliant.SCP", Reason.UNSUPPORTED),
    ],
)
def test_real_files_that_cannot_be_trusted_are_refused(name: str, reason: Reason) -> None:
    assert refusal(shared("ecg", "scp", name).read_bytes()).reason is reason


def test_a_record_of_nothing_is_no_waveform() -> None:
    assert refusal(record({})).reason is Reason.NO_WAVEFORM
