"""The promises that the rows themselves can show broken."""

from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection

from dicom_node.ledger.chain import broken_chain
from dicom_node.ledger.queue import rows
from dicom_node.ledger.retention import purged_too_early
from dicom_node.ledger.schema import (
    WORKABLE,
    DeliveryState,
    Part,
    State,
    deliveries,
    objects,
    purges,
)

_ANALYSED: Final = (State.ANALYSED, State.ARCHIVED)
_AFTER_REPORT: Final = (State.REPORTED, State.DELIVERED, State.COMMITTED, State.FAILED)


def violations(connection: Connection, now: float, overdue: float) -> list[str]:
    """Return every broken promise that the rows themselves show; empty is healthy.

    Parameters
    ----------
    now
        UTC, seconds since the epoch.
    overdue
        Seconds that a lease may be past its end before it counts as forgotten.
    """
    return [
        *_broken_rows(connection, now, overdue),
        *purged_too_early(connection),
        *broken_chain(connection),
    ]


def _broken_rows(connection: Connection, now: float, overdue: float) -> Iterator[str]:
    pending = deliveries.c.state == DeliveryState.PENDING
    undelivered = _ids(connection, deliveries.c.instance_id, pending)
    with_objects = _ids(connection, objects.c.instance_id)
    purged = _ids(connection, purges.c.instance_id, purges.c.part == Part.RESULTS)
    for row in rows(connection, limit=1_000_000):
        name = f"row {row['id']} ({row['state']})"
        reported = row["state"] in _AFTER_REPORT
        if reported and row["id"] not in with_objects:
            yield f"{name} has no objects"
        resulted = row["state"] in _ANALYSED or reported
        if row["result"] is None and resulted and row["id"] not in purged:
            yield f"{name} has no result"
        if row["archive_only"] and reported:
            yield f"{name} is reported, and was fetched for the archive only"
        if row["state"] in (State.QUARANTINED, State.FAILED) and not row["reason"]:
            yield f"{name} has no reason"
        if row["state"] in (State.DELIVERED, State.COMMITTED) and row["id"] in undelivered:
            yield f"{name} has pending deliveries"
        if row["lease_until"] is not None and row["lease_until"] + overdue < now:
            yield f"{name} has a forgotten lease"
        if row["lease_owner"] is not None and row["state"] not in WORKABLE:
            yield f"{name} is leased though nothing is left to do"


def _ids(
    connection: Connection, column: sa.Column[Any], *where: sa.ColumnElement[bool]
) -> set[int]:
    return set(connection.scalars(sa.select(column).where(*where).distinct()))
