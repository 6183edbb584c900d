"""Retention: by age, gently, never before it is safe elsewhere; known for ever, reclaimed once."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cart import CART_FILE
from node import Node, poll
from test_ledger import (
    PACS,
    end,
    leased,
    postgres,  # noqa: F401 - a fixture
    receive,
    received,
    reported,
    row,
    url,  # noqa: F401 - a fixture
)

from dicom_node import operate, scu
from dicom_node import retention as module
from dicom_node import spool as spool_module
from dicom_node.ledger import DeliveryState, Ledger, Part, Receipt, Rule, State
from dicom_node.node import open_folder
from dicom_node.pacs import Pacs
from dicom_node.reasons import Quarantine
from dicom_node.retention import BREATH, GRACE, KINDS, PAUSE, ROUND, Purger, rule_of
from dicom_node.settings import Retention
from dicom_node.spool import BlobRef, Spool

DAY = 86400.0
NOW = 100 * DAY
EVERYTHING = Retention(source_days=1, results_days=2, quarantine_days=3)


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:  # noqa: F811 - a fixture
    """Open a new ledger."""
    opened = Ledger(url)
    opened.create()
    yield opened
    opened.close()


def purge(
    ledger: Ledger, part: Part, state: State = State.COMMITTED, now: float = NOW
) -> list[int]:
    rule = Rule(state=state, part=part, before=now)
    return ledger.purge(rule, ledger.purgeable(rule, range(1, 100)), now)


def quarantined(ledger: Ledger, uid: str) -> int:
    receive(ledger, received(uid))
    lease = leased(ledger)
    ledger.quarantine(lease, Quarantine.FAILED, "why")
    return lease.id


def test_by_default_everything_is_kept_for_ever() -> None:
    assert [rule_of(Retention(), *kind, NOW) for kind in KINDS] == [None] * 3


def test_each_age_counts_for_its_own_part() -> None:
    found = [rule_of(EVERYTHING, *kind, NOW) for kind in KINDS]
    assert [NOW - rule.before for rule in found if rule] == [1 * DAY, 2 * DAY, 3 * DAY]


@pytest.mark.parametrize("ending", [DeliveryState.FAILED, DeliveryState.STORED, None])
def test_what_no_destination_committed_to_is_never_purged(
    ledger: Ledger, ending: DeliveryState | None
) -> None:
    reported(ledger, "1.1", PACS)
    if ending is not None:
        end(ledger, PACS, ending, reason="refused")
    assert purge(ledger, Part.SOURCE) == purge(ledger, Part.RESULTS) == []


def test_what_is_purged_is_recorded_once_and_breaks_no_promise(ledger: Ledger) -> None:
    reported(ledger, "1.1", PACS)
    end(ledger, PACS, DeliveryState.DELIVERED)
    assert purge(ledger, Part.SOURCE, now=3.9) == []
    assert purge(ledger, Part.SOURCE) == [1]
    assert purge(ledger, Part.SOURCE) == []
    assert row(ledger)["purged"] == {Part.SOURCE: NOW}
    assert row(ledger)["result"] is not None
    assert purge(ledger, Part.RESULTS) == [1]
    assert row(ledger)["result"] is None
    said = [(item["event"], item["reason"], item["detail"]) for item in ledger.trail()]
    assert said == [
        ("purged", "COMMITTED", '{"part": "source", "rows": [1]}'),
        ("purged", "COMMITTED", '{"part": "results", "rows": [1]}'),
    ]
    assert ledger.segments() == set()
    assert ledger.violations(NOW, 60.0) == []
    assert not ledger.retry(1, NOW)


def test_object_sent_again_after_the_purge_is_known_and_makes_no_second_report(
    ledger: Ledger,
) -> None:
    reported(ledger, "1.1", PACS)
    end(ledger, PACS, DeliveryState.DELIVERED)
    purge(ledger, Part.SOURCE)
    purge(ledger, Part.RESULTS)
    assert ledger.knows("1.1", row(ledger)["sha256"])
    assert receive(ledger, received("1.1")) == [Receipt.DUPLICATE]
    assert receive(ledger, received("1.1", "other")) == [Receipt.CONFLICT]
    assert row(ledger)["state"] == State.COMMITTED
    assert ledger.held("1.1") != []  # the conflict alone


def test_what_was_purged_in_quarantine_is_taken_anew(ledger: Ledger) -> None:
    number = quarantined(ledger, "1.1")
    purge(ledger, Part.SOURCE, State.QUARANTINED)
    assert not ledger.retry(number, NOW)
    assert not ledger.knows("1.1", row(ledger)["sha256"])
    assert ledger.held("1.1") == []
    assert receive(ledger, received("1.1", at=NOW)) == [Receipt.NEW]
    assert row(ledger)["purged"] == {}
    assert leased(ledger, now=NOW).id == number
    assert ledger.held("1.1") != []


def test_conflict_that_was_purged_stays_one_when_it_comes_again(ledger: Ledger) -> None:
    receive(ledger, received("1.1"), received("1.1", "other"))
    purge(ledger, Part.SOURCE, State.QUARANTINED)
    assert receive(ledger, received("1.1", "other", at=NOW)) == [Receipt.CONFLICT]
    assert row(ledger, 2)["reason"] == Quarantine.CONFLICT
    assert row(ledger, 2)["purged"] == {}


def test_row_that_was_tried_again_is_as_old_as_its_last_attempt(ledger: Ledger) -> None:
    number = quarantined(ledger, "1.1")
    ledger.retry(number, NOW)
    ledger.quarantine(leased(ledger, now=NOW), Quarantine.FAILED, "why")
    assert purge(ledger, Part.SOURCE, State.QUARANTINED, now=NOW - 1.0) == []


def test_row_that_moved_on_since_it_was_found_is_left_alone(ledger: Ledger) -> None:
    number = quarantined(ledger, "1.1")
    rule = Rule(state=State.QUARANTINED, part=Part.SOURCE, before=NOW)
    found = ledger.purgeable(rule, range(10))
    ledger.retry(number, NOW)
    assert (found, ledger.purge(rule, found, NOW)) == ([number], [])
    assert ledger.trail() == []


def test_row_that_is_purged_and_not_at_rest_is_a_broken_promise(ledger: Ledger) -> None:
    quarantined(ledger, "1.1")
    purge(ledger, Part.SOURCE, State.QUARANTINED)
    with ledger.transaction() as connection:
        connection.exec_driver_sql("UPDATE instance SET state = 'REPORTED'")
    assert "row 1 (REPORTED) was purged and is not at rest" in ledger.violations(NOW, 60.0)


# Segments


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spool:
    """Return a spool whose segments hold two blobs each."""
    monkeypatch.setattr(spool_module, "SEGMENT", 10)
    made = Spool(tmp_path / "spool")
    made.prepare(())
    return made


def purger(ledger: Ledger, spool: Spool, ages: Retention = EVERYTHING) -> Purger:
    return Purger(lambda: ages, ledger=ledger, spool=spool, clock=lambda: NOW)


def kept(ledger: Ledger, spool: Spool, uid: str) -> BlobRef:
    """Receive an object, and set it aside."""
    blob = spool.write(uid.encode().ljust(5))
    spool.sync([blob])
    receive(ledger, replace(received(uid), blob=blob))
    ledger.quarantine(leased(ledger), Quarantine.FAILED, "why")
    return blob


def test_segment_goes_when_all_of_its_blobs_are_purged_and_not_before(
    ledger: Ledger, spool: Spool, tmp_path: Path
) -> None:
    first, second, third = (kept(ledger, spool, uid) for uid in ("1.1", "1.2", "1.3"))
    assert first.key == second.key != third.key
    rule = Rule(state=State.QUARANTINED, part=Part.SOURCE, before=NOW)
    ledger.purge(rule, [1], NOW)
    assert purger(ledger, spool).reclaim(spool.idle()) == 0
    assert spool.read(first)
    ledger.purge(rule, [2], NOW)
    assert purger(ledger, spool).reclaim(spool.idle()) == 1
    assert {path.name for path in (tmp_path / "spool").iterdir()} == {third.key}
    assert ledger.segments() == {third.key}


def test_segment_that_is_still_written_to_is_never_taken_away(ledger: Ledger, spool: Spool) -> None:
    kept(ledger, spool, "1.1")
    list(purger(ledger, spool).batches())
    assert ledger.segments() == set()
    assert purger(ledger, spool).reclaim(spool.idle()) == 0
    on_its_way = spool.write(b"12345")
    spool.write(b"next")  # the first segment is full now
    idle = spool.idle()
    assert idle == {on_its_way.key}
    receive(ledger, replace(received("1.2"), blob=on_its_way))  # its row comes last
    assert purger(ledger, spool).reclaim(idle) == 0
    assert spool.read(on_its_way)


def test_a_round_is_gentle_and_stops_when_it_is_told(
    ledger: Ledger, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    for number in range(5):
        kept(ledger, spool, f"1.{number}")
    waited: list[float] = []

    def run(rounds: int) -> None:
        waited.clear()
        purger(ledger, spool).run(lambda: len(waited) >= rounds, waited.append)

    run(7)
    assert len(ledger.trail()) == 1
    run(11)
    assert [seconds for seconds in waited if seconds != BREATH] == [PAUSE, PAUSE, GRACE, ROUND]
    assert ledger.purged() == {(State.QUARANTINED, Part.SOURCE): 5}
    assert len(spool.idle()) == 0


def test_a_change_of_mind_counts_before_the_next_batch(
    ledger: Ledger, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 1)
    for uid in ("1.1", "1.2"):
        kept(ledger, spool, uid)
    ages = iter([EVERYTHING] * 5)  # two rows of COMMITTED twice, then one set aside
    made = Purger(lambda: next(ages, Retention()), ledger=ledger, spool=spool, clock=lambda: NOW)
    assert sum(made.batches()) == 1
    assert ledger.purged() == {(State.QUARANTINED, Part.SOURCE): 1}


def test_segment_that_is_just_begun_is_not_idle(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "spool" / "begun").touch()
    assert spool.idle() == set()


def test_a_ledger_that_cannot_be_asked_ends_no_more_than_a_round(
    ledger: Ledger, spool: Spool
) -> None:
    kept(ledger, spool, "1.1")
    with ledger.transaction() as connection:
        connection.exec_driver_sql("DROP TABLE purge")
    waited: list[float] = []
    purger(ledger, spool).run(lambda: len(waited) >= 2, waited.append)
    assert waited == [ROUND, ROUND]


# Through the port


@pytest.mark.slow
def test_node_killed_between_purge_and_removal_makes_no_second_report(
    make_node: Callable[..., Node], pacs: Pacs
) -> None:
    node = make_node(destinations={"PACS": pacs.port}, overrides={"WORK__WORKERS": "1"}).start()
    assert [sent.ok for sent in scu.send([CART_FILE], node.address, "CART")] == [True]
    assert poll(lambda: [item["state"] for item in node.rows()] == [State.COMMITTED])
    node.kill()
    node.overrides = {
        "RETENTION__SOURCE_DAYS": "1e-9",
        "RETENTION__RESULTS_DAYS": "1e-9",
        "WORK__WORKERS": "1",
    }
    node.failpoint = "after_purge:kill"
    node.start()
    assert poll(lambda: _purged(node) == 2)  # each purge kills the process that did it
    assert poll(node.ready)
    assert node.log.count("process_died") == 2
    assert [sent.ok for sent in scu.send([CART_FILE], node.address, "CART")] == [True]
    assert poll(lambda: 'ecg_purged_total{part="source",state="COMMITTED"} 1.0' in _metrics(node))
    node.stop()
    assert len(node.rows()) == 1
    assert len(pacs.files) == 3
    (shown,) = operate.Queue.read(node.settings, ["committed"], 10).rows
    assert shown["purged"].keys() == {"source", "results"}
    assert shown["message"] == "Purged by age: source and results; the row stays."
    with pytest.raises(LookupError, match="were purged by age on"):
        operate.export(node.settings, 1, node.folder / "bytes")
    open_folder(node.settings, time.time())
    assert list((node.folder / "data" / "spool").iterdir()) == []
    with node.ledger() as opened:
        assert opened.violations(time.time(), 120.0) == []
    node.process = None  # its source's bytes are gone, as they should be


def _purged(node: Node) -> int:
    return sum(item["event"] == "purged" for item in node.trail())


def _metrics(node: Node) -> str:
    return node.get("/metrics")[1]
