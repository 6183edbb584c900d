"""The index behind lists and searches: right on both databases, and no walk through all rows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from office import opened
from test_ledger import (  # noqa: F401 - two are fixtures
    leased,
    postgres,
    receive,
    received,
    url,
)

from dicom_node.ledger import Comparable, Ledger, State
from dicom_node.settings import Admin, Role
from dicom_node.spool import Spool
from training.admin import drift, tables
from training.admin.accounts import Accounts, NameTaken
from training.admin.queries import Index, Line, Search, search
from training.admin.replay import Replays
from training.admin.schedule import Order, Schedules
from training.plan import Plan
from training.runs import Runs


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:  # noqa: F811 - a fixture
    made = Ledger(url)
    made.create()
    with made.transaction() as connection:
        tables.metadata.drop_all(connection)
    tables.create(made)
    yield made
    made.close()


@pytest.fixture
def index(ledger: Ledger, tmp_path: Path) -> Index:
    return Index(ledger, Spool(tmp_path / "spool"), lambda _kind, word: word[:32])


def result(*keys: str, rate: float = 60.0) -> str:
    """Return what lists need of a result."""
    return json.dumps(
        {
            "statements": [{"key": key, "text": key.title()} for key in keys],
            "measurements": {"quantities": {"heart_rate": {"value": rate}}},
            "quality": {"verdict": "full"},
            "overall": "abnormal",
        }
    )


def analysed(ledger: Ledger, uid: str, *keys: str, patient: str | None = None) -> None:
    """Bring one new object to ANALYSED."""
    receive(ledger, received(uid))
    ecg = Comparable(
        patient=patient,
        birth_date="",
        sex="",
        study_instance_uid="1",
        series_instance_uid="2",
        acquired_at=f"202601{int(uid.rsplit('.', maxsplit=1)[-1]):02}120000",
        algorithm="1",
        measurements={},
    )
    ledger.analysed(leased(ledger), result(*keys), 2.0, ecg)


def found(ledger: Ledger, **wanted: Any) -> list[int]:
    return [line.id for line in search(ledger, Search(**wanted), 10).items]


def test_what_was_analysed_is_found_by_every_word(ledger: Ledger, index: Index) -> None:
    analysed(ledger, "1.1", "normal", patient="anna")
    analysed(ledger, "1.2", "atrial_fibrillation", "lbbb", patient="otto")
    analysed(ledger, "1.3", "atrial_fibrillation", patient="anna")
    assert index.refresh() == 3
    assert index.refresh() == 0
    assert found(ledger) == [3, 2, 1]
    assert found(ledger, statement="atrial_fibrillation") == [3, 2]
    assert found(ledger, patient="anna") == [3, 1]
    assert found(ledger, patient="anna", statement="atrial_fibrillation") == [3]
    assert found(ledger, first="20260102", last="20260102") == [2]
    assert found(ledger, sender="CART", state=State.ANALYSED, before=3) == [2, 1]
    assert found(ledger, statement="none_such") == []
    assert found(ledger, device="none such") == []


def test_what_waits_is_listed_and_completed_when_its_result_is_there(
    ledger: Ledger, index: Index
) -> None:
    receive(ledger, received("1.1"))
    assert index.refresh() == 1
    assert index.refresh() == 0
    assert found(ledger) == [1]
    ledger.analysed(leased(ledger), result("lbbb"), 2.0)
    assert index.refresh() == 1
    assert found(ledger, statement="lbbb") == [1]


def test_number_that_was_given_early_and_seen_late_is_not_forgotten(
    ledger: Ledger, index: Index
) -> None:
    for number in range(1, 6):
        analysed(ledger, f"1.{number}", "lbbb")
    index.refresh()
    with ledger.transaction() as connection:
        connection.execute(tables.recordings.delete().where(tables.recordings.c.instance_id == 2))
    assert index.refresh() == 1


def test_many_are_indexed_batch_by_batch(ledger: Ledger, index: Index) -> None:
    for number in range(1, 8):
        analysed(ledger, f"1.{number}", "lbbb")
    assert [index.refresh(3) for _ in range(4)] == [3, 3, 1, 0]


WALKS = {
    "all": {},
    "the next page": {"before": 500},
    "a statement": {"statement": "lbbb"},
    "a patient": {"patient": "0" * 32},
    "a device": {"device": "MAC55"},
    "a state": {"state": State.QUARANTINED},
    "a statement of a patient": {"statement": "lbbb", "patient": "0" * 32},
}


@pytest.mark.parametrize("name", WALKS)
def test_no_search_sorts_or_walks_through_everything(tmp_path: Path, name: str) -> None:
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    made.create()
    tables.create(made)
    asked: list[str] = []
    sa.event.listen(
        made._reader,
        "before_cursor_execute",
        lambda _c, _cursor, statement, values, *_rest: asked.append((statement, values)),
    )
    search(made, Search(**WALKS[name]), 50)
    with made._reader.connect() as connection:
        ((statement, values),) = [item for item in asked if item[0].startswith("SELECT")]
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
    steps = [str(row[-1]) for row in plan]
    assert not any("TEMP B-TREE" in step for step in steps), steps
    scans = [step for step in steps if step.startswith("SCAN")]
    assert scans == [] or name in {"all", "the next page"}, steps
    made.close()


@given(st.text(max_size=26))
def test_quarter_of_a_stated_time_is_one_or_none(stated: str) -> None:
    line = Line(
        id=1, received_at=0.0, sender="", state="", reason=None, message=None, seconds=None,
        patient=None, acquired_at=stated, device="", heart_rate=None, quality=None, overall=None,
        statements=(),
    )  # fmt: skip
    assert line.quarter is None or line.quarter[4] == "Q"


# The service's own rows, on both databases


def test_accounts_work_on_both_databases(ledger: Ledger) -> None:
    accounts = Accounts(ledger, Admin())
    user = accounts.add_user("anna", [Role.TRAINER, Role.VIEWER], 0.0, password="twelve or more")
    with pytest.raises(NameTaken):
        accounts.add_user("anna", [], 0.0, password="twelve or more")
    session = accounts.sign_in("anna", "twelve or more", 1.0)
    assert session is not None
    assert accounts.session(session.token, 100.0) is not None
    assert accounts.sign_in("anna", "another one", 1.0) is None
    key, text = accounts.add_key("robot", [Role.VIEWER], 0.0)
    assert accounts.bearer(text, 1.0) is not None
    accounts.revoke(key.prefix, 2.0)
    assert accounts.bearer(text, 3.0) is None
    accounts.change_user(user.id, active=False)
    assert accounts.session(session.token, 101.0) is None
    state, login = accounts.leave(0.0)
    assert accounts.come_back(state, 1.0) == login
    assert accounts.come_back(state, 1.0) is None


def test_secrets_are_argon2id_with_a_cost(ledger: Ledger) -> None:
    accounts = Accounts(ledger, Admin())
    accounts.add_user("anna", [], 0.0, password="twelve or more")
    ((kept,),) = ledger.query(sa.select(tables.users.c.password))
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_schedules_and_answers_work_on_both_databases(ledger: Ledger) -> None:
    plan = Plan(name="a", keys=("x",)).to_json()
    schedules = Schedules(ledger, Runs(ledger), lambda: 0)
    made = schedules.add(Order(name="a", plan=plan, every=3600.0), "anna", 0.0)
    assert schedules.tick(made.id, 4000.0) is not None
    assert schedules.tick(made.id, 4000.0) is None
    replays = Replays(ledger)
    assert replays.claim("anna", "one", "request", 0.0) is None
    replays.done("anna", "one", None)
    assert replays.claim("anna", "one", "request", 1.0) is None


# Drift


def filled(ledger: Ledger, before: str, now: str) -> None:
    """Fill the index: a reference of one kind, and recent ECGs of which a third is another."""
    numbers = range(1, 1001)
    rows = [
        {
            "instance_id": n,
            "analysed": True,
            "device": "MAC55",
            "quality": "full",
            "overall": "normal",
            "heart_rate": 60.0 + n % 20 + (25.0 if now != before and n > 500 else 0.0),
        }
        for n in numbers
    ]
    said = [{"key": now if n > 500 and n % 3 == 0 else before, "instance_id": n} for n in numbers]
    with ledger.transaction() as connection:
        connection.execute(tables.recordings.insert(), rows)
        connection.execute(tables.spoken.insert(), said)


def test_more_of_a_finding_than_before_is_a_sentence(ledger: Ledger) -> None:
    filled(ledger, "normal", "lbbb")
    watched = drift.drift(ledger)
    assert (watched.recent, watched.reference) == (500, 500)
    assert any("lbbb has changed: 0.0% before, 33" in alert for alert in watched.alerts)
    assert any("heart rate has changed" in alert for alert in watched.alerts)


def test_more_of_the_same_is_no_alarm(ledger: Ledger) -> None:
    filled(ledger, "normal", "normal")
    assert drift.drift(ledger).alerts == ()


# Another admin service beside it


def test_second_service_on_a_folder_answers_and_does_not_tick(tmp_path: Path) -> None:
    with opened(tmp_path) as first, opened(tmp_path) as second:
        assert first.get("/status", Role.VIEWER).status == 200
        assert second.get("/status", Role.VIEWER).status == 200


def test_ledger_that_does_not_answer_is_a_sentence_and_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as desk:

        def broken(*_words: object) -> None:
            raise sa.exc.OperationalError("SELECT secret", {}, Exception("disk"))

        monkeypatch.setattr(desk.office.ledger, "counts", broken)
        answer = desk.get("/status", Role.VIEWER)
        assert (answer.status, answer.detail) == (503, "The ledger does not answer; try again.")
        assert answer.headers["retry-after"] == "5"
