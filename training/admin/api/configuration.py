"""The settings: all of them to read, and a few that change without a restart."""

import json
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from dicom_node.live import Change, Knob, NotAllowed, NotLive, knobs, overlaid
from dicom_node.settings import Settings
from training.admin.access import TheOffice, ThePrincipal, note, router
from training.admin.api.common import Body, Sentence
from training.admin.problems import Problem

routes = router("/settings", "settings")


class LiveSetting(BaseModel):
    """One value that changes without a restart."""

    key: str
    meaning: str
    value: bool | int | float | str
    """In force."""
    stated: bool | int | float | str
    """Of file and environment, which counts again once the change is taken away."""
    by: str | None
    """Who changed it; null where the file counts."""
    reason: str | None
    at: float | None
    """UTC, seconds since the epoch."""


class Turn(Body):
    """What is to count from now on, and why."""

    key: Annotated[str, Field(max_length=128)]
    value: StrictBool | StrictInt | StrictFloat | Annotated[StrictStr, Field(max_length=64)] | None
    """Null lets the file count again."""
    reason: Sentence


@routes.get("")
def settings(office: TheOffice) -> dict[str, Any]:
    """Return the settings in force, secrets masked; most change in their file, with a restart."""
    return office.live.now().model_dump(mode="json")


@routes.get("/live")
def live_settings(office: TheOffice) -> list[LiveSetting]:
    """List what changes without a restart, and who changed it."""
    changes = {change.key: change for change in office.live.changes()}
    in_force = overlaid(office.settings, changes.values())
    return [
        _live(knob, office.settings, in_force, changes.get(knob.key))
        for knob in knobs(office.settings).values()
    ]


def _live(knob: Knob, stated: Settings, in_force: Settings, change: Change | None) -> LiveSetting:
    return LiveSetting(
        key=knob.key,
        meaning=knob.meaning,
        value=knob.value(in_force),
        stated=knob.value(stated),
        by=change.by if change else None,
        reason=change.reason if change else None,
        at=change.at if change else None,
    )


@routes.patch("")
def change(
    request: Request, office: TheOffice, principal: ThePrincipal, body: Turn
) -> list[LiveSetting]:
    """Change a value of `/settings/live`; it counts in every process within some seconds."""
    note(request, key=body.key, value=json.dumps(body.value), reason=body.reason)
    try:
        office.live.change(body.key, body.value, principal.name, body.reason, office.clock())
    except NotLive as error:
        raise Problem(HTTPStatus.NOT_FOUND, str(error), reason="not-live") from None
    except NotAllowed as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), reason="not-allowed") from None
    return live_settings(office)
