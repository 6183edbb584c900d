"""Pacing spikes: sharper than any wave of the heart, just before the QRS.

A spike stands above both samples a few milliseconds away; the QRS itself is left out.
"""

import numpy as np
import numpy.typing as npt

from analysis.beats import windows
from analysis.ecg import ECG, Lead

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SMALLEST = 0.2
"""mV of a spike at least."""

_WIDTH = 0.004  # s
_WINDOW = (0.30, 0.036)  # s before R
_LEADS = 3
_RATE = 250.0  # Hz below which a spike is lost
_CLEARNESS = 10.0  # over the ninth decile of all samples


def spikes(ecg: ECG, usable: tuple[Lead, ...], r_peaks: Array) -> tuple[float, Mask]:
    """Return the median height of the spikes before the QRS, mV, and before which they stand.

    The height is 0 where none stands out of the surroundings and NaN where none can be seen.

    Parameters
    ----------
    ecg
        As it was recorded: a filter would take the spikes away.
    usable
        The leads to be looked at.
    r_peaks
        ``(beats,)`` in samples of the ECG.
    """
    rate = ecg.sampling_frequency
    if rate < _RATE or not usable:
        return np.nan, np.zeros(r_peaks.size, np.bool_)
    first, last = (round(part * rate) for part in _WINDOW)
    if r_peaks.size > 1:
        first = max(last + 1, min(first, round(0.5 * float(np.median(np.diff(r_peaks))))))
    wide = max(1, round(_WIDTH * rate))
    recorded = ecg.signal[[ecg.leads.index(lead) for lead in usable]]
    cut = windows(recorded, np.rint(r_peaks).astype(np.intp), first + wide, 0)
    cut = np.nan_to_num(cut[:, :, : first + 2 * wide - last])
    rise, fall = (
        cut[:, :, wide:-wide] - side for side in (cut[:, :, : -2 * wide], cut[:, :, 2 * wide :])
    )
    sharp = np.where(rise * fall > 0, np.minimum(np.abs(rise), np.abs(fall)), 0)
    few = min(_LEADS, len(usable))
    together = np.partition(sharp, len(usable) - few, axis=1)[:, -few:].mean(axis=1)
    each, clear = together.max(axis=1), _CLEARNESS * float(np.quantile(together, 0.9))
    spike = float(np.median(each))
    return (spike if spike > clear else 0.0), (each >= SMALLEST) & (each > clear)
