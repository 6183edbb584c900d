"""What a criterion looks at and what it answers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from analysis.ecg import CHEST, Lead, Patient
from analysis.morphology import depth, height
from analysis.result import LEAD_QUANTITIES, LeadMeasurements, Measurements, Quality, Quantity
from analysis.rhythm import Rhythm

ADULT = 18.0  # years
WIDE_QRS = 120.0  # ms


class Unassessed(Exception):
    """A criterion cannot be applied; the message says why."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a definition is met, with numbers, and the leads that carry it."""

    present: bool
    evidence: tuple[str, ...] = ()
    leads: tuple[Lead, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the criteria look at; a value that is missing raises :class:`Unassessed`."""

    measurements: Measurements
    leads: LeadMeasurements
    rhythm: Rhythm
    quality: Quality
    patient: Patient
    qtc: Quantity
    qtc_formula: str

    def value(self, name: str) -> float:
        """Return a global measurement, as precisely as it is shown."""
        return shown(name, getattr(self.measurements, name))

    def lead(self, lead: Lead, name: str) -> float:
        """Return a measurement of one lead."""
        return self._known(self.leads.value(lead, name), lead, name)

    def r(self, lead: Lead) -> float:
        """Return the height of the higher of R and R′, mV."""
        return self._known(height(self.leads, lead), lead, "r_amplitude")

    def s(self, lead: Lead) -> float:
        """Return the depth of S or QS, mV."""
        return self._known(depth(self.leads, lead), lead, "s_amplitude")

    def _known(self, value: float, lead: Lead, name: str) -> float:
        if not np.isfinite(value):
            why = LEAD_QUANTITIES[name].missing
            raise Unassessed(f"lead {lead} cannot be judged: {why}")
        return value

    @property
    def wide(self) -> bool:
        """Whether the QRS lasts 120 ms or more."""
        return self.value("qrs_duration") >= WIDE_QRS


Criterion = Callable[[Case], Judgement]


_DIGITS = {"mV": 2, "1": 3}


def shown(name: str, quantity: Quantity) -> float:
    """Return the value with the digits a reader sees, so that limits agree with what is read."""
    if quantity.value is None:
        raise Unassessed(f"{words(name)}: {quantity.reason}")
    return round(quantity.value, _DIGITS.get(quantity.unit, 0))


def words(name: str) -> str:
    """Return the name of a measurement as it is spoken: "PR interval"."""
    if name in _SPOKEN:
        return _SPOKEN[name]
    first, _, rest = name.partition("_")
    first = first.upper() if first in _INITIALS else first
    return f"{first} {rest.replace('_', ' ')}".strip()


_SPOKEN = {"sokolow_lyon": "Sokolow-Lyon voltage", "cornell_voltage": "Cornell voltage"}
_INITIALS = frozenset({"p", "pr", "qrs", "qt", "t", "rr", "jt"})

_NEIGHBOURS: Mapping[Lead, frozenset[Lead]] = {
    **{
        lead: frozenset(CHEST[max(0, place - 1) : place + 2]) - {lead}
        for place, lead in enumerate(CHEST)
    },
    Lead.II: frozenset({Lead.III, Lead.aVF}),
    Lead.III: frozenset({Lead.II, Lead.aVF}),
    Lead.aVF: frozenset({Lead.II, Lead.III}),
    Lead.I: frozenset({Lead.aVL}),
    Lead.aVL: frozenset({Lead.I}),
}
"""Contiguous leads: along the chest; II, III and aVF; I and aVL."""


def contiguous(leads: Iterable[Lead]) -> tuple[Lead, ...]:
    """Return those of the leads that have a contiguous one among them."""
    chosen = tuple(leads)
    return tuple(lead for lead in chosen if _NEIGHBOURS[lead] & set(chosen))


def in_contiguous_leads(values: Mapping[Lead, float], met: Iterable[Lead], what: str) -> Judgement:
    """Return whether two contiguous leads meet a limit, with each of their values.

    Parameters
    ----------
    values
        In mV by lead, NaN = not measured.
    met
        The leads that meet the limit.
    what
        Of which the values are.

    Raises
    ------
    Unassessed
        If none do and not every lead was measured.
    """
    found = contiguous(met)
    if found:
        said = tuple(f"{what} in {lead} {values[lead]:+.2f} mV" for lead in found)
        return Judgement(present=True, evidence=said, leads=found)
    missing = [lead for lead, value in values.items() if not np.isfinite(value)]
    if missing:
        raise Unassessed(f"not measured in {', '.join(missing)}")
    return Judgement(present=False)
