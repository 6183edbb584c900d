"""The letters of the page: which can be printed, how wide they are, where a line breaks."""

import unicodedata
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Final

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

from analysis.paper.page import MM_PER_INCH, POINTS_PER_INCH

REPLACEMENT: Final = "□"
"""Stands for a character that the page cannot print, and is explained on it."""

_FILES = Path(__file__).parents[1] / "fonts"
_LONGEST = 600


@cache
def font_file(*, bold: bool) -> Path:
    """Return the TrueType file of a weight."""
    return _FILES / f"DejaVuSansCondensed{'-Bold' if bold else ''}.ttf"


@cache
def font(*, bold: bool) -> TTFont:
    """Return the font of a weight, known to reportlab under its ``fontName``."""
    typeface = TTFont(f"sinusnode-{'bold' if bold else 'book'}", str(font_file(bold=bold)))
    pdfmetrics.registerFont(typeface)
    return typeface


def width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of a line in mm; ``size`` in points."""
    return float(font(bold=bold).stringWidth(text, size)) * MM_PER_INCH / POINTS_PER_INCH


def printable(text: str) -> str:
    """Return the text as the page can show it: one line, bounded, nothing silently dropped.

    What the font lacks, what would need shaping or another direction (Hebrew, Arabic), and what
    is no character at all becomes :data:`REPLACEMENT`.
    """
    line = " ".join(text.replace("\0", " ").split())[:_LONGEST]
    return "".join(map(_glyph, unicodedata.normalize("NFC", line)))


def _glyph(character: str) -> str:
    known = ord(character) in font(bold=False).face.charToGlyph
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
    if width(text, size, bold=bold) <= room:
        return len(text)
    low, high = 1, len(text)
    while high - low > 1:
        middle = (low + high) // 2
        if width(text[:middle], size, bold=bold) <= room:
            low = middle
        else:
            high = middle
    return low
