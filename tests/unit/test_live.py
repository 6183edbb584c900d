"""Settings that change while everything runs: few, over the file, seen by every process."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom_node.ledger import Ledger
from dicom_node.live import Live, NotAllowed, NotLive, in_force, knobs, overlaid
from dicom_node.settings import Destination, Hl7, Retention, Settings, Storage

KEYS = {
    "admin.requests_per_minute", "destinations.pacs.example.active", "drift.share",
    "drift.significance", "hl7.EHR.active", "log.level", "models.speak",
    "retention.quarantine_days", "retention.results_days", "retention.source_days",
}  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        storage=Storage(folder=tmp_path),
        destinations=(Destination(name="pacs.example", ae_title="PACS", host="h", port=104),),
        hl7=(Hl7(name="EHR", host="h", port=2575),),
    )


@pytest.fixture
def process(settings: Settings) -> Iterator[Callable[..., Live]]:
    """Make what one process of the installation sees."""
    ledger = Ledger(settings.database_url)
    ledger.create()
    Live(settings, ledger).create()

    def made(clock: Callable[[], float] = lambda: 0.0, *, stated: Settings = settings) -> Live:
        return Live(stated, ledger, clock)

    yield made
    ledger.close()


def test_few_values_change_without_a_restart_and_none_that_opens_a_door(
    settings: Settings,
) -> None:
    assert knobs(settings).keys() == KEYS


def test_change_is_seen_by_another_process_within_a_second(process: Callable[..., Live]) -> None:
    moment = 0.0
    one, other = process(), process(lambda: moment)
    assert other.now().log.level == "info"
    one.change("log.level", "debug", "ada", "Looking for a fault.", 7.0)
    assert one.now().log.level == "debug"
    assert other.now().log.level == "info"
    moment = 1.0
    assert other.now().log.level == "debug"
    (change,) = other.changes()
    assert (change.by, change.reason, change.at) == ("ada", "Looking for a fault.", 7.0)


def test_change_that_is_taken_away_leaves_the_file(process: Callable[..., Live]) -> None:
    live = process()
    for value in (False, True, False, None):
        live.change("destinations.pacs.example.active", value, "ada", "It is rebuilt.", 7.0)
        assert live.now().destinations[0].active is (value is not False)
    assert live.changes() == ()
    assert live.now() == live.file


@pytest.mark.parametrize(
    "key", ["dicom.port", "admin.host", "tls.certificate", "destinations.other.active", "log", ""]
)
def test_what_needs_a_restart_is_refused_by_name(process: Callable[..., Live], key: str) -> None:
    with pytest.raises(NotLive, match="does not change without a restart"):
        process().change(key, value=True, by="ada", reason="Why not.", at=7.0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("log.level", "loud"), ("log.level", True), ("models.speak", 1), ("models.speak", "no"),
        ("admin.requests_per_minute", 0), ("admin.requests_per_minute", True),
        ("drift.share", float("nan")), ("drift.significance", 1.0),
    ],
)  # fmt: skip
def test_value_that_the_file_could_not_hold_is_refused(
    process: Callable[..., Live], key: str, value: object
) -> None:
    live = process()
    with pytest.raises(NotAllowed, match=key):
        live.change(key, value, "ada", "Why not.", 7.0)
    assert live.changes() == ()


def test_bytes_are_kept_longer_without_a_restart_and_never_shorter(
    settings: Settings, process: Callable[..., Live]
) -> None:
    stated = settings.model_copy(update={"retention": Retention(source_days=30)})
    live = process(stated=stated)
    for days in (30.0, 365, 0):
        live.change("retention.source_days", days, "ada", "The court asks.", 7.0)
        assert live.now().retention.source_days == days
    for key in ("retention.source_days", "retention.results_days"):
        with pytest.raises(NotAllowed, match="needs the file"):
            live.change(key, 29.0, "ada", "The disk is full.", 7.0)


def test_change_for_what_the_file_does_not_name_any_more_counts_for_nothing(
    settings: Settings, process: Callable[..., Live]
) -> None:
    process().change("hl7.EHR.active", value=False, by="ada", reason="So.", at=7.0)
    without = settings.model_copy(update={"hl7": ()})
    assert process(stated=without).now() == without


def test_value_that_is_not_allowed_any_more_counts_for_nothing(
    settings: Settings, process: Callable[..., Live]
) -> None:
    live = process()
    live.change("log.level", "debug", "ada", "Looking for a fault.", 7.0)
    (change,) = live.changes()
    old = type(change)(key="log.level", value="trace", by="ada", reason="", at=7.0)
    assert overlaid(settings, [old]) == settings


def test_before_the_first_start_the_file_counts_and_nothing_is_made(tmp_path: Path) -> None:
    settings = Settings(storage=Storage(folder=tmp_path / "data"))
    assert in_force(settings) == (settings, ())
    assert not (tmp_path / "data").exists()
