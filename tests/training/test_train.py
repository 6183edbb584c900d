"""From a plan to a candidate: the honest answer, once, and the same after any kill."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from small_runs import KEYS, SPLIT, label, plan, tiny_package, two_hearts
from support import shared

from analysis.card import Source
from analysis.model import load_model
from analysis.recipe import Unit
from dicom_node.ledger import Ledger
from dicom_node.models import ModelState, ModelStore
from training import judgement
from training import outcome as outcomes
from training.corpus import Corpus
from training.corpus_report import flattered
from training.evaluate import Evaluation
from training.labels import Origin
from training.outcome import Outcome
from training.plan import RECIPE, Calibration, Mode, Plan, Task
from training.prepare import CannotTrain
from training.splits import EIGHTY_TWENTY, Order, Split
from training.steps import Stage, Step
from training.train import Stopped, train


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    made = two_hearts(tmp_path_factory.mktemp("hearts"))
    label(made, {number: number % 4 == 0 for number in range(40)}, "chagas", origin=Origin.CODE)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ModelStore]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.create()
    yield ModelStore(tmp_path / "models", ledger)
    ledger.close()


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the report out: drawing takes longer than learning."""
    monkeypatch.setattr(outcomes, "write_report", lambda folder, **_: folder)


def evaluation(folder: Path) -> Evaluation:
    return Evaluation.from_json((folder / "evaluation.json").read_text())


def test_a_plan_becomes_a_candidate_with_its_evidence(
    corpus: Corpus, store: ModelStore, tmp_path: Path
) -> None:
    steps: list[Step] = []
    outcome = train(plan(corpus), tmp_path / "7", store=store, report=steps.append)
    assert list(dict.fromkeys(step.stage for step in steps)) == list(Stage)
    assert [step.epoch for step in steps if step.figures] == [1, 2, 3]
    assert sorted(steps, key=lambda step: step.progress) == steps
    (entry,) = store.list()
    assert (entry.digest, entry.state) == (outcome.model, ModelState.CANDIDATE)
    evidence = store.evidence(entry.digest)
    assert evidence is not None
    assert (evidence["run"], evidence["verdict"]["passed"]) == ("7", outcome.passed)
    model = store.load(entry.digest)
    assert [each.key for each in model.card.labels] == list(KEYS)
    assert {metric.label for metric in model.card.metrics} == set(KEYS)
    assert "II alone AUROC" in model.card.limits
    split = Split.load(tmp_path / "7" / "split.json")
    assert corpus.taught(entry.digest) == {*split.train, *split.validation, *split.calibration}
    for name in ("report.html", "CARD.md", "plan.json", "verdict.json"):
        assert (tmp_path / "7" / name).is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("mode", [Mode.HEAD, Mode.ALL, Mode.CONTINUE])
def test_a_package_is_learned_from_in_every_mode(
    corpus: Corpus, store: ModelStore, tmp_path: Path, mode: Mode
) -> None:
    outcome = train(plan(corpus, mode=mode, epochs=2), tmp_path / "1", store=store)
    assert outcome.model is not None
    assert store.load(outcome.model).card.limits.count(f"mode {mode}") == 1


@pytest.mark.usefixtures("no_figures")
def test_eighty_twenty_is_done_and_never_passes_for_a_test(
    corpus: Corpus, store: ModelStore, tmp_path: Path
) -> None:
    made = train(plan(corpus, split=Order(fractions=EIGHTY_TWENTY)), tmp_path / "1", store=store)
    assert made.model is not None
    assert not made.passed
    assert "validation part" in made.said
    assert any("no test set" in note for note in made.notes)


# Kills


class Killed(BaseException):
    """Stands in for SIGKILL; the worker's tests send real ones."""


def killer(stage: Stage, epoch: int = 0) -> Callable[[Step], None]:
    def report(step: Step) -> None:
        if (step.stage, step.epoch) == (stage, epoch):
            raise Killed

    return report


def _when(moment: tuple[Stage, int]) -> tuple[int, int]:
    return list(Stage).index(moment[0]), moment[1]


@pytest.mark.usefixtures("no_figures")
def test_a_run_that_is_killed_at_every_stage_comes_to_the_same_result(
    corpus: Corpus, store: ModelStore, tmp_path: Path
) -> None:
    wanted, now = plan(corpus), lambda: 1e9
    whole = train(wanted, tmp_path / "whole" / "1", clock=now)
    folder = tmp_path / "killed" / "1"
    moments = sorted([*((stage, 0) for stage in Stage), (Stage.FIT, 1), (Stage.FIT, 2)], key=_when)
    for stage, epoch in moments:
        with pytest.raises(Killed):
            train(wanted, folder, store=store, report=killer(stage, epoch), clock=now)
        assert Outcome.of(folder) is None
    again = train(wanted, folder, store=store, clock=now)
    assert evaluation(folder) == evaluation(whole.folder)
    assert again.model == whole.model
    assert len(store.list()) == 1
    assert train(wanted, folder, store=store, report=killer(Stage.CHECK)) == again


@pytest.mark.usefixtures("no_figures")
def test_the_test_part_is_judged_once_and_that_is_recorded(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[Any] = []
    real = judgement.evaluate

    def counted(*args: Any, **options: Any) -> Evaluation:
        judged.append(args)
        return real(*args, **options)

    monkeypatch.setattr(judgement, "evaluate", counted)
    with pytest.raises(Killed):
        train(plan(corpus), tmp_path / "1", report=killer(Stage.PUBLISH), clock=lambda: 5.0)
    train(plan(corpus), tmp_path / "1", clock=lambda: 9.0)
    assert len(judged) == 1
    tested = json.loads((tmp_path / "1" / "tested.json").read_text())
    assert (tested["at"], tested["part"], tested["records"]) == (5.0, "test", 8)


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_a_run_that_is_asked_to_stop_goes_on_when_it_is_called_again(
    corpus: Corpus, tmp_path: Path
) -> None:
    asked = [False]

    def report(step: Step) -> None:
        asked[0] = step.epoch == 1

    with pytest.raises(Stopped):
        train(plan(corpus), tmp_path / "1", report=report, stopping=lambda: asked[0])
    steps: list[Step] = []
    train(plan(corpus), tmp_path / "1", report=steps.append)
    assert [step.epoch for step in steps if step.figures] == [2, 3]


def test_the_folder_of_another_plan_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(plan(corpus), tmp_path / "1", report=killer(Stage.CHECK))
    with pytest.raises(CannotTrain, match="the run of another plan"):
        train(plan(corpus, seed=1), tmp_path / "1")


# What it is held against, and what is no finding


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_a_candidate_is_compared_with_the_current_model_on_the_same_recordings(
    corpus: Corpus, store: ModelStore, tmp_path: Path
) -> None:
    store.promote(store.install(tiny_package(), 0.0), 0.0, "ada", override="the first one")
    train(plan(corpus), tmp_path / "1", store=store)
    difference = json.loads((tmp_path / "1" / "difference.json").read_text())
    assert set(difference["keys"]) == set(KEYS)
    assert difference["records"] == 8


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_patients_whom_the_base_knows_do_not_judge(corpus: Corpus, tmp_path: Path) -> None:
    wanted = plan(corpus, epochs=1)
    first = train(wanted, tmp_path / "1")
    other = replace(SPLIT, seed=5)
    again = replace(wanted, base=str(first.folder / "package.onnx"), mode=Mode.HEAD, split=other)
    second = train(again, tmp_path / "2")
    assert first.model is not None
    assert second.model is not None
    split = Split.load(tmp_path / "2" / "split.json")
    assert not corpus.taught(first.model) & {*split.validation, *split.calibration, *split.test}
    assert corpus.taught(first.model) < corpus.taught(second.model)
    assert any("the base learned from them" in note for note in second.notes)


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("way", [Calibration.ISOTONIC, Calibration.NONE])
def test_classes_that_exclude_each_other_become_a_package_too(
    corpus: Corpus, store: ModelStore, tmp_path: Path, way: Calibration
) -> None:
    wanted = plan(corpus, task=Task.MULTI_CLASS, calibration=way)
    outcome = train(wanted, tmp_path / "1", store=store)
    assert outcome.model is not None
    assert store.load(outcome.model).card.activation == "softmax"


@pytest.mark.usefixtures("no_figures")
def test_what_no_report_could_say_is_learned_judged_and_not_published(
    corpus: Corpus, store: ModelStore, tmp_path: Path
) -> None:
    wanted: Plan = plan(corpus, keys=("chagas",), origins=(Origin.CODE,))
    outcome = train(wanted, tmp_path / "1", store=store)
    assert outcome.model is None
    assert "no finding that the node reports" in outcome.said
    assert not store.list()
    exported = sha256((tmp_path / "1" / "net.onnx").read_bytes()).hexdigest()
    split = Split.load(tmp_path / "1" / "split.json")
    assert corpus.taught(exported) == {*split.train, *split.validation, *split.calibration}
    assert evaluation(tmp_path / "1").records == 8


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_a_test_part_that_judges_again_is_said_to(corpus: Corpus, tmp_path: Path) -> None:
    first = train(plan(corpus), tmp_path / "1", clock=lambda: 1.0)
    second = train(plan(corpus, epochs=2), tmp_path / "2", clock=lambda: 2.0)
    assert not any("judged 1 runs before" in note for note in first.notes)
    assert any("judged 1 runs before" in note for note in second.notes)


def test_a_model_is_flattered_by_recordings_of_the_data_that_its_card_names(
    corpus: Corpus,
) -> None:
    card = load_model(tiny_package()).card
    source = Source(name="A", records=1, licence="none", citation="none")
    assert flattered(card, corpus.records) is None
    said = flattered(replace(card, training_data=(source,)), corpus.records)
    assert said == (
        "tiny 1 learned from A, as its card says, and recordings of these judge here: its figures"
        " may flatter."
    )


# Nets of others


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return two_hearts(tmp_path_factory.mktemp("long"), 24, duration=10.0)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("file", "mode"),
    [
        ("xc_super_pretrained", Mode.SCRATCH),
        ("xc_super_pretrained", Mode.HEAD),
        ("xc_super_pretrained", Mode.ALL),
        ("XceptionTime_untrained", Mode.ALL),
        ("InceptionTime_untrained", Mode.HEAD),
    ],
)
def test_exchangeais_files_are_learned_from_in_microvolts_and_exported_the_same(
    long_corpus: Corpus, store: ModelStore, tmp_path: Path, file: str, mode: Mode
) -> None:
    base = shared("models", f"{file}.onnx")
    recipe = replace(RECIPE, unit="uV")  # type: ignore[arg-type]  # two of the files do not say it
    wanted = plan(long_corpus, base=str(base), mode=mode, recipe=recipe, epochs=1)
    outcome = train(wanted, tmp_path / "1", store=store)
    assert outcome.model is not None
    assert store.load(outcome.model).card.recipe.unit is Unit.MICROVOLT
    parity = json.loads((tmp_path / "1" / "parity.json").read_text())
    # a backbone that never learned makes logits of hundreds from µV: float32 ends there
    assert parity["difference"] <= (2e-5 if mode is Mode.HEAD and "untrained" in file else 1e-5)
    assert parity["flipped"] == 0
