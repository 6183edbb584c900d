"""WFDB records: millivolts as stated, and nothing that the header leaves unsaid."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import wfdb
from damage import damaged
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


# Several samples in a frame, several segments


def test_every_sample_of_a_frame_is_kept(tmp_path: Path) -> None:
    path = record(tmp_path, names=("V1",))
    expected = read(path).ecg
    path = edited(path, "rec.dat 16 ", "rec.dat 16x4 ")
    path = edited(path, "rec 1 500 2000", "rec 1 125 500")
    recording = read(path)
    assert recording.ecg.sampling_frequency == 500
    assert np.array_equal(recording.ecg.signal, expected.signal)


def segments(
    folder: Path, *, names: Sequence[Sequence[str]] = (("V1", "V2"), ("V2", "V3"))
) -> Path:
    """Return the header of a record of variable layout: a segment, a gap and another segment."""
    for number, leads in enumerate(names, 1):
        signal = synthetic()[[TWELVE.index(lead) if lead in TWELVE else 0 for lead in leads]].T
        wfdb.wrsamp(
            f"multi_{number}", fs=500, units=["mV"] * len(leads), sig_name=list(leads),
            p_signal=signal, fmt=["16"] * len(leads), adc_gain=[200.0] * len(leads),
            baseline=[0] * len(leads), write_dir=str(folder),
        )  # fmt: skip
    lines = ["multi_layout 3 500 0", *(f"~ 0 200(0)/mV 16 0 0 0 0 V{n}" for n in (1, 2, 3))]
    (folder / "multi_layout.hea").write_text("\n".join(lines) + "\n")
    (folder / "multi.hea").write_text(
        "multi/4 3 500 5000 12:00:00 01/02/2003\nmulti_layout 0\nmulti_1 2000\n~ 1000\n"
        "multi_2 2000\n# Age: 61\n"
    )
    return folder / "multi.hea"


def test_segments_are_joined_and_what_is_between_them_was_not_recorded(tmp_path: Path) -> None:
    recording = read(segments(tmp_path))
    ecg, lead = recording.ecg, dict(zip(TWELVE, synthetic(), strict=True))
    gap = np.full(1000, np.nan)
    none = np.full(2000, np.nan)
    expected = {
        "V1": np.concatenate([lead["V1"], gap, none]),
        "V2": np.concatenate([lead["V2"], gap, lead["V2"]]),
        "V3": np.concatenate([none, gap, lead["V3"]]),
    }
    assert ecg.leads == (Lead.V1, Lead.V2, Lead.V3)
    for name, row in expected.items():
        assert np.allclose(ecg[name], row, atol=1e-5, equal_nan=True)
    assert recording.patient.age == 61
    assert ecg.start is not None
    assert ecg.start.isoformat() == "2003-02-01T12:00:00"


def test_segments_of_fixed_layout_follow_each_other(tmp_path: Path) -> None:
    path = segments(tmp_path, names=(("V1", "V2"), ("V1", "V2")))
    path.write_text("multi/2 2 500 4000\nmulti_1 2000\nmulti_2 2000\n")
    ecg = read(path).ecg
    one = read(tmp_path / "multi_1.hea").ecg.signal
    assert np.array_equal(ecg.signal, np.concatenate([one, one], axis=1))


def test_a_segment_without_an_ecg_counts_as_not_recorded(tmp_path: Path) -> None:
    recording = read(segments(tmp_path, names=(("V1", "V2"), ("RESP", "ABP"))))
    assert recording.ecg.leads == (Lead.V1, Lead.V2)
    assert np.isnan(recording.ecg.signal[:, 2000:]).all()
    assert any("multi_2" in note for note in recording.notes)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("multi_2 2000", "multi_2 1999", Reason.DAMAGED),
        ("500 5000", "500 4999", Reason.DAMAGED),
        ("multi_2 2000", "gone 2000", Reason.UNREADABLE),
        ("multi_2 2000", "../multi_2 2000", Reason.DAMAGED),
        ("multi_2 2000", "multi 2000", Reason.UNSUPPORTED),
        ("3 500 5000", "3 250 5000", Reason.AMBIGUOUS),
        ("~ 1000", "~ 99999999", Reason.TOO_LARGE),
    ],
)
def test_segments_that_do_not_fit_their_record_are_refused(
    tmp_path: Path, old: str, new: str, reason: Reason
) -> None:
    assert refusal(edited(segments(tmp_path), old, new)) is reason


def test_every_damaged_header_of_segments_gives_an_answer_or_a_refusal(tmp_path: Path) -> None:
    path = segments(tmp_path)
    for mutant in damaged(path.read_bytes(), 200, seed=1):
        path.write_bytes(mutant)
        with suppress(Undecodable):
            read(path)
