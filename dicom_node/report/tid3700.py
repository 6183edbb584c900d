"""TID 3700, ECG Report, and its sub-templates as tables, and the matching of a report with them.

A row holds Requirement Type M (at least once), what we add to it by rule (an algorithm is always
named with its version, a report always says something), and the context group of a value.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Final, Self

from pydicom.sr.codedict import codes

from analysis.codes import LEAD_CODES, VOCABULARY
from analysis.ecg import Code
from dicom_node.report import concepts as c
from dicom_node.report.draft import Attributes, AttributeSet, attribute, first_code
from dicom_node.report.waveforms import values_of

_TAGS: Final = frozenset(
    attribute(keyword)[0]
    for keyword in (
        "ValueType",
        "RelationshipType",
        "ConceptNameCodeSequence",
        "ConceptCodeSequence",
        "ContinuityOfContent",
        "MeasuredValueSequence",
        "TextValue",
        "DateTime",
        "UID",
        "ReferencedSOPSequence",
        "ContentSequence",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Item:
    """A content item (PS3.3 C.17.3), read once."""

    name: Code | None
    value_type: str
    relationship: str
    values: Attributes
    """Attributes that have a value, by keyword."""
    items: tuple["Item", ...]

    @classmethod
    def read(cls, dataset: AttributeSet) -> Self:
        """Return the item and all below it."""
        values = values_of(dataset, _TAGS)
        return cls(
            name=first_code(values.get("ConceptNameCodeSequence")),
            value_type=str(values.get("ValueType", "")),
            relationship=str(values.get("RelationshipType", "")),
            values=values,
            items=tuple(cls.read(child) for child in values.get("ContentSequence", ())),
        )

    @property
    def code(self) -> Code | None:
        """The value of a CODE item."""
        return first_code(self.values.get("ConceptCodeSequence"))

    def walk(self) -> Iterator[tuple["Item", "Item"]]:
        """Yield every item below, with the one it stands under."""
        for item in self.items:
            yield self, item
            yield from item.walk()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a template: what stands there, how often, and what stands below it."""

    concept: Code
    value_type: str
    relationship: str = "CONTAINS"
    at_least: int = 0
    at_most: int | None = None
    values: frozenset[Code] | None = None
    """Codes allowed; None allows any known one."""
    rows: tuple["Row", ...] = ()


def _required(concept: Code, value_type: str, relationship: str = "CONTAINS") -> Row:
    return Row(
        concept=concept, value_type=value_type, relationship=relationship, at_least=1, at_most=1
    )


_FORMULA = Row(
    concept=c.ALGORITHM_NAME,
    value_type="CODE",
    relationship="HAS PROPERTIES",
    at_most=1,
    values=frozenset(c.FORMULAS.values()),
)
_FINDING = (
    Row(concept=c.EQUIVALENT_MEANING, value_type="TEXT", relationship="HAS PROPERTIES"),
    Row(concept=c.PROBABILITY, value_type="NUM", relationship="HAS PROPERTIES", at_most=1),
    Row(concept=c.THRESHOLD, value_type="NUM", relationship="HAS PROPERTIES", at_most=1),
    Row(concept=c.ALGORITHM_NAME, value_type="TEXT", relationship="HAS PROPERTIES", at_least=1),
    Row(concept=c.COMMENT, value_type="TEXT", relationship="HAS PROPERTIES"),
)
_TID_3708 = (
    _required(c.SOURCE_OF_MEASUREMENT, "WAVEFORM"),
    Row(concept=c.LEAD_SYSTEM, value_type="CODE", at_most=1),
    _required(c.PROCEDURE_DATETIME, "DATETIME"),
    Row(concept=c.SAMPLE_RATE, value_type="NUM", at_most=1),
    Row(concept=c.ALGORITHM_NAME, value_type="TEXT", at_least=1),
    Row(concept=c.ALGORITHM_VERSION, value_type="TEXT", at_least=1),
    Row(concept=c.ALGORITHM_PARAMETERS, value_type="TEXT"),
)
_TID_3713 = (
    *(
        Row(concept=concept, value_type="NUM", rows=(_FORMULA,))
        for concept in dict.fromkeys(c.MEASUREMENTS.values())
    ),
    Row(concept=c.COMMENT, value_type="TEXT"),
)
_TID_3717 = (
    Row(concept=c.ECG_FINDING, value_type="CODE", rows=_FINDING),
    Row(
        concept=c.FINDINGS_SUMMARY,
        value_type="CODE",
        at_most=1,
        values=frozenset({c.WITHOUT_FINDINGS, c.PARTLY_WITHOUT_FINDINGS, c.NOTHING_SUCCEEDED}),
    ),
)
_TID_3719 = (
    _required(c.SUMMARY, "TEXT"),
    Row(
        concept=c.OVERALL_FINDING,
        value_type="CODE",
        at_most=1,
        values=frozenset(c.OVERALL.values()),
    ),
    Row(concept=c.QUALITY_ASSESSMENT, value_type="TEXT"),
)


def _section(concept: Code, rows: tuple[Row, ...]) -> Row:
    return Row(concept=concept, value_type="CONTAINER", at_least=1, at_most=1, rows=rows)


UNITS: Final = frozenset(c.UNITS.values())

TID_3700: Final = (
    _required(c.LANGUAGE, "CODE", "HAS CONCEPT MOD"),
    Row(
        concept=c.OBSERVER_TYPE,
        value_type="CODE",
        relationship="HAS OBS CONTEXT",
        at_least=1,
        at_most=1,
        values=frozenset({c.OBSERVER_DEVICE}),
    ),
    _required(c.OBSERVER_UID, "UIDREF", "HAS OBS CONTEXT"),
    _required(c.PROCEDURE_REPORTED, "CODE", "HAS CONCEPT MOD"),
    _section(c.PROCEDURE_DESCRIPTIONS, _TID_3708),
    _section(c.QUANTITATIVE_ANALYSIS, (_section(c.GLOBAL_MEASUREMENTS, _TID_3713),)),
    _section(c.QUALITATIVE_ANALYSIS, _TID_3717),
    _section(c.SUMMARY, _TID_3719),
)
"""TID 3700 with TID 1204, 1002, 3708, 4019, 3713, 3717 and 3719; all are extensible."""


def tid3700_faults(report: Item) -> Iterator[str]:
    """Yield what keeps a report out of the template, one sentence each."""
    if report.value_type != "CONTAINER" or report.name != c.ECG_REPORT:
        yield "the document is no CONTAINER titled ECG Report"
    yield from _match(report, TID_3700, "TID 3700")
    for parent, item in report.walk():
        label = item.name.meaning if item.name else "an unnamed item"
        yield from (f"{label}: {fault}" for fault in _item_faults(item, parent))
    yield from _meaning(report)


def _match(parent: Item, rows: tuple[Row, ...], where: str) -> Iterator[str]:
    for row in rows:
        found = [item for item in parent.items if item.name == row.concept]
        place = f"{where}, {row.concept.meaning}"
        if len(found) < row.at_least:
            yield f"{place}: absent"
        if row.at_most is not None and len(found) > row.at_most:
            yield f"{place}: {len(found)} times"
        for item in found:
            yield from _match_one(item, row, place)


def _match_one(item: Item, row: Row, place: str) -> Iterator[str]:
    if item.value_type != row.value_type:
        yield f"{place}: value type is not {row.value_type}"
    if item.relationship != row.relationship:
        yield f"{place}: relationship is not {row.relationship}"
    if row.values is not None and item.code not in row.values:
        yield f"{place}: the code is not one of the context group"
    yield from _match(item, row.rows, place)


def _item_faults(item: Item, parent: Item) -> Iterator[str]:
    """Every item has a value of its type, under a parent that may have it."""
    if item.relationship == "CONTAINS" and parent.value_type != "CONTAINER":
        yield "only a CONTAINER contains"
    if item.name not in known_codes():
        yield "the concept is no known code"
    fault = _VALUE_FAULTS.get(item.value_type, _unknown_type)(item)
    if fault:
        yield fault


def _unknown_type(item: Item) -> str | None:
    return f"value type {item.value_type or 'absent'} is none of ours"


def _code_fault(item: Item) -> str | None:
    value = item.code
    if value is not None and value.scheme == "RFC5646":
        return None
    return None if value in known_codes() else "the value is no known code"


def _number_fault(item: Item) -> str | None:
    measured = [values_of(value) for value in item.values.get("MeasuredValueSequence", ())]
    if len(measured) != 1 or "NumericValue" not in measured[0]:
        return "one measured value is needed"
    unit = first_code(measured[0].get("MeasurementUnitsCodeSequence"))
    return None if unit in UNITS else "the unit is absent or not UCUM"


def _needs(keyword: str) -> Callable[[Item], str | None]:
    return lambda item: None if keyword in item.values else f"{keyword} is absent"


_VALUE_FAULTS: Final[Mapping[str, Callable[[Item], str | None]]] = MappingProxyType(
    {
        "CODE": _code_fault,
        "NUM": _number_fault,
        "TEXT": _needs("TextValue"),
        "DATETIME": _needs("DateTime"),
        "UIDREF": _needs("UID"),
        "WAVEFORM": _needs("ReferencedSOPSequence"),
        "CONTAINER": _needs("ContinuityOfContent"),
    }
)


def _meaning(report: Item) -> Iterator[str]:
    """Judge what the items say together: no diagnosis of a poor ECG, versions, no silence."""
    said = [(item.name, item.code) for _, item in report.walk() if item.value_type == "CODE"]
    named = [name for name, _ in said]
    diagnosed = c.ECG_FINDING in named
    if (c.OVERALL_FINDING, c.NON_DIAGNOSTIC) in said and diagnosed:
        yield "a non-diagnostic ECG has a finding"
    if diagnosed == (c.FINDINGS_SUMMARY in named):
        yield "either findings or that there are none must be said"
    for section in report.items:
        if section.name == c.PROCEDURE_DESCRIPTIONS:
            yield from _versions([item.name for item in section.items])


def _versions(names: list[Code | None]) -> Iterator[str]:
    """TID 4019: the version follows the name."""
    for name, following in zip(names, [*names[1:], None], strict=True):
        if name == c.ALGORITHM_NAME and following != c.ALGORITHM_VERSION:
            yield "TID 4019: an algorithm without its version"


@cache
def known_codes() -> frozenset[Code | None]:
    """Every code of PS3.16 as pydicom has it, and those that this house uses besides."""
    standard = {
        Code(code.scheme_designator, code.value.replace(" ", ""), code.meaning)
        for scheme in (codes.DCM, codes.SCT, codes.LN, codes.MDC, codes.UCUM)
        for code in scheme.concepts.values()
    }
    ours = {value for value in vars(c).values() if isinstance(value, Code)}
    vocabulary = {entry.code for entry in VOCABULARY.values()}
    tables = (c.UNITS, c.MEASUREMENTS, c.FORMULAS, c.MARKS, c.OVERALL, LEAD_CODES)
    listed = {code for table in tables for code in table.values()}
    return frozenset(standard | ours | vocabulary | listed)
