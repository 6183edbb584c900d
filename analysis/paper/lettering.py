"""The letters of the page: which can be printed, how wide they are, where a line breaks."""

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import accumulate, islice, repeat
from pathlib import Path
from typing import Final

from reportlab.pdfbase.ttfonts import TTFontFace

from analysis.paper.page import MM_PER_INCH, POINTS_PER_INCH

REPLACEMENT: Final = "□"
"""Stands for a character that the page cannot print, and is explained on it."""

_PLAIN: Final = frozenset(map(chr, range(0x20, 0x7F))) | frozenset("°·µ²′–—…−≥≤")
"""What the font is known to have."""

_FILES = Path(__file__).parents[1] / "fonts"
_LONGEST = 600
_UNITS_PER_EM = 1000


@cache
def font_file(*, bold: bool) -> Path:
    """Return the TrueType file of a weight."""
    return _FILES / f"DejaVuSansCondensed{'-Bold' if bold else ''}.ttf"


@cache
def face(*, bold: bool) -> TTFontFace:
    """Return the typeface of a weight."""
    typeface = TTFontFace(str(font_file(bold=bold)))
    del typeface.table["name"]  # its licence, which no PDF needs and every page would carry
    return typeface


def width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of a line in mm; ``size`` in points."""
    default = face(bold=bold).defaultWidth
    units = sum(map(_widths(bold=bold).get, text, repeat(default)))
    return units * size * (MM_PER_INCH / POINTS_PER_INCH / _UNITS_PER_EM)


@cache
def _widths(*, bold: bool) -> Mapping[str, float]:
    """Return the width of each character, in thousandths of the size."""
    return {chr(code): width for code, width in face(bold=bold).charWidths.items()}


def printable(text: str) -> str:
    """Return the text as the page can show it: one line, bounded, nothing silently dropped.

    What the font lacks, what would need shaping or another direction (Hebrew, Arabic), and what
    is no character at all becomes :data:`REPLACEMENT`.
    """
    line = " ".join(text.replace("\0", " ").split())[:_LONGEST]
    if _PLAIN.issuperset(line):
        return line
    return "".join(map(_glyph, unicodedata.normalize("NFC", line)))


def _glyph(character: str) -> str:
    known = ord(character) in face(bold=False).charToGlyph
    plain = unicodedata.bidirectional(character) not in {"R", "AL", "AN", "NSM", "BN"}
    return character if known and plain else REPLACEMENT


def fit(text: str, room: float, size: float, *, bold: bool = False) -> str:
    """Return the text, ending in "…" where it would be wider than ``room`` mm."""
    return wrap(text, room, size, bold=bold, most=1)[0]


def wrap(text: str, room: float, size: float, *, bold: bool = False, most: int = 1) -> list[str]:
    """Return 1 to ``most`` lines of at most ``room`` mm; the last ends in "…" if text is left."""
    lines = list(islice(_lines(printable(text), room, size, bold=bold), most + 1))
    if len(lines) <= most:
        return lines or [""]
    last = lines[most - 1]
    while last and width(last + "…", size, bold=bold) > room:
        last = last[:-1]
    return [*lines[: most - 1], last + "…"]


def _lines(text: str, room: float, size: float, *, bold: bool) -> Iterator[str]:
    while text:
        end = _fitting(text, room, size, bold=bold)
        if end < len(text):
            space = text.rfind(" ", end // 2, end + 1)
            end = space if space > 0 else end
        yield text[:end]
        text = text[end:].lstrip()


def _fitting(text: str, room: float, size: float, *, bold: bool) -> int:
    """Return how many characters fit, at least one."""
    default = face(bold=bold).defaultWidth
    units = room / (size * (MM_PER_INCH / POINTS_PER_INCH / _UNITS_PER_EM))
    ends = list(accumulate(map(_widths(bold=bold).get, text, repeat(default))))
    return max(1, bisect_right(ends, units))
