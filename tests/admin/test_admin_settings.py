"""Settings through the API: read, changed with a reason, taken up by what runs, taken back."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cart import cart_ecg
from node import Node, free_port, poll
from office import FREE, Answer, Desk, opened
from peers import storescu

from dicom_node.ledger import State
from dicom_node.pacs import Pacs
from dicom_node.settings import Destination, Role

WHY = {"reason": "The archive is rebuilt tonight."}
PACS = Destination(ae_title="PACS", host="127.0.0.1", port=11113)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with opened(tmp_path, destinations=(PACS,)) as made:
        yield made


def turn(desk: Desk, key: str, value: Any, who: Role = Role.ADMIN) -> Answer:
    return desk.ask("PATCH", "/settings", who, json={"key": key, "value": value, **WHY})


def shown(desk: Desk, key: str) -> dict[str, Any]:
    (found,) = [item for item in desk.get("/settings/live", Role.ADMIN).json if item["key"] == key]
    return dict(found)


def test_who_changed_what_when_and_why_stands_in_list_and_trail(desk: Desk) -> None:
    key = "destinations.PACS.active"
    assert (shown(desk, key)["value"], shown(desk, key)["by"]) == (True, None)
    assert turn(desk, key, value=False).status == 200
    found = shown(desk, key)
    assert (found["value"], found["stated"], found["by"]) == (False, True, "key admin")
    assert found["reason"] == WHY["reason"]
    assert desk.get("/destinations", Role.VIEWER).json[0]["active"] is False
    notices = [item["sentence"] for item in desk.get("/notices", Role.OPERATOR).json]
    assert "PACS is switched off; results that wait for it: 0." in notices
    assert turn(desk, key, value=None).status == 200
    assert shown(desk, key)["by"] is None
    rows = [row for row in desk.office.ledger.trail() if row["event"] == "setting-change"]
    details = [json.loads(row["detail"]) for row in rows]
    assert [(item["key"], item["value"]) for item in details] == [(key, "false"), (key, "null")]
    assert all(item["reason"] == WHY["reason"] for item in details)


def test_only_an_admin_changes_and_only_with_a_reason(desk: Desk) -> None:
    for role in set(Role) - {Role.ADMIN}:
        assert turn(desk, "log.level", "debug", role).status == 403
    bare = {"key": "log.level", "value": "debug"}
    assert desk.ask("PATCH", "/settings", Role.ADMIN, json=bare).status == 422
    assert shown(desk, "log.level")["value"] == "info"


@pytest.mark.parametrize(
    ("key", "value", "status"),
    [
        ("dicom.host", "0.0.0.0", 404), ("destinations.PACS.host", "10.0.0.1", 404),
        ("admin.certificate", None, 404), ("log.level", "all", 422),
        ("log.level", ["debug"], 422), ("models.speak", 1, 422), ("log.level", "x" * 65, 422),
    ],
)  # fmt: skip
def test_what_may_not_change_or_not_so_is_a_sentence(
    desk: Desk, key: str, value: object, status: int
) -> None:
    answer = turn(desk, key, value)
    assert (answer.status, answer.detail[-1]) == (status, ".")


def test_rate_limit_counts_from_the_next_request(tmp_path: Path) -> None:
    with opened(tmp_path, admin=FREE) as desk:
        assert turn(desk, "admin.requests_per_minute", 3).status == 200
        statuses = {desk.get("/status", Role.VIEWER).status for _ in range(4)}
        assert statuses == {200, 429}


@pytest.mark.slow
def test_running_node_takes_up_what_is_changed(make_node: Callable[..., Node]) -> None:
    with Pacs(free_port(), ae_title="FAST") as fast, Pacs(free_port(), ae_title="SLOW") as slow:
        node = make_node(
            destinations={"FAST": fast.port, "SLOW": slow.port}, overrides={"LOG__LEVEL": "error"}
        )
        number = iter(range(1000))

        def send() -> str:
            name = f"ecg{next(number)}"
            file = node.folder / f"{name}.dcm"
            source = cart_ecg(name)
            source.save_as(file, enforce_file_format=True)
            storescu(node.address, file)
            return str(source.StudyInstanceUID)

        def of(study: str, pacs: Pacs) -> list[Any]:
            return [item for item in pacs.objects() if item.StudyInstanceUID == study]

        with opened(node.folder / "data", destinations=node.settings.destinations) as desk:
            assert turn(desk, "destinations.SLOW.active", value=False).status == 200
            node.start()
            first = send()
            assert poll(lambda: len(of(first, fast)) == 3)
            assert of(first, slow) == []
            assert node.rows()[0]["state"] == State.REPORTED
            assert turn(desk, "destinations.SLOW.active", value=None).status == 200
            assert poll(lambda: len(of(first, slow)) == 3)
            assert turn(desk, "models.speak", value=False).status == 200
            assert turn(desk, "log.level", "info").status == 200

            def without_models() -> bool:
                study = send()
                assert poll(lambda: len(of(study, fast)) == 3)
                (report,) = [item for item in of(study, fast) if item.Modality == "SR"]
                return "twelve-lead" not in str(report) and '"reported"' in node.log

            assert poll(without_models)
        node.assert_promises()
