"""A page as plain data: what stands where, in millimetres.

A page is built once and written by one small back end for each format; so PDF, SVG and PNG
cannot differ in what they say. x runs to the right and y downwards from the top left corner.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.int32]

Ends = tuple[int, int, int, int]

UNIT: Final = 100
"""Units of :class:`Trace` and :class:`Grid` coordinates in one millimetre."""

MM_PER_INCH: Final = 25.4
POINTS_PER_INCH: Final = 72

INK: Final = "#000000"
QUIET: Final = "#5a5a5a"
RULE: Final = "#b0b0b0"
BAND: Final = "#ececec"
GRID_FINE: Final = "#f9d9d7"
GRID_COARSE: Final = "#ec9f9b"


@dataclass(frozen=True, slots=True)
class Text:
    """One line of text; ``x, y`` is the start (or end) of its base line, ``size`` in points."""

    x: float
    y: float
    text: str
    size: float = 8.0
    bold: bool = False
    colour: str = INK
    anchor: Literal["start", "end"] = "start"


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line of ``width`` mm."""

    x0: float
    y0: float
    x1: float
    y1: float
    width: float = 0.2
    colour: str = INK


@dataclass(frozen=True, slots=True)
class Rect:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    colour: str = BAND


@dataclass(frozen=True, slots=True)
class Grid:
    """Millimetre paper: a thin line every 1 mm, a thick one every 5 mm; sides in whole mm."""

    x: float
    y: float
    width: int
    height: int

    def lines(self, step: int, *, skip: int = 0) -> list[Ends]:
        """Return the lines every ``step`` mm but those every ``skip`` mm: (x0, y0, x1, y1)."""
        left, top = round(self.x * UNIT), round(self.y * UNIT)
        right, bottom = left + self.width * UNIT, top + self.height * UNIT
        across = [at for at in range(0, self.width + 1, step) if not skip or at % skip]
        down = [at for at in range(0, self.height + 1, step) if not skip or at % skip]
        return [(left + at * UNIT, top, left + at * UNIT, bottom) for at in across] + [
            (left, top + at * UNIT, right, top + at * UNIT) for at in down
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """A drawn curve.

    Parameters
    ----------
    points
        ``(points, 2)``, hundredths of a millimetre.
    starts
        ``(points,)``: where the pen is set down anew; the first is always True.
    width
        Of the pen, in mm.
    colour
        Of the pen.
    """

    points: Points
    starts: npt.NDArray[np.bool_]
    width: float = 0.25
    colour: str = INK


Item: TypeAlias = Rect | Line | Trace | Text


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """Everything on one sheet, in the order in which it is drawn."""

    width: float
    height: float
    title: str
    grid: Grid
    rects: tuple[Rect, ...]
    lines: tuple[Line, ...]
    traces: tuple[Trace, ...]
    texts: tuple[Text, ...]


_DIGITS = 5
_PLACES = 10 ** np.arange(_DIGITS - 1, -1, -1)
_DECIMALS = np.full((30_000, _DIGITS + 1), ord(" "), dtype=np.uint8)
_DECIMALS[:, :_DIGITS] = np.arange(30_000)[:, None] // _PLACES % 10 + ord("0")


def decimals(points: Points) -> npt.NDArray[np.uint8]:
    """Return ``b"00123 00456 "`` for each point, ``(points, 12)``.

    Looking whole numbers up in a table is ten times faster than formatting them one by one.
    """
    return _DECIMALS.take(points, axis=0).reshape(len(points), 2 * (_DIGITS + 1))


def operators(*words: bytes) -> npt.NDArray[np.uint8]:
    """Return words of equal length as ``(words, bytes)``, to be indexed by a pen's state."""
    return np.array([list(word) for word in words], dtype=np.uint8)
