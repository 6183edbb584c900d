"""Retention: whose bytes are given up; the row stays, so that what is sent again is known."""

import json
from collections.abc import Iterator
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


def purge(connection: Connection, rule: Rule, after: int, limit: int, now: float) -> list[int]:
    """Return the rows whose part was given up, in order; each batch is a row of the audit trail.

    Parameters
    ----------
    after
        Only rows with a higher number.
    limit
        At most so many.
    now
        UTC, seconds since the epoch.
    """
    query = (
        sa.select(instances.c.id)
        .where(
            instances.c.id > after,
            instances.c.state == rule.state,
            _RESTS_SINCE[rule.state] <= rule.before,
            ~is_purged(rule.part),
        )
        .order_by(instances.c.id)
        .limit(limit)
        .with_for_update()
    )
    found = list(connection.scalars(query))
    if found:
        marks = [{"instance_id": number, "part": rule.part, "at": now} for number in found]
        connection.execute(purges.insert(), marks)
        detail = json.dumps({"part": rule.part, "rows": found})
        append(connection, Event(event=PURGED, reason=rule.state, detail=detail), now)
    return found


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
