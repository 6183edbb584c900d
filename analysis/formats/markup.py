"""XML from carts: decoded from whatever encoding it is really in, bounded, without entities.

Carts declare UTF-16 on UTF-8 bytes, name encodings that no register knows ("ISO8859-1"), and
put byte order marks anywhere. The bytes decide; the declaration is asked only where they do not.
"""

import re
from typing import Final
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from analysis.errors import Reason, Undecodable

MAX_ELEMENTS: Final = 400_000
_PROLOGUE: Final = 8192

_MARKS: Final = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_UNMARKED: Final = ((b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))
_DECLARATION: Final = re.compile(r"\s*<\?xml[^>]*?\?>")
_ENCODING: Final = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["']""")
_ROOT: Final = re.compile(
    r"\s*+(?>(?:<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*+(?:\[[^\]]*+\])?+[^>]*+>)\s*+)*+"
    r"<(?:[\w.-]++:)?+([\w.-]++)",
    re.DOTALL,
)
"""Without backtracking over what precedes the root, which damaged comments would make endless."""


def root_of(data: bytes) -> str | None:
    """Return the name of the root element without its namespace, or None where it is no XML."""
    head = data[:_PROLOGUE].lstrip()
    if b"<" not in head[:8]:
        return None
    match = _ROOT.match(_text(head, errors="ignore"))
    return match and match[1]


def parse(data: bytes) -> Element:
    """Return the root element; tags and attributes without their namespaces.

    Raises
    ------
    Undecodable
        DAMAGED, where it is not well formed or defines entities; TOO_LARGE, where it has more
        elements than an ECG can have.
    """
    text = _DECLARATION.sub("", _text(data, errors="replace"), count=1)
    if text.count("<") > 2 * MAX_ELEMENTS:
        raise Undecodable(Reason.TOO_LARGE, "The document has more elements than any ECG.")
    try:
        root: Element = fromstring(text)
    except ParseError:
        raise Undecodable(
            Reason.DAMAGED, "The XML is cut or not well formed; send it again."
        ) from None
    except (DefusedXmlException, ValueError):
        raise Undecodable(
            Reason.DAMAGED, "The XML defines entities, which no cart writes; check its source."
        ) from None
    for element in root.iter():
        element.tag = _local(element.tag)
        if any("}" in name for name in element.attrib):
            element.attrib = {_local(name): text for name, text in element.attrib.items()}
    return root


def text_of(element: Element | None, path: str = ".") -> str:
    """Return the stripped text at a path below an element, or an empty string."""
    found = None if element is None else element.find(path)
    return "" if found is None or found.text is None else found.text.strip()


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _text(data: bytes, errors: str) -> str:
    data = data.lstrip()
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.removeprefix(mark).decode(encoding, errors)
    for start, encoding in _UNMARKED:
        if data.startswith(start):
            return data.decode(encoding, errors)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _declared(data, errors)


def _declared(data: bytes, errors: str) -> str:
    """Decode by the declaration; Latin-1 where it names nothing known or a wide encoding."""
    match = _ENCODING.match(data)
    name = match[1].decode("ascii") if match else "latin-1"
    if name.lower().startswith(("utf-16", "utf16", "utf-32", "ucs")):
        name = "utf-8"
    try:
        return data.decode(_ALIASES.get(name.lower(), name), errors)
    except (LookupError, ValueError):
        return data.decode("latin-1")


_ALIASES: Final = {"iso8859-1": "latin-1"}
