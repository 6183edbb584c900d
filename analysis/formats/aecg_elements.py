"""The elements that an annotated ECG is written of: codes, values, texts at their paths."""

from typing import Final
from xml.etree.ElementTree import Element, SubElement

from analysis.ecg import Code
from analysis.formats.aecg_marks import MDC_SYSTEM
from analysis.formats.hl7 import CODES

_ACT: Final = "2.16.840.1.113883.5.4"
_IDENTIFIERS: Final = {code: name for name, code in CODES.items()}
SYSTEMS: Final = {"SCT": "2.16.840.1.113883.6.96", "LN": "2.16.840.1.113883.6.1"}
"""Code systems by their designators in DICOM."""


def add_path(parent: Element, path: str) -> Element:
    """Return a new element at the end of a path of new elements."""
    for name in path.split("/"):
        parent = SubElement(parent, name)
    return parent


def add_text(parent: Element, name: str, text: str) -> Element:
    """Return a new element with a text."""
    element = SubElement(parent, name)
    element.text = text
    return element


def add_value(parent: Element, kind: str, **attributes: str) -> Element:
    """Return a new value of a data type of HL7 version 3."""
    return SubElement(parent, "value", {"xsi:type": kind, **attributes})


def add_mdc(parent: Element, name: str, identifier: str, display: str = "") -> Element:
    """Return a new element with a code of MDC."""
    attributes = {"code": identifier, "codeSystem": MDC_SYSTEM, "codeSystemName": "MDC"}
    return SubElement(parent, name, attributes | ({"displayName": display} if display else {}))


def add_act(parent: Element, code: str) -> Element:
    """Return a new code of the vocabulary ActCode."""
    return SubElement(parent, "code", code=code, codeSystem=_ACT, codeSystemName="ActCode")


def decimal(number: float) -> str:
    """Return the shortest decimal that is the number."""
    return repr(float(number)).removesuffix(".0")


def add_code(parent: Element, name: str, code: Code, *, exact: bool = False) -> Element:
    """Return a new element with a code; one of MDC by its identifier unless it is to be exact."""
    if code.scheme == "MDC":
        identifier = code.value if exact else _IDENTIFIERS.get(code, code.value)
        return add_mdc(parent, name, identifier, code.meaning)
    attributes = {"codeSystemName": code.scheme, "displayName": code.meaning}
    if code.scheme in SYSTEMS:
        attributes["codeSystem"] = SYSTEMS[code.scheme]
    return SubElement(parent, name, {"code": code.value, **attributes})
