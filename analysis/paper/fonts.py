"""The letters of a PDF: one font for each weight, cut down to the characters of the page.

A composite font (ISO 32000-1, 9.7) whose two-byte codes are the glyphs of its subset. To cut a
subset takes longer than to write a page: so every subset holds what most pages need, and is kept.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from reportlab.pdfbase.ttfonts import TTFontFace

from analysis.paper.lettering import face

_MOST_PAGES: Final = frozenset(map(chr, range(0x20, 0x7F))) | frozenset("°·µ′–—…−□▲▼")
_SYMBOLIC: Final = 4
_BLOCK: Final = 100
"""The most entries of a bfchar block (Adobe Technical Note 5411)."""


@dataclass(frozen=True, slots=True, eq=False)
class Font:
    """A subset of one weight."""

    objects: tuple[bytes, ...]
    """What embeds it in a PDF: the font, then what it refers to."""
    glyphs: Mapping[int, int]
    """Glyph by code point."""

    def encode(self, text: str) -> bytes:
        """Return the text as a PDF string of this font."""
        return b"<%s>" % text.translate(self.glyphs).encode("utf-16-be").hex().encode()


def embedded(characters: set[str], number: int, *, bold: bool) -> Font:
    """Return a font that has the characters, its objects numbered from ``number``."""
    return _embedded("".join(sorted(_MOST_PAGES | characters)), number, bold=bold)


@lru_cache(maxsize=64)
def _embedded(characters: str, number: int, *, bold: bool) -> Font:
    typeface = face(bold=bold)
    codes = [ord(character) for character in characters]
    originals = [typeface.charToGlyph.get(code, 0) for code in codes]
    order = {glyph: place for place, glyph in enumerate(dict.fromkeys([0, *originals]))}
    glyphs = {code: order[glyph] for code, glyph in zip(codes, originals, strict=True)}
    return Font(_objects(typeface, glyphs, number), glyphs)


def _objects(typeface: TTFontFace, glyphs: Mapping[int, int], number: int) -> tuple[bytes, ...]:
    """Return font, descendant font, its descriptor, its file and the way back to Unicode."""
    name = b"AAAAAA+" + typeface.name
    program = typeface.makeSubset(list(glyphs))
    units = {glyph: typeface.getCharWidth(code) for code, glyph in glyphs.items()}
    widths = b" ".join(b"%d [%.3f]" % width for width in sorted(units.items()))
    return (
        b"<</Type/Font/Subtype/Type0/BaseFont/%s/Encoding/Identity-H"
        b"/DescendantFonts[%d 0 R]/ToUnicode %d 0 R>>" % (name, number + 1, number + 4),
        b"<</Type/Font/Subtype/CIDFontType2/BaseFont/%s/CIDToGIDMap/Identity/FontDescriptor %d 0 R"
        b"/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)/Supplement 0>>/DW %d/W[%s]>>"
        % (name, number + 2, typeface.defaultWidth, widths),
        b"<</Type/FontDescriptor/FontName/%s/Flags %d/FontBBox[%d %d %d %d]/ItalicAngle 0/Ascent %d"
        b"/Descent %d/CapHeight %d/StemV %d/FontFile2 %d 0 R>>"
        % (
            *(name, _SYMBOLIC, *typeface.bbox, typeface.ascent, typeface.descent),
            *(typeface.capHeight, typeface.stemV, number + 3),
        ),
        stream(zlib.compress(program, 9), b"/Length1 %d" % len(program)),
        stream(zlib.compress(_to_unicode(glyphs), 9)),
    )


def _to_unicode(glyphs: Mapping[int, int]) -> bytes:
    """Return the CMap from glyphs to characters, for search and copying (9.10.3)."""
    pairs = [f"<{glyph:04x}> <{_utf16(code)}>" for code, glyph in glyphs.items()]
    blocks = [pairs[at : at + _BLOCK] for at in range(0, len(pairs), _BLOCK)]
    lines = [line for b in blocks for line in (f"{len(b)} beginbfchar", *b, "endbfchar")]
    return "\n".join([*_CMAP_HEAD, *lines, *_CMAP_TAIL]).encode()


def _utf16(code: int) -> str:
    return chr(code).encode("utf-16-be").hex()


_CMAP_HEAD: Final = (
    "/CIDInit /ProcSet findresource begin",
    "12 dict begin",
    "begincmap",
    "/CIDSystemInfo <</Registry (Adobe) /Ordering (UCS) /Supplement 0>> def",
    "/CMapName /Adobe-Identity-UCS def",
    "/CMapType 2 def",
    "1 begincodespacerange",
    "<0000> <ffff>",
    "endcodespacerange",
)
_CMAP_TAIL: Final = (
    "endcmap",
    "CMapName currentdict /CMap defineresource pop",
    "end",
    "end",
)


def stream(compressed: bytes, entries: bytes = b"") -> bytes:
    """Return a stream object of deflated data; ``entries`` are added to its dictionary."""
    return b"<</Filter/FlateDecode/Length %d%s>>stream\n%s\nendstream" % (
        len(compressed),
        entries,
        compressed,
    )
