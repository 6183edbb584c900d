"""Few positives from two starts, and what may be said of the difference."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from commands import Run
from corpora import RECIPE
from small_runs import plan, two_hearts

from training.corpus import Corpus
from training.few_shot import LEARNED, RANDOM, draw, few_shot
from training.intervals import Interval
from training.plan import Mode, Plan, Task
from training.prepare import CannotTrain
from training.trials import Trial, ahead, checkpoint_digest, ground, macro, with_seed


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return two_hearts(tmp_path_factory.mktemp("few"))


def few(corpus: Corpus, **changes: object) -> Plan:
    return plan(corpus, **{"keys": ("lbbb",), "mode": Mode.ALL, "epochs": 2} | changes)


def trial(way: str, seed: int, skill: float, patients: int = 60, first: int = 0) -> Trial:
    """Return answers that are right as often as the skill says."""
    random = np.random.default_rng((seed, len(way)))
    truth = np.arange(patients) % 2
    names = tuple(f"P{first + number}" for number in range(patients))
    noise = random.standard_normal((patients, 1))
    return Trial(
        way=way,
        seed=seed,
        answers=skill * truth[:, None] + noise,
        truth=truth[:, None].astype(np.float32),
        patients=names,
    )


def test_both_starts_learn_from_as_many_known_to_the_corpus_and_are_judged_on_the_same(
    corpus: Corpus, tmp_path: Path
) -> None:
    said: list[str] = []
    wanted = few(corpus)
    before = frozenset(record.id for record in corpus.records[:2])
    base = sha256(Path(wanted.base).read_bytes()).hexdigest()
    corpus.learned(base, before)
    (shot,) = few_shot(wanted, tmp_path, counts=(5, 1000), seeds=2, report=said.append)
    assert (shot.positives, shot.seeds) == (5, 2)
    assert shot.difference.value == pytest.approx(shot.learned.value - shot.random.value)
    assert f"AUROC {shot.learned} from" in shot.said
    assert len(said) == 4
    assert {path.name for path in (tmp_path / "0").iterdir()} == {f"5-{LEARNED}", f"5-{RANDOM}"}
    assert few_shot(wanted, tmp_path, counts=(5,), seeds=2) == (shot,)
    teach, watch = draw(ground(with_seed(wanted, 0), RECIPE, model=base), 5) or ([], [])
    known = {way: checkpoint_digest(tmp_path / "0" / f"5-{way}") for way in (LEARNED, RANDOM)}
    assert corpus.taught(known[RANDOM]) == {*teach, *watch}
    assert corpus.taught(known[LEARNED]) == {*teach, *watch, *before}


def test_draws_hold_n_patients_with_and_n_without_none_of_whom_judges(corpus: Corpus) -> None:
    wanted = few(corpus)
    field = ground(wanted, RECIPE)
    teach, watch = draw(field, 6) or ([], [])
    drawn = [*teach, *watch]
    present = field.prepared.matrix(drawn)[:, 0]
    assert present.sum() == 6
    assert len(drawn) == len(set(drawn)) == 12
    assert set(drawn).isdisjoint(field.prepared.split.test)
    assert field.prepared.matrix(watch)[:, 0].tolist() == [1.0, 0.0]
    assert draw(field, 6) == (teach, watch)
    assert draw(field, 1000) is None


def test_a_start_that_is_ahead_in_every_seed_is_said_to_pay() -> None:
    trials = [trial(way, seed, skill) for seed in range(3) for way, skill in (("a", 3), ("b", 0.2))]
    found = ahead(trials, "a", "b")
    assert found.low is not None
    assert found.low > 0
    assert found.value == pytest.approx(macro(trials, "a").value - macro(trials, "b").value)
    same = ahead([replace(item, answers=trials[0].answers) for item in trials], "a", "b")
    assert (same.low, same.value, same.high) == (0, 0, 0)


def test_a_patient_who_judges_in_several_seeds_counts_as_one() -> None:
    """Else five seeds on the same patients would look like five times as many patients."""

    def width(trials: list[Trial]) -> float:
        found = macro(trials, "a")
        return (found.high or 0) - (found.low or 0)

    alone = trial("a", 0, 1.0)
    again = [replace(alone, seed=seed) for seed in range(5)]
    others = [replace(trial("a", 0, 1.0, first=100 * seed), seed=seed) for seed in range(5)]
    assert width(again) == pytest.approx(width([alone]), rel=0.15)
    assert width(others) < 0.7 * width([alone])


def test_a_finding_that_a_test_part_hardly_has_is_not_judged_there() -> None:
    item = trial("a", 0, 1.0)
    truth = np.hstack([item.truth, np.zeros_like(item.truth)])
    answers = np.hstack([item.answers, item.answers])
    assert macro([replace(item, truth=truth, answers=answers)], "a") == macro([item], "a")
    nothing = macro([replace(item, truth=np.zeros_like(item.truth))], "a")
    assert nothing.value is None
    assert nothing.reason


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"keys": ("lbbb", "normal")}, "of one finding"),
        ({"keys": ("lbbb", "normal"), "task": Task.MULTI_CLASS}, "of one finding"),
        ({"mode": Mode.SCRATCH}, "no learned start to compare"),
        ({"base": "inceptiontime"}, "has learned nothing"),
    ],
)
def test_what_is_no_few_shot_plan_is_refused(
    corpus: Corpus, tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(CannotTrain, match=sentence):
        few_shot(few(corpus, **changes), tmp_path)


def test_too_few_positives_are_said(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(CannotTrain, match="Fewer than 1000 patients with lbbb"):
        few_shot(few(corpus), tmp_path, counts=(1000,), seeds=1)


def test_the_command_prints_each_number_and_says_which_were_too_many(
    corpus: Corpus, run: Run, tmp_path: Path
) -> None:
    wanted = few(corpus, mode=Mode.HEAD)
    (tmp_path / "plan.json").write_text(wanted.to_json())
    asked = ("-n", 5, "-n", 900, "--seeds", 2, "--out", "curve", "--json")
    done = run("few-shot", "plan.json", *asked)
    (shot,) = done.documents
    assert shot["kind"] == "shot"
    assert shot["positives"] == 5
    drawn = {path.suffix for path in (tmp_path / "curve").iterdir()}
    assert drawn == {".svg", ".png", ".md"}
    table = (tmp_path / "curve" / "learning-curve.md").read_text()
    assert f"| 5 | {Interval(**shot['learned'])} | {Interval(**shot['random'])} |" in table
    assert "Too few patients have lbbb for 900." in done.err
    assert done.status == 1
    document = json.loads(wanted.to_json()) | {"keys": ["lbbb", "normal"]}
    (tmp_path / "plan.json").write_text(json.dumps(document))
    refused = run("few-shot", "plan.json")
    assert refused.status == 1
    assert "of one finding" in refused.err
