"""The work on what was received: leased, fenced, and every transition whole."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Row, RowMapping

from dicom_node.ledger.comparisons import Comparable, pin
from dicom_node.ledger.schema import (
    WORKABLE,
    DeliveryState,
    State,
    blob_of,
    blob_values,
    deliveries,
    instances,
    objects,
)
from dicom_node.spool import BlobRef

_NO_LEASE: Final = {"lease_owner": None, "lease_until": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to work on one received object, until it ends or is taken away."""

    id: int
    fence: int
    attempts: int
    sop_class_uid: str
    sop_instance_uid: str
    blob: BlobRef
    received_at: float
    plan: str
    plan_digest: str
    result: str | None
    calling_ae: str = ""
    archive_only: bool = False
    """Whether nothing is to be sent, unless it was released since."""


_OF_LEASE: Final = tuple(field.name for field in fields(Lease) if field.name != "blob")


@dataclass(frozen=True, slots=True, kw_only=True)
class Produced:
    """One result object, its bytes already durable."""

    role: str
    sop_class_uid: str
    sop_instance_uid: str
    blob: BlobRef
    destinations: tuple[str, ...] | None = None
    """Its own, instead of those of the set: a message goes elsewhere than the DICOM objects."""


class LeaseLost(RuntimeError):
    """The row was leased again since; nothing was changed."""


def lease(connection: Connection, owner: str, now: float, until: float) -> Lease | None:
    """Return the oldest object that is due, leased to `owner`, or None; fetched ones last."""
    due = (
        sa.select(instances.c.id)
        .where(
            instances.c.state.in_(WORKABLE),
            instances.c.next_at <= now,
            sa.or_(instances.c.lease_until.is_(None), instances.c.lease_until < now),
        )
        .order_by(instances.c.archive_only, instances.c.next_at, instances.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    take = (
        instances.update()
        .where(instances.c.id == due)
        .values(
            lease_owner=owner,
            lease_until=until,
            fence=instances.c.fence + 1,
            attempts=instances.c.attempts + 1,
        )
        .returning(instances)
    )
    row = connection.execute(take).mappings().first()
    return None if row is None else _lease(row)


def analysed(
    connection: Connection, lease: Lease, result: str, now: float, ecg: Comparable | None = None
) -> str:
    """Return the stored result: the given one, or the one that was stored first.

    With the first, the earlier ECG that `ecg` is to be compared with is chosen and stored.
    """
    stored = _held(connection, lease).result
    if stored is None:
        _update(connection, lease, state=State.ANALYSED, result=result, analysed_at=now)
        if ecg is not None:
            pin(connection, lease.id, lease.sop_instance_uid, ecg)
    return result if stored is None else str(stored)


def reported(
    connection: Connection,
    lease: Lease,
    produced: Iterable[Produced],
    destinations: Sequence[str],
    now: float,
) -> None:
    """Record the objects and one delivery for each object and destination."""
    made = tuple(produced)
    rows = [
        {
            "instance_id": lease.id,
            "role": item.role,
            "sop_class_uid": item.sop_class_uid,
            "sop_instance_uid": item.sop_instance_uid,
            **blob_values(item.blob),
        }
        for item in made
    ]
    insert = objects.insert().returning(objects.c.id, sort_by_parameter_order=True)
    _held(connection, lease)
    due = [
        {
            "instance_id": lease.id,
            "object_id": object_id,
            "destination": name,
            "state": DeliveryState.PENDING,
            "first_at": now,
            "next_at": now,
        }
        for item, object_id in zip(made, connection.scalars(insert, rows), strict=True)
        for name in (destinations if item.destinations is None else item.destinations)
    ]
    if due:
        connection.execute(deliveries.insert(), due)
    _update(connection, lease, state=State.REPORTED, reported_at=now, **_NO_LEASE)


def archived(connection: Connection, lease: Lease) -> bool:
    """Return whether the object rests without a report; not where it was released since."""
    if not _held(connection, lease).archive_only:
        return False
    _update(connection, lease, state=State.ARCHIVED, **_NO_LEASE)
    return True


def quarantine(connection: Connection, lease: Lease, reason: str, message: str) -> None:
    """Set the object aside, with its reason; its bytes stay."""
    _held(connection, lease)
    _update(
        connection,
        lease,
        state=State.QUARANTINED,
        reason=reason,
        message=message,
        **_NO_LEASE,
    )


def postpone(connection: Connection, lease: Lease, until: float) -> None:
    """Give the object back, not to be tried before `until`."""
    _held(connection, lease)
    _update(connection, lease, next_at=until, **_NO_LEASE)


def leases_of(connection: Connection, owner: str) -> list[Lease]:
    """Return what this owner holds: of a worker that died, what it died of."""
    query = instances.select().where(instances.c.lease_owner == owner)
    return [_lease(row) for row in connection.execute(query).mappings()]


def forgive(connection: Connection) -> int:
    """Void every lease without counting the attempt; return how many there were.

    For the start of a node: what it held when it died was not what killed it.
    """
    return connection.execute(
        instances.update()
        .where(instances.c.lease_owner.is_not(None))
        .values(attempts=instances.c.attempts - 1, **_NO_LEASE)
    ).rowcount


def _held(connection: Connection, lease: Lease) -> Row[Any]:
    row = connection.execute(
        instances.select()
        .where(instances.c.id == lease.id, instances.c.fence == lease.fence)
        .with_for_update()
    ).first()
    if row is None or row.state not in WORKABLE:
        raise LeaseLost(f"row {lease.id} is no longer leased here")
    return row


def _update(connection: Connection, lease: Lease, **values: Any) -> None:
    connection.execute(instances.update().where(instances.c.id == lease.id).values(**values))


def _lease(row: RowMapping) -> Lease:
    return Lease(**{name: row[name] for name in _OF_LEASE}, blob=blob_of(row))
