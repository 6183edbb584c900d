"""`sinusnode convert` as its users see it: one file, a whole folder, and what is refused."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb
from cart import CART_FILE
from commands import Done, Run
from dicom_objects import TWELVE, synthetic
from pydicom import dcmread
from support import need_program

import analysis
from analysis.ecg import ECG, Acquisition, Lead, Patient, Recording, Sex
from dicom_node import convert


def made(**parts: Any) -> Recording:
    ecg = ECG(
        signal=synthetic().astype(np.float32),
        leads=tuple(Lead(name) for name in TWELVE),
        sampling_frequency=500.0,
    )
    return Recording(ecg=ecg, format="made", **parts)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a table that says nothing of itself."""
    np.savetxt(tmp_path / "bare.csv", np.rint(synthetic().T * 1000), fmt="%d", delimiter=",")
    return tmp_path / "bare.csv"


STATED = ("--rate", 500, "--unit", "uV", "--leads", ",".join(TWELVE))


@pytest.mark.parametrize("name", ["a.npz", "a.hea", "a.edf", "a.xml", "a.csv", "a.parquet"])
def test_a_file_becomes_what_its_suffix_says(run: Run, tmp_path: Path, name: str) -> None:
    done = run("convert", CART_FILE, name, "--json")
    (document,) = done.documents
    assert (done.status, document["outcome"], document["ok"]) == (0, "written", True)
    assert document["format"].startswith("DICOM")
    assert name in document["written"]
    expected, read = analysis.read(CART_FILE).ecg, analysis.read(tmp_path / name).ecg
    assert read.leads == expected.leads
    assert read.sampling_frequency == expected.sampling_frequency
    assert np.abs(read.signal - expected.signal).max() < 1e-4


def test_one_format_becomes_another_and_back(run: Run, tmp_path: Path) -> None:
    analysis.write(made(), tmp_path / "a.npz")
    for source, target in (("a.npz", "b.csv"), ("b.csv", "c.parquet"), ("c.parquet", "d.npz")):
        assert run("convert", source, target).status == 0
    assert np.array_equal(analysis.read("d.npz").ecg.signal, made().ecg.signal)


def test_a_person_is_told_what_was_written_and_what_was_noted(run: Run, tmp_path: Path) -> None:
    eight = made().ecg.select([Lead(name) for name in TWELVE if name not in ("III", "aVF")])
    analysis.write(Recording(ecg=eight, format="made"), tmp_path / "a.npz")
    done = run("convert", "a.npz", "b.hea")
    assert done.status == 0
    assert "b.hea" in done.out
    assert "b.dat" in done.out
    assert "computed from the recorded limb leads" in done.out
    assert done.err == ""


# Statements


@pytest.mark.parametrize("command", [["analyse", "bare.csv"], ["convert", "bare.csv", "out.npz"]])
def test_bare_tables_are_read_as_stated_and_refused_otherwise(
    run: Run, table: Path, command: list[str]
) -> None:
    refused = run(*command, "--json")
    assert (refused.status, refused.documents[0]["reason"]) == (1, "no-scale")
    for option in ("--rate", "--unit", "--leads"):
        assert option in refused.documents[0]["message"]
    assert run(*command, *STATED, "--json").documents[0]["ok"]


def test_a_statement_that_contradicts_the_file_is_refused(run: Run, tmp_path: Path) -> None:
    analysis.write(made(), tmp_path / "a.csv")
    done = run("convert", "a.csv", "b.npz", "--unit", "uV", "--json")
    assert (done.status, done.documents[0]["reason"]) == (1, "ambiguous")
    assert not (tmp_path / "b.npz").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["a.csv", "b.unknown"],
        ["a.csv", "folder"],
        ["a.csv", "b.npz", "--to", "unknown"],
        ["a.csv", "b.npz", "--unit", "bananas"],
        ["a.csv", "b.npz", "--rate", "fast"],
        ["a.csv", "b.dcm", "--into", "x.dcm", "--patient-id", "1"],
        [".", "."],
        [".", ".", "--to", "npz"],
    ],
)
def test_wrong_usage_is_exit_two(run: Run, arguments: list[str]) -> None:
    done = run("convert", *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err


# What cannot be done


def test_what_cannot_be_read_or_held_is_refused_with_a_sentence(run: Run, tmp_path: Path) -> None:
    gap = np.array(made().ecg.signal)
    gap[0, 5] = np.nan
    ecg = ECG(signal=gap, leads=made().ecg.leads, sampling_frequency=500.0)
    analysis.write(Recording(ecg=ecg, format="made"), tmp_path / "gap.npz")
    for source, reason in (("gap.npz", "does-not-fit"), ("absent.npz", "unreadable")):
        (document,) = run("convert", source, "out.edf", "--json").documents
        assert (document["ok"], document["reason"]) == (False, reason)
        assert document["message"].endswith(".")
    done = run("convert", "gap.npz", "out.edf")
    assert done.status == 1
    assert "not recorded" in " ".join(done.out.split())


def test_a_source_is_never_written_over(run: Run, tmp_path: Path) -> None:
    analysis.write(made(), tmp_path / "a.npz")
    before = (tmp_path / "a.npz").read_bytes()
    done = run("convert", "a.npz", "a.npz", "--json")
    assert (done.status, done.documents[0]["reason"]) == (1, "does-not-fit")
    assert (tmp_path / "a.npz").read_bytes() == before


# DICOM out


def test_a_dicom_source_keeps_its_identity(run: Run, tmp_path: Path) -> None:
    assert run("convert", CART_FILE, "out.dcm").status == 0
    source, out = dcmread(CART_FILE), dcmread(tmp_path / "out.dcm")
    assert out.SOPClassUID == "1.2.840.10008.5.1.4.1.1.9.1.2"
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID"):
        assert out[keyword].value == source[keyword].value
    assert out.SOPInstanceUID != source.SOPInstanceUID
    expected, read = analysis.read(CART_FILE).ecg, analysis.read(tmp_path / "out.dcm").ecg
    assert np.abs(read.signal - expected.signal).max() < 6e-4


def test_an_ecg_without_identity_needs_one_for_dicom(run: Run, tmp_path: Path) -> None:
    patient = Patient(name="Other^Person", identifier="OTHER", sex=Sex.MALE)
    acquisition = Acquisition()
    analysis.write(made(patient=patient, acquisition=acquisition), tmp_path / "a.edf")
    refused = run("convert", "a.edf", "out.dcm", "--json")
    assert (refused.status, refused.documents[0]["reason"]) == (1, "no-identity")
    assert not (tmp_path / "out.dcm").exists()
    assert (
        run("convert", "a.edf", "out.dcm", "--patient-id", "P1", "--study-uid", "1.2.3").status == 0
    )
    stated = dcmread(tmp_path / "out.dcm")
    assert (stated.PatientID, stated.StudyInstanceUID) == ("P1", "1.2.3")
    assert run("convert", "a.edf", "into.dcm", "--into", CART_FILE).status == 0
    source, into = dcmread(CART_FILE), dcmread(tmp_path / "into.dcm")
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID"):
        assert into[keyword].value == source[keyword].value
    assert "Other" not in str(into)


@pytest.mark.parametrize("source", ["cart", "table"])
def test_dicom_that_is_written_is_clean(run: Run, tmp_path: Path, source: str) -> None:
    validator = need_program("dciodvfy")
    analysis.write(made(patient=Patient(age=61, sex=Sex.FEMALE)), tmp_path / "a.hea")
    stated = ["--patient-id", "P1", "--study-uid", "1.2.3"] if source == "table" else []
    path = "a.hea" if source == "table" else CART_FILE
    assert run("convert", path, "out.dcm", *stated).status == 0
    done = subprocess.run(
        [validator, "out.dcm"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert "Error" not in done.stderr


# A folder


@pytest.fixture
def folder(tmp_path: Path, table: Path) -> Path:
    """Return a folder of ECGs in several encodings, with what stands beside ECGs."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "cart.dcm").write_bytes(CART_FILE.read_bytes())
    analysis.write(made(), folder / "same.npz")
    analysis.write(made(), folder / "same.csv")
    analysis.write(made(), folder / "sub" / "record.hea")
    (folder / "sub" / "record.atr").write_bytes(b"\0\0")
    (folder / "README.md").write_text("about")
    (folder / ".hidden").write_bytes(b"\0")
    (folder / "noise.bin").write_bytes(bytes(range(256)))
    (folder / "bare.csv").write_bytes(table.read_bytes())
    return folder


def outcomes(done: Done) -> dict[str, str]:
    return {Path(item["file"]).name: item["outcome"] for item in done.documents}


def test_a_folder_is_converted_and_each_file_told(run: Run, folder: Path, tmp_path: Path) -> None:
    done = run("convert", "in", "out", "--to", "npz", "--json")
    assert done.status == 1
    assert outcomes(done) == {
        "cart.dcm": "written",
        "same.npz": "written",
        "same.csv": "written",
        "record.hea": "written",
        "record.dat": "skipped",
        "record.atr": "skipped",
        "README.md": "skipped",
        ".hidden": "skipped",
        "noise.bin": "refused",
        "bare.csv": "refused",
    }
    written = {str(path.relative_to("out")) for path in Path("out").rglob("*.npz")}
    assert written == {"cart.npz", "same_npz.npz", "same_csv.npz", "sub/record.npz"}
    for name in ("same_npz.npz", "same_csv.npz"):
        assert np.array_equal(analysis.read(Path("out") / name).ecg.signal, made().ecg.signal)
    for item in done.documents:
        assert (item["message"] is None) == (item["outcome"] == "written")


def test_a_folder_ends_with_a_table_of_refusals(run: Run, folder: Path) -> None:
    done = run("convert", "in", "out", "--to", "csv")
    text = " ".join(done.out.split())
    assert done.status == 1
    for part in ("noise.bin", "not-recognised", "bare.csv", "no-scale", "written 4", "refused 2",
                 "skipped 4"):  # fmt: skip
        assert part in text
    assert "cart.dcm" not in text


def test_a_folder_without_refusals_is_exit_zero(run: Run, folder: Path) -> None:
    (folder / "noise.bin").unlink()
    (folder / "bare.csv").unlink()
    done = run("convert", "in", "out", "--to", "wfdb", "--json")
    refused = [item for item in done.documents if not item["ok"]]
    assert refused == []
    assert done.status == 0


def test_many_files_are_converted_by_several_processes(tmp_path: Path) -> None:
    for number in range(12):
        analysis.write(made(), tmp_path / "in" / f"{number}.npz") if number else (
            tmp_path / "in"
        ).mkdir()
    work = convert.plan(tmp_path / "in", tmp_path / "out", "csv")
    stated = convert.Statements(convert.Stated(), None)
    documents = list(convert.convert_all(work, stated, processes=2))
    assert [item["file"] for item in documents] == [str(job.source) for job in work]
    assert all(item["outcome"] == "written" for item in documents)
    assert len(list((tmp_path / "out").glob("*.csv"))) == 11


def test_segments_are_part_of_their_record(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in (1, 2):
        wfdb.wrsamp(
            f"seg{number}", fs=500, units=["mV"], sig_name=["V1"], p_signal=synthetic()[6:7].T,
            fmt=["16"], write_dir=str(tmp_path / "in"),
        )  # fmt: skip
    (tmp_path / "in" / "whole.hea").write_text("whole/2 1 500 4000\nseg1 2000\nseg2 2000\n")
    done = run("convert", "in", "out", "--to", "npz", "--json")
    assert done.status == 0
    assert outcomes(done)["whole.hea"] == "written"
    assert {outcomes(done)[f"seg{n}.hea"] for n in (1, 2)} == {"skipped"}
    assert [path.name for path in Path("out").iterdir()] == ["whole.npz"]


def test_two_files_never_become_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.npz", "a.csv", "a_npz.parquet"):
        analysis.write(made(), tmp_path / "in" / name)
    done = run("convert", "in", "out", "--to", "npz")
    assert (done.status, done.out) == (2, "")
    assert "a_npz.npz" in done.err
    assert not (tmp_path / "out").exists()


def test_an_output_folder_inside_the_source_is_not_read_again(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    analysis.write(made(), tmp_path / "in" / "a.npz")
    for _ in range(2):
        done = run("convert", "in", "in/out", "--to", "csv", "--json")
        assert outcomes(done) == {"a.npz": "written"}
