"""Rate, intervals and axes, each with its unit, its method, its beats, or the reason why not.

Intervals are global: from the earliest onset to the latest offset over the leads, on the median
of the dominant beats, as the electrocardiographs of IEC 60601-2-25 measure them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from analysis import morphology, rhythm
from analysis.beats import NO_BEATS, Beats, Floats, Mask
from analysis.delineator import Delineator, shipped
from analysis.ecg import ECG, LIMB, Lead, Patient, derive_limb_leads
from analysis.fiducials import Fiducials, delineate
from analysis.quality import Assessed, examine
from analysis.result import (
    FIDUCIAL_KINDS,
    LeadMeasurements,
    Marks,
    Measurements,
    Quantity,
)
from analysis.rhythm import Rhythm

GLOBAL = "global"
"""The key of the marks of all leads together."""

_MEDIAN_BEAT = "median beat, all usable leads"
_NO_BEATS = "no QRS complex was found in a usable lead"
_NO_FRONTAL_PLANE = "fewer than two usable limb leads"
_INDETERMINATE = "the net area in the frontal plane is too small"
_SMALLEST_AREA = 0.2  # mV·ms


def measure(ecg: ECG, patient: Patient | None = None) -> Measurements:  # noqa: ARG001 - the signature others call; no value here depends on age or sex
    """Return the measurements of an ECG; it never raises and never invents a number.

    Leads that are flat, clipped, full of gaps or noise are left out; their fiducials are NaN.

    Parameters
    ----------
    ecg
        Any leads, 100 Hz or more.
    patient
        For values that depend on age or sex; none of the present ones does.
    """
    return everything(ecg, examine(ecg, expected=ecg.leads)).measurements


@dataclass(frozen=True, slots=True, eq=False)
class Everything:
    """All that can be measured on one ECG."""

    measurements: Measurements
    leads: LeadMeasurements
    rhythm: Rhythm


def everything(ecg: ECG, examined: Assessed) -> Everything:
    """Return every measurement of an examined ECG: global, of each lead, and of its rhythm."""
    measured = of_examined(ecg, examined)
    beats = examined.beats if examined.prepared else None
    dominant = tuple(np.flatnonzero(beats.dominant).tolist()) if beats else ()
    leads = morphology.of_leads(measured.median_beat, measured.median_fiducials, dominant)
    seen = rhythm.of_examined(ecg, examined, measured)
    shaped = morphology.complete(measured, leads, ecg.sampling_frequency)
    return Everything(rhythm.complete(shaped, seen), leads, seen)


def of_examined(
    ecg: ECG, examined: Assessed, delineator: Callable[[], Delineator | None] = shipped
) -> Measurements:
    """Return intervals, axes and marks of an ECG whose quality has been examined already.

    Parameters
    ----------
    ecg, examined
        What is measured.
    delineator
        Gives what marks the median beats, or None for the classical marks.
    """
    beats = examined.beats if examined.prepared and examined.beats else NO_BEATS
    network = delineator()
    found = delineate(examined.prepared, beats, network) if examined.prepared else None
    method = _MEDIAN_BEAT if network else f"{_MEDIAN_BEAT}, classical marks"
    rate = examined.prepared.sampling_frequency if examined.prepared else np.nan
    dominant = tuple(int(beat) for beat in np.flatnonzero(beats.dominant))
    pace = _rhythm(beats, rate)
    intervals = _intervals(found, rate, dominant, method)
    median = _median_beat(ecg, examined, found, rate)
    return Measurements(
        **pace,
        **intervals,
        **_corrected(intervals["qt_interval"], pace["rr_interval"]),
        **_axes(median, found, dominant),
        r_peaks=beats.r_peaks.astype(np.float64) * (ecg.sampling_frequency / rate),
        fiducials=_fiducials(ecg, examined, found, rate),
        median_beat=median,
        median_fiducials=_named(found.median_marks[-1]) if found else {},
        beat_kinds=(),
    )


def _quantity(
    value: float, unit: str, method: str, beats: tuple[int, ...], reason: str
) -> Quantity:
    """Return the quantity; a value that is not finite becomes the reason."""
    if np.isfinite(value):
        return Quantity(value=float(value), unit=unit, method=method, beats=beats)
    return Quantity(value=None, unit=unit, method=method, reason=reason)


def _rhythm(beats: Beats, rate: float) -> dict[str, Quantity]:
    rr = np.diff(beats.r_peaks) / rate * 1000
    every = tuple(range(beats.r_peaks.size))
    mean = rr.mean() if rr.size else np.nan
    scatter = np.sqrt(np.mean(np.diff(rr) ** 2)) / mean if rr.size > 1 else np.nan
    few = "fewer than {} beats" if every else _NO_BEATS
    return {
        "heart_rate": _quantity(
            60000 / mean, "{H.B.}/min", "60 s over the mean RR interval", every, few.format("two")
        ),
        "rr_interval": _quantity(mean, "ms", "mean of all beats", every, few.format("two")),
        "rr_variability": _quantity(
            scatter, "1", "RMSSD over the mean RR interval", every, few.format("three")
        ),
    }


def _intervals(
    found: Fiducials | None, rate: float, dominant: tuple[int, ...], method: str
) -> dict[str, Quantity]:
    mark = _named(found.median_marks[-1]) if found else dict.fromkeys(FIDUCIAL_KINDS, np.nan)

    def interval(first: str, last: str, wave: str) -> Quantity:
        reason = f"no {wave} was found on the median beat" if found else _NO_BEATS
        length = (mark[last] - mark[first]) / rate * 1000
        return _quantity(length, "ms", method, dominant, reason)

    return {
        "p_duration": interval("p_onset", "p_offset", "P wave"),
        "pr_interval": interval("p_onset", "qrs_onset", "P wave"),
        "qrs_duration": interval("qrs_onset", "qrs_offset", "QRS complex"),
        "qt_interval": interval("qrs_onset", "t_offset", "T wave"),
    }


def _corrected(qt_interval: Quantity, rr_interval: Quantity) -> dict[str, Quantity]:
    """Return QTc by Bazett 1920, Fridericia 1920, Framingham (Sagie 1992), Hodges 1983."""
    qt = np.nan if qt_interval.value is None else qt_interval.value
    rr = np.nan if rr_interval.value is None else rr_interval.value / 1000
    values = {
        "qtc_bazett": (qt / rr**0.5, "QT / RR^(1/2)"),
        "qtc_fridericia": (qt / rr ** (1 / 3), "QT / RR^(1/3)"),
        "qtc_framingham": (qt + 154 * (1 - rr), "QT + 154 (1 - RR)"),
        "qtc_hodges": (qt + 1.75 * (60 / rr - 60), "QT + 1.75 (rate - 60)"),
    }
    reason = qt_interval.reason or rr_interval.reason or ""
    return {
        name: _quantity(value, "ms", method, qt_interval.beats, reason)
        for name, (value, method) in values.items()
    }


def _axes(
    median: ECG | None, found: Fiducials | None, dominant: tuple[int, ...]
) -> dict[str, Quantity]:
    """Return the frontal axes of the net areas of P, QRS and T."""
    frontal = _frontal(median) if median else None
    mark = _named(found.median_marks[-1]) if found else {}
    return {
        f"{wave}_axis": _axis(
            frontal, mark.get(f"{wave}_onset", np.nan), mark.get(f"{wave}_offset", np.nan), dominant
        )
        for wave in ("p", "qrs", "t")
    }


def _frontal(median: ECG) -> ECG:
    limb = [lead for lead in LIMB if lead in median and np.isfinite(median[lead]).all()]
    return derive_limb_leads(median.select(limb))[0]


def _axis(frontal: ECG | None, onset: float, offset: float, dominant: tuple[int, ...]) -> Quantity:
    """Return the frontal axis of the net area of a wave.

    A vector of length E at angle a gives I = E cos a and aVF = (√3/2) E sin a in Einthoven's
    triangle, hence the factor.
    """
    angle, reason = np.nan, _NO_BEATS
    if frontal is not None:
        area_i, area_avf, reason = _net_areas(frontal, onset, offset)
        if not reason:
            angle = np.degrees(np.arctan2(2 * area_avf, np.sqrt(3) * area_i))
    return _quantity(angle, "deg", "net areas of I and aVF, median beat", dominant, reason)


def _net_areas(frontal: ECG, onset: float, offset: float) -> tuple[float, float, str]:
    """Return the net areas of I and aVF in mV·ms, or the reason why there are none."""
    if Lead.I not in frontal or Lead.aVF not in frontal:
        return np.nan, np.nan, _NO_FRONTAL_PLANE
    if not np.isfinite(offset - onset):
        return np.nan, np.nan, "the wave was not found on the median beat"
    area_i, area_avf = (
        _area(frontal[lead], onset, offset) * 1000 / frontal.sampling_frequency
        for lead in (Lead.I, Lead.aVF)
    )
    small = np.hypot(area_i, area_avf) < _SMALLEST_AREA
    return area_i, area_avf, _INDETERMINATE if small else ""


def _area(row: Floats, onset: float, offset: float) -> float:
    """Return the area between a wave and the straight line under it, mV·samples."""
    part = row[round(onset) : round(offset) + 1].astype(np.float64)
    return float((part - np.linspace(part[0], part[-1], part.size)).sum())


def _median_beat(ecg: ECG, examined: Assessed, found: Fiducials | None, rate: float) -> ECG | None:
    if found is None:
        return None
    signal = np.full((len(ecg.leads), found.median_beat.shape[1]), np.nan, np.float32)
    signal[[ecg.leads.index(lead) for lead in examined.usable]] = found.median_beat
    return ECG(signal=signal, leads=ecg.leads, sampling_frequency=rate)


def _named(marks: Floats) -> dict[str, float]:
    return dict(zip(FIDUCIAL_KINDS, marks.tolist(), strict=True))


def _fiducials(
    ecg: ECG, examined: Assessed, found: Fiducials | None, rate: float
) -> Mapping[str, Mapping[str, Marks]]:
    """Return the marks of each lead by kind, in the samples of the ECG."""
    beats = found.marks.shape[0] if found else 0
    absent = np.full((beats, len(FIDUCIAL_KINDS)), np.nan)
    table: dict[str, Floats] = dict.fromkeys((*ecg.leads, GLOBAL), absent)
    if found:
        marks = found.marks * (ecg.sampling_frequency / rate)
        table[GLOBAL] = marks[:, -1]
        rows = [ecg.leads.index(lead) for lead in examined.usable]
        recorded = _recorded(marks[:, :-1], np.isnan(ecg.signal[rows]))
        table |= {lead: recorded[:, row] for row, lead in enumerate(examined.usable)}
    return {
        str(lead): dict(zip(FIDUCIAL_KINDS, marks.T, strict=True)) for lead, marks in table.items()
    }


def _recorded(marks: Floats, missing: Mask) -> Floats:
    """Return the marks of the leads without those that fall into a gap of their recording."""
    if not missing.any():
        return marks
    position = np.clip(np.rint(np.nan_to_num(marks)), 0, missing.shape[1] - 1).astype(np.intp)
    return np.where(missing[np.arange(len(missing))[:, None], position], np.nan, marks)
