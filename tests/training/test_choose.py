"""Candidates side by side, and the advice that comes of it."""

from dataclasses import replace
from pathlib import Path

import pytest
from commands import Run
from corpora import RECIPE
from small_runs import plan, two_hearts

from training.choose import Candidate, candidates, which_model
from training.corpus import Corpus
from training.plan import Mode, Plan, Task
from training.prepare import CannotTrain


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return two_hearts(tmp_path_factory.mktemp("choose"))


def small(corpus: Corpus) -> Plan:
    return plan(corpus, epochs=1, recipe=RECIPE)


def test_candidates_are_ranked_with_their_cost_and_one_is_advised(
    corpus: Corpus, tmp_path: Path
) -> None:
    wanted = small(corpus)
    among = (
        Candidate(base="inceptiontime", mode=Mode.SCRATCH),
        Candidate(base=wanted.base, mode=Mode.HEAD),
        Candidate(base="nobody", mode=Mode.ALL),
    )
    choice = which_model(wanted, tmp_path, among=among, minutes=5, knobs=2)
    assert {item.candidate for item in choice.ranked} == set(among[:2])
    values = [item.auroc.value or 0 for item in choice.ranked]
    assert values == sorted(values, reverse=True)
    for item in choice.ranked:
        assert item.tried == 2
        assert item.parameters > 0
        assert item.flops > 0
        assert item.milliseconds > 0
        assert set(item.knobs) == {"learning_rate", "weight_decay", "mixup"}
    assert choice.advised in among
    assert choice.said.startswith(f"Use {choice.advised.name}: macro AUROC")
    assert "There is no base nobody" in choice.left_out[0]
    again = which_model(wanted, tmp_path, among=among, minutes=5, knobs=2)
    assert [item.auroc for item in again.ranked] == [item.auroc for item in choice.ranked]


def test_each_candidate_is_tried_once_however_short_the_time(
    corpus: Corpus, tmp_path: Path
) -> None:
    wanted = small(corpus)
    among = [Candidate(base=wanted.base, mode=mode) for mode in (Mode.HEAD, Mode.ALL)]
    choice = which_model(wanted, tmp_path, among=among, minutes=0.01, knobs=50)
    assert all(item.tried < 50 for item in choice.ranked)
    assert len(choice.ranked) == 2


def test_the_cheapest_of_those_not_shown_to_be_worse_is_advised(
    corpus: Corpus, tmp_path: Path
) -> None:
    """Eight recordings cannot tell a large net from a small one."""
    wanted = small(corpus)
    among = (
        Candidate(base="inceptiontime", mode=Mode.SCRATCH),
        Candidate(base=wanted.base, mode=Mode.SCRATCH),
    )
    choice = which_model(wanted, tmp_path, among=among, minutes=0.01, knobs=1)
    level = [item for item in choice.ranked if (item.behind.low or 0) <= 0]
    cheapest = min(level, key=lambda item: item.milliseconds)
    assert choice.advised == cheapest.candidate


def test_without_a_candidate_that_can_be_tried_the_reasons_are_given(
    corpus: Corpus, tmp_path: Path
) -> None:
    among = [Candidate(base="nobody", mode=Mode.ALL)]
    with pytest.raises(CannotTrain, match="There is no base nobody"):
        which_model(small(corpus), tmp_path, among=among, minutes=1)
    number = replace(small(corpus), task=Task.REGRESSION, keys=("age",), metric=None)
    with pytest.raises(CannotTrain, match="ranked by AUROC"):
        which_model(number, tmp_path, minutes=1)


def test_architectures_are_tried_from_scratch_and_bases_by_head_and_as_a_whole() -> None:
    found = candidates(["current"], ["xresnet1d"])
    assert [(item.base, item.mode) for item in found] == [
        ("xresnet1d", Mode.SCRATCH),
        ("current", Mode.HEAD),
        ("current", Mode.ALL),
    ]
    assert len(candidates()) == 5


def test_the_command_prints_candidates_and_advice(corpus: Corpus, run: Run, tmp_path: Path) -> None:
    wanted = small(corpus)
    (tmp_path / "plan.json").write_text(wanted.to_json())
    options = ("--base", wanted.base, "--architecture", "inceptiontime", "--knobs", 1)
    done = run("which-model", "plan.json", *options, "--minutes", 0.05, "--json")
    assert done.status == 0
    kinds = [document["kind"] for document in done.documents]
    assert kinds == ["candidate"] * 3 + ["advice"]
    table = run("which-model", "plan.json", *options, "--minutes", 0.05)
    assert "macro AUROC" in table.out
    assert "Use " in table.out
