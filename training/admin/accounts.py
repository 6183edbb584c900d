"""People, API keys and sessions: who somebody is, told from what he shows.

Secrets are kept as argon2id hashes (RFC 9106), cookies as SHA-256 of 256 random bits. Whether a
name or a key exists can be told neither from an answer nor from the time that it takes.
"""

import hashlib
import hmac
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from sqlalchemy.exc import IntegrityError

from dicom_node.ledger import Ledger
from dicom_node.settings import Admin, Role
from training.admin.tables import keys, logins, sessions, users

DAY: Final = 86400.0
SHORTEST_PASSWORD: Final = 12
FIRST: Final = "first start"
"""Label of the key that a new installation prints."""

_hasher: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_KEY_MARK: Final = "sn"
_SEEN_EVERY: Final = 60.0  # seconds: a request alone is no reason to write
_REMEMBERED: Final = 256
_LOGIN_LASTS: Final = 600.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks, and what he may."""

    name: str
    account: str
    """What limits and idempotency keys are counted by."""
    roles: frozenset[Role]
    csrf: str | None = None
    """What a form of this session must carry; None for an API key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person."""

    id: int
    name: str
    roles: frozenset[Role]
    active: bool
    by_provider: bool
    """Whether an OpenID Connect provider vouches for him; he has no password then."""
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An API key, without its secret."""

    prefix: str
    label: str
    roles: frozenset[Role]
    created_at: float
    expires_at: float
    revoked_at: float | None
    used_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A browser that has just signed in."""

    token: str
    """For its cookie; kept nowhere."""
    principal: Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What was agreed with a provider before somebody went there."""

    nonce: str
    verifier: str


class NameTaken(ValueError):
    """Another user has this name."""


class Accounts:
    """The users, keys and sessions of one ledger.

    Parameters
    ----------
    ledger
        With the tables of :mod:`training.admin.tables`.
    settings
        How long keys and sessions last.
    """

    def __init__(self, ledger: Ledger, settings: Admin) -> None:
        self.ledger = ledger
        self._settings = settings
        self._proof = _Proof()

    # Users

    def users(self) -> tuple[User, ...]:
        """Return every user, in the order of their names."""
        return tuple(map(_user, self._rows(users.select().order_by(users.c.name))))

    def add_user(self, name: str, roles: Iterable[Role], now: float, *, password: str) -> User:
        """Return a new user who signs in by password. Raises NameTaken."""
        return self._add(now, name=name, roles=_words(roles), password=_hasher.hash(password))

    def _add(self, now: float, **values: Any) -> User:
        insert = users.insert().values(active=True, created_at=now, **values).returning(users)
        try:
            with self.ledger.transaction() as connection:
                return _user(dict(connection.execute(insert).mappings().one()))
        except IntegrityError:
            raise NameTaken(f"There is a user {values['name']} already.") from None

    def change_user(
        self,
        number: int,
        *,
        roles: Iterable[Role] | None = None,
        active: bool | None = None,
        password: str | None = None,
    ) -> User:
        """Return the user as changed; his sessions end. Raises LookupError where there is none."""
        values: dict[str, Any] = {
            "roles": None if roles is None else _words(roles),
            "active": active,
            "password": None if password is None else _hasher.hash(password),
        }
        values = {name: value for name, value in values.items() if value is not None}
        with self.ledger.transaction() as connection:
            connection.execute(sessions.delete().where(sessions.c.user_id == number))
            change = users.update().where(users.c.id == number).values(id=number, **values)
            row = connection.execute(change.returning(users)).mappings().one_or_none()
        if row is None:
            raise LookupError(f"There is no user {number}.")
        return _user(dict(row))

    # Keys

    def every_key(self) -> tuple[Key, ...]:
        """Return every key, the newest first."""
        return tuple(map(_key, self._rows(keys.select().order_by(keys.c.created_at.desc()))))

    def add_key(
        self, label: str, roles: Iterable[Role], now: float, *, days: float | None = None
    ) -> tuple[Key, str]:
        """Return a new key and its text of 256 random bits, which is kept nowhere."""
        prefix, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        insert = keys.insert().values(
            prefix=prefix,
            secret=_hasher.hash(secret),
            label=label,
            roles=_words(roles),
            created_at=now,
            expires_at=now + DAY * (days or self._settings.key_days),
        )
        with self.ledger.transaction() as connection:
            row = connection.execute(insert.returning(keys)).mappings().one()
        return _key(dict(row)), f"{_KEY_MARK}_{prefix}_{secret}"

    def revoke(self, prefix: str, now: float) -> Key:
        """Return the key, which opens nothing any more, nor do its sessions."""
        change = keys.update().where(keys.c.prefix == prefix).values(revoked_at=now)
        with self.ledger.transaction() as connection:
            connection.execute(sessions.delete().where(sessions.c.key == prefix))
            row = connection.execute(change.returning(keys)).mappings().one_or_none()
        if row is None:
            raise LookupError(f"There is no key {prefix}.")
        return _key(dict(row))

    def first_key(self, now: float) -> str | None:
        """Return a key for a day where nobody could sign in as admin; None where somebody can."""
        everybody: list[User | Key] = [*self.users(), *self.every_key()]
        if any(Role.ADMIN in item.roles and _lives(item, now) for item in everybody):
            return None
        return self.add_key(FIRST, [Role.ADMIN], now, days=1.0)[1]

    # Who somebody is

    def bearer(self, text: str, now: float) -> Principal | None:
        """Return whose key this is; None for one that is wrong, revoked or past its end."""
        prefix, secret = split_key(text)
        row = next(iter(self._rows(keys.select().where(keys.c.prefix == prefix))), None)
        proven = self._proof.proves(secret, None if row is None else row["secret"])
        if row is None or not proven or not _lives(key := _key(row), now):
            return None
        if now - (row["used_at"] or 0.0) > _SEEN_EVERY:
            self._change(keys.update().where(keys.c.prefix == prefix).values(used_at=now))
        return Principal(name=f"key {key.label}", account=f"key {prefix}", roles=key.roles)

    def sign_in(self, name: str, password: str, now: float) -> Session | None:
        """Return a session for whoever knows this password."""
        row = next(iter(self._rows(users.select().where(users.c.name == name))), None)
        proven = self._proof.proves(password, None if row is None else row["password"])
        if row is None or not proven or not row["active"]:
            return None
        return self._begin(now, user_id=row["id"])

    def sign_in_by_key(self, text: str, now: float) -> Session | None:
        """Return a session for whoever holds this key; it ends with the key."""
        if self.bearer(text, now) is None:
            return None
        return self._begin(now, key=split_key(text)[0])

    def sign_in_by_provider(
        self, subject: str, name: str, roles: Iterable[Role], now: float
    ) -> Session | None:
        """Return a session for somebody whom the provider vouches for, with his roles of today.

        None for one whom an admin shut out. Raises NameTaken where a user of our own has the name.
        """
        row = next(iter(self._rows(users.select().where(users.c.subject == subject))), None)
        if row is None:
            user = self._add(now, name=name, roles=_words(roles), subject=subject)
            return self._begin(now, user_id=user.id)
        if not row["active"]:
            return None
        change = users.update().where(users.c.id == row["id"]).values(roles=_words(roles))
        self._change(change)
        return self._begin(now, user_id=row["id"])

    def _begin(self, now: float, **whose: Any) -> Session:
        token, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        digest = _digest(token)
        old = sessions.c.started_at < now - self._settings.session_longest
        with self.ledger.transaction() as connection:
            connection.execute(sessions.delete().where(old))
            connection.execute(
                sessions.insert().values(
                    digest=digest, csrf=csrf, started_at=now, seen_at=now, **whose
                )
            )
        principal = self.session(token, now)
        assert principal is not None  # noqa: S101 - it was just begun
        return Session(token=token, principal=principal)

    def session(self, token: str, now: float) -> Principal | None:
        """Return whose session a cookie names; None where it is over."""
        query = (
            sa.select(sessions, users.c.name, users.c.roles, users.c.active)
            .outerjoin(users, users.c.id == sessions.c.user_id)
            .where(sessions.c.digest == _digest(token))
        )
        row = next(iter(self._rows(query)), None)
        if row is None or self._is_over(row, now):
            return None
        if now - row["seen_at"] > _SEEN_EVERY:
            mine = sessions.c.digest == row["digest"]
            self._change(sessions.update().where(mine).values(seen_at=now))
        return self._of_key(row, now) if row["key"] else _of_user(row)

    def _is_over(self, row: dict[str, Any], now: float) -> bool:
        idle, longest = self._settings.session_idle, self._settings.session_longest
        return bool(now - row["seen_at"] > idle or now - row["started_at"] > longest)

    def _of_key(self, row: dict[str, Any], now: float) -> Principal | None:
        (found,) = self._rows(keys.select().where(keys.c.prefix == row["key"]))
        key = _key(found)
        if not _lives(key, now):
            return None
        return Principal(
            name=f"key {key.label}",
            account=f"key {key.prefix}",
            roles=key.roles,
            csrf=row["csrf"],
        )

    def sign_out(self, token: str) -> None:
        """End a session."""
        self._change(sessions.delete().where(sessions.c.digest == _digest(token)))

    # Sign-ins under way elsewhere

    def leave(self, now: float) -> tuple[str, Login]:
        """Return the state under which somebody goes to a provider, and what was agreed."""
        state, login = (
            secrets.token_urlsafe(32),
            Login(nonce=secrets.token_urlsafe(32), verifier=secrets.token_urlsafe(48)),
        )
        with self.ledger.transaction() as connection:
            connection.execute(logins.delete().where(logins.c.at < now - _LOGIN_LASTS))
            connection.execute(
                logins.insert().values(
                    state=_digest(state), nonce=login.nonce, verifier=login.verifier, at=now
                )
            )
        return state, login

    def come_back(self, state: str, now: float) -> Login | None:
        """Return what was agreed under a state, once; None for one that is unknown or old."""
        take = logins.delete().where(
            logins.c.state == _digest(state), logins.c.at >= now - _LOGIN_LASTS
        )
        with self.ledger.transaction() as connection:
            row = connection.execute(take.returning(logins)).one_or_none()
        return None if row is None else Login(nonce=row.nonce, verifier=row.verifier)

    def _rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        names = [column.name for column in query.selected_columns]
        return [dict(zip(names, row, strict=True)) for row in self.ledger.query(query)]

    def _change(self, statement: sa.Executable) -> None:
        with self.ledger.transaction() as connection:
            connection.execute(statement)


class _Proof:
    """Checks secrets against their hashes; what was proven is not computed again."""

    def __init__(self) -> None:
        self._nobody = _hasher.hash(secrets.token_urlsafe(32))
        self._salt = secrets.token_bytes(32)
        self._proven: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()

    def proves(self, secret: str, stored: str | None) -> bool:
        """Return whether a secret belongs to a hash; no hash takes as long as a wrong one."""
        known = hmac.digest(self._salt, f"{stored}\n{secret}".encode(), "sha256")
        with self._lock:
            if known in self._proven:
                return True
        try:
            _hasher.verify(stored or self._nobody, secret)
        except (Argon2Error, InvalidHashError):
            return False
        with self._lock:
            self._proven[known] = None
            if len(self._proven) > _REMEMBERED:
                self._proven.popitem(last=False)
        return stored is not None


def split_key(text: str) -> tuple[str, str]:
    """Return prefix and secret of a key; empty words where it is none."""
    mark, _, rest = text.partition("_")
    prefix, _, secret = rest.partition("_")
    return (prefix[:16], secret) if mark == _KEY_MARK else ("", text)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _words(roles: Iterable[Role]) -> str:
    given = frozenset(roles)
    return " ".join(role for role in Role if role in given)


def _roles(text: str) -> frozenset[Role]:
    return frozenset(map(Role, text.split()))


def _lives(item: User | Key, now: float) -> bool:
    if isinstance(item, User):
        return item.active
    return item.revoked_at is None and now < item.expires_at


def _user(row: dict[str, Any]) -> User:
    return User(
        id=row["id"],
        name=row["name"],
        roles=_roles(row["roles"]),
        active=row["active"],
        by_provider=row["subject"] is not None,
        created_at=row["created_at"],
    )


def _key(row: dict[str, Any]) -> Key:
    plain = {name: row[name] for name in Key.__dataclass_fields__ if name != "roles"}
    return Key(roles=_roles(row["roles"]), **plain)


def _of_user(row: dict[str, Any]) -> Principal | None:
    if not row["active"]:
        return None
    return Principal(
        name=row["name"],
        account=f"user {row['user_id']}",
        roles=_roles(row["roles"]),
        csrf=row["csrf"],
    )
