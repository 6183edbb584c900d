"""Signing in and out, and the people and keys that may."""

import secrets
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field, SecretStr, StringConstraints
from starlette.responses import HTMLResponse, RedirectResponse

from dicom_node.settings import Role
from training.admin.access import (
    COOKIE,
    Office,
    TheOffice,
    ThePrincipal,
    note,
    router,
    trying,
)
from training.admin.accounts import (
    SHORTEST_PASSWORD,
    Key,
    NameTaken,
    Principal,
    Session,
    User,
    split_key,
)
from training.admin.api.common import Body, Number
from training.admin.oidc import Provider, Refused
from training.admin.policy import API
from training.admin.problems import Problem, missing

routes = router("", "access")

Name = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]*$", min_length=1, max_length=64)
]
Password = Annotated[SecretStr, Field(min_length=SHORTEST_PASSWORD, max_length=256)]


class SignIn(Body):
    """Name and password, or a key alone."""

    name: Annotated[str, Field(max_length=64)] | None = None
    password: Annotated[SecretStr, Field(max_length=256)] | None = None
    key: Annotated[SecretStr, Field(max_length=256)] | None = None


class Me(BaseModel):
    """Who is signed in."""

    name: str
    roles: list[Role]
    csrf_token: str | None
    """What every request of this session that changes something must carry."""


class NewUser(Body):
    """A person who signs in by password."""

    name: Name
    password: Password
    roles: list[Role]


class Change(Body):
    """What to change of a person."""

    roles: list[Role] | None = None
    active: bool | None = None
    password: Password | None = None


class UserView(BaseModel):
    """A person."""

    id: int
    name: str
    roles: list[Role]
    active: bool
    by_provider: bool
    created_at: float


class NewKey(Body):
    """A key for a program."""

    label: Name
    roles: Annotated[list[Role], Field(min_length=1)]
    days: Annotated[int, Field(ge=1, le=365)] | None = None


class KeyView(BaseModel):
    """A key, without its secret."""

    prefix: str
    label: str
    roles: list[Role]
    created_at: float
    expires_at: float
    revoked_at: float | None
    used_at: float | None


class MadeKey(KeyView):
    """A new key."""

    key: str
    """Its text, shown this once."""


def begin(office: Office, response: Response, session: Session) -> None:
    """Give a browser the cookie of its session."""
    admin = office.settings.admin
    response.set_cookie(
        COOKIE,
        session.token,
        max_age=int(admin.session_longest),
        httponly=True,
        secure=admin.certificate is not None,
        samesite="strict",
    )


def sign_in_with(
    request: Request, office: Office, name: str, password: str, key: str
) -> Session | None:
    """Return a session for name and password, or for a key; None where they are wrong.

    Raises
    ------
    Problem
        429, where there were too many failures lately.
    """
    account = split_key(key)[0] if key else name
    note(request, key=account if key else "")

    def attempt() -> Session | None:
        if key:
            return office.accounts.sign_in_by_key(key, office.clock())
        return office.accounts.sign_in(name, password, office.clock())

    found = trying(request, office, account, attempt)
    if found is not None:
        request.state.principal = found.principal
    return found


@routes.post("/session")
def sign_in(request: Request, response: Response, office: TheOffice, body: SignIn) -> Me:
    """Begin a session, by password or by key."""
    if (body.key is None) == (body.name is None or body.password is None):
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "Show a name and password, or a key.")
    words = [item.get_secret_value() if item else "" for item in (body.password, body.key)]
    session = sign_in_with(request, office, body.name or "", *words)
    if session is None:
        raise Problem(HTTPStatus.UNAUTHORIZED, "Name, password or key is wrong.", reason="sign-in")
    begin(office, response, session)
    return _me(session.principal)


@routes.get("/session")
def me(principal: ThePrincipal) -> Me:
    """Say who is signed in."""
    return _me(principal)


@routes.delete("/session", status_code=HTTPStatus.NO_CONTENT)
def sign_out(request: Request, response: Response, office: TheOffice) -> None:
    """End the session."""
    if token := request.cookies.get(COOKIE):
        office.accounts.sign_out(token)
    response.delete_cookie(COOKIE)


# By a provider


@routes.get(
    "/session/oidc",
    response_class=RedirectResponse,
    status_code=HTTPStatus.SEE_OTHER,
    responses={HTTPStatus.BAD_GATEWAY: {"description": "The provider cannot be asked."}},
)
def leave(request: Request, office: TheOffice) -> Response:
    """Go to the provider of the settings to sign in there."""
    provider = _provider(office)
    state, login = office.accounts.leave(office.clock())
    try:
        address = provider.address(_callback(request), state, login)
    except Refused as error:
        raise Problem(HTTPStatus.BAD_GATEWAY, str(error), reason="provider") from None
    response = RedirectResponse(address, HTTPStatus.SEE_OTHER)
    response.set_cookie(
        _LOGIN,
        state,
        max_age=600,
        path=f"{API}/session/oidc",
        httponly=True,
        secure=office.settings.admin.certificate is not None,
        samesite="lax",
    )
    return response


@routes.get(
    "/session/oidc/callback",
    response_class=HTMLResponse,
    responses={HTTPStatus.BAD_GATEWAY: {"description": "The provider cannot be asked."}},
)
def come_back(
    request: Request,
    office: TheOffice,
    code: Annotated[str, Query(max_length=4096)] = "",
    state: Annotated[str, Query(max_length=128)] = "",
) -> Response:
    """Begin a session for whom the provider vouches for."""
    provider = _provider(office)
    ours = secrets.compare_digest(request.cookies.get(_LOGIN, "").encode(), state.encode())
    login = office.accounts.come_back(state, office.clock()) if state and ours else None
    if login is None or not code:
        raise Problem(
            HTTPStatus.BAD_REQUEST, "This sign-in is not under way; begin again.", reason="sign-in"
        )
    try:
        person = provider.person(_callback(request), code, login)
        session = office.accounts.sign_in_by_provider(
            person.subject, person.name, person.roles, office.clock()
        )
    except Refused as error:
        raise Problem(HTTPStatus.BAD_GATEWAY, str(error), reason="provider") from None
    except NameTaken as error:
        raise Problem(HTTPStatus.CONFLICT, str(error), reason="name") from None
    if session is None:
        raise Problem(HTTPStatus.FORBIDDEN, "This account is shut out.", reason="sign-in")
    request.state.principal = session.principal
    response = HTMLResponse(_ONWARD)
    begin(office, response, session)
    response.delete_cookie(_LOGIN, path=f"{API}/session/oidc")
    return response


_LOGIN = "sinusnode_login"
_ONWARD = (
    '<!DOCTYPE html><html lang="en"><title>Signed in</title>'
    '<meta http-equiv="refresh" content="0; url=/"><a href="/">Go on</a></html>'
)
"""A page of ours that leads on: the session's cookie is not sent along from another site."""


def _provider(office: Office) -> Provider:
    if not office.settings.oidc.issuer:
        raise missing("provider in the settings")
    return Provider(office.settings.oidc, office.clock)


def _callback(request: Request) -> str:
    return str(request.url_for("come_back"))


def _me(principal: Principal) -> Me:
    return Me(name=principal.name, roles=_sorted(principal.roles), csrf_token=principal.csrf)


# People


@routes.get("/users")
def users(office: TheOffice) -> list[UserView]:
    """List everybody who may sign in."""
    return [_user(item) for item in office.accounts.users()]


@routes.post("/users", status_code=HTTPStatus.CREATED)
def add_user(request: Request, office: TheOffice, body: NewUser) -> UserView:
    """Add somebody."""
    note(request, user=body.name, roles=" ".join(_sorted(body.roles)))
    try:
        made = office.accounts.add_user(
            body.name, body.roles, office.clock(), password=body.password.get_secret_value()
        )
    except NameTaken as error:
        raise Problem(HTTPStatus.CONFLICT, str(error), reason="name") from None
    return _user(made)


@routes.patch("/users/{user}")
def change_user(request: Request, office: TheOffice, user: Number, body: Change) -> UserView:
    """Change somebody's roles or password, or shut him out; his sessions end."""
    note(request, roles=" ".join(_sorted(body.roles)) if body.roles is not None else "")
    try:
        changed = office.accounts.change_user(
            user,
            roles=body.roles,
            active=body.active,
            password=body.password.get_secret_value() if body.password else None,
        )
    except LookupError as error:
        raise Problem(HTTPStatus.NOT_FOUND, str(error)) from None
    return _user(changed)


# Keys


@routes.get("/keys")
def keys(office: TheOffice) -> list[KeyView]:
    """List the API keys."""
    return [_key(item) for item in office.accounts.every_key()]


@routes.post("/keys", status_code=HTTPStatus.CREATED)
def add_key(request: Request, office: TheOffice, body: NewKey) -> MadeKey:
    """Make a key; its text is shown this once."""
    made, text = office.accounts.add_key(body.label, body.roles, office.clock(), days=body.days)
    note(request, key=made.prefix, roles=" ".join(_sorted(made.roles)))
    return MadeKey(**_key(made).model_dump(), key=text)


@routes.delete("/keys/{prefix}")
def revoke(office: TheOffice, prefix: Annotated[str, Field(max_length=16)]) -> KeyView:
    """Revoke a key, and end its sessions."""
    try:
        return _key(office.accounts.revoke(prefix, office.clock()))
    except LookupError:
        raise Problem(HTTPStatus.NOT_FOUND, "There is no such key.") from None


def _user(item: User) -> UserView:
    values = {name: getattr(item, name) for name in UserView.model_fields}
    return UserView(**values | {"roles": _sorted(item.roles)})


def _key(item: Key) -> KeyView:
    values = {name: getattr(item, name) for name in KeyView.model_fields}
    return KeyView(**values | {"roles": _sorted(item.roles)})


def _sorted(roles: Sequence[Role] | frozenset[Role]) -> list[Role]:
    return [role for role in Role if role in roles]
