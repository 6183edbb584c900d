"""The page as SVG, in hundredths of a millimetre."""

from functools import cache
from html import escape

import numpy as np

from analysis.paper.page import (
    GRID_COARSE,
    GRID_FINE,
    MM_PER_INCH,
    POINTS_PER_INCH,
    UNIT,
    Ends,
    Grid,
    Line,
    Page,
    Rect,
    Text,
    Trace,
    decimals,
    operators,
)

_FAMILY = "'DejaVu Sans Condensed', 'Liberation Sans', Arial, Helvetica, sans-serif"
_PEN = operators(b"L", b"M")
_PER_POINT = MM_PER_INCH / POINTS_PER_INCH * UNIT


def write(page: Page) -> bytes:
    """Return the page as an SVG of its true size."""
    width, height = page.width, page.height
    parts = (
        f'<svg xmlns="http://www.w3.org/2000/svg" font-family="{_FAMILY}"',
        f'width="{width:g}mm" height="{height:g}mm"',
        f'viewBox="0 0 {width * UNIT:g} {height * UNIT:g}">',
        f'<title>{escape(page.title)}</title><rect width="100%" height="100%" fill="#fff"/>',
        _grid(page.grid),
        *map(_rect, page.rects),
        *map(_line, page.lines),
        '<g id="traces" fill="none" stroke-linecap="round" stroke-linejoin="round">',
        *map(_trace, page.traces),
        "</g>",
        *map(_text, page.texts),
        "</svg>\n",
    )
    return "\n".join(parts).encode()


@cache
def _grid(grid: Grid) -> str:
    return _mesh(grid.lines(1, skip=5), GRID_FINE, 10) + _mesh(grid.lines(5), GRID_COARSE, 18)


def _mesh(lines: list[Ends], colour: str, width: int) -> str:
    path = "".join(f"M{x0} {y0}L{x1} {y1}" for x0, y0, x1, y1 in lines)
    return f'<path stroke="{colour}" stroke-width="{width}" d="{path}"/>'


def _rect(rect: Rect) -> str:
    x, y, width, height = (round(v * UNIT) for v in (rect.x, rect.y, rect.width, rect.height))
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{rect.colour}"/>'


def _line(line: Line) -> str:
    x0, y0, x1, y1 = (round(end * UNIT) for end in (line.x0, line.y0, line.x1, line.y1))
    return _mesh([(x0, y0, x1, y1)], line.colour, round(line.width * UNIT))


def _trace(trace: Trace) -> str:
    path = np.hstack([_PEN.take(trace.starts, axis=0), decimals(trace.points)])
    pen = f'stroke="{trace.colour}" stroke-width="{trace.width * UNIT:g}"'
    return f'<path {pen} d="{path.tobytes().decode()}"/>'


def _text(text: Text) -> str:
    weight = ' font-weight="bold"' if text.bold else ""
    return (
        f'<text x="{text.x * UNIT:.0f}" y="{text.y * UNIT:.0f}" text-anchor="{text.anchor}"'
        f' font-size="{text.size * _PER_POINT:.0f}" fill="{text.colour}"{weight}'
        f' xml:space="preserve">{escape(text.text)}</text>'
    )
