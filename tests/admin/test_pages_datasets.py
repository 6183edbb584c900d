"""What the page of the data sets says: how good the recordings are, and how well a model reads."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from corpora import small_corpus
from office import Desk, opened
from tiny_model import packed

from dicom_node.ledger import Ledger
from training.admin import queries, tables
from training.admin.api import models
from training.admin.pages import datasets
from training.admin.problems import Problem
from training.admin.queries import Qualities
from training.labels import Label, Origin, Value


@pytest.fixture
def found(tmp_path: Path) -> Iterator[Qualities]:
    """Return the qualities of eight recordings of four patients."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.create()
    tables.create(ledger)
    yield Qualities(ledger, small_corpus(tmp_path))
    ledger.close()


def look(found: Qualities, limit: int) -> int:
    return found.look(frozenset(record.id for record in found.corpus.records), limit)


def test_each_recording_is_looked_at_once(
    found: Qualities, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [look(found, 3), look(found, 3), look(found, 3)] == [5, 2, 0]
    assert found.counts.total() == 8
    monkeypatch.setattr(queries, "examine", None)  # would be called for what is new
    assert look(found, 3) == 0


def test_who_withdrew_is_counted_no_more(found: Qualities) -> None:
    look(found, 8)
    found.corpus.withdraw(found.corpus.records[0].patient)
    look(found, 8)
    assert found.counts.total() == 6


def test_damaged_recording_is_called_damaged(found: Qualities) -> None:
    found.corpus.path(found.corpus.records[0].id).write_bytes(b"cut short")
    look(found, 8)
    assert found.counts[queries.DAMAGED] == 1


def test_newer_revision_looks_again(found: Qualities, monkeypatch: pytest.MonkeyPatch) -> None:
    look(found, 8)
    monkeypatch.setattr(queries, "ALGORITHM_REVISION", "next")
    assert found.counts == Counter()
    assert look(found, 5) == 3


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Return a service whose corpus has eight labelled recordings of four patients."""
    with opened(tmp_path / "node") as made:
        (made.office.corpus.parent).mkdir(parents=True, exist_ok=True)
        corpus = small_corpus(tmp_path / "made")
        corpus.folder.rename(made.office.corpus)
        yield made


def test_patients_from_whom_a_model_learned_do_not_judge_it(desk: Desk) -> None:
    digest = models.store_of(desk.office).add_candidate(packed(), 0.0, {})
    corpus = datasets.corpus_of(desk.office)
    records = corpus.records
    corpus.add_labels(
        Label(
            record=record.id,
            key="atrial_fibrillation",
            value=Value.PRESENT if number % 2 else Value.ABSENT,
            origin=Origin.REVIEWER,
            author="ada",
            time="2026-01-01T00:00:00",
            ai_visible=False,
        )
        for number, record in enumerate(records)
    )
    everybody = datasets.evaluation(desk.office, digest, "")
    assert (everybody["records"], everybody["excluded"]) == (8, 0)
    corpus.learned(digest, [records[0].id])
    others = datasets.evaluation(desk.office, digest, "")
    assert (others["records"], others["excluded"]) == (6, 2)  # two recordings of this patient
    corpus.learned(digest, [record.id for record in records])
    with pytest.raises(Problem, match="It learned from the patients of all 8 recordings"):
        datasets.evaluation(desk.office, digest, "")
