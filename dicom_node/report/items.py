"""SR content items (PS3.3 C.17.3, C.18): attributes by keyword, as the standard's tables give them.

That each equals the one highdicom would make is proved by the tests.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

from pydicom.valuerep import format_number_as_ds

from analysis.ecg import Code
from dicom_node.report import concepts as c
from dicom_node.report.draft import Attributes
from dicom_node.report.shell import ascii_text

CONTAINS: Final = "CONTAINS"
PROPERTY: Final = "HAS PROPERTIES"
MODIFIER: Final = "HAS CONCEPT MOD"
CONTEXT: Final = "HAS OBS CONTEXT"
INFERRED: Final = "INFERRED FROM"
SELECTED: Final = "SELECTED FROM"

_DECIMALS: Final = {"ms": 1, "deg": 1, "{H.B.}/min": 1, "a": 1, "%": 1, "mV.ms": 1}


def container(
    name: Code, items: Iterable[Attributes], template: str | None = None, how: str = CONTAINS
) -> Attributes:
    """Return a heading with the items under it, and the template (PS3.16) that rules them."""
    values: Attributes = {"ContinuityOfContent": "CONTINUOUS", "ContentSequence": list(items)}
    if template:
        identified = {"MappingResource": "DCMR", "TemplateIdentifier": template}
        values["ContentTemplateSequence"] = [identified]
    return item("CONTAINER", name, how, values)


def code(name: Code, value: Code, how: str = CONTAINS) -> Attributes:
    """Return a coded value."""
    return item("CODE", name, how, {"ConceptCodeSequence": value})


def text(name: Code, value: str, how: str = CONTAINS) -> Attributes:
    """Return a text in ASCII; blank becomes "not stated", because a text may not be empty."""
    plain = ascii_text(value)
    return item("TEXT", name, how, {"TextValue": plain if plain.strip() else "not stated"})


def number(name: Code, value: float | None, unit: str, how: str = CONTAINS) -> Attributes:
    """Return a number, or that there is none where it is absent or not finite (CID 42)."""
    if value is None or not math.isfinite(value):
        return absent(name, c.MEASUREMENT_FAILURE, how)
    rounded = round(float(value), _DECIMALS.get(unit, 4))
    measured = {
        "NumericValue": format_number_as_ds(rounded),
        "FloatingPointValue": rounded,
        "MeasurementUnitsCodeSequence": c.UNITS[unit],
    }
    return item("NUM", name, how, {"MeasuredValueSequence": [measured]})


def absent(name: Code, why: Code, how: str = CONTAINS) -> Attributes:
    """Return a number that is not there, and why (Numeric Value Qualifier, CID 42)."""
    values = {"MeasuredValueSequence": [], "NumericValueQualifierCodeSequence": why}
    return item("NUM", name, how, values)


def moment(name: Code, value: str) -> Attributes:
    """Return a DT."""
    return item("DATETIME", name, CONTAINS, {"DateTime": value})


def uid(name: Code, value: str, how: str = CONTAINS) -> Attributes:
    """Return a reference by UID."""
    return item("UIDREF", name, how, {"UID": value})


def waveform(
    name: Code, referenced: Attributes, how: str = CONTAINS, channels: Sequence[int] = ()
) -> Attributes:
    """Return a reference to a waveform instance, or to some of its channels (PS3.3 C.18.5).

    Parameters
    ----------
    channels
        Multiplex group and channel of each, one after the other; none means the whole instance.
    """
    some = {"ReferencedWaveformChannels": tuple(channels)} if channels else {}
    return item("WAVEFORM", name, how, {"ReferencedSOPSequence": [referenced | some]})


def samples(
    name: Code, kind: str, positions: Sequence[int], of: Attributes, how: str = INFERRED
) -> Attributes:
    """Return temporal coordinates (TCOORD, PS3.3 C.18.7) that are selected from a waveform.

    Parameters
    ----------
    kind
        Temporal Range Type.
    positions
        Samples of one multiplex group, the first is 1.
    of
        The WAVEFORM item, related as SELECTED FROM.
    """
    values: Attributes = {
        "TemporalRangeType": kind,
        "ReferencedSamplePositions": list(positions),
        "ContentSequence": [of],
    }
    return item("TCOORD", name, how, values)


def item(value_type: str, name: Code, how: str, values: Attributes) -> Attributes:
    """Return a content item; `how` it relates to the one above is its Relationship Type."""
    return {
        "RelationshipType": how,
        "ValueType": value_type,
        "ConceptNameCodeSequence": name,
    } | values
