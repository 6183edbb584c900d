"""Reception: what came in, and whether it came before."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection

from dicom_node.ledger.retention import is_purged
from dicom_node.ledger.schema import (
    FetchState,
    Part,
    State,
    backfills,
    blob_of,
    blob_values,
    instances,
    objects,
    purges,
    wanted,
)
from dicom_node.reasons import Quarantine, sentence
from dicom_node.spool import BlobRef

_LOST: Final = sa.and_(instances.c.state == State.QUARANTINED, is_purged(Part.SOURCE))
"""Set aside, and given up since: nothing of it is anywhere."""
_KNOWN: Final = sa.select(
    instances.c.id,
    instances.c.sha256,
    instances.c.archive_only,
    instances.c.reason,
    _LOST.label("lost"),
).where(instances.c.sop_instance_uid == sa.bindparam("uid"))
_ASKED_FOR: Final = sa.select(
    sa.exists(
        sa.select(wanted.c.id)
        .join(backfills, backfills.c.id == wanted.c.backfill_id)
        .where(
            wanted.c.sop_instance_uid == sa.bindparam("uid"),
            wanted.c.asked_at.is_not(None),
            backfills.c.archive_only,
            sa.or_(
                backfills.c.calling_ae == sa.bindparam("originator"),
                sa.and_(
                    sa.bindparam("originator") == "",
                    backfills.c.source_ae == sa.bindparam("calling_ae"),
                    backfills.c.states_originator.is_not(True),
                    wanted.c.state != FetchState.ARRIVED,
                ),
            ),
        )
    )
)
"""Whether a back-fill without reports has this object fetched: the C-STORE says who did (PS3.7
§9.1.1.1), or, of a source that never says it, the object comes from there while it is awaited."""


class Receipt(StrEnum):
    """What a received object turned out to be."""

    NEW = "new"
    DUPLICATE = "duplicate"
    RELEASED = "released"
    """Known as a past ECG that was fetched, and now sent: it is to be reported."""
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One object as it came, its bytes already durable."""

    sop_class_uid: str
    sop_instance_uid: str
    blob: BlobRef
    calling_ae: str
    called_ae: str
    address: str
    received_at: float
    """UTC, seconds since the epoch."""
    originator: str = ""
    """Move Originator AE Title (0000,1030): who had it fetched; empty where it was just sent."""


def receive(
    connection: Connection, group: Sequence[Received], plan: str, plan_digest: str
) -> list[Receipt]:
    """Return what each object is, after one transaction that records them all.

    An object seen before with the same bytes changes nothing; one whose UID is known with
    other bytes is kept in quarantine. What a back-fill without reports has asked for is
    marked so here, with the row; sent by anyone else, before or after, it is reported.
    What retention gave up once it was delivered is known for ever; what it gave up in
    quarantine comes as if for the first time.
    """
    return [_receive(connection, item, plan, plan_digest) for item in group]


def _receive(connection: Connection, item: Received, plan: str, plan_digest: str) -> Receipt:
    archive_only = bool(connection.scalar(_ASKED_FOR, _evidence(item)))
    known = connection.execute(_KNOWN, {"uid": item.sop_instance_uid}).all()
    for row in known:
        if row.sha256 == item.blob.sha256 and row.lost:
            return _back(connection, row, item, archive_only=archive_only)
        if row.sha256 == item.blob.sha256:
            release = row.archive_only and not archive_only
            return _again(connection, row.id) if release else Receipt.DUPLICATE
    conflict = any(archive_only or not row.archive_only for row in known)
    connection.execute(
        instances.insert().values(
            sop_class_uid=item.sop_class_uid,
            sop_instance_uid=item.sop_instance_uid,
            **blob_values(item.blob),
            calling_ae=item.calling_ae,
            called_ae=item.called_ae,
            address=item.address,
            originator=item.originator,
            archive_only=archive_only,
            received_at=item.received_at,
            plan=plan,
            plan_digest=plan_digest,
            state=State.QUARANTINED if conflict else State.RECEIVED,
            reason=Quarantine.CONFLICT if conflict else None,
            message=sentence(Quarantine.CONFLICT) if conflict else None,
            next_at=item.received_at,
        )
    )
    return Receipt.CONFLICT if conflict else Receipt.NEW


def _again(connection: Connection, instance_id: int) -> Receipt:
    _release(connection, instances.c.id == instance_id)
    return Receipt.RELEASED


def _back(
    connection: Connection, row: sa.Row[Any], item: Received, *, archive_only: bool
) -> Receipt:
    """Give a row its bytes again, and have it tried again; a conflict stays one."""
    conflict = row.reason == Quarantine.CONFLICT
    connection.execute(
        purges.delete().where(purges.c.instance_id == row.id, purges.c.part == Part.SOURCE)
    )
    again = {"state": State.RECEIVED, "reason": None, "message": None, "attempts": 0}
    connection.execute(
        instances.update()
        .where(instances.c.id == row.id)
        .values(
            **blob_values(item.blob),
            archive_only=archive_only,
            next_at=item.received_at,
            fence=instances.c.fence + 1,
            **({} if conflict else again),
        )
    )
    return Receipt.CONFLICT if conflict else Receipt.NEW


def _evidence(item: Received) -> dict[str, str]:
    return {
        "uid": item.sop_instance_uid,
        "originator": item.originator,
        "calling_ae": item.calling_ae,
    }


def _release(connection: Connection, which: sa.ColumnElement[bool]) -> int:
    at_rest = instances.c.state == State.ARCHIVED
    return connection.execute(
        instances.update()
        .where(which, instances.c.archive_only)
        .values(
            archive_only=False,
            state=sa.case((at_rest, str(State.ANALYSED)), else_=instances.c.state),
            attempts=sa.case((at_rest, 0), else_=instances.c.attempts),
        )
    ).rowcount


def release(connection: Connection, uids: Iterable[str]) -> int:
    """Return how many fetched ECGs are to be reported after all."""
    return _release(connection, instances.c.sop_instance_uid.in_(list(uids)))


def knows(connection: Connection, sop_instance_uid: str, sha256: str) -> bool:
    """Return whether this object was received with these bytes, and has its report to come."""
    query = sa.select(instances.c.id).where(
        instances.c.sop_instance_uid == sop_instance_uid,
        instances.c.sha256 == sha256,
        instances.c.archive_only.is_(False),
        ~_LOST,
    )
    return connection.scalar(query) is not None


def held(connection: Connection, sop_instance_uid: str) -> list[tuple[str, BlobRef]]:
    """Return SOP Class UID and bytes of everything received under a SOP Instance UID."""
    query = instances.select().where(
        instances.c.sop_instance_uid == sop_instance_uid, ~is_purged(Part.SOURCE)
    )
    rows = connection.execute(query).mappings()
    return [(row["sop_class_uid"], blob_of(row)) for row in rows]


def segments(connection: Connection) -> set[str]:
    """Return every place in the spool that a row refers to, and did not give up."""
    sources = sa.select(instances.c.blob_key).where(~is_purged(Part.SOURCE))
    results = (
        sa.select(objects.c.blob_key)
        .join(instances, instances.c.id == objects.c.instance_id)
        .where(~is_purged(Part.RESULTS))
    )
    return {key for query in (sources, results) for key in connection.scalars(query.distinct())}
