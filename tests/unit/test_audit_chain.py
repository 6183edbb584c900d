"""The audit trail tells whoever alters it, takes something out of it, or cuts off its end."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.ledger import End, Event, Ledger, audit, meta
from dicom_node.ledger.chain import broken_chain

ROWS = 40
CHANGES: dict[str, Any] = {
    "at": 0.0, "event": "label", "reason": "x", "calling_ae": "x", "called_ae": "x",
    "address": "x", "detail": "x", "chain": "0" * 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path_factory.mktemp('chain') / 'ledger.sqlite'}")
    made.create()
    for number in range(ROWS):
        made.record(Event(event="echo", detail=f"{number}"), 1.0 + number)
    yield made
    made.close()


class Undone(Exception):
    """Ends a transaction without a trace."""


def after(ledger: Ledger, *tampering: sa.Executable) -> list[str]:
    """Return what is told once somebody has done this; it is undone."""
    told: list[str] = []
    with suppress(Undone), ledger.transaction() as connection:
        for statement in tampering:
            connection.execute(statement)
        told = broken_chain(connection)
        raise Undone
    return told


def test_trail_that_nobody_touched_is_whole(ledger: Ledger) -> None:
    assert after(ledger) == []
    assert ledger.end().rows == ROWS


@settings(max_examples=60, deadline=None)
@given(row=st.integers(1, ROWS), column=st.sampled_from(sorted(CHANGES)))
def test_any_value_of_any_row_that_is_altered_is_told(
    ledger: Ledger, row: int, column: str
) -> None:
    change = audit.update().where(audit.c.id == row).values({column: CHANGES[column]})
    assert f"audit row {row} was altered" in after(ledger, change)[0]


@pytest.mark.parametrize("row", [1, 2, ROWS // 2, ROWS - 1, ROWS])
def test_any_row_that_is_removed_is_told(ledger: Ledger, row: int) -> None:
    assert after(ledger, audit.delete().where(audit.c.id == row))


@pytest.mark.parametrize("kept", [0, 1, ROWS - 1])
def test_end_that_is_cut_off_is_told(ledger: Ledger, kept: int) -> None:
    told = after(ledger, audit.delete().where(audit.c.id > kept))
    assert told == [f"the trail had {ROWS} rows and is no longer that of then: its end was cut off"]


def test_end_that_was_kept_elsewhere_tells_even_if_the_ledger_was_made_to_agree(
    ledger: Ledger,
) -> None:
    kept = ledger.end()
    (chain,) = ledger.query(sa.select(audit.c.chain).where(audit.c.id == ROWS - 1))[0]
    forged = meta.update().where(meta.c.key == "audit").values(value=f"{ROWS - 1}:{chain}")
    with suppress(Undone), ledger.transaction() as connection:
        connection.execute(audit.delete().where(audit.c.id == ROWS))
        connection.execute(forged)
        assert broken_chain(connection) == []
        assert broken_chain(connection, kept)
        raise Undone


def test_what_comes_after_a_cut_does_not_hide_it(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.create()
    for number in range(5):
        ledger.record(Event(event="echo"), float(number))
    early = ledger.end()
    with ledger.transaction() as connection:
        connection.execute(audit.delete().where(audit.c.id > 3))
    ledger.create()  # a restart
    ledger.record(Event(event="echo"), 9.0)
    assert ledger.broken_chain() != []
    assert ledger.broken_chain(early) != []
    ledger.close()


def test_trail_of_an_older_version_counts_from_its_end(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.create()
    for number in range(3):
        ledger.record(Event(event="echo"), float(number))
    noted = ledger.end()
    with ledger.transaction() as connection:
        connection.execute(meta.delete().where(meta.c.key == "audit"))
    ledger.create()
    assert ledger.end() == noted
    assert End.from_text(str(noted)) == noted
    ledger.record(Event(event="echo"), 9.0)
    assert ledger.broken_chain(noted) == []
    ledger.close()
