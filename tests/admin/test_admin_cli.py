"""The service as a process of its own, and its commands."""

import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from commands import Run
from defusedxml.ElementTree import fromstring
from keys import Authority
from node import free_port
from service import Process


@pytest.fixture
def started() -> Iterator[list[Process]]:
    made: list[Process] = []
    yield made
    for item in made:
        item.kill()


def test_first_start_prints_a_key_that_lets_an_admin_in_over_tls(
    tmp_path: Path, started: list[Process]
) -> None:
    authority = Authority.new(tmp_path, "authority")
    files = authority.vouch("admin")
    service = Process(
        tmp_path,
        f'certificate = "{files["certificate"]}"\nprivate_key = "{files["private_key"]}"\n',
    )
    started.append(service)
    context = ssl.create_default_context(cafile=authority.certificate)
    address = f"https://localhost:{service.port}"
    with httpx.Client(base_url=address, verify=context, trust_env=False) as client:
        service.wait(client)
        signed = client.post("/api/v1/session", json={"key": service.first_key})
        assert signed.json()["roles"] == ["admin"]
        assert "Secure" in signed.headers["set-cookie"]
        assert "max-age" in signed.headers["strict-transport-security"]
        assert "server" not in signed.headers
        token = {"X-CSRF-Token": signed.json()["csrf_token"]}
        body = {"name": "anna", "password": "twelve or more", "roles": ["viewer"]}
        assert client.post("/api/v1/users", json=body, headers=token).status_code == 201
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://localhost:{service.port}/", trust_env=False)
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(30) in {0, -signal.SIGTERM}
    assert "Traceback" not in service.log


def test_service_on_the_loopback_of_ipv6_is_asked_by_its_address(
    tmp_path: Path, started: list[Process]
) -> None:
    if not _has_ipv6():
        pytest.skip("this machine has no ::1")
    service = Process(tmp_path, 'host = "::1"\n')
    started.append(service)
    with httpx.Client(base_url=f"http://[::1]:{service.port}", trust_env=False) as client:
        service.wait(client)
        assert f"http://[::1]:{service.port}/" in service.log
        assert client.get("/signin").status_code == 200
        by_name = client.get("/signin", headers={"Host": f"localhost:{service.port}"})
        assert by_name.status_code == 200
        for other in (f"[::2]:{service.port}", "::1", "[::1"):
            assert client.get("/signin", headers={"Host": other}).status_code == 400


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_port_that_is_taken_is_a_sentence(run: Run, tmp_path: Path) -> None:
    port = free_port()
    Path("sinusnode.toml").write_text(f"[admin]\nport = {port}\n")
    other = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import socket; s = socket.create_server(('127.0.0.1', {port})); input()",
        ],
        stdin=subprocess.PIPE,
    )
    try:
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/", timeout=0.1, trust_env=False)
            except httpx.ConnectError:
                time.sleep(0.02)
            except httpx.TransportError:
                break
        done = run("admin")
    finally:
        other.communicate(b"\n")
    assert done.status == 1
    assert f"127.0.0.1:{port} cannot be opened" in done.err


def test_open_bind_without_tls_does_not_start(run: Run) -> None:
    Path("sinusnode.toml").write_text('[admin]\nhost = "0.0.0.0"\n')
    done = run("admin")
    assert done.status == 2
    assert "without TLS" in done.err


def test_users_and_keys_are_made_listed_and_revoked(run: Run) -> None:
    done = run("admin", "user", "add", "anna", "--role", "viewer", "--password", "x" * 12)
    assert (done.status, done.out) == (0, "anna: viewer\n")
    again = run("admin", "user", "add", "anna", "--role", "viewer", "--password", "x" * 12)
    assert (again.status, "There is a user anna already." in again.err) == (1, True)
    short = run("admin", "user", "add", "otto", "--role", "viewer", "--password", "x")
    assert short.status == 2
    wrong = run("admin", "user", "add", "otto", "--role", "king", "--password", "x" * 12)
    assert (wrong.status, "A role is one of viewer" in wrong.err) == (2, True)
    listed = json.loads(run("admin", "user", "list", "--json").out)
    assert (listed["name"], listed["roles"]) == ("anna", ["viewer"])
    key = run("admin", "key", "add", "robot", "--role", "viewer", "--days", "3").out.strip()
    prefix = key.split("_")[1]
    assert run("admin", "key", "revoke", prefix).status == 0
    listed = json.loads(run("admin", "key", "list", "--json").out)
    assert (listed["prefix"], bool(listed["revoked"])) == (prefix, True)
    assert run("admin", "key", "revoke", "nothing").status == 1


def test_schedules_are_kept_listed_and_removed(run: Run) -> None:
    Path("plan.toml").write_text('name = "nightly"\nkeys = ["atrial_fibrillation"]\n')
    assert run("schedule", "add", "n", "plan.toml", "--cron", "30 2 * * *").status == 0
    listed = json.loads(run("schedule", "list", "--json").out)
    assert (listed["name"], listed["cron"], bool(listed["next"])) == ("n", "30 2 * * *", True)
    wrong = run("schedule", "add", "m", "plan.toml", "--cron", "x")
    assert (wrong.status, "A cron line has minute" in wrong.err) == (2, True)
    assert run("schedule", "remove", listed["id"]).status == 0
    assert run("schedule", "remove", listed["id"]).status == 1


def test_trail_is_printed_as_audit_messages_one_on_a_line(run: Run) -> None:
    run("admin", "key", "add", "robot", "--role", "viewer")
    (line,) = run("admin", "audit", "--syslog").out.splitlines()
    assert line.startswith("<85>1 ")
    assert fromstring(line[line.index("<AuditMessage>") :]).tag == "AuditMessage"
    assert run("admin", "audit", "--after", "1").out == ""


def test_end_of_the_trail_is_told_and_held_against_one_that_was_kept(run: Run) -> None:
    run("admin", "key", "add", "robot", "--role", "viewer")
    kept = run("admin", "audit", "--verify").out.strip()
    run("admin", "key", "add", "other", "--role", "viewer")
    assert run("admin", "audit", "--known", kept).out.startswith("2:")
    gone = run("admin", "audit", "--known", f"3{kept[1:]}")
    assert (gone.status, "its end was cut off" in gone.err) == (1, True)
    assert run("admin", "audit", "--known", "all").status == 2
