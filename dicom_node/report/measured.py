"""What was measured: globally (TID 3713) and in each lead (TID 3714 with TID 3715)."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from analysis.codes import LEAD_CODES
from analysis.ecg import Code, Lead
from analysis.result import LEAD_QUANTITIES, LeadMeasurements, Quantity, Result
from dicom_node.report import concepts as c
from dicom_node.report import items as i
from dicom_node.report.draft import Attributes
from dicom_node.report.objects import is_reported

_COLUMNS: Final = {name: column for column, name in enumerate(LEAD_QUANTITIES)}
_DOWNWARD: Final = frozenset({"q_amplitude", "s_amplitude"})
_WAVES: Final = frozenset(
    f"{wave}_{kind}" for wave in ("q", "r", "s", "r2") for kind in ("amplitude", "duration")
)
"""0 of these means that the wave is not there."""

_LEAD_ROWS: Final = tuple(
    [(name, _COLUMNS[name], code, "ms") for name, code in c.LEAD_DURATIONS.items()]
    + [(name, _COLUMNS[name], code, "mV") for name, code in c.LEAD_VOLTAGES.items()]
)
_SIGNED: Final = (
    (_COLUMNS["p_amplitude"], c.P_MAXIMUM, c.P_MINIMUM),
    (_COLUMNS["t_amplitude"], c.T_MAXIMUM, c.T_MINIMUM),
)


def quantitative_analysis(result: Result) -> Iterator[Attributes]:
    """Yield TID 3713 and one TID 3714 for each lead that was measured."""
    yield i.container(c.GLOBAL_MEASUREMENTS, _global_measurements(result), "3713")
    yield from _leads(result.leads)


def _global_measurements(result: Result) -> Iterator[Attributes]:
    quantities = dict(result.measurements.quantities())
    for name, concept in c.MEASUREMENTS.items():
        quantity = quantities[name]
        if is_reported(name, quantity):
            yield measurement(name, concept, quantity)
        elif name in c.ALWAYS_STATED:
            yield i.absent(concept, c.MEASUREMENT_FAILURE)
    if missing := list(_missing(quantities)):
        yield i.text(c.COMMENT, f"Not measured. {'; '.join(missing)}.")


def measurement(name: str, concept: Code, quantity: Quantity) -> Attributes:
    """Return a global measurement; a QTc says by which formula."""
    item = i.number(concept, quantity.value, quantity.unit)
    if name in c.FORMULAS:
        item["ContentSequence"] = [i.code(c.ALGORITHM_NAME, c.FORMULAS[name], i.PROPERTY)]
    return item


def _missing(quantities: Mapping[str, Quantity]) -> Iterator[str]:
    """Yield each reason with the measurements it kept away."""
    reasons: dict[str, list[str]] = {}
    for name, quantity in quantities.items():
        if quantity.reason is not None:
            reasons.setdefault(quantity.reason, []).append(name.replace("_", " "))
    yield from (f"{', '.join(names)}: {reason}" for reason, names in reasons.items())


def _leads(leads: LeadMeasurements) -> Iterator[Attributes]:
    for lead, numbers in lead_numbers(leads):
        yield i.container(c.LEAD_MEASUREMENTS, _lead(lead, numbers), "3714")


def lead_numbers(leads: LeadMeasurements) -> Iterator[tuple[Lead, list[Attributes]]]:
    """Yield each lead that was measured, with its numbers."""
    for lead, row in zip(leads.leads, leads.values.tolist(), strict=True):
        numbers = list(_lead_numbers(row))
        if lead in LEAD_CODES and numbers:
            yield lead, numbers


def _lead(lead: Lead, numbers: Iterable[Attributes]) -> Iterator[Attributes]:
    yield i.code(c.LEAD_ID, LEAD_CODES[lead], i.MODIFIER)
    yield i.code(c.MEASUREMENT_METHOD, c.MEDIAN, i.CONTEXT)
    yield from numbers


def _lead_numbers(row: list[float]) -> Iterator[Attributes]:
    """Yield durations and voltages; a deflection below the level before it is negative."""
    for name, column, concept, unit in _LEAD_ROWS:
        value = -row[column] if name in _DOWNWARD else row[column]
        if math.isfinite(value) and not (value == 0 and name in _WAVES):
            yield i.number(concept, value, unit)
    for column, above, below in _SIGNED:
        value = row[column]
        if math.isfinite(value):
            yield i.number(above if value >= 0 else below, value, "mV")
