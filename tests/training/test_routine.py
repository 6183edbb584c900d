"""What becomes of the candidate of a scheduled run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_model import packed

from dicom_node.ledger import Ledger
from dicom_node.models import ModelState, ModelStore
from training.routine import let_shadow

NOW = 1_800_000_000.0
BY = "schedule 1 at 2027-01-15T02:30:00+00:00"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ModelStore]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.create()
    yield ModelStore(tmp_path / "models", ledger)
    ledger.close()


def test_candidate_of_a_scheduled_run_shadows_also_when_told_twice(store: ModelStore) -> None:
    digest = store.add_candidate(packed(), NOW, {})
    for _ in range(2):  # a worker that was killed between the model and its run's last word
        assert let_shadow(store, digest, BY, NOW) == "It shadows from the next ECG on."
    assert store.get(digest).state is ModelState.SHADOW
    events = [row for row in store.ledger.trail() if row["event"] == "model_shadows"]
    assert all(BY in row["detail"] for row in events)


def test_comparison_that_is_under_way_goes_on(store: ModelStore) -> None:
    first = store.add_candidate(packed(), NOW, {})
    second = store.add_candidate(packed(version="2"), NOW, {})
    store.shadow(first, NOW, "ada")
    said = let_shadow(store, second, BY, NOW)
    assert said == "It waits as a candidate: another model shadows."
    assert store.shadowing() == (first, NOW)
    assert store.get(second).state is ModelState.CANDIDATE


def test_model_that_may_not_shadow_is_a_sentence(store: ModelStore) -> None:
    digest = store.add_candidate(packed(), NOW, {})
    store.promote(digest, NOW, "ada", override="A test.")
    assert let_shadow(store, digest, BY, NOW).startswith("It does not shadow: It speaks already")
