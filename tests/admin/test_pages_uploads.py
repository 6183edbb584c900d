"""Files dropped in the browser: what enters, what is refused, and in which words."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import cart_ecg, encoded, simulated
from office import Desk, opened

import analysis
from analysis.synthetic import Kind, simulate
from dicom_node.settings import Role
from training.admin import uploads
from training.admin.uploads import FileOutcome, Refused, Uploads, UploadState, recording_of
from training.corpus import Corpus
from training.labels import Value

NOW = 1_800_000_000.0


@pytest.fixture
def made(tmp_path: Path) -> Uploads:
    return Uploads(folder=tmp_path / "uploads", corpus=tmp_path / "corpus")


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def read(
    made: Uploads, files: dict[str, bytes], *, reviewer: bool = True
) -> dict[str, FileOutcome]:
    number = made.begin("anna", NOW)
    for name, data in files.items():
        made.add(number, name, io.BytesIO(data))
    outcomes = list(made.read(number, analyse=criteria_alone, reviewer=reviewer))
    assert made.get(number).outcomes == tuple(outcomes)
    assert made.get(number).state is UploadState.DONE
    return {outcome.file: outcome for outcome in outcomes}


def criteria_alone(recording: analysis.Recording) -> analysis.Result:
    return analysis.analyse(recording, [])


def test_every_file_ends_in_one_line_with_its_reason(made: Uploads) -> None:
    found = read(
        made,
        {
            "a.dcm": simulated(Kind.LBBB, 1),
            "again/a.dcm": simulated(Kind.LBBB, 1),
            "letter.dcm": b"Dear colleague",
            "README.md": b"# ECGs",
        },
    )
    assert {name: outcome.fate for name, outcome in found.items()} == {
        "a.dcm": "stored",
        "again/a.dcm": "duplicate",
        "letter.dcm": "refused",
        "README.md": "skipped",
    }
    assert found["letter.dcm"].reason == "not-recognised"
    assert found["a.dcm"].rate == "70 /min"
    assert "Left bundle branch block" in (found["a.dcm"].statements or "")


def test_what_names_a_patient_stays_outside(made: Uploads) -> None:
    source = cart_ecg(PatientName="Doe^Jane", PatientID="SECRET-1")
    (outcome,) = read(made, {"a.dcm": encoded(source)}).values()
    corpus = Corpus(made.corpus)
    assert outcome.record is not None
    recording = recording_of(corpus, outcome.record)
    assert recording.patient.name is None
    assert recording.patient.identifier is None
    kept = b"".join(path.read_bytes() for path in made.corpus.parent.rglob("*") if path.is_file())
    assert b"SECRET-1" not in kept
    assert b"Jane" not in kept


def test_archive_is_unpacked_with_its_folders(made: Uploads) -> None:
    files = {f"ward/{n}.dcm": simulated(Kind.SINUS, n) for n in range(2)}
    found = read(made, {"ecgs.zip": zipped(files)})
    assert sorted(found) == ["ecgs/ward/0.dcm", "ecgs/ward/1.dcm"]


def test_wfdb_record_of_two_files_is_one_recording(made: Uploads, tmp_path: Path) -> None:
    ecg = simulate(Kind.SINUS, seed=3).ecg
    analysis.write(analysis.Recording(ecg=ecg, format="simulated"), tmp_path / "r1.hea")
    files = {path.name: path.read_bytes() for path in tmp_path.glob("r1.*")}
    found = read(made, files)
    assert found["r1.hea"].fate == "stored"
    assert {outcome.fate for outcome in found.values()} == {"stored", "skipped"}


def test_bomb_is_cut_off_by_what_comes_out_of_it(
    made: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MOST_BYTES", 2**20)
    number = made.begin("anna", NOW)
    bomb = zipped({"a.dcm": bytes(2**22)})
    assert len(bomb) < 2**14
    with pytest.raises(Refused, match="at most 1 MiB, unpacked"):
        made.add(number, "bomb.zip", io.BytesIO(bomb))


def test_archive_that_lies_about_its_sizes_is_cut_off_too(
    made: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MOST_BYTES", 2**20)
    true, false = (2**22).to_bytes(4, "little"), (10).to_bytes(4, "little")
    data = zipped({"a.dcm": bytes(2**22)}).replace(true, false)
    number = made.begin("anna", NOW)
    with pytest.raises(Refused, match=r"unpacked|damaged"):
        made.add(number, "bomb.zip", io.BytesIO(data))


def test_many_small_files_are_too_many(made: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_FILES", 10)
    number = made.begin("anna", NOW)
    with pytest.raises(Refused, match="at most 10 files"):
        made.add(number, "a.zip", io.BytesIO(zipped({f"{n}": b"" for n in range(11)})))


@pytest.mark.parametrize("name", ["../a.dcm", "a/../../b", "", "/", "..\\..\\a", "a\0b", "x" * 300])
def test_name_that_leads_elsewhere_is_refused(made: Uploads, name: str) -> None:
    number = made.begin("anna", NOW)
    with pytest.raises(Refused, match="A file needs a name"):
        made.add(number, name, io.BytesIO(b""))


def test_archive_does_not_write_beside_its_folder(made: Uploads) -> None:
    number = made.begin("anna", NOW)
    with pytest.raises(Refused, match="A file needs a name"):
        made.add(number, "a.zip", io.BytesIO(zipped({"../../a.dcm": b"", "b.dcm": b""})))
    assert not list(made.folder.parent.rglob("a.dcm"))


@pytest.mark.parametrize(
    "data",
    [b"PK\3\4 not really", b"", zipped({"a": b"b"})[:-5]],
    ids=["no archive", "empty", "cut off"],
)
def test_damaged_archive_is_refused_in_a_sentence(made: Uploads, data: bytes) -> None:
    number = made.begin("anna", NOW)
    with pytest.raises(Refused, match="The ZIP archive is damaged"):
        made.add(number, "a.zip", io.BytesIO(data))


def test_labels_of_the_same_upload_speak_of_its_files(made: Uploads) -> None:
    table = b"file_name,label\na.dcm,CLBBB\nnowhere.dcm,NORM\na.dcm,CLBBB\n"
    found = read(made, {"a.dcm": simulated(Kind.LBBB, 1), "labels.csv": table})
    told = found["labels.csv"]
    assert told.fate == "labels"
    assert told.message == "1 new labels from 3 rows."
    assert any("nowhere.dcm" in line for line in told.problems)
    assert any("another row" in line for line in told.problems)
    record = found["a.dcm"].record or ""
    assert Corpus(made.corpus).labels.value(record, "lbbb") is Value.PRESENT


def test_labels_of_who_may_not_label_are_refused(made: Uploads) -> None:
    files = {"a.dcm": simulated(Kind.LBBB, 1), "labels.csv": b"file_name,label\na.dcm,CLBBB\n"}
    found = read(made, files, reviewer=False)
    assert found["labels.csv"].fate == "refused"
    assert not Corpus(made.corpus).labels.labels


@pytest.mark.parametrize("table", [b"label\nNORM\n", b"\xff\xfelabel,file_name\n", b"label"])
def test_table_that_is_none_is_refused_in_a_sentence(made: Uploads, table: bytes) -> None:
    (outcome,) = read(made, {"labels.csv": table}).values()
    assert outcome.fate == "refused"
    assert outcome.message


def test_upload_that_is_read_takes_no_more_files(made: Uploads) -> None:
    read(made, {"a.dcm": simulated(Kind.SINUS, 1)})
    (upload,) = made.list()
    with pytest.raises(Refused, match="is complete"):
        made.add(upload.id, "b.dcm", io.BytesIO(b""))
    with pytest.raises(KeyError):
        made.get("../uploads")


def test_what_fails_unexpectedly_is_said_and_leaves_no_files(made: Uploads) -> None:
    def broken(_recording: analysis.Recording) -> analysis.Result:
        raise ZeroDivisionError

    number = made.begin("anna", NOW)
    made.add(number, "a.dcm", io.BytesIO(simulated(Kind.SINUS, 1)))
    with pytest.raises(ZeroDivisionError):
        list(made.read(number, analyse=broken, reviewer=True))
    upload = made.get(number)
    assert upload.state is UploadState.FAILED
    assert "failed unexpectedly" in upload.message
    assert not list(made.folder.rglob("*.dcm"))


# Through the service


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with opened(tmp_path) as made:
        yield made


def test_file_names_of_an_upload_are_for_who_sent_it_alone(desk: Desk) -> None:
    files = [("files", ("Jane Doe 1971.dcm", simulated(Kind.SINUS, 1)))]
    made = desk.post("/uploads", Role.REVIEWER, files=files).json
    events = desk.get(f"/uploads/{made['id']}/events", Role.REVIEWER)
    assert "Jane Doe" in events.text

    def page(path: str, role: Role) -> str:
        headers = {"Authorization": f"Bearer {desk.keys[role]}"}
        return str(desk.client.get(path, headers=headers).text)

    assert "Jane Doe" in page(f"/upload/{made['id']}", Role.REVIEWER)
    assert made["id"] in page("/upload", Role.REVIEWER)
    assert "There is no upload of this id" in page(f"/upload/{made['id']}", Role.TRAINER)
    assert made["id"] not in page("/upload", Role.TRAINER)
