"""An admin service in the tests' own process, with a key for each role."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from argon2 import PasswordHasher
from starlette.testclient import TestClient

from dicom_node.settings import Admin, Role, Settings, Storage
from training.admin import accounts
from training.admin.access import Office
from training.admin.app import create_app

HERE = "http://127.0.0.1:8105"
PASSWORD = "twelve or more"
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Hashes that cost nothing; what the service's own cost is not to be waited for in each test."""
FREE = Admin(
    failures_per_address=100_000, failures_per_account=100_000, requests_per_minute=1_000_000
)
"""Settings that count nothing."""


class Desk:
    """A running service, asked as somebody."""

    def __init__(self, client: TestClient, office: Office) -> None:
        self.client = client
        self.office = office
        self.keys = {
            role: office.accounts.add_key(str(role), [role], office.clock())[1] for role in Role
        }

    def ask(self, method: str, path: str, who: Role | str | None = None, **how: Any) -> "Answer":
        """Return the answer to a request below `/api/v1`, as a role, by a key, or as nobody."""
        key = self.keys.get(who, who) if who is not None else None  # type: ignore[call-overload]
        headers = dict(how.pop("headers", {}))
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        answer = self.client.request(method, f"/api/v1{path}", headers=headers, **how)
        return Answer(answer.status_code, answer)

    def get(self, path: str, who: Role | str | None = None, **how: Any) -> "Answer":
        """Ask for something."""
        return self.ask("GET", path, who, **how)

    def post(self, path: str, who: Role | str | None = None, **how: Any) -> "Answer":
        """Have something done."""
        return self.ask("POST", path, who, **how)

    def events(self) -> list[str]:
        """Return what the audit trail names, the oldest first."""
        return [row["event"] for row in self.office.ledger.trail()]


class Answer:
    """What came back."""

    def __init__(self, status: int, response: Any) -> None:
        self.status = status
        self.headers: Mapping[str, str] = response.headers
        self.text: str = response.text
        self.content: bytes = response.content
        self._response = response

    @property
    def json(self) -> Any:
        """The document."""
        return self._response.json()

    @property
    def detail(self) -> str:
        """The sentence of a refusal."""
        assert self.headers["content-type"] == "application/problem+json", self.text
        return str(self.json["detail"])


@contextmanager
def opened(
    folder: Path, *, clock: Callable[[], float] = time.time, **sections: Any
) -> Iterator[Desk]:
    """Yield a service over a data folder; `sections` are those of its settings."""
    storage = Storage(folder=folder, free_bytes=0, free_fraction=0.0)
    settings = Settings(**{"storage": storage, "admin": FREE} | sections)
    app = create_app(settings, clock=clock)
    with (
        patch.object(accounts, "_hasher", QUICK),
        TestClient(app, base_url=HERE, raise_server_exceptions=False) as client,
    ):
        yield Desk(client, app.state.office)
