"""The audit trail: rows chained by their hashes, and where they end.

A chain shows what was altered or taken out of its middle; that its end was cut off shows where
the end is noted: in the ledger with each row, and outside of it in log and syslog messages.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import sqlalchemy as sa
from sqlalchemy import Connection

from dicom_node.ledger.schema import audit, meta


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of the audit trail; it names peers and reasons, never patients."""

    event: str
    reason: str = ""
    calling_ae: str = ""
    called_ae: str = ""
    address: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """Where the trail ended when it was noted; as a text `300:9f86…`."""

    rows: int
    chain: str
    """Of the last row; empty without any."""

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return what :meth:`__str__` made. Raises ValueError where it is none."""
        rows, _, chain = text.partition(":")
        return cls(int(rows), chain)

    def __str__(self) -> str:
        """Return the text."""
        return f"{self.rows}:{self.chain}"


_END: Final = "audit"
_NOTED: Final = sa.select(meta.c.value).where(meta.c.key == _END)


def begin(connection: Connection) -> None:
    """Note where the trail of an older version ends; an end that is gone stays noted."""
    noted = connection.scalar(_NOTED)
    here = sa.select(audit.c.id).where(audit.c.chain == End.from_text(noted or "0:").chain)
    if noted in (None, "0:") or connection.scalar(here.limit(1)) is not None:
        connection.execute(meta.delete().where(meta.c.key == _END))
        connection.execute(meta.insert().values(key=_END, value=str(_last(connection))))


def _last(connection: Connection) -> End:
    rows = connection.scalar(sa.select(sa.func.count()).select_from(audit))
    chain = connection.scalar(sa.select(audit.c.chain).order_by(audit.c.id.desc()).limit(1))
    return End(rows or 0, chain or "")


def end(connection: Connection) -> End:
    """Return where the trail ends, as it was noted with its last row."""
    return End.from_text(connection.scalars(_NOTED).one())


def append(connection: Connection, event: Event, now: float) -> None:
    """Append one row to the audit trail, chained to the last by its hash."""
    values = {"at": now, **asdict(event)}
    last = End.from_text(connection.scalars(_NOTED.with_for_update()).one())  # one at a time
    made = End(last.rows + 1, _link(last.chain, values))
    connection.execute(audit.insert().values(**values, chain=made.chain))
    connection.execute(meta.update().where(meta.c.key == _END).values(value=str(made)))


def refusals(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return the newest refusals of the audit trail, oldest first."""
    query = (
        audit.select().where(audit.c.event == "refused").order_by(audit.c.id.desc()).limit(limit)
    )
    return [dict(row) for row in connection.execute(query).mappings()][::-1]


def trail(connection: Connection) -> list[dict[str, Any]]:
    """Return the audit trail, oldest first."""
    return [dict(row) for row in connection.execute(audit.select().order_by(audit.c.id)).mappings()]


def broken_chain(connection: Connection, known: End | None = None) -> list[str]:
    """Return a sentence where the audit trail is no longer what was recorded.

    Parameters
    ----------
    known
        An end that was noted outside of the ledger.
    """
    noted = [item for item in (end(connection), known) if item is not None]
    links = [""]
    for row in trail(connection):
        values = {name: row[name] for name in ("at", *Event.__dataclass_fields__)}
        links.append(_link(links[-1], values))
        if links[-1] != row["chain"]:
            return [f"audit row {row['id']} was altered, or one before it removed"]
    return [
        f"the trail had {item.rows} rows and is no longer that of then: its end was cut off"
        for item in noted
        if links[item.rows : item.rows + 1] != [item.chain]
    ]


def _link(last: str, values: dict[str, Any]) -> str:
    return hashlib.sha256((last + json.dumps(values, sort_keys=True)).encode()).hexdigest()
