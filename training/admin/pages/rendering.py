"""How a page is made: templates that escape everything, and what stands on each of them."""

import json
import re
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse

from dicom_node.settings import Role
from training.admin.access import Guarded
from training.admin.accounts import Principal
from training.admin.pages.assets import PLOTLY, STATIC
from training.admin.pages.words import finding_name
from training.admin.problems import Problem

FOLDER: Final = Path(__file__).parent
CAUTION: Final = "Not verified by a clinician, not an alarm, no urgent notification."

_environment = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _moment(seconds: float | None) -> str:
    """Return a time as a list shows it: UTC, to the second."""
    if seconds is None:
        return "–"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _told(detail: str) -> str:
    """Return the detail of an audited action in words; what its event says already is left out."""
    try:
        found = json.loads(detail)
    except ValueError:
        return _short(detail)
    if not isinstance(found, dict):
        return _short(detail)
    return " · ".join(
        f"{name} {_short(str(value))}"
        for name, value in found.items()
        if name not in _SAID and value is not None and value != ""
    )


_SAID: Final = frozenset({"what", "status"})
_DIGEST: Final = re.compile("[0-9a-f]{64}")


def _short(text: str) -> str:
    """Return a text with every SHA-256 in it cut to its beginning."""
    return _DIGEST.sub(lambda found: f"{found[0][:12]}…", text)


_environment.filters["moment"] = _moment
_environment.filters["told"] = _told
_environment.filters["finding"] = finding_name


@dataclass(frozen=True, slots=True)
class Page:
    """An entry of the navigation, and who sees it."""

    path: str
    title: str
    roles: frozenset[Role]


_VIEWER, _OPERATOR, _REVIEWER, _TRAINER, _ADMIN = Role
PAGES: Final = (
    Page("/", "Live", frozenset(Role)),
    Page("/recordings", "Recordings", frozenset({_REVIEWER, _TRAINER})),
    Page("/upload", "Upload", frozenset({_REVIEWER, _TRAINER})),
    Page("/training", "Training", frozenset({_TRAINER})),
    Page("/models", "Models", frozenset(Role)),
    Page("/datasets", "Data sets", frozenset({_REVIEWER, _TRAINER})),
    Page("/schedule", "Schedule", frozenset({_TRAINER})),
    Page("/system", "System", frozenset({_VIEWER, _OPERATOR, _ADMIN})),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the navigation as one reader sees it."""

    path: str
    title: str
    current: bool


def navigation(roles: Collection[Role], path: str) -> tuple[Entry, ...]:
    """Return the pages that these roles may open; the one that is open is marked."""
    return tuple(
        Entry(page.path, page.title, path == page.path or path.startswith(f"{page.path}/"))
        for page in PAGES
        if not page.roles.isdisjoint(roles)
    )


def render(request: Request, template: str, *, code: int = 200, **values: Any) -> HTMLResponse:
    """Return a page; `values` are what its template shows."""
    user: Principal | None = getattr(request.state, "principal", None)
    text = _environment.get_template(template).render(
        static=STATIC,
        plotly=PLOTLY,
        caution=CAUTION,
        version=version("sinusnode"),
        user=user,
        csrf=(user.csrf if user else None) or "",
        nav=navigation(user.roles, request.url.path) if user else (),
        **values,
    )
    return HTMLResponse(text, code, headers={"Cache-Control": "no-store"})


_JSON: Final = "application/json"


class PageRoute(Guarded):
    """A route whose refusals are pages: sign in first, or a sentence why not."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what serves a request."""
        answer = super().get_route_handler()

        async def page(request: Request) -> Response:
            try:
                return await answer(request)
            except Problem as refusal:
                if _JSON in request.headers.get("Accept", ""):
                    raise  # a script asks
                return _refused(request, refusal)

        return page


def _refused(request: Request, refusal: Problem) -> Response:
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        target = quote(f"{request.url.path}?{request.url.query}".rstrip("?"))
        return RedirectResponse(f"/signin?next={target}", HTTPStatus.SEE_OTHER)
    page = render(request, "refused.html", code=refusal.status, refusal=refusal)
    page.headers.update(refusal.headers)
    return page


def page_router() -> APIRouter:
    """Return a router of pages; they are no part of the API's document."""
    return APIRouter(route_class=PageRoute, include_in_schema=False)
