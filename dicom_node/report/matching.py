"""Content items and the rows of a template (PS3.16), and the matching of the ones with the others.

The templates are extensible; what we add to them is a row too, so that whatever has no row is a
fault.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Final, Self, TypeAlias

from pydicom.sr.codedict import codes

from analysis.codes import VOCABULARY
from analysis.ecg import Code
from dicom_node.report.concepts import MEASUREMENT_FAILURE, VALUE_UNKNOWN
from dicom_node.report.draft import Attributes, AttributeSet, attribute, first_code
from dicom_node.report.items import CONTAINS
from dicom_node.report.uids import is_uid
from dicom_node.report.waveforms import values_of

_TAGS: Final = frozenset(
    attribute(keyword)[0]
    for keyword in (
        "ValueType",
        "RelationshipType",
        "ConceptNameCodeSequence",
        "ConceptCodeSequence",
        "ContinuityOfContent",
        "ContentTemplateSequence",
        "MeasuredValueSequence",
        "NumericValueQualifierCodeSequence",
        "TextValue",
        "DateTime",
        "UID",
        "ReferencedSOPSequence",
        "ReferencedSamplePositions",
        "TemporalRangeType",
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
            items=tuple(map(cls.read, values.get("ContentSequence", ()))),
        )

    @property
    def code(self) -> Code | None:
        """The value of a CODE item."""
        return first_code(self.values.get("ConceptCodeSequence"))

    @property
    def number(self) -> float:
        """The value of a NUM item, NaN where there is none."""
        measured: AttributeSet = next(iter(self.values.get("MeasuredValueSequence", ())), {})
        value = measured.get("NumericValue")
        return math.nan if value in {None, ""} else float(value)

    def under(self, *names: Code) -> tuple["Item", ...]:
        """Return the items below of this name; of several, those below of those below."""
        found = tuple(item for item in self.items if item.name == names[0])
        return found if len(names) == 1 else tuple(x for y in found for x in y.under(*names[1:]))

    def walk(self) -> Iterator["Item"]:
        """Yield every item below."""
        for item in self.items:
            yield item
            yield from item.walk()


Rows: TypeAlias = Mapping[Code, "Row"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One row of a template; there is one for each concept name under a parent."""

    concept: Code
    value_types: tuple[str, ...]
    """Any of these."""
    relationship: str = CONTAINS
    at_least: int = 0
    at_most: int = 1
    values: frozenset[Code] | None = None
    """Codes allowed; None allows any known one, or any of the scheme."""
    scheme: str = ""
    unit: Code | None = None
    """Of a NUM."""
    template: str = ""
    rows: Rows = field(default_factory=lambda: MappingProxyType({}))


MANY: Final = 1_000_000
"""As many as there are."""


def rows_of(*rows: Row) -> Rows:
    """Return the rows by the concept they are about, in the order of the template."""
    return MappingProxyType({row.concept: row for row in rows})


def match(parent: Item, rows: Rows, where: str) -> Iterator[str]:
    """Yield where the items under a parent differ from the rows, one sentence each."""
    found = Counter(item.name for item in parent.items)
    for row in rows.values():
        count = found[row.concept] if row.at_least or row.concept in found else 0
        if not row.at_least <= count <= row.at_most:
            yield f"{where}, {row.concept.meaning}: {f'{count} times' if count else 'absent'}"
    for item in parent.items:
        if item.name is None or item.name not in rows:
            yield f"{where}: {item.name.meaning if item.name else 'an unnamed item'} has no place"
        else:
            yield from _match_one(item, rows[item.name], where)


def _match_one(item: Item, row: Row, where: str) -> Iterator[str]:
    for fault in _faults(item, row):
        yield f"{where}, {row.concept.meaning}: {fault}"
    if item.items or row.rows:
        yield from match(item, row.rows, f"{where}, {row.concept.meaning}")


def _faults(item: Item, row: Row) -> Iterator[str]:
    if item.value_type not in row.value_types:
        yield f"value type is not {' or '.join(row.value_types)}"
    if item.relationship != row.relationship:
        yield f"relationship is not {row.relationship}"
    fault = _VALUE_FAULTS.get(item.value_type, _unknown_type)(item, row)
    if fault:
        yield fault


def _unknown_type(item: Item, _row: Row) -> str | None:
    return f"value type {item.value_type or 'absent'} is none of ours"


def _container_fault(item: Item, row: Row) -> str | None:
    if "ContinuityOfContent" not in item.values:
        return "ContinuityOfContent is absent"
    found: AttributeSet = next(iter(item.values.get("ContentTemplateSequence", ())), {})
    template = str(found.get("TemplateIdentifier") or "")
    return None if template == row.template else f"template is not {row.template or 'absent'}"


def _code_fault(item: Item, row: Row) -> str | None:
    value = item.code
    if row.values is not None:
        return None if value in row.values else "the code is not one of the context group"
    if row.scheme:
        return None if value and value.scheme == row.scheme else f"the code is not {row.scheme}"
    return None if value in known_codes() else "the value is no known code"


def _number_fault(item: Item, row: Row) -> str | None:
    measured = list(item.values.get("MeasuredValueSequence", ()))
    if not measured:
        why = first_code(item.values.get("NumericValueQualifierCodeSequence"))
        return None if why in _ABSENCES else "neither a value nor why there is none"
    if len(measured) > 1 or not math.isfinite(item.number):
        return "one finite value is needed"
    unit = first_code(measured[0].get("MeasurementUnitsCodeSequence"))
    return None if unit == row.unit else "the unit is absent or not the one of the concept"


_ABSENCES: Final = frozenset({MEASUREMENT_FAILURE, VALUE_UNKNOWN})


def _uid_fault(item: Item, _row: Row) -> str | None:
    return None if is_uid(item.values.get("UID")) else "the value is no UID"


_ENDS: Final[Mapping[str, int]] = MappingProxyType(
    {"POINT": 1, "MULTIPOINT": 1, "SEGMENT": 2, "MULTISEGMENT": 2}
)
"""Sample positions of one point or segment."""


def _samples_fault(item: Item, _row: Row) -> str | None:
    kind = str(item.values.get("TemporalRangeType", ""))
    came = item.values.get("ReferencedSamplePositions")
    positions = [came] if isinstance(came, int) else list(came or ())
    ends = _ENDS.get(kind)
    if ends is None or len(positions) % ends or not positions:
        return "the temporal range type does not fit the sample positions"
    if not kind.startswith("MULTI") and len(positions) != ends:
        return "it is more than one point or segment"
    if min(positions) < 1:
        return "a sample position is before the first"
    segments = zip(positions[::2], positions[1::2], strict=True) if ends > 1 else ()
    backwards = any(first > last for first, last in segments)
    return "a segment ends before it begins" if backwards else None


def _needs(keyword: str) -> Callable[[Item, Row], str | None]:
    return lambda item, _row: None if keyword in item.values else f"{keyword} is absent"


_VALUE_FAULTS: Final[Mapping[str, Callable[[Item, Row], str | None]]] = MappingProxyType(
    {
        "CODE": _code_fault,
        "NUM": _number_fault,
        "TEXT": _needs("TextValue"),
        "DATETIME": _needs("DateTime"),
        "UIDREF": _uid_fault,
        "WAVEFORM": _needs("ReferencedSOPSequence"),
        "TCOORD": _samples_fault,
        "CONTAINER": _container_fault,
    }
)


@cache
def known_codes() -> frozenset[Code | None]:
    """Every code of PS3.16 as pydicom has it, and those of the vocabulary."""
    standard = {
        Code(code.scheme_designator, code.value.replace(" ", ""), code.meaning)
        for scheme in (codes.DCM, codes.SCT, codes.LN, codes.MDC, codes.UCUM)
        for code in scheme.concepts.values()
    }
    return frozenset(standard | {entry.code for entry in VOCABULARY.values()})
