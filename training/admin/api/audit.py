"""The audit trail: read, verified, and handed on as DICOM audit messages."""

from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import Query, Response
from pydantic import BaseModel

from dicom_node import ledger as tables
from training.admin.access import TheOffice, router
from training.admin.api.common import LARGEST_NUMBER, Before, Limit, Listed
from training.admin.audit_messages import message, syslog

routes = router("/audit", "audit")


class Row(BaseModel):
    """One event."""

    id: int
    at: float
    """UTC, seconds since the epoch."""
    event: str
    reason: str
    calling_ae: str
    called_ae: str
    address: str
    detail: str
    chain: str


class Verification(BaseModel):
    """Whether the chain holds."""

    ok: bool
    rows: int
    end: str
    """Where the trail ends: kept elsewhere, it shows later that nothing before it is gone."""
    problems: list[str]


@routes.get("")
def trail(
    office: TheOffice,
    event: Annotated[str | None, Query(max_length=32, pattern="^[a-z_-]*$")] = None,
    before: Before = None,
    limit: Limit = 50,
) -> Listed[Row]:
    """List what happened, the newest first."""
    query = tables.audit.select().order_by(tables.audit.c.id.desc()).limit(limit + 1)
    if event is not None:
        query = query.where(tables.audit.c.event == event)
    if before is not None:
        query = query.where(tables.audit.c.id < before)
    rows = [_row(row) for row in office.ledger.query(query)]
    kept = rows[:limit]
    return Listed(items=kept, next=kept[-1].id if len(rows) > limit else None)


def _row(row: tuple[Any, ...]) -> Row:
    return Row(**dict(zip(tables.audit.c.keys(), row, strict=True)))


@routes.get("/verification")
def verify(
    office: TheOffice,
    known: Annotated[
        str | None,
        Query(pattern=r"^\d{1,18}:[0-9a-f]{64}$", description="An `end` that was kept elsewhere."),
    ] = None,
) -> Verification:
    """Say whether a row was altered or removed, the last ones included."""
    ((count,),) = office.ledger.query(sa.select(sa.func.count()).select_from(tables.audit))
    end = office.ledger.end()
    problems = office.ledger.broken_chain(tables.End.from_text(known) if known else None)
    return Verification(ok=not problems, rows=count, end=str(end), problems=problems)


@routes.get(
    "/messages",
    response_class=Response,
    responses={200: {"content": {"application/xml": {}, "text/plain": {}}}},
)
def messages(
    office: TheOffice,
    form: Literal["xml", "syslog"] = "xml",
    after: Annotated[int, Query(ge=0, lt=LARGEST_NUMBER)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> Response:
    """Return events as DICOM audit messages (PS3.15 §A.5), the oldest first.

    `syslog` has one message of RFC 5424 on each line, as a syslog server takes them.
    """
    query = (
        tables.audit.select()
        .where(tables.audit.c.id > after)
        .order_by(tables.audit.c.id)
        .limit(limit)
    )
    rows = [_row(row).model_dump() for row in office.ledger.query(query)]
    source = office.settings.dicom.ae_title
    if form == "syslog":
        text = "\n".join(syslog(row, source) for row in rows)
        return Response(text, media_type="text/plain; charset=utf-8")
    body = "".join(message(row, source) for row in rows)
    return Response(f"<AuditMessages>{body}</AuditMessages>", media_type="application/xml")
