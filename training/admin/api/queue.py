"""Where every received object stands, why, and how it is set going again."""

from http import HTTPStatus
from typing import Any

from fastapi import Request
from pydantic import BaseModel

from dicom_node.ledger import DeliveryState, State
from dicom_node.reasons import sentence
from training.admin import queries
from training.admin.access import TheOffice, note, router
from training.admin.api.common import Before, Limit, Listed, Number, Reason
from training.admin.problems import Problem
from training.admin.sources import row_of

routes = router("/queue", "queue")


class Waiting(BaseModel):
    """One object; nothing here says whose ECG it is."""

    id: int
    state: State
    received_at: float
    """UTC, seconds since the epoch."""
    sender: str
    reason: str | None
    message: str | None
    """What to do about it."""


class Delivery(BaseModel):
    """One result object on its way."""

    destination: str
    object: str
    state: DeliveryState
    attempts: int
    reason: str | None
    message: str | None
    next_at: float | None


class Detail(Waiting):
    """One object with everything that is known of its way."""

    attempts: int
    analysed_at: float | None
    reported_at: float | None
    delivered_at: float | None
    committed_at: float | None
    committed_by: str | None
    deliveries: list[Delivery]


@routes.get("")
def queue(
    office: TheOffice, state: State | None = None, before: Before = None, limit: Limit = 50
) -> Listed[Waiting]:
    """List what was received, the newest first; `state=QUARANTINED` is the quarantine."""
    page = queries.search(office.ledger, queries.Search(state=state, before=before), limit)
    items = [
        Waiting(
            id=line.id,
            state=State(line.state),
            received_at=line.received_at,
            sender=line.sender,
            reason=line.reason,
            message=line.message,
        )
        for line in page.items
    ]
    return Listed(items=items, next=page.next)


@routes.get("/{instance}")
def detail(office: TheOffice, instance: Number) -> Detail:
    """Return where one object stands at every destination."""
    row = row_of(office, instance)
    roles = {item["id"]: item["role"] for item in row["objects"]}
    plain = {
        name: row[name]
        for name in (
            "id", "state", "received_at", "reason", "attempts", "analysed_at", "reported_at",
            "delivered_at", "committed_at", "committed_by",
        )
    }  # fmt: skip
    return Detail(
        **plain,
        sender=row["calling_ae"],
        message=row["message"],
        deliveries=[_delivery(item, roles) for item in row["deliveries"]],
    )


def _delivery(item: dict[str, Any], roles: dict[int, str]) -> Delivery:
    pending = item["state"] == DeliveryState.PENDING
    return Delivery(
        destination=item["destination"],
        object=roles[item["object_id"]],
        state=item["state"],
        attempts=item["attempts"],
        reason=item["reason"],
        message=sentence(item["reason"] or "") or None,
        next_at=item["next_at"] if pending else None,
    )


@routes.post("/{instance}/retry")
def retry(request: Request, office: TheOffice, instance: Number, body: Reason) -> Detail:
    """Set a quarantined object or its failed deliveries going again."""
    note(request, reason=body.reason)
    row_of(office, instance)
    if not office.ledger.retry(instance, office.clock()):
        raise Problem(HTTPStatus.CONFLICT, "There is nothing to try again.", reason="nothing")
    return detail(office, instance)


@routes.post("/{instance}/release")
def release(request: Request, office: TheOffice, instance: Number, body: Reason) -> Detail:
    """Have a past ECG reported after all, which was fetched for the archive alone."""
    note(request, reason=body.reason)
    row = row_of(office, instance)
    if not office.ledger.release([row["sop_instance_uid"]]):
        raise Problem(HTTPStatus.CONFLICT, "It is to be reported anyhow.", reason="nothing")
    return detail(office, instance)
