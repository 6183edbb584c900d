"""Curves on paper: samples at a speed and a gain, each inside its frame."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.paper.page import UNIT, Text, Trace
from analysis.paper.tracing import pen_strokes

Array = npt.NDArray[np.float64]

_CUT_EVERY: Final = 5.0  # mm
_CUT_ABOVE, _CUT_BELOW = "▲", "▼"


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a curve stands, in mm from the top left corner of the page, and its scale.

    Parameters
    ----------
    left, top, right, bottom
        What the curve may not leave.
    zero
        Height of 0 mV.
    speed
        mm per second.
    gain
        mm per mV.
    """

    left: float
    top: float
    right: float
    bottom: float
    zero: float
    speed: float
    gain: float

    def x(self, seconds: float) -> float:
        """Return where a time after the left edge stands."""
        return self.left + seconds * self.speed

    def y(self, mv: float) -> float:
        """Return where a voltage stands, at the border if it lies beyond."""
        return min(max(self.zero - self.gain * mv, self.top), self.bottom)

    def cut(self, mv: Array, rate: float) -> Iterator[Text]:
        """Yield a mark in every 5 mm in which the curve leaves the frame."""
        hair = 1 / UNIT
        for mark, y, side, room in (
            (_CUT_ABOVE, self.top + 1.6, 1.0, self.zero - self.top),
            (_CUT_BELOW, self.bottom - 0.4, -1.0, self.bottom - self.zero),
        ):
            beyond = side * self.gain * mv > room + hair
            if beyond.any():
                x = np.flatnonzero(beyond) / rate * self.speed
                for cell in sorted({*(x // _CUT_EVERY).tolist()}):
                    middle = float(x[x // _CUT_EVERY == cell].mean())
                    yield Text(self.left + middle - 0.6, y, mark, 5)

    def pulse(self, seconds: float, left: float) -> Trace:
        """Return a calibration pulse of 1 mV, with feet of half its width."""
        wide = seconds * self.speed
        x = left + np.array([0.0, 0.5, 0.5, 1.5, 1.5, 2.0]) * wide
        y = self.zero - self.gain * np.array([0, 0, 1, 1, 0, 0])
        points = np.stack([x, y], axis=1) * UNIT
        return Trace(points.round().astype(np.int32), np.arange(6) == 0)


def curves(
    drawn: Sequence[tuple[Frame, Array]], rate: float, column: float, width: float = 0.25
) -> list[Trace]:
    """Return the samples of each frame as one trace; none where there are no samples.

    What leaves a frame is cut at its border; :meth:`Frame.cut` says where.

    Parameters
    ----------
    drawn
        Samples in mV with their frame, all of one scale; NaN lifts the pen.
    rate
        Hz, of all.
    column
        Seconds of which both extremes are drawn.
    width
        Of the pen, mm.
    """
    lift = np.array([np.nan])
    mv = np.concatenate([lift, *(part for _, samples in drawn for part in (samples, lift))])
    index, starts = pen_strokes(mv, rate, column)
    if not index.size:
        return []
    sizes = [samples.size + 1 for _, samples in drawn]
    frame = np.repeat(np.arange(len(sizes)), sizes)[index - 1]
    first = np.cumsum([1, *sizes[:-1]])
    left, step, zero, gain, top, bottom = np.array(
        [(f.left, f.speed / rate, f.zero, f.gain, f.top, f.bottom) for f, _ in drawn]
    ).T
    points = np.empty((index.size, 2))
    points[:, 0] = (left - first * step)[frame] + index * step[0]
    points[:, 1] = np.clip(zero[frame] - gain[0] * mv[index], top[frame], bottom[frame])
    return [Trace((points * UNIT).round().astype(np.int32), starts, width)]
