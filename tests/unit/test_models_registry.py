"""The registry: packages whole or absent, and nobody speaks without a verdict or a reason."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import tiny_model
from test_ledger import (  # noqa: F401 - two are fixtures
    end,
    leased,
    postgres,
    produced,
    receive,
    received,
    url,
)

from analysis.errors import ModelRejected
from dicom_node import models
from dicom_node.ledger import DeliveryState, Ledger
from dicom_node.models import ModelState, ModelStore, NotAllowed
from dicom_node.report.uids import device_uid
from dicom_node.shadow import Ending, Shadowed, ShadowReport

packed = cache(tiny_model.packed)
PASSED = {"verdict": {"passed": True, "reasons": []}}
FAILED = {"verdict": {"passed": False, "reasons": ["worse in women", "not calibrated"]}}
LONG_AFTER = 1e6


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ModelStore]:
    """Return a registry in which version 1 speaks."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.create()
    made = ModelStore(tmp_path / "models", ledger)
    first = made.install(packed(), 0.0)
    made.promote(first, 0.0, "the node", override="The first.")
    made.prepare(0.0)
    yield made
    ledger.close()


def added(store: ModelStore, version: str = "2", evidence: Any = PASSED) -> str:
    """Return the digest of another version, a candidate."""
    return store.add_candidate(packed(version=version), 1.0, evidence, "anna")


def states(store: ModelStore) -> dict[str, str]:
    return {entry.version: str(entry.state) for entry in store.list()}


def speaks(store: ModelStore) -> str:
    (digest,) = store.speaking()
    return store.get(digest).version


def swap(store: ModelStore, digest: str, now: float = 10.0) -> None:
    """Promote, and let a worker find it well."""
    store.promote(digest, now, "anna")
    assert store.claim(digest, now)
    store.serve(digest, now)


def events(store: ModelStore) -> list[tuple[str, str, str]]:
    return [(row["event"], row["reason"], row["detail"]) for row in store.ledger.trail()]


# Packages


def test_candidate_lies_beside_its_evidence_and_is_told_with_it(store: ModelStore) -> None:
    digest = added(store, evidence=PASSED | {"run": 7})
    entry = store.get(digest)
    assert (entry.state, entry.passed, entry.present) == (ModelState.CANDIDATE, True, True)
    assert store.evidence(digest)["run"] == 7
    assert states(store) == {"1": "current", "2": "candidate"}
    assert store.load(digest).identity.digest == digest


def test_what_is_no_package_leaves_nothing_behind(store: ModelStore) -> None:
    before = sorted(store.folder.iterdir())
    for data in (b"no model", tiny_model.graph().SerializeToString(), packed()[:-100]):
        with pytest.raises(ModelRejected):
            store.add_candidate(data, 1.0, PASSED)
    assert sorted(store.folder.iterdir()) == before
    assert states(store) == {"1": "current"}


@pytest.mark.parametrize("rename", [1, 2])
@pytest.mark.parametrize("after", [False, True])
def test_process_killed_while_it_adds_leaves_no_half_model(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, *, rename: int, after: bool
) -> None:
    """Kill before and after each of the two renames: of the evidence and of the package."""
    data = packed(version="2")
    store.ledger.close()
    pid = os.fork()
    if pid == 0:  # pragma: no cover - the child is killed
        monkeypatch.setattr(Path, "replace", lethal(rename, after=after))
        store.add_candidate(data, 1.0, PASSED)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    for path in store.folder.glob("*.onnx"):
        assert store.load(path.stem).identity.digest == path.stem
    assert states(store) == {"1": "current"}
    digest = store.add_candidate(data, 2.0, PASSED)
    assert store.get(digest).passed
    store.tidy(LONG_AFTER * 1e6)
    assert {path.suffix for path in store.folder.iterdir()} == {".onnx", ".json"}


def lethal(number: int, *, after: bool) -> Callable[[Path, Path], Path]:
    """Return a rename that kills this process at one of its calls, before or after its work."""
    calls, rename = count(1), Path.replace

    def replace_and_die(draft: Path, target: Path) -> Path:
        last = next(calls) == number
        moved = rename(draft, target) if after or not last else target
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return moved

    return replace_and_die


def test_full_disk_leaves_no_draft(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "full")

    before = sorted(store.folder.iterdir())
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        added(store)
    assert sorted(store.folder.iterdir()) == before


def test_evidence_of_another_model_counts_for_nothing(store: ModelStore) -> None:
    good, other = added(store), added(store, "3", {})
    store.evidence_path(other).write_bytes(store.evidence_path(good).read_bytes())
    assert store.get(other).verdict is None
    store.evidence_path(good).write_text('{"verdict"')
    assert store.get(good).verdict is None


def test_evidence_outlives_a_package_that_is_added_once_more_by_hand(store: ModelStore) -> None:
    digest = added(store, evidence=PASSED | {"run": 7})
    added(store, evidence={"source": "exported.onnx"})
    assert store.get(digest).passed
    assert {"run", "source", "verdict"} <= store.evidence(digest).keys()
    added(store, evidence=FAILED)
    assert store.get(digest).passed is False


def test_package_that_was_swapped_for_another_is_not_loaded(store: ModelStore) -> None:
    digest = added(store)
    store.path(digest).write_bytes(packed(version="3"))
    with pytest.raises(ModelRejected, match="another package"):
        store.load(digest)


def test_added_again_a_damaged_package_is_whole(store: ModelStore) -> None:
    digest = added(store)
    store.path(digest).write_bytes(b"half")
    assert added(store) == digest
    store.load(digest)


def test_each_version_is_another_device(store: ModelStore) -> None:
    added(store)
    added(store, "3")
    found = {entry.device_uid for entry in store.list()}
    assert found == {device_uid(entry.digest) for entry in store.list()}
    assert len(found) == 3


def test_digest_may_be_cut_short_where_one_model_alone_begins_so(store: ModelStore) -> None:
    digest = added(store)
    (first,) = store.current()
    common = next(digest[:size] for size in range(64) if digest[size] != first[size])
    assert store.resolve(digest[: len(common) + 1].upper()) == digest
    for prefix in (common, "", "zz", "%"):
        with pytest.raises(LookupError, match=r"begins? with"):
            store.resolve(prefix)
    with pytest.raises(LookupError, match="no model"):
        store.get("f" * 64)


# The gate, and who decides


@pytest.mark.parametrize(
    ("evidence", "sentence"),
    [
        ({}, "no verdict"),
        ({"verdict": "fine"}, "no verdict"),
        ({"verdict": {}}, "does not say why"),
        ({"verdict": {"passed": "yes"}}, "refused it"),
        (FAILED, "worse in women; not calibrated"),
    ],
)
def test_without_a_passed_verdict_a_promotion_needs_a_reason_and_both_are_audited(
    store: ModelStore, evidence: dict[str, Any], sentence: str
) -> None:
    digest = added(store, evidence=evidence)
    for blank in (None, "", "  "):
        with pytest.raises(NotAllowed, match=sentence):
            store.promote(digest, 2.0, "anna", override=blank)
    assert states(store)["2"] == "candidate"
    store.promote(digest, 2.0, "anna", override="The old one fails on our carts.")
    assert states(store) == {"1": "previous", "2": "current"}
    event, reason, detail = events(store)[-1]
    assert (event, reason) == ("model_promoted", "override")
    assert detail.startswith(f"{digest} by anna: override: The old one fails")
    assert sentence in detail


def test_model_that_passed_is_promoted_by_a_person_alone(store: ModelStore) -> None:
    digest = added(store, evidence=PASSED)
    store.promote(digest, 2.0, "anna", override="not needed")
    assert events(store)[-1] == ("model_promoted", "", f"{digest} by anna")
    assert store.ledger.violations(3.0, 1.0) == []


def test_model_that_learned_from_who_withdrew_is_promoted_on_purpose_alone(
    store: ModelStore,
) -> None:
    digest = added(store)
    store.mark_withdrawn({digest: 3, "f" * 64: 9}, 2.0)
    store.mark_withdrawn({digest: 3}, 3.0)
    assert store.get(digest).withdrawn == 3
    assert [event for event, *_ in events(store)].count("model_withdrawn") == 1
    with pytest.raises(NotAllowed, match="3 recordings whose patients withdrew"):
        store.promote(digest, 4.0, "anna")
    store.promote(digest, 4.0, "anna", override="Trained anew next week.")
    assert states(store)["2"] == "current"


def test_damaged_package_is_promoted_by_nobody(store: ModelStore) -> None:
    digest = added(store)
    store.path(digest).write_bytes(store.path(digest).read_bytes()[:-1])
    with pytest.raises(ModelRejected):
        store.promote(digest, 2.0, "anna", override="Please.")
    assert states(store)["2"] == "candidate"


def test_one_step_back_and_forth_again(store: ModelStore) -> None:
    digest = added(store)
    swap(store, digest)
    (first,) = (entry.digest for entry in store.list() if entry.version == "1")
    assert store.roll_back(11.0, "ben") == first
    assert states(store) == {"1": "current", "2": "previous"}
    assert events(store)[-1] == ("model_rolled_back", "", f"{first} by ben")
    assert store.roll_back(12.0, "ben") == digest


def test_nothing_to_roll_back_to_is_a_sentence(store: ModelStore) -> None:
    with pytest.raises(LookupError, match="no previous model"):
        store.roll_back(1.0, "ben")


def test_damaged_previous_model_is_not_rolled_back_to(store: ModelStore) -> None:
    (first,) = store.current()
    digest = added(store)
    swap(store, digest)
    store.path(first).write_bytes(b"damaged")
    with pytest.raises(ModelRejected):
        store.roll_back(11.0, "ben")
    assert store.current() == (digest,)


# Who speaks


def test_promoted_model_speaks_once_a_worker_found_it_well(store: ModelStore) -> None:
    digest = added(store)
    store.promote(digest, 2.0, "anna")
    assert (states(store)["2"], speaks(store)) == ("current", "1")
    assert store.claim(digest, 3.0)
    assert not store.claim(digest, 3.0)  # one worker is enough
    store.serve(digest, 3.0)
    assert speaks(store) == "2"
    assert store.get(digest).refused == ""


def test_model_that_kills_its_worker_is_tried_by_no_other_until_it_is_promoted_again(
    store: ModelStore,
) -> None:
    digest = added(store)
    store.promote(digest, 2.0, "anna")
    before = store.generation()
    assert store.claim(digest, 3.0)  # and dies
    assert not store.claim(digest, 4.0)
    assert store.get(digest).refused
    store.promote(digest, 5.0, "anna")
    assert store.generation() != before
    assert store.claim(digest, 6.0)
    store.refuse(digest, "It does not give its answers.", 6.0)
    assert (speaks(store), store.get(digest).refused) == ("1", "It does not give its answers.")
    store.prepare(7.0)  # the node starts again
    assert store.claim(digest, 8.0)


def test_worker_that_comes_late_lets_nothing_speak_that_is_no_longer_current(
    store: ModelStore,
) -> None:
    digest = added(store)
    store.promote(digest, 2.0, "anna")
    assert store.claim(digest, 3.0)
    store.roll_back(4.0, "ben")
    store.serve(digest, 5.0)
    assert speaks(store) == "1"


# Shadow and retirement


def test_one_model_shadows_and_promoted_it_shadows_no_more(store: ModelStore) -> None:
    second, third = added(store), added(store, "3", {})
    store.shadow(third, 2.0, "anna")
    store.shadow(second, 3.0, "anna")
    assert states(store) == {"1": "current", "2": "shadow", "3": "candidate"}
    assert store.shadowing() == (second, 3.0)
    with pytest.raises(NotAllowed, match="speaks already"):
        store.shadow(store.current()[0], 4.0, "anna")
    swap(store, second)
    assert store.shadowing() is None
    assert not store.end_shadow(11.0, "anna")


def test_retired_package_goes_once_no_open_row_names_it(store: ModelStore) -> None:
    (first,) = store.current()
    store.ledger.receive([received("1.1")], json.dumps({"models": [first]}), "digest")
    digest = added(store)
    with pytest.raises(NotAllowed, match="It speaks"):
        store.retire(first, 2.0, "anna")
    swap(store, digest)
    assert not store.retire(first, LONG_AFTER, "anna")
    assert (store.get(first).state, store.get(first).present) == (ModelState.RETIRED, True)
    with pytest.raises(LookupError):
        store.roll_back(LONG_AFTER, "anna")
    for refused in (store.promote, store.shadow):
        with pytest.raises(NotAllowed, match="retired"):
            refused(first, LONG_AFTER, "anna")
    lease = store.ledger.lease("worker", LONG_AFTER, LONG_AFTER)
    assert lease is not None
    store.ledger.quarantine(lease, "failed", "It may be tried again.")
    assert store.tidy(LONG_AFTER) == ()
    assert store.ledger.retry(lease.id, LONG_AFTER)
    again = store.ledger.lease("worker", LONG_AFTER, LONG_AFTER)
    assert again is not None
    store.ledger.analysed(again, "{}", LONG_AFTER)
    assert store.tidy(LONG_AFTER) == ()
    store.ledger.reported(again, produced("1.1"), ["PACS"], LONG_AFTER)
    assert store.tidy(LONG_AFTER) == (first,)
    assert not store.get(first).present
    assert store.install(packed(), LONG_AFTER) == first
    assert store.get(first).state is ModelState.CANDIDATE


def test_plan_on_its_way_while_models_are_swapped_keeps_its_package(store: ModelStore) -> None:
    (first,) = store.current()
    swap(store, added(store), now=10.0)
    assert not store.retire(first, 11.0, "anna")
    assert store.tidy(11.0 + models._ON_ITS_WAY) == (first,)


def test_life_of_a_model_is_the_same_on_each_database(url: str, tmp_path: Path) -> None:  # noqa: F811
    ledger = Ledger(url)
    ledger.create()
    store = ModelStore(tmp_path, ledger)
    first = store.install(packed(), 0.0)
    store.promote(first, 0.0, "the node", override="The first.")
    store.prepare(0.0)
    digest = added(store)
    store.shadow(digest, 1.0, "anna")
    receive(ledger, received("1.1", at=2.0))
    reading = Shadowed(ledger)
    assert reading.next(digest, 1.0) is None
    lease = leased(ledger, now=3.0)
    ledger.analysed(lease, "{}", 3.0)
    ledger.reported(lease, produced("1.1"), ("PACS",), 3.0)
    end(ledger, "PACS", DeliveryState.DELIVERED)
    task = reading.next(digest, 1.0)
    assert task is not None
    reading.record(task, digest, 4.0, reason=Ending.CRASHED)
    assert (reading.next(digest, 1.0), reading.crashes(digest, 1.0)) == (None, 1)
    assert ShadowReport.of(ledger, digest).unread == {"crashed": 1}
    swap(store, digest)
    store.mark_withdrawn({first: 2}, 11.0)
    assert store.retire(first, LONG_AFTER, "anna")
    assert states(store) == {"1": "retired", "2": "current"}
    assert [row["slot"] for row in ledger.in_slots()] == ["current", "speaking"]
    assert ledger.violations(LONG_AFTER, 1.0) == []
    ledger.close()


def test_stranger_is_asked_elsewhere(store: ModelStore) -> None:
    """The seam through which uploads are examined in another process."""

    def never(_data: bytes) -> Any:
        raise ModelRejected("unreadable", "Elsewhere.")  # type: ignore[arg-type]

    with pytest.raises(ModelRejected, match="Elsewhere"):
        replace(store, examine=never).add_candidate(packed(version="2"), 1.0, {})
