"""The studies on corpora small enough for tests: what teaches, what judges, what is printed."""

from pathlib import Path

import pytest
from corpora import RECIPE, imported, write_plain
from small_runs import label, name

from analysis.synthetic import Kind
from training import studies
from training.corpus import Corpus
from training.few_shot import Shot
from training.intervals import Interval
from training.plan import Plan
from training.trials import checkpoint_digest, ground


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """Two databases of 24 recordings, half of each with a left bundle branch block."""
    monkeypatch.setattr(studies, "TARGETS", {"north": ("N",), "south": ("S",)})
    monkeypatch.setattr(studies, "LEAST", 6)
    monkeypatch.setattr(studies, "RECIPE", RECIPE)
    made = Corpus.create(tmp_path / "corpus")
    for site, first in (("N", 0), ("S", 24)):
        for number in range(first, first + 24):
            kind = Kind.LBBB if number % 2 else Kind.SINUS
            write_plain(tmp_path / site / name(number), number, kind)
        imported(made, tmp_path / site, site=site)
    label(made, {number: bool(number % 2) for number in range(48)})
    return made


def test_the_union_teaches_nothing_of_those_who_judge(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[tuple[Plan, frozenset[str]]] = []
    learned = studies.Ground.learned

    def noted(self, net, plan, train, watch, folder):  # noqa: ANN001, ANN202 - as it is
        taught.append((plan, frozenset(train)))
        return learned(self, net, plan, train, watch, folder)

    monkeypatch.setattr(studies.Ground, "learned", noted)
    found = studies.union(str(corpus.folder), tmp_path / "runs", seeds=1, epochs=1)
    (_, union), *_ = taught
    for target, sites in studies.TARGETS.items():
        plan = studies.plan_of(target, str(corpus.folder), sites, epochs=1)
        split = ground(plan, RECIPE).prepared.split
        assert union.isdisjoint({*split.validation, *split.calibration, *split.test})
        assert union.issuperset(split.train)
    known = {
        way: corpus.taught(checkpoint_digest(tmp_path / "runs" / f"0-{way}"))
        for way in ("union", "north-all", "north-scratch")
    }
    assert known["union"] > union
    assert known["north-all"] == known["union"] | known["north-scratch"]
    assert [study.target for study in found] == ["north", "south"]
    assert [line.way for line in found[0].lines] == list(studies.WAYS)
    assert found[0].keys == ("normal", "lbbb")
    assert found[0].lines[0].ahead is None


def test_a_seed_that_the_budget_has_no_time_for_is_not_begun(
    corpus: Corpus, tmp_path: Path
) -> None:
    said: list[str] = []
    found = studies.union(
        str(corpus.folder),
        tmp_path / "runs",
        seeds=3,
        epochs=1,
        budget=lambda: False,
        report=said.append,
    )
    assert {study.seeds for study in found} == {1}
    assert said[-1] == "The budget is used up after 1 seeds."


def test_the_tables_are_markdown() -> None:
    figure = Interval(value=0.8, low=0.7, high=0.9)
    line = studies.Line(way="from the union, all layers", auroc=figure, ahead=figure)
    study = studies.Study(target="LUDB", records=140, keys=("lvh",), seeds=5, lines=(line,))
    shot = Shot(
        positives=25, seeds=5, learned=figure, random=figure, difference=figure, said="It paid."
    )
    text = studies.table([study], [shot])
    assert "| from the union, all layers | 0.800 (0.700 to 0.900) |" in text
    assert "| 25 | 0.800 (0.700 to 0.900) |" in text
    assert "- It paid." in text
