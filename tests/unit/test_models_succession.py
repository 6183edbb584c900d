"""The worker's part in a promotion: it swaps between two ECGs, or stays with the one before."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest
import structlog
from test_models_registry import added, packed, speaks, store  # noqa: F401 - a fixture

from analysis.errors import ModelReason, ModelRejected
from analysis.model import Model
from dicom_node import work
from dicom_node.models import ModelState, ModelStore
from dicom_node.pipeline import Pipeline
from dicom_node.settings import Settings
from dicom_node.work import Succession

Load = Callable[[str], Model]


@dataclass
class Loads:
    """The one part of a pipeline that a succession uses."""

    model: Load


def succession(store: ModelStore, model: Load | None = None) -> Succession:  # noqa: F811
    pipeline = cast("Pipeline", Loads(model or store.load))
    return Succession(store, pipeline, Settings())


def refusing(reason: Exception) -> Load:
    def model(_digest: str) -> Model:
        raise reason

    return model


DAMAGED = ModelRejected(ModelReason.SELF_TEST_FAILED, "It gives other answers.")


def test_worker_finds_a_promoted_model_well_and_lets_it_speak(
    store: ModelStore,  # noqa: F811
) -> None:
    worker = succession(store)
    worker.look(1.0)
    store.promote(added(store), 2.0, "anna")
    assert speaks(store) == "1"
    worker.look(3.0)
    assert speaks(store) == "2"
    assert store.ledger.trail()[-1]["event"] == "model_speaks"


def test_nothing_is_loaded_while_nothing_changes(store: ModelStore) -> None:  # noqa: F811
    asked: list[str] = []
    worker = succession(store, lambda digest: asked.append(digest) or store.load(digest))  # type: ignore[func-returns-value]
    for moment in range(5):
        worker.look(float(moment))
    assert asked == list(store.current())


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (DAMAGED, "It gives other answers."),
        (MemoryError(), "It does not bring a simulated ECG to a report."),
        (ValueError("CANARY"), "It does not bring a simulated ECG to a report."),
    ],
)
def test_whatever_is_wrong_with_it_the_one_before_speaks_on_and_an_alarm_is_raised(
    store: ModelStore,  # noqa: F811
    error: Exception,
    sentence: str,
) -> None:
    digest = added(store)
    store.promote(digest, 2.0, "anna")
    with structlog.testing.capture_logs() as logs:
        succession(store, refusing(error)).look(3.0)
        succession(store).look(4.0)  # another worker does not try again
    assert [(line["event"], line["log_level"]) for line in logs] == [("model_refused", "error")]
    assert "CANARY" not in str(logs)
    assert (speaks(store), store.get(digest).refused) == ("1", sentence)
    assert store.ledger.trail()[-1]["event"] == "model_refused"


def test_worker_that_cannot_load_what_another_found_well_says_so_and_goes_on(
    store: ModelStore,  # noqa: F811
) -> None:
    with structlog.testing.capture_logs() as logs:
        succession(store, refusing(DAMAGED)).look(1.0)
    assert [line["event"] for line in logs] == ["model_refused"]
    assert speaks(store) == "1"


def test_worker_whose_model_is_damaged_at_the_start_begins_without_it_and_says_so(
    store: ModelStore,  # noqa: F811
) -> None:
    (digest,) = store.speaking()
    package = store.path(digest).read_bytes()
    store.path(digest).write_bytes(package[: len(package) // 2])
    with structlog.testing.capture_logs() as logs:
        succession(store).begin(1.0)
        succession(store).begin(2.0)
    assert [line["event"] for line in logs] == ["model_refused"]
    assert store.speaking() == ()
    assert (store.get(digest).speaks, bool(store.get(digest).refused)) == (False, True)
    store.install(package, 3.0)
    assert store.speaking() == (digest,)


def test_model_beside_another_speaks_with_it_and_falls_silent_with_it(
    store: ModelStore,  # noqa: F811
) -> None:
    (first,) = store.speaking()
    few = store.install(packed(version="few leads"), 1.0)
    store.speak_beside(few, first, 1.0)
    assert store.speaking() == (first, few)
    assert store.get(few).state is ModelState.COMPANION
    second = added(store)
    store.promote(second, 2.0, "anna")
    succession(store).look(3.0)
    assert store.speaking() == (second,)
    store.roll_back(4.0, "anna")
    succession(store).look(5.0)
    assert store.speaking() == (first, few)
    store.refuse(few, "It is damaged.", 6.0)
    assert store.speaking() == (first,)


def test_rehearsal_that_fails_keeps_a_model_from_speaking(
    store: ModelStore,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("no report")

    digest = added(store)
    store.promote(digest, 2.0, "anna")
    monkeypatch.setattr(work, "rehearse", fails)
    succession(store).look(3.0)
    assert speaks(store) == "1"
