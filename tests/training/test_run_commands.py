"""`sinusnode train` and `sinusnode evaluate`: what a researcher types, and what comes back."""

import json
from pathlib import Path
from typing import Any

import attempts
import pytest
from commands import Run
from small_runs import KEYS, plan, tiny_package, two_hearts

from training import worker
from training.corpus import Corpus
from training.run_cli import _plan
from training.splits import Split


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return two_hearts(tmp_path / "hearts", 20)


@pytest.fixture
def stood_in(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let attempts learn nothing."""
    monkeypatch.setattr(worker.Worker.__init__, "__kwdefaults__", _defaults(attempts.succeed))
    return monkeypatch


def _defaults(work: worker.Work) -> dict[str, Any]:
    return {**(worker.Worker.__init__.__kwdefaults__ or {}), "work": work}


def plan_file(corpus: Corpus) -> Path:
    path = corpus.folder.with_name("plan.json")
    path.write_text(plan(corpus).to_json())
    return path


def test_a_plan_is_checked_worked_on_and_followed(
    run: Run, corpus: Corpus, stood_in: pytest.MonkeyPatch
) -> None:
    done = run("train", plan_file(corpus), "--json", "--by", "ada")
    assert done.status == 0, done.err
    checked, step, ended = done.documents
    assert (checked["kind"], checked["train"], checked["keys"]) == ("plan", 8, list(KEYS))
    assert (step["kind"], step["said"], step["metric"]) == ("step", attempts.SAID, 0.7)
    assert (ended["kind"], ended["state"], ended["by"]) == ("run", "DONE", "ada")
    assert "DONE" in run("train", "list").out
    shown = run("train", "show", ended["id"], "--json").documents[0]
    assert shown["plan"]["keys"] == list(KEYS)
    assert Path(shown["folder"]).is_dir()


def test_options_alone_make_a_plan_and_overrule_a_file(corpus: Corpus) -> None:
    made = _plan(
        plan_file(corpus),
        {"keys": ["lbbb"], "epochs": 9},
        ["augment.mixup=0.2", "schedule=constant", "split.seed=4", "recipe.unit=uV"],
    )
    assert (made.keys, made.epochs, made.augment.mixup) == (("lbbb",), 9, 0.2)
    assert (made.schedule, made.recipe.unit) == ("constant", "uV")
    assert made.split.seed == 4  # type: ignore[union-attr]
    alone = _plan(None, {"keys": ["lbbb", "rbbb"]}, [])
    assert (alone.name, Path(alone.corpus).is_absolute()) == ("lbbb-rbbb", True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--key", "lbbb", "--epochs", "0"), "Epochs"),
        (("--mode", "head"), "its keys"),
        (("--key", "lbbb", "--set", "nonsense"), "no field=value"),
        (("--key", "lbbb", "--set", "depth=3"), "depth"),
        (("absent.toml",), "absent.toml"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(run: Run, words: tuple[str, ...], said: str) -> None:
    done = run("train", *words)
    assert done.status == 2
    assert said.lower() in done.err.lower()


def test_what_cannot_be_learned_is_refused_before_there_is_a_run(run: Run, corpus: Corpus) -> None:
    done = run("train", plan_file(corpus), "--key", "zebra")
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert "No label of the corpus is called zebra" in done.err
    assert run("train", "list", "--json").out == ""


def test_a_run_that_is_queued_is_stopped_resumed_and_worked_on(
    run: Run, corpus: Corpus, stood_in: pytest.MonkeyPatch
) -> None:
    queued = run("train", plan_file(corpus), "--queue", "--json").documents[-1]
    assert queued["state"] == "QUEUED"
    number = queued["id"]
    assert run("train", "stop", number, "--json").documents[0]["state"] == "STOPPED"
    assert "has ended already" in run("train", "stop", number).err
    assert run("train", "resume", number, "--queue", "--json").documents[0]["state"] == "QUEUED"
    assert run("train", "worker", "--once").status == 0
    shown = run("train", "show", number)
    assert f"Run {number}, DONE" in shown.out


def test_a_run_that_fails_gives_its_sentence_and_status_1(
    run: Run, corpus: Corpus, stood_in: pytest.MonkeyPatch
) -> None:
    stood_in.setattr(worker.Worker.__init__, "__kwdefaults__", _defaults(attempts.refuse))
    done = run("train", plan_file(corpus))
    assert done.status == 1
    assert "FAILED: One class alone teaches nothing." in done.out
    stood_in.setattr(worker.Worker.__init__, "__kwdefaults__", _defaults(attempts.succeed))
    assert run("train", "resume", 1).status == 0


def test_a_run_that_does_not_exist_is_a_sentence(run: Run) -> None:
    for word in ("show", "stop", "resume"):
        done = run("train", word, 9)
        assert (done.status, done.err.strip()) == (1, "There is no run 9.")


# Judging


def package(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_package())
    return path


def test_a_package_is_judged_and_held_against_another(
    run: Run, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.assess.write_report", lambda folder, **_: folder / "report.html")
    ours = package(tmp_path)
    options = ("--corpus", corpus.folder, "--against", ours)
    found = run("evaluate", ours, *options, "--out", tmp_path / "out", "--json").documents[0]
    assert found["evaluation"]["records"] == 20
    assert found["difference"]["macro"]["value"] == 0.0
    assert found["verdict"]["checks"]
    assert found["report"].endswith("report.html")
    shown = run("evaluate", ours, "--corpus", corpus.folder)
    assert shown.status == 0
    assert "AUROC" in shown.out


def test_only_recordings_that_taught_it_nothing_judge_a_package(
    run: Run, corpus: Corpus, tmp_path: Path
) -> None:
    ours = package(tmp_path)
    ids = [record.id for record in corpus.records]
    digest = json.loads(run("models", "add", ours, "--json").out)["digest"]
    corpus.learned(digest, ids[:15])
    found = run("evaluate", digest[:12], "--corpus", corpus.folder, "--json").documents[0]
    assert found["evaluation"]["records"] == 5
    assert "15 recordings are left out" in found["notes"][0]
    split = tmp_path / "split.json"
    Split(train=tuple(ids[:17]), test=tuple(ids[17:]), seed=0).save(split)
    parted = run("evaluate", digest, "--corpus", corpus.folder, "--split", split, "--json")
    assert parted.documents[0]["evaluation"]["records"] == 3
    corpus.learned(digest, ids)
    done = run("evaluate", digest, "--corpus", corpus.folder)
    assert (done.status, "No recording is left that could judge." in done.err) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--origin", "oracle"), "oracle"),
        (("--origin", "code"), "No label of code says anything of lbbb, normal"),
        (("--site", "Z"), "No recording is of the site Z"),
        (("--split", "absent.json"), "holds no split"),
    ],
)
def test_what_cannot_be_judged_is_a_sentence(
    run: Run, corpus: Corpus, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = run("evaluate", package(tmp_path), "--corpus", corpus.folder, *words)
    assert done.status == 1
    assert said in done.err


def test_a_model_without_a_card_is_not_judged(run: Run, corpus: Corpus, tmp_path: Path) -> None:
    import tiny_model  # noqa: PLC0415 - beside its only use

    bare = tmp_path / "bare.onnx"
    bare.write_bytes(tiny_model.graph().SerializeToString())
    done = run("evaluate", bare, "--corpus", corpus.folder)
    assert done.status == 1
    assert "has no card" in done.err
