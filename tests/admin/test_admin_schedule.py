"""Schedules: due when they should be, one run for each tick whatever is killed or jumps."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from office import Desk, opened

from dicom_node.ledger import Ledger
from dicom_node.settings import Role
from training.admin import tables
from training.admin.schedule import (
    GRACE,
    NotASchedule,
    Order,
    Schedule,
    Schedules,
    Ticker,
    due,
    next_due,
    only_here,
    trigger_of,
)
from training.plan import Plan
from training.runs import Runs

BERLIN = ZoneInfo("Europe/Berlin")
PLAN = Plan(name="nightly", keys=("atrial_fibrillation",)).to_json()
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


def at(text: str) -> float:
    """Return a moment in Berlin's time."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


def local(moment: float | None) -> str:
    return "" if moment is None else f"{datetime.fromtimestamp(moment, BERLIN):%Y-%m-%d %H:%M}"


def order(**values: object) -> Order:
    return Order(**{"name": "nightly", "plan": PLAN} | values)  # type: ignore[arg-type]


def kept(since: float, **values: object) -> Schedule:
    return Schedule(id=1, order=order(**values), by="", created_at=since, since=since, labelled=0)


# When


@pytest.mark.parametrize(
    ("values", "now", "expected"),
    [
        ({"cron": "30 2 * * *"}, "2026-11-20 10:00", "2026-11-21 02:30"),
        ({"cron": "30 2 * * mon"}, "2026-11-20 10:00", "2026-11-23 02:30"),
        ({"cron": "0 9 * * *", "window": "20:00-06:00"}, "2026-11-20 10:00", "2026-11-20 20:00"),
        ({"cron": "0 22 * * *", "window": "20:00-06:00"}, "2026-11-20 10:00", "2026-11-20 22:00"),
        ({"every": 6 * HOUR}, "2026-11-20 13:30", "2026-11-20 14:00"),
        ({"every": 6 * HOUR, "window": "20:00-06:00"}, "2026-11-20 13:30", "2026-11-20 20:00"),
        ({"cron": "30 2 * * *"}, "2026-03-28 10:00", "2026-03-29 03:30"),  # 02:30 does not exist
        ({"cron": "30 2 * * *"}, "2026-10-24 10:00", "2026-10-25 02:30"),
    ],
)
def test_schedule_comes_due_in_local_time(
    values: dict[str, object], now: str, expected: str
) -> None:
    schedule = kept(at("2026-01-01 08:00"), **values)
    assert local(next_due(schedule, at(now), BERLIN)) == expected


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"cron": "nonsense"}, "A cron line has minute"),
        ({"cron": "61 2 * * *"}, "A cron line has minute"),
        ({"cron": "* * * * *"}, "at least 300 seconds apart"),
        ({"cron": "0 0 31 2 *"}, "never comes"),
        ({}, "says no time"),
        ({"every": 1.0}, "at least 300 seconds"),
        ({"every": float("nan")}, "at least 300 seconds"),
        ({"every": HOUR, "cron": "0 0 * * *"}, "either a cron line or an interval"),
    ],
)
def test_schedule_that_is_none_is_a_sentence(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(NotASchedule, match=sentence):
        trigger_of(order(**values), 0.0, BERLIN)


@given(
    hours=st.integers(1, 48),
    since=st.integers(0, 10**6),
    late=st.integers(0, 40 * 3600),
    window=st.sampled_from([None, "20:00-06:00", "01:00-01:30"]),
)
def test_what_comes_due_does_not_depend_on_when_one_looks(
    hours: int, since: int, late: int, window: str | None
) -> None:
    start = at("2026-01-01 00:00") + since
    schedule = kept(start, every=hours * HOUR, window=window)
    moment = next_due(schedule, start + 1.0, BERLIN)
    assert moment is not None
    assert due(schedule, moment - 1.0, BERLIN) is None
    found = due(schedule, moment + late, BERLIN)
    assert found is None or moment <= found <= moment + late
    assert (found is not None) or late > GRACE


# Ticks


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    made.create()
    tables.create(made)
    yield made
    made.close()


@pytest.fixture
def make(ledger: Ledger) -> Callable[..., Schedules]:
    def made(labelled: Callable[[], int] = lambda: 0) -> Schedules:
        return Schedules(ledger, Runs(ledger), labelled)

    return made


NOW = at("2026-11-20 10:00")


def test_one_tick_makes_one_run_however_often_it_is_told(
    make: Callable[..., Schedules], ledger: Ledger
) -> None:
    schedules = make()
    schedule = schedules.add(order(every=HOUR), "anna", NOW)
    assert schedules.tick(schedule.id, NOW + 59 * MINUTE) is None
    run = schedules.tick(schedule.id, NOW + 61 * MINUTE)
    assert run is not None
    assert [schedules.tick(schedule.id, NOW + 61 * MINUTE) for _ in range(5)] == [None] * 5
    assert schedules.tick(schedule.id, NOW + 30 * MINUTE) is None  # the clock was set back
    (made,) = Runs(ledger).list()
    assert (made.id, made.name) == (run, "nightly")
    assert made.by.startswith(f"schedule {schedule.id} at 2026-11-20T10:00:00")
    assert ledger.trail()[-1]["event"] == "schedule-tick"


def test_several_missed_ticks_make_one_run(make: Callable[..., Schedules], ledger: Ledger) -> None:
    schedules = make()
    schedule = schedules.add(order(every=HOUR), "anna", NOW)
    assert schedules.tick(schedule.id, NOW + 5.5 * HOUR) is not None
    assert schedules.tick(schedule.id, NOW + 5.6 * HOUR) is None
    assert len(Runs(ledger).list()) == 1


def test_tick_missed_too_long_ago_is_passed_over(make: Callable[..., Schedules]) -> None:
    schedules = make()
    schedule = schedules.add(order(cron="0 11 * * *"), "anna", NOW)
    assert schedules.tick(schedule.id, at("2026-11-21 10:00")) is None


def test_tick_that_was_cut_off_is_made_good_once(
    make: Callable[..., Schedules], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedules = make()
    schedule = schedules.add(order(every=HOUR), "anna", NOW)
    with monkeypatch.context() as patched:
        patched.setattr(Runs, "enqueue", killed)
        with pytest.raises(KeyboardInterrupt):
            schedules.tick(schedule.id, NOW + 1.1 * HOUR)
    assert Runs(ledger).list() == ()
    assert len(make().make_good(NOW + 1.2 * HOUR)) == 1
    assert make().make_good(NOW + 1.2 * HOUR) == ()
    assert len(Runs(ledger).list()) == 1


def test_run_whose_tick_was_not_yet_noted_is_not_made_again(
    make: Callable[..., Schedules], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedules = make()
    schedule = schedules.add(order(every=HOUR), "anna", NOW)
    enqueue = Runs.enqueue

    def killed_after(self: Runs, plan: Plan, by: str, now: float) -> int:
        enqueue(self, plan, by, now)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Runs, "enqueue", killed_after)
        with pytest.raises(KeyboardInterrupt):
            schedules.tick(schedule.id, NOW + 1.1 * HOUR)
    make().make_good(NOW + 1.2 * HOUR)
    assert len(Runs(ledger).list()) == 1


def killed(*_words: object) -> int:
    raise KeyboardInterrupt


def test_run_waits_for_enough_new_labels(make: Callable[..., Schedules]) -> None:
    count = 40
    schedules = make(lambda: count)
    schedule = schedules.add(order(new_labelled=10), "anna", NOW)
    count = 49
    assert schedules.tick(schedule.id, NOW + 11 * MINUTE) is None
    count = 50
    assert schedules.tick(schedule.id, NOW + 21 * MINUTE) is not None
    assert schedules.tick(schedule.id, NOW + 31 * MINUTE) is None
    count = 60
    assert schedules.tick(schedule.id, NOW + 41 * MINUTE) is not None


def test_schedule_that_was_switched_off_makes_no_run(make: Callable[..., Schedules]) -> None:
    schedules = make()
    schedule = schedules.add(order(every=HOUR), "anna", NOW)
    schedules.change(schedule.id, order(every=HOUR, active=False), NOW)
    assert schedules.tick(schedule.id, NOW + 2 * HOUR) is None
    assert next_due(schedules.get(schedule.id), NOW) is None


def test_one_process_alone_ticks(tmp_path: Path) -> None:
    with only_here(tmp_path) as first, only_here(tmp_path) as second:
        assert (first, second) == (True, False)
    with only_here(tmp_path) as again:
        assert again


def test_started_ticker_does_at_once_what_came_due_meanwhile(
    make: Callable[..., Schedules], ledger: Ledger
) -> None:
    schedules = make()
    schedules.add(order(every=HOUR), "anna", NOW)
    for _ in range(5):  # restarts at the very moment
        ticker = Ticker(schedules, lambda: NOW + 1.5 * HOUR)
        ticker.start()
        while not Runs(ledger).list():
            time.sleep(0.01)
        ticker.stop()
    assert len(Runs(ledger).list()) == 1


# Through the API


def test_schedule_is_kept_changed_and_removed(tmp_path: Path) -> None:
    body = {
        "name": "nightly",
        "plan": {"name": "nightly", "keys": ["atrial_fibrillation"]},
        "cron": "30 2 * * *",
        "window": "20:00-06:00",
    }
    with opened(tmp_path, clock=lambda: NOW) as desk:
        made = desk.post("/schedules", Role.TRAINER, json=body)
        assert made.status == 201, made.text
        assert made.json["next_at"] > NOW
        assert "corpus" not in made.json["plan"]
        assert desk.post("/schedules", Role.TRAINER, json=body).status == 422  # the name is taken
        number = made.json["id"]
        changed = desk.ask(
            "PUT", f"/schedules/{number}", Role.TRAINER, json=body | {"active": False}
        )
        assert changed.json["next_at"] is None
        assert desk.ask("DELETE", f"/schedules/{number}", Role.TRAINER).status == 204
        assert desk.get("/schedules", Role.TRAINER).json == []


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        ({}, "does not say its name"),
        ({"name": "a", "keys": ["x"], "base": "../../etc/passwd"}, "base is an architecture"),
        ({"name": "a", "keys": ["x"], "base": "model.onnx"}, "base is an architecture"),
        ({"name": "a", "keys": ["x"], "split": "/etc/passwd"}, "split is the name"),
        ({"name": "a", "keys": ["x"], "epochs": 0}, "epochs"),
        ({"name": "a", "keys": ["x"], "nonsense": 1}, "has no nonsense"),
    ],
)
def test_plan_names_nothing_outside_the_installation(
    tmp_path: Path, plan: dict[str, object], sentence: str
) -> None:
    with opened(tmp_path) as desk:
        answer = desk.post("/runs", Role.TRAINER, json={"plan": plan})
        assert answer.status == 422
        assert sentence in answer.detail


# Runs


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with opened(tmp_path) as made:
        yield made


def run(desk: Desk, name: str = "one", **more: object) -> int:
    plan = {"name": name, "keys": ["atrial_fibrillation"], **more}
    answer = desk.post("/runs", Role.TRAINER, json={"plan": plan})
    assert answer.status == 201, answer.text
    return int(answer.json["id"])


def test_run_is_stopped_and_gone_on_with(desk: Desk) -> None:
    number = run(desk)
    stopped = desk.post(f"/runs/{number}/stop", Role.TRAINER)
    assert (stopped.status, stopped.json["state"]) == (200, "STOPPED")
    assert desk.post(f"/runs/{number}/stop", Role.TRAINER).status == 409
    assert desk.post(f"/runs/{number}/resume", Role.TRAINER).json["state"] == "QUEUED"
    assert desk.post(f"/runs/{number}/resume", Role.TRAINER).status == 409
    assert desk.post("/runs/99/stop", Role.TRAINER).status == 404


def test_run_is_followed_epoch_by_epoch_to_its_end(desk: Desk) -> None:
    number = run(desk)
    folder = desk.office.settings.runs_folder / str(number)
    folder.mkdir(parents=True)
    epochs = '{"number": 1, "train_loss": 0.5}\n{"number": 2, "train_loss": NaN}\n{"numb'
    (folder / "epochs.jsonl").write_text(epochs)
    desk.post(f"/runs/{number}/stop", Role.TRAINER)
    text = desk.get(f"/runs/{number}/events", Role.TRAINER).text
    assert text.startswith("data: {")
    assert '"epochs":[{"number":1,"train_loss":0.5},{"number":2,"train_loss":null}]' in text
    assert text.endswith("event: end\ndata: {}\n\n")


def test_report_is_shown_as_a_page_that_runs_nothing(desk: Desk) -> None:
    number = run(desk)
    assert desk.get(f"/runs/{number}/report", Role.TRAINER).status == 404
    folder = desk.office.settings.runs_folder / str(number)
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<p>Report</p>")
    answer = desk.get(f"/runs/{number}/report", Role.TRAINER)
    assert answer.text == "<p>Report</p>"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "script-src" not in answer.headers["content-security-policy"]


def test_two_runs_are_put_beside_each_other(desk: Desk) -> None:
    first, second = run(desk, "one"), run(desk, "two", epochs=7)
    for number, value in ((first, 0.9), (second, 0.8)):
        folder = desk.office.settings.runs_folder / str(number)
        folder.mkdir(parents=True)
        text = f'{{"macro": {{"auroc": {{"value": {value}, "low": 0.1, "high": 1}}}}}}'
        (folder / "evaluation.json").write_text(text)
    answer = desk.get(f"/runs/comparison?a={first}&b={second}", Role.TRAINER).json
    assert answer["differing"]["epochs"] == [30, 7]
    assert answer["metrics"]["macro.auroc"] == [0.9, 0.8]
