"""The commands `sinusnode models`: each decision is one command, each refusal one sentence."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_model
from commands import Run
from corpora import small_corpus
from onnx import helper
from test_models_registry import packed

from dicom_node import examine
from dicom_node.ledger import Ledger
from dicom_node.models import ModelStore, identity_of
from training import registry

DATA = Path("sinusnode-data")


@pytest.fixture(autouse=True)
def examined_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare each command the start of another process; test_models_examine has that."""
    monkeypatch.setattr(examine, "apart", identity_of)
    monkeypatch.setattr(registry, "apart", identity_of)


@pytest.fixture
def store(tmp_path: Path, run: Run) -> Iterator[ModelStore]:
    """Return the registry of the default data folder, in which version 1 speaks."""
    (tmp_path / DATA).mkdir()
    ledger = Ledger(f"sqlite:///{tmp_path / DATA / 'ledger.sqlite'}")
    ledger.create()
    made = ModelStore(tmp_path / DATA / "models", ledger)
    made.promote(made.install(packed(), 0.0), 0.0, "the node", override="The first.")
    made.prepare(0.0)
    yield made
    ledger.close()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def added(run: Run, tmp_path: Path, version: str = "2") -> str:
    """Return the digest of another version, which a command added."""
    file = written(tmp_path / "model.onnx", packed(version=version))
    done = run("models", "add", file, "--by", "anna", "--json")
    assert done.status == 0
    return str(done.documents[0]["digest"])


def listed(run: Run) -> dict[str, dict[str, Any]]:
    return {item["version"]: item for item in run("models", "list", "--json").documents}


def test_model_goes_from_a_file_to_the_one_that_speaks_and_back(
    run: Run, store: ModelStore, tmp_path: Path
) -> None:
    digest = added(run, tmp_path)
    assert listed(run)["2"]["state"] == "candidate"
    refused = run("models", "promote", digest[:10])
    assert (refused.status, refused.out) == (1, "")
    assert "no verdict" in refused.err
    assert "override" in refused.err
    done = run("models", "promote", digest[:10], "--override", "A test.", "--by", "ben", "--json")
    assert (done.status, done.documents) == (0, [{"current": digest}])
    assert (listed(run)["2"]["state"], listed(run)["2"]["speaks"]) == ("current", False)
    assert "current, not speaking yet" in run("models", "show", digest).out
    assert digest[:12] in run("models", "list").out
    assert run("models", "rollback", "--json").documents[0]["current"] == store.speaking()[0]
    assert listed(run)["2"]["state"] == "previous"
    trail = {row["event"]: row["detail"] for row in store.ledger.trail()}
    assert "by ben: override: A test." in trail["model_promoted"]
    assert run("models", "retire", digest, "--json").documents == [
        {"retired": digest, "deleted": True}
    ]
    assert listed(run)["2"]["state"] == "retired"
    nothing = run("models", "rollback")
    assert (nothing.status, "no previous model" in nothing.err) == (1, True)


def test_model_is_shown_with_its_card_and_what_speaks_against_it(
    run: Run, store: ModelStore, tmp_path: Path
) -> None:
    digest = added(run, tmp_path)
    (document,) = run("models", "show", digest, "--json").documents
    assert document["card"]["limits"] == tiny_model.card().limits
    assert document["evidence"]["source"] == "model.onnx"
    assert document["objections"] == ["It has no verdict of the promotion gate."]
    text = run("models", "show", digest[:8]).out
    for part in (digest, document["device_uid"], "no verdict", "lbbb"):
        assert part in text


def test_exported_package_is_the_one_that_came_in(
    run: Run, store: ModelStore, tmp_path: Path
) -> None:
    digest = added(run, tmp_path)
    assert run("models", "export", digest, "out.onnx").status == 0
    assert (tmp_path / "out.onnx").read_bytes() == packed(version="2")


def test_shadow_is_set_compared_and_stopped(run: Run, store: ModelStore, tmp_path: Path) -> None:
    assert run("models", "compare").status == 1
    digest = added(run, tmp_path)
    assert run("models", "shadow", digest[:9], "--json").documents == [{"shadow": digest}]
    queue = run("queue")
    assert f"shadow: Tiny 2 ({digest[:12]})" in queue.out
    assert "speaking: Tiny 1" in queue.out
    kinds = [item["kind"] for item in run("queue", "--json").documents]
    assert kinds == ["model"] * 3
    assert "Tiny 2 shadows" in run("check").out
    nothing = run("models", "compare", "--json")
    assert (nothing.status, nothing.documents[0]["ecgs"]) == (1, 0)
    assert run("models", "shadow", "--stop").out.strip() == "None shadows any more."
    assert run("models", "shadow", "--stop").out.strip() == "None did."
    assert listed(run)["2"]["state"] == "candidate"


def test_refused_model_is_named_by_check(run: Run, store: ModelStore, tmp_path: Path) -> None:
    digest = added(run, tmp_path)
    store.promote(digest, 1.0, "anna", override="A test.")
    store.refuse(digest, "It gives other answers.", 2.0)
    done = run("check")
    assert done.status == 1
    assert "was refused: It gives other answers." in done.out
    assert "It gives other answers." in " ".join(run("models", "show", digest).out.split())


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("show", "ffff"), 1, "No model's digest begins"),
        (("promote", ""), 1, "No model's digest begins"),
        (("shadow",), 2, "Name a model, or --stop"),
        (("shadow", "ffff", "--stop"), 2, "Name a model, or --stop"),
        (("add", "absent.onnx"), 1, "cannot be read"),
        (("check", "."), 1, "cannot be read"),
        (("check", "sinusnode-data/ledger.sqlite"), 1, "no ONNX model"),
        (("add", "absent.onnx", "--unit", "V"), 2, "--unit is mV or uV"),
        (("retire", "c"), 1, "It speaks"),
    ],
)
def test_each_refusal_is_a_sentence_and_an_exit_status(
    run: Run, store: ModelStore, arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    (first,) = store.current()
    named = [first if item == "c" else item for item in arguments]
    done = run("models", *named)
    assert (done.status, done.out) == (status, "")
    assert sentence in done.err


def test_model_that_speaks_may_not_shadow(run: Run, store: ModelStore) -> None:
    done = run("models", "shadow", store.current()[0])
    assert (done.status, "speaks already" in done.err) == (1, True)


# Models without a card


def foreign(path: Path, **metadata: str) -> Path:
    """Write a model as ExChanGeAI does: what it says of itself are a few metadata keys."""
    model = tiny_model.graph()
    said = {"target_keys": "['CD', 'HYP', 'MI']", "scale": "mikroVolt"} | metadata
    helper.set_model_props(model, {key: value for key, value in said.items() if value})
    return written(path, model.SerializeToString())


def test_model_of_exchangeai_is_added_with_what_is_unknown_of_it(
    run: Run, store: ModelStore, tmp_path: Path
) -> None:
    file = foreign(tmp_path / "super!.onnx")
    (document,) = run("models", "check", file, "--json").documents
    assert document["labels"] == ["conduction_disturbance", "hypertrophy", "myocardial_infarction"]
    done = run("models", "add", file, "--json")
    assert done.status == 0
    (model,) = done.documents
    assert (model["name"], model["state"]) == ("super", "candidate")
    assert any("trained on" in line for line in model["unknown"])
    card = run("models", "show", model["digest"], "--json").documents[0]["card"]
    assert (card["recipe"]["unit"], card["minimum_age"]) == ("uV", 18.0)
    assert "Thresholds" in card["limits"]


def test_what_a_foreign_model_does_not_say_is_asked_for(
    run: Run, store: ModelStore, tmp_path: Path
) -> None:
    silent = foreign(tmp_path / "silent.onnx", scale="")
    assert "mV or uV" in run("models", "add", silent).err
    assert run("models", "add", silent, "--unit", "mV").status == 0
    unnamed = foreign(tmp_path / "unnamed.onnx", target_keys="['CD', 'HYP', 'good']")
    done = run("models", "check", unnamed)
    assert (done.status, "no findings: good" in done.err) == (1, True)
    assert "trained on" in done.err


# Withdrawal


def test_model_that_learned_from_who_withdrew_is_marked_and_needs_a_reason(
    run: Run, store: ModelStore, tmp_path: Path
) -> None:
    corpus = small_corpus(tmp_path / DATA, patients=2, each=1)
    digest = store.add_candidate(
        packed(version="2"), 1.0, {"verdict": {"passed": True}, "corpus": str(corpus.folder)}
    )
    leaving, staying = corpus.records
    corpus.learned(digest, [leaving.id, staying.id])
    assert listed(run)["2"]["withdrawn"] == 0
    corpus.withdraw(leaving.patient)
    assert listed(run)["2"]["withdrawn"] == 1
    assert "1 recordings" in " ".join(run("models", "show", digest).out.split())
    done = run("models", "promote", digest)
    assert (done.status, "withdrew" in done.err) == (1, True)
    assert run("models", "promote", digest, "--override", "Until the next is trained.").status == 0
