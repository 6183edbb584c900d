"""A day of three hundred actions: each one a row, whatever the syslog server does (T19)."""

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from collector import Collector, sent_to
from node import free_port
from office import PASSWORD, Desk, opened

from dicom_node.settings import Role
from training.admin.forward import forward

ACTIONS = 300
OUTAGE = range(100, 200)
"""Actions during which the syslog server is gone; the day has one every five minutes."""
PLAN = {"name": "nightly", "keys": ["atrial_fibrillation"]}


class Action(NamedTuple):
    """One thing that somebody does, and what is to stand in the trail."""

    who: Role | str
    what: str
    event: str
    status: int
    how: dict[str, Any] | None = None


def day() -> Iterator[Action]:
    """Yield what happens, without end: every kind of action, done and refused."""
    for number in cycle(range(10_000)):
        user = {"name": f"u{number}", "password": PASSWORD, "roles": ["viewer"]}
        order = {"name": f"s{number}", "plan": PLAN, "cron": "30 2 * * *"}
        turned = {"key": "log.level", "value": "debug", "reason": "Looking for a fault."}
        label = {"labels": [{"key": "lbbb", "value": "present"}]}
        yield Action(Role.ADMIN, "POST /users", "user-create", 201, {"json": user})
        yield Action(Role.VIEWER, "POST /users", "user-create", 403, {"json": user})
        yield Action(Role.ADMIN, "PATCH /settings", "setting-change", 200, {"json": turned})
        yield Action(Role.TRAINER, "POST /schedules", "schedule-create", 201, {"json": order})
        yield Action(Role.TRAINER, "POST /models", "model-upload", 422)
        yield Action(Role.REVIEWER, "POST /recordings/1/labels", "label", 404, {"json": label})
        yield Action(Role.OPERATOR, "POST /queue/1/retry", "retry", 422, {"json": {}})
        yield Action(Role.OPERATOR, "GET /users", "turned-away", 403)
        yield Action("sn_wrong", "GET /status", "turned-away", 401)
        yield Action(Role.ADMIN, "GET /audit/messages?limit=1", "audit-export", 200)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with opened(tmp_path) as made:
        yield made


def test_day_leaves_a_row_for_each_action_here_and_at_the_syslog_server(desk: Desk) -> None:
    port = free_port()
    sent_to(desk, port=port, tls=False)
    done = list(islice(day(), ACTIONS))
    refused = 0
    messages: list[str] = []
    for number, action in enumerate(done):
        method, path = action.what.split(" ")
        answer = desk.ask(method, path, action.who, **(action.how or {}))
        assert answer.status == action.status, action
        if number in OUTAGE:
            try:
                forward(desk.office)
            except ConnectionError:
                refused += 1
        elif number % 20 == 0 or number == ACTIONS - 1:
            with Collector(port) as server:
                while forward(desk.office):
                    pass
                messages += server.messages
    rows = desk.office.ledger.trail()
    assert [row["event"] for row in rows] == [action.event for action in done]
    assert [json.loads(row["detail"])["status"] for row in rows] == [item.status for item in done]
    assert refused == len(OUTAGE)
    assert [chain_of(message) for message in messages] == [row["chain"] for row in rows]
    found = desk.get("/audit/verification", Role.ADMIN).json
    assert (found["ok"], found["rows"]) == (True, ACTIONS)
    assert found["end"] == f"{ACTIONS}:{rows[-1]['chain']}"


def chain_of(message: str) -> str:
    found = re.search(r'type="chain" value="([^"]+)"', message)
    assert found is not None
    return b64decode(found[1]).decode()


def test_end_that_was_noted_tells_what_is_gone(desk: Desk) -> None:
    for action in islice(day(), 4):
        desk.ask(*action.what.split(" "), action.who, **(action.how or {}))
    end = desk.get("/audit/verification", Role.ADMIN).json["end"]
    with desk.office.ledger.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM audit WHERE id > 2")
        connection.exec_driver_sql(
            "UPDATE meta SET value = (SELECT '2:' || chain FROM audit WHERE id = 2) "
            "WHERE key = 'audit'"
        )
    assert desk.get("/audit/verification", Role.ADMIN).json["ok"] is True
    found = desk.get(f"/audit/verification?known={end}", Role.ADMIN).json
    assert found["problems"] == [
        "the trail had 4 rows and is no longer that of then: its end was cut off"
    ]
    assert desk.get("/audit/verification?known=4:x", Role.ADMIN).status == 422
