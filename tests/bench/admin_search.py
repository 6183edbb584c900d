"""How long searches take with a hundred thousand recordings in the ledger.

`python tests/bench/admin_search.py [--recordings N] [--result-bytes N] [--database URL]`
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[1]))

from office import opened

from dicom_node.ledger import Ledger, instances
from dicom_node.settings import Role, Storage
from training.admin import tables
from training.admin.tables import recordings, spoken

KEYS = ("sinus_rhythm", "atrial_fibrillation", "lbbb", "rbbb", "pvc", "long_qt")
DEVICES = ("MAC55", "el250", "ELI380", "PageWriter")
PATIENTS = 30_000
ROUNDS = 40
BATCH = 1000


def fill(ledger: Ledger, count: int, size: int, random: Random) -> None:
    """Add rows as the node and the index leave them, results of the given size."""
    result = '{"statements": [' + "x" * size + "]}"
    for start in range(1, count + 1, BATCH):
        numbers = range(start, min(start + BATCH, count + 1))
        said = {n: random.choices(KEYS, (60, 8, 3, 4, 9, 1))[0] for n in numbers}
        with ledger.transaction(relaxed=True) as connection:
            connection.execute(instances.insert(), [_instance(n, result) for n in numbers])
            connection.execute(
                recordings.insert(), [_recording(n, said[n], random) for n in numbers]
            )
            connection.execute(
                spoken.insert(), [{"key": key, "instance_id": n} for n, key in said.items()]
            )
    with ledger.transaction() as connection:
        connection.execute(sa.text("ANALYZE"))


def _instance(number: int, result: str) -> dict[str, object]:
    return {
        "id": number,
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.9.1.1",
        "sop_instance_uid": f"2.25.{number}",
        "blob_store": "files",
        "blob_key": f"{number}",
        "blob_offset": 0,
        "blob_length": 1,
        "sha256": f"{number:064x}",
        "calling_ae": f"CART{number % 20}",
        "called_ae": "SINUSNODE",
        "address": "10.0.0.1",
        "originator": "",
        "archive_only": False,
        "received_at": 1.8e9 + 10.0 * number,
        "plan": "{}",
        "plan_digest": "0" * 64,
        "state": "QUARANTINED" if number % 1000 == 0 else "COMMITTED",
        "attempts": 1,
        "next_at": 0.0,
        "fence": 1,
        "result": result,
        "analysed_at": 1.8e9 + 10.0 * number + 0.2,
        "delivered_at": 1.8e9 + 10.0 * number + 0.4,
    }


def _recording(number: int, key: str, random: Random) -> dict[str, object]:
    return {
        "instance_id": number,
        "analysed": True,
        "patient": f"{random.randrange(PATIENTS):032x}",
        "acquired_at": f"2026{number * 12 // 100_001 % 12 + 1:02}{number % 28 + 1:02}080000",
        "device": random.choice(DEVICES),
        "heart_rate": 60.0 + number % 60,
        "quality": "full",
        "overall": "abnormal",
        "statements": f'["{key}"]',
    }


def searches(random: Random, count: int) -> dict[str, Callable[[], str]]:
    """Return the addresses that are asked for, each with another word every time."""
    day = lambda: f"2026-{random.randrange(1, 13):02}-{random.randrange(1, 29):02}"  # noqa: E731
    return {
        "the newest": lambda: "",
        "a page far back": lambda: f"before={random.randrange(100, count)}",
        "a patient": lambda: f"patient={random.randrange(PATIENTS):032x}",
        "nobody": lambda: f"patient={'f' * 32}",
        "a statement": lambda: f"statement={random.choice(KEYS)}",
        "a device": lambda: f"device={random.choice(DEVICES)}",
        "a state": lambda: "state=QUARANTINED",
        "a day": lambda: "first={0}&last={0}".format(day()),
        "a statement of a device": lambda: f"statement=long_qt&device={random.choice(DEVICES)}",
        "a statement on a day": lambda: "statement=lbbb&first={0}&last={0}".format(day()),
        "no such device": lambda: "device=nothing&statement=sinus_rhythm",
    }


def main() -> None:
    """Print the times of each kind of search."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=100_000)
    parser.add_argument("--result-bytes", type=int, default=16_000)
    parser.add_argument("--database")
    wanted = parser.parse_args()
    random = Random(0)
    with tempfile.TemporaryDirectory() as name:
        storage = Storage(
            folder=Path(name), database=wanted.database, free_bytes=0, free_fraction=0.0
        )
        ledger = Ledger(wanted.database or f"sqlite:///{name}/ledger.sqlite")
        ledger.create()
        tables.create(ledger)
        fill(ledger, wanted.recordings, wanted.result_bytes, random)
        ledger.close()
        with opened(Path(name), storage=storage) as desk:
            for what, words in searches(random, wanted.recordings).items():
                spent = []
                for _ in range(ROUNDS):
                    begun = time.perf_counter()
                    answer = desk.get(f"/recordings?{words()}", Role.OPERATOR)
                    spent.append(1000 * (time.perf_counter() - begun))
                    assert answer.status == 200, answer.text
                worst = sorted(spent)[-2]
                print(f"{what:26} median {median(spent):6.1f} ms   p95 {worst:6.1f} ms")


if __name__ == "__main__":
    main()
