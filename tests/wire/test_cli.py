"""The command line as its users see it: what is printed where, and with which exit status."""

import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import wfdb
from cart import CART_FILE, cart_ecg, encoded
from commands import Run
from node import free_port
from pydicom import dcmread

from analysis.errors import Reason
from analysis.result import Overall
from dicom_node import ledger as tables
from dicom_node.ledger import Event, Ledger, Received, State
from dicom_node.live import Live
from dicom_node.operate import opened
from dicom_node.pacs import Pacs
from dicom_node.reasons import Quarantine, Refusal, sentence
from dicom_node.settings import load
from dicom_node.spool import Spool

TLS_FILES = ("certificate", "private_key", "trusted_certificates")
KEYS = {
    "schema", "file", "ok", "reason", "message", "format", "patient", "leads",
    "sampling_frequency", "samples", "quality", "measurements", "statements", "findings",
    "models", "overall", "notes",
}  # fmt: skip

FINDING = {
    "key", "probability", "threshold", "present", "origin", "model", "reason", "evidence",
}  # fmt: skip


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Return a cart file whose second half is missing."""
    path = tmp_path / "damaged.dcm"
    data = encoded(cart_ecg("damaged"))
    path.write_bytes(data[: len(data) // 2])
    return path


# analyse


def test_analyse_prints_one_document_of_exactly_the_agreed_shape(run: Run) -> None:
    done = run("analyse", CART_FILE, "--json")
    (document,) = done.documents
    assert (done.status, set(document)) == (0, KEYS)
    assert (document["schema"], document["ok"]) == (1, True)
    assert document["file"] == str(CART_FILE)
    assert (document["reason"], document["message"]) == (None, None)
    assert set(document["patient"]) == {"age", "sex"}
    assert document["leads"][:2] == ["I", "II"]
    assert (document["sampling_frequency"], document["samples"]) == (1000.0, 10_000)
    assert set(document["quality"]) == {"verdict", "reasons"}
    assert document["quality"]["verdict"] in {"full", "limited", "non-diagnostic"}
    for item in document["measurements"].values():
        assert set(item) == {"value", "unit", "reason"}
        assert (item["value"] is None) == (item["reason"] is not None)
    for item in document["statements"]:
        assert set(item) == {"key", "text", "code", "evidence"}
        assert len(item["code"]) == 3
    for item in document["findings"]:
        assert set(item) == FINDING
        assert {"sentences", "leads"} <= set(item["evidence"])
        assert item["origin"] in {"model", "criteria"}
    for item in document["models"]:
        assert set(item) == {"name", "version", "digest"}
    assert document["overall"] in set(Overall)


def test_refused_files_are_said_with_their_reason_and_the_others_go_on(
    run: Run, damaged: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "text.dcm").write_text("not an ECG at all")
    names = ["absent.dcm", ".", "empty.dcm", "text.dcm", damaged, CART_FILE]
    done = run("analyse", *names, "--json")
    assert done.status == 1
    assert [item["file"] for item in done.documents] == [str(Path(name)) for name in names]
    assert [item["ok"] for item in done.documents] == [False] * 5 + [True]
    for item in done.documents[:5]:
        assert item["schema"] == 1
        assert item["reason"] in set(Reason)
        assert item["message"].endswith(".")


def test_analyse_speaks_to_a_person_too(run: Run, damaged: Path) -> None:
    done = run("analyse", CART_FILE, damaged)
    assert done.status == 1
    assert "AI result, not verified by a clinician" in done.out
    assert "refused (damaged)" in done.out


def test_analyse_writes_pages_and_objects_under_the_agreed_names(run: Run, tmp_path: Path) -> None:
    done = run("analyse", CART_FILE, "--pdf", "pages", "--dicom", "objects", "--json")
    assert done.status == 0
    assert [path.name for path in (tmp_path / "pages").iterdir()] == ["waveform_ecg.pdf"]
    assert (tmp_path / "pages" / "waveform_ecg.pdf").read_bytes().startswith(b"%PDF")
    objects = {path.name: dcmread(path) for path in (tmp_path / "objects").iterdir()}
    assert set(objects) == {f"waveform_ecg.{role}.dcm" for role in ("sr", "pdf", "ecg")}
    source = dcmread(CART_FILE)
    for made in objects.values():
        assert made.StudyInstanceUID == source.StudyInstanceUID
        assert made.PatientID == source.PatientID


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Return the header of a WFDB record: an ECG without DICOM identity."""
    ecg = np.asarray(dcmread(CART_FILE).waveform_array(0), dtype=float)[:, :12] / 1000.0
    names = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    wfdb.wrsamp(
        "record", fs=1000, units=["mV"] * 12, sig_name=names, p_signal=ecg, fmt=["16"] * 12,
        write_dir=str(tmp_path),
    )  # fmt: skip
    return tmp_path / "record.hea"


def test_ecg_without_identity_makes_no_objects_until_someone_states_it(
    run: Run, record: Path, tmp_path: Path
) -> None:
    assert run("analyse", record, "--json").status == 0
    for stated in ([], ["--patient-id", "P1"], ["--study-uid", "1.2.3"]):
        done = run("analyse", record, "--dicom", "objects", "--json", *stated)
        assert (done.status, done.documents[0]["reason"]) == (1, "no-identity")
    assert not (tmp_path / "objects").exists()


@pytest.mark.parametrize(
    ("stated", "patient_and_study"),
    [
        (["--into", CART_FILE], None),
        (["--patient-id", "P1", "--study-uid", "1.2.3"], ("P1", "1.2.3")),
    ],
)
def test_ecg_without_identity_goes_into_the_stated_study(
    run: Run, record: Path, stated: list[object], patient_and_study: tuple[str, str] | None
) -> None:
    done = run("analyse", record, "--dicom", "objects", "--json", *stated)
    assert (done.status, done.documents[0]["ok"]) == (0, True)
    source = dcmread(CART_FILE)
    for role in ("sr", "pdf", "ecg"):
        made = dcmread(Path("objects") / f"record.{role}.dcm")
        assert (made.PatientID, made.StudyInstanceUID) == (
            patient_and_study or (source.PatientID, source.StudyInstanceUID)
        )


@pytest.mark.parametrize("into", ["absent.dcm", "record.dat"])
def test_study_that_cannot_be_read_is_said(
    run: Run, record: Path, into: str, tmp_path: Path
) -> None:
    done = run("analyse", record, "--dicom", "objects", "--into", into, "--json")
    assert done.status == 1
    assert into in done.out + done.err
    assert not (tmp_path / "objects").exists()


def test_folder_that_cannot_be_written_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("analyse", CART_FILE, "--pdf", "file", "--json")
    assert done.status == 1
    assert "file" in done.err


def test_model_that_is_none_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    done = run("analyse", CART_FILE, "--model", "model.onnx")
    assert (done.status, done.out) == (1, "")
    assert "The model is refused" in done.err


# send, echo


def test_send_tells_for_each_file_what_became_of_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text.dcm").write_text("no DICOM")
    with Pacs(free_port()) as pacs:
        peer = f"PACS@127.0.0.1:{pacs.port}"
        done = run("send", CART_FILE, "absent.dcm", "text.dcm", CART_FILE, "--to", peer, "--json")
        assert len(pacs.files) == 1
    assert done.status == 1
    assert [item["ok"] for item in done.documents] == [True, False, False, True]
    assert [item["status"] for item in done.documents] == [0, None, None, 0]
    assert all(item["message"] for item in done.documents)


def test_send_says_the_status_of_a_refusal(run: Run) -> None:
    with Pacs(free_port(), behaviour=lambda _uid: 0xA700) as pacs:
        done = run("send", CART_FILE, "--to", f"PACS@127.0.0.1:{pacs.port}")
    assert done.status == 1
    assert "out of resources" in done.out


@pytest.mark.parametrize("command", ["send", "echo"])
@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_peer_that_does_not_answer_is_exit_three(run: Run, command: str, host: str) -> None:
    peer = f"PACS@{host}:{free_port()}"
    done = run(*(["send", CART_FILE, "--to", peer] if command == "send" else ["echo", peer]))
    assert done.status == 3
    assert peer in done.out + done.err


@pytest.mark.parametrize("peer", ["PACS", "PACS@host", "@host:104", "PACS@host:x", "P@h:70000"])
def test_address_that_is_none_is_a_usage_error(run: Run, peer: str) -> None:
    done = run("send", CART_FILE, "--to", peer)
    assert (done.status, done.out) == (2, "")
    assert "AE@host:port" in done.err


def test_echo_names_what_the_peer_accepts(run: Run) -> None:
    with Pacs(free_port()) as pacs:
        done = run("echo", f"PACS@127.0.0.1:{pacs.port}", "--json")
        wrong = run("echo", f"WRONG@127.0.0.1:{pacs.port}")
    (document,) = done.documents
    assert (done.status, document["ok"]) == (0, True)
    assert "12-lead ECG Waveform Storage" in document["accepts"]
    assert wrong.status == 3
    assert "rejected" in wrong.out + wrong.err


# The queue


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Return the ledger of the default data folder: one row waits, one is a conflict."""
    folder = tmp_path / "sinusnode-data"
    spool = Spool(folder / "spool")
    spool.prepare(())
    made = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    made.create()
    for content in (b"first", b"second"):
        item = Received(
            sop_class_uid="1.2.840.10008.5.1.4.1.1.9.1.1",
            sop_instance_uid="1.2.3",
            blob=spool.write(content),
            calling_ae="CART",
            called_ae="SINUSNODE",
            address="127.0.0.1",
            received_at=time.time(),
        )
        made.receive([item], "{}", "plan")
    made.record(
        Event(event="refused", reason=Refusal.ADDRESS, calling_ae="STRANGER", address="10.0.0.9"),
        time.time(),
    )
    return made


def test_queue_says_where_each_object_stands_and_what_was_refused(run: Run, ledger: Ledger) -> None:
    conflict, waiting = run("queue", "--json").documents[:2]
    assert (waiting["state"], waiting["from"]) == (State.RECEIVED, "CART")
    assert (conflict["state"], conflict["reason"]) == (State.QUARANTINED, Quarantine.CONFLICT)
    assert conflict["message"] == sentence(Quarantine.CONFLICT)
    text = " ".join(run("queue").out.split())
    assert "STRANGER" in text
    assert "QUARANTINED 1" in text


def test_queue_shows_only_the_states_asked_for(run: Run, ledger: Ledger) -> None:
    done = run("queue", "--state", "received", "--json")
    assert [item["state"] for item in done.documents if "state" in item] == [State.RECEIVED]
    unknown = run("queue", "--state", "lost")
    assert (unknown.status, unknown.out) == (2, "")
    assert "RECEIVED" in unknown.err


def test_quarantined_bytes_can_be_exported(run: Run, ledger: Ledger, tmp_path: Path) -> None:
    assert run("quarantine", "--export", "2", "out.dcm").status == 0
    assert (tmp_path / "out.dcm").read_bytes() == b"second"
    assert [item["id"] for item in run("quarantine", "--json").documents] == [2]
    absent = run("quarantine", "--export", "9", "out.dcm")
    assert absent.status == 1
    assert "There is no row 9." in absent.err
    nowhere = run("quarantine", "--export", "2", "absent/out.dcm")
    assert nowhere.status == 1
    assert "absent/out.dcm" in nowhere.err


def test_retry_sets_going_what_can_and_says_what_cannot(run: Run, ledger: Ledger) -> None:
    assert run("retry").status == 2
    done = run("retry", "1", "2", "9")
    assert done.status == 1
    assert done.out == "2: tried again\n"
    assert done.err.split("\n")[:2] == ["1: nothing to try again", "9: nothing to try again"]
    assert ledger.counts()[State.RECEIVED] == 2
    assert run("retry", "--failed").status == 0


# check, settings, usage


def test_template_is_toml_and_settings_in_force_are_json(run: Run) -> None:
    assert tomllib.loads(run("settings", "--template").out)["dicom"]["port"] == 11112
    (document,) = run("settings", "--json").documents
    assert document["dicom"]["ae_title"] == "SINUSNODE"
    assert json.loads(run("settings").out) == document


def test_settings_are_shown_without_their_ledger_too(run: Run) -> None:
    Path("sinusnode-data").mkdir()
    Path("sinusnode-data/ledger.sqlite").write_bytes(b"no database" * 100)
    done = run("settings", "--json")
    assert (done.status, done.documents[0]["dicom"]["port"]) == (0, 11112)
    assert "what was changed there is not shown" in done.err


def test_settings_say_where_each_comes_from(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("sinusnode.toml").write_text('[dicom]\nport = 104\n[log]\nlevel = "error"\n')
    monkeypatch.setenv("SINUSNODE__DICOM__AE_TITLE", "ECGNODE")
    settings = load()
    with opened(settings) as ledger:
        live = Live(settings, ledger)
        live.create()
        live.change("log.level", "debug", "ada", "Looking for a fault.", 7.0)
    found = {row["key"]: row for row in run("settings", "--origin", "--json").documents}
    origins = {key: found[key]["origin"] for key in ("dicom.port", "dicom.ae_title", "ops.port")}
    assert origins == {
        "dicom.port": "file", "dicom.ae_title": "environment", "ops.port": "default"
    }  # fmt: skip
    assert found["log.level"]["value"] == "debug"
    assert found["log.level"]["origin"] == "changed by ada: Looking for a fault."
    assert run("settings", "--json").documents[0]["log"]["level"] == "debug"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[dicom]\nprot = 1\n", "dicom.prot"),
        ("[dicom]\nport = 0\n", "dicom.port"),
        ("[dicom\n", "cannot be read"),
        ("dicom = 3\n", "dicom"),
    ],
)
def test_wrong_settings_are_one_sentence_and_exit_two(
    run: Run, tmp_path: Path, text: str, named: str
) -> None:
    (tmp_path / "site.toml").write_text(text)
    for command in ("settings", "queue", "check", "serve"):
        done = run(command, "--config", "site.toml")
        assert (done.status, done.out) == (2, "")
        assert named in done.err
        assert done.err.count("\n") == 1


def test_absent_settings_file_is_exit_two(run: Run) -> None:
    done = run("settings", "--config", "absent.toml")
    assert done.status == 2
    assert "absent.toml does not exist" in done.err


def test_version_and_help_and_unknown_commands(run: Run) -> None:
    assert run("--version").out.strip() == version("sinusnode")
    assert "analyse" in run("--help").out
    assert run("no-such-command").status == 2
    assert run("analyse", "--no-such-option").status == 2
    assert run("analyse").status == 2


# A node that cannot start says why


def _other_schema(folder: Path) -> None:
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    ledger.create()
    with ledger.transaction() as connection:
        connection.execute(tables.meta.update().values(value="99"))
    ledger.close()


def _no_database(folder: Path) -> None:
    (folder / "ledger.sqlite").write_bytes(b"no database " * 100)


def _no_model(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no model")


@pytest.mark.parametrize(
    ("prepare", "settings", "said"),
    [
        (_other_schema, "", "schema 99"),
        (_no_database, "", "ledger"),
        (_no_model, '[models]\ninitial = "data/model.onnx"\n', "model"),
        (lambda _: None, '[models]\ninitial = "absent.onnx"\n', "absent.onnx"),
        (
            lambda _: None,
            "[tls]\n" + "".join(f'{name} = "absent"\n' for name in TLS_FILES),
            "No such file",
        ),
    ],
    ids=["another schema", "no database", "no model", "absent model", "absent certificate"],
)
def test_node_that_cannot_start_says_why(
    run: Run, tmp_path: Path, prepare: Callable[[Path], None], settings: str, said: str
) -> None:
    (tmp_path / "data").mkdir()
    prepare(tmp_path / "data")
    head = f'[storage]\nfolder = "data"\n[ops]\nport = {free_port()}\n'
    if "[dicom]" in settings:
        settings = settings.replace("[dicom]\n", f"[dicom]\nport = {free_port()}\n")
    else:
        settings += f"[dicom]\nport = {free_port()}\n"
    (tmp_path / "site.toml").write_text(head + settings)
    done = run("serve", "--config", "site.toml")
    assert done.status == 1
    assert "The node cannot start" in done.err
    assert said in done.err


def test_ledger_of_another_version_is_said_by_every_command(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sinusnode-data").mkdir()
    _other_schema(tmp_path / "sinusnode-data")
    for command in (["queue"], ["check"], ["retry", "1"], ["quarantine"]):
        done = run(*command)
        assert done.status == 1
        assert "schema 99" in done.out + done.err


def test_program_itself_keeps_data_and_log_apart(tmp_path: Path, damaged: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dicom_node", "analyse", str(CART_FILE), str(damaged), "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        timeout=100,
    )
    assert done.returncode == 1
    assert [json.loads(line)["ok"] for line in done.stdout.splitlines()] == [True, False]
    assert "Traceback" not in done.stderr
