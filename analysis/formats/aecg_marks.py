"""The annotations of an annotated ECG: intervals, waves on their samples, beats, interpretations.

Annotations nest: a beat holds its waves, a wave its peak, a lead what was measured on it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Final, TypeAlias
from xml.etree.ElementTree import Element

from analysis.ecg import Annotation, Code, Lead, VendorStatement
from analysis.formats import fields
from analysis.formats.aecg_facts import attribute
from analysis.formats.common import lead_from_text
from analysis.formats.hl7 import PER_SECOND, clock, code_of, lead_name, moment, unit_of
from analysis.formats.markup import text_of

_WAVES: Final = ("MDC_ECG_WAVC", "MDC_ECG_WAVC_TYPE")
_PEAK: Final = "MDC_ECG_WAVC_PEAK"
_BEAT: Final = "MDC_ECG_BEAT"
MAX_ANNOTATIONS: Final = 10_000
"""Of one set; further ones are left out with a note."""
_STATEMENTS: Final = ("MDC_ECG_INTERPRETATION", "MDC_ECG_RHY")
COMMENT: Final = "MDC_ECG_INTERPRETATION_COMMENT"
MDC_SYSTEM: Final = "2.16.840.1.113883.6.24"


@dataclass(frozen=True, slots=True)
class Clock:
    """How the times of the file map to the rhythm.

    Parameters
    ----------
    start
        Of the first sample, in seconds on the clock of the file.
    rate
        Hz.
    samples
        Per lead.
    """

    start: float
    rate: float
    samples: int


@dataclass(frozen=True, slots=True)
class Marks:
    """Annotations and statements of a file, and notes on what was left out of them."""

    annotations: tuple[Annotation, ...]
    statements: tuple[VendorStatement, ...]
    notes: tuple[str, ...]


_Item: TypeAlias = Annotation | VendorStatement


def marks_of(
    rhythm: Sequence[tuple[Element, float]], beats: Sequence[Element], time: Clock
) -> Marks:
    """Return what the annotation sets say.

    Parameters
    ----------
    rhythm
        The series, each with the second on the clock from which its relative times count.
    beats
        The representative beats: their values count, their marks lie on no sample of the rhythm.
    time
        The axis of the rhythm.
    """
    groups = count(1)
    marked = [
        item for series, zero in rhythm for item in _items(series, _Place(time, zero), groups)
    ]
    inside = [item for item in marked if _lies_within(item, time.samples)]
    found = dict.fromkeys((*inside, *_values(beats, time, groups)))
    outside = len(marked) - len(inside)
    notes = [f"{outside} marks lie outside the recording and were left out."] if outside else []
    notes += (note for series in (*(each for each, _ in rhythm), *beats) for note in _notes(series))
    return Marks(
        tuple(item for item in found if isinstance(item, Annotation)),
        tuple(item for item in found if isinstance(item, VendorStatement)),
        tuple(notes),
    )


def _values(beats: Sequence[Element], time: Clock, groups: Iterator[int]) -> Iterator[_Item]:
    """Yield what was measured on and said of representative beats, without their marks."""
    for series in beats:
        for item in _items(series, _Place(time, time.start), groups):
            if isinstance(item, VendorStatement):
                yield item
            elif item.value is not None:
                yield replace(item, samples=())


def _notes(series: Element) -> Iterator[str]:
    """Yield what is odd about the annotations of a series."""
    for each in series.findall("subjectOf/annotationSet"):
        items = list(islice(each.iter("annotation"), MAX_ANNOTATIONS + 1))
        if len(items) > MAX_ANNOTATIONS:
            yield f"Annotations beyond the first {MAX_ANNOTATIONS} of a set were left out."
        if any(attribute(item, "value", "unit") == "bmp" for item in items):
            yield "The unit bmp was read as beats per minute."


def _lies_within(item: _Item, samples: int) -> bool:
    marks = item.samples if isinstance(item, Annotation) else ()
    return all(0 <= mark <= samples for mark in marks)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where marks lie: the axis, and the second on its clock from which relative times count."""

    time: Clock
    zero: float

    def sample(self, boundary: Element, name: str) -> float | None:
        """Return the sample of a boundary's value, or of one end of it ("low", "high")."""
        value = boundary.find("value" if name == "point" else f"value/{name}")
        if value is None:
            return None
        if attribute(boundary, "code", "code").upper() == "TIME_ABSOLUTE":
            at = moment(value.get("value", ""))
            seconds = None if at is None else clock(at)
        else:
            found = fields.number(value.get("value", ""))
            per_second = PER_SECOND.get(value.get("unit", ""))
            if found is None or per_second is None:
                return None
            seconds = self.zero + found / per_second
        return None if seconds is None else round((seconds - self.time.start) * self.time.rate, 3)


@dataclass(frozen=True, slots=True)
class _Context:
    """What an annotation takes from the one around it."""

    wave: Code | None = None
    leads: tuple[Lead, ...] = ()
    group: int | None = None


def _items(series: Element, place: _Place, groups: Iterator[int]) -> Iterator[_Item]:
    for each in series.findall("subjectOf/annotationSet"):
        by_person = each.find("author/assignedEntity/assignedAuthorType/assignedPerson")
        for item in _walk(each, place, groups):
            person = by_person is not None and isinstance(item, VendorStatement)
            yield Annotation(text=item.text, code=item.code) if person else item


def _walk(annotations: Element, place: _Place, groups: Iterator[int]) -> Iterator[_Item]:
    """Yield the items of one set, those within others after them; each beat is a group."""
    waiting = [(each, _Context()) for each in reversed(annotations.findall(_PART))]
    for _ in range(MAX_ANNOTATIONS):
        if not waiting:
            return
        element, context = waiting.pop()
        if attribute(element, "code", "code") == _BEAT:
            context = replace(context, group=next(groups))
        item, context = _item(element, context, place)
        if item is not None:
            yield item
        waiting += [(each, context) for each in reversed(element.findall(_PART))]


_PART: Final = "component/annotation"


def _item(element: Element, context: _Context, place: _Place) -> tuple[_Item | None, _Context]:
    """Return what one annotation says, and the context of those within it."""
    about, value = attribute(element, "code", "code"), element.find("value")
    boundaries = element.findall("support/supportingROI/component/boundary")
    context = replace(context, leads=_leads(boundaries) or context.leads)
    marks = _marks(boundaries, place)
    coded = _code(value)
    if about in _WAVES and coded is not None:
        wave = context.wave if coded.value == _PEAK and context.wave else coded
        context = replace(context, wave=wave)
        return _mark(wave, marks, context), context
    here = Annotation(leads=context.leads, samples=tuple(marks.values()), group=context.group)
    quantity = fields.number(attribute(element, "value", "value"))
    if quantity is not None:
        unit = unit_of(attribute(element, "value", "unit"))
        words = text_of(element, "text") or None
        code = _about(element, context)
        return replace(here, text=words, code=code, value=quantity, unit=unit), context
    stated = " ".join((text_of(value, "originalText") or text_of(value)).split())
    if about == _BEAT:
        return (replace(here, code=coded) if coded else None), context
    if about.startswith(_STATEMENTS) and about != COMMENT:
        stated = stated or (coded.meaning if coded else "")
        return (VendorStatement(text=stated, code=coded) if stated else None), context
    if not stated:
        return (replace(here, code=coded) if coded else None), context
    return replace(here, text=stated, code=_about(element, context)), context


def _code(element: Element | None) -> Code | None:
    """Return the code that the attributes of an element state, if any."""
    if element is None or not element.get("code"):
        return None
    scheme = element.get("codeSystemName", "")
    if element.get("codeSystem") == MDC_SYSTEM:
        scheme = "MDC"
    return code_of(element.get("code", ""), element.get("displayName", ""), scheme)


def _about(element: Element, context: _Context) -> Code | None:
    """Return what an item is about; only one of all leads has the code of a global value."""
    code = _code(element.find("code"))
    if code is not None and context.leads and code.scheme == "MDC":
        stated = attribute(element, "code", "code")
        return Code("MDC", stated, attribute(element, "code", "displayName") or stated)
    return None if code is not None and code.value == COMMENT else code


def _leads(boundaries: Sequence[Element]) -> tuple[Lead, ...]:
    names = (lead_from_text(lead_name(attribute(each, "code", "code"))) for each in boundaries)
    return tuple(lead for lead in names if lead is not None)


def _marks(boundaries: Sequence[Element], place: _Place) -> Mapping[str, float]:
    """Return the samples of the first boundary in time: of a point, or of low and high."""
    for boundary in boundaries:
        ends = {name: place.sample(boundary, name) for name in ("point", "low", "high")}
        known = {name: sample for name, sample in ends.items() if sample is not None}
        if known:
            return known
    return {}


def _mark(wave: Code, marks: Mapping[str, float], context: _Context) -> Annotation | None:
    """Return the mark of a wave: a point, its onset and offset, or one of them by name."""
    if not marks:
        return None
    end = ENDS.get(next(iter(marks))) if len(marks) == 1 else None
    return Annotation(
        text=end and f"{wave.meaning} {end}",
        code=wave,
        leads=context.leads,
        samples=tuple(marks.values()),
        group=context.group,
    )


ENDS: Final[Mapping[str, str]] = {"low": "onset", "high": "offset"}
"""What stands at either end of an interval."""
