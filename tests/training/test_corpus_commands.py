"""`sinusnode corpus` and `sinusnode labels`: what a researcher types, from a folder to a table."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from corpora import dicom_ecg, small_corpus, write_dicom

from analysis.formats import dicom
from dicom_node import archive
from dicom_node.cli import main
from dicom_node.pipeline import patient_key
from training.corpus import Corpus


def run(*words: object, status: int = 0) -> str:
    """Return what a command prints; fail if it ends otherwise than expected."""
    out, err = io.StringIO(), io.StringIO()
    arguments = ["sinusnode", *map(str, words)]
    with (
        mock.patch.object(sys, "argv", arguments),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    assert (ended.value.code or 0) == status, out.getvalue() + err.getvalue()
    return out.getvalue() or err.getvalue()


def documents(*words: object, status: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*words, "--json", status=status).splitlines()]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return small_corpus(tmp_path, patients=3, each=2)


def test_folder_becomes_a_corpus_with_labels_and_a_report(tmp_path: Path) -> None:
    source, folder = tmp_path / "ecgs", tmp_path / "corpus"
    for seed in range(4):
        write_dicom(source / f"{seed}.dcm", seed, f"P{seed}")
    (source / "torn.dcm").write_bytes(b"\0" * 128 + b"DICM torn")
    imported = documents("corpus", "import", source, "--corpus", folder, "--site", "A", status=1)
    assert imported[-1]["stored"] == 4
    assert [item["fate"] for item in imported[:-1]].count("refused") == 1
    table = tmp_path / "labels.csv"
    rows = "".join(f"{seed}.dcm,{'LBBB' if seed % 2 else 'RBBB'},\n" for seed in range(5))
    table.write_text(f"file_name,label,ICD-10\n{rows}")
    (taken,) = documents("labels", "import", table, "--corpus", folder, status=1)
    assert (taken["rows"], taken["new"], taken["problems"]) == (5, 8, {"no-record": 1})
    (report,) = documents("corpus", "report", "--corpus", folder)
    assert report["recordings"] == 4
    assert {item["key"]: item["present"] for item in report["labels"]} == {"lbbb": 2, "rbbb": 2}
    assert "lbbb" in run("corpus", "report", "--corpus", folder)
    counts = documents("labels", "report", "--corpus", folder, "--origin", "reviewer")
    assert [item["absent"] for item in counts] == [2, 2]
    out = tmp_path / "out.csv"
    assert documents("labels", "export", out, "--corpus", folder)[0]["labels"] == 8
    assert len(out.read_text().splitlines()) == 9
    (again,) = documents("labels", "import", out, "--corpus", folder)
    assert again["new"] == 0


def test_patient_is_withdrawn_by_the_id_of_the_site(corpus: Corpus) -> None:
    words = ("corpus", "withdraw", "--corpus", corpus.folder, "--patient-id", "P1", "--site", "A")
    (done,) = documents(*words)
    assert done["recordings"] == 2
    assert len(corpus.records) == 4
    run(*words, status=1)


def test_patient_is_withdrawn_from_node_and_corpus_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "data" / archive.FOLDER
    kept = archive.Archive(
        folder=folder, pseudonyms=archive.Pseudonyms.of(tmp_path / "data" / archive.KEY), site="H"
    )
    for seed, patient in enumerate(("4711", "4711", "4712")):
        source = dicom_ecg(seed, patient)
        recording = dicom.decode(source)
        kept.keep(source, recording, patient=patient_key(source), ai_visible=True)
    at = ("--corpus", tmp_path / "corpus")
    assert documents("corpus", "import", folder, "--archive", *at)[-1]["stored"] == 3
    out = run("corpus", "withdraw", "--patient-id", "4711", "--archive", folder, *at)
    assert "2 recordings of the corpus, 2 of the archive removed" in out
    assert documents("corpus", "import", folder, "--archive", *at)[-1]["known"] == 1
    run("corpus", "withdraw", "..", "--archive", folder, *at, status=2)
    words = ("corpus", "withdraw", "--patient-id", "1", "--archive", tmp_path, *at)
    assert "key" in run(*words, status=1)


def test_words_are_mapped_and_what_is_unknown_is_said(tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("scheme,code,key\nNAME,Vorhofflimmern,atrial_fibrillation\n")
    found = documents("labels", "map", "Vorhofflimmern", "CLBBB", "--map", own, "--to", "sct")
    assert [item["keys"] for item in found] == [["atrial_fibrillation"], ["lbbb"]]
    assert found[1]["codes"]["lbbb"][0] == "164909002"
    assert "nothing known" in run("labels", "map", "Vorhofflimmern", status=1)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("corpus", "report", "--corpus", "absent"), 1, "no corpus"),
        (("corpus", "import", "absent"), 2, "no folder"),
        (("labels", "report", "--corpus", "absent"), 1, "no corpus"),
        (("labels", "map", "x", "--from", "ICD9"), 2, "none of"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    words: tuple[str, ...], status: int, said: str
) -> None:
    assert said in run(*words, status=status)


def test_corpus_is_not_imported_into_itself(corpus: Corpus) -> None:
    words = ("corpus", "import", corpus.folder, "--corpus", corpus.folder, "--site", "A")
    assert "another folder" in run(*words, status=1)


def test_ai_is_no_origin(corpus: Corpus, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("file_name,label\necg0.dcm,pvc\n")
    words = ("labels", "import", table, "--corpus", corpus.folder, "--origin", "ai")
    assert "AI is none" in run(*words, status=2)


def test_commands_of_training_are_found_by_the_installed_program() -> None:
    words = [sys.executable, "-m", "dicom_node", "labels", "map", "104", "--from", "aha"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)
    assert done.stdout == "104: lbbb\n", done.stderr
