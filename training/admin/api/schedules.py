"""Schedules: which plan is run when, by itself."""

import json
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, Field

from training.admin.access import Office, TheOffice, ThePrincipal, note, router
from training.admin.api.common import Body, Number
from training.admin.plans import plan_of
from training.admin.problems import Problem, missing
from training.admin.schedule import NotASchedule, Order, Schedule, Schedules, next_due
from training.corpus import INDEX, Corpus

routes = router("/schedules", "schedules")

_WINDOW = r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"


class Wanted(Body):
    """What to run, and when; times of day are local."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f]+$")]
    plan: dict[str, Any]
    cron: Annotated[str, Field(min_length=9, max_length=64)] | None = None
    """Minute, hour, day, month, day of week: `30 2 * * mon`."""
    every: Annotated[float, Field(ge=300, le=366 * 86400)] | None = None
    """Seconds, instead."""
    new_labelled: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Only when so many recordings were labelled since the last run."""
    window: Annotated[str, Field(pattern=_WINDOW)] | None = None
    """In which a run may begin, `20:00-06:00`."""
    active: bool = True


class ScheduleView(BaseModel):
    """One schedule."""

    id: int
    name: str
    plan: dict[str, Any]
    cron: str | None
    every: float | None
    new_labelled: int | None
    window: str | None
    active: bool
    by: str
    created_at: float
    next_at: float | None
    """When it comes due next, UTC, seconds since the epoch."""
    labelled_since: int
    """Recordings that were labelled since its last run."""


def labelled(office: Office) -> int:
    """Return how many recordings of the corpus somebody has labelled."""
    return Corpus(office.corpus).labelled if (office.corpus / INDEX).is_file() else 0


def schedules_of(office: Office) -> Schedules:
    """Return the schedules of an installation."""
    return Schedules(office.ledger, office.runs, lambda: labelled(office))


@routes.get("")
def schedules(office: TheOffice) -> list[ScheduleView]:
    """List the schedules."""
    count = labelled(office)
    return [_view(office, item, count) for item in schedules_of(office).list()]


@routes.post("", status_code=HTTPStatus.CREATED)
def add(request: Request, office: TheOffice, principal: ThePrincipal, body: Wanted) -> ScheduleView:
    """Keep a schedule."""
    order = _order(office, body)
    try:
        made = schedules_of(office).add(order, principal.name, office.clock())
    except NotASchedule as error:
        raise _refused(error) from None
    note(request, schedule=made.id)
    return _view(office, made, labelled(office))


@routes.get("/{schedule}")
def one(office: TheOffice, schedule: Number) -> ScheduleView:
    """Return one schedule."""
    return _view(office, _get(office, schedule), labelled(office))


@routes.put("/{schedule}")
def change(office: TheOffice, schedule: Number, body: Wanted) -> ScheduleView:
    """Replace a schedule; it counts anew from now."""
    _get(office, schedule)
    order = _order(office, body)
    try:
        made = schedules_of(office).change(schedule, order, office.clock())
    except NotASchedule as error:
        raise _refused(error) from None
    return _view(office, made, labelled(office))


@routes.delete("/{schedule}", status_code=HTTPStatus.NO_CONTENT)
def remove(office: TheOffice, schedule: Number) -> None:
    """Forget a schedule; its runs stay."""
    _get(office, schedule)
    schedules_of(office).remove(schedule)


def _refused(error: NotASchedule) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), reason="schedule")


def _get(office: Office, number: int) -> Schedule:
    try:
        return schedules_of(office).get(number)
    except LookupError:
        raise missing(f"schedule {number}") from None


def _order(office: Office, body: Wanted) -> Order:
    values = {name: getattr(body, name) for name in Order.__dataclass_fields__}
    return Order(**values | {"plan": plan_of(office, body.plan).to_json()})


def _view(office: Office, item: Schedule, count: int) -> ScheduleView:
    order = item.order
    values = {name: getattr(order, name) for name in Order.__dataclass_fields__}
    plan = json.loads(order.plan)
    plan.pop("corpus", None)
    return ScheduleView(
        **values | {"plan": plan},
        id=item.id,
        by=item.by,
        created_at=item.created_at,
        next_at=next_due(item, office.clock()),
        labelled_since=max(0, count - item.labelled),
    )
