"""Results for a destination that left the settings: named, sent elsewhere or given up."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Run
from test_ledger import (
    ARCHIVE,
    LATER,
    PACS,
    end,
    postgres,  # noqa: F401 - a fixture
    reported,
    row,
    url,  # noqa: F401 - a fixture
)

from dicom_node.ledger import DeliveryState, Ledger, State
from dicom_node.reasons import Delivery

NEW = "NEW"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:  # noqa: F811 - a fixture
    """Open a new ledger."""
    opened = Ledger(url)
    opened.create()
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "ending", [None, DeliveryState.PENDING, DeliveryState.STORED, DeliveryState.FAILED]
)
def test_results_that_are_redirected_begin_anew_there(
    ledger: Ledger, ending: DeliveryState | None
) -> None:
    reported(ledger, "1.1", PACS)
    if ending is not None:
        end(ledger, PACS, ending, reason=Delivery.REFUSED, status=0xA700)
    assert ledger.stranded([NEW]) == {PACS: 3}
    assert ledger.redirect(PACS, NEW, 10.0) == 3
    assert ledger.stranded([NEW]) == {}
    assert row(ledger)["state"] == State.REPORTED
    assert row(ledger)["reason"] is None
    due = ledger.due(NEW, LATER, 10)
    assert [(item.attempts, item.first_at, item.asked) for item in due] == [(0, 10.0, False)] * 3
    end(ledger, NEW, DeliveryState.DELIVERED)
    assert row(ledger)["state"] == State.COMMITTED
    (entry,) = ledger.trail()
    assert (entry["event"], json.loads(entry["detail"])["to"]) == ("delivery-redirect", NEW)
    assert ledger.violations(LATER, 60.0) == []


def test_what_goes_there_anyhow_goes_there_once(ledger: Ledger) -> None:
    reported(ledger, "1.1", PACS, NEW)
    end(ledger, NEW, DeliveryState.DELIVERED)
    ledger.redirect(PACS, NEW, 10.0)
    assert ledger.due(NEW, LATER, 10) == []
    assert row(ledger)["state"] == State.COMMITTED


def test_what_another_destination_has_does_not_fail_when_the_rest_is_dropped(
    ledger: Ledger,
) -> None:
    reported(ledger, "1.1", PACS, ARCHIVE)
    end(ledger, PACS, DeliveryState.FAILED, reason=Delivery.REFUSED)
    end(ledger, ARCHIVE, DeliveryState.DELIVERED)
    assert row(ledger)["state"] == State.FAILED
    assert ledger.drop(PACS, 10.0) == 3
    assert row(ledger)["state"] == State.COMMITTED
    assert ledger.dropped() == 0


def test_what_no_destination_has_fails_visibly_when_it_is_dropped(ledger: Ledger) -> None:
    reported(ledger, "1.1", PACS)
    assert ledger.drop(PACS, 10.0) == 3
    assert (row(ledger)["state"], row(ledger)["reason"]) == (State.FAILED, Delivery.DROPPED)
    assert not ledger.retry(1, 11.0)
    assert (ledger.stranded([]), ledger.dropped()) == ({}, 1)
    assert [item["event"] for item in ledger.trail()] == ["delivery-drop"]
    assert ledger.drop(PACS, 12.0) == 0
    assert len(ledger.trail()) == 1
    assert ledger.violations(LATER, 60.0) == []


def destination(name: str) -> str:
    return f'[[destinations]]\nname = "{name}"\nae_title = "A"\nhost = "127.0.0.1"\nport = 9\n'


def test_the_operator_is_told_and_sends_them_elsewhere(run: Run, tmp_path: Path) -> None:
    settings = Path("sinusnode.toml")
    settings.write_text(destination(NEW) + '[[hl7]]\nname = "EHR"\nhost = "127.0.0.1"\nport = 9\n')
    folder = tmp_path / "sinusnode-data"
    folder.mkdir()
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    ledger.create()
    reported(ledger, "1.1", PACS)
    assert f"sinusnode redirect {PACS} --to NAME" in " ".join(run("queue").err.split())
    assert "3 results are not delivered to PACS" in " ".join(run("check").out.split())
    for arguments, status, said in (
        ([PACS], 2, "--drop"),
        ([PACS, "--to", NEW, "--drop"], 2, "--drop"),
        ([NEW, "--drop"], 1, "take it out"),
        ([PACS, "--to", "NOBODY"], 1, "no destination NOBODY"),
        ([PACS, "--to", "EHR"], 1, "EHR takes no ecg, pdf, sr"),
    ):
        done = run("redirect", *arguments)
        assert (done.status, said in done.err) == (status, True), done
    assert ledger.trail() == []
    done = run("redirect", PACS, "--to", NEW)
    assert (done.status, done.out) == (0, "3 results for PACS: sent to NEW\n")
    assert ledger.pending() == {NEW: 3}
    ledger.close()
    settings.write_text("")
    assert run("redirect", NEW, "--drop").out == "3 results for NEW: given up\n"
    assert "redirect" not in run("queue").err
