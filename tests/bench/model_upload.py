"""Forty bad models and some large ones through the API of a real admin service (RELIABILITY T16).

``python tests/bench/model_upload.py``

Printed are the answer, its seconds and by how much the service's own memory grew at most. The
marks: each refused within 5 s, at most 100 MiB more, and the model that speaks speaks on.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx

TESTS: Final = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "admin")]

from bad_models import BAD, WHOLE, Made, without_card  # noqa: E402 - the path comes first
from service import Process  # noqa: E402 - same

MEBIBYTE: Final = 2**20
SECONDS, ROOM = 5.0, 100 * MEBIBYTE
LARGE: Final[dict[str, Made]] = {
    "256 MiB of zeros": lambda: bytes(WHOLE),
    "255 MiB of weights, no card": lambda: without_card(WHOLE - MEBIBYTE),
    "one byte too many": lambda: bytes(WHOLE + 1),
}


def uploaded(process: Process, client: httpx.Client) -> Iterator[tuple[str, int, float, int]]:
    """Yield name, status, seconds and bytes grown of each upload."""
    for name, make in [(name, make) for name, (make, _) in BAD.items()] + list(LARGE.items()):
        content, answers = make(), []
        began = time.monotonic()
        grown = process.growth(
            lambda content=content, answers=answers: answers.append(
                client.post("/api/v1/models", content=content, timeout=120)
            )
        )
        yield name, answers[0].status_code, time.monotonic() - began, grown


def main() -> int:
    """Print a line for each; return 1 where a mark is missed."""
    worst_seconds, worst_bytes, missed = 0.0, 0, 0
    with tempfile.TemporaryDirectory(prefix="sinusnode-upload-") as scratch:
        process = Process(Path(scratch), "")
        address = f"http://127.0.0.1:{process.port}"
        try:
            with httpx.Client(base_url=address, trust_env=False) as client:
                process.wait(client)
                client.headers["Authorization"] = f"Bearer {process.first_key}"
                for name, status, seconds, grown in uploaded(process, client):
                    print(f"{status}  {seconds:5.2f} s  {grown / MEBIBYTE:+6.1f} MiB  {name}")
                    small = name in BAD
                    worst_seconds = max(worst_seconds, seconds if small else 0.0)
                    worst_bytes = max(worst_bytes, grown)
                    missed += status not in {413, 422}
        finally:
            process.kill()
        left = [str(path) for path in Path(scratch).rglob("*.onnx")]
    print(f"slowest {worst_seconds:.2f} s, most {worst_bytes / MEBIBYTE:+.1f} MiB, left {left}")
    return int(missed or left or worst_seconds > SECONDS or worst_bytes > ROOM)


if __name__ == "__main__":
    sys.exit(main())
