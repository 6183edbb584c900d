"""The calibration pulse with which Philips carts end each lead, and which is no ECG.

After ten seconds the recording runs out, and the last 0.4 s are, in every lead alike, 0 mV for
0.1 s, 1 mV for 0.2 s and 0 mV for 0.1 s. No heart does that: III is not II − I there.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from analysis.errors import Reason, Undecodable

_PULSE: Final = ((0.1, 0.0), (0.2, 1.0), (0.1, 0.0))
"""Seconds and mV."""
_CROPPED: Final = 1.0
"""Seconds that belong to the calibration."""


def samples_of_ecg(signal: npt.NDArray[Any], rate: float, tolerance: float) -> int:
    """Return how many samples of a recording stand before the second of its calibration pulse.

    Parameters
    ----------
    signal
        ``(leads, samples)`` in mV.
    rate
        Hz.
    tolerance
        mV by which a sample may differ from the pulse.

    Raises
    ------
    Undecodable
        DAMAGED, where some leads end with the pulse and others do not.
    """
    pulse = np.concatenate([np.full(round(time * rate), level) for time, level in _PULSE])
    whole = int(signal.shape[1])
    if whole < pulse.size:
        return whole
    tail = signal[:, -pulse.size :]
    ends = (np.abs(tail - pulse) <= tolerance).all(axis=1)
    if ends.any() and not ends.all():
        raise Undecodable(
            Reason.DAMAGED,
            "Some leads end with the cart's calibration pulse and others do not; "
            "their samples are damaged.",
        )
    return max(whole - round(_CROPPED * rate), 0) if ends.any() else whole
