"""The pages as PDF (ISO 32000-1): always the same few objects, and four streams for each page.

A general document writer takes twice as long for them as the rest of the page takes; what is left
to a library are the fonts (:mod:`analysis.paper.fonts`).
"""

import zlib
from codecs import BOM_UTF16_BE
from collections.abc import Iterable
from functools import cache
from itertools import accumulate
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.paper.fonts import Font, embedded, stream
from analysis.paper.lettering import width
from analysis.paper.page import (
    GRID_COARSE,
    GRID_FINE,
    MM_PER_INCH,
    POINTS_PER_INCH,
    UNIT,
    Grid,
    Line,
    Page,
    Rect,
    Text,
    Trace,
    decimals,
    operators,
)

_MM: Final = POINTS_PER_INCH / MM_PER_INCH
_PEN = operators(b"l\n", b"m\n")
_ROW: Final = len(b"00000 00000 l\n")
_UP: Final = 2
"""The PNG filter that stores the difference from the row above."""

_CATALOG = b"<</Type/Catalog/Pages 2 0 R/ViewerPreferences<</PrintScaling/None>>>>"
_PAGES = b"<</Type/Pages/Count %d/Kids[%s]>>"
_PAGE = (
    b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 %.4f %.4f]/Contents[%d 0 R %d 0 R %d 0 R %d 0 R]"
    b"/Resources<</Font<</F0 4 0 R/F1 9 0 R>>>>>>"
)
_INFO = b"<</Title %s/Subject %s/Author %s/Creator %s>>"
_BOOK, _BOLD, _FIRST = 4, 9, 14
"""Numbers of the fonts, and of the first page; each page has five objects."""


def write(*pages: Page) -> bytes:
    """Return the pages as a PDF; the same pages give the same bytes."""
    about = (pages[0].title, "Electrocardiogram, 25 mm/s, 10 mm/mV", "Sinusnode", "Sinusnode")
    book, bold = _font(pages, _BOOK, bold=False), _font(pages, _BOLD, bold=True)
    numbers = range(_FIRST, _FIRST + 5 * len(pages), 5)
    return _file(
        (
            _CATALOG,
            _PAGES % (len(pages), b" ".join(b"%d 0 R" % number for number in numbers)),
            _INFO % tuple(map(_string, about)),
            *book.objects,
            *bold.objects,
            *(
                part
                for number, page in zip(numbers, pages, strict=True)
                for part in _page(page, number, book, bold)
            ),
        )
    )


def _page(page: Page, number: int, book: Font, bold: Font) -> tuple[bytes, ...]:
    """Return the page under this number, and its contents under those that follow."""
    sides = (page.width * _MM, page.height * _MM)
    return (
        _PAGE % (*sides, *range(number + 1, number + 5)),
        _grid(page.grid, page.height),
        _figures(page),
        _traces(page),
        _texts(page, book, bold),
    )


def _file(objects: Iterable[bytes]) -> bytes:
    """Return a file of these objects, numbered from 1: catalog first, information third."""
    parts = [b"%PDF-1.6\n%\xe2\xe3\xcf\xd3\n"]
    parts += [b"%d 0 obj\n%s\nendobj\n" % numbered for numbered in enumerate(objects, 1)]
    *offsets, end = accumulate(map(len, parts))
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(parts)
    return b"".join(
        (
            *parts,
            b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, table),
            b"trailer\n<</Size %d/Root 1 0 R/Info 3 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (size, end),
        )
    )


def _string(text: str) -> bytes:
    return b"<%s>" % (BOM_UTF16_BE + text.encode("utf-16-be")).hex().encode()


def _in_units(height: float) -> bytes:
    """Return the matrix from hundredths of a millimetre, downwards, to points, upwards."""
    scale = _MM / UNIT
    return b"%.10f 0 0 %.10f 0 %.6f cm\n" % (scale, -scale, height * _MM)


@cache
def _grid(grid: Grid, height: float) -> bytes:
    steps = ((GRID_FINE, 10, grid.lines(1, skip=5)), (GRID_COARSE, 18, grid.lines(5)))
    content = b"q\n" + _in_units(height)
    for colour, pen, lines in steps:
        content += b"%s RG %d w\n" % (_rgb(colour), pen)
        content += b"".join(b"%d %d m %d %d l\n" % line for line in lines) + b"S\n"
    return stream(zlib.compress(content + b"Q\n", 9))


@cache
def _rgb(colour: str) -> bytes:
    parts = bytes.fromhex(colour.removeprefix("#"))
    return b" ".join(b"%.3f" % (part / 255) for part in parts)


def _figures(page: Page) -> bytes:
    drawn = (*map(_rect, page.rects), *map(_line, page.lines))
    return stream(zlib.compress(b"q\n%s%sQ\n" % (_in_units(page.height), b"".join(drawn)), 1))


def _rect(rect: Rect) -> bytes:
    x, y, wide, high = (round(v * UNIT) for v in (rect.x, rect.y, rect.width, rect.height))
    return b"%s rg %d %d %d %d re f\n" % (_rgb(rect.colour), x, y, wide, high)


def _line(line: Line) -> bytes:
    x0, y0, x1, y1 = (round(end * UNIT) for end in (line.x0, line.y0, line.x1, line.y1))
    pen = line.width * UNIT
    return b"%s RG %g w %d %d m %d %d l S\n" % (_rgb(line.colour), pen, x0, y0, x1, y1)


def _traces(page: Page) -> bytes:
    """Return the traces in rows of equal length, each stored as its difference from the last.

    Neighbouring points differ in few digits: so the stream is deflated faster, to two thirds of
    its size (PNG prediction, ISO 32000-1, 7.4.4.4).
    """
    head = b"q\n%s1 J 1 j\n" % _in_units(page.height)
    content = b"".join([_padded(head), *map(_trace, page.traces), _padded(b"Q\n")])
    rows = np.frombuffer(content, np.uint8).reshape(-1, _ROW)
    entries = b"/DecodeParms<</Predictor 12/Columns %d>>" % _ROW
    return stream(zlib.compress(_differences(rows).tobytes(), 1), entries)


def _differences(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return each row less the one above it, behind the number of the filter that says so."""
    found = np.full((len(rows), 1 + _ROW), _UP, np.uint8)
    found[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=found[1:, 1:])
    return found


def _trace(trace: Trace) -> bytes:
    path = np.hstack([decimals(trace.points), _PEN.take(trace.starts, axis=0)])
    pen = b"%s RG %d w\n" % (_rgb(trace.colour), round(trace.width * UNIT))
    return _padded(pen) + path.tobytes() + _padded(b"S\n")


def _padded(operator: bytes) -> bytes:
    """Return whole rows."""
    return operator.ljust(-(-len(operator) // _ROW) * _ROW)


def _font(pages: Iterable[Page], number: int, *, bold: bool) -> Font:
    lines = (text.text for page in pages for text in page.texts if text.bold is bold)
    return embedded({*"".join(lines)}, number, bold=bold)


def _texts(page: Page, *fonts: Font) -> bytes:
    shown = b"".join(_text(text, page.height, fonts[text.bold]) for text in page.texts)
    return stream(zlib.compress(b"BT\n%sET\n" % shown, 1))


def _text(text: Text, height: float, font: Font) -> bytes:
    start = text.x
    if text.anchor == "end":
        start -= width(text.text, text.size, bold=text.bold)
    at = (start * _MM, (height - text.y) * _MM)
    form = b"/F%d %g Tf %s rg 1 0 0 1 %.3f %.3f Tm %s Tj\n"
    return form % (text.bold, text.size, _rgb(text.colour), *at, font.encode(text.text))
