"""SCP-ECG records written by the tests: every way of EN 1064 to store samples, bit by bit."""

import binascii
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

LEADS = (1, 2, 3, 4, 5, 6, 7, 8)
"""I, II, V1 to V6."""
DEFAULT = struct.pack("<H", 19999)

Samples = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Beats:
    """A reference beat, where it was subtracted, and which zones are not decimated."""

    beat: Samples
    """(leads, samples), in units of its own multiplier."""
    fiducial: int
    """Sample of the reference beat, from 1."""
    places: Sequence[tuple[int, int, int, int]]
    """Kind, first sample, fiducial and last sample of each beat, from 1."""
    protected: Sequence[tuple[int, int]] = ()
    multiplier: int = 2500
    interval: int = 2000


@dataclass(frozen=True, kw_only=True)
class Coding:
    """How samples are stored."""

    order: int = 2
    tables: bytes | None = DEFAULT
    """The body of section 2; None for plain 16-bit samples."""

    def stream(self, samples: Samples) -> bytes:
        """Return the bytes of one lead."""
        values = wrapped(differences(samples, self.order))
        if self.tables is None:
            return values.astype("<i2").tobytes()
        return packed(default_bits(values) if self.tables == DEFAULT else own_bits(values))


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """What section 6 says of itself, and the samples that it stores."""

    stored: Sequence[Samples]
    """One per lead, after subtraction and decimation."""
    multiplier: int = 2500
    interval: int = 2000
    bimodal: int = 0


@dataclass(frozen=True, kw_only=True)
class Scp:
    """A record; `data` seals it with its checksums."""

    rhythm: Rhythm
    coding: Coding = field(default_factory=Coding)
    leads: Sequence[int] = LEADS
    spans: Sequence[tuple[int, int]] | None = None
    flags: int = 0b100
    beats: Beats | None = None
    tags: Sequence[tuple[int, bytes]] = ()
    others: Mapping[int, bytes] = field(default_factory=dict)
    """Bodies of sections that hold no samples, or that replace others."""
    protocol: int = 20

    def bodies(self) -> dict[int, bytes]:
        """Return the sections by number."""
        bodies = {1: tagged(self.tags), 3: self._leads(), 6: self._rhythm()}
        if self.coding.tables is not None:
            bodies[2] = self.coding.tables
        if self.beats:
            bodies |= {4: self._places(self.beats), 5: self._beat(self.beats)}
        return {number: body for number, body in (bodies | dict(self.others)).items() if body}

    def data(self) -> bytes:
        return record(self.bodies(), self.protocol)

    def _leads(self) -> bytes:
        spans = self.spans or [(1, stored.size) for stored in self.rhythm.stored]
        rows = zip(spans, self.leads, strict=True)
        return bytes([len(self.leads), self.flags]) + b"".join(
            struct.pack("<IIB", *span, lead) for span, lead in rows
        )

    def _rhythm(self) -> bytes:
        streams = [self.coding.stream(stored) for stored in self.rhythm.stored]
        return coded(
            streams,
            self.rhythm.multiplier,
            self.rhythm.interval,
            self.coding.order,
            self.rhythm.bimodal,
        )

    def _beat(self, beats: Beats) -> bytes:
        streams = [self.coding.stream(lead) for lead in beats.beat]
        return coded(streams, beats.multiplier, beats.interval, self.coding.order, 0)

    def _places(self, beats: Beats) -> bytes:
        length = round(beats.beat.shape[1] * beats.interval / 1000)
        head = struct.pack("<HHH", length, beats.fiducial, len(beats.places))
        places = b"".join(struct.pack("<HIII", *place) for place in beats.places)
        return head + places + b"".join(struct.pack("<II", *zone) for zone in beats.protected)


def coded(
    streams: Sequence[bytes], multiplier: int, interval: int, order: int, bimodal: int
) -> bytes:
    """Return the body of section 5 or 6."""
    lengths = struct.pack(f"<{len(streams)}H", *(len(stream) for stream in streams))
    return struct.pack("<HHBB", multiplier, interval, order, bimodal) + lengths + b"".join(streams)


def tagged(tags: Sequence[tuple[int, bytes]]) -> bytes:
    """Return the body of section 1."""
    return b"".join(struct.pack("<BH", tag, len(text)) + text for tag, text in tags) + b"\xff\0\0"


def record(bodies: Mapping[int, bytes], protocol: int = 20) -> bytes:
    """Return a record of these sections with its pointers and checksums."""
    numbers = sorted({*range(12), *bodies})
    size = 16 + 10 * len(numbers)
    sections, pointers, at = b"", struct.pack("<HII", 0, size, 7), 7 + size
    for number in numbers[1:]:
        body = bodies.get(number)
        section = section_of(number, body, protocol) if body is not None else b""
        pointers += struct.pack("<HII", number, len(section), at if section else 0)
        sections += section
        at += len(section)
    whole = section_of(0, pointers, protocol, b"SCPECG") + sections
    return sealed(struct.pack("<I", 6 + len(whole)) + whole)


def section_of(number: int, body: bytes, protocol: int, reserved: bytes = bytes(6)) -> bytes:
    body += bytes(len(body) % 2)
    head = struct.pack("<HIBB", number, 16 + len(body), protocol, protocol)
    return sealed(head + reserved + body)


def sealed(data: bytes) -> bytes:
    """Return bytes behind their CRC-CCITT."""
    return struct.pack("<H", binascii.crc_hqx(data, 0xFFFF)) + data


def resealed(data: bytes) -> bytes:
    """Return a damaged record whose checksum agrees with the damage."""
    size = min(int.from_bytes(data[2:6], "little"), len(data))
    return sealed(data[2:size]) + data[size:]


def wrapped(values: Samples) -> Samples:
    """Return values as 16 bits hold them."""
    return values.astype(np.int16).astype(np.int64)


def differences(samples: Samples, order: int) -> Samples:
    values = samples.astype(np.int64).copy()
    if order == 1:
        values[1:] = samples[1:] - samples[:-1]
    if order == 2:
        values[2:] = samples[2:] - 2 * samples[1:-1] + samples[:-2]
    return values


def packed(bits: str) -> bytes:
    """Return bits as an even number of bytes."""
    bits += "0" * (-len(bits) % 16)
    return int(bits or "0", 2).to_bytes(len(bits) // 8, "big")


def default_bits(values: Samples) -> str:
    """Return values in the default table (Annex C)."""
    return "".join(map(_default_bits, values.tolist()))


def _default_bits(value: int) -> str:
    if value == 0:
        return "0"
    if abs(value) <= 8:
        return "1" * abs(value) + ("01" if value < 0 else "00")
    if -128 <= value < 128:
        return "1111111110" + f"{value & 0xFF:08b}"
    return "1111111111" + f"{value & 0xFFFF:016b}"


# Two tables that switch to each other: one for 0 and large values, one for ±1 and bytes.
_OWN = (
    (
        ("0", 1, 1, 0),
        ("10", 2, 0, 2),
        ("11", 18, 1, 0),
    ),
    (
        ("00", 2, 1, 1),
        ("01", 2, 1, -1),
        ("10", 2, 0, 1),
        ("11", 10, 1, 0),
    ),
)
"""Bits, length with what follows, 0 for a switch, value or table."""
OWN = struct.pack("<H", len(_OWN)) + b"".join(
    struct.pack("<H", len(table))
    + b"".join(
        struct.pack("<BBBhI", len(bits), total, mode, value, int(bits[::-1], 2))
        for bits, total, mode, value in table
    )
    for table in _OWN
)


def own_bits(values: Samples) -> str:
    bits, table = [], 0
    for value in values.tolist():
        wanted = 0 if value == 0 or not -128 <= value < 128 else 1
        bits.append("10" * (wanted != table) + _own_bits(value, wanted))
        table = wanted
    return "".join(bits)


def _own_bits(value: int, table: int) -> str:
    if table == 0:
        return "0" if value == 0 else f"11{value & 0xFFFF:016b}"
    return {1: "00", -1: "01"}.get(value, f"11{value & 0xFF:08b}")


def decimated(samples: Samples, protected: Sequence[tuple[int, int]], factor: int) -> Samples:
    """Return what bimodal compression stores: the mean of each group outside the zones."""
    inside = {at for first, last in protected for at in range(first - 1, last)}
    stored: list[int] = []
    at = 0
    while at < samples.size:
        group = range(at, at + factor)
        if inside.isdisjoint(group) and group[-1] < samples.size:
            stored.append(round(samples[at : at + factor].mean()))
            at += factor
        else:
            stored.append(int(samples[at]))
            at += 1
    return np.array(stored)
