"""What every encoding shares: units, lead names in free text, and the laws of the limb leads.

Einthoven and Goldberger make four of the six limb leads redundant. A decoder uses that twice:
recorded leads that break the laws show a damaged or mislabelled source, and leads that the
source leaves out are computed exactly.
"""

import re
from collections.abc import Mapping
from typing import Final

import numpy as np

from analysis.ecg import ECG, LIMB, Lead, Signal, derive_limb_leads

USUAL_STEPS: Final = (5.0, 2.5, 1.25, 1.0, 0.5, 0.125, 4.88)
"""µV per step of the carts that are known."""
_EXACT: Final = 1 / 256
"""Of a step: what float32 may be off at 16 bits."""

TOLERANCE: Final = 0.005
"""mV that a redundant limb lead may be off before it is noted; at least two steps."""

_ROUNDING: Final = 1e-5
"""mV that float32 may add to a difference of two steps."""

MILLIVOLTS: Final[Mapping[str, float]] = {
    "nV": 1e-6,
    "uV": 1e-3,
    "uv": 1e-3,
    "µV": 1e-3,  # micro sign
    "μV": 1e-3,  # Greek letter mu
    "mV": 1.0,
    "mv": 1.0,
    "V": 1e3,
}
"""mV per unit: the UCUM codes, and the spellings that vendors use for them."""

RATES: Final = (25.0, 100_000.0)
"""Hz between which a sampling frequency can be that of an ECG."""

STEPS: Final = (1e-9, 1000.0)
"""mV between which one step of the samples can be."""

_PREFIX = re.compile(
    r"^(derivation|dérivation|derivazione|derivación|ableitung|ecg|ekg)\s+", re.IGNORECASE
)


_OTHER = re.compile(
    r"\b(eeg|emg|eog|erg|ieeg|seeg|ecog|resp|respiration|spo2|pleth|ppg|abp|art|cvp|pap|temp|"
    r"flow|snore|sound|fp1|fp2|fpz|f3|f4|f7|f8|fz|c3|c4|cz|p3|p4|pz|o1|o2|oz|t3|t4|t5|t6|t7|t8)\b",
    re.IGNORECASE,
)


def usual_step(signal: Signal, most: int) -> float | None:
    """Return the µV of the coarsest usual step that the samples (mV) are whole multiples of.

    None where there is no such step, or where a sample is more than `most` of them.
    """
    recorded = signal[np.isfinite(signal)].astype(np.float64)
    for step in USUAL_STEPS:
        counts = recorded * 1000 / step
        whole = np.abs(counts - np.rint(counts)) < _EXACT
        if np.all(whole) and np.all(np.abs(counts) <= most):
            return step
    return None


def is_other_signal(name: str) -> bool:
    """Return whether a label names a signal that is no ECG: EEG by its sites, pressure, breath."""
    return bool(_OTHER.search(name))


def lead_from_text(name: str) -> Lead | None:
    """Return the lead a label means, with what vendors write around it, or None.

    "Lead II (Einthoven)", "aVL, augmented voltage, left" and "Ableitung V6" are understood, and
    "EKG" alone is the lead that has no name.
    """
    core = re.split(r"[(,]", name.strip(" \0"), maxsplit=1)[0]
    bare = _PREFIX.sub("", core)
    return Lead.parse("ECG" if bare.strip().lower() == "ekg" else bare)


def completed(ecg: ECG, resolution: float) -> tuple[ECG, tuple[Lead, ...], tuple[str, ...]]:
    """Return the ECG with its derivable limb leads, their names, and notes.

    Parameters
    ----------
    ecg
        As recorded.
    resolution
        Coarsest step of the limb leads, in mV.
    """
    notes = _violations(ecg, max(TOLERANCE, 2.0 * resolution) + _ROUNDING)
    ecg, derived = derive_limb_leads(ecg)
    if derived:
        notes = (*notes, f"{', '.join(derived)} computed from the recorded limb leads.")
    return ecg, derived, notes


def _violations(ecg: ECG, tolerance: float) -> tuple[str, ...]:
    present = [lead for lead in LIMB if lead in ecg]
    expected, redundant = derive_limb_leads(ecg.select(present[:2]))
    off = {lead: _largest(ecg[lead] - expected[lead]) for lead in redundant if lead in ecg}
    worst = max(off, key=off.__getitem__, default=None)
    if worst is None or off[worst] <= tolerance:
        return ()
    return (f"The limb leads contradict each other by up to {1000 * off[worst]:.0f} µV ({worst}).",)


def _largest(difference: Signal) -> float:
    return float(np.max(np.abs(difference), initial=0.0, where=np.isfinite(difference)))
