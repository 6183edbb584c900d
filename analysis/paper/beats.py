"""What kind each beat is, as its marks and the intervals around it tell.

A result keeps the beats' positions and marks but not their classes. Beats of one class carry the
marks of one template, so the classes are those of equal marks about R; what they say follows
:mod:`analysis.rhythm`. Which kinds may be named at all, the findings say.
"""

import math
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from analysis.result import Measurements, Origin, Result

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

_EARLY: Final = 0.8  # of the usual interval, or of the one after it: a beat this early is premature
_EARLY_FOR_ALL: Final = 0.88  # of the median interval, which it must undercut too
_EARLY_SHARE: Final = 0.1  # of the beats of an ectopic shape that come early at least
_WIDER: Final = 25.0  # ms that a ventricular beat is wider than the dominant ones
_WIDE: Final = 120.0  # ms
_MARKS: Final = ("qrs_onset", "qrs_offset", "r_peak", "t_peak")


class BeatKind(StrEnum):
    """Kind of a beat, in the words of a legend."""

    DOMINANT = "dominant"
    PACED = "dominant, paced"
    SUPRAVENTRICULAR = "premature, narrow"
    VENTRICULAR = "ventricular"
    OTHER = "another shape"


def beat_kinds(result: Result) -> tuple[BeatKind, ...]:
    """Return the kind of each beat, in the order of the R peaks.

    Ectopic beats are named only where the criteria found them (atrial ones cannot be told in
    atrial fibrillation), paced ones only where the rhythm was found to be paced.
    """
    meas = result.measurements
    if not meas.r_peaks.size:
        return ()
    marks = _marks(meas)
    classes = _classes(marks, result.leads.beats)
    early = _premature(meas.r_peaks, classes)
    widths = (marks[:, 1] - marks[:, 0]) * (1000 / result.recording.ecg.sampling_frequency)
    ventricular = _ventricular(classes, widths, early)
    found = {f.key for f in result.findings if f.present and f.origin is Origin.CRITERIA}
    usually = BeatKind.PACED if "paced" in found else BeatKind.DOMINANT
    kinds = np.where(classes == 0, usually, BeatKind.OTHER).astype(object)
    if found & {"pac", "atrial_bigeminy"}:
        kinds[early & ~ventricular] = BeatKind.SUPRAVENTRICULAR
    if found & {"pvc", "ventricular_bigeminy"}:
        kinds[ventricular] = BeatKind.VENTRICULAR
    return tuple(map(BeatKind, kinds.tolist()))


def _marks(meas: Measurements) -> Array:
    """Return marks of each beat relative to its R peak, ``(beats, marks)`` in samples."""
    marks = meas.fiducials.get("global", {})
    absent = np.full(meas.r_peaks.size, np.nan)
    return np.stack([marks.get(kind, absent) - meas.r_peaks for kind in _MARKS], axis=1)


def _classes(marks: Array, dominant: tuple[int, ...]) -> Indices:
    """Return the class of each beat, 0 the dominant one: beats with the same marks about R.

    A mark that the recording does not reach tells nothing against a class.
    """
    rows = [tuple(row) for row in np.round(marks, 2).tolist()]
    whole = dict.fromkeys(row for row in rows if not any(map(math.isnan, row)))
    usual = next(({rows[beat]: None} for beat in dominant if rows[beat] in whole), {})
    known = list(usual | whole)
    number = {row: place for place, row in enumerate(known)}
    for row in rows:
        if row not in number:
            number[row] = next((i for i, one in enumerate(known) if _agree(row, one)), len(known))
    return np.array([number[row] for row in rows])


def _agree(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a == b or math.isnan(a) for a, b in zip(one, other, strict=True))


def _premature(r_peaks: Array, classes: Indices) -> Mask:
    """Return which beats come early for their surroundings, also in a bigeminus."""
    rr = np.diff(r_peaks)
    premature = np.zeros(r_peaks.size, np.bool_)
    if rr.size < 2:  # noqa: PLR2004 - early for what?
        return premature
    usual = ndimage.median_filter(rr, size=7, mode="nearest") if rr.size > 2 else rr  # noqa: PLR2004 - early for which surroundings?
    sudden = np.concatenate([[False], rr < _EARLY * usual])
    before, after = rr[:-1], rr[1:]
    premature[1:-1] = (before < _EARLY * after) & (before < _EARLY_FOR_ALL * np.median(after))
    premature[-1] = sudden[-1]
    premature[1:] &= ~premature[:-1] | (classes[1:] != 0)
    early: Mask = premature | (sudden & (classes != 0))
    return early


def _ventricular(classes: Indices, widths: Array, early: Mask) -> Mask:
    """Return which beats are of a shape unlike the dominant one, wider, and early in part."""
    usual = widths[(classes == 0) & np.isfinite(widths)]
    typical = float(np.median(usual)) if usual.size else np.nan
    wider = (widths > typical + _WIDER) | (widths >= max(_WIDE, typical))
    share = np.bincount(classes, early) >= _EARLY_SHARE * np.bincount(classes)
    ventricular: Mask = (classes != 0) & wider & share[classes]
    return ventricular
