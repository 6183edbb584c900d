"""What the admin service keeps in the ledger's database, beside the node's own rows."""

from typing import Final

import sqlalchemy as sa

from dicom_node.ledger import Ledger

metadata: Final = sa.MetaData()

_ID: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

users = sa.Table(
    "admin_user",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("password", sa.Text),
    sa.Column("subject", sa.String(512), unique=True),
    sa.Column("roles", sa.String(128), nullable=False),
    sa.Column("active", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
)
"""People; with `subject` those whom an OpenID Connect provider vouches for."""

keys = sa.Table(
    "admin_key",
    metadata,
    sa.Column("prefix", sa.String(16), primary_key=True),
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("label", sa.String(64), nullable=False),
    sa.Column("roles", sa.String(128), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Column("revoked_at", sa.Double),
    sa.Column("used_at", sa.Double),
)
"""API keys: their argon2id hash alone."""

sessions = sa.Table(
    "admin_session",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("admin_user.id")),
    sa.Column("key", sa.ForeignKey("admin_key.prefix")),
    sa.Column("csrf", sa.String(64), nullable=False),
    sa.Column("started_at", sa.Double, nullable=False),
    sa.Column("seen_at", sa.Double, nullable=False),
)
"""Signed-in browsers, by the SHA-256 of their cookie."""

logins = sa.Table(
    "admin_login",
    metadata,
    sa.Column("state", sa.String(64), primary_key=True),
    sa.Column("nonce", sa.String(64), nullable=False),
    sa.Column("verifier", sa.String(128), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)
"""Sign-ins that are under way at the provider."""

answers = sa.Table(
    "admin_answer",
    metadata,
    sa.Column("account", sa.String(80), primary_key=True),
    sa.Column("key", sa.String(128), primary_key=True),
    sa.Column("request", sa.String(64), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("media_type", sa.String(64)),
    sa.Column("body", sa.LargeBinary),
)
"""What was answered under an idempotency key; without a status it is being done."""

schedules = sa.Table(
    "schedule",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("cron", sa.String(64)),
    sa.Column("every", sa.Double),
    sa.Column("new_labelled", sa.Integer),
    sa.Column("window", sa.String(11)),
    sa.Column("active", sa.Boolean, nullable=False),
    sa.Column("by", sa.String(64), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("since", sa.Double, nullable=False),
    sa.Column("labelled", sa.Integer, nullable=False, default=0),
)
"""When which plan is to be run; ticks are counted from `since`."""

ticks = sa.Table(
    "schedule_tick",
    metadata,
    sa.Column("schedule_id", sa.ForeignKey("schedule.id"), primary_key=True),
    sa.Column("due_at", sa.Double, primary_key=True),
    sa.Column("run_id", _ID),
)
"""Each moment that a schedule came due, and the run that it made."""

forwarded = sa.Table(
    "admin_forwarded",
    metadata,
    sa.Column("server", sa.String(256), primary_key=True),
    sa.Column("row", _ID, nullable=False),
)
"""The last row of the audit trail that a syslog server has."""

recordings = sa.Table(
    "admin_recording",
    metadata,
    sa.Column("instance_id", _ID, primary_key=True, autoincrement=False),
    sa.Column("analysed", sa.Boolean, nullable=False),
    sa.Column("patient", sa.String(32)),
    sa.Column("acquired_at", sa.String(20)),
    sa.Column("device", sa.String(64)),
    sa.Column("record", sa.String(32)),
    sa.Column("heart_rate", sa.Float),
    sa.Column("quality", sa.String(32)),
    sa.Column("overall", sa.String(32)),
    sa.Column("statements", sa.Text),
    sa.Index("admin_recording_open", "analysed", "instance_id"),
    sa.Index("admin_recording_patient", "patient", "instance_id"),
    sa.Index("admin_recording_device", "device", "instance_id"),
    sa.Index("admin_recording_acquired", "acquired_at", "instance_id"),
)
"""What the ledger's results say, as far as lists and searches need it: made from them alone."""

spoken = sa.Table(
    "admin_statement",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("instance_id", _ID, primary_key=True, autoincrement=False),
    sa.Index("admin_statement_instance", "instance_id"),
    sqlite_with_rowid=False,
)
"""Which recordings have which statement."""

qualities = sa.Table(
    "admin_quality",
    metadata,
    sa.Column("record", sa.String(32), primary_key=True),
    sa.Column("revision", sa.String(16), nullable=False),
    sa.Column("verdict", sa.String(32), nullable=False),
    sa.Index("admin_quality_verdict", "revision", "verdict"),
)
"""How well recordings of the corpus can be read, by the revision of what judged them."""

_STATE_INDEX: Final = "CREATE INDEX IF NOT EXISTS admin_instance_state ON instance (state, id)"
"""Lists of one state; the ledger's own index is ordered by when work is due."""


def create(ledger: Ledger) -> None:
    """Create what is missing."""
    with ledger.transaction() as connection:
        metadata.create_all(connection)
        connection.exec_driver_sql(_STATE_INDEX)
