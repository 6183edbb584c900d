"""The structure of a DICOM dataset, walked once under strict limits.

A waveform object is small and regular, yet a damaged or hostile one can nest without end, lie
about its lengths or inflate to gigabytes. This module walks the elements before anything else
touches them: every length must lie inside its parent, no tag may stand twice, depth and number
are bounded. Values stay bytes until they are asked for by their keyword (PS3.6).
"""

import math
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Final, TypeAlias, Union

import numpy as np
from pydicom.datadict import DicomDictionary, tag_for_keyword
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STANDARD_VR

from analysis.errors import Reason, Undecodable

MAX_BYTES: Final = 64 * 2**20
MAX_DEPTH: Final = 16
MAX_ELEMENTS: Final = 200_000

Item: TypeAlias = dict[int, tuple[bytes, Union[bytes, "list[Item]"]]]
"""A dataset or sequence item: VR, empty where it is implicit, and value by tag.

Values are bytes in little-endian order, or items.
"""

_UNDEFINED: Final = 0xFFFFFFFF
_DELIMITERS: Final = 0xFFFE
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_LONG_VRS: Final = frozenset(vr.value.encode() for vr in EXPLICIT_VR_LENGTH_32)
_VRS: Final = frozenset(vr.value.encode() for vr in STANDARD_VR)
_SEQUENCES: Final = frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ")
_WORDS: Final = {
    **dict.fromkeys((b"AT", b"OW", b"SS", b"US"), 2),
    **dict.fromkeys((b"FL", b"OF", b"OL", b"SL", b"UL"), 4),
    **dict.fromkeys((b"FD", b"OD", b"OV", b"SV", b"UV"), 8),
}
_NUMBERS: Final = {"US": "<H", "UL": "<I", "SS": "<h", "SL": "<i", "FL": "<f", "FD": "<d"}


def damaged(sentence: str) -> Undecodable:
    """Return the refusal of bytes that contradict themselves or the standard."""
    return Undecodable(Reason.DAMAGED, sentence)


@dataclass(frozen=True, slots=True)
class Encoded:
    """The parts of a DICOM file, none of them decoded yet (PS3.10 §7, PS3.5 §10)."""

    meta: Item
    """File Meta Information, empty where the file has none."""
    body: bytes
    """The dataset as the transfer syntax wrote it, inflated."""
    implicit: bool
    big_endian: bool

    def dataset(self) -> Item:
        """Return the elements of the dataset.

        Raises
        ------
        Undecodable
            DAMAGED, or TOO_LARGE.
        """
        walker = _Walker(self.body, implicit=self.implicit, big_endian=self.big_endian)
        return walker.item(len(self.body))


def looks_like_dicom(data: bytes) -> bool:
    """Return whether the bytes begin like a DICOM file, with or without its preamble."""
    first = data[:4]
    return data[128:132] == b"DICM" or (
        (len(first) == len(b"gggg") and (first[:2] in {b"\x02\0", b"\x08\0"} and first[3] == 0))
        or (first[:2] == b"\0\x08" and first[2] == 0)
    )


def split(data: bytes) -> Encoded:
    """Return the parts of a DICOM file.

    Raises
    ------
    Undecodable
        TOO_LARGE beyond 64 MiB, also inflated; DAMAGED; UNSUPPORTED for a transfer syntax that
        no waveform has (PS3.5 Annex A).
    """
    if len(data) > MAX_BYTES:
        raise Undecodable(Reason.TOO_LARGE, _TOO_LARGE)
    start = 132 if data[128:132] == b"DICM" else 0
    walker = _Walker(data, start=start, implicit=False, big_endian=False)
    meta = walker.meta()
    body = data[walker.position :]
    syntax = text(meta, "TransferSyntaxUID") or _guessed_syntax(body)
    if syntax == DeflatedExplicitVRLittleEndian:
        body = _inflate(body)
    elif syntax not in _PLAIN_SYNTAXES:
        raise Undecodable(
            Reason.UNSUPPORTED,
            "The transfer syntax is none that waveforms use; send it as Explicit VR Little Endian.",
        )
    return Encoded(meta, body, body[4:6] not in _VRS, syntax == ExplicitVRBigEndian)


_PLAIN_SYNTAXES: Final = {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian}
_TOO_LARGE: Final = "The object is larger than 64 MiB, which no ECG is; check what was sent."


def _guessed_syntax(body: bytes) -> str:
    return str(ExplicitVRBigEndian if body[:1] == b"\0" else ExplicitVRLittleEndian)


def _inflate(body: bytes) -> bytes:
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = decompressor.decompress(body, MAX_BYTES + 1)
    except zlib.error:
        raise damaged("The deflated dataset cannot be inflated; send it again.") from None
    if len(inflated) > MAX_BYTES:
        raise Undecodable(Reason.TOO_LARGE, _TOO_LARGE)
    if not decompressor.eof:
        raise damaged("The deflated dataset is cut short; send it again.")
    return inflated


class _Walker:
    """Walks the elements of one buffer (PS3.5 §7)."""

    __slots__ = (
        "_big_endian",
        "_data",
        "_depth",
        "_implicit",
        "_long",
        "_number",
        "_short",
        "position",
    )

    def __init__(self, data: bytes, *, implicit: bool, big_endian: bool, start: int = 0) -> None:
        order = ">" if big_endian else "<"
        self._data = data
        self._implicit = implicit
        self._big_endian = big_endian
        self._short = struct.Struct(order + "HH2sH")
        self._long = struct.Struct(order + "I")
        self._depth = 0
        self._number = 0
        self.position = start

    def meta(self) -> Item:
        """Return the elements of group 0002 that stand here."""
        elements: Item = {}
        while self._data[self.position : self.position + 2] == b"\x02\0":
            self._add(elements, *self._header())
        return elements

    def item(self, end: int | None) -> Item:
        """Return the elements up to a position, or up to the item's delimiter."""
        elements: Item = {}
        while end is None or self.position < end:
            tag, vr, length = self._header()
            if tag == _ITEM_END and end is None:
                return elements
            self._add(elements, tag, vr, length)
        if self.position > end:
            raise damaged("An element reaches beyond its item; the object was altered.")
        return elements

    def _add(self, elements: Item, tag: int, vr: bytes, length: int) -> None:
        if tag in elements:
            raise damaged("An element stands twice in one item; the object was altered.")
        elements[tag] = vr, self._value(tag, vr, length)

    def _header(self) -> tuple[int, bytes, int]:
        """Return tag, VR and length of the element here, and step behind them."""
        self._count()
        try:
            group, element, vr, length = self._short.unpack_from(self._data, self.position)
            self.position += 8
            tag = group << 16 | element
            if self._implicit or group == _DELIMITERS:
                return (
                    tag,
                    _implicit_vr(tag),
                    self._long.unpack_from(self._data, self.position - 4)[0],
                )
            if vr in _LONG_VRS:
                length = self._long.unpack_from(self._data, self.position)[0]
                self.position += 4
            elif vr not in _VRS:
                raise damaged("An element has an unknown value representation; send it again.")
        except struct.error:
            raise damaged("The object ends in the middle of an element; send it again.") from None
        return tag, vr, length

    def _count(self) -> None:
        self._number += 1
        if self._number > MAX_ELEMENTS:
            raise Undecodable(Reason.TOO_LARGE, "The object has more elements than any ECG does.")

    def _value(self, tag: int, vr: bytes, length: int) -> bytes | list[Item]:
        if vr == b"SQ":
            return self._sequence(length)
        if vr == b"UN" and (length == _UNDEFINED or tag in _SEQUENCES):
            return self._implicit_sequence(length)
        value = self._data[self.position : self._end(length)]
        self.position += length
        return little_endian(value, vr) if self._big_endian else value

    def _end(self, length: int) -> int:
        end = self.position + length
        if end > len(self._data):
            raise damaged("The object is cut short; send it again.")
        return end

    def _sequence(self, length: int) -> list[Item]:
        end = None if length == _UNDEFINED else self._end(length)
        items: list[Item] = []
        self._descend()
        while end is None or self.position < end:
            tag, _, size = self._header()
            if tag == _SEQUENCE_END and end is None:
                break
            if tag != _ITEM:
                raise damaged("A sequence holds something else than items; send it again.")
            items.append(self.item(None if size == _UNDEFINED else self._end(size)))
        if end is not None and self.position != end:
            raise damaged("A sequence does not end where it says; the object was altered.")
        self._depth -= 1
        return items

    def _descend(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Undecodable(Reason.TOO_LARGE, "The object nests deeper than any ECG does.")

    def _implicit_sequence(self, length: int) -> list[Item]:
        """Return a sequence of unknown VR, which is implicit little endian (PS3.5 §6.2.2)."""
        outer = self._implicit, self._big_endian, self._short, self._long
        self._implicit, self._big_endian = True, False
        self._short, self._long = struct.Struct("<HH2sH"), struct.Struct("<I")
        items = self._sequence(length)
        self._implicit, self._big_endian, self._short, self._long = outer
        return items


def _implicit_vr(tag: int) -> bytes:
    return b"SQ" if tag in _SEQUENCES else b""


def little_endian(value: bytes, vr: bytes) -> bytes:
    """Return a big-endian value in little-endian order (PS3.5 §7.3)."""
    size = _WORDS.get(vr, 1)
    if size == 1:
        return value
    if len(value) % size:
        raise damaged("A binary value has a broken length; send it again.")
    return np.frombuffer(value, f"u{size}").byteswap().tobytes()


_NOTHING: Final = (b"", b"")


def items(item: Item, keyword: str) -> list[Item]:
    """Return the items of a sequence, none where it is absent or empty."""
    _, value = item.get(_tag(keyword), _NOTHING)
    if isinstance(value, list):
        return value
    if value:
        raise damaged(f"{keyword} is no sequence; the object was altered.")
    return []


def value(item: Item, keyword: str) -> bytes:
    """Return the bytes of a value, empty where it is absent."""
    _, found = item.get(_tag(keyword), _NOTHING)
    if isinstance(found, list):
        raise damaged(f"{keyword} is a sequence; the object was altered.")
    return found


def text(item: Item, keyword: str) -> str:
    """Return a value of the default repertoire without its padding, "" where it is absent."""
    return value(item, keyword).decode("latin-1").strip(" \0")


def number(item: Item, keyword: str) -> float | None:
    """Return a finite number, or None where it is absent or empty.

    Raises
    ------
    Undecodable
        DAMAGED, if there is a value that is not one finite number.
    """
    encoded = value(item, keyword)
    if not encoded:
        return None
    form = _NUMBERS.get(DicomDictionary[_tag(keyword)][0])
    found = _unpacked(encoded, form) if form else _parsed(encoded)
    if found is not None and not math.isfinite(found):
        raise damaged(f"{keyword} is not one finite number.")
    return found


def _unpacked(encoded: bytes, form: str) -> float:
    if len(encoded) != struct.calcsize(form):
        return math.nan
    return float(struct.unpack(form, encoded)[0])


def _parsed(encoded: bytes) -> float | None:
    stripped = encoded.strip(b" \0")
    if not stripped:
        return None
    return float(stripped) if _DECIMAL.fullmatch(stripped) else math.nan


_DECIMAL: Final = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def _tag(keyword: str) -> int:
    return int(tag_for_keyword(keyword))  # keywords are constants of this package
