"""Storage commitment that callers ask of us."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from dicom_node.ledger.schema import promises


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A storage commitment that a caller asked for and has not heard of yet."""

    id: int
    transaction: str
    references: tuple[tuple[str, str], ...]
    """SOP Class and SOP Instance UID of each object."""
    calling_ae: str
    address: str
    attempts: int
    asked_at: float


def promise(  # noqa: PLR0917 - the connection, and the words of the request
    connection: Connection,
    transaction: str,
    references: Sequence[tuple[str, str]],
    calling_ae: str,
    address: str,
    now: float,
) -> None:
    """Remember that a caller asked for storage commitment; asked again, it is told again."""
    values = {
        "refs": json.dumps(references),
        "address": address,
        "asked_at": now,
        "attempts": 0,
        "next_at": now,
    }
    same = (promises.c.calling_ae == calling_ae, promises.c.transaction_uid == transaction)
    if connection.execute(promises.update().where(*same).values(**values)).rowcount == 0:
        connection.execute(
            promises.insert().values(calling_ae=calling_ae, transaction_uid=transaction, **values)
        )


def promise_due(connection: Connection, now: float) -> Promise | None:
    """Return the caller that has waited longest to hear of its objects, or None."""
    query = promises.select().where(promises.c.next_at <= now).order_by(promises.c.next_at).limit(1)
    row = connection.execute(query).first()
    if row is None:
        return None
    return Promise(
        id=row.id,
        transaction=row.transaction_uid,
        references=tuple((str(a), str(b)) for a, b in json.loads(row.refs)),
        calling_ae=row.calling_ae,
        address=row.address,
        attempts=row.attempts,
        asked_at=row.asked_at,
    )


def promise_kept(connection: Connection, promise: Promise) -> None:
    """Record that the caller has heard."""
    _told(connection, promise, None)


def promise_later(connection: Connection, promise: Promise, at: float) -> None:
    """Record that the caller could not be told, and when to try again."""
    _told(connection, promise, at)


def _told(connection: Connection, promise: Promise, next_at: float | None) -> None:
    """Record how telling ended; a request that was renewed meanwhile is still to be told."""
    connection.execute(
        promises.update()
        .where(promises.c.id == promise.id, promises.c.asked_at == promise.asked_at)
        .values(attempts=promises.c.attempts + 1, next_at=next_at)
    )
