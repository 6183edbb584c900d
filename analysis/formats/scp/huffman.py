"""The entropy coding of EN 1064 §5.5: Huffman tables, their default, and a decoder.

A code stands for a value, for a switch to another table, or for a value that follows it in 8 or
16 bits. What any code would be at any bit of the stream is looked up for all bits at once; only
the walk from code to code is a loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.errors import Reason, Undecodable
from analysis.formats.scp.sections import Section

DEFAULT: Final = 19999
"""What stands for the default table (§5.5.2)."""
_WIDTH: Final = 16
"""Bits looked at from each position: no prefix and no value is longer."""
_MAX_TABLES: Final = 8

_Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Code:
    """One code: its first bits, and what they mean."""

    bits: str
    """As transmitted, first to last."""
    value: int = 0
    extra: int = 0
    """How many bits of value follow instead."""
    switch: int | None = None
    """Which table, from 0, is used from here on instead of a value."""


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """The tables of a record, as one list of codes and one index into it per table."""

    index: npt.NDArray[np.int16] = field(repr=False)
    """``(tables, 2**16)``: which code begins with these bits; the last one is none at all."""
    length: _Integers
    """Bits of each code with what follows; 0 for none at all."""
    prefix: _Integers
    value: _Integers
    switch: _Integers
    """-1 where the code is no switch."""

    @classmethod
    def of(cls, tables: Sequence[Sequence[Code]]) -> "Tables":
        """Return the tables. Raises DAMAGED where a code begins like another one."""
        codes = [code for table in tables for code in table]
        index = np.full((len(tables), 1 << _WIDTH), len(codes), np.int16)
        number = 0
        for row, table in zip(index, tables, strict=True):
            for code in table:
                span = _span(code)
                if (row[span] != len(codes)).any():
                    raise Undecodable(Reason.DAMAGED, "Two codes of a Huffman table are alike.")
                row[span] = number
                number += 1
        return cls(
            index,
            length=np.array([*(len(code.bits) + code.extra for code in codes), 0]),
            prefix=np.array([*(len(code.bits) for code in codes), 0]),
            value=np.array([*(code.value for code in codes), 0]),
            switch=np.array([*(-1 if c.switch is None else c.switch for c in codes), -1]),
        )

    def decode(self, stream: bytes, count: int) -> tuple[_Integers, int]:
        """Return ``(count,)`` values, and how many bits are left behind them.

        Raises
        ------
        Undecodable
            DAMAGED, where the stream holds fewer.
        """
        if not count:
            return np.empty(0, np.int64), 8 * len(stream)
        if count > 8 * len(stream):
            raise _too_short(count)
        windows = _windows(stream)
        codes, landing, steps = self._steps(windows)
        visited, end = _walk(steps.tolist(), count)
        nodes = landing[visited]
        chosen = codes[nodes]
        if not self.length[chosen].all() or (self.switch[chosen] >= 0).any():
            raise _too_short(count)
        columns = 8 * len(stream) + 1
        values = self._values(chosen, windows, nodes % columns)
        return values, columns - 1 - end % columns

    def _steps(
        self, windows: npt.NDArray[np.uint16]
    ) -> tuple[npt.NDArray[np.int16], _Integers, _Integers]:
        """Return, for each table and bit: its code, where the next value is coded, and the step.

        All are flat over ``(tables, bits + 1)``. A step of 0 is the end: there is no code, or the
        stream does not hold all of it.
        """
        columns = windows.size - _WIDTH
        codes = np.ascontiguousarray(self.index[:, windows[:columns]])
        bits = np.arange(columns)
        codes[bits + self.length[codes] >= columns] = self.length.size - 1
        codes = codes.ravel()
        landing = np.arange(codes.size)
        length = self.length[codes]
        if (self.switch >= 0).any():
            at = np.flatnonzero(self.switch[codes] >= 0)
            landing[at] = self.switch[codes[at]] * columns + at % columns + length[at]
            for _ in range(4):
                landing = landing[landing]
            length = landing - np.arange(codes.size) + length[landing]
        return codes, landing, length

    def _values(
        self,
        chosen: npt.NDArray[np.int16],
        windows: npt.NDArray[np.uint16],
        bits: _Integers,
    ) -> _Integers:
        """Return what the codes at these bits stand for, escapes with their sign."""
        values = self.value[chosen]
        extra = (self.length - self.prefix)[chosen]
        escapes = np.flatnonzero(extra)
        follows = windows[(bits + self.prefix[chosen])[escapes]].view(np.int16)
        values[escapes] = follows >> (_WIDTH - extra[escapes])
        return values


def tables_of(section: Section) -> Tables:
    """Return the tables of section 2.

    Raises
    ------
    Undecodable
        DAMAGED, or UNSUPPORTED, where a table is none that a cart would write.
    """
    (count,) = section.unpack("H", 0)
    if count == DEFAULT:
        return Tables.of([default_codes()])
    if not 0 < count <= _MAX_TABLES:
        raise Undecodable(
            Reason.UNSUPPORTED, f"The record has {count} Huffman tables; 1 to 8 are read."
        )
    tables, at = [], 2
    for _ in range(count):
        (length,) = section.unpack("H", at)
        rows = section.take(at + 2, 9 * length)
        tables.append([_code(rows[i : i + 9], count) for i in range(0, len(rows), 9)])
        at += 2 + 9 * length
    return Tables.of(tables)


def default_codes() -> list[Code]:
    """Return the default table (Annex C): 0, then ±1 to ±8, then 8 and 16 bits that follow."""
    small = [
        Code("1" * size + "0" + sign, -size if sign == "1" else size)
        for size in range(1, 9)
        for sign in "01"
    ]
    return [Code("0"), *small, Code("1111111110", extra=8), Code("1111111111", extra=16)]


def _code(row: bytes, tables: int) -> Code:
    """Return a code of section 2. Its bits are stored from the last to the first (§5.5.3)."""
    prefix, total, mode = row[:3]
    value = int.from_bytes(row[3:5], "little", signed=True)
    extra = total - prefix
    switch = None if mode else value - 1
    if (
        not 0 < prefix <= _WIDTH
        or not 0 <= extra <= _WIDTH
        or (extra and (value or switch is not None))
        or (switch is not None and not 0 <= switch < tables)
    ):
        raise Undecodable(Reason.UNSUPPORTED, "A code of the Huffman tables is none that is read.")
    bits = f"{int.from_bytes(row[5:9], 'little') & (1 << prefix) - 1:0{prefix}b}"[::-1]
    return Code(bits, value, extra, switch)


def _span(code: Code) -> slice:
    """Return which windows of 16 bits begin with a code."""
    free = _WIDTH - len(code.bits)
    first = int(code.bits, 2) << free
    return slice(first, first + (1 << free))


def _windows(stream: bytes) -> npt.NDArray[np.uint16]:
    """Return the 16 bits from each bit on, ``(8 * len(stream) + 1 + 16,)``, zeros at the end."""
    data = np.frombuffer(stream + bytes(5), np.uint8).astype(np.uint32)
    words = data[:-2] << 16 | data[1:-1] << 8 | data[2:]
    windows = words[:, np.newaxis] >> np.arange(8, 0, -1, dtype=np.uint32)
    return windows.astype(np.uint16).ravel()[: 8 * len(stream) + 1 + _WIDTH]


def _walk(steps: list[int], count: int) -> tuple[list[int], int]:
    """Return the places visited from 0 on by these steps, and the one behind the last."""
    visited = [0] * count
    at = 0
    for place in range(count):
        visited[place] = at
        at += steps[at]
    return visited, at


def _too_short(count: int) -> Undecodable:
    return Undecodable(
        Reason.DAMAGED, f"The Huffman codes of a lead end before its {count} samples."
    )
