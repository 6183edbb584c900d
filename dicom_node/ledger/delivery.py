"""Delivery: what each destination shall get, and how that went."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Row, RowMapping

from dicom_node.ledger.schema import (
    DeliveryState,
    State,
    blob_of,
    deliveries,
    instances,
    objects,
)
from dicom_node.reasons import sentence
from dicom_node.spool import BlobRef

RESPONSES, QUERY, COMMITMENT = "responses", "query", "commitment"
WAYS: Final = (RESPONSES, QUERY, COMMITMENT)
"""How it is known that a destination has an object, the weakest word first."""
_NOT_DELIVERED: Final = (DeliveryState.FAILED, DeliveryState.DROPPED)
_WELL: Final = {"reason": None, "message": None}

DUE: Final = sa.select(
    deliveries.c.id.label("delivery_id"),
    deliveries.c.attempts,
    deliveries.c.first_at,
    deliveries.c.asked_at,
    objects,
).join(objects, objects.c.id == deliveries.c.object_id)
"""What a :class:`Due` is read from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One result object that a destination shall get now."""

    delivery_id: int
    instance_id: int
    role: str
    sop_class_uid: str
    sop_instance_uid: str
    blob: BlobRef
    attempts: int
    first_at: float
    asked: bool = False
    """Whether the destination was asked to commit to it."""


_OF_DUE: Final = (
    "delivery_id", "instance_id", "role", "sop_class_uid", "sop_instance_uid", "attempts",
    "first_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one delivery attempt ended."""

    delivery_id: int
    state: DeliveryState
    status: int | None = None
    reason: str | None = None
    next_at: float = 0.0


def due(connection: Connection, destination: str, now: float, limit: int) -> list[Due]:
    """Return what this destination shall get now, oldest first, whole sets together."""
    query = (
        DUE.where(
            deliveries.c.destination == destination,
            deliveries.c.state == DeliveryState.PENDING,
            deliveries.c.next_at <= now,
        )
        .order_by(deliveries.c.instance_id, deliveries.c.id)
        .limit(limit)
    )
    return [due_of(row) for row in connection.execute(query).mappings()]


def delivered(connection: Connection, outcomes: Iterable[Outcome], now: float) -> None:
    """Record how deliveries ended, and what that makes of their objects' state."""
    touched = {_outcome(connection, item, now) for item in outcomes}
    for instance_id in sorted(touched):
        settle(connection, instance_id, now)


def _outcome(connection: Connection, item: Outcome, now: float) -> int:
    done = item.state in (DeliveryState.STORED, DeliveryState.DELIVERED)
    row = connection.execute(
        deliveries.update()
        .where(deliveries.c.id == item.delivery_id)
        .values(
            state=item.state,
            status=item.status,
            reason=item.reason,
            attempts=deliveries.c.attempts + 1,
            next_at=item.next_at,
            delivered_at=now if done else None,
            asked_at=None,
        )
        .returning(deliveries.c.instance_id)
    ).one()
    return int(row.instance_id)


def settle(connection: Connection, instance_id: int, now: float) -> None:
    """Move the row to where its deliveries together are."""
    of_row = (
        sa.select(deliveries.c.state, deliveries.c.committed_by, deliveries.c.reason)
        .where(deliveries.c.instance_id == instance_id)
        .order_by(deliveries.c.id)
    )
    found = connection.execute(of_row).all()
    move = instances.update().where(instances.c.id == instance_id)
    if any(row.state == DeliveryState.PENDING for row in found):
        back = move.where(instances.c.state == State.DELIVERED)
        connection.execute(back.values(state=State.REPORTED))
    else:
        connection.execute(move.values(**_together(found, now)))


def _together(found: Sequence[Row[Any, Any, Any]], now: float) -> dict[str, Any]:
    """Return what deliveries that all came to an end make of their row: the weakest word counts.

    What a person gave up does not count, unless nothing is left.
    """
    found = [row for row in found if row.state != DeliveryState.DROPPED] or found
    failed = next((row for row in found if row.state in _NOT_DELIVERED), None)
    if failed is not None:
        reason = str(failed.reason)
        return {"state": State.FAILED, "reason": reason, "message": sentence(reason)}
    if any(row.state == DeliveryState.STORED for row in found):
        return {"state": State.DELIVERED, "delivered_at": now, **_WELL}
    ways = {row.committed_by or RESPONSES for row in found}
    return {
        "state": State.COMMITTED,
        "delivered_at": sa.func.coalesce(instances.c.delivered_at, now),
        "committed_at": now,
        "committed_by": next(way for way in WAYS if way in ways),
        **_WELL,
    }


def due_of(row: RowMapping) -> Due:
    """Return a row of :data:`DUE`."""
    of_row = {name: row[name] for name in _OF_DUE}
    return Due(**of_row, blob=blob_of(row), asked=row["asked_at"] is not None)
