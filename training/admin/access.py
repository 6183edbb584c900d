"""Who is let in: every route asks here before anything of its request is read.

A route of the API or of the pages is made by :func:`router`; it looks its rule up in
:mod:`training.admin.policy` and cannot be made without one. Here an action enters the audit
trail, so that none can forget to.
"""

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, cast
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from dicom_node.ledger import Event, Ledger
from dicom_node.live import Live
from dicom_node.settings import Role, Settings
from dicom_node.spool import Spool
from training.admin.accounts import Accounts, Principal, split_key
from training.admin.limits import Limiter, Rate
from training.admin.policy import API, Rule, rule_of
from training.admin.problems import Problem, status_of
from training.admin.queries import Index, pseudonyms
from training.admin.replay import Replays
from training.registry import CORPUS
from training.runs import Runs

COOKIE: Final = "sinusnode_session"
CSRF_HEADER: Final = "X-CSRF-Token"
CSRF_FIELD: Final = "csrf_token"
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_FORM: Final = "application/x-www-form-urlencoded"
_NOTED: Final = 200
_Found = TypeVar("_Found")
_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True, kw_only=True)
class Office:
    """What the service works with; one for each application."""

    settings: Settings
    ledger: Ledger
    clock: Callable[[], float] = time.time
    """UTC, seconds since the epoch."""

    @property
    def corpus(self) -> Path:
        """The folder of the corpus."""
        return self.settings.admin.corpus or self.settings.storage.folder / CORPUS

    @cached_property
    def live(self) -> Live:
        """The settings in force, and those that change without a restart."""
        return Live(self.settings, self.ledger)

    @cached_property
    def accounts(self) -> Accounts:
        """Who may sign in."""
        return Accounts(self.ledger, self.settings.admin)

    @cached_property
    def index(self) -> Index:
        """What lists and searches are made from."""
        spool = Spool(self.settings.storage.folder / "spool")
        return Index(self.ledger, spool, pseudonyms(self.settings))

    @cached_property
    def runs(self) -> Runs:
        """The training runs."""
        return Runs(self.ledger)

    @cached_property
    def replays(self) -> Replays:
        """What was answered under an idempotency key."""
        return Replays(self.ledger)

    @cached_property
    def examining(self) -> threading.Lock:
        """Held while a stranger's model is examined: it takes much memory, so one at a time."""
        return threading.Lock()

    @cached_property
    def addresses(self) -> Limiter:
        """Failed sign-ins by address."""
        admin = self.settings.admin
        return Limiter(admin.failures_per_address, admin.lock_out, time.monotonic)

    @cached_property
    def failing(self) -> Limiter:
        """The same by account."""
        admin = self.settings.admin
        return Limiter(admin.failures_per_account, admin.lock_out, time.monotonic)

    @cached_property
    def requests(self) -> Rate:
        """Requests by account."""
        return Rate(lambda: self.live.now().admin.requests_per_minute, time.monotonic)


def office_of(request: Request) -> Office:
    """Return what the service works with."""
    return cast("Office", request.app.state.office)


def principal_of(request: Request) -> Principal:
    """Return who asks. Raises the refusal where nobody is signed in."""
    found: Principal | None = getattr(request.state, "principal", None)
    if found is None:
        raise _unknown()
    return found


TheOffice = Annotated[Office, Depends(office_of)]
ThePrincipal = Annotated[Principal, Depends(principal_of)]


def router(path: str, tag: str) -> APIRouter:
    """Return a router of the API, whose routes all ask for admission."""
    return APIRouter(prefix=f"{API}{path}", tags=[tag], route_class=Guarded, responses=_REFUSALS)


def note(request: Request, **words: str | float | None) -> None:
    """Add to what the audit trail will say of this request; never patient data."""
    noted: dict[str, Any] = getattr(request.state, "noted", {})
    request.state.noted = noted | words


class Guarded(APIRoute):
    """A route that admits, limits, replays and records before and after it answers."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        (self.method,) = options.get("methods") or {"GET"}
        self.rule = rule_of(self.method, path)
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> _Handler:
        """Return what serves a request."""
        answer = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            office = office_of(request)
            try:
                await _admit(request, office, self.rule)
                response = await self._answered(request, office, answer)
            except Exception as error:
                await run_in_threadpool(_record, request, office, self, status_of(error))
                raise
            await run_in_threadpool(_record, request, office, self, response.status_code)
            return response

        return guarded

    async def _answered(self, request: Request, office: Office, answer: _Handler) -> Response:
        """Return the answer, or the one given before under the same idempotency key."""
        key = request.headers.get("Idempotency-Key")
        if key is None or self.method in SAFE:
            return await answer(request)
        if self.rule.secret or self.rule.upload:
            raise Problem(
                HTTPStatus.BAD_REQUEST, "This request takes no Idempotency-Key.", reason="no-replay"
            )
        replays, account = office.replays, principal_of(request).account
        asked = await _fingerprint(request)
        known = await run_in_threadpool(replays.claim, account, key, asked, office.clock())
        if known is not None:
            note(request, replayed=True)
            return known
        try:
            response = await answer(request)
        except BaseException:
            await run_in_threadpool(replays.done, account, key, None)
            raise
        await run_in_threadpool(replays.done, account, key, response)
        return response


async def _fingerprint(request: Request) -> str:
    """Return what tells one request from another: method, address and body."""
    words = f"{request.method} {request.url.path}?{request.url.query}\n"
    return hashlib.sha256(words.encode() + await request.body()).hexdigest()


# Admission


async def _admit(request: Request, office: Office, rule: Rule) -> None:
    """Let a request in, with its principal, or raise the refusal."""
    principal = await run_in_threadpool(_identify, request, office)
    request.state.principal = principal
    account = principal.account if principal else f"address {address_of(request)}"
    _may_ask(await run_in_threadpool(office.requests.take, account))
    if request.method not in SAFE:
        _same_origin(request)
    if rule.roles is None:
        return
    if principal is None:
        raise _unknown()
    if not rule.admits(principal.roles):
        raise Problem(
            HTTPStatus.FORBIDDEN,
            f"This needs the role {_either(rule)}; {principal.name} has not.",
            reason="role",
        )
    if principal.csrf is not None and request.method not in SAFE:
        await _from_our_page(request, principal.csrf)


def _either(rule: Rule) -> str:
    return " or ".join(role for role in Role if rule.roles and role in rule.roles)


def _identify(request: Request, office: Office) -> Principal | None:
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme:
        return _by_key(request, office, scheme, text.strip())
    token = request.cookies.get(COOKIE)
    return office.accounts.session(token, office.clock()) if token else None


def _by_key(request: Request, office: Office, scheme: str, text: str) -> Principal:
    def attempt() -> Principal | None:
        right = scheme.lower() == "bearer"
        return office.accounts.bearer(text, office.clock()) if right else None

    found = trying(request, office, split_key(text)[0], attempt)
    if found is None:
        raise _unknown("This key is wrong, revoked or past its end.")
    return found


def trying(
    request: Request, office: Office, account: str, attempt: Callable[[], _Found | None]
) -> _Found | None:
    """Return what an attempt to sign in gives; None counts as a failure.

    Raises
    ------
    Problem
        429, where there were too many lately: from this address, or as this account.
    """
    limits = ((office.addresses, address_of(request)), (office.failing, account[:64]))
    for limiter, name in limits:
        _may_ask(limiter.wait(name))
    found = attempt()
    if found is None:
        for limiter, name in limits:
            limiter.count(name)
    return found


def _may_ask(wait: float) -> None:
    if wait > 0:
        raise Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"Too many requests; try again in {wait:.0f} seconds.",
            reason="limit",
            headers={"Retry-After": str(max(1, round(wait)))},
        )


def _unknown(sentence: str = "Sign in, or show an API key.") -> Problem:
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        sentence,
        reason="sign-in",
        headers={"WWW-Authenticate": 'Bearer realm="sinusnode"'},
    )


def _same_origin(request: Request) -> None:
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("Host"):
        raise Problem(HTTPStatus.FORBIDDEN, "This came from another site.", reason="origin")


async def _from_our_page(request: Request, csrf: str) -> None:
    """Refuse what a session's own pages did not send (OWASP: synchronizer token)."""
    shown = request.headers.get(CSRF_HEADER, "")
    if not shown and request.headers.get("Content-Type", "").startswith(_FORM):
        shown = str((await request.form()).get(CSRF_FIELD, ""))
    if not secrets.compare_digest(shown.encode(), csrf.encode()):
        raise Problem(
            HTTPStatus.FORBIDDEN, f"The token of the session is missing ({CSRF_HEADER}).",
            reason="csrf",
        )  # fmt: skip


# The audit trail


def _record(request: Request, office: Office, route: Guarded, status: int) -> None:
    """Enter what was done, or who was turned away, into the audit trail."""
    principal: Principal | None = getattr(request.state, "principal", None)
    refused = status in _TURNED_AWAY and (
        principal is not None or "Authorization" in request.headers
    )
    if status == HTTPStatus.TOO_MANY_REQUESTS or (route.rule.event is None and not refused):
        return
    parts = {name: str(value)[:64] for name, value in request.path_params.items()}
    words = {
        "by": principal.name if principal else "",
        "status": int(status),
        "what": f"{route.method} {route.path}",
        **parts,
        **getattr(request.state, "noted", {}),
    }
    plain = {name: _short(value) for name, value in words.items()}
    event = Event(
        event=route.rule.event or "turned-away",
        reason=HTTPStatus(status).phrase if status >= HTTPStatus.BAD_REQUEST else "",
        address=address_of(request),
        detail=json.dumps(plain, ensure_ascii=False, sort_keys=True),
    )
    office.ledger.record(event, office.clock())


_TURNED_AWAY: Final = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


def _short(value: Any) -> Any:
    """Return a value that any database keeps: PostgreSQL's text holds no NUL."""
    return value.replace("\0", "")[:_NOTED] if isinstance(value, str) else value


def address_of(request: Request) -> str:
    """Return where a request came from."""
    return request.client.host if request.client else ""


_REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    status: {
        "description": HTTPStatus(status).phrase,
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
        },
    }
    for status in (400, 401, 403, 404, 408, 409, 413, 422, 429, 503)
}
