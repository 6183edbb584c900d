"""Results for a destination that the settings no longer name: sent elsewhere, or given up."""

import json
from collections.abc import Collection
from typing import Final

import sqlalchemy as sa
from sqlalchemy import Connection

from dicom_node.ledger.chain import Event, append
from dicom_node.ledger.delivery import settle
from dicom_node.ledger.schema import DeliveryState, State, deliveries, instances, objects
from dicom_node.reasons import Delivery

_UNFINISHED: Final = deliveries.c.state.in_(
    (DeliveryState.PENDING, DeliveryState.STORED, DeliveryState.FAILED)
)
_OF_BEFORE: Final = ("status", "reason", "delivered_at", "asked_at", "transaction_uid")


def stranded(connection: Connection, named: Collection[str]) -> dict[str, int]:
    """Return how many results were to go to each destination that is none of these."""
    query = (
        sa.select(deliveries.c.destination, sa.func.count())
        .where(_UNFINISHED, deliveries.c.destination.not_in(named))
        .group_by(deliveries.c.destination)
    )
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def stranded_roles(connection: Connection, destination: str) -> set[str]:
    """Return what kinds of objects were to go there."""
    query = (
        sa.select(objects.c.role)
        .join(deliveries, deliveries.c.object_id == objects.c.id)
        .where(*_of(destination))
    )
    return set(connection.scalars(query.distinct()))


def redirect(connection: Connection, destination: str, to: str, now: float) -> int:
    """Return how many results go elsewhere from now on; what goes there anyhow goes once."""
    there = deliveries.alias()
    twice = sa.exists().where(
        there.c.object_id == deliveries.c.object_id, there.c.destination == to
    )
    found = _locked(connection, destination)
    connection.execute(deliveries.delete().where(*_of(destination), twice))
    connection.execute(
        deliveries.update()
        .where(*_of(destination))
        .values(
            destination=to,
            state=DeliveryState.PENDING,
            first_at=now,
            next_at=now,
            attempts=0,
            refusals=0,
            **dict.fromkeys(_OF_BEFORE),
        )
    )
    _settle(connection, found, now)
    _record(connection, "delivery-redirect", destination, found, now, to=to)
    return len(found)


def drop(connection: Connection, destination: str, now: float) -> int:
    """Return how many results were given up; an ECG that none is left of has FAILED."""
    found = _locked(connection, destination)
    connection.execute(
        deliveries.update()
        .where(*_of(destination))
        .values(state=DeliveryState.DROPPED, reason=Delivery.DROPPED)
    )
    _settle(connection, found, now)
    _record(connection, "delivery-drop", destination, found, now)
    return len(found)


def dropped(connection: Connection) -> int:
    """Return how many ECGs have FAILED because a person gave all of their results up."""
    query = sa.select(sa.func.count()).where(
        instances.c.state == State.FAILED, instances.c.reason == Delivery.DROPPED
    )
    return int(connection.scalar(query) or 0)


def _of(destination: str) -> tuple[sa.ColumnElement[bool], ...]:
    return _UNFINISHED, deliveries.c.destination == destination


def _locked(connection: Connection, destination: str) -> list[int]:
    """Return the row of each result that was to go there."""
    query = sa.select(deliveries.c.instance_id).where(*_of(destination))
    return list(connection.scalars(query.order_by(deliveries.c.id).with_for_update()))


def _settle(connection: Connection, found: Collection[int], now: float) -> None:
    """Move each row to where its deliveries are now; one that had failed is on its way again."""
    for instance_id in sorted(set(found)):
        connection.execute(
            instances.update()
            .where(instances.c.id == instance_id, instances.c.state == State.FAILED)
            .values(state=State.REPORTED, reason=None, message=None)
        )
        settle(connection, instance_id, now)


def _record(
    connection: Connection,
    event: str,
    destination: str,
    found: Collection[int],
    now: float,
    **more: str,
) -> None:
    words = {"by": "the command line", "destination": destination, "results": len(found)}
    detail = json.dumps({**words, "rows": sorted(set(found)), **more}, sort_keys=True)
    if found:
        append(connection, Event(event=event, detail=detail), now)
