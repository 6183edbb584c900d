"""The page as PNG: lettering and paper at the wanted resolution, traces drawn finer and reduced."""

from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from analysis.paper.lettering import font_file
from analysis.paper.page import (
    GRID_COARSE,
    GRID_FINE,
    MM_PER_INCH,
    POINTS_PER_INCH,
    UNIT,
    Grid,
    Page,
    Text,
    Trace,
)

_FINER = 2


def write(page: Page, dpi: int) -> bytes:
    """Return the page as a PNG that states its resolution."""
    scale = dpi / MM_PER_INCH
    image = _paper(page.grid, page.width, page.height, scale).copy()
    draw = ImageDraw.Draw(image)
    for rect in page.rects:
        corners = (rect.x, rect.y, rect.x + rect.width, rect.y + rect.height)
        draw.rectangle([corner * scale for corner in corners], fill=rect.colour)
    for line in page.lines:
        ends = [end * scale for end in (line.x0, line.y0, line.x1, line.y1)]
        draw.line(ends, fill=line.colour, width=max(1, round(line.width * scale)))
    for colour in dict.fromkeys(trace.colour for trace in page.traces):
        image.paste(colour, mask=_ink(page, scale, colour))
    for text in page.texts:
        _write_text(draw, text, dpi)
    buffer = BytesIO()
    image.save(buffer, "PNG", dpi=(dpi, dpi), compress_level=1)
    return buffer.getvalue()


@lru_cache(maxsize=4)
def _paper(grid: Grid, width: float, height: float, scale: float) -> Image.Image:
    image = Image.new("RGB", (round(width * scale), round(height * scale)), "white")
    draw = ImageDraw.Draw(image)
    for colour, pen, lines in (
        (GRID_FINE, 0.1, grid.lines(1, skip=5)),
        (GRID_COARSE, 0.18, grid.lines(5)),
    ):
        for line in lines:
            ends = [round(end * scale / UNIT) for end in line]
            draw.line(ends, fill=colour, width=max(1, round(pen * scale)))
    return image


def _ink(page: Page, scale: float, colour: str) -> Image.Image:
    """Return how much ink the traces of a colour leave on each pixel."""
    width, height = round(page.width * scale), round(page.height * scale)
    mask = Image.new("L", (width * _FINER, height * _FINER))
    draw = ImageDraw.Draw(mask)
    for trace in page.traces:
        if trace.colour == colour:
            _stroke(draw, trace, scale * _FINER)
    return mask.reduce(_FINER)


def _stroke(draw: ImageDraw.ImageDraw, trace: Trace, scale: float) -> None:
    pen = max(1, round(trace.width * scale))
    for part in np.split(trace.points, np.flatnonzero(trace.starts)[1:]):
        draw.line((part * (scale / UNIT)).ravel().tolist(), fill=255, width=pen)


def _write_text(draw: ImageDraw.ImageDraw, text: Text, dpi: int) -> None:
    at = (text.x * dpi / MM_PER_INCH, text.y * dpi / MM_PER_INCH)
    anchor = "ls" if text.anchor == "start" else "rs"
    draw.text(at, text.text, text.colour, _font(text.size, dpi, bold=text.bold), anchor)


@lru_cache(maxsize=32)
def _font(size: float, dpi: int, *, bold: bool) -> ImageFont.FreeTypeFont:
    path, pixels = str(font_file(bold=bold)), size * dpi / POINTS_PER_INCH
    return ImageFont.truetype(path, pixels, layout_engine=ImageFont.Layout.BASIC)
