"""What a hostile network sends to the real process: large, fast, slow, crooked (T16, T18)."""

import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from bad_models import WHOLE, without_card
from service import Process

pytestmark = pytest.mark.slow

MEBIBYTE = 2**20
ROOM = 100 * MEBIBYTE
"""What an upload may add to the memory of the service (RELIABILITY T16)."""
BURST = 1000
UPLOADS = "/api/v1/uploads"


class Service:
    """A running service, and a way to ask it as somebody."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.folder = process.folder / "data"
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{process.port}", trust_env=False)
        process.wait(self.client)
        self.admin = {"Authorization": f"Bearer {process.first_key}"}

    def key(self, role: str) -> dict[str, str]:
        body = {"label": role, "roles": [role]}
        made = self.client.post("/api/v1/keys", headers=self.admin, json=body)
        return {"Authorization": f"Bearer {made.json()['key']}"}

    def answers(self) -> bool:
        return self.client.get("/api/v1/status", headers=self.admin).status_code == 200

    def raw(self, *parts: bytes) -> bytes:
        """Return what comes back for bytes that no library would send."""
        with socket.create_connection(("127.0.0.1", self.process.port), timeout=30) as line:
            for part in parts:
                line.sendall(part)
            found = b""
            try:
                while chunk := line.recv(65536):
                    found += chunk
            except ConnectionError:
                pass
            return found


@contextmanager
def serving(folder: Path, settings: str) -> Iterator[Service]:
    process = Process(folder, settings)
    try:
        made = Service(process)
        with closing(made.client):
            yield made
    finally:
        process.kill()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("abuse"), "deadline = 3.0\n") as made:
        yield made


# Large


def zeros(size: int) -> Iterator[bytes]:
    for _ in range(size // MEBIBYTE):
        yield bytes(MEBIBYTE)


def grown(service: Service, path: str, status: int, **body: Any) -> int:
    """Return by how many bytes a request made the service grow, at most."""
    headers = service.key("trainer")

    def ask() -> None:
        answer = service.client.post(path, headers=headers, timeout=120, **body)
        assert answer.status_code == status, answer.text

    return service.process.growth(ask)


def test_large_uploads_are_never_whole_in_memory_and_leave_nothing(tmp_path: Path) -> None:
    models = "/api/v1/models"
    with serving(tmp_path, "") as service:
        found = {
            "zeros": grown(service, models, 422, content=zeros(WHOLE)),
            "too large": grown(service, models, 413, content=zeros(WHOLE + MEBIBYTE)),
            "no card": grown(service, models, 422, content=without_card(WHOLE // 2)),
            "a file": grown(service, UPLOADS, 202, files={"files": ("one.dat", bytes(WHOLE))}),
        }
        assert service.answers()
    assert all(size < ROOM for size in found.values()), found
    assert list((tmp_path / "data" / "staging").iterdir()) == []
    assert list(tmp_path.rglob("*.onnx")) == []


# Fast


def test_burst_is_told_to_come_again_and_harms_nobody_else(service: Service) -> None:
    turn = {"key": "admin.requests_per_minute", "value": 200, "reason": "A burst comes."}
    assert service.client.patch("/api/v1/settings", headers=service.admin, json=turn).is_success
    headers, other = service.key("viewer"), service.key("operator")
    with ThreadPoolExecutor(16) as callers:
        asked = callers.map(
            lambda _: service.client.get("/api/v1/status", headers=headers), range(BURST)
        )
        answers = Counter(answer.status_code for answer in asked)
    assert answers.keys() == {200, 429}
    assert answers[200] >= 199
    assert service.client.get("/api/v1/status", headers=other).status_code == 200
    found = service.client.get("/api/v1/audit/verification", headers=service.admin).json()
    assert found["ok"]
    assert found["rows"] < 100  # 429 is no row


# Slow


@pytest.mark.parametrize(
    "words",
    [
        b"GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ",
        b"POST /api/v1/session HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{",
    ],
    ids=["half a head", "half a body"],
)
def test_many_who_never_finish_hold_up_nobody_and_are_let_go(
    service: Service, words: bytes
) -> None:
    with ExitStack() as stack:
        lines = [
            stack.enter_context(socket.create_connection(("127.0.0.1", service.process.port)))
            for _ in range(100)
        ]
        for line in lines:
            line.sendall(words)
        assert service.answers()
        for line in lines:
            line.settimeout(60)
            assert line.recv(100)[:12] in {b"", b"HTTP/1.1 408"}


# Crooked

HEAD = b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
CROOKED = {
    "a way up": b"GET /static/../../../app.py" + HEAD + b"\r\n",
    "a hidden way up": b"GET /static/%2e%2e%2f%2e%2e%2fapp.py" + HEAD + b"\r\n",
    "a way up in other words": b"GET /static/..%5c..%5capp.py" + HEAD + b"\r\n",
    "a way to the root": b"GET //etc/passwd" + HEAD + b"\r\n",
    "a NUL in the path": b"GET /static/a%00.css" + HEAD + b"\r\n",
    "a whole address": b"GET http://127.0.0.1:1/api/v1/status" + HEAD + b"\r\n",
    "another's proxy": b"CONNECT example.com:443" + HEAD + b"\r\n",
    "a line in the path": b"GET /signin?next=%0d%0aSet-Cookie:%20a=b" + HEAD + b"\r\n",
    "a line in a header": b"GET /" + HEAD + b"Authorization: Bearer a\r\n\tb\r\n\r\n",
    "a NUL in a header": b"GET /" + HEAD + b"Authorization: Bearer \0\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
    "two hosts": b"GET /" + HEAD + b"Host: evil.example\r\n\r\n",
    "a header without end": b"GET /" + HEAD + b"X: " + b"x" * 200_000 + b"\r\n\r\n",
    "a crowd of headers": b"GET /" + HEAD + b"X: x\r\n" * 20_000 + b"\r\n",
    "a crowd of ranges": (
        b"GET /static/base.css" + HEAD + b"Range: bytes=" + b"0-0," * 5000 + b"1-1\r\n\r\n"
    ),
    "a chunk of no size": (
        b"POST /api/v1/session" + HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
    ),
    "a chunk below nothing": (
        b"POST /api/v1/session" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"
    ),
    "two lengths": (
        b"POST /api/v1/session" + HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}}"
    ),
    "a length and chunks": (
        b"POST /api/v1/session" + HEAD + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /"
    ),
    "a method of its own": b"BREW /" + HEAD + b"\r\n",
    "a version of its own": b"GET / HTTP/9.9\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", CROOKED)
def test_crooked_request_gets_no_file_no_header_and_no_failure(service: Service, name: str) -> None:
    answer = service.raw(CROOKED[name])
    head, _, body = answer.partition(b"\r\n\r\n")
    assert not answer or answer.startswith(b"HTTP/1.1 "), answer[:80]
    assert head[9:10] != b"5", head
    assert b"set-cookie: a=b" not in head.lower()
    assert b"create_app" not in body
    assert b"root:" not in body
    assert service.answers()
