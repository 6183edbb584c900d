"""Storage commitment that is asked of destinations."""

from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection

from dicom_node.ledger.delivery import COMMITMENT, DUE, Due, due_of, settle
from dicom_node.ledger.schema import DeliveryState, deliveries, objects
from dicom_node.reasons import Delivery

RESENDS: Final = 5
"""Times that a destination may take an object and not commit to it."""


def unconfirmed(
    connection: Connection, destination: str, asked_before: float, limit: int
) -> list[Due]:
    """Return what a destination took and did not commit to: never asked, or long ago."""
    query = (
        DUE.where(
            deliveries.c.destination == destination,
            deliveries.c.state == DeliveryState.STORED,
            sa.or_(deliveries.c.asked_at.is_(None), deliveries.c.asked_at <= asked_before),
        )
        .order_by(deliveries.c.asked_at.is_not(None), deliveries.c.id)
        .limit(limit)
    )
    return [due_of(row) for row in connection.execute(query).mappings()]


def asked(connection: Connection, ids: Iterable[int], transaction: str, now: float) -> None:
    """Remember under which transaction deliveries are to be committed to."""
    connection.execute(
        deliveries.update()
        .where(deliveries.c.id.in_(list(ids)))
        .values(asked_at=now, transaction_uid=transaction)
    )


def answered(
    connection: Connection,
    transaction: str,
    committed: Iterable[str],
    refused: Iterable[str],
    now: float,
) -> int:
    """Return how many deliveries a destination's event report settled.

    Parameters
    ----------
    transaction
        Transaction UID of the request.
    committed, refused
        SOP Instance UIDs. What is refused is sent again, a few times.
    """
    of_transaction = (
        sa.select(deliveries.c.id, objects.c.sop_instance_uid)
        .join(objects, objects.c.id == deliveries.c.object_id)
        .where(
            deliveries.c.transaction_uid == transaction,
            deliveries.c.state == DeliveryState.STORED,
        )
    )
    kept, lost = set(committed), set(refused)
    rows = connection.execute(of_transaction).all()
    good = [row.id for row in rows if row.sop_instance_uid in kept - lost]
    bad = [row.id for row in rows if row.sop_instance_uid in lost]
    confirmed(connection, good, COMMITMENT, now)
    resend(connection, bad, now)
    return len(good) + len(bad)


def confirmed(connection: Connection, ids: Iterable[int], way: str, now: float) -> None:
    """Record that deliveries are safe, and how that is known (one of `WAYS`)."""
    _change(connection, ids, now, state=DeliveryState.COMMITTED, committed_by=way, reason=None)


def resend(connection: Connection, ids: Iterable[int], now: float) -> None:
    """Send again what a destination took and does not have; a few times, then it failed."""
    last = deliveries.c.refusals + 1 >= RESENDS
    _change(
        connection,
        ids,
        now,
        state=sa.case((last, str(DeliveryState.FAILED)), else_=str(DeliveryState.PENDING)),
        reason=Delivery.NOT_COMMITTED,
        refusals=deliveries.c.refusals + 1,
        next_at=now,
    )


def _change(connection: Connection, ids: Iterable[int], now: float, **values: Any) -> None:
    touched = connection.scalars(
        deliveries.update()
        .where(deliveries.c.id.in_(list(ids)))
        .values(**values)
        .returning(deliveries.c.instance_id)
    ).all()
    for instance_id in sorted(set(touched)):
        settle(connection, instance_id, now)
