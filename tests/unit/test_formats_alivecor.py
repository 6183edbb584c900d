"""AliveCor ATC: blocks with checksums, read whole or refused."""

import struct
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

import numpy as np
import pytest
from damage import damaged
from support import shared

import analysis
from analysis.ecg import Lead
from analysis.errors import Reason, Undecodable

RATE, RESOLUTION = 300, 500
INFO = ((32, b"2018-10-10T11:13:11-0700"), (40, b"recording"), (44, b""), (32, b"Phone 1"),
        (32, b"App v1"), (32, b"kardia"), (52, b"BAT=55"))  # fmt: skip


def samples(lead: int = 0) -> np.ndarray:
    return (np.sin(np.arange(3000) / 40 + lead) * 1000).astype("<i2")


def block(name: bytes, content: bytes, *, signed: bool = False) -> bytes:
    data = name + struct.pack("<I", len(content)) + content
    total = sum(data) - (256 * sum(byte > 127 for byte in data) if signed else 0)
    return data + struct.pack("<I", total % 2**32)


def layout(flags: int = 0, encoding: int = 1) -> bytes:
    return struct.pack("<BHHBH", encoding, RATE, RESOLUTION, flags, 0)


def info(**changes: bytes) -> bytes:
    date = changes.get("date", INFO[0][1])
    return date.ljust(32, b"\0") + b"".join(text.ljust(size, b"\0") for size, text in INFO[1:])


def blocks(leads: int = 1, flags: int = 0) -> dict[bytes, bytes]:
    names = (b"ecg ", b"ecg2", b"ecg3", b"ecg4", b"ecg5", b"ecg6")
    return {b"info": info(), b"fmt ": layout(flags)} | {
        name: samples(lead).tobytes() for lead, name in enumerate(names[:leads])
    }


def atc(parts: Mapping[bytes, bytes], version: int = 3, *, signed: bool = False) -> bytes:
    head = b"ALIVE\0\0\0" + struct.pack("<I", version)
    return head + b"".join(block(*part, signed=signed) for part in parts.items())


def refusal(data: bytes) -> Reason:
    with pytest.raises(Undecodable) as caught:
        analysis.read(data)
    assert caught.value.message.endswith(".")
    return caught.value.reason


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_lead_one_is_read_in_millivolts(version: int) -> None:
    recording = analysis.read(atc(blocks(), version))
    assert recording.format == "AliveCor ATC"
    assert recording.ecg.leads == (Lead.I,)
    assert recording.ecg.sampling_frequency == RATE
    assert np.allclose(recording.ecg["I"], samples() * (RESOLUTION * 1e-6), atol=1e-7)
    assert recording.notes == ()


def test_six_leads_are_read_by_their_names() -> None:
    recording = analysis.read(atc(blocks(leads=6)))
    assert recording.ecg.leads == (Lead.I, Lead.II, Lead.III, Lead.aVR, Lead.aVL, Lead.aVF)
    assert np.allclose(recording.ecg["aVF"], samples(5) * (RESOLUTION * 1e-6), atol=1e-7)
    assert recording.derived_leads == ()


def test_blocks_may_stand_in_any_order() -> None:
    parts = blocks()
    turned = dict(sorted(parts.items()))
    assert list(turned) != list(parts)
    assert np.array_equal(
        analysis.read(atc(turned)).ecg.signal, analysis.read(atc(parts)).ecg.signal
    )


def test_median_beat_is_kept_apart_from_the_rhythm() -> None:
    beat = samples()[:450].tobytes()
    recording = analysis.read(atc({b"avg ": beat} | blocks(leads=2) | {b"avg2": beat}))
    assert recording.ecg.samples == 3000
    assert recording.median_beat is not None
    assert recording.median_beat.leads == (Lead.I, Lead.II)
    assert recording.median_beat.samples == 450


def test_flags_tell_the_filters() -> None:
    plain = analysis.read(atc(blocks(flags=2))).acquisition
    assert (plain.filter_low_frequency, plain.notch_filter_frequency) == (None, None)
    filtered = analysis.read(atc(blocks(flags=2 + 16 + 32))).acquisition
    assert (filtered.filter_low_frequency, filtered.notch_filter_frequency) == (0.1, 60)
    assert analysis.read(atc(blocks(flags=4))).acquisition.notch_filter_frequency == 50
    assert any("enhanced" in note for note in analysis.read(atc(blocks(flags=64))).notes)


@pytest.mark.parametrize(
    ("stated", "read"),
    [
        (b"2012-04-03T14:17:43-7:00", "2012-04-03T14:17:43-07:00"),
        (b"2018-10-10T11:13:11-0700", "2018-10-10T11:13:11-07:00"),
        (b"2016-06-01T18:15:25.777-04:00", "2016-06-01T18:15:25.777-04:00"),
        (b" " * 32, None),
        (b"2016-13-01T18:15:25", None),
    ],
)
def test_start_is_read_as_apps_write_it(stated: bytes, read: str | None) -> None:
    parts = blocks() | {b"info": info(date=stated)}
    recording = analysis.read(atc(parts))
    assert recording.ecg.start == (datetime.fromisoformat(read) if read else None)
    assert recording.acquisition.model == "kardia"


def test_beats_count_at_a_rate_of_their_own() -> None:
    beats = struct.pack("<I", 600) + struct.pack("<IHIH", 200, 1, 800, 2)
    recording = analysis.read(atc(blocks() | {b"ann ": beats}))
    assert [(item.text, item.samples) for item in recording.annotations] == [
        ("normal beat", (100.0,)),
        ("ventricular beat", (400.0,)),
    ]


def test_checksums_of_signed_bytes_are_checksums_too() -> None:
    assert analysis.read(atc(blocks(), signed=True)).ecg.samples == 3000


@pytest.mark.parametrize("at", [20, 300, 400, 2000])
def test_a_changed_byte_is_refused(at: int) -> None:
    data = bytearray(atc(blocks()))
    data[at] ^= 4
    assert refusal(bytes(data)) is Reason.DAMAGED


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (atc(blocks())[:-3], Reason.DAMAGED),
        (atc(blocks())[:300], Reason.DAMAGED),
        (atc(blocks()) + block(b"ecg ", samples().tobytes()), Reason.DAMAGED),
        (atc(blocks(), version=9), Reason.UNSUPPORTED),
        (atc(blocks() | {b"fmt ": layout(encoding=2)}), Reason.UNSUPPORTED),
        (atc(blocks() | {b"fmt ": layout()[:-1]}), Reason.DAMAGED),
        (atc(blocks() | {b"ecg ": b"\0\0\0"}), Reason.DAMAGED),
        (atc({b"info": info(), b"ecg ": samples().tobytes()}), Reason.NO_RATE),
        (atc({b"info": info(), b"fmt ": layout()}), Reason.NO_WAVEFORM),
        (atc(blocks(leads=0) | {b"ecg ": b""}), Reason.NO_WAVEFORM),
    ],
    ids=lambda item: item if isinstance(item, Reason) else "file",
)
def test_what_is_not_whole_is_refused(data: bytes, reason: Reason) -> None:
    assert refusal(data) is reason


def test_damage_gives_a_refusal_or_the_same_samples() -> None:
    whole = atc(blocks(leads=2))
    expected = analysis.read(whole).ecg.signal
    for mutant in damaged(whole, 500, seed=2):
        with suppress(Undecodable):
            assert np.array_equal(analysis.read(mutant).ecg.signal[:, :3000], expected)


@pytest.mark.parametrize(
    ("name", "leads", "length", "beat"),
    [
        ("atcpy_1_lead", 1, 9000, None),
        ("atcpy_6_lead", 6, 9000, None),
        ("atcpy_6_lead_ab", 6, 9000, 450),
        ("atcpy_6_lead_ef", 6, 9000, None),
        ("atc2json_normal-v2", 1, 9000, None),
        ("atc2json_test_NSR_ef", 1, 8999, None),
    ],
)
def test_real_files_are_read(name: str, leads: int, length: int, beat: int | None) -> None:
    path = shared("ecg", "alivecor_atc", f"{name}.atc")
    recording = analysis.read(path)
    assert (len(recording.ecg.leads), recording.ecg.samples) == (leads, length)
    assert (recording.median_beat and recording.median_beat.samples) == beat
    data = path.read_bytes()
    stored = np.frombuffer(data, "<i2", length, data.rindex(b"ecg ") + 8)
    assert np.allclose(recording.ecg["I"], stored * 5e-4, atol=1e-6)
