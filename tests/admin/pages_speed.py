"""Server time of every page with a hundred thousand recordings, and the ECG page in Chromium.

Run `PYTHONPATH=tests python tests/admin/pages_speed.py [--recordings N] [--database URL]`, the URL
that of an empty PostgreSQL database; the last line needs Chromium.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
import uvicorn
from installed import PASSWORD, Installation, cart_ecg, encoded, simulated
from node import free_port
from office import opened
from playwright.sync_api import sync_playwright

from analysis.synthetic import Kind
from dicom_node.ledger import instances
from dicom_node.settings import Role
from training.admin.app import create_app
from training.admin.tables import recordings, spoken

RECORDINGS = 100_000
ROUNDS = 7
KEYS = ("sinus_rhythm", "atrial_fibrillation", "lbbb", "rbbb", "pvc")
DEVICES = ("MAC55", "el250", "ELI380", "PageWriter")


def fill(made: Installation, count: int) -> None:
    """Add rows as the node and the index leave them; their results are cut to 2 kB."""
    (row,) = made.ledger.query(instances.select().where(instances.c.id == 1))
    first = dict(zip(instances.c.keys(), row, strict=True))
    with made.ledger.transaction() as connection:
        for start in range(5, count + 1, 1000):
            numbers = range(start, min(start + 1000, count + 1))
            connection.execute(
                instances.insert(),
                [
                    first
                    | {
                        "id": n,
                        "sop_instance_uid": f"2.25.{n}",
                        "sha256": f"{n:064x}",
                        "received_at": first["received_at"] + 10.0 * n,
                        "delivered_at": first["received_at"] + 10.0 * n + 0.4,
                        "state": "QUARANTINED" if n % 100 == 0 else "DELIVERED",
                        "reason": "damaged" if n % 100 == 0 else None,
                        "result": first["result"][:2000],
                    }
                    for n in numbers
                ],
            )
            connection.execute(
                recordings.insert(),
                [
                    {
                        "instance_id": n,
                        "analysed": True,
                        "patient": f"{n % 30_000:032x}",
                        "acquired_at": f"2026{n % 12 + 1:02}{n % 28 + 1:02}080000",
                        "device": DEVICES[n % len(DEVICES)],
                        "heart_rate": 60.0 + n % 60,
                        "quality": "full",
                        "overall": "abnormal",
                        "statements": json.dumps([KEYS[n % len(KEYS)]]),
                    }
                    for n in numbers
                ],
            )
            connection.execute(
                spoken.insert(),
                [{"key": KEYS[n % len(KEYS)], "instance_id": n} for n in numbers],
            )
        connection.execute(sa.text("ANALYZE"))


def addresses(digest: str) -> tuple[str, ...]:
    return (
        "/", "/?statement=lbbb", "/?device=el250", "/?state=QUARANTINED",
        f"/?patient={77:032x}", "/?first=2026-03-01&last=2026-03-02", "/ecg/4", "/ecg/4/tracing",
        "/upload", "/recordings", "/training", "/models", f"/models/{digest}", "/datasets",
        "/schedule", "/system", "/api/v1/notices",
    )  # fmt: skip


def say(name: str, milliseconds: list[float]) -> None:
    middle, worst = statistics.median(milliseconds), max(milliseconds)
    sys.stdout.write(f"{name:44} median {middle:6.0f} ms  worst {worst:6.0f} ms\n")


def time_server(made: Installation) -> None:
    with opened(made.folder, storage=made.settings.storage) as desk:
        key = desk.office.accounts.add_key("all", list(Role), desk.office.clock())[1]
        headers = {"Authorization": f"Bearer {key}"}
        digest = desk.get("/models", Role.ADMIN).json[0]["digest"]
        for path in addresses(digest):
            spent = []
            for _ in range(ROUNDS + 1):
                begun = time.perf_counter()
                answer = desk.client.get(path, headers=headers)
                spent.append(1000 * (time.perf_counter() - begun))
                assert answer.status_code == 200, path
            say(path[:44], spent[1:])


@contextmanager
def served(made: Installation) -> Iterator[str]:
    port = free_port()
    config = uvicorn.Config(create_app(made.settings), port=port, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


def time_browser(made: Installation) -> None:
    arguments = ["--no-sandbox", "--disable-gpu"]
    with served(made) as url, sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{url}/signin")
        page.fill("input[name=name]", "ada")
        page.fill("input[name=password]", PASSWORD)
        page.click("form button.main")
        page.wait_for_url(f"{url}/")
        spent = []
        for _ in range(ROUNDS + 1):
            page.goto(f"{url}/?before=5")
            page.wait_for_selector("tr[data-href='/ecg/4']")
            begun = time.perf_counter()
            page.click("tr[data-href='/ecg/4'] a")
            page.wait_for_selector("#ecg[data-ready=true]")
            spent.append(1000 * (time.perf_counter() - begun))
        say("click to interactive ECG, Chromium", spent[1:])
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=RECORDINGS)
    parser.add_argument("--database")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = Installation(Path(folder), wanted.database)
        made.user("ada", *Role)
        made.receive([*(simulated(Kind.SINUS, n) for n in range(3)), encoded(cart_ecg())])
        with opened(made.folder, storage=made.settings.storage):
            """Bring the index to the ledger's first rows."""
        fill(made, wanted.recordings)
        kind = made.settings.database_url.split(":", maxsplit=1)[0]
        sys.stdout.write(f"{wanted.recordings} recordings in the ledger, {kind}\n")
        time_server(made)
        time_browser(made)
        made.close()


if __name__ == "__main__":
    main()
