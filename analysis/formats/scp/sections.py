"""The record of EN 1064 §5.2: checksums, pointers, and sections whose bounds are proven.

Every section has a CRC-CCITT of its own and the record has one over all of it. A section is read
where one of the two confirms it; carts are known to write either one wrong.
"""

import binascii
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from analysis.errors import Reason, Undecodable

_FIRST: Final = 6
"""Where section 0 begins: behind the checksum and the length of the record."""
_HEADER: Final = struct.Struct("<HHIBB6s")
"""CRC, section, length, version of the section, version of the protocol, reserved."""
_POINTER: Final = struct.Struct("<HII")
_MARK: Final = b"SCPECG"
_MAX_SECTIONS: Final = 1024
_READ: Final = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 10, 11})


@dataclass(frozen=True, slots=True)
class Section:
    """The body of one section, read within its bounds."""

    number: int
    protocol: int
    """Ten times the version of the standard: 13, 20, 30."""
    body: bytes = field(repr=False)

    def unpack(self, layout: str, at: int) -> tuple[Any, ...]:
        """Return little-endian fields at an offset. Raises DAMAGED beyond the end."""
        return struct.unpack("<" + layout, self.take(at, struct.calcsize("<" + layout)))

    def take(self, at: int, length: int) -> bytes:
        """Return bytes at an offset. Raises DAMAGED beyond the end."""
        if at + length > len(self.body):
            raise Undecodable(
                Reason.DAMAGED, f"Section {self.number} is shorter than what it announces."
            )
        return self.body[at : at + length]


@dataclass(frozen=True, slots=True)
class Record:
    """The sections of one record, and which of them are damaged."""

    sections: Mapping[int, Section]
    damaged: frozenset[int]
    notes: tuple[str, ...]

    def __contains__(self, number: int) -> bool:
        return number in self.sections or number in self.damaged

    def get(self, number: int) -> Section | None:
        """Return a section, or None where there is none. Raises DAMAGED."""
        if number in self.damaged:
            raise Undecodable(
                Reason.DAMAGED,
                f"Section {number} is damaged (pointer or checksum); send the file again.",
            )
        return self.sections.get(number)


def looks_like_scp(data: bytes) -> bool:
    """Return whether section 0 stands where it must and points at itself first."""
    if len(data) < _FIRST + _HEADER.size + _POINTER.size:
        return False
    _, number, length, *_ = _HEADER.unpack_from(data, _FIRST)
    pointer = _POINTER.unpack_from(data, _FIRST + _HEADER.size)
    whole, rest = divmod(length - _HEADER.size, _POINTER.size)
    return number == 0 and whole > 0 and not rest and pointer[:2] == (0, length)


def split(data: bytes) -> Record:
    """Return the sections of a record.

    Raises
    ------
    Undecodable
        DAMAGED, where the record is cut or its pointers cannot be trusted; UNSUPPORTED, where
        it is a maker's own variant that keeps neither the mark nor the checksum.
    """
    stated, size = struct.unpack_from("<HI", data)
    whole = size <= len(data) and _crc(data[2:size]) == stated
    if not whole and data[16:22] != _MARK:
        raise Undecodable(
            Reason.UNSUPPORTED,
            "The record resembles SCP-ECG and keeps neither its mark nor its checksum: a maker's "
            "own variant, which no standard describes.",
        )
    if not _FIRST < size <= len(data):
        raise Undecodable(Reason.DAMAGED, "The record is cut short; send it again.")
    return _record(data[:size], whole=whole, surplus=len(data) - size)


def _record(data: bytes, *, whole: bool, surplus: int) -> Record:
    read = [_section(data, *pointer) for pointer in _pointers(data, whole=whole)]
    numbers = [number for number, _, _ in read]
    sound = {
        number: section
        for number, section, own in read
        if section and (own or whole) and numbers.count(number) == 1
    }
    stale = [str(number) for number, section, own in read if section and whole and not own]
    return Record(
        sound,
        frozenset(numbers) - sound.keys(),
        tuple(_notes(stale, sound, whole=whole, surplus=surplus)),
    )


def _pointers(data: bytes, *, whole: bool) -> Iterator[tuple[int, int, int]]:
    """Yield number, length and first byte of the sections that are there, after section 0."""
    stated, _, length, *_ = _HEADER.unpack_from(data, _FIRST)
    end = _FIRST + length
    count = (length - _HEADER.size) // _POINTER.size
    if end > len(data) or count > _MAX_SECTIONS:
        raise Undecodable(Reason.DAMAGED, "The pointers of the record are cut; send it again.")
    if not whole and _crc(data[_FIRST + 2 : end]) != stated:
        raise Undecodable(
            Reason.DAMAGED, "The checksum of the pointers does not match; send the file again."
        )
    for at in range(_FIRST + _HEADER.size + _POINTER.size, end, _POINTER.size):
        number, length, index = _POINTER.unpack_from(data, at)
        if length:
            yield number, length, index - 1


def _section(data: bytes, number: int, length: int, first: int) -> tuple[int, Section | None, bool]:
    """Return a section (None where its pointer is wrong), and whether its own checksum matches."""
    if length < _HEADER.size or first < _FIRST or first + length > len(data):
        return number, None, False
    stated, its_number, its_length, _, protocol, _ = _HEADER.unpack_from(data, first)
    if (its_number, its_length) != (number, length):
        return number, None, False
    body = data[first + _HEADER.size : first + length]
    own = _crc(data[first + 2 : first + length]) == stated
    return number, Section(number, protocol, body), own


def _notes(
    stale: list[str], sound: Mapping[int, Section], *, whole: bool, surplus: int
) -> Iterator[str]:
    if stale:
        yield f"The checksum of section {', '.join(stale)} is wrong, that of the record is right."
    if not whole:
        yield "The checksum of the record does not match; those of the sections read do."
    if surplus:
        yield f"{surplus} bytes behind the end of the record were ignored."
    if others := [str(number) for number in sorted(sound) if number not in _READ]:
        yield f"Not read: section {', '.join(others)} (the maker's own, or of a later edition)."


def _crc(data: bytes) -> int:
    """Return the CRC-CCITT of EN 1064 §5.2.8: polynomial 1021h, initially FFFFh."""
    return binascii.crc_hqx(data, 0xFFFF)
