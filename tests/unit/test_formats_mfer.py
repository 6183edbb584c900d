"""MFER: definitions by tag, frames of several rates, and nothing that is not stated."""

import struct
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import pytest
from damage import damaged
from dicom_objects import TWELVE, synthetic
from support import shared

from analysis.ecg import Lead, Recording, Sex
from analysis.errors import Reason, Undecodable
from analysis.formats import read

ROWS = [TWELVE.index(name) for name in ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")]
STEP = 0.002


def ecg(leads: int = 8) -> npt.NDArray[np.int64]:
    """Return leads I, II, V1 to V6 in units of 2 µV."""
    return np.rint(synthetic()[ROWS[:leads]] / STEP).astype(np.int64)


def tag(number: int, content: bytes) -> bytes:
    """Return a definition, in the long form of lengths where it must be."""
    size = len(content)
    length = bytes([size]) if size < 128 else b"\x84" + size.to_bytes(4, "big")
    return bytes([number]) + length + content


class Mfer:
    """A writer of one byte order."""

    def __init__(self, order: str = "<") -> None:
        self.order = order

    def number(self, value: int, size: str = "H") -> bytes:
        return struct.pack(self.order + size, value)

    def head(self) -> bytes:
        preamble = tag(0x40, b"MFR Standard 12 leads ECG".ljust(32, b"\0"))
        return preamble + tag(0x01, b"\1" if self.order == "<" else b"\0")

    def interval(self, unit: int = 1, exponent: int = -3, mantissa: int = 2) -> bytes:
        return tag(0x0B, struct.pack("Bb", unit, exponent) + self.number(mantissa))

    def step(self, unit: int = 0, exponent: int = -6, mantissa: int = 2) -> bytes:
        return tag(0x0C, struct.pack("Bb", unit, exponent) + self.number(mantissa))

    def channel(self, number: int, *definitions: bytes) -> bytes:
        content = b"".join(definitions)
        return b"\x3f" + bytes([number, len(content)]) + content

    def lead(self, code: int, words: bytes = b"") -> bytes:
        return tag(0x09, self.number(code) + words)

    def block(self, samples: int) -> bytes:
        return tag(0x04, self.number(samples, "I"))

    def sequences(self, count: int) -> bytes:
        return tag(0x06, self.number(count))

    def channels(self, count: int) -> bytes:
        return tag(0x05, bytes([count]))

    def frame(self, blocks: Sequence[npt.NDArray[np.generic]]) -> bytes:
        """Return samples: each block is (sequences, samples) of one channel."""
        rows = zip(*blocks, strict=True)
        return tag(0x1E, b"".join(part.tobytes() for row in rows for part in row))

    def standard(self, *more: bytes, kind: str = "i2", count: int = 8, sequences: int = 4) -> bytes:
        """Return the leads of `ecg` in sequences of equal blocks, as one file."""
        types = ("i2", "u2", "i4", "u1", "u2", "i1", "u4", "f4", "f8")
        blocks = [lead.reshape(sequences, -1).astype(self.order + kind) for lead in ecg(count)]
        return b"".join(
            (
                self.head(),
                self.interval(),
                self.step(),
                tag(0x0A, bytes([types.index(kind)])),
                self.block(blocks[0].shape[1]),
                self.sequences(sequences),
                self.channels(count),
                *(self.channel(i, self.lead(i + 1)) for i in range(count)),
                *more,
                self.frame(blocks),
                b"\x80\0",
            )
        )


LITTLE = Mfer()


def refusal(data: bytes) -> Reason:
    with pytest.raises(Undecodable) as caught:
        read(data)
    assert caught.value.message.endswith(".")
    return caught.value.reason


def noted(recording: Recording, words: str) -> bool:
    return any(words in note for note in recording.notes)


def whole(recording: Recording, leads: int = 8) -> bool:
    found = np.rint(recording.ecg.signal[:leads] / STEP)
    return np.array_equal(found, ecg(leads)[:, : recording.ecg.samples])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["i2", "i4", "f4", "f8"])
def test_samples_of_every_type_and_order_come_back(order: str, kind: str) -> None:
    recording = read(Mfer(order).standard(kind=kind))
    assert recording.format == "MFER"
    assert recording.ecg.leads[:3] == (Lead.I, Lead.II, Lead.V1)
    assert recording.ecg.sampling_frequency == 500
    assert whole(recording)
    assert recording.notes == ("III, aVR, aVL, aVF computed from the recorded limb leads.",)


@pytest.mark.parametrize("sequences", [1, 2000])
def test_blocks_of_any_size_are_put_together(sequences: int) -> None:
    assert whole(read(LITTLE.standard(sequences=sequences)))


@pytest.mark.parametrize(
    ("interval", "rate"),
    [((0, 0, 500), 500.0), ((0, 1, 25), 250.0), ((1, -6, 1667), 1e6 / 1667), ((1, -4, 20), 500.0)],
)
def test_an_interval_is_hertz_or_seconds_and_is_not_rounded(
    interval: tuple[int, int, int], rate: float
) -> None:
    recording = read(LITTLE.standard(LITTLE.interval(*interval)))
    assert recording.ecg.sampling_frequency == pytest.approx(rate, rel=1e-12)


def test_a_resolution_has_an_exponent() -> None:
    recording = read(LITTLE.standard(LITTLE.step(0, -8, 200)))
    assert whole(recording)


def test_a_channel_takes_its_own_definition_before_that_of_all() -> None:
    recording = read(LITTLE.standard(LITTLE.channel(1, LITTLE.step(0, -6, 4))))
    assert np.array_equal(np.rint(recording.ecg["II"] / (2 * STEP)), ecg()[1])
    assert np.array_equal(np.rint(recording.ecg["I"] / STEP), ecg()[0])


def test_channels_of_other_rates_stand_beside_the_leads_and_are_left_out() -> None:
    leads = [lead.reshape(4, -1).astype("<i2") for lead in ecg(2)]
    slow = np.arange(1000, dtype="<u2").reshape(4, -1)
    data = b"".join(
        (
            LITTLE.head(),
            LITTLE.sequences(4),
            LITTLE.channels(4),
            *(
                LITTLE.channel(i, LITTLE.lead(i + 1), LITTLE.block(500))
                + LITTLE.channel(i, LITTLE.interval(), LITTLE.step())
                for i in range(2)
            ),
            LITTLE.channel(2, LITTLE.lead(143), LITTLE.block(250), tag(0x0A, b"\1")),
            LITTLE.channel(2, LITTLE.interval(1, -3, 4), LITTLE.step(1, 0, 1)),
            LITTLE.channel(3, LITTLE.lead(7), LITTLE.block(250), LITTLE.step()),
            LITTLE.channel(3, LITTLE.interval(1, -3, 4)),
            LITTLE.frame([*leads, slow, slow.astype("<i2")]),
        )
    )
    recording = read(data)
    assert recording.ecg.leads[:2] == (Lead.I, Lead.II)
    assert Lead.V5 not in recording.ecg
    assert whole(recording, 2)
    assert noted(recording, "MFER lead 143")
    assert noted(recording, "V5 has 250 Hz where most leads have 500")


def test_frames_of_one_layout_follow_one_another() -> None:
    first = LITTLE.standard(sequences=1)
    second = first[first.index(b"\x1e\x84") : -2]
    recording = read(first[:-2] + second)
    assert recording.ecg.samples == 4000
    assert np.array_equal(recording.ecg.signal[:, :2000], recording.ecg.signal[:, 2000:])
    other = read(first[:-2] + LITTLE.step(0, -6, 9) + second)
    assert whole(other)
    assert noted(other, "1 frames of another layout")
    placed = first[:-2] + tag(0x07, b"\1\2") + second
    assert refusal(placed) is Reason.UNSUPPORTED


def test_a_dominant_beat_is_the_median_beat_whichever_stands_first() -> None:
    file = LITTLE.standard(sequences=1)
    frame = file[file.index(b"\x1e\x84") : -2]
    beat = tag(0x08, LITTLE.number(9)) + frame
    start = file.index(b"\x1e\x84")
    for data in (
        file[:-2] + beat,
        file[:start] + beat + tag(0x08, LITTLE.number(1)) + frame,
    ):
        recording = read(data)
        assert whole(recording)
        assert recording.median_beat is not None
        assert recording.median_beat.samples == 2000
    assert refusal(file[:start] + beat) is Reason.NO_WAVEFORM


def test_the_sample_for_none_is_none() -> None:
    value = int(ecg()[0, 700])
    recording = read(LITTLE.standard(tag(0x12, struct.pack("<h", value))))
    expected = np.where(ecg() == value, np.nan, ecg())
    assert np.array_equal(np.rint(recording.ecg.signal[:8] / STEP), expected, equal_nan=True)


@pytest.mark.parametrize("bits", [b"\0\0\xc0\x7f", b"\1\0\xa0\x7f"], ids=["quiet", "signalling"])
def test_a_sample_that_is_no_number_is_none(bits: bytes) -> None:
    data = LITTLE.standard(kind="f4")
    at = data.index(b"\x1e\x84") + 6
    recording = read(data[:at] + bits + data[at + 4 :])
    assert np.isnan(recording.ecg["I"][0])
    assert np.isfinite(recording.ecg["I"][1:]).all()


def test_who_when_and_with_what() -> None:
    text = "患者 Ann\0".encode("utf-16-le")
    more = (
        tag(0x17, b"MAKER^Model 1^2.0^serial"),
        tag(0x11, b"HPF=0.05"),
        tag(0x11, b"LPF=150^Bessel"),
        tag(0x11, b"BEF=50Hz"),
        tag(0x82, b"12345\0\0"),
        tag(0x03, b"UTF-16LE\0\0"),
        tag(0x81, text),
        tag(0x03, b""),
        tag(0x83, struct.pack("<BHHBB", 49, 0, 1953, 5, 8)),
        tag(0x84, b"\2"),
        tag(0x85, struct.pack("<HBBBBBHH", 2002, 11, 22, 9, 10, 11, 500, 0)),
        tag(0x16, b"a comment"),
    )
    recording = read(LITTLE.standard(*more))
    patient, acquisition = recording.patient, recording.acquisition
    assert (patient.name, patient.identifier) == ("患者 Ann", "12345")
    assert (patient.age, patient.sex) == (49.0, Sex.FEMALE)
    assert patient.birth_date is not None
    assert (acquisition.manufacturer, acquisition.model) == ("MAKER", "Model 1")
    assert acquisition.software == "2.0"
    assert acquisition.filter_low_frequency == 0.05
    assert acquisition.filter_high_frequency == 150.0
    assert acquisition.notch_filter_frequency == 50.0
    assert recording.ecg.start is not None
    assert recording.ecg.start.isoformat() == "2002-11-22T09:10:11.500000"
    assert noted(recording, "Events, values and comments")


@pytest.mark.parametrize(
    ("age", "impossible"),
    [(b"\xff" * 7, False), (bytes(7), False), (struct.pack("<BHHBB", 255, 0, 1953, 13, 8), True)],
)
def test_an_age_and_birth_date_that_are_not_known_are_none(age: bytes, impossible: bool) -> None:  # noqa: FBT001 - a column of the table
    recording = read(LITTLE.standard(tag(0x83, age)))
    assert (recording.patient.age, recording.patient.birth_date) == (None, None)
    assert noted(recording, "birth date is impossible") is impossible


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (tag(0x0B, b""), Reason.NO_RATE),
        (LITTLE.interval(2, 0, 1), Reason.NO_RATE),
        (LITTLE.interval(1, 0, 0), Reason.NO_RATE),
        (tag(0x0C, b""), Reason.NO_SCALE),
        (LITTLE.step(1, 0, 1), Reason.NO_SCALE),
        (LITTLE.step(0, 0, 0), Reason.NO_SCALE),
        (tag(0x0E, b"\1\0"), Reason.UNSUPPORTED),
        (tag(0x0A, b"\x09"), Reason.UNSUPPORTED),
        (tag(0x0D, b"\1\0"), Reason.UNSUPPORTED),
        (LITTLE.channel(0, tag(0x06, b"\2")), Reason.UNSUPPORTED),
        (b"\x3f\0\x80", Reason.UNSUPPORTED),
        (tag(0x08, LITTLE.number(40)), Reason.NOT_AN_ECG),
        (LITTLE.channels(0), Reason.DAMAGED),
        (LITTLE.channels(7), Reason.DAMAGED),
        (LITTLE.sequences(5), Reason.DAMAGED),
        (LITTLE.sequences(3), Reason.DAMAGED),
        (LITTLE.block(2**32 - 1), Reason.DAMAGED),
        (tag(0x04, b"\1" * 9), Reason.DAMAGED),
        (LITTLE.channel(0, b"\x3f\0\0"), Reason.DAMAGED),
        (LITTLE.channel(0, LITTLE.lead(2)), Reason.AMBIGUOUS),
        (tag(0x80, b""), Reason.NO_WAVEFORM),
        (b"\x16\0" * 20_001, Reason.TOO_LARGE),
    ],
)
def test_what_cannot_be_known_is_refused(more: bytes, reason: Reason) -> None:
    assert refusal(LITTLE.standard(more)) is reason


def test_channels_without_a_lead_are_refused() -> None:
    data = LITTLE.standard(*(LITTLE.channel(i, LITTLE.lead(200 + i)) for i in range(8)))
    assert refusal(data) is Reason.NO_LEADS


def test_samples_that_overflow_are_refused() -> None:
    data = LITTLE.standard(kind="f8")
    at = data.index(b"\x1e\x84") + 6
    assert refusal(data[:at] + struct.pack("<d", 1e300) + data[at + 8 :]) is Reason.DAMAGED


def test_a_file_that_is_cut_is_refused() -> None:
    data = LITTLE.standard()
    for size in (60, 100, len(data) // 2, len(data) - 3):
        assert refusal(data[:size]) in {Reason.DAMAGED, Reason.NO_WAVEFORM}


def test_a_file_may_begin_with_its_byte_order() -> None:
    data = LITTLE.standard()
    start = data.index(b"\x01\x01\x01")
    assert whole(read(data[start:]))


def test_filling_between_definitions_takes_no_time() -> None:
    assert whole(read(LITTLE.standard(bytes(5_000_000))))


@pytest.mark.parametrize("region", [range(200), None])
def test_damage_gives_an_answer_or_a_refusal(region: range | None) -> None:
    answers = 0
    for mutant in damaged(LITTLE.standard(), 400, seed=11, region=region):
        with suppress(Undecodable):
            answers += read(mutant).ecg.samples > 0
    assert answers


def test_the_monitor_file_gives_its_two_leads() -> None:
    """720 s of II and V5 at 250 Hz; three channels of 125 Hz and a status channel beside them."""
    path = shared("ecg", "mfer", "monk_test-file.MWF")
    recording = read(path)
    data = path.read_bytes()
    sequence = [(15000, "<i2"), (15000, "<i2"), *[(7500, "<i2")] * 3, (15000, "<u2")]
    record = np.dtype([(str(i), kind, count) for i, (count, kind) in enumerate(sequence)])
    raw = np.frombuffer(data[data.index(b"\x1e\x84") + 6 :], record, 12)
    assert recording.ecg.leads == (Lead.II, Lead.V5)
    assert recording.ecg.sampling_frequency == 250
    for lead, channel in zip(recording.ecg.signal, ("0", "1"), strict=True):
        samples = raw[channel].ravel()
        expected = np.where(samples == -32768, np.nan, samples * 0.002)
        assert np.array_equal(lead, expected.astype(np.float32), equal_nan=True)
    assert recording.patient.name == "TRWRU"
    assert (recording.patient.age, recording.patient.birth_date) == (None, None)
    assert recording.acquisition.model == "CNS6000"
    assert noted(recording, "status")
