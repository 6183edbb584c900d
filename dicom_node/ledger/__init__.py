"""Durable state: what was received, where it stands, what was delivered, what was refused.

One row per received object carries its plan, its state and, once analysed, its result. Every
transition is one transaction, guarded by the fencing number of the lease that allows it, so
that a worker that lost its lease changes nothing. SQLite (WAL, ``synchronous=FULL``) by
default, PostgreSQL by URL.

Each room of the ledger is a module of functions over an open connection; :class:`Ledger` makes
of each a transaction of its own. A room outside (models, back-fills, runs) keeps its rows in a
:meth:`Ledger.transaction`.
"""

from dicom_node.ledger.callers import Promise
from dicom_node.ledger.chain import End, Event, append
from dicom_node.ledger.comparisons import Comparable, Comparison, Earlier
from dicom_node.ledger.database import SchemaMismatch
from dicom_node.ledger.delivery import COMMITMENT, QUERY, RESPONSES, Due, Outcome
from dicom_node.ledger.intake import Receipt, Received
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.registry import put_slot
from dicom_node.ledger.retention import Rule
from dicom_node.ledger.schema import (
    BLOB,
    SCHEMA_VERSION,
    DeliveryState,
    FetchState,
    Part,
    State,
    audit,
    backfills,
    blob_of,
    deliveries,
    ecgs,
    instances,
    meta,
    metadata,
    model_marks,
    models,
    objects,
    promises,
    purges,
    shadow_results,
    slots,
    wanted,
)
from dicom_node.ledger.work import Lease, LeaseLost, Produced

__all__ = [
    "BLOB",
    "COMMITMENT",
    "QUERY",
    "RESPONSES",
    "SCHEMA_VERSION",
    "Comparable",
    "Comparison",
    "DeliveryState",
    "Due",
    "Earlier",
    "End",
    "Event",
    "FetchState",
    "Lease",
    "LeaseLost",
    "Ledger",
    "Outcome",
    "Part",
    "Produced",
    "Promise",
    "Receipt",
    "Received",
    "Rule",
    "SchemaMismatch",
    "State",
    "append",
    "audit",
    "backfills",
    "blob_of",
    "deliveries",
    "ecgs",
    "instances",
    "meta",
    "metadata",
    "model_marks",
    "models",
    "objects",
    "promises",
    "purges",
    "put_slot",
    "shadow_results",
    "slots",
    "wanted",
]
