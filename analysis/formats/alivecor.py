"""AliveCor ATC: one, six or twelve leads of a Kardia device, in blocks with a checksum each.

References
----------
AliveCor, ATC File Format Specification 1.7 (github.com/alivecor/ATCpy). It calls the checksum a
CRC32; every real file has the sum of the bytes there, some writers that of the signed bytes.
"""

import re
import struct
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import accumulate
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.ecg import STANDARD_12, Acquisition, Annotation, Recording
from analysis.errors import Reason, Undecodable
from analysis.formats.channels import Channel, Strip, recording
from analysis.formats.common import MILLIVOLTS
from analysis.formats.content import Content
from analysis.formats.fields import acquisition_of, moment

VERSIONS: Final = range(2, 6)
MAX_BLOCKS: Final = 64
MAX_BEATS: Final = 100_000

_SIGNATURE: Final = b"ALIVE\0\0\0"
_FIRST_BLOCK: Final = 12
_SUFFIXES: Final = [bytes([character]) for character in b" 23456789abc"]
"""The last character of a block's name says the lead, in the order of the standard twelve."""
_INFO: Final = (32, 40, 44, 32, 32, 32, 52)
"""Characters: date, recording, owner, phone, software, hardware, state of the device."""
_FORMAT: Final = "<BHHBxx"
_BEAT: Final = np.dtype([("tick", "<u4"), ("kind", "<u2")])
_KINDS: Final = ("unknown", "normal", "ventricular", "atrial", "fusion", "junctional", "paced")

_MAINS_60: Final = 2
_MAINS_FILTER: Final = 4
_BASELINE_FILTER: Final = 16
_NOTCH_FILTER: Final = 32
_ENHANCED_FILTER: Final = 64
_BASELINE: Final = 0.1
"""Hz."""


class _Format(NamedTuple):
    encoding: int
    rate: int
    """Hz."""
    resolution: int
    """nV per step."""
    flags: int


def recognises(data: bytes) -> bool:
    """Return whether the bytes begin with the signature of an ATC file."""
    return data.startswith(_SIGNATURE)


def read(content: Content) -> Recording:
    """Return the ECG of an ATC file; average or median beats, where it has them, as median beat.

    Raises
    ------
    Undecodable
        DAMAGED where a checksum or a length is wrong, and others with their reason.
    """
    blocks = dict(_blocks(content.data))
    if b"fmt " not in blocks:
        raise Undecodable(Reason.NO_RATE, "The file has no format block: no rate and no scale.")
    layout = _format(blocks[b"fmt "])
    acquisition, notes = _acquisition(blocks.get(b"info", b""), layout.flags)
    return recording(
        _strip(blocks, b"ecg", layout, acquisition.acquired_at),
        median=_median(blocks, layout),
        format="AliveCor ATC",
        acquisition=acquisition,
        annotations=_beats(blocks.get(b"ann ", b""), layout.rate),
        notes=notes,
    )


def _blocks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name and the content of each block. Raises DAMAGED where one is not whole."""
    version = int.from_bytes(data[len(_SIGNATURE) : _FIRST_BLOCK], "little")
    if version not in VERSIONS:
        raise Undecodable(Reason.UNSUPPORTED, f"Version {version} of ATC is not known.")
    names: set[bytes] = set()
    at = _FIRST_BLOCK
    while at < len(data):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + length
        if end + 4 > len(data) or name in names or len(names) == MAX_BLOCKS:
            raise Undecodable(Reason.DAMAGED, "A block is cut or stands twice; send it again.")
        _check(data[at:end], int.from_bytes(data[end : end + 4], "little"))
        yield name, data[at + 8 : end]
        names.add(name)
        at = end + 4


def _check(block: bytes, stated: int) -> None:
    values = np.frombuffer(block, np.uint8)
    total = int(values.sum(dtype=np.int64))
    signed = total - 256 * int(np.count_nonzero(values & 128))
    if stated not in {total % 2**32, signed % 2**32}:
        raise Undecodable(Reason.DAMAGED, "The checksum of a block is wrong; send the file again.")


def _format(block: bytes) -> _Format:
    if len(block) != struct.calcsize(_FORMAT):
        raise Undecodable(Reason.DAMAGED, "The format block has not the length it must have.")
    layout = _Format(*struct.unpack(_FORMAT, block))
    if layout.encoding != 1:
        raise Undecodable(Reason.UNSUPPORTED, "The samples are not signed 16-bit integers.")
    return layout


def _strip(
    blocks: Mapping[bytes, bytes], kind: bytes, layout: _Format, start: datetime | None = None
) -> Strip:
    """Return the leads of one kind of block, such as b"ecg"."""
    step = layout.resolution * MILLIVOLTS["nV"]
    channels = [
        Channel(lead, _samples(blocks[name]), step)
        for lead, suffix in zip(STANDARD_12, _SUFFIXES, strict=True)
        if (name := kind + suffix) in blocks
    ]
    return Strip(channels, layout.rate, start)


def _samples(block: bytes) -> npt.NDArray[np.int16]:
    if len(block) % 2:
        raise Undecodable(Reason.DAMAGED, "The samples of a lead end within a sample.")
    return np.frombuffer(block, "<i2")


def _median(blocks: Mapping[bytes, bytes], layout: _Format) -> Strip | None:
    """Return the median beat, else the average beat, if there is one."""
    strips = (_strip(blocks, kind, layout) for kind in (b"med", b"avg"))
    return next((strip for strip in strips if strip.channels), None)


def _acquisition(info: bytes, flags: int) -> tuple[Acquisition, tuple[str, ...]]:
    """Return when, on what and with which filters, and notes."""
    ends = accumulate(_INFO)
    words = [info[end - size : end] for size, end in zip(_INFO, ends, strict=True)]
    recorded, _, _, phone, software, hardware, _ = (
        word.partition(b"\0")[0].decode("utf-8", "replace").strip() for word in words
    )
    mains = 60.0 if flags & _MAINS_60 else 50.0
    acquisition, notes = acquisition_of(
        acquired_at=_moment(recorded),
        model=hardware,
        software=", ".join(filter(None, (software, phone))),
        low=_BASELINE if flags & _BASELINE_FILTER else None,
        notch=mains if flags & (_MAINS_FILTER | _NOTCH_FILTER) else None,
    )
    if flags & _ENHANCED_FILTER:
        notes = (*notes, "The device had passed the samples through its enhanced filter.")
    return acquisition, notes


def _moment(stated: str) -> datetime | None:
    """Return the moment of "2012-04-03T14:17:43-7:00", "…-0700" and "….777-04:00"."""
    match = re.fullmatch(r"(\S+)T([\d:]+(?:\.\d+)?)(?:([+-])(\d{1,2}):?(\d\d)|Z)?", stated)
    if match is None:
        return None
    day, time, sign, hours, minutes = match.groups()
    return moment(day, f"{time}{sign}{hours:0>2}:{minutes}" if sign else time)


def _beats(block: bytes, rate: int) -> Iterator[Annotation]:
    """Yield the beats that the device found; their ticks count at a rate of their own."""
    ticks = int.from_bytes(block[:4], "little")
    count = (len(block) - 4) // _BEAT.itemsize
    if not ticks or not 0 < count <= MAX_BEATS:
        return
    for beat in np.frombuffer(block, _BEAT, count, 4).tolist():
        kind = _KINDS[beat[1]] if beat[1] < len(_KINDS) else "unknown"
        yield Annotation(text=f"{kind} beat", samples=(beat[0] * rate / ticks,))
