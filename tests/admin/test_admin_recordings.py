"""Recordings as each role may see them, the queue, the corpus and labels, the audit messages."""

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
import sqlalchemy as sa
from defusedxml.ElementTree import fromstring
from installed import NOW, Installation, cart_ecg, encoded, simulated
from office import Desk, opened
from pydicom import dcmread

from analysis.synthetic import Kind
from dicom_node.archive import Pseudonyms
from dicom_node.ledger import State, ecgs
from dicom_node.settings import Role
from training.runs import RunState

NAME, IDENTIFIER = "Canary^<script>alert(1)</script>", "CANARY-4711"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder with a named ECG, two simulated ones and one in quarantine."""
    place = tmp_path_factory.mktemp("recordings")
    made = Installation(place)
    made.receive(
        [
            encoded(cart_ecg(PatientName=NAME, PatientID=IDENTIFIER)),
            simulated(Kind.ATRIAL_FIBRILLATION, 1),
            simulated(Kind.SINUS, 2),
            encoded(cart_ecg(SOPInstanceUID="1.2.9", WaveformSequence=[])),
        ]
    )
    made.close()
    return place


@pytest.fixture
def desk(folder: Path) -> Iterator[Desk]:
    with opened(folder) as made:
        while made.office.index.refresh():
            pass
        yield made


# Who sees what


@pytest.mark.parametrize("role", [Role.VIEWER, Role.REVIEWER, Role.TRAINER, Role.ADMIN])
def test_nobody_but_an_operator_ever_reads_who_it_is(desk: Desk, role: Role) -> None:
    said = []
    for path in ("", "/1", "/1/waveform", "/1/labels", "/1/patient", "/1/source"):
        answer = desk.get(f"/recordings{path}", role)
        said.append(answer.content)
    said += [desk.get(path, role).content for path in ("/queue", "/queue/1", "/audit", "/carts")]
    told = b"".join(said)
    source = dcmread(BytesIO(desk.get("/recordings/1/source", Role.OPERATOR).content), force=True)
    for canary in ("Canary", IDENTIFIER, source.SOPInstanceUID, source.StudyInstanceUID):
        assert str(canary).encode() not in told


def test_operator_reads_who_it_is_and_the_trail_remembers(desk: Desk) -> None:
    answer = desk.get("/recordings/1/patient", Role.OPERATOR)
    assert answer.status == 200, answer.text
    assert (answer.json["name"], answer.json["identifier"]) == (NAME, IDENTIFIER)
    assert answer.headers["content-type"] == "application/json"
    last = desk.office.ledger.trail()[-1]
    assert last["event"] == "patient-seen"
    assert json.loads(last["detail"])["instance"] == "1"
    assert "Canary" not in json.dumps(desk.office.ledger.trail())


def test_pseudonyms_come_without_times_and_times_without_pseudonyms(desk: Desk) -> None:
    def line(role: Role) -> dict[str, object]:
        return dict(desk.get("/recordings", role).json["items"][-1])

    viewer, trainer, operator = line(Role.VIEWER), line(Role.TRAINER), line(Role.OPERATOR)
    assert (viewer["patient"], viewer["acquired_at"]) == (None, None)
    assert viewer["received_at"] == NOW
    assert (trainer["received_at"], trainer["acquired_at"]) == (None, None)
    assert trainer["patient"] == operator["patient"] is not None
    assert operator["acquired_at"]
    assert operator["received_at"] == NOW


def test_pseudonym_is_the_one_of_the_archive(desk: Desk, folder: Path) -> None:
    query = sa.select(ecgs.c.patient).where(ecgs.c.instance_id == 1)
    ((key,),) = desk.office.ledger.query(query)
    expected = Pseudonyms.of(folder / "archive.key")("patient", key)
    assert desk.get("/recordings", Role.TRAINER).json["items"][-1]["patient"] == expected


def test_who_may_not_know_a_day_may_not_search_by_it(desk: Desk) -> None:
    assert desk.get("/recordings?first=2026-01-01", Role.TRAINER).status == 403
    assert desk.get("/recordings?first=2026-01-01", Role.OPERATOR).status == 200
    assert desk.get(f"/recordings?patient={'0' * 32}", Role.VIEWER).status == 403


# Searches


def test_search_finds_by_each_of_its_words(desk: Desk) -> None:
    def found(query: str) -> list[int]:
        answer = desk.get(f"/recordings?{query}", Role.OPERATOR)
        assert answer.status == 200, answer.text
        return [item["id"] for item in answer.json["items"]]

    everything = desk.get("/recordings", Role.OPERATOR).json["items"]
    assert [item["id"] for item in everything] == [4, 3, 2, 1]
    assert 2 in found("statement=atrial_fibrillation")
    assert 3 not in found("statement=atrial_fibrillation")
    assert found(f"patient={everything[-1]['patient']}") == [1]
    assert 1 in found(f"device={everything[-1]['device']}")
    assert found("sender=CART1&before=3") == [2, 1]
    assert found("sender=NOBODY") == []
    assert found("state=QUARANTINED") == [4]
    day = everything[-1]["acquired_at"][:8]
    stated = f"{day[:4]}-{day[4:6]}-{day[6:]}"
    assert 1 in found(f"first={stated}&last={stated}")
    assert 1 not in found("first=2090-01-01")


def test_pages_follow_each_other_without_gap_or_repetition(desk: Desk) -> None:
    seen, before = [], ""
    while True:
        page = desk.get(f"/recordings?limit=1{before}", Role.VIEWER).json
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    assert seen == [4, 3, 2, 1]


def test_unknown_condition_is_refused_by_name(desk: Desk) -> None:
    answer = desk.get("/recordings?pateint=x", Role.OPERATOR)
    assert answer.status == 422
    assert "pateint" in answer.detail


# One recording


def test_findings_come_with_probability_threshold_and_evidence(desk: Desk) -> None:
    answer = desk.get("/recordings/2", Role.TRAINER)
    assert answer.status == 200, answer.text
    found = answer.json["findings"]
    judged = [item for item in found if item["origin"] == "model" and item["probability"]]
    assert judged
    for item in judged:
        assert item["present"] is (item["probability"] >= item["threshold"])
    ruled = {item["key"]: item for item in found if item["origin"] == "criteria"}
    assert ruled["atrial_fibrillation"]["present"] is True
    assert ruled["atrial_fibrillation"]["evidence"]
    assert answer.json["measurements"]["heart_rate"]["unit"] == "{H.B.}/min"
    assert answer.json["models"][0]["digest"] == desk.get("/status", Role.VIEWER).json["model"]


def test_samples_come_with_beats_and_marks(desk: Desk) -> None:
    document = desk.get("/recordings/3/waveform", Role.REVIEWER).json
    assert document["sampling_frequency"] > 0
    assert document["r_peaks"]


def test_objects_are_what_the_node_made(desk: Desk) -> None:
    answer = desk.get("/recordings/3/objects/sr", Role.OPERATOR)
    assert answer.headers["content-type"] == "application/dicom"
    assert dcmread(BytesIO(answer.content)).Modality == "SR"
    assert desk.get("/recordings/3/objects/sc", Role.OPERATOR).status == 404


def test_what_is_not_there_is_a_sentence(desk: Desk) -> None:
    assert desk.get("/recordings/99", Role.TRAINER).detail == "There is no recording 99."
    assert desk.get("/recordings/4", Role.TRAINER).status == 409
    assert desk.get("/recordings/0", Role.TRAINER).status == 422
    assert desk.get(f"/recordings/{2**70}", Role.TRAINER).status == 422


# The queue


def test_quarantine_says_why_and_is_set_going_again_with_a_reason(desk: Desk) -> None:
    (row,) = desk.get("/queue?state=QUARANTINED", Role.VIEWER).json["items"]
    assert row["reason"]
    assert row["message"]
    assert desk.post(f"/queue/{row['id']}/retry", Role.OPERATOR, json={}).status == 422
    body = {"reason": "The decoder was repaired."}
    answer = desk.post(f"/queue/{row['id']}/retry", Role.OPERATOR, json=body)
    assert (answer.status, answer.json["state"]) == (200, State.RECEIVED)
    assert json.loads(desk.office.ledger.trail()[-1]["detail"])["reason"] == body["reason"]
    again = desk.post(f"/queue/{row['id']}/retry", Role.OPERATOR, json=body)
    assert again.status == 409
    with desk.office.ledger.transaction() as connection:
        connection.exec_driver_sql("UPDATE instance SET state = 'QUARANTINED' WHERE id = 4")


def test_what_is_to_be_reported_anyhow_is_not_released(desk: Desk) -> None:
    body = {"reason": "The ward asked for it."}
    assert desk.post("/queue/1/release", Role.OPERATOR, json=body).status == 409
    assert desk.post("/queue/99/release", Role.OPERATOR, json=body).status == 404


# The corpus and its labels


def upload(desk: Desk, **files: bytes) -> dict[str, object]:
    parts = [("files", (name, data)) for name, data in files.items()]
    answer = desk.post("/uploads", Role.REVIEWER, files=parts)
    assert answer.status == 202, answer.text
    events = desk.get(f"/uploads/{answer.json['id']}/events", Role.REVIEWER).text
    assert events.rstrip().endswith("event: end\ndata: {}")
    return dict(desk.get(f"/uploads/{answer.json['id']}", Role.REVIEWER).json)


def test_dropped_files_are_read_and_refusals_have_reasons(tmp_path: Path) -> None:
    Installation(tmp_path).close()
    with opened(tmp_path) as desk:
        files = {"a.dcm": simulated(Kind.SINUS, 3), "b.dcm": b"nothing", "c.dcm": b"\0" * 3000}
        done = upload(desk, **files)
        fates = {item["file"]: item for item in done["outcomes"]}  # type: ignore[attr-defined]
        assert done["state"] == "DONE"
        assert fates["a.dcm"]["fate"] == "stored"
        assert fates["b.dcm"]["reason"]
        assert fates["b.dcm"]["message"]
        record = fates["a.dcm"]["record"]
        assert desk.get("/corpus/recordings", Role.TRAINER).json["items"][0]["id"] == record
        assert desk.get(f"/corpus/recordings/{record}/waveform", Role.TRAINER).status == 200
        assert desk.get(f"/uploads/{done['id']}", Role.TRAINER).status == 404  # not his own
        review = {"labels": [{"key": "atrial_fibrillation", "value": "present"}]}
        said = desk.post(f"/corpus/recordings/{record}/labels", Role.REVIEWER, json=review)
        assert said.json == {"record": record, "new": 1, "in_corpus": True}
        (label,) = desk.get(f"/corpus/recordings/{record}/labels", Role.TRAINER).json
        assert (label["origin"], label["value"], label["ai_visible"]) == (
            "reviewer", "present", True,
        )  # fmt: skip
        report = desk.get("/corpus", Role.TRAINER).json
        assert report["recordings"] == 1
        counted = {item["key"]: item for item in desk.get("/labels", Role.TRAINER).json}
        assert counted["atrial_fibrillation"]["present"] == 1
        table = desk.get("/labels/export", Role.TRAINER)
        assert table.headers["content-type"].startswith("text/csv")
        assert record in table.text
        word = desk.get("/labels/map?word=AFIB", Role.REVIEWER).json
        assert "atrial_fibrillation" in word["keys"]


def test_zip_bomb_is_refused_with_a_sentence(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.admin.uploads.MOST_BYTES", 2**20)
    buffer = BytesIO()
    with ZipFile(buffer, "w", compression=8) as archive:
        archive.writestr("bomb.dcm", bytes(64 * 2**20))
    assert len(buffer.getvalue()) < 2**18
    parts = [("files", ("bomb.zip", buffer.getvalue()))]
    answer = desk.post("/uploads", Role.REVIEWER, files=parts)
    assert answer.status == 422
    assert "unpacked" in answer.detail


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..\\..\\x.dcm", ""])
def test_file_name_leads_nowhere_else(desk: Desk, name: str) -> None:
    folder = desk.office.settings.storage.folder

    def beside() -> set[Path]:
        return {path for path in folder.parent.rglob("*") if "uploads" not in path.parts}

    before = beside()
    desk.post("/uploads", Role.REVIEWER, files=[("files", (name or " ", b"x"))])
    grown = {path for path in beside() - before if path.suffix in {"", ".dcm"}}
    assert {path.name for path in grown} <= {"corpus", "recordings"}


def test_label_table_with_missing_and_double_rows_says_which(desk: Desk) -> None:
    table = "file_name,label,ICD-10\nghost.dcm,AFIB,I48\nghost.dcm,AFIB,I48\n"
    answer = desk.post("/labels", Role.REVIEWER, content=table.encode())
    assert answer.status == 200, answer.text
    assert answer.json["labels"] == 0
    assert answer.json["problems"]
    assert "ghost.dcm" in " ".join(answer.json["sentences"])


@pytest.mark.parametrize("table", [b"", b"\xff\xfe\x00", b"a,b\n1,2\n", b"label\n" + b'"' * 99])
def test_label_table_that_is_none_is_refused(desk: Desk, table: bytes) -> None:
    answer = desk.post("/labels", Role.REVIEWER, content=table)
    assert answer.status == 422, answer.text
    assert "/tmp" not in answer.detail


# The node and its trail


def test_status_names_nobody(desk: Desk) -> None:
    document = desk.get("/status", Role.VIEWER).json
    assert document["counts"]["QUARANTINED"] == 1
    assert sum(document["counts"].values()) == 4


def test_carts_are_those_that_sent_and_those_that_may(desk: Desk) -> None:
    (cart,) = desk.get("/carts", Role.VIEWER).json
    assert (cart["ae_title"], cart["listed"], cart["received"]) == ("CART1", False, 4)


def test_only_what_the_settings_name_is_ever_called(desk: Desk) -> None:
    for name in ("127.0.0.1:22", "http:%2F%2F169.254.169.254", "PACS"):
        assert desk.post(f"/destinations/{name}/echo", Role.ADMIN).status == 404
    assert desk.post("/carts/CART1/echo", Role.ADMIN).status == 404


def test_destination_that_does_not_answer_is_a_sentence(folder: Path) -> None:
    pacs = {"ae_title": "PACS", "host": "127.0.0.1", "port": 9}
    with opened(folder, destinations=[pacs]) as desk:
        (listed,) = desk.get("/destinations", Role.VIEWER).json
        assert listed["name"] == "PACS"
        answer = desk.post("/destinations/PACS/echo", Role.OPERATOR).json
        assert answer["ok"] is False
        assert answer["message"].endswith(".")


def test_trail_is_handed_on_as_dicom_audit_messages(desk: Desk) -> None:
    desk.get("/recordings/1/patient", Role.OPERATOR)
    desk.post("/session", json={"name": "\x00<b>", "password": "x" * 12})
    answer = desk.get("/audit/messages", Role.ADMIN)
    root = fromstring(answer.text)
    events = [item.find("EventIdentification") for item in root]
    codes = [event.find("EventID").get("csd-code") for event in events]
    assert "110103" in codes  # DICOM Instances Accessed
    assert "110114" in codes  # User Authentication
    failed = events[codes.index("110114")]
    assert failed.get("EventOutcomeIndicator") == "4"
    seen = [root[at] for at, code in enumerate(codes) if code == "110103"][-1]
    assert seen.find("ActiveParticipant").get("UserID") == "key operator"
    assert {detail.get("type") for detail in seen.iter("ParticipantObjectDetail")} == {
        "detail", "chain",
    }  # fmt: skip
    line = desk.get("/audit/messages?form=syslog&limit=1", Role.ADMIN).text
    assert line.startswith("<85>1 ")
    assert " DICOM+RFC3881 - <AuditMessage>" in line


def test_trail_is_read_page_by_page(desk: Desk) -> None:
    desk.get("/recordings/1/patient", Role.OPERATOR)
    first = desk.get("/audit?limit=1", Role.ADMIN).json
    second = desk.get(f"/audit?limit=1&before={first['next']}", Role.ADMIN).json
    assert second["items"][0]["id"] == first["items"][0]["id"] - 1


def test_too_few_ecgs_tell_nothing_about_drift(desk: Desk) -> None:
    document = desk.get("/drift", Role.VIEWER).json
    assert (document["alerts"], document["changes"]) == ([], [])


def test_each_is_told_what_waits_for_him(desk: Desk) -> None:
    def told(role: Role) -> list[str]:
        return [item["sentence"] for item in desk.get("/notices", role).json]

    assert told(Role.OPERATOR) == ["ECGs in quarantine: 1."]
    assert told(Role.TRAINER) == []
    plan = {"plan": {"name": "small", "keys": ["lbbb"]}}
    run = desk.post("/runs", Role.TRAINER, json=plan).json["id"]
    lease = desk.office.runs.lease("worker", 1.0, 1e12)
    assert lease is not None
    desk.office.runs.finish(lease, RunState.FAILED, "The corpus is empty.", desk.office.clock())
    assert told(Role.TRAINER) == [f"Run {run}, small: The corpus is empty."]
    assert told(Role.VIEWER) == ["ECGs in quarantine: 1."]
