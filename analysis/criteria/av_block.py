"""Second- and third-degree AV block: how P waves and QRS complexes that were followed relate.

The definitions are those of the 2018 ACC/AHA/HRS guideline on bradycardia (Kusumoto 2019).
"""

import numpy as np

from analysis.atria import Conduction
from analysis.criteria.case import Case
from analysis.rhythm import Mask

_CONSTANT_PR, _SAME_PR = 40.0, 25.0  # ms from shortest to longest
_LONGER_PR, _LONGEST_PR, _VARYING_PR = 40.0, 500.0, 150.0  # ms
_REGULAR, _FASTER = 0.1, 0.9  # of the median RR: its range; the PP interval of faster atria
_SLOW = 60.0  # per minute: the fastest that a junctional escape rhythm is
_FEWEST = 3  # intervals that make a pattern


def dropped(case: Case) -> Mask:
    """Return after which beats a P wave has no QRS.

    One that has may stand so close to it that it is counted after; and what follows a
    ventricular beat is its own doing.
    """
    seen = case.rhythm.conduction
    if seen is None:
        return np.zeros(case.rhythm.rr.size, np.bool_)
    led = np.append(True, seen.waves[:-1] > 0)
    ventricular = case.rhythm.ventricular
    after: Mask = (seen.waves > 1) & led & ~ventricular[:-1] & ~ventricular[1:]
    return after


def second_degree(case: Case) -> str | None:
    """Return which second-degree block the P waves without a QRS make, None if none."""
    seen, after = case.rhythm.conduction, np.flatnonzero(dropped(case))
    if seen is None or not after.size:
        return None
    waves, delays = seen.waves, seen.delays
    spread = float(np.ptp(delays[waves > 0]))
    constant = spread <= _CONSTANT_PR
    if constant and waves[after].max() > 2:  # noqa: PLR2004 - two without a QRS
        return f"{waves.max() - 1} P waves in a row without a QRS: advanced block"
    if constant and after.size >= _FEWEST and (waves[1:] == 2).all():  # noqa: PLR2004 - 2:1
        return "every second P wave without a QRS: 2:1 block"
    if after[0] < 1 or not delays.max() <= _LONGEST_PR:
        return None
    longer = float(np.median(delays[after - 1] - delays[after]))
    if longer >= _LONGER_PR:
        return f"PR {longer:.0f} ms longer before a P wave without a QRS than after it: Mobitz I"
    same = spread <= _SAME_PR and after[0] > 1
    return "PR constant about a P wave without a QRS: Mobitz II" if same else None


def atria(seen: Conduction) -> str:
    """Return the rate of the P waves in words."""
    return f"P waves {60000 / seen.interval:.0f}/min"


def dissociated(case: Case) -> bool:
    """Return whether atria and slower ventricles beat regularly, each for themselves."""
    seen, rr = case.rhythm.conduction, case.rhythm.rr
    if seen is None or rr.size < _FEWEST or np.isnan(seen.delays).sum() > 1:
        return False
    slow = case.value("heart_rate") < _SLOW and seen.interval < _FASTER * float(np.median(rr))
    regular = np.ptp(rr) <= _REGULAR * float(np.median(rr))
    varying = np.nanmax(seen.delays) - np.nanmin(seen.delays) >= _VARYING_PR
    return bool(slow and regular and varying)
