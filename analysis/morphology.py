"""The shape of the median beat, lead by lead: deflections, ST levels, T and P; voltages from it.

A QRS is cut where it crosses its isoelectric level. What stays below the smallest deflection
that is a wave (IEC 60601-2-25: 20 µV for 6 ms; a little more here, for noise) counts as level.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from analysis.ecg import ECG, Lead
from analysis.result import (
    LEAD_QUANTITIES,
    LeadMeasurements,
    Measurements,
    Quantity,
)

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Rows = tuple[int, ...]

_SMALLEST = 0.03  # mV
_SHORTEST = 6.0  # ms
_LEVEL = 20.0  # ms before the QRS that are isoelectric
_NAMES = ("q", "r", "s", "r2")
_SUMS = ("V1, V5 or V6", "aVL or V3")
_FEWEST_LEADS = 3  # between which QT is dispersed


def complete(
    measurements: Measurements, leads: LeadMeasurements, sampling_frequency: float
) -> Measurements:
    """Return the measurements with JT, QT dispersion and the voltages of hypertrophy.

    Sokolow and Lyon 1949: S in V1 and the higher R of V5 and V6. Cornell (Casale 1985): R in
    aVL and S in V3; its product with the QRS duration (Molloy 1992).

    Parameters
    ----------
    measurements
        With fiducials in samples of the ECG.
    leads
        Of the same median beat.
    sampling_frequency
        Of the ECG, in Hz.
    """
    beats = leads.beats
    sokolow = depth(leads, Lead.V1) + max(height(leads, Lead.V5), height(leads, Lead.V6))
    cornell = height(leads, Lead.aVL) + depth(leads, Lead.V3)
    product = cornell * (measurements.qrs_duration.value or np.nan)
    no_sokolow, no_cornell = (
        "no QRS was measured in V1, V5 or V6",
        "no QRS was measured in aVL or V3",
    )
    return replace(
        measurements,
        jt_interval=_jt(measurements),
        qt_dispersion=_qt_dispersion(measurements, beats, sampling_frequency),
        sokolow_lyon=_quantity(sokolow, "mV", "S V1 + higher R of V5, V6", beats, no_sokolow),
        cornell_voltage=_quantity(cornell, "mV", "R aVL + S V3", beats, no_cornell),
        cornell_product=_quantity(product, "mV.ms", "Cornell × QRS duration", beats, no_cornell),
    )


def of_leads(
    beat: ECG | None, fiducials: Mapping[str, float], beats: Rows = ()
) -> LeadMeasurements:
    """Return amplitudes, durations and ST levels of each lead of a median beat.

    Parameters
    ----------
    beat
        ``(leads, samples)``; a lead without samples has no values.
    fiducials
        Global marks in its samples; NaN or absent = not found.
    beats
        Which beats it rests on.
    """
    if beat is None:
        return LeadMeasurements(beats=beats)
    shape = _Shape(beat.signal.astype(np.float64), beat.sampling_frequency, fiducials)
    columns = shape.qrs() | shape.st() | shape.t_wave() | shape.p_wave()
    absent = np.full(len(beat.leads), np.nan)
    values = np.stack([columns.get(name, absent) for name in LEAD_QUANTITIES], axis=1)
    return LeadMeasurements(leads=beat.leads, values=values, beats=beats)


@dataclass(frozen=True, slots=True, eq=False)
class _Shape:
    """A median beat to be measured: ``(leads, samples)`` in mV, Hz, marks in samples."""

    signal: Array
    rate: float
    fiducials: Mapping[str, float]

    def _at(self, kind: str) -> float:
        """Return a mark, NaN where it is absent or outside of the beat."""
        mark = self.fiducials.get(kind, np.nan)
        return mark if 0 <= mark <= self.signal.shape[1] - 1 else np.nan

    def _samples(self, milliseconds: float) -> int:
        return round(milliseconds * self.rate / 1000)

    def _level(self) -> Array:
        """Return the level before the QRS and after the P wave, ``(leads, 1)`` in mV."""
        onset = round(self._at("qrs_onset"))
        first = max(0, onset - self._samples(_LEVEL))
        p_offset = self._at("p_offset")
        if first < p_offset < onset:
            first = round(p_offset)
        level: Array = self.signal[:, first : onset + 1].mean(axis=1, keepdims=True)
        return level

    def _between(self, first: str, last: str) -> Array | None:
        """Return ``(leads, samples)`` of a wave, None where it was not found."""
        onset, offset = self._at(first), self._at(last)
        if not offset > onset:
            return None
        return self.signal[:, round(onset) : round(offset) + 1]

    def qrs(self) -> dict[str, Array]:
        """Return the deflections of the QRS complex."""
        part = self._between("qrs_onset", "qrs_offset")
        if part is None:
            return {}
        qrs = part - self._level()
        ms = 1000 / self.rate
        peak = np.argmax(qrs, axis=1)
        upright = qrs.max(axis=1) > _SMALLEST
        return _deflections(qrs, ms) | {
            "r_notch": _notch(qrs),
            "r_peak_time": np.where(upright, peak * ms, np.nan),
            "half_time": _half_time(qrs) * ms,
            "qrs_area": qrs.sum(axis=1) * ms,
        }

    def st(self) -> dict[str, Array]:
        """Return the ST levels against the level before the QRS."""
        onset, j_point = self._at("qrs_onset"), self._at("qrs_offset")
        if not j_point > onset:
            return {}
        level, samples = self._level()[:, 0], self.signal.shape[1]
        found = {}
        for name, after in (("st_j", 0), ("st_20", 20), ("st_60", 60), ("st_80", 80)):
            position = round(j_point) + self._samples(after)
            if position < samples:
                found[name] = self.signal[:, position] - level
        return found

    def t_wave(self) -> dict[str, Array]:
        """Return the greatest deflection of T against the level before the QRS."""
        part = self._between("t_onset", "t_offset")
        if part is None or np.isnan(self._at("qrs_onset")):
            return {}
        return {"t_amplitude": _extreme(part - self._level())}

    def p_wave(self) -> dict[str, Array]:
        """Return the greatest deflection of P and the force of its negative end.

        Both against the line from its onset to its offset. The force is that of Morris 1964:
        the depth of the last negative part times its duration.
        """
        part = self._between("p_onset", "p_offset")
        if part is None:
            return {}
        wave = part - np.linspace(part[:, 0], part[:, -1], part.shape[1], axis=1)
        terminal = _last_negative(wave)
        duration = terminal.sum(axis=1) * 1000 / self.rate
        dip = -np.where(terminal, wave, 0).min(axis=1)
        force = np.where(dip > _SMALLEST / 2, dip * duration, 0.0)
        force[np.isnan(wave).any(axis=1)] = np.nan
        return {"p_amplitude": _extreme(wave), "p_terminal_force": force}


def _extreme(wave: Array) -> Array:
    """Return the value of greatest magnitude of each row, signed."""
    high, low = wave.max(axis=1), wave.min(axis=1)
    extreme: Array = np.where(high >= -low, high, low)
    return extreme


def _last_negative(wave: Array) -> npt.NDArray[np.bool_]:
    """Return where the second half of each row is below zero."""
    late = np.arange(wave.shape[1]) >= wave.shape[1] // 2
    negative: npt.NDArray[np.bool_] = (wave < 0) & late
    return negative


def _notch(qrs: Array) -> Array:
    """Return how deep a positive deflection dips between two of its peaks, mV."""
    upright = np.maximum(qrs, 0)
    before = np.maximum.accumulate(upright, axis=1)
    after = np.maximum.accumulate(upright[:, ::-1], axis=1)[:, ::-1]
    dip: Array = (np.minimum(before, after) - upright).max(axis=1)
    dip[np.isnan(qrs).any(axis=1)] = np.nan
    return dip


def _half_time(qrs: Array) -> Array:
    """Return the samples until half of the greatest deflection is reached."""
    magnitude = np.abs(qrs)
    time = np.argmax(magnitude >= magnitude.max(axis=1, keepdims=True) / 2, axis=1)
    return np.where(np.isnan(qrs).any(axis=1), np.nan, time)


def _deflections(qrs: Array, ms: float) -> dict[str, Array]:
    """Return height and duration of Q (or QS), R, S and R′ of each lead; 0 = none."""
    lead, sign, height, duration = _waves(qrs, ms)
    rank = _ranks(lead, sign)
    missing = np.isnan(qrs).any(axis=1)
    found: dict[str, Array] = {}
    for number, name in enumerate(_NAMES):
        for kind, values in (("amplitude", height), ("duration", duration)):
            column = np.zeros(len(qrs))
            column[lead[rank == number]] = values[rank == number]
            column[missing] = np.nan
            found[f"{name}_{kind}"] = column
    return found


def _waves(qrs: Array, ms: float) -> tuple[Indices, Indices, Array, Array]:
    """Return lead, sign, height in mV and duration in ms of each deflection worth the name.

    What rises to the end of the QRS is the ST segment already, so that only the part above it
    counts. Neighbours of one sign are one wave.
    """
    lead, first, last, sign = _runs(qrs)
    magnitude: Array = np.abs(np.nan_to_num(qrs))
    height = _segment_maxima(magnitude, lead, first, last)
    at_end = np.where(last == qrs.shape[1] - 1, magnitude[lead, -1], 0.0)
    beyond = np.cumsum(magnitude > _SMALLEST / 2, axis=1)
    counts = beyond[lead, last] - beyond[lead, first] + 1
    duration = np.asarray(ms * counts, np.float64)
    real = (height - at_end >= _SMALLEST) & (duration >= _SHORTEST)
    lead, sign, height, duration = lead[real], sign[real], height[real], duration[real]
    if not lead.size:
        return lead, sign, height, duration
    starts = np.flatnonzero((np.diff(lead, prepend=-1) != 0) | (np.diff(sign, prepend=0) != 0))
    joined = np.maximum.reduceat(height, starts), np.add.reduceat(duration, starts)
    return lead[starts], sign[starts], *joined


def _runs(qrs: Array) -> tuple[Indices, Indices, Indices, Indices]:
    """Return lead, first and last sample and sign of each stretch on one side of the level."""
    leads, samples = qrs.shape
    known = np.nan_to_num(qrs)
    beyond = np.abs(known) > _SMALLEST / 2
    since = np.maximum.accumulate(np.where(beyond, np.arange(samples), 0), axis=1)
    side = np.where(beyond, np.sign(known), 0).astype(np.intp)
    side = np.take_along_axis(side, since, axis=1)
    change = np.diff(side, axis=1, prepend=0) != 0
    change[:, 0] = True
    lead, first = np.nonzero(change)
    same_lead = np.append(lead[1:], leads) == lead
    last = np.where(same_lead, np.append(first[1:], 0) - 1, samples - 1)
    sign = side[lead, first]
    off = sign != 0
    return lead[off], first[off], last[off], sign[off]


def _segment_maxima(rows: Array, lead: Indices, first: Indices, last: Indices) -> Array:
    """Return the maximum of ``rows[lead, first : last + 1]`` for each segment."""
    if not lead.size:
        return np.empty(0)
    flat = np.append(rows.ravel(), 0.0)
    start = lead * rows.shape[1]
    bounds = np.stack([start + first, start + last + 1], axis=1).ravel()
    maxima: Array = np.maximum.reduceat(flat, bounds)[::2]
    return maxima


def _ranks(lead: Indices, sign: Indices) -> Indices:
    """Return for each deflection its place in the order Q, R, S, R′."""
    if not lead.size:
        return np.empty(0, np.intp)
    begins = np.diff(lead, prepend=-1) != 0
    start = np.maximum.accumulate(np.where(begins, np.arange(lead.size), 0))
    ranks: Indices = np.arange(lead.size) - start + (sign[start] > 0)
    return ranks


def _quantity(value: float, unit: str, method: str, beats: Rows, reason: str) -> Quantity:
    if np.isfinite(value):
        return Quantity(value=float(value), unit=unit, method=method, beats=beats)
    return Quantity(value=None, unit=unit, method=method, reason=reason)


def _jt(measurements: Measurements) -> Quantity:
    qt, qrs = measurements.qt_interval, measurements.qrs_duration
    first, last = (np.nan if part.value is None else part.value for part in (qrs, qt))
    return _quantity(last - first, "ms", "QT less QRS", qt.beats, qt.reason or qrs.reason or "")


def _qt_dispersion(measurements: Measurements, beats: Rows, sampling_frequency: float) -> Quantity:
    """Return the longest less the shortest QT of the leads, each the median of its beats."""
    rows = list(beats)
    each = [
        marks["t_offset"][rows] - marks["qrs_onset"][rows]
        for lead, marks in measurements.fiducials.items()
        if lead != "global" and rows
    ]
    measured = np.array([part for part in each if np.isfinite(part).any()])
    spread = float(np.ptp(_medians(measured))) if len(measured) >= _FEWEST_LEADS else np.nan
    return _quantity(
        spread * 1000 / sampling_frequency,
        "ms",
        "longest less shortest QT of the leads",
        beats,
        f"QT was measured in fewer than {_FEWEST_LEADS} leads",
    )


def _medians(rows: Array) -> Array:
    """Return the median of each row's numbers, of which there is one at least."""
    ordered = np.sort(rows, axis=1)
    count = np.isfinite(ordered).sum(axis=1)
    lead = np.arange(len(rows))
    medians: Array = (ordered[lead, (count - 1) // 2] + ordered[lead, count // 2]) / 2
    return medians


def height(leads: LeadMeasurements, lead: Lead) -> float:
    """Return the higher of R and R′ in mV, NaN where the QRS was not measured."""
    return float(max(leads.value(lead, "r_amplitude"), leads.value(lead, "r2_amplitude")))


def depth(leads: LeadMeasurements, lead: Lead) -> float:
    """Return the depth of S, or of QS where there is no R, in mV."""
    if leads.value(lead, "r_amplitude") == 0:
        return leads.value(lead, "q_amplitude")
    return leads.value(lead, "s_amplitude")
