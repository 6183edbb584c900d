"""What the cart measured and said: sections 7, 8, 10 and 11 (EN 1064 §5.10 to §5.14)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from analysis.ecg import Annotation, Code, Lead, VendorStatement
from analysis.formats import fields
from analysis.formats.dicom.leads import lead_from_number
from analysis.formats.fields import Quantity
from analysis.formats.scp.facts import texts
from analysis.formats.scp.sections import Section

_UNKNOWN: Final = frozenset({29999, 29998, 19999, 999, 0xFFFF, -32768})
"""Not computed, lead rejected, wave absent (§5.10.2, §5.13.3); and what carts write instead."""
_CODED: Final = 1
"""The type of a statement of section 11 that is coded, not free text."""


def _scp(value: str, meaning: str, unit: str) -> Quantity:
    return Quantity(Code("SCPECG", value, meaning), unit)


_ATRIAL_RATE: Final = Quantity(Code("MDC", "2:16020", "Atrial Heart Rate"), "{H.B.}/min")

_ON_THE_BEAT: Final = (
    _scp("5.10.3-1", "P onset", "ms"),
    _scp("5.10.3-2", "P offset", "ms"),
    _scp("5.10.3-3", "QRS onset", "ms"),
    _scp("5.10.3-4", "QRS offset", "ms"),
    _scp("5.10.3-5", "T offset", "ms"),
    fields.P_AXIS,
    fields.QRS_AXIS,
    fields.T_AXIS,
)
"""In the order of §5.10.3; times count from the begin of the reference beat."""

_IN_A_LEAD: Final[Sequence[tuple[str, str]]] = (
    ("P duration", "ms"),
    ("PR interval", "ms"),
    ("QRS duration", "ms"),
    ("QT interval", "ms"),
    ("Q duration", "ms"),
    ("R duration", "ms"),
    ("S duration", "ms"),
    ("R' duration", "ms"),
    ("S' duration", "ms"),
    ("Q amplitude", "uV"),
    ("R amplitude", "uV"),
    ("S amplitude", "uV"),
    ("R' amplitude", "uV"),
    ("S' amplitude", "uV"),
    ("J point amplitude", "uV"),
    ("P(+) amplitude", "uV"),
    ("P(-) amplitude", "uV"),
    ("T(+) amplitude", "uV"),
    ("T(-) amplitude", "uV"),
    ("ST slope", "uV/s"),
    ("P morphology", ""),
    ("T morphology", ""),
    ("Isoelectric segment at the onset of QRS", "ms"),
    ("Isoelectric segment at the end of QRS", "ms"),
    ("Intrinsicoid deflection", "ms"),
    ("Quality", ""),
    ("ST amplitude at J + 20 ms", "uV"),
    ("ST amplitude at J + 60 ms", "uV"),
    ("ST amplitude at J + 80 ms", "uV"),
    ("ST amplitude at J + RR/16", "uV"),
    ("ST amplitude at J + RR/8", "uV"),
)
"""In the order of §5.13.5; without a unit it is no measurement."""


def measurements(section: Section) -> tuple[Annotation, ...]:
    """Return the global measurements of section 7, those of the reference beat first.

    Raises
    ------
    Undecodable
        DAMAGED, where the section is cut.
    """
    blocks, spikes, rr, pp = section.unpack("BBHH", 0)
    found = [*_measured((fields.RR, fields.PP), (rr, pp), zero=False)]
    if blocks:
        found += _measured(_ON_THE_BEAT, section.unpack("5H3h", 6), zero=True)
    return (*found, *_rates(section, 6 + 16 * blocks + 10 * spikes))


def _rates(section: Section, at: int) -> Iterator[Annotation]:
    """Yield the rates and QTc behind the types of the beats; early versions end before them."""
    if len(section.body) < at + 2:
        return
    (beats,) = section.unpack("H", at)
    at += 2 + beats
    if len(section.body) < at + 7:
        return
    *values, formula = section.unpack("HHHB", at)
    qtc = {1: fields.QTC_BAZETT}.get(formula, fields.QTC)
    yield from _measured((fields.HEART_RATE, _ATRIAL_RATE, qtc), values, zero=False)


def _measured(
    quantities: Iterable[Quantity],
    values: Iterable[int],
    *,
    zero: bool,
    leads: tuple[Lead, ...] = (),
) -> Iterator[Annotation]:
    """Yield the values that are known, where 0 is one only if so said."""
    for quantity, value in zip(quantities, values, strict=False):
        if quantity.unit and value not in _UNKNOWN and (value or zero):
            yield Annotation(
                code=quantity.code, value=float(value), unit=quantity.unit, leads=leads
            )


def lead_measurements(section: Section) -> tuple[Annotation, ...]:
    """Return the measurements of section 10, for each lead known here.

    Raises
    ------
    Undecodable
        DAMAGED, where the section is cut.
    """
    quantities = [
        _scp(f"5.13.5-{5 + 2 * place}", meaning, unit)
        for place, (meaning, unit) in enumerate(_IN_A_LEAD)
    ]
    (count,) = section.unpack("H", 0)
    found: list[Annotation] = []
    at = 4
    for _ in range(count):
        number, length = section.unpack("HH", at)
        values = section.unpack(f"{length // 2}h", at + 4)
        if lead := lead_from_number(number):
            found += _measured(quantities, values, zero=True, leads=(lead,))
        at += 4 + length
    return tuple(found)


def statements(section: Section, codec: str) -> tuple[VendorStatement, ...]:
    """Return the statements of section 8 (texts) or 11 (universal codes).

    Raises
    ------
    Undecodable
        DAMAGED, where the section is cut.
    """
    (count,) = section.unpack("B", 8)
    found: list[VendorStatement] = []
    at = 9
    for _ in range(count):
        _, length = section.unpack("BH", at)
        found += _statement(section.take(at + 3, length), codec, coded=section.number == 11)  # noqa: PLR2004 - the section
        at += 3 + length
    return tuple(found)


def _statement(content: bytes, codec: str, *, coded: bool) -> Iterator[VendorStatement]:
    kind, content = (content[0], content[1:]) if coded and content else (None, content)
    words = list(filter(None, texts(content, codec)))
    if words:
        code = Code("SCPECG", words[0], words[0]) if kind == _CODED else None
        yield VendorStatement(text=" ".join(words), code=code)
