"""The tables, and the closed sets of words that stand in them."""

from collections.abc import Mapping
from dataclasses import astuple
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa

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
    DROPPED = "DROPPED"
    """Given up by a person: the settings no longer name the destination."""


class Part(StrEnum):
    """What retention purges of a received object; its row stays."""

    SOURCE = "source"
    """The bytes that came in."""
    RESULTS = "results"
    """The bytes of the objects that were made from it, and the stored result."""


class FetchState(StrEnum):
    """Where a past ECG stands that a back-fill found."""

    FOUND = "FOUND"
    ARRIVED = "ARRIVED"
    KNOWN = "KNOWN"
    """It was here before."""
    FAILED = "FAILED"


WORKABLE: Final = (State.RECEIVED, State.ANALYSED)

metadata = sa.MetaData()

BLOB: Final = ("blob_store", "blob_key", "blob_offset", "blob_length", "sha256")
"""The columns that say where bytes lie, in the order of `BlobRef`."""


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
    metadata,
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
    metadata,
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
    metadata,
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
    metadata,
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

purges = sa.Table(
    "purge",
    metadata,
    sa.Column("instance_id", sa.ForeignKey("instance.id"), primary_key=True),
    sa.Column("part", sa.String(16), primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
)
"""The tombstones: whose bytes retention gave up, of what was received or made from it."""

promises = sa.Table(
    "promise",
    metadata,
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
    metadata,
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
    metadata,
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
    metadata,
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
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("added_at", sa.Double, nullable=False),
)

slots = sa.Table(
    "slot",
    metadata,
    sa.Column("name", sa.String(16), primary_key=True),
    sa.Column("digest", sa.ForeignKey("model.digest"), nullable=False),
    sa.Column("changed_at", sa.Double, nullable=False),
)

model_marks = sa.Table(
    "model_mark",
    metadata,
    sa.Column("digest", sa.ForeignKey("model.digest"), primary_key=True),
    sa.Column("mark", sa.String(16), primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("detail", sa.Text, nullable=False, default=""),
)
"""What is remarked of a model beside its slot: retired, refused by a worker, and so on."""

shadow_results = sa.Table(
    "shadow_result",
    metadata,
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

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.String(32), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)


def blob_of(row: Mapping[str, Any] | sa.RowMapping) -> BlobRef:
    """Return where the bytes of a row of `instances` or of `objects` lie."""
    return BlobRef(*(row[name] for name in BLOB))


def blob_values(ref: BlobRef) -> dict[str, Any]:
    """Return the columns that say where bytes lie."""
    return dict(zip(BLOB, astuple(ref), strict=True))
