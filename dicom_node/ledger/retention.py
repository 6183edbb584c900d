"""Retention: whose bytes are given up; the row stays, so that what is sent again is known."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy import Connection

from dicom_node.ledger.chain import Event, append
from dicom_node.ledger.schema import Part, State, instances, purges

PURGED: Final = "purged"
"""The event of the audit trail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """From when on one part of the objects in one state may be given up."""

    state: State
    part: Part
    before: float
    """UTC, seconds since the epoch: what rests since then, or longer."""


_RESTS_SINCE: Final = {
    State.COMMITTED: instances.c.committed_at,
    State.QUARANTINED: instances.c.next_at,  # of its last attempt
}
AT_REST: Final = tuple(_RESTS_SINCE)
"""The states that may be purged: what is not safe elsewhere, nor set aside, never is."""


def is_purged(part: Part) -> sa.ColumnElement[bool]:
    """Return the condition that a part of a row of `instances` is given up."""
    return sa.exists().where(purges.c.instance_id == instances.c.id, purges.c.part == part)


def purgeable(connection: Connection, rule: Rule, numbers: range) -> list[int]:
    """Return which of the rows with these numbers may give up their part."""
    among = instances.c.id.between(numbers.start, numbers.stop - 1)
    return list(connection.scalars(sa.select(instances.c.id).where(among, *_conditions(rule))))


def purge(connection: Connection, rule: Rule, rows: Collection[int], now: float) -> list[int]:
    """Return those of the rows whose part was given up: a row of the audit trail says so.

    Parameters
    ----------
    rows
        What :func:`purgeable` returned; what no longer meets the rule is left alone.
    now
        UTC, seconds since the epoch.
    """
    query = sa.select(instances.c.id).where(instances.c.id.in_(rows), *_conditions(rule))
    found = list(connection.scalars(query.order_by(instances.c.id).with_for_update()))
    if found:
        marks = [{"instance_id": number, "part": rule.part, "at": now} for number in found]
        connection.execute(purges.insert(), marks)
        if rule.part is Part.RESULTS:
            given_up = instances.update().where(instances.c.id.in_(found))
            connection.execute(given_up.values(result=None))
        detail = json.dumps({"part": rule.part, "rows": found})
        append(connection, Event(event=PURGED, reason=rule.state, detail=detail), now)
    return found


def _conditions(rule: Rule) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions of a rule; `coalesce` keeps databases from the index of the state."""
    in_state = sa.func.coalesce(instances.c.state, "") == rule.state
    rests_long = _RESTS_SINCE[rule.state] <= rule.before
    return in_state, rests_long, ~is_purged(rule.part)


def purged_of(connection: Connection, instance_id: int) -> dict[Part, float]:
    """Return which parts of a row were given up, and when."""
    query = purges.select().where(purges.c.instance_id == instance_id)
    return {Part(row.part): row.at for row in connection.execute(query)}


def purged(connection: Connection) -> dict[tuple[State, Part], int]:
    """Return how many rows of each state gave up each part."""
    query = (
        sa.select(instances.c.state, purges.c.part, sa.func.count())
        .join(instances, instances.c.id == purges.c.instance_id)
        .group_by(instances.c.state, purges.c.part)
    )
    return {(State(row[0]), Part(row[1])): int(row[2]) for row in connection.execute(query)}


def purged_too_early(connection: Connection) -> Iterator[str]:
    """Yield a sentence for each row that was given up and is not at rest."""
    query = (
        sa.select(instances.c.id, instances.c.state)
        .join(purges, purges.c.instance_id == instances.c.id)
        .where(instances.c.state.not_in(AT_REST))
        .distinct()
    )
    for row in connection.execute(query):
        yield f"row {row.id} ({row.state}) was purged and is not at rest"
