"""XLI, the compression of Philips carts: second differences in two byte planes, then LZW.

Each channel is one chunk: its length, a constant, the first second difference, and codes of ten
bits up to an end code. Differences are sums of 16-bit words and wrap around, as the carts'
arithmetic does. Four limb leads are stored as what is left of them after Einthoven and Goldberger.

References
----------
sierra-ecg-tools (MIT), where the compression was first understood.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.errors import Reason, Undecodable

Words = npt.NDArray[np.int16]

MAX_SAMPLES: Final = 2**21
"""Over all channels: twenty times what a cart records."""
MAX_CHANNELS: Final = 64

_HEADER: Final = struct.Struct("<iHh")
_KIND: Final = 1
_BITS: Final = 10
_END: Final = 2**_BITS - 1
_WEIGHTS: Final = (1 << np.arange(_BITS - 1, -1, -1)).astype(np.uint16)
_BYTES: Final = tuple(bytes([value]) for value in range(256))
_NO_CHANGE: Final = 64


def decode(data: bytes, samples: int) -> Words:
    """Return ``(channels, samples)`` as stored: limb leads beyond I and II are residuals.

    Raises
    ------
    Undecodable
        DAMAGED where a chunk is cut, does not end, or holds another number of samples;
        TOO_LARGE; UNSUPPORTED where a chunk is of another kind.
    """
    channels: list[Words] = []
    position = 0
    while position < len(data):
        if len(data) < position + _HEADER.size:
            raise _damaged()
        length, kind, start = _HEADER.unpack_from(data, position)
        position += _HEADER.size
        if kind != _KIND:
            raise Undecodable(Reason.UNSUPPORTED, "A compressed lead is of an unknown kind.")
        if not 0 < length <= len(data) - position:
            raise _damaged()
        if len(channels) == MAX_CHANNELS or (len(channels) + 1) * samples > MAX_SAMPLES:
            raise Undecodable(Reason.TOO_LARGE, "The file has more samples than any cart records.")
        channels.append(
            _integrated(_expanded(data[position : position + length], 2 * samples), start)
        )
        position += length
    return np.stack(channels) if channels else np.zeros((0, samples), np.int16)


def with_limb_leads(channels: Words) -> Words:
    """Return the channels, III, aVR, aVL and aVF no longer residuals but samples.

    The carts halve as C does, towards zero: so read, leads that a cart computed itself keep
    Goldberger's laws to half a step, and Philips' own conversion to aECG agrees without a bias.
    Readers that round down are one step off where an odd sum is negative.

    Parameters
    ----------
    channels
        ``(6 or more, samples)``, the limb leads first and in their usual order.
    """
    one, two, three, right, left, foot = channels[:6].astype(np.int64)
    three = _wrapped(two - one - three)
    limbs = (
        one,
        two,
        three,
        -right - _half(one + two),
        _half(one - three) - left,
        _half(two + three) - foot,
    )
    return np.concatenate([_wrapped(np.stack(limbs)).astype(np.int16), channels[6:]])


def _wrapped(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return values.astype(np.int16).astype(np.int64)


def _half(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the halves, without their fraction."""
    return (values + (values < 0)) // 2


def _damaged() -> Undecodable:
    return Undecodable(
        Reason.DAMAGED, "A compressed lead cannot be expanded to its length; send it again."
    )


def _expanded(chunk: bytes, length: int) -> bytes:
    """Return what the codes of a chunk stand for, which must be this long."""
    words: list[bytes] = []
    held = 0
    for word in _words(_codes(chunk, length + 1)):
        words.append(word)
        held += len(word)
        if held > length:
            break
    if held != length:
        raise _damaged()
    return b"".join(words)


def _words(codes: Iterable[int]) -> Iterator[bytes]:
    """Yield what LZW codes stand for, up to the end code. Raises DAMAGED where there is none."""
    table = list(_BYTES)
    previous = b""
    for code in codes:
        if code == _END:
            return
        if code < len(table):
            word = table[code]
        elif code == len(table) and previous:
            word = previous + previous[:1]
        else:
            break
        if previous and len(table) < _END:
            table.append(previous + word[:1])
        previous = word
        yield word
    raise _damaged()


def _codes(chunk: bytes, most: int) -> list[int]:
    """Return the codes of a chunk, most significant bit first, up to a number of them."""
    count = min(8 * len(chunk) // _BITS, most)
    bits = np.unpackbits(np.frombuffer(chunk, np.uint8), count=_BITS * count)
    codes: list[int] = (bits.reshape(count, _BITS) @ _WEIGHTS).tolist()
    return codes


def _integrated(planes: bytes, start: int) -> Words:
    """Return the samples of one channel from its high bytes, then its low bytes.

    The first two words are samples. Each later one is the second difference *after* the next
    sample, negative and biased by 64; the first of them stands in the header.
    """
    high, low = np.frombuffer(planes, np.uint8).reshape(2, -1).astype(np.uint16)
    words = (high << 8 | low).view(np.int16).astype(np.int64)
    second = np.concatenate([[-start], _NO_CHANGE - words[2:-1]])
    first = np.cumsum(np.concatenate([[words[1] - words[0]], second]))
    return np.cumsum(np.concatenate([words[:1], first])).astype(np.int16)
