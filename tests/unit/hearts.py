"""Hearts that beat as a test wants: beats of chosen shape at chosen times, and their faults."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from analysis.ecg import ECG, LIMB, STANDARD_12, Lead, derive_limb_leads
from analysis.synthetic import Kind, simulate

RATE = 500.0
_BEFORE, _AFTER = 0.36, 0.56  # s around R: one beat and nothing of its neighbours

Array = npt.NDArray[np.float64]


def beat(kind: Kind, *, with_p: bool = True) -> Array:
    """Return one beat, ``(leads, samples)`` in mV, R at :data:`_BEFORE`."""
    made = simulate(kind, heart_rate=40.0, noise=0.0, qt_interval=400.0)
    middle = round(float(made.r_peaks[2]))
    cut = made.ecg.signal[:, middle - round(_BEFORE * RATE) : middle + round(_AFTER * RATE)]
    cut = cut.astype(np.float64)
    if not with_p:
        cut[:, : round((_BEFORE - 0.07) * RATE)] = 0.0
    return cut


def heart(
    beats: Iterable[tuple[float, Array]], duration: float = 10.0, noise: float = 0.005
) -> ECG:
    """Return an ECG with each beat at its time in s."""
    random = np.random.default_rng(1)
    margin = round(RATE)
    signal = np.zeros((12, round(duration * RATE) + 2 * margin))
    for time, shape in beats:
        first = margin + round((time - _BEFORE) * RATE)
        signal[:, first : first + shape.shape[1]] += shape
    signal = signal[:, margin:-margin]
    signal += 0.005 * random.standard_normal(signal.shape)
    return from_rows(signal)


def from_rows(signal: Array) -> ECG:
    """Return twelve leads that obey Einthoven's law, from I, II and V1 to V6 of these."""
    independent = (Lead.I, Lead.II, *STANDARD_12[6:])
    eight = ECG(
        signal=signal[[STANDARD_12.index(lead) for lead in independent]],
        leads=independent,
        sampling_frequency=RATE,
    )
    return derive_limb_leads(eight)[0].select(STANDARD_12)


def regular(rr: float, shape: Array, duration: float = 10.0) -> ECG:
    """Return a regular rhythm of one shape of beat."""
    return heart([(time, shape) for time in np.arange(0.5, duration - 0.3, rr)], duration)


def turned(ecg: ECG, degrees: float) -> ECG:
    """Return the ECG with its frontal plane turned clockwise, as the axis counts."""
    one, foot = ecg[Lead.I].astype(np.float64), 2 / np.sqrt(3) * ecg[Lead.aVF]
    angle = np.radians(degrees)
    turned_one = np.cos(angle) * one - np.sin(angle) * foot
    turned_foot = np.sqrt(3) / 2 * (np.sin(angle) * one + np.cos(angle) * foot)
    return _with(ecg, {Lead.I: turned_one, Lead.II: turned_foot + turned_one / 2})


def scaled(ecg: ECG, factor: float, leads: Sequence[Lead] = STANDARD_12) -> ECG:
    """Return the ECG with these leads larger or smaller."""
    return _with(ecg, {lead: factor * ecg[lead] for lead in leads})


def lifted(ecg: ECG, r_peaks: Array, levels: dict[Lead, float]) -> ECG:
    """Return the ECG with the ST segment of these leads raised by so many mV."""
    time = np.arange(ecg.samples) / RATE
    bump = np.zeros(ecg.samples)
    for peak in r_peaks / RATE:
        rise = np.clip((time - peak - 0.02) / 0.02, 0, 1) * np.clip(
            (peak + 0.30 - time) / 0.1, 0, 1
        )
        bump = np.maximum(bump, rise)
    return _with(ecg, {lead: ecg[lead] + level * bump for lead, level in levels.items()})


def _with(ecg: ECG, rows: dict[Lead, Array]) -> ECG:
    signal = ecg.signal.astype(np.float64).copy()
    for lead, row in rows.items():
        signal[ecg.leads.index(lead)] = row
    made = ECG(signal=signal, leads=ecg.leads, sampling_frequency=ecg.sampling_frequency)
    if {Lead.I, Lead.II} & set(rows) and not set(LIMB) <= set(rows):
        return from_rows(signal)
    return made
