"""The models that are known, and the slots that they are in."""

import sqlalchemy as sa
from sqlalchemy import Connection

from dicom_node.ledger.chain import Event, append
from dicom_node.ledger.schema import models, slots


def add_model(connection: Connection, digest: str, name: str, version: str, now: float) -> None:
    """Make an installed model known."""
    known = connection.scalar(sa.select(models.c.digest).where(models.c.digest == digest))
    if known is None:
        connection.execute(
            models.insert().values(digest=digest, name=name, version=version, added_at=now)
        )


def digests(connection: Connection) -> dict[str, str]:
    """Return the digest in each slot."""
    rows = connection.execute(sa.select(slots.c.name, slots.c.digest)).all()
    return {row.name: row.digest for row in rows}


def in_slots(connection: Connection) -> list[dict[str, str]]:
    """Return slot, digest, name and version of each model that has a slot."""
    query = (
        sa.select(slots.c.name.label("slot"), models.c.digest, models.c.name, models.c.version)
        .join(models, models.c.digest == slots.c.digest)
        .order_by(slots.c.name)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def promote(connection: Connection, digest: str, now: float, event: Event | None = None) -> None:
    """Put a known model into the slot `current`, and what was there into `previous`.

    The event, if any, enters the audit trail with it.
    """
    before = connection.scalar(
        sa.select(slots.c.digest).where(slots.c.name == "current").with_for_update()
    )
    if before not in (None, digest):
        put_slot(connection, "previous", before, now)
    put_slot(connection, "current", digest, now)
    connection.execute(slots.delete().where(slots.c.name == "shadow", slots.c.digest == digest))
    if event is not None:
        append(connection, event, now)


def put_slot(connection: Connection, name: str, digest: str, now: float) -> None:
    """Put a model into a slot, in a transaction of the caller's."""
    connection.execute(slots.delete().where(slots.c.name == name))
    connection.execute(slots.insert().values(name=name, digest=digest, changed_at=now))
