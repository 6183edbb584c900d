"""WFDB records: millivolts as stated, and nothing that the header leaves unsaid."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import wfdb
from dicom_objects import TWELVE, synthetic
from support import shared

from analysis.ecg import Lead, Sex
from analysis.errors import Reason, Undecodable
from analysis.formats import read


def record(
    folder: Path,
    *,
    units: str = "mV",
    names: Sequence[str] = TWELVE,
    comments: Sequence[str] = (),
    fmt: str = "16",
) -> Path:
    scale = {"mV": 1.0, "uV": 1000.0, "V": 0.001}.get(units, 1.0)
    signal = synthetic()[: len(names)].T * scale
    wfdb.wrsamp(
        "rec",
        fs=500,
        units=[units] * len(names),
        sig_name=list(names),
        p_signal=signal,
        fmt=[fmt] * len(names),
        adc_gain=[200.0 / scale] * len(names),
        baseline=[0] * len(names),
        comments=list(comments),
        write_dir=str(folder),
    )
    return folder / "rec.hea"


def refusal(path: Path) -> Reason:
    with pytest.raises(Undecodable) as caught:
        read(path)
    assert caught.value.message.endswith(".")
    return caught.value.reason


def edited(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize("units", ["mV", "uV", "V"])
@pytest.mark.parametrize("fmt", ["16", "24", "32"])
def test_every_unit_of_voltage_becomes_millivolts(tmp_path: Path, units: str, fmt: str) -> None:
    recording = read(record(tmp_path, units=units, fmt=fmt))
    assert recording.ecg.leads == tuple(Lead(name) for name in TWELVE)
    assert np.abs(recording.ecg.signal - synthetic()).max() < 1e-4
    assert recording.format == "WFDB"
    assert recording.notes == ()


def test_a_missing_sample_is_nan(tmp_path: Path) -> None:
    path = record(tmp_path)
    data = bytearray((tmp_path / "rec.dat").read_bytes())
    data[24:26] = b"\x00\x80"
    (tmp_path / "rec.dat").write_bytes(data)
    assert np.isnan(read(path).ecg.signal[0, 1])


def test_other_units_are_refused(tmp_path: Path) -> None:
    assert refusal(record(tmp_path, units="mmHg")) is Reason.NO_SCALE


def test_unknown_signals_are_left_out_with_a_note_and_none_known_is_refused(tmp_path: Path) -> None:
    recording = read(record(tmp_path, names=("MLII", "RESP")))
    assert recording.ecg.leads == (Lead.MLII,)
    assert "RESP" in recording.notes[0]
    assert refusal(record(tmp_path, names=("RESP", "ABP"))) is Reason.NOT_AN_ECG
    assert refusal(record(tmp_path, names=("one", "two"))) is Reason.NO_LEADS


def test_the_same_lead_twice_is_ambiguous(tmp_path: Path) -> None:
    assert refusal(record(tmp_path, names=("V1", "v1"))) is Reason.AMBIGUOUS


def test_a_header_without_rate_or_gain_is_refused_not_filled_in(tmp_path: Path) -> None:
    path = edited(record(tmp_path, names=("I",)), "rec 1 500 2000", "rec 1")
    assert refusal(path) is Reason.NO_RATE
    path = edited(record(tmp_path, names=("I",)), "200.0(0)/mV", "0(0)/mV")
    assert refusal(path) is Reason.NO_SCALE


@pytest.mark.parametrize("name", ["../rec.dat", "/etc/passwd", "s3://bucket/rec.dat", "gone.dat"])
def test_a_header_reaches_no_file_but_those_beside_it(tmp_path: Path, name: str) -> None:
    path = edited(record(tmp_path, names=("I",)), "rec.dat", name)
    assert refusal(path) in {Reason.UNREADABLE, Reason.DAMAGED}


def test_a_cut_signal_file_is_refused(tmp_path: Path) -> None:
    path = record(tmp_path)
    (tmp_path / "rec.dat").write_bytes((tmp_path / "rec.dat").read_bytes()[:1000])
    assert refusal(path) is Reason.DAMAGED


def test_an_absurd_length_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = edited(record(tmp_path, names=("I",)), "rec 1 500 2000", "rec 1 500 999999999999")
    assert refusal(path) is Reason.TOO_LARGE


def test_a_changed_sample_is_noted_by_its_checksum(tmp_path: Path) -> None:
    path = record(tmp_path)
    data = bytearray((tmp_path / "rec.dat").read_bytes())
    data[500] ^= 8
    (tmp_path / "rec.dat").write_bytes(data)
    assert any("checksum" in note for note in read(path).notes)


def test_a_header_without_its_folder_is_refused(tmp_path: Path) -> None:
    data = record(tmp_path).read_bytes()
    with pytest.raises(Undecodable) as caught:
        read(data)
    assert caught.value.reason is Reason.UNSUPPORTED


@pytest.mark.parametrize(
    ("comments", "age", "sex", "statements"),
    [
        (
            ["Age: 61", "Sex: Female", "Dx: 426783006,164889003"],
            61,
            Sex.FEMALE,
            ["426783006", "164889003"],
        ),
        (["<age>: 71", "<sex>: M", "<diagnoses>:", "Sinus"], 71, Sex.MALE, ["Sinus"]),
        (["72 F 750 1629 x1", "Digoxin"], 72, Sex.FEMALE, []),
        (["Age: NaN", "Sex: Unknown"], None, None, []),
        (["Age: 300"], None, None, []),
    ],
)
def test_comments_tell_age_sex_and_diagnoses(
    tmp_path: Path,
    comments: Sequence[str],
    age: float | None,
    sex: Sex | None,
    statements: list[str],
) -> None:
    recording = read(record(tmp_path, comments=comments))
    assert (recording.patient.age, recording.patient.sex) == (age, sex)
    assert [statement.text for statement in recording.vendor_statements] == statements


def test_every_header_that_is_damaged_gives_an_answer_or_a_refusal(tmp_path: Path) -> None:
    path = record(tmp_path, names=("I", "II"), comments=["Age: 61"])
    header = path.read_bytes()
    chance = np.random.default_rng(1)
    for _ in range(300):
        mutant = bytearray(header)
        mutant[chance.integers(len(mutant))] = chance.integers(256)
        path.write_bytes(mutant)
        with suppress(Undecodable):
            read(path)


@pytest.mark.parametrize(
    ("folder", "number"),
    [
        ("multisource12", 315),
        ("ludb", 140),
        ("mitdb_ds1", 22),
        ("cinc2017_validation", 300),
        ("code15_chagas", 335),
    ],
)
def test_every_record_of_the_labelled_databases_reads(folder: str, number: int) -> None:
    headers = sorted(shared("data", folder).rglob("*.hea"))
    assert len(headers) == number
    for header in headers[:: 1 if number < 100 else 5]:
        recording = read(header)
        expected = wfdb.rdrecord(str(header.with_suffix("")))
        assert recording.ecg.sampling_frequency == expected.fs
        signal = recording.ecg.signal[: expected.n_sig]
        assert np.allclose(signal, expected.p_signal.T, atol=1e-5, equal_nan=True)
