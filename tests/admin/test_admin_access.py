"""Who gets in: the whole table of roles and routes, keys, sessions, limits and headers."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from office import HERE, PASSWORD, Desk, opened
from pydantic import ValidationError

from dicom_node.settings import Admin, Role
from training.admin import policy
from training.admin.access import COOKIE, CSRF_HEADER, router
from training.admin.limits import Bounds
from training.admin.policy import API, POLICY
from training.admin.problems import Problem

DAY = 86400.0
SAMPLES = {
    "user": "1", "instance": "1", "prefix": "abcdef", "name": "nowhere", "ae_title": "CART",
    "role": "sr", "upload": "0" * 16, "record": "0" * 32, "run": "1", "schedule": "1",
    "digest": "0" * 64,
}  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(tmp_path: Path, clock: Clock) -> Iterator[Desk]:
    with opened(tmp_path, clock=clock) as made:
        yield made


def user(desk: Desk, name: str = "anna", *roles: Role) -> None:
    desk.office.accounts.add_user(
        name, roles or [Role.VIEWER], desk.office.clock(), password=PASSWORD
    )


def signed_in(desk: Desk, name: str = "anna") -> str:
    """Sign in; return the token that the session's forms carry."""
    answer = desk.post("/session", json={"name": name, "password": PASSWORD})
    assert answer.status == 200, answer.text
    return str(answer.json["csrf_token"])


# The table

ROUTES = sorted((method, path) for method, path in POLICY if path.startswith(API))


def place(path: str) -> str:
    return path.removeprefix(API).format_map(SAMPLES)


def test_document_and_table_name_the_same_routes(desk: Desk) -> None:
    document = desk.get("/openapi.json", Role.VIEWER).json
    routes = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert routes == set(ROUTES) - {("GET", f"{API}/openapi.json")}


@pytest.mark.parametrize("role", list(Role))
def test_each_role_may_do_exactly_what_the_table_says(desk: Desk, role: Role) -> None:
    for method, path in ROUTES:
        answer = desk.ask(method, place(path), role)
        admitted = POLICY[method, path].admits([role])
        assert answer.status < 500, (method, path, answer.text)
        if admitted:
            assert answer.status != 403, (method, path, answer.text)
            public = POLICY[method, path].roles is None
            assert public or answer.status != 401, (method, path, answer.text)
        else:
            assert answer.status == 403, (method, path, answer.text)
            assert answer.json["type"].endswith(":role")


def test_without_a_good_key_nothing_opens(desk: Desk, clock: Clock) -> None:
    accounts = desk.office.accounts
    revoked, text_of_revoked = accounts.add_key("gone", list(Role), clock())
    accounts.revoke(revoked.prefix, clock())
    _, short = accounts.add_key("short", list(Role), clock(), days=1)
    clock.now += 2 * DAY
    wrong = f"sn_{revoked.prefix}_{'A' * 43}"
    for method, path in ROUTES:
        if POLICY[method, path].roles is None:
            continue
        for key in (None, wrong, text_of_revoked, short):
            answer = desk.ask(method, place(path), key)
            assert answer.status == 401, (method, path, key)
            assert "www-authenticate" in answer.headers


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer nonsense", "Bearer sn__", "Basic YTpi", "Bearer \xff"],
)
def test_header_that_is_no_key_opens_nothing(desk: Desk, header: str) -> None:
    answer = desk.get("/status", headers={"Authorization": header.encode("latin-1")})
    assert answer.status == 401


def test_route_that_the_table_does_not_know_cannot_be_made() -> None:
    routes = router("/new", "new")
    with pytest.raises(LookupError, match=r"not in training\.admin\.policy"):
        routes.get("/thing")(lambda: None)


def test_roles_are_as_the_design_divides_them() -> None:
    def may(role: Role, name: str) -> bool:
        method, path = name.split(" ")
        return POLICY[method, API + path].admits([role])

    assert [role for role in Role if may(role, "GET /recordings/{instance}/patient")] == [
        Role.OPERATOR
    ]
    assert [role for role in Role if may(role, "POST /models/{digest}/promote")] == [Role.ADMIN]
    assert [role for role in Role if may(role, "POST /runs")] == [Role.TRAINER]
    assert [role for role in Role if may(role, "POST /recordings/{instance}/labels")] == [
        Role.REVIEWER
    ]
    assert not may(Role.ADMIN, "GET /recordings")
    assert not may(Role.VIEWER, "GET /recordings/{instance}")
    assert all(rule.event for (method, _), rule in POLICY.items() if method != "GET")
    assert policy.rule_of("GET", f"{API}/status").admits([Role.VIEWER])


# Keys


def test_key_is_shown_once_and_kept_as_argon2id(desk: Desk) -> None:
    body = {"label": "robot", "roles": ["viewer"], "days": 30}
    made = desk.post("/keys", Role.ADMIN, json=body).json
    assert len(made["key"].split("_", 2)[2]) == 43  # 256 bits, Base64
    assert desk.get("/status", made["key"]).status == 200
    listed = desk.get("/keys", Role.ADMIN)
    secret = made["key"].split("_", 2)[2]
    assert secret not in listed.text
    rows = (desk.office.settings.storage.folder / "ledger.sqlite").read_bytes()
    wal = desk.office.settings.storage.folder / "ledger.sqlite-wal"
    kept = rows + (wal.read_bytes() if wal.exists() else b"")
    assert b"$argon2id$" in kept
    assert secret.encode() not in kept


def test_key_lasts_at_most_a_year(desk: Desk) -> None:
    body = {"label": "robot", "roles": ["viewer"], "days": 366}
    assert desk.post("/keys", Role.ADMIN, json=body).status == 422


def test_revoked_key_opens_nothing_any_more(desk: Desk) -> None:
    made = desk.post("/keys", Role.ADMIN, json={"label": "robot", "roles": ["viewer"]}).json
    assert desk.get("/status", made["key"]).status == 200
    assert desk.ask("DELETE", f"/keys/{made['prefix']}", Role.ADMIN).status == 200
    assert desk.get("/status", made["key"]).status == 401


def test_first_start_makes_one_key_for_a_day_and_no_second(desk: Desk, clock: Clock) -> None:
    accounts = desk.office.accounts
    for key in accounts.every_key():
        accounts.revoke(key.prefix, clock())
    first = accounts.first_key(clock())
    assert first is not None
    assert accounts.first_key(clock()) is None
    assert desk.get("/users", first).status == 200
    clock.now += 1.1 * DAY
    assert desk.get("/users", first).status == 401
    assert accounts.first_key(clock()) is not None


# Sessions


def test_session_needs_its_token_for_whatever_changes_something(desk: Desk) -> None:
    user(desk, "anna", Role.ADMIN)
    token = signed_in(desk)
    body = {"label": "robot", "roles": ["viewer"]}
    assert desk.get("/users").status == 200
    bare = desk.post("/keys", json=body)
    assert (bare.status, bare.json["type"]) == (403, "urn:sinusnode:problem:csrf")
    wrong = desk.post("/keys", json=body, headers={CSRF_HEADER: "x" * len(token)})
    assert wrong.status == 403
    assert desk.post("/keys", json=body, headers={CSRF_HEADER: token}).status == 201


def test_request_from_another_site_is_refused_even_with_the_token(desk: Desk) -> None:
    user(desk, "anna", Role.ADMIN)
    headers = {CSRF_HEADER: signed_in(desk), "Origin": "https://elsewhere.example"}
    answer = desk.post("/keys", json={"label": "robot", "roles": ["viewer"]}, headers=headers)
    assert (answer.status, answer.json["type"]) == (403, "urn:sinusnode:problem:origin")
    headers["Origin"] = HERE
    body = {"label": "robot", "roles": ["viewer"]}
    assert desk.post("/keys", json=body, headers=headers).status == 201


def test_cookie_is_kept_from_scripts_and_other_sites(desk: Desk) -> None:
    user(desk)
    answer = desk.post("/session", json={"name": "anna", "password": PASSWORD})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()


def test_session_ends_by_signing_out_idling_and_age(desk: Desk, clock: Clock) -> None:
    user(desk)
    token = signed_in(desk)
    assert desk.ask("DELETE", "/session", headers={CSRF_HEADER: token}).status == 204
    assert desk.get("/session").status == 401
    signed_in(desk)
    clock.now += 3700.0
    assert desk.get("/session").status == 401
    signed_in(desk)
    for _ in range(13):
        clock.now += 3500.0
        last = desk.get("/session").status
    assert last == 401


def test_somebody_shut_out_loses_his_session_at_once(desk: Desk) -> None:
    user(desk)
    signed_in(desk)
    assert desk.get("/session").json["roles"] == ["viewer"]
    assert desk.ask("PATCH", "/users/1", Role.ADMIN, json={"active": False}).status == 200
    assert desk.get("/session").status == 401
    refused = desk.post("/session", json={"name": "anna", "password": PASSWORD})
    assert refused.status == 401


def test_answers_do_not_tell_whether_a_name_exists(desk: Desk) -> None:
    user(desk)
    wrong = {"password": "x" * 12}
    known = desk.post("/session", json={"name": "anna", **wrong})
    unknown = desk.post("/session", json={"name": "nobody", **wrong})
    assert (known.status, known.json) == (unknown.status, unknown.json)


# Limits


def test_who_fails_too_often_is_locked_out_for_a_while(tmp_path: Path) -> None:
    strict = Admin(failures_per_address=3, lock_out=60.0)
    with opened(tmp_path, admin=strict) as desk:
        user(desk)
        wrong = {"name": "anna", "password": "x" * 12}
        assert [desk.post("/session", json=wrong).status for _ in range(4)] == [401, 401, 401, 429]
        right = desk.post("/session", json={"name": "anna", "password": PASSWORD})
        assert right.status == 429
        assert 0 < int(right.headers["retry-after"]) <= 60


def test_one_account_is_locked_wherever_the_failures_come_from(tmp_path: Path) -> None:
    strict = Admin(failures_per_address=1000, failures_per_account=3)
    with opened(tmp_path, admin=strict) as desk:
        user(desk)
        user(desk, "otto")
        for _ in range(3):
            desk.post("/session", json={"name": "anna", "password": "x" * 12})
        assert desk.post("/session", json={"name": "anna", "password": PASSWORD}).status == 429
        assert desk.post("/session", json={"name": "otto", "password": PASSWORD}).status == 200


def test_an_account_may_only_ask_so_often(tmp_path: Path) -> None:
    with opened(tmp_path, admin=Admin(requests_per_minute=5)) as desk:
        statuses = [desk.get("/status", Role.VIEWER).status for _ in range(7)]
        assert 429 in statuses
        assert desk.get("/status", Role.TRAINER).status == 200


def test_gibibyte_is_refused_before_it_is_read(desk: Desk) -> None:
    def endless() -> Iterator[bytes]:
        yield b"{"
        raise AssertionError("the body was asked for")

    headers = {"Content-Length": str(2**30)}
    answer = desk.post("/users", Role.ADMIN, content=endless(), headers=headers)
    assert answer.status == 413
    assert "larger than" in answer.detail


def test_body_that_does_not_say_its_length_is_cut_off(desk: Desk) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(2**9):
            yield b" " * 2**16

    answer = desk.post("/keys", Role.ADMIN, content=endless())
    assert answer.status == 413


def test_compressed_body_is_not_unpacked(desk: Desk) -> None:
    body = gzip.compress(b" " * 2**24)
    answer = desk.post("/keys", Role.ADMIN, content=body, headers={"Content-Encoding": "gzip"})
    assert answer.status == 422


def test_body_that_comes_too_slowly_is_given_up() -> None:
    sent: list[dict[str, Any]] = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        await receive()

    async def never() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    bounds = Bounds(app, bytes_of=lambda _method, _path: 10, deadline=0.01, secure=False)
    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    with pytest.raises(Problem) as refused:
        asyncio.run(bounds(scope, never, send))
    assert refused.value.status == 408


@pytest.mark.parametrize("length", ["-1", "1e9", "١", "9" * 5000])
def test_length_that_is_none_is_refused(desk: Desk, length: str) -> None:
    headers = {"Content-Length": length.encode()}
    answer = desk.post("/keys", Role.ADMIN, content=b"", headers=headers)
    assert answer.status in {400, 413}


def test_other_host_names_are_not_answered_to(desk: Desk) -> None:
    answer = desk.get("/status", Role.VIEWER, headers={"Host": "rebound.example"})
    assert answer.status == 400


@pytest.mark.parametrize("path", ["/status", "/nothing", "/keys"])
def test_every_answer_carries_its_security_headers(desk: Desk, path: str) -> None:
    headers = desk.get(path).headers
    security = headers["content-security-policy"]
    assert "default-src 'none'" in security
    assert "unsafe" not in security
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    assert headers["content-type"] == "application/problem+json"


def test_open_port_without_tls_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"would be open on 0\.0\.0\.0 without TLS"):
        Admin(host="0.0.0.0")
    secure = Admin(host="0.0.0.0", certificate=Path("a.pem"), private_key=Path("a.key"))
    assert secure.host == "0.0.0.0"


def test_settings_are_shown_without_secrets(tmp_path: Path) -> None:
    with opened(tmp_path, stow={"token": "a secret of enough letters"}) as desk:
        answer = desk.get("/settings", Role.ADMIN)
        assert answer.status == 200
        assert "secret of enough" not in answer.text


# Idempotency


def test_same_key_does_it_once_and_answers_twice(desk: Desk) -> None:
    plan = {"name": "nightly", "keys": ["atrial_fibrillation"]}
    headers = {"Idempotency-Key": "one"}
    first = desk.post("/runs", Role.TRAINER, json={"plan": plan}, headers=headers)
    again = desk.post("/runs", Role.TRAINER, json={"plan": plan}, headers=headers)
    assert (first.status, first.json) == (again.status, again.json) == (201, first.json)
    assert again.headers["idempotency-replayed"] == "true"
    assert len(desk.get("/runs", Role.TRAINER).json) == 1


def test_same_key_for_something_else_is_refused(desk: Desk) -> None:
    headers = {"Idempotency-Key": "one"}
    for name, status in (("a", 201), ("b", 422)):
        body = {"plan": {"name": name, "keys": ["atrial_fibrillation"]}}
        assert desk.post("/runs", Role.TRAINER, json=body, headers=headers).status == status


def test_what_was_refused_may_be_asked_again_under_its_key(desk: Desk) -> None:
    headers = {"Idempotency-Key": "one"}
    assert desk.post("/runs", Role.TRAINER, json={"plan": {}}, headers=headers).status == 422
    assert desk.post("/runs", Role.TRAINER, json={"plan": {}}, headers=headers).status == 422


def test_secret_is_not_kept_for_an_idempotency_key(desk: Desk) -> None:
    body = {"label": "robot", "roles": ["viewer"]}
    answer = desk.post("/keys", Role.ADMIN, json=body, headers={"Idempotency-Key": "one"})
    assert answer.status == 400
    assert desk.office.accounts.every_key()[0].label != "robot"


# The audit trail


def test_every_action_and_every_refusal_is_a_row_and_the_chain_holds(desk: Desk) -> None:
    before = len(desk.events())
    actions = 30
    for number in range(actions):
        body = {"name": f"user{number}", "password": PASSWORD, "roles": ["viewer"]}
        assert desk.post("/users", Role.ADMIN, json=body).status == 201
    assert desk.post("/users", Role.VIEWER, json={}).status == 403
    assert desk.get("/users", "wrong").status == 401
    rows = desk.office.ledger.trail()[before:]
    assert [row["event"] for row in rows] == ["user-create"] * actions + ["user-create"] + [
        "turned-away"
    ]
    assert json.loads(rows[0]["detail"])["by"] == "key admin"
    assert rows[-2]["reason"] == "Forbidden"
    assert desk.get("/audit/verification", Role.ADMIN).json["ok"] is True


def test_altered_row_is_found(desk: Desk) -> None:
    desk.post("/users", Role.ADMIN, json={"name": "a", "password": PASSWORD, "roles": ["viewer"]})
    with desk.office.ledger.transaction() as connection:
        connection.exec_driver_sql("UPDATE audit SET detail = '{}' WHERE id = 1")
    found = desk.get("/audit/verification", Role.ADMIN).json
    assert found["ok"] is False
    assert "row 1 was altered" in found["problems"][0]


def test_passwords_and_keys_enter_neither_audit_nor_answers(desk: Desk) -> None:
    canary = "canary-password"
    desk.post("/users", Role.ADMIN, json={"name": "a", "password": canary, "roles": ["viewer"]})
    desk.post("/session", json={"name": canary, "password": canary})
    desk.post("/users", Role.ADMIN, json={"name": "b", "password": canary, "roles": [canary]})
    assert canary not in json.dumps(desk.office.ledger.trail())
