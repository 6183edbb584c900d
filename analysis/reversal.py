"""Are the limb electrodes where they belong? The chest leads tell what the limb leads must show.

Their electrodes are other ones, and so leads I and II can be foretold from V1, V2 and V6, coarsely
but with the right sign (redundancy of the twelve leads: Kors and van Herpen 2001; de Bie 2014).
Where the right arm's electrode is exchanged for the left arm's, lead I is upside down while the
chest leads stay (Abdollah and Milliken 1997); where it is exchanged for the left leg's, lead II
is. In dextrocardia the chest leads turn with lead I. An exchange of left arm and leg changes too
little to be told, and is not looked for.
"""

import numpy as np

from analysis.beats import Beats, Floats, Prepared, median, windows
from analysis.ecg import Lead
from analysis.result import QualityReason

_CHEST = (Lead.V1, Lead.V2, Lead.V6)
_FORETOLD = {
    QualityReason.ARM_REVERSAL: (Lead.I, (-0.5, 0.25, 0.5)),
    QualityReason.LEG_REVERSAL: (Lead.II, (-0.2, 0.0, 0.5)),
}
"""The lead that each exchange turns over, and its weights on V1, V2 and V6: those of a linear
regression on median beats of the shared databases, rounded."""

_BEFORE, _AFTER = 0.28, 0.4  # s about R: from the TP segment to the T wave
_REST, _P_WAVE = 0.06, (0.08, 0.21)  # s after the first sample
_UPSIDE_DOWN, _NOT_UPRIGHT = -0.3, 0.6  # correlation with what was foretold: beat, P wave


def suspected(
    prepared: Prepared, beats: Beats, leads: tuple[Lead, ...]
) -> tuple[QualityReason, ...]:
    """Return the exchanges that the dominant beats suggest; none where they cannot tell.

    Parameters
    ----------
    prepared, beats
        Of these leads.
    leads
        Of the rows; I or II, V1, V2 and V6 are needed.
    """
    if not set(_CHEST) <= set(leads):
        return ()
    needed = tuple(lead for lead in (Lead.I, Lead.II, *_CHEST) if lead in leads)
    beat = _usual(prepared, beats, [leads.index(lead) for lead in needed])
    chest, p_wave = beat[-len(_CHEST) :], slice(*map(prepared.samples, _P_WAVE))
    return tuple(
        reason
        for reason, (lead, weights) in _FORETOLD.items()
        if lead in needed and _turned(beat[needed.index(lead)], np.array(weights) @ chest, p_wave)
    )


def _usual(prepared: Prepared, beats: Beats, rows: list[int]) -> Floats:
    """Return the median of the dominant beats, zero at rest; all zero where no beat is whole."""
    before, after = (prepared.samples(part) for part in (_BEFORE, _AFTER))
    cut = windows(prepared.clean[rows], beats.r_peaks[beats.dominant], before, after)
    whole = cut[~np.isnan(cut[:, 0]).any(axis=1)]
    if not len(whole):
        return np.zeros((len(rows), before + after), np.float32)
    beat = median(whole)
    at_rest: Floats = beat - beat[:, : prepared.samples(_REST)].mean(axis=1, keepdims=True)
    return at_rest


def _turned(seen: Floats, foretold: Floats, p_wave: slice) -> bool:
    """Return whether a beat is upside down and its P wave at least not upright."""
    of_p = (row[p_wave] - row[p_wave].mean() for row in (seen, foretold))
    return _likeness(seen, foretold) < _UPSIDE_DOWN and _likeness(*of_p) < _NOT_UPRIGHT


def _likeness(one: Floats, other: Floats) -> float:
    """Return the cosine between two waveforms; 0 where one is nothing."""
    size = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / size) if size else 0.0
