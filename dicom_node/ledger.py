"""Durable state: what was received, where it stands, what was delivered, what was refused.

One row per received object carries its plan, its state and, once analysed, its result. Every
transition is one transaction, guarded by the fencing number of the lease that allows it, so
that a worker that lost its lease changes nothing. SQLite (WAL, ``synchronous=FULL``) by
default, PostgreSQL by URL.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Row, RowMapping

from dicom_node.reasons import Delivery, Quarantine, sentence
from dicom_node.spool import BlobRef

SCHEMA_VERSION: Final = 2


class State(StrEnum):
    """Where a received object stands (DESIGN §2)."""

    RECEIVED = "RECEIVED"
    ANALYSED = "ANALYSED"
    REPORTED = "REPORTED"
    DELIVERED = "DELIVERED"
    COMMITTED = "COMMITTED"
    ARCHIVED = "ARCHIVED"
    """Analysed and kept, on purpose without a report: a past ECG that was fetched."""
    QUARANTINED = "QUARANTINED"
    FAILED = "FAILED"


class DeliveryState(StrEnum):
    """Where one object stands at one destination."""

    PENDING = "PENDING"
    STORED = "STORED"
    """Taken; the destination has not committed to it yet."""
    DELIVERED = "DELIVERED"
    """Taken; the destination is not asked to commit."""
    COMMITTED = "COMMITTED"
    FAILED = "FAILED"


class FetchState(StrEnum):
    """Where a past ECG stands that a back-fill found."""

    FOUND = "FOUND"
    ARRIVED = "ARRIVED"
    KNOWN = "KNOWN"
    """It was here before."""
    FAILED = "FAILED"


class Receipt(StrEnum):
    """What a received object turned out to be."""

    NEW = "new"
    DUPLICATE = "duplicate"
    RELEASED = "released"
    """Known as a past ECG that was fetched, and now sent: it is to be reported."""
    CONFLICT = "conflict"


WORKABLE: Final = (State.RECEIVED, State.ANALYSED)

_metadata = sa.MetaData()


def _blob_columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("blob_store", sa.String(16), nullable=False),
        sa.Column("blob_key", sa.String(128), nullable=False),
        sa.Column("blob_offset", sa.BigInteger, nullable=False),
        sa.Column("blob_length", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
    )


_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

instances = sa.Table(
    "instance",
    _metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("sop_class_uid", sa.String(64), nullable=False),
    sa.Column("sop_instance_uid", sa.String(64), nullable=False),
    *_blob_columns(),
    sa.Column("calling_ae", sa.String(16), nullable=False),
    sa.Column("called_ae", sa.String(16), nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("originator", sa.String(16), nullable=False, default=""),
    sa.Column("archive_only", sa.Boolean, nullable=False, default=False),
    sa.Column("received_at", sa.Double, nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("plan_digest", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(64)),
    sa.Column("message", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("next_at", sa.Double, nullable=False),
    sa.Column("lease_owner", sa.String(64)),
    sa.Column("lease_until", sa.Double),
    sa.Column("fence", sa.Integer, nullable=False, default=0),
    sa.Column("result", sa.Text),
    sa.Column("analysed_at", sa.Double),
    sa.Column("reported_at", sa.Double),
    sa.Column("delivered_at", sa.Double),
    sa.Column("committed_at", sa.Double),
    sa.Column("committed_by", sa.String(32)),
    sa.UniqueConstraint("sop_instance_uid", "sha256"),
    sa.Index("instance_work", "state", "next_at"),
)

objects = sa.Table(
    "object",
    _metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("instance_id", sa.ForeignKey("instance.id"), nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("sop_class_uid", sa.String(64), nullable=False),
    sa.Column("sop_instance_uid", sa.String(64), nullable=False),
    *_blob_columns(),
    sa.UniqueConstraint("instance_id", "role"),
)

ecgs = sa.Table(
    "ecg",
    _metadata,
    sa.Column("instance_id", sa.ForeignKey("instance.id"), primary_key=True),
    sa.Column("patient", sa.String(64)),
    sa.Column("birth_date", sa.String(10), nullable=False),
    sa.Column("sex", sa.String(1), nullable=False),
    sa.Column("study_instance_uid", sa.String(64), nullable=False),
    sa.Column("series_instance_uid", sa.String(64), nullable=False),
    sa.Column("acquired_at", sa.String(26), nullable=False),
    sa.Column("acquired_by", sa.String(20), nullable=False),
    sa.Column("algorithm", sa.String(64), nullable=False),
    sa.Column("measurements", sa.Text, nullable=False),
    sa.Column("previous_id", sa.ForeignKey("instance.id")),
    sa.Column("conflict", sa.Boolean, nullable=False),
    sa.Index("ecg_patient", "patient", "acquired_by"),
)
"""Each analysed ECG, with the earlier one it is compared with: pinned, never chosen again."""

deliveries = sa.Table(
    "delivery",
    _metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("instance_id", sa.ForeignKey("instance.id"), nullable=False),
    sa.Column("object_id", sa.ForeignKey("object.id"), nullable=False),
    sa.Column("destination", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("first_at", sa.Double, nullable=False),
    sa.Column("next_at", sa.Double, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("reason", sa.String(64)),
    sa.Column("delivered_at", sa.Double),
    sa.Column("asked_at", sa.Double),
    sa.Column("transaction_uid", sa.String(64)),
    sa.Column("committed_by", sa.String(32)),
    sa.Column("refusals", sa.Integer, nullable=False, default=0),
    sa.Index("delivery_transaction", "transaction_uid"),
    sa.UniqueConstraint("object_id", "destination"),
    sa.Index("delivery_due", "destination", "state", "next_at"),
    sa.Index("delivery_instance", "instance_id"),
)

promises = sa.Table(
    "promise",
    _metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("transaction_uid", sa.String(64), nullable=False),
    sa.Column("refs", sa.Text, nullable=False),
    sa.Column("calling_ae", sa.String(16), nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("asked_at", sa.Double, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("next_at", sa.Double),
    sa.UniqueConstraint("calling_ae", "transaction_uid"),
    sa.Index("promise_due", "next_at"),
)
"""Storage commitments that callers asked of us; without `next_at` the caller has heard."""

backfills = sa.Table(
    "backfill",
    _metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("source_ae", sa.String(16), nullable=False),
    sa.Column("calling_ae", sa.String(16), nullable=False),
    sa.Column("first", sa.String(8), nullable=False),
    sa.Column("last", sa.String(8), nullable=False),
    sa.Column("cursor", sa.String(8), nullable=False),
    sa.Column("filters", sa.Text, nullable=False),
    sa.Column("archive_only", sa.Boolean, nullable=False),
    sa.Column("states_originator", sa.Boolean),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("message", sa.Text, nullable=False, default=""),
    sa.Column("skipped", sa.Integer, nullable=False, default=0),
    sa.Column("changed_at", sa.Double, nullable=False),
)
"""Each run that fetches past ECGs; every day before `cursor` has been looked through."""

wanted = sa.Table(
    "wanted",
    _metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("backfill_id", sa.ForeignKey("backfill.id"), nullable=False),
    sa.Column("study_instance_uid", sa.String(64), nullable=False),
    sa.Column("series_instance_uid", sa.String(64), nullable=False),
    sa.Column("sop_instance_uid", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("asked_at", sa.Double),
    sa.UniqueConstraint("backfill_id", "sop_instance_uid"),
    sa.Index("wanted_instance", "sop_instance_uid"),
)
"""Each past ECG that such a run found."""

audit = sa.Table(
    "audit",
    _metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("event", sa.String(32), nullable=False),
    sa.Column("reason", sa.String(64), nullable=False, default=""),
    sa.Column("calling_ae", sa.String(16), nullable=False, default=""),
    sa.Column("called_ae", sa.String(16), nullable=False, default=""),
    sa.Column("address", sa.String(64), nullable=False, default=""),
    sa.Column("detail", sa.Text, nullable=False, default=""),
    sa.Column("chain", sa.String(64), nullable=False),
)

models = sa.Table(
    "model",
    _metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("added_at", sa.Double, nullable=False),
)

slots = sa.Table(
    "slot",
    _metadata,
    sa.Column("name", sa.String(16), primary_key=True),
    sa.Column("digest", sa.ForeignKey("model.digest"), nullable=False),
    sa.Column("changed_at", sa.Double, nullable=False),
)

model_marks = sa.Table(
    "model_mark",
    _metadata,
    sa.Column("digest", sa.ForeignKey("model.digest"), primary_key=True),
    sa.Column("mark", sa.String(16), primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("detail", sa.Text, nullable=False, default=""),
)
"""What is remarked of a model beside its slot: retired, refused by a worker, and so on."""

shadow_results = sa.Table(
    "shadow_result",
    _metadata,
    sa.Column("instance_id", sa.ForeignKey("instance.id"), primary_key=True),
    sa.Column("digest", sa.ForeignKey("model.digest"), primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("seconds", sa.Double),
    sa.Column("reason", sa.String(32)),
    sa.Column("findings", sa.Text),
    sa.Column("against", sa.String(64), nullable=False, default=""),
    sa.Column("current", sa.Text),
    sa.Index("shadow_result_digest", "digest", "instance_id"),
)
"""What a shadow model found in each ECG, beside what the model that spoke had found."""

_meta = sa.Table(
    "meta",
    _metadata,
    sa.Column("key", sa.String(32), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of the audit trail; it names peers and reasons, never patients."""

    event: str
    reason: str = ""
    calling_ae: str = ""
    called_ae: str = ""
    address: str = ""
    detail: str = ""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparable:
    """What a later ECG of the same patient is told of this one."""

    patient: str | None
    """A key of Patient ID and issuer; None = the source states no Patient ID."""
    birth_date: str
    """ISO 8601, empty where not stated; so is `sex`."""
    sex: str
    study_instance_uid: str
    series_instance_uid: str
    acquired_at: str
    """DT."""
    algorithm: str
    measurements: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """An earlier ECG, as the ledger knows it."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    acquired_at: str
    algorithm: str
    measurements: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was decided when an ECG was analysed."""

    earlier: Earlier | None
    conflict: bool
    """Whether there is an earlier one, of another birth date or sex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Produced:
    """One result object, its bytes already durable."""

    role: str
    sop_class_uid: str
    sop_instance_uid: str
    blob: BlobRef
    destinations: tuple[str, ...] | None = None
    """Its own, instead of those of the set: a message goes elsewhere than the DICOM objects."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one delivery attempt ended."""

    delivery_id: int
    state: DeliveryState
    status: int | None = None
    reason: str | None = None
    next_at: float = 0.0


class LeaseLost(RuntimeError):
    """The row was leased again since; nothing was changed."""


class SchemaMismatch(RuntimeError):
    """Another version of Sinusnode wrote this ledger; nothing was changed."""


def _blob(row: Row[Any]) -> BlobRef:
    return BlobRef(row.blob_store, row.blob_key, row.blob_offset, row.blob_length, row.sha256)


def _blob_values(ref: BlobRef) -> dict[str, Any]:
    return {
        "blob_store": ref.store,
        "blob_key": ref.key,
        "blob_offset": ref.offset,
        "blob_length": ref.length,
        "sha256": ref.sha256,
    }


class Ledger:
    """The database behind one URL; safe for threads, opened anew in each process.

    Parameters
    ----------
    url
        SQLAlchemy URL.
    """

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(url, hide_parameters=True)
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _configure_sqlite)
            sa.event.listen(self._engine, "begin", _begin_sqlite)
        self._reader = self._engine.execution_options(reading=True)
        self._relaxed = self._engine.execution_options(relaxed=True)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def create(self) -> None:
        """Create what is missing.

        Raises
        ------
        SchemaMismatch
            If another schema version wrote the ledger.
        """
        _metadata.create_all(self._engine)
        with self._write() as connection:
            found = connection.scalar(sa.select(_meta.c.value).where(_meta.c.key == "schema"))
            if found is None:
                connection.execute(_meta.insert().values(key="schema", value=str(SCHEMA_VERSION)))
            elif int(found) != SCHEMA_VERSION:
                raise SchemaMismatch(
                    f"the ledger has schema {found}, this version needs {SCHEMA_VERSION}"
                )

    @contextmanager
    def _write(self, *, relaxed: bool = False) -> Iterator[Connection]:
        """Yield a transaction that writes.

        A relaxed one survives a crash and may be lost in a power cut, for what would then be
        done again with the same outcome; a later strict one makes it durable too.
        """
        with (self._relaxed if relaxed else self._engine).begin() as connection:
            if relaxed and connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL synchronous_commit TO OFF")
            yield connection

    @contextmanager
    def transaction(self, *, relaxed: bool = False) -> Iterator[Connection]:
        """Yield a transaction that writes, for a room that keeps rows of its own.

        A relaxed one survives a crash, and may be lost in a power cut.
        """
        with self._write(relaxed=relaxed) as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._reader.connect() as connection:
            yield connection

    # Reception

    def receive(self, group: Sequence[Received], plan: str, plan_digest: str) -> list[Receipt]:
        """Return what each object is, after one transaction that records them all.

        An object seen before with the same bytes changes nothing; one whose UID is known with
        other bytes is kept in quarantine. What a back-fill without reports has asked for is
        marked so here, with the row; sent by anyone else, before or after, it is reported.
        """
        with self._write() as connection:
            return [self._receive(connection, item, plan, plan_digest) for item in group]

    def _receive(
        self, connection: Connection, item: Received, plan: str, plan_digest: str
    ) -> Receipt:
        archive_only = bool(connection.scalar(_ASKED_FOR, _evidence(item)))
        known = connection.execute(_KNOWN, {"uid": item.sop_instance_uid}).all()
        for row in known:
            if row.sha256 == item.blob.sha256:
                release = row.archive_only and not archive_only
                return self._again(connection, row.id) if release else Receipt.DUPLICATE
        conflict = any(archive_only or not row.archive_only for row in known)
        connection.execute(
            instances.insert().values(
                sop_class_uid=item.sop_class_uid,
                sop_instance_uid=item.sop_instance_uid,
                **_blob_values(item.blob),
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

    def _again(self, connection: Connection, instance_id: int) -> Receipt:
        _release(connection, instances.c.id == instance_id)
        return Receipt.RELEASED

    def release(self, uids: Iterable[str]) -> int:
        """Return how many fetched ECGs are to be reported after all."""
        with self._write() as connection:
            return _release(connection, instances.c.sop_instance_uid.in_(list(uids)))

    def knows(self, sop_instance_uid: str, sha256: str) -> bool:
        """Return whether this object was received with these bytes, and has its report to come."""
        query = sa.select(instances.c.id).where(
            instances.c.sop_instance_uid == sop_instance_uid,
            instances.c.sha256 == sha256,
            instances.c.archive_only.is_(False),
        )
        with self._read() as connection:
            return connection.scalar(query) is not None

    def segments(self) -> set[str]:
        """Return every place in the spool that a row refers to."""
        with self._read() as connection:
            return {
                key
                for table in (instances, objects)
                for key in connection.scalars(sa.select(table.c.blob_key).distinct())
            }

    # Work

    def lease(self, owner: str, now: float, until: float) -> Lease | None:
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
        with self._write(relaxed=True) as connection:
            row = connection.execute(take).first()
        return None if row is None else _lease(row)

    def analysed(self, lease: Lease, result: str, now: float, ecg: Comparable | None = None) -> str:
        """Return the stored result: the given one, or the one that was stored first.

        With the first, the earlier ECG that `ecg` is to be compared with is chosen and stored.
        """
        with self._write(relaxed=True) as connection:
            stored = self._held(connection, lease).result
            if stored is None:
                self._update(
                    connection, lease, state=State.ANALYSED, result=result, analysed_at=now
                )
                if ecg is not None:
                    self._pin(connection, lease, ecg)
        return result if stored is None else str(stored)

    def _pin(self, connection: Connection, lease: Lease, ecg: Comparable) -> None:
        found = None if ecg.patient is None else _latest_before(connection, lease, ecg)
        conflict = found is not None and _conflict(found, ecg)
        values = asdict(ecg) | {
            "instance_id": lease.id,
            "measurements": json.dumps(ecg.measurements, sort_keys=True),
            "acquired_by": _padded(ecg.acquired_at, "9"),
            "previous_id": None if found is None or conflict else found.instance_id,
            "conflict": conflict,
        }
        connection.execute(ecgs.insert(), values)

    def comparison(self, instance_id: int) -> Comparison | None:
        """Return what :meth:`analysed` chose, or None where it was not asked."""
        with self._read() as connection:
            row = connection.execute(_CHOSEN, {"id": instance_id}).mappings().first()
        if row is None:
            return None
        return Comparison(earlier=_earlier(row), conflict=row["conflict"])

    def reported(
        self, lease: Lease, produced: Iterable[Produced], destinations: Sequence[str], now: float
    ) -> None:
        """Record the objects and one delivery for each object and destination."""
        made = tuple(produced)
        rows = [
            {
                "instance_id": lease.id,
                "role": item.role,
                "sop_class_uid": item.sop_class_uid,
                "sop_instance_uid": item.sop_instance_uid,
                **_blob_values(item.blob),
            }
            for item in made
        ]
        insert = objects.insert().returning(objects.c.id, sort_by_parameter_order=True)
        with self._write() as connection:
            self._held(connection, lease)
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
            self._update(connection, lease, state=State.REPORTED, reported_at=now, **_NO_LEASE)

    def archived(self, lease: Lease) -> bool:
        """Return whether the object rests without a report; not where it was released since."""
        with self._write() as connection:
            if not self._held(connection, lease).archive_only:
                return False
            self._update(connection, lease, state=State.ARCHIVED, **_NO_LEASE)
        return True

    def quarantine(self, lease: Lease, reason: str, message: str) -> None:
        """Set the object aside, with its reason; its bytes stay."""
        with self._write() as connection:
            self._held(connection, lease)
            self._update(
                connection,
                lease,
                state=State.QUARANTINED,
                reason=reason,
                message=message,
                **_NO_LEASE,
            )

    def postpone(self, lease: Lease, until: float) -> None:
        """Give the object back, not to be tried before `until`."""
        with self._write() as connection:
            self._held(connection, lease)
            self._update(connection, lease, next_at=until, **_NO_LEASE)

    def leases_of(self, owner: str) -> list[Lease]:
        """Return what this owner holds: of a worker that died, what it died of."""
        with self._read() as connection:
            rows = connection.execute(
                instances.select().where(instances.c.lease_owner == owner)
            ).all()
        return [_lease(row) for row in rows]

    def forgive(self) -> int:
        """Void every lease without counting the attempt; return how many there were.

        For the start of a node: what it held when it died was not what killed it.
        """
        with self._write() as connection:
            return connection.execute(
                instances.update()
                .where(instances.c.lease_owner.is_not(None))
                .values(attempts=instances.c.attempts - 1, **_NO_LEASE)
            ).rowcount

    def _held(self, connection: Connection, lease: Lease) -> Row[Any]:
        row = connection.execute(
            instances.select()
            .where(instances.c.id == lease.id, instances.c.fence == lease.fence)
            .with_for_update()
        ).first()
        if row is None or row.state not in WORKABLE:
            raise LeaseLost(f"row {lease.id} is no longer leased here")
        return row

    def _update(self, connection: Connection, lease: Lease, **values: Any) -> None:
        connection.execute(instances.update().where(instances.c.id == lease.id).values(**values))

    # Delivery

    def due(self, destination: str, now: float, limit: int) -> list[Due]:
        """Return what this destination shall get now, oldest first, whole sets together."""
        query = (
            _DUE.where(
                deliveries.c.destination == destination,
                deliveries.c.state == DeliveryState.PENDING,
                deliveries.c.next_at <= now,
            )
            .order_by(deliveries.c.instance_id, deliveries.c.id)
            .limit(limit)
        )
        with self._read() as connection:
            return [_due(row) for row in connection.execute(query)]

    def next_due(self, destination: str) -> float | None:
        """Return when the next pending delivery to this destination may start, or None."""
        with self._read() as connection:
            first: float | None = connection.scalar(
                sa.select(sa.func.min(deliveries.c.next_at)).where(
                    deliveries.c.destination == destination,
                    deliveries.c.state == DeliveryState.PENDING,
                )
            )
        return first

    def delivered(self, outcomes: Iterable[Outcome], now: float) -> None:
        """Record how deliveries ended, and what that makes of their objects' state."""
        with self._write(relaxed=True) as connection:
            touched = {self._outcome(connection, item, now) for item in outcomes}
            for instance_id in sorted(touched):
                self._settle(connection, instance_id, now)

    def _outcome(self, connection: Connection, item: Outcome, now: float) -> int:
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

    def _settle(self, connection: Connection, instance_id: int, now: float) -> None:
        """Move the row to where its deliveries together are; the weakest word counts."""
        of_row = deliveries.c.instance_id == instance_id
        found = connection.execute(
            sa.select(deliveries.c.state, deliveries.c.committed_by).where(of_row)
        ).all()
        states = {row.state for row in found}
        if DeliveryState.PENDING in states:
            connection.execute(
                instances.update()
                .where(instances.c.id == instance_id, instances.c.state == State.DELIVERED)
                .values(state=State.REPORTED)
            )
            return
        if DeliveryState.FAILED in states:
            reason = connection.scalar(
                sa.select(deliveries.c.reason)
                .where(of_row, deliveries.c.state == DeliveryState.FAILED)
                .order_by(deliveries.c.id)
            )
            values: dict[str, Any] = {
                "state": State.FAILED,
                "reason": reason,
                "message": sentence(str(reason)),
            }
        elif DeliveryState.STORED in states:
            values = {"state": State.DELIVERED, "delivered_at": now, **_WELL}
        else:
            ways = {row.committed_by or RESPONSES for row in found}
            values = {
                "state": State.COMMITTED,
                "delivered_at": sa.func.coalesce(instances.c.delivered_at, now),
                "committed_at": now,
                "committed_by": next(way for way in WAYS if way in ways),
                **_WELL,
            }
        connection.execute(instances.update().where(instances.c.id == instance_id).values(**values))

    # Commitment, asked of destinations

    def unconfirmed(self, destination: str, asked_before: float, limit: int) -> list[Due]:
        """Return what a destination took and did not commit to: never asked, or long ago."""
        query = (
            _DUE.where(
                deliveries.c.destination == destination,
                deliveries.c.state == DeliveryState.STORED,
                sa.or_(deliveries.c.asked_at.is_(None), deliveries.c.asked_at <= asked_before),
            )
            .order_by(deliveries.c.asked_at.is_not(None), deliveries.c.id)
            .limit(limit)
        )
        with self._read() as connection:
            return [_due(row) for row in connection.execute(query)]

    def asked(self, ids: Iterable[int], transaction: str, now: float) -> None:
        """Remember under which transaction deliveries are to be committed to."""
        with self._write() as connection:
            connection.execute(
                deliveries.update()
                .where(deliveries.c.id.in_(list(ids)))
                .values(asked_at=now, transaction_uid=transaction)
            )

    def answered(
        self, transaction: str, committed: Iterable[str], refused: Iterable[str], now: float
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
        with self._write() as connection:
            rows = connection.execute(of_transaction).all()
            good = [row.id for row in rows if row.sop_instance_uid in kept - lost]
            bad = [row.id for row in rows if row.sop_instance_uid in lost]
            self._commit(connection, good, COMMITMENT, now)
            self._resend(connection, bad, now)
        return len(good) + len(bad)

    def confirmed(self, ids: Iterable[int], way: str, now: float) -> None:
        """Record that deliveries are safe, and how that is known (one of `WAYS`)."""
        with self._write() as connection:
            self._commit(connection, list(ids), way, now)

    def resend(self, ids: Iterable[int], now: float) -> None:
        """Send again what a destination took and does not have; a few times, then it failed."""
        with self._write() as connection:
            self._resend(connection, list(ids), now)

    def _commit(self, connection: Connection, ids: list[int], way: str, now: float) -> None:
        self._change(
            connection, ids, now, state=DeliveryState.COMMITTED, committed_by=way, reason=None
        )

    def _resend(self, connection: Connection, ids: list[int], now: float) -> None:
        last = deliveries.c.refusals + 1 >= RESENDS
        self._change(
            connection,
            ids,
            now,
            state=sa.case((last, str(DeliveryState.FAILED)), else_=str(DeliveryState.PENDING)),
            reason=Delivery.NOT_COMMITTED,
            refusals=deliveries.c.refusals + 1,
            next_at=now,
        )

    def _change(self, connection: Connection, ids: list[int], now: float, **values: Any) -> None:
        touched = connection.scalars(
            deliveries.update()
            .where(deliveries.c.id.in_(ids))
            .values(**values)
            .returning(deliveries.c.instance_id)
        ).all()
        for instance_id in sorted(set(touched)):
            self._settle(connection, instance_id, now)

    # Commitment, given to callers

    def promise(
        self, transaction: str, references: Sequence[tuple[str, str]], calling_ae: str,
        address: str, now: float,
    ) -> None:  # fmt: skip
        """Remember that a caller asked for storage commitment; asked again, it is told again."""
        values = {
            "refs": json.dumps(references),
            "address": address,
            "asked_at": now,
            "attempts": 0,
            "next_at": now,
        }
        same = (promises.c.calling_ae == calling_ae, promises.c.transaction_uid == transaction)
        with self._write() as connection:
            if connection.execute(promises.update().where(*same).values(**values)).rowcount == 0:
                connection.execute(
                    promises.insert().values(
                        calling_ae=calling_ae, transaction_uid=transaction, **values
                    )
                )

    def promise_due(self, now: float) -> Promise | None:
        """Return the caller that has waited longest to hear of its objects, or None."""
        query = (
            promises.select().where(promises.c.next_at <= now).order_by(promises.c.next_at).limit(1)
        )
        with self._read() as connection:
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

    def promise_kept(self, promise: Promise) -> None:
        """Record that the caller has heard."""
        self._promise(promise, None)

    def promise_later(self, promise: Promise, at: float) -> None:
        """Record that the caller could not be told, and when to try again."""
        self._promise(promise, at)

    def _promise(self, promise: Promise, next_at: float | None) -> None:
        """Record how telling ended; a request that was renewed meanwhile is still to be told."""
        with self._write() as connection:
            connection.execute(
                promises.update()
                .where(promises.c.id == promise.id, promises.c.asked_at == promise.asked_at)
                .values(attempts=promises.c.attempts + 1, next_at=next_at)
            )

    def held(self, sop_instance_uid: str) -> list[tuple[str, BlobRef]]:
        """Return SOP Class UID and bytes of everything received under a SOP Instance UID."""
        query = instances.select().where(instances.c.sop_instance_uid == sop_instance_uid)
        with self._read() as connection:
            return [(row.sop_class_uid, _blob(row)) for row in connection.execute(query)]

    # Operators

    def retry(self, instance_id: int, now: float) -> bool:
        """Return whether something was set going again: work in quarantine, failed deliveries."""
        with self._write() as connection:
            state = connection.scalar(
                sa.select(instances.c.state).where(instances.c.id == instance_id)
            )
            if state == State.QUARANTINED:
                values: dict[str, Any] = {"state": State.RECEIVED, "attempts": 0, "next_at": now}
            elif self._retry_deliveries(connection, instance_id, now):
                values = {"state": State.REPORTED}
            else:
                return False
            connection.execute(
                instances.update()
                .where(instances.c.id == instance_id)
                .values(reason=None, message=None, fence=instances.c.fence + 1, **values)
            )
        return True

    def _retry_deliveries(self, connection: Connection, instance_id: int, now: float) -> int:
        """Return how many failed deliveries are pending again."""
        return connection.execute(
            deliveries.update()
            .where(
                deliveries.c.instance_id == instance_id,
                deliveries.c.state == DeliveryState.FAILED,
            )
            .values(state=DeliveryState.PENDING, first_at=now, next_at=now, attempts=0, refusals=0)
        ).rowcount

    def rows(self, states: Sequence[State] = (), limit: int = 100) -> list[dict[str, Any]]:
        """Return the newest rows in these states (all by default), without patient data."""
        query = instances.select().order_by(instances.c.id.desc()).limit(limit)
        if states:
            query = query.where(instances.c.state.in_(states))
        with self._read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def row(self, instance_id: int) -> dict[str, Any] | None:
        """Return one row with its objects and deliveries, or None."""
        with self._read() as connection:
            found = (
                connection.execute(instances.select().where(instances.c.id == instance_id))
                .mappings()
                .first()
            )
            if found is None:
                return None
            of_row = {
                name: [
                    dict(item)
                    for item in connection.execute(
                        table.select().where(table.c.instance_id == instance_id)
                    ).mappings()
                ]
                for name, table in (("objects", objects), ("deliveries", deliveries))
            }
        return dict(found) | of_row

    def blob_of(self, row: dict[str, Any]) -> BlobRef:
        """Return where the bytes of a row or of one of its objects lie."""
        return BlobRef(
            row["blob_store"],
            row["blob_key"],
            row["blob_offset"],
            row["blob_length"],
            row["sha256"],
        )

    def counts(self) -> dict[State, int]:
        """Return how many objects stand in each state; every state is listed."""
        query = sa.select(instances.c.state, sa.func.count()).group_by(instances.c.state)
        with self._read() as connection:
            found = {row[0]: int(row[1]) for row in connection.execute(query)}
        return {state: found.get(state, 0) for state in State}

    def pending(self) -> dict[str, int]:
        """Return how many results wait for each destination."""
        query = (
            sa.select(deliveries.c.destination, sa.func.count())
            .where(deliveries.c.state == DeliveryState.PENDING)
            .group_by(deliveries.c.destination)
        )
        with self._read() as connection:
            return {row[0]: int(row[1]) for row in connection.execute(query)}

    def query(self, statement: sa.Executable) -> list[tuple[Any, ...]]:
        """Return the rows of a read-only question (metrics ask some)."""
        with self._read() as connection:
            return [tuple(row) for row in connection.execute(statement)]

    # Models

    def add_model(self, digest: str, name: str, version: str, now: float) -> None:
        """Make an installed model known."""
        with self._write() as connection:
            known = connection.scalar(sa.select(models.c.digest).where(models.c.digest == digest))
            if known is None:
                connection.execute(
                    models.insert().values(digest=digest, name=name, version=version, added_at=now)
                )

    def slots(self) -> dict[str, str]:
        """Return the digest in each slot."""
        with self._read() as connection:
            rows = connection.execute(sa.select(slots.c.name, slots.c.digest)).all()
        return {row.name: row.digest for row in rows}

    def in_slots(self) -> list[dict[str, str]]:
        """Return slot, digest, name and version of each model that has a slot."""
        query = (
            sa.select(slots.c.name.label("slot"), models.c.digest, models.c.name, models.c.version)
            .join(models, models.c.digest == slots.c.digest)
            .order_by(slots.c.name)
        )
        with self._read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def promote(self, digest: str, now: float, event: Event | None = None) -> None:
        """Put a known model into the slot `current`, and what was there into `previous`.

        The event, if any, enters the audit trail with it.
        """
        with self._write() as connection:
            before = connection.scalar(
                sa.select(slots.c.digest).where(slots.c.name == "current").with_for_update()
            )
            if before not in (None, digest):
                put_slot(connection, "previous", before, now)
            put_slot(connection, "current", digest, now)
            connection.execute(
                slots.delete().where(slots.c.name == "shadow", slots.c.digest == digest)
            )
            if event is not None:
                append(connection, event, now)

    # Audit

    def record(self, event: Event, now: float) -> None:
        """Append one row to the audit trail, chained to the last by its hash."""
        with self._write() as connection:
            append(connection, event, now)

    def refusals(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest refusals of the audit trail, oldest first."""
        query = (
            audit.select()
            .where(audit.c.event == "refused")
            .order_by(audit.c.id.desc())
            .limit(limit)
        )
        with self._read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()][::-1]

    def trail(self) -> list[dict[str, Any]]:
        """Return the audit trail, oldest first."""
        with self._read() as connection:
            return [
                dict(row)
                for row in connection.execute(audit.select().order_by(audit.c.id)).mappings()
            ]

    # Invariants

    def violations(self, now: float, overdue: float) -> list[str]:
        """Return every broken promise that the rows themselves show; empty is healthy.

        Parameters
        ----------
        now
            UTC, seconds since the epoch.
        overdue
            Seconds that a lease may be past its end before it counts as forgotten.
        """
        return [*self._broken_rows(now, overdue), *self.broken_chain()]

    def _broken_rows(self, now: float, overdue: float) -> Iterator[str]:
        delivered = set(
            self._ids(deliveries.c.instance_id, deliveries.c.state == DeliveryState.PENDING)
        )
        with_objects = set(self._ids(objects.c.instance_id))
        for row in self.rows(limit=1_000_000):
            name = f"row {row['id']} ({row['state']})"
            reported = row["state"] in _AFTER_REPORT
            if reported and row["id"] not in with_objects:
                yield f"{name} has no objects"
            if (row["result"] is None) and (row["state"] in _ANALYSED or reported):
                yield f"{name} has no result"
            if row["archive_only"] and reported:
                yield f"{name} is reported, and was fetched for the archive only"
            if row["state"] in (State.QUARANTINED, State.FAILED) and not row["reason"]:
                yield f"{name} has no reason"
            if row["state"] in (State.DELIVERED, State.COMMITTED) and row["id"] in delivered:
                yield f"{name} has pending deliveries"
            if row["lease_until"] is not None and row["lease_until"] + overdue < now:
                yield f"{name} has a forgotten lease"
            if row["lease_owner"] is not None and row["state"] not in WORKABLE:
                yield f"{name} is leased though nothing is left to do"

    def _ids(self, column: sa.Column[Any], *where: sa.ColumnElement[bool]) -> list[int]:
        return [row[0] for row in self.query(sa.select(column).where(*where).distinct())]

    def broken_chain(self) -> Iterator[str]:
        """Yield a sentence where the audit trail is no longer what was recorded."""
        last = ""
        for row in self.trail():
            values = {key: row[key] for key in ("at", *Event.__dataclass_fields__)}
            last = _link(last, values)
            if last != row["chain"]:
                yield f"audit row {row['id']} was altered, or one before it removed"
                return


_KNOWN: Final = sa.select(instances.c.id, instances.c.sha256, instances.c.archive_only).where(
    instances.c.sop_instance_uid == sa.bindparam("uid")
)
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


_OF_EARLIER: Final = ("study_instance_uid", "series_instance_uid", "acquired_at", "algorithm")


def _latest_before(connection: Connection, lease: Lease, ecg: Comparable) -> Row[Any] | None:
    """Return the patient's last ECG that was acquired before this one, whenever it came."""
    values = {
        "patient": ecg.patient,
        "since": _padded(ecg.acquired_at, "0"),
        "sop_instance_uid": lease.sop_instance_uid,
    }
    return connection.execute(_LATEST_BEFORE, values).first()


_LATEST_BEFORE: Final = (
    sa.select(ecgs)
    .join(instances, instances.c.id == ecgs.c.instance_id)
    .where(
        ecgs.c.patient == sa.bindparam("patient"),
        ecgs.c.acquired_by < sa.bindparam("since"),
        ecgs.c.measurements != "{}",
        instances.c.sop_instance_uid != sa.bindparam("sop_instance_uid"),
        instances.c.state != State.QUARANTINED,
    )
    .order_by(ecgs.c.acquired_by.desc(), ecgs.c.instance_id.desc())
    .limit(1)
)
_earlier_ecg = ecgs.alias()
_CHOSEN: Final = (
    sa.select(
        ecgs.c.conflict, instances.c.sop_class_uid, instances.c.sop_instance_uid,
        *(_earlier_ecg.c[name] for name in (*_OF_EARLIER, "measurements")),
    )
    .select_from(ecgs)
    .outerjoin(_earlier_ecg, _earlier_ecg.c.instance_id == ecgs.c.previous_id)
    .outerjoin(instances, instances.c.id == ecgs.c.previous_id)
    .where(ecgs.c.instance_id == sa.bindparam("id"))
)  # fmt: skip


def _padded(moment: str, digit: str) -> str:
    """Return the first ("0") or the last ("9") instant of a DT in the local time of its source."""
    return re.split(r"[+-]", moment)[0].replace(".", "").ljust(20, digit)[:20]


def _conflict(found: Row[Any], ecg: Comparable) -> bool:
    pairs = ((found.birth_date, ecg.birth_date), (found.sex, ecg.sex))
    return any(before and now and before != now for before, now in pairs)


def _earlier(row: RowMapping) -> Earlier | None:
    if row["sop_instance_uid"] is None:
        return None
    return Earlier(
        sop_class_uid=row["sop_class_uid"],
        sop_instance_uid=row["sop_instance_uid"],
        **{name: row[name] for name in _OF_EARLIER},
        measurements=json.loads(row["measurements"]),
    )


_DUE: Final = sa.select(
    deliveries.c.id.label("delivery_id"),
    deliveries.c.attempts,
    deliveries.c.first_at,
    deliveries.c.asked_at,
    objects,
).join(objects, objects.c.id == deliveries.c.object_id)

RESPONSES, QUERY, COMMITMENT = "responses", "query", "commitment"
WAYS: Final = (RESPONSES, QUERY, COMMITMENT)
"""How it is known that a destination has an object, the weakest word first."""
RESENDS: Final = 5
"""Times that a destination may take an object and not commit to it."""

_WELL: Final = {"reason": None, "message": None}
_NO_LEASE: Final = {"lease_owner": None, "lease_until": None}
_ANALYSED: Final = (State.ANALYSED, State.ARCHIVED)
_AFTER_REPORT: Final = (State.REPORTED, State.DELIVERED, State.COMMITTED, State.FAILED)


def _lease(row: Row[Any]) -> Lease:
    return Lease(
        id=row.id,
        fence=row.fence,
        attempts=row.attempts,
        sop_class_uid=row.sop_class_uid,
        sop_instance_uid=row.sop_instance_uid,
        blob=_blob(row),
        received_at=row.received_at,
        plan=row.plan,
        plan_digest=row.plan_digest,
        result=row.result,
        calling_ae=row.calling_ae,
        archive_only=row.archive_only,
    )


def _due(row: Row[Any]) -> Due:
    return Due(
        delivery_id=row.delivery_id,
        instance_id=row.instance_id,
        role=row.role,
        sop_class_uid=row.sop_class_uid,
        sop_instance_uid=row.sop_instance_uid,
        blob=_blob(row),
        attempts=row.attempts,
        first_at=row.first_at,
        asked=row.asked_at is not None,
    )


def put_slot(connection: Connection, name: str, digest: str, now: float) -> None:
    """Put a model into a slot, in a transaction of the caller's."""
    connection.execute(slots.delete().where(slots.c.name == name))
    connection.execute(slots.insert().values(name=name, digest=digest, changed_at=now))


def append(connection: Connection, event: Event, now: float) -> None:
    """Append one row to the audit trail, in a transaction of the caller's."""
    values = {"at": now, **_plain(event)}
    connection.execute(_meta.select().with_for_update())  # one link at a time
    last = connection.scalar(sa.select(audit.c.chain).order_by(audit.c.id.desc()).limit(1))
    connection.execute(audit.insert().values(**values, chain=_link(last or "", values)))


def _plain(event: Event) -> dict[str, str]:
    return {name: getattr(event, name) for name in Event.__dataclass_fields__}


def _link(last: str, values: dict[str, Any]) -> str:
    return hashlib.sha256((last + json.dumps(values, sort_keys=True)).encode()).hexdigest()


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "busy_timeout=30000",  # first: even asking for the journal mode waits for a lock
        "journal_mode=WAL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once: a deferred one could fail half-way through."""
    options = connection.get_execution_options()
    if options.get("reading"):
        connection.exec_driver_sql("BEGIN")
        return
    level = "NORMAL" if options.get("relaxed") else "FULL"
    connection.exec_driver_sql(f"PRAGMA synchronous={level}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
