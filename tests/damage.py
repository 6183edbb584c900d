"""Damaged copies of a file: bits, cuts, gaps, repetitions and lengths that lie."""

import random
from collections.abc import Iterator

_LIES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x01\0\0\0", b"9999", b"-1  ")


def damaged(data: bytes, number: int, seed: int, region: range | None = None) -> Iterator[bytes]:
    """Yield damaged copies; the damage begins in the region, by default anywhere."""
    chance = random.Random(seed)
    for _ in range(number):
        at = chance.choice(region or range(len(data)))
        length = chance.randrange(1, 48)
        yield chance.choice(
            (
                data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :],
                data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :],
                data[:at] + chance.choice(_LIES) + data[at + 4 :],
                data[:at] + data[at + length :],
                data[: at + length] + data[at:],
                data[:at],
            )
        )
