"""Sign-in by an OpenID Connect provider: a small real one, honest and otherwise."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from office import Answer, Desk, opened

from training.admin.access import COOKIE

KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
OTHER = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
SECRET = "the client's secret"


class Provider(ThreadingHTTPServer):
    """What the provider knows, and how it lies."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Doors)
        self.issuer = f"http://127.0.0.1:{self.server_port}/realm"
        self.asked: list[dict[str, list[str]]] = []
        self.nonce = ""
        self.claims: dict[str, Any] = {}
        self.key = KEY
        self.says_it_is: str | None = None

    def token(self) -> str:
        """Return an ID token of this moment."""
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": "sinusnode", "sub": "4711", "iat": now, "exp": now + 60,
            "nonce": self.nonce, "preferred_username": "anna", "roles": ["cardiology"],
        }  # fmt: skip
        return jwt.encode({"alg": "RS256", "kid": "one"}, claims | self.claims, self.key)


class Doors(BaseHTTPRequestHandler):
    """The provider's addresses."""

    server: Provider

    def do_GET(self) -> None:
        issuer = self.server.issuer
        if self.path.endswith("/.well-known/openid-configuration"):
            self._say(
                {
                    "issuer": self.server.says_it_is or issuer,
                    "authorization_endpoint": f"{issuer}/authorize",
                    "token_endpoint": f"{issuer}/token",
                    "jwks_uri": f"{issuer}/keys",
                }
            )
        else:
            self._say({"keys": [KEY.as_dict(private=False)]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.asked.append(parse_qs(body))
        self._say({"access_token": "x", "token_type": "Bearer", "id_token": self.server.token()})

    def _say(self, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def desk(tmp_path: Path, provider: Provider) -> Iterator[Desk]:
    secret = tmp_path / "client-secret"
    secret.write_text(SECRET)
    oidc = {
        "issuer": provider.issuer,
        "client_secret_file": secret,
        "roles": {"cardiology": ["reviewer", "trainer"], "it": ["admin"]},
    }
    with opened(tmp_path / "data", oidc=oidc) as made:
        yield made


def leave(desk: Desk, provider: Provider) -> dict[str, str]:
    """Go to the provider; return what the browser brings back from there."""
    answer = desk.get("/session/oidc", follow_redirects=False)
    assert answer.status == 303, answer.text
    place = urlsplit(answer.headers["location"])
    asked = {name: words[0] for name, words in parse_qs(place.query).items()}
    assert f"{place.scheme}://{place.netloc}{place.path}" == f"{provider.issuer}/authorize"
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"].endswith("/api/v1/session/oidc/callback")
    provider.nonce = asked["nonce"]
    return {"state": asked["state"], "code": "the code"}


def come_back(desk: Desk, brought: dict[str, str]) -> Answer:
    return desk.get("/session/oidc/callback", params=brought)


def test_somebody_the_provider_vouches_for_has_the_roles_of_his_groups(
    desk: Desk, provider: Provider
) -> None:
    answer = come_back(desk, leave(desk, provider))
    assert answer.status == 200, answer.text
    assert COOKIE in answer.headers["set-cookie"]
    me = desk.get("/session").json
    assert (me["name"], me["roles"]) == ("anna", ["reviewer", "trainer"])
    (asked,) = provider.asked
    assert asked["code"] == ["the code"]
    assert len(asked["code_verifier"][0]) >= 43
    assert desk.events()[-1] == "sign-in"


def test_roles_are_those_of_today(desk: Desk, provider: Provider) -> None:
    come_back(desk, leave(desk, provider))
    provider.claims = {"roles": ["it"], "preferred_username": "anna-maria"}
    come_back(desk, leave(desk, provider))
    assert desk.get("/session").json["roles"] == ["admin"]
    (user,) = desk.get("/users").json
    assert (user["name"], user["by_provider"]) == ("anna", True)
    provider.claims = {"roles": ["kitchen"]}
    come_back(desk, leave(desk, provider))
    assert desk.get("/session").json["roles"] == []


@pytest.mark.parametrize(
    "lie",
    [
        {"iss": "http://elsewhere"}, {"aud": "another"}, {"exp": 1}, {"nonce": "another"},
        {"sub": None}, {"exp": None},
    ],
)  # fmt: skip
def test_token_that_does_not_hold_opens_nothing(
    desk: Desk, provider: Provider, lie: dict[str, object]
) -> None:
    brought = leave(desk, provider)
    provider.claims = lie
    answer = come_back(desk, brought)
    assert answer.status == 502
    assert "does not hold" in answer.detail
    assert desk.get("/session").status == 401


def test_token_of_another_key_opens_nothing(desk: Desk, provider: Provider) -> None:
    brought = leave(desk, provider)
    provider.key = OTHER
    assert come_back(desk, brought).status == 502


def test_provider_that_says_it_is_another_one_is_not_asked(desk: Desk, provider: Provider) -> None:
    provider.says_it_is = "http://elsewhere"
    answer = desk.get("/session/oidc", follow_redirects=False)
    assert (answer.status, answer.detail) == (502, "The provider says that it is another one.")


def test_sign_in_counts_once_and_only_in_the_browser_that_began_it(
    desk: Desk, provider: Provider
) -> None:
    brought = leave(desk, provider)
    cookie = desk.client.cookies.get("sinusnode_login")
    desk.client.cookies.clear()
    assert come_back(desk, brought).status == 400
    desk.client.cookies.set("sinusnode_login", cookie or "")
    assert come_back(desk, brought).status == 200
    desk.client.cookies.set("sinusnode_login", cookie or "")
    assert come_back(desk, brought).status == 400


def test_somebody_shut_out_here_stays_out(desk: Desk, provider: Provider) -> None:
    come_back(desk, leave(desk, provider))
    desk.office.accounts.change_user(1, active=False)
    assert come_back(desk, leave(desk, provider)).status == 403
    assert desk.get("/session").status == 401


def test_name_of_a_user_of_ours_is_not_taken_over(desk: Desk, provider: Provider) -> None:
    desk.office.accounts.add_user("anna", [], 0.0, password="twelve or more")
    assert come_back(desk, leave(desk, provider)).status == 409


def test_provider_that_does_not_answer_is_a_sentence(tmp_path: Path) -> None:
    with opened(tmp_path, oidc={"issuer": "http://127.0.0.1:9/realm"}) as desk:
        answer = desk.get("/session/oidc", follow_redirects=False)
        assert (answer.status, "does not answer" in answer.detail) == (502, True)


def test_without_a_provider_there_is_no_such_way(tmp_path: Path) -> None:
    with opened(tmp_path) as desk:
        assert desk.get("/session/oidc").status == 404
