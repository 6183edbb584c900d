"""The page as PDF: letters by reportlab, the paper and the traces as ready-made streams."""

import zlib
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from reportlab.lib.colors import HexColor
from reportlab.pdfbase.pdfdoc import PDFFormXObject, PDFName, PDFStream
from reportlab.pdfgen.canvas import Canvas

from analysis.paper.lettering import font
from analysis.paper.page import (
    GRID_COARSE,
    GRID_FINE,
    INK,
    MM_PER_INCH,
    POINTS_PER_INCH,
    UNIT,
    Grid,
    Page,
    Text,
    Trace,
    decimals,
    operators,
)

_MM = POINTS_PER_INCH / MM_PER_INCH
_colour = cache(HexColor)
_PEN = operators(b"l\n", b"m\n")


def write(page: Page) -> bytes:
    """Return the page as a PDF of one sheet; the same page gives the same bytes."""
    buffer = BytesIO()
    size = (page.width * _MM, page.height * _MM)
    first = font(bold=False).fontName
    canvas = Canvas(buffer, size, pageCompression=1, invariant=1, initialFontName=first)
    canvas.setTitle(page.title)
    canvas.setAuthor("Sinusnode")
    canvas.setCreator("Sinusnode")
    canvas.setSubject("Electrocardiogram, 25 mm/s, 10 mm/mV")
    canvas.setViewerPreference("PrintScaling", "None")
    _draw(canvas, page)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _draw(canvas: Any, page: Page) -> None:
    _form(canvas, "grid", page, _grid(page.grid, page.height))
    for rect in page.rects:
        canvas.setFillColor(_colour(rect.colour))
        bottom = page.height - rect.y - rect.height
        canvas.rect(rect.x * _MM, bottom * _MM, rect.width * _MM, rect.height * _MM, 0, 1)
    for line in page.lines:
        canvas.setStrokeColor(_colour(line.colour))
        canvas.setLineWidth(line.width * _MM)
        ends = (line.x0, page.height - line.y0, line.x1, page.height - line.y1)
        canvas.line(*(end * _MM for end in ends))
    _form(canvas, "traces", page, _traces(page))
    for text in page.texts:
        _write_text(canvas, text, page.height)


def _write_text(canvas: Any, text: Text, height: float) -> None:
    canvas.setFont(font(bold=text.bold).fontName, text.size)
    canvas.setFillColor(_colour(text.colour))
    place = canvas.drawString if text.anchor == "start" else canvas.drawRightString
    place(text.x * _MM, (height - text.y) * _MM, text.text)


def _form(canvas: Any, name: str, page: Page, compressed: bytes) -> None:
    """Place a stream that is already compressed; reportlab would compress it ten times slower."""
    form = PDFFormXObject(0, 0, page.width * _MM, page.height * _MM)
    form.Contents = PDFStream(content=compressed)
    form.Contents.dictionary["Filter"] = PDFName("FlateDecode")
    canvas._doc.addForm(name, form)  # noqa: SLF001 - the only way to hand over a stream
    canvas.doForm(name)


def _in_units(height: float) -> bytes:
    """Return the matrix from hundredths of a millimetre, downwards, to points, upwards."""
    scale = _MM / UNIT
    return b"%.10f 0 0 %.10f 0 %.6f cm\n" % (scale, -scale, height * _MM)


@cache
def _grid(grid: Grid, height: float) -> bytes:
    steps = ((GRID_FINE, 10, grid.lines(1, skip=5)), (GRID_COARSE, 18, grid.lines(5)))
    content = _in_units(height)
    for colour, width, lines in steps:
        content += b"%s RG %d w\n" % (_rgb(colour), width)
        content += b"".join(b"%d %d m %d %d l\n" % line for line in lines) + b"S\n"
    return zlib.compress(content, 9)


def _rgb(colour: str) -> bytes:
    parts = bytes.fromhex(colour.removeprefix("#"))
    return b" ".join(b"%.3f" % (part / 255) for part in parts)


def _traces(page: Page) -> bytes:
    content = _in_units(page.height) + b"%s RG 1 J 1 j\n" % _rgb(INK)
    content += b"".join(_trace(trace) for trace in page.traces)
    return zlib.compress(content, 1)


def _trace(trace: Trace) -> bytes:
    path = np.hstack([decimals(trace.points), _PEN[trace.starts.astype(np.intp)]])
    return b"%d w\n" % round(trace.width * UNIT) + path.tobytes() + b"S\n"
