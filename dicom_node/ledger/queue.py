"""What operators see of the rows, and set going again."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from dicom_node.ledger.retention import purged_of
from dicom_node.ledger.schema import (
    DeliveryState,
    Part,
    State,
    deliveries,
    instances,
    objects,
)


def retry(connection: Connection, instance_id: int, now: float) -> bool:
    """Return whether something was set going again: work in quarantine, failed deliveries.

    What retention gave up cannot be.
    """
    state = connection.scalar(sa.select(instances.c.state).where(instances.c.id == instance_id))
    if Part.SOURCE in purged_of(connection, instance_id):
        return False
    if state == State.QUARANTINED:
        values: dict[str, Any] = {"state": State.RECEIVED, "attempts": 0, "next_at": now}
    elif _retry_deliveries(connection, instance_id, now):
        values = {"state": State.REPORTED}
    else:
        return False
    connection.execute(
        instances.update()
        .where(instances.c.id == instance_id)
        .values(reason=None, message=None, fence=instances.c.fence + 1, **values)
    )
    return True


def _retry_deliveries(connection: Connection, instance_id: int, now: float) -> int:
    """Return how many failed deliveries are pending again."""
    return connection.execute(
        deliveries.update()
        .where(
            deliveries.c.instance_id == instance_id,
            deliveries.c.state == DeliveryState.FAILED,
        )
        .values(state=DeliveryState.PENDING, first_at=now, next_at=now, attempts=0, refusals=0)
    ).rowcount


def rows(
    connection: Connection, states: Sequence[State] = (), limit: int = 100
) -> list[dict[str, Any]]:
    """Return the newest rows in these states (all by default), without patient data."""
    query = instances.select().order_by(instances.c.id.desc()).limit(limit)
    if states:
        query = query.where(instances.c.state.in_(states))
    return [dict(row) for row in connection.execute(query).mappings()]


def row(connection: Connection, instance_id: int) -> dict[str, Any] | None:
    """Return one row with its objects, its deliveries and what of it was purged, or None."""
    query = instances.select().where(instances.c.id == instance_id)
    found = connection.execute(query).mappings().first()
    if found is None:
        return None
    return dict(found) | {
        "objects": _of(connection, objects, instance_id),
        "deliveries": _of(connection, deliveries, instance_id),
        "purged": purged_of(connection, instance_id),
    }


def _of(connection: Connection, table: sa.Table, instance_id: int) -> list[dict[str, Any]]:
    query = table.select().where(table.c.instance_id == instance_id)
    return [dict(item) for item in connection.execute(query).mappings()]


def counts(connection: Connection) -> dict[State, int]:
    """Return how many objects stand in each state; every state is listed."""
    query = sa.select(instances.c.state, sa.func.count()).group_by(instances.c.state)
    found = {row[0]: int(row[1]) for row in connection.execute(query)}
    return {state: found.get(state, 0) for state in State}


def pending(connection: Connection) -> dict[str, int]:
    """Return how many results wait for each destination."""
    query = (
        sa.select(deliveries.c.destination, sa.func.count())
        .where(deliveries.c.state == DeliveryState.PENDING)
        .group_by(deliveries.c.destination)
    )
    return {row[0]: int(row[1]) for row in connection.execute(query)}
