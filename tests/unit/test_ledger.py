"""The ledger's promises: every transition whole, fenced and explained; on SQLite and PostgreSQL."""

import multiprocessing
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from ledger_work import PACS, blob, produced, work
from node import free_port
from support import absent

from dicom_node import ledger as tables
from dicom_node.ledger import (
    DeliveryState,
    Event,
    Lease,
    LeaseLost,
    Ledger,
    Outcome,
    Receipt,
    Received,
    SchemaMismatch,
    State,
)
from dicom_node.reasons import Delivery, Quarantine, sentence

LATER = 1_000.0
ARCHIVE = "ARCHIVE"


def received(uid: str, content: str = "", at: float = 0.0) -> Received:
    return Received(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.9.1.1",
        sop_instance_uid=uid,
        blob=blob(content or uid),
        calling_ae="CART",
        called_ae="SINUSNODE",
        address="127.0.0.1",
        received_at=at,
    )


def receive(ledger: Ledger, *items: Received) -> list[Receipt]:
    return ledger.receive(items, "{}", "digest")


def leased(ledger: Ledger, owner: str = "worker-1", now: float = 1.0) -> Lease:
    lease = ledger.lease(owner, now, now + 10)
    assert lease is not None
    return lease


def reported(ledger: Ledger, uid: str, *destinations: str) -> Lease:
    """Bring one new object to REPORTED."""
    receive(ledger, received(uid))
    lease = leased(ledger)
    ledger.analysed(lease, "result", 2.0)
    ledger.reported(lease, produced(uid), destinations, 3.0)
    return lease


def end(ledger: Ledger, destination: str, state: DeliveryState, **values: Any) -> None:
    """Let everything that is due at a destination end like this."""
    due = ledger.due(destination, LATER, 100)
    ledger.delivered(
        [Outcome(delivery_id=item.delivery_id, state=state, **values) for item in due], 4.0
    )


def row(ledger: Ledger, number: int = 1) -> dict[str, Any]:
    found = ledger.row(number)
    assert found is not None
    return found


# Both databases

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
POSTGRESQL = bool(find_spec("psycopg") and SERVERS and os.geteuid() == 0)
"""Whether a private server can be started: the driver, the programs, the right to do so."""


def _as_postgres(*command: str) -> None:
    subprocess.run(["runuser", "-u", "postgres", "--", *command], check=True, capture_output=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Run a private PostgreSQL on loopback; its SQLAlchemy URL."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        data, port, control = f"{name}/data", free_port(), str(SERVERS[-1])
        _as_postgres(control, "init", "-D", data, "-o", "--auth=trust --no-sync")
        options = (
            f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        )
        _as_postgres(control, "start", "-w", "-D", data, "-l", f"{data}/log", "-o", options)
        try:
            yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
        finally:
            _as_postgres(control, "stop", "-D", data, "-m", "immediate")


@pytest.fixture(params=["sqlite", *(["postgresql"] if POSTGRESQL else [])])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    found: str = request.getfixturevalue("postgres")
    engine = sa.create_engine(found)
    tables.metadata.drop_all(engine)
    engine.dispose()
    return found


def test_postgresql_is_tested_too() -> None:
    if not POSTGRESQL:
        absent("a PostgreSQL to test (psycopg, the Debian server and root)")


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """Open a new ledger, which has broken no promise in the end."""
    opened = Ledger(url)
    opened.create()
    yield opened
    opened.close()


# Reception


def test_object_is_new_once_then_a_duplicate_and_with_other_bytes_a_conflict(
    ledger: Ledger,
) -> None:
    assert receive(ledger, received("1.1")) == [Receipt.NEW]
    assert receive(ledger, received("1.1")) == [Receipt.DUPLICATE]
    assert receive(ledger, received("1.1", "other")) == [Receipt.CONFLICT]
    assert receive(ledger, received("1.1", "other")) == [Receipt.DUPLICATE]
    kept = {item["state"]: item for item in ledger.rows()}
    assert kept.keys() == {State.RECEIVED, State.QUARANTINED}
    assert kept[State.QUARANTINED]["reason"] == Quarantine.CONFLICT
    assert kept[State.QUARANTINED]["message"] == sentence(Quarantine.CONFLICT)


def test_copies_within_one_group_are_told_apart_too(ledger: Ledger) -> None:
    group = (received("1.1"), received("1.1"), received("1.1", "other"), received("1.2"))
    assert receive(ledger, *group) == [
        Receipt.NEW,
        Receipt.DUPLICATE,
        Receipt.CONFLICT,
        Receipt.NEW,
    ]


def test_group_is_recorded_as_a_whole_or_not_at_all(ledger: Ledger) -> None:
    broken = received("1.2")
    object.__setattr__(broken, "calling_ae", None)
    with pytest.raises(sa.exc.IntegrityError):
        receive(ledger, received("1.1"), broken)
    assert ledger.rows() == []


def test_error_of_the_database_names_no_value_of_a_row(ledger: Ledger) -> None:
    broken = received("1.2.CANARY")
    object.__setattr__(broken, "called_ae", None)
    with pytest.raises(sa.exc.IntegrityError) as caught:
        receive(ledger, broken)
    assert "[parameters" not in str(caught.value)
    assert "SINUSNODE" not in str(caught.value)


# Leases


def test_oldest_due_object_is_leased_first_and_only_once(ledger: Ledger) -> None:
    receive(ledger, received("1.3", at=0.3), received("1.1", at=0.1), received("1.9", at=99.0))
    assert [leased(ledger, name).sop_instance_uid for name in ("a", "b")] == ["1.1", "1.3"]
    assert ledger.lease("c", 1.0, 11.0) is None


def test_lease_that_ended_passes_to_another_worker_and_the_first_changes_nothing(
    ledger: Ledger,
) -> None:
    receive(ledger, received("1.1"))
    first = leased(ledger, "worker-1", now=1.0)
    second = leased(ledger, "worker-2", now=12.0)
    assert second.fence > first.fence
    assert second.attempts == 2
    for act in (
        lambda: ledger.analysed(first, "late", 12.0),
        lambda: ledger.reported(first, produced("1.1"), [PACS], 12.0),
        lambda: ledger.quarantine(first, Quarantine.FAILED, "late"),
        lambda: ledger.postpone(first, 99.0),
    ):
        with pytest.raises(LeaseLost):
            act()
    assert row(ledger)["result"] is None
    assert row(ledger)["lease_owner"] == "worker-2"
    assert row(ledger)["objects"] == []


def test_first_stored_result_wins(ledger: Ledger) -> None:
    receive(ledger, received("1.1"))
    lease = leased(ledger)
    assert ledger.analysed(lease, "first", 2.0) == "first"
    again = leased(ledger, "worker-2", now=20.0)
    assert again.result == "first"
    assert ledger.analysed(again, "second", 21.0) == "first"
    assert row(ledger)["analysed_at"] == 2.0


def test_postponed_object_keeps_its_attempts_and_waits(ledger: Ledger) -> None:
    receive(ledger, received("1.1"))
    ledger.postpone(leased(ledger), 50.0)
    assert ledger.lease("worker-1", 49.0, 59.0) is None
    assert leased(ledger, now=50.0).attempts == 2


def test_forgiven_leases_do_not_count_as_attempts(ledger: Ledger) -> None:
    receive(ledger, received("1.1"), received("1.2"))
    leased(ledger)
    assert ledger.forgive() == 1
    assert ledger.forgive() == 0
    assert {item["attempts"] for item in ledger.rows()} == {0}
    assert leased(ledger).attempts == 1


def test_what_a_dead_worker_held_is_found_by_its_name(ledger: Ledger) -> None:
    receive(ledger, received("1.1"), received("1.2"))
    held = leased(ledger, "worker-1")
    leased(ledger, "worker-2")
    assert ledger.leases_of("worker-1") == [held]
    assert ledger.leases_of("worker-3") == []


def test_quarantined_object_is_leased_no_more_until_it_is_retried(ledger: Ledger) -> None:
    receive(ledger, received("1.1"))
    ledger.quarantine(leased(ledger), Quarantine.CRASHED, "a sentence")
    assert ledger.lease("worker-1", LATER, LATER) is None
    assert row(ledger)["message"] == "a sentence"
    assert ledger.retry(1, 60.0)
    assert row(ledger)["reason"] is None
    lease = leased(ledger, now=60.0)
    assert lease.attempts == 1
    assert ledger.violations(61.0, 0.0) == []


def test_worker_that_lost_its_object_to_quarantine_and_retry_changes_nothing(
    ledger: Ledger,
) -> None:
    receive(ledger, received("1.1"))
    lease = leased(ledger)
    ledger.quarantine(lease, Quarantine.CRASHED, "a sentence")
    ledger.retry(1, 5.0)
    with pytest.raises(LeaseLost):
        ledger.analysed(lease, "late", 6.0)


# Delivery


def test_each_object_is_due_at_each_destination_oldest_set_first(ledger: Ledger) -> None:
    reported(ledger, "1.1", PACS, ARCHIVE)
    reported(ledger, "1.2", PACS)
    due = ledger.due(PACS, 3.0, 4)
    assert [(item.instance_id, item.role) for item in due] == [
        (1, "sr"),
        (1, "pdf"),
        (1, "ecg"),
        (2, "sr"),
    ]
    assert len(ledger.due(ARCHIVE, 3.0, 100)) == 3
    assert ledger.due(PACS, 2.9, 100) == []


def test_row_is_committed_by_responses_when_every_destination_has_everything(
    ledger: Ledger,
) -> None:
    reported(ledger, "1.1", PACS, ARCHIVE)
    end(ledger, PACS, DeliveryState.DELIVERED, status=0)
    assert row(ledger)["state"] == State.REPORTED
    end(ledger, ARCHIVE, DeliveryState.DELIVERED, status=0xB000)
    found = row(ledger)
    assert found["state"] == State.COMMITTED
    assert found["committed_by"] == "responses"
    assert found["committed_at"] == found["delivered_at"] == 4.0
    assert {item["status"] for item in found["deliveries"]} == {0, 0xB000}


def test_row_failed_with_the_reason_of_the_delivery_and_can_be_retried(ledger: Ledger) -> None:
    reported(ledger, "1.1", PACS, ARCHIVE)
    end(ledger, ARCHIVE, DeliveryState.DELIVERED, status=0)
    end(ledger, PACS, DeliveryState.FAILED, status=0x0122, reason=Delivery.REFUSED)
    found = row(ledger)
    assert (found["state"], found["reason"]) == (State.FAILED, Delivery.REFUSED)
    assert found["message"] == sentence(Delivery.REFUSED)
    assert ledger.retry(1, 70.0)
    assert row(ledger)["state"] == State.REPORTED
    assert len(ledger.due(PACS, 70.0, 100)) == 3
    assert ledger.due(ARCHIVE, LATER, 100) == []
    end(ledger, PACS, DeliveryState.DELIVERED, status=0)
    assert row(ledger)["state"] == State.COMMITTED
    assert row(ledger)["reason"] is None


def test_failed_delivery_can_be_retried_while_another_destination_is_still_down(
    ledger: Ledger,
) -> None:
    reported(ledger, "1.1", PACS, ARCHIVE)
    end(ledger, PACS, DeliveryState.FAILED, reason=Delivery.REJECTED_PERMANENT)
    assert row(ledger)["state"] == State.REPORTED
    assert ledger.retry(1, 70.0)
    assert len(ledger.due(PACS, 70.0, 100)) == 3


def test_postponed_delivery_waits_and_counts(ledger: Ledger) -> None:
    reported(ledger, "1.1", PACS)
    end(ledger, PACS, DeliveryState.PENDING, reason=Delivery.UNREACHABLE, next_at=500.0)
    assert ledger.due(PACS, 499.0, 100) == []
    assert [item.attempts for item in ledger.due(PACS, 500.0, 100)] == [1, 1, 1]
    assert row(ledger)["state"] == State.REPORTED


def test_nothing_to_retry_is_said(ledger: Ledger) -> None:
    reported(ledger, "1.1", PACS)
    assert not ledger.retry(1, 5.0)
    assert not ledger.retry(99, 5.0)
    end(ledger, PACS, DeliveryState.DELIVERED, status=0)
    assert not ledger.retry(1, 5.0)


# Models


def test_promotion_keeps_the_model_before_and_is_idempotent(ledger: Ledger) -> None:
    for digest in ("a" * 64, "b" * 64):
        ledger.add_model(digest, "Tiny", "1", 0.0)
        ledger.add_model(digest, "Tiny", "1", 0.0)
        ledger.promote(digest, 1.0)
        ledger.promote(digest, 2.0)
    assert ledger.slots() == {"current": "b" * 64, "previous": "a" * 64}


def test_unknown_model_is_not_promoted(ledger: Ledger) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        ledger.promote("c" * 64, 1.0)
    assert ledger.slots() == {}


# Promises


def _change(ledger: Ledger, statement: sa.Executable) -> None:
    with ledger.transaction() as connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"state": State.REPORTED}, "has no objects"),
        ({"state": State.COMMITTED}, "has no result"),
        ({"state": State.ANALYSED}, "has no result"),
        ({"state": State.QUARANTINED}, "has no reason"),
        ({"state": State.FAILED}, "has no reason"),
        ({"lease_owner": "w", "lease_until": 1.0}, "forgotten lease"),
        ({"lease_owner": "w", "state": State.QUARANTINED, "reason": "x"}, "nothing is left to do"),
    ],
)
def test_broken_row_is_found(ledger: Ledger, change: dict[str, Any], what: str) -> None:
    receive(ledger, received("1.1"))
    assert ledger.violations(100.0, 10.0) == []
    _change(ledger, tables.instances.update().values(**change))
    assert what in "; ".join(ledger.violations(100.0, 10.0))


def test_committed_row_with_something_pending_is_found(ledger: Ledger) -> None:
    reported(ledger, "1.1", PACS)
    _change(ledger, tables.instances.update().values(state=State.COMMITTED))
    assert "pending deliveries" in "; ".join(ledger.violations(100.0, 10.0))


def _trail(ledger: Ledger, length: int = 5) -> None:
    for number in range(length):
        ledger.record(Event(event="refused", reason="address", detail=f"{number}"), number / 3)


@pytest.mark.parametrize(
    "change",
    [
        tables.audit.update().where(tables.audit.c.id == 3).values(detail="nothing happened"),
        tables.audit.update().where(tables.audit.c.id == 3).values(at=0.0),
        tables.audit.delete().where(tables.audit.c.id == 3),
        tables.audit.delete().where(tables.audit.c.id == 1),
    ],
    ids=["altered", "moved in time", "removed", "first removed"],
)
def test_audit_row_that_was_altered_or_removed_is_found(
    ledger: Ledger, change: sa.Executable
) -> None:
    _trail(ledger)
    assert ledger.violations(0.0, 0.0) == []
    _change(ledger, change)
    (found,) = ledger.violations(0.0, 0.0)
    assert "altered" in found


def test_ledger_of_another_schema_is_refused_with_both_numbers(ledger: Ledger, url: str) -> None:
    _change(ledger, tables.meta.update().values(value="7"))
    other = Ledger(url)
    with pytest.raises(SchemaMismatch, match=rf"schema 7.*needs {tables.SCHEMA_VERSION}"):
        other.create()
    other.close()


# Contention


def test_processes_that_contend_lose_nothing_and_do_nothing_twice(url: str) -> None:
    ledger = Ledger(url)
    ledger.create()
    receive(ledger, *(received(f"1.{number}") for number in range(30)))
    fork = multiprocessing.get_context("spawn")
    workers = [fork.Process(target=work, args=(url, f"worker-{n}")) for n in range(2)]
    for worker in workers:
        worker.start()
    receive(ledger, *(received(f"2.{number}") for number in range(10)))
    for worker in workers:
        worker.join(60)
    work(url, "last")
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert {item["attempts"] for item in ledger.rows()} == {1}
    assert ledger.counts()[State.REPORTED] == 40
    assert len(ledger.due(PACS, LATER, 1000)) == 120
    ledger.close()


def test_threads_that_contend_keep_the_audit_chain_whole(ledger: Ledger) -> None:
    threads = [threading.Thread(target=_trail, args=(ledger, 10)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.trail()) == 40
    assert ledger.violations(0.0, 0.0) == []


def test_threads_that_receive_the_same_object_make_one_row(ledger: Ledger) -> None:
    receipts: list[Receipt] = []

    def push() -> None:
        try:
            receipts.extend(receive(ledger, received("1.1")))
        except sa.exc.IntegrityError:
            receipts.extend(receive(ledger, received("1.1")))

    threads = [threading.Thread(target=push) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(receipts) == [Receipt.DUPLICATE] * 7 + [Receipt.NEW]
    assert len(ledger.rows()) == 1


# Any order of events


class LedgerMachine(RuleBasedStateMachine):
    """Carts, workers and a sender act in any order; a dictionary says what must be true."""

    uids = st.sampled_from(["1.1", "1.2", "1.3"])

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.ledger = Ledger(f"sqlite:///{self.folder.name}/ledger.sqlite")
        self.ledger.create()
        self.now = 1.0
        self.known: dict[tuple[str, str], State] = {}
        self.numbers: dict[int, tuple[str, str]] = {}
        self.results: dict[int, str] = {}
        self.leases: list[Lease] = []
        self.holds: dict[int, Lease] = {}

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()

    @rule(uid=uids, content=st.sampled_from(["x", "y"]))
    def a_cart_pushes(self, uid: str, content: str) -> None:
        (receipt,) = receive(self.ledger, received(uid, uid + content, self.now))
        same_uid = [key for key in self.known if key[0] == uid]
        if (uid, content) in self.known:
            assert receipt is Receipt.DUPLICATE
            return
        assert receipt is (Receipt.CONFLICT if same_uid else Receipt.NEW)
        self.numbers[len(self.numbers) + 1] = (uid, content)
        self.known[uid, content] = State.QUARANTINED if same_uid else State.RECEIVED

    @rule(seconds=st.sampled_from([0.0, 1.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_worker_leases(self) -> None:
        lease = self.ledger.lease("worker", self.now, self.now + 10)
        if lease is not None:
            assert self._state(lease) in (State.RECEIVED, State.ANALYSED)
            assert lease.result == self.results.get(lease.id)
            self.leases.append(lease)
            self.holds[lease.id] = lease

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), what=st.sampled_from(["analyse", "report", "quarantine"]))
    def a_worker_acts(self, data: st.DataObject, what: str) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        working = self._state(lease) in (State.RECEIVED, State.ANALYSED)
        try:
            getattr(self, f"_{what}")(lease)
        except LeaseLost:
            assert self.holds.get(lease.id) is not lease or not working
        else:
            assert self.holds.get(lease.id) is lease
            assert working

    def _analyse(self, lease: Lease) -> None:
        stored = self.ledger.analysed(lease, f"result of fence {lease.fence}", self.now)
        assert stored == self.results.setdefault(lease.id, stored)
        self._move(lease, State.ANALYSED)

    def _report(self, lease: Lease) -> None:
        if lease.id not in self.results:
            self._analyse(lease)
        self.ledger.reported(lease, produced(lease.sop_instance_uid), [PACS], self.now)
        self._move(lease, State.REPORTED)

    def _quarantine(self, lease: Lease) -> None:
        self.ledger.quarantine(lease, Quarantine.FAILED, "a sentence")
        self._move(lease, State.QUARANTINED)

    @rule(good=st.booleans())
    def the_sender_delivers(self, *, good: bool) -> None:
        state = DeliveryState.DELIVERED if good else DeliveryState.FAILED
        end(self.ledger, PACS, state, reason=None if good else Delivery.REFUSED)
        for key, found in self.known.items():
            if found is State.REPORTED:
                self.known[key] = State.COMMITTED if good else State.FAILED

    @precondition(lambda self: self.numbers)
    @rule(data=st.data())
    def an_operator_retries(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.numbers)))
        key = self.numbers[number]
        again = {State.QUARANTINED: State.RECEIVED, State.FAILED: State.REPORTED}
        assert self.ledger.retry(number, self.now) is (self.known[key] in again)
        if self.known[key] in again:
            self.holds.pop(number, None)
        self.known[key] = again.get(self.known[key], self.known[key])

    @invariant()
    def the_rows_are_as_the_model_says(self) -> None:
        found = {self.numbers[item["id"]]: item["state"] for item in self.ledger.rows()}
        assert found == self.known
        assert self.ledger.violations(self.now, 1e9) == []

    def _state(self, lease: Lease) -> State:
        return self.known[self.numbers[lease.id]]

    def _move(self, lease: Lease, state: State) -> None:
        self.known[self.numbers[lease.id]] = state


LedgerMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, derandomize=True
)
TestAnyOrderOfEvents = LedgerMachine.TestCase


# Storage commitment, given to callers


def test_a_request_renewed_while_it_is_being_answered_is_answered_again(ledger: Ledger) -> None:
    ledger.promise("1.2", [("1.3", "1.4")], "CART", "127.0.0.1", 100.0)
    first = ledger.promise_due(101.0)
    assert first is not None
    ledger.promise("1.2", [("1.3", "1.5")], "CART", "127.0.0.1", 102.0)
    ledger.promise_kept(first)
    again = ledger.promise_due(103.0)
    assert again is not None
    assert again.references == (("1.3", "1.5"),)
    ledger.promise_kept(again)
    assert ledger.promise_due(104.0) is None
