"""Models through the API: vetted when they come, promoted by a person, rolled back by a person."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import onnx
import pytest
import tiny_model
from bad_models import BAD, external
from corpora import small_corpus
from installed import Installation
from office import Desk, opened
from tiny_model import graph, packed

from dicom_node import examine
from dicom_node.models import identity_of
from dicom_node.settings import Role
from training.admin.api import models


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    Installation(tmp_path).close()
    with opened(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Return one service that stands all the bad models."""
    folder = tmp_path_factory.mktemp("models")
    Installation(folder).close()
    (folder / "models" / "link-to-the-ledger").symlink_to(folder / "ledger.sqlite")
    with opened(folder) as made:
        yield made


@pytest.fixture
def nearby(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examine models in this process: that it happens in another one is tested where it matters."""
    monkeypatch.setattr(models, "apart", identity_of)


def upload(desk: Desk, content: bytes, query: str = "") -> str:
    answer = desk.post(f"/models{query}", Role.TRAINER, content=content)
    assert answer.status == 201, answer.text
    return str(answer.json["digest"])


@pytest.mark.usefixtures("nearby")
@pytest.mark.parametrize("name", BAD)
def test_bad_model_is_refused_with_its_reason_and_nothing_stays(crowd: Desk, name: str) -> None:
    make, reason = BAD[name]
    folder = crowd.office.settings.storage.folder
    before = sorted(path for path in folder.rglob("*") if path.suffix != ".sqlite-wal")
    speaking = crowd.get("/status", Role.VIEWER).json["model"]
    answer = crowd.post("/models", Role.TRAINER, content=make())
    assert answer.status == 422, answer.text
    assert answer.detail.endswith(".")
    assert answer.json["type"].endswith(f":{reason}")
    assert sorted(path for path in folder.rglob("*") if path.suffix != ".sqlite-wal") == before
    assert crowd.get("/status", Role.VIEWER).json["model"] == speaking
    assert crowd.events()[-1] == "model-upload"


def test_stranger_is_examined_in_another_process(crowd: Desk) -> None:
    with patch.object(examine, "load_model", side_effect=AssertionError("opened here")):
        answer = crowd.post("/models", Role.TRAINER, content=external("../weights")())
    assert (answer.status, answer.json["type"].endswith("external-data")) == (422, True)


def test_models_are_examined_one_at_a_time(crowd: Desk) -> None:
    with crowd.office.examining:
        answer = crowd.post("/models", Role.TRAINER, content=packed())
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")


@pytest.mark.usefixtures("nearby")
def test_markup_in_a_card_is_data(crowd: Desk) -> None:
    digest = upload(crowd, packed(limits="<script>alert(1)</script>", version="html"))
    answer = crowd.get(f"/models/{digest}", Role.VIEWER)
    assert answer.json["card"]["limits"] == "<script>alert(1)</script>"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.slow
def test_model_of_exchangeai_becomes_a_package_with_a_card(crowd: Desk) -> None:
    model = graph(samples=1000)
    for key, value in (
        ("target_keys", "['normal', 'atrial_fibrillation', 'lbbb']"),
        ("sampling_rate", "100"),
        ("scale", "milliVolt"),
        ("standardizer", "None"),
    ):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    digest = upload(crowd, model.SerializeToString(), "?name=from+afar")
    card = crowd.get(f"/models/{digest}", Role.TRAINER).json["card"]
    assert card["name"] == "from afar"
    assert [label["key"] for label in card["labels"]] == ["normal", "atrial_fibrillation", "lbbb"]
    assert "Unknown" in card["limits"]


@pytest.mark.slow
def test_code_in_metadata_of_exchangeai_is_never_run(crowd: Desk) -> None:
    model = graph(samples=1000)
    entry = model.metadata_props.add()
    entry.key, entry.value = "target_keys", "__import__('os').system('touch /tmp/pwned')"
    answer = crowd.post("/models", Role.TRAINER, content=model.SerializeToString())
    assert answer.status == 422
    assert not Path("/tmp/pwned").exists()


@pytest.mark.usefixtures("nearby")
def test_candidate_speaks_only_when_an_admin_says_why_and_steps_back(desk: Desk) -> None:
    before = desk.get("/status", Role.VIEWER).json["model"]
    digest = upload(desk, packed(version="2"))
    refused = desk.post(f"/models/{digest}/promote", Role.ADMIN, json={})
    assert (refused.status, refused.json["type"]) == (409, "urn:sinusnode:problem:not-allowed")
    assert "no verdict" in refused.detail
    why = {"reason": "Judged elsewhere, report 17."}
    promoted = desk.post(f"/models/{digest}/promote", Role.ADMIN, json=why)
    assert (promoted.status, promoted.json["state"]) == (200, "current")
    rows = [json.loads(row["detail"]) for row in desk.office.ledger.trail() if
            row["event"] == "model-promote"]  # fmt: skip
    assert rows[-1]["override"] == why["reason"]
    assert rows[-1]["digest"] == digest
    back = desk.post("/models/rollback", Role.ADMIN)
    assert (back.status, back.json["digest"]) == (200, before)


@pytest.mark.usefixtures("nearby")
def test_model_that_learned_from_who_withdrew_needs_a_reason(desk: Desk) -> None:
    corpus = small_corpus(desk.office.settings.storage.folder, patients=1, each=1)
    digest = upload(desk, packed(version="2"))
    (leaving,) = corpus.records
    corpus.learned(digest, [leaving.id])
    corpus.withdraw(leaving.patient)
    refused = desk.post(f"/models/{digest}/promote", Role.ADMIN, json={})
    assert (refused.status, "withdrew" in refused.detail) == (409, True)


@pytest.mark.usefixtures("nearby")
def test_candidate_shadows_is_tested_exported_and_retired(desk: Desk) -> None:
    content = packed(version="2")
    digest = upload(desk, content)
    assert digest == hashlib.sha256(content).hexdigest()
    assert desk.post(f"/models/{digest}/shadow", Role.TRAINER).json["state"] == "shadow"
    assert desk.get(f"/models/{digest}/comparison", Role.TRAINER).json["ecgs"] == 0
    assert desk.post(f"/models/{digest}/self-test", Role.TRAINER).json["ok"] is True
    package = desk.get(f"/models/{digest}/package", Role.TRAINER)
    assert package.content == content
    assert onnx.load_model_from_string(package.content).graph.name == "tiny"
    assert desk.post(f"/models/{digest}/retire", Role.ADMIN).json["state"] == "retired"
    assert desk.post(f"/models/{digest}/shadow", Role.TRAINER).status == 409


@pytest.mark.usefixtures("nearby")
def test_damaged_package_fails_its_self_test(desk: Desk) -> None:
    digest = upload(desk, packed(version="2"))
    path = desk.office.settings.storage.folder / "models" / f"{digest}.onnx"
    path.write_bytes(packed(version="2")[:-100])
    answer = desk.post(f"/models/{digest}/self-test", Role.TRAINER).json
    assert answer["ok"] is False
    assert answer["reason"]


def test_model_that_is_not_there_is_a_sentence(desk: Desk) -> None:
    nothing = "0" * 64
    for method, path in (("GET", ""), ("GET", "/package"), ("POST", "/shadow")):
        assert desk.ask(method, f"/models/{nothing}{path}", Role.TRAINER).status == 404
    assert desk.post("/models/rollback", Role.ADMIN).status == 404
    assert desk.get("/models/../../etc/passwd", Role.TRAINER).status == 404


def test_empty_upload_is_a_sentence(desk: Desk) -> None:
    assert desk.post("/models", Role.TRAINER).detail == "There is no model in the request."


@pytest.mark.usefixtures("nearby")
def test_keys_of_the_tiny_model_are_what_the_list_shows(desk: Desk) -> None:
    digest = upload(desk, packed(version="2"))
    listed = {item["digest"]: item for item in desk.get("/models", Role.VIEWER).json}
    assert listed[digest]["state"] == "candidate"
    card = desk.get(f"/models/{digest}", Role.VIEWER).json["card"]
    assert tuple(label["key"] for label in card["labels"]) == tiny_model.KEYS
