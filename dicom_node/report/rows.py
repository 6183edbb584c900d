"""Rows that more than one of our templates has."""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from analysis.ecg import Code
from dicom_node.report import concepts as c
from dicom_node.report.items import CONTAINS, CONTEXT, MODIFIER, PROPERTY
from dicom_node.report.matching import Row, Rows, rows_of


def required(concept: Code, value_type: str, how: str = CONTAINS) -> Row:
    """Return a row that is needed, once."""
    return Row(concept=concept, value_types=(value_type,), relationship=how, at_least=1)


def choice(concept: Code, values: Iterable[Code], how: str = CONTAINS, least: int = 1) -> Row:
    """Return a CODE row that allows these values."""
    chosen = frozenset(values)
    return Row(
        concept=concept, value_types=("CODE",), relationship=how, at_least=least, values=chosen
    )


def text(concept: Code, how: str = CONTAINS, least: int = 0, most: int = 1) -> Row:
    """Return a TEXT row."""
    return Row(
        concept=concept, value_types=("TEXT",), relationship=how, at_least=least, at_most=most
    )


def number(
    concept: Code, unit: str, how: str = CONTAINS, *, least: int = 0, most: int = 1,
    rows: Rows = MappingProxyType({}),
) -> Row:  # fmt: skip
    """Return a NUM row of one unit."""
    return Row(
        concept=concept, value_types=("NUM",), relationship=how, at_least=least, at_most=most,
        unit=c.UNITS[unit], rows=rows,
    )  # fmt: skip


def section(concept: Code, rows: Rows, template: str = "", *, least: int = 1, most: int = 1) -> Row:
    """Return a CONTAINER row with the rows under it."""
    return Row(
        concept=concept, value_types=("CONTAINER",), at_least=least, at_most=most,
        template=template, rows=rows,
    )  # fmt: skip


_FORMULA: Final = rows_of(choice(c.ALGORITHM_NAME, c.FORMULAS.values(), PROPERTY))


def _measurement(name: str) -> Row:
    concept, unit = c.MEASUREMENTS[name], c.MEASUREMENT_UNITS[name]
    if name in c.FORMULAS:
        return number(concept, unit, most=len(c.FORMULAS), rows=_FORMULA)
    return number(concept, unit, least=int(name in c.ALWAYS_STATED))


GLOBAL_ROWS: Final = tuple(map(_measurement, c.MEASUREMENTS))
LEAD_ROWS: Final = (
    *(number(concept, "ms") for concept in c.LEAD_DURATIONS.values()),
    *(number(concept, "mV") for concept in c.LEAD_VOLTAGES.values()),
    *(number(concept, "mV") for concept in (c.P_MAXIMUM, c.P_MINIMUM, c.T_MAXIMUM, c.T_MINIMUM)),
)
FINDING_ROWS: Final = (
    text(c.EQUIVALENT_MEANING, MODIFIER),
    number(c.PROBABILITY, "1", PROPERTY),
    number(c.THRESHOLD, "1", PROPERTY),
    text(c.ALGORITHM_NAME, PROPERTY),
)
PREAMBLE_ROWS: Final = (
    Row(
        concept=c.LANGUAGE,
        value_types=("CODE",),
        relationship=MODIFIER,
        at_least=1,
        scheme="RFC5646",
    ),
    choice(c.OBSERVER_TYPE, (c.OBSERVER_DEVICE,), CONTEXT),
    required(c.OBSERVER_UID, "UIDREF", CONTEXT),
    text(c.OBSERVER_NAME, CONTEXT),
    text(c.OBSERVER_MANUFACTURER, CONTEXT),
    text(c.OBSERVER_MODEL_NAME, CONTEXT),
    text(c.OBSERVER_SERIAL_NUMBER, CONTEXT),
    choice(c.PROCEDURE_REPORTED, (c.TWELVE_LEAD_ECG, c.ELECTROCARDIOGRAM), MODIFIER),
)
"""TID 1204, TID 1002 with TID 1004, and the procedure."""
