"""The annotations and statements of a recording, written into an annotated ECG."""

from collections.abc import Iterator
from dataclasses import replace
from xml.etree.ElementTree import Element, SubElement

from analysis.ecg import ECG, Annotation, Recording, VendorStatement
from analysis.formats.aecg_elements import (
    add_act,
    add_code,
    add_mdc,
    add_path,
    add_text,
    add_value,
    decimal,
)
from analysis.formats.aecg_marks import COMMENT, ENDS
from analysis.formats.hl7 import BEATS_PER_MINUTE, LEADS


def write_marks(series: Element, recording: Recording) -> None:
    """Write the annotations, each group as a beat, and the statements."""
    found = add_path(series, "subjectOf/annotationSet")
    device = add_path(found, "author/assignedEntity/assignedAuthorType/assignedDevice")
    if recording.acquisition.model is not None:
        add_text(device, "manufacturerModelName", recording.acquisition.model)
    if recording.vendor_statements:
        interpretation = add_path(found, "component/annotation")
        add_mdc(interpretation, "code", "MDC_ECG_INTERPRETATION")
        for statement in recording.vendor_statements:
            _statement(add_path(interpretation, "component/annotation"), statement)
    groups: dict[int, Element] = {}
    for annotation in recording.annotations:
        group = annotation.group
        if group is not None and group not in groups:
            groups[group] = add_path(found, "component/annotation")
            add_mdc(groups[group], "code", "MDC_ECG_BEAT")
            if annotation.code is not None and _is_class(annotation):
                add_code(groups[group], "value", annotation.code).set("xsi:type", "CE")
                continue
        parent = found if group is None else groups[group]
        for part in _parts(annotation):
            _annotation(add_path(parent, "component/annotation"), part, recording.ecg)


def _is_class(annotation: Annotation) -> bool:
    """Return whether an annotation says nothing but a code: the class of its beat."""
    return annotation == Annotation(code=annotation.code, group=annotation.group)


def _parts(annotation: Annotation) -> Iterator[Annotation]:
    """Yield an annotation, or one for each point of what has more than an interval's two."""
    if len(annotation.samples) <= 2 or annotation.value is not None:  # noqa: PLR2004 - low, high
        yield annotation
        return
    for sample in annotation.samples:
        yield replace(annotation, samples=(sample,))


def _annotation(element: Element, annotation: Annotation, ecg: ECG) -> None:
    """Write what an annotation says, and to which samples and leads it applies."""
    end = _end(annotation)
    if annotation.value is not None and annotation.code is not None:
        add_code(element, "code", annotation.code, exact=bool(annotation.leads))
        if annotation.text is not None:
            add_text(element, "text", annotation.text)
        unit = "/min" if annotation.unit == BEATS_PER_MINUTE else annotation.unit
        stated = {} if unit is None else {"unit": unit}
        add_value(element, "PQ", value=decimal(annotation.value), **stated)
    elif annotation.text is not None and end is None:
        if annotation.code is None:
            add_mdc(element, "code", COMMENT)
        else:
            add_code(element, "code", annotation.code, exact=bool(annotation.leads))
        add_text(element, "value", annotation.text).set("xsi:type", "ST")
    elif annotation.code is not None:
        if annotation.samples:
            add_mdc(element, "code", "MDC_ECG_WAVC")
        else:
            add_code(element, "code", annotation.code)
        add_code(element, "value", annotation.code).set("xsi:type", "CE")
    else:
        raise ValueError("an annotation has a text or a code")
    if annotation.samples or annotation.leads:
        _region(element, annotation, end, ecg.sampling_frequency)


def _end(annotation: Annotation) -> str | None:
    """Return "low" or "high" where an annotation marks one end of a wave by name."""
    if annotation.code is None or len(annotation.samples) != 1:
        return None
    names = {f"{annotation.code.meaning} {word}": end for end, word in ENDS.items()}
    return names.get(annotation.text or "")


def _region(element: Element, annotation: Annotation, end: str | None, rate: float) -> None:
    """Write the region of interest: a time, from the start of the series, and leads."""
    region = add_path(element, "support/supportingROI")
    region.set("classCode", "ROIBND")
    add_act(region, "ROIPS")
    if annotation.samples:
        boundary = add_path(region, "component/boundary")
        add_act(boundary, "TIME_RELATIVE")
        times = [decimal(round(each / rate * 1e3, 6)) for each in annotation.samples]
        ends = (end,) if end else ("low", "high")
        if len(times) == 1 and end is None:
            add_value(boundary, "PQ", value=times[0], unit="ms")
        else:
            interval = add_value(boundary, "IVL_PQ")
            for name, time in zip(ends, times, strict=False):
                SubElement(interval, name, value=time, unit="ms")
    for lead in annotation.leads:
        add_mdc(add_path(region, "component/boundary"), "code", f"MDC_ECG_LEAD_{LEADS[lead]}")


def _statement(element: Element, statement: VendorStatement) -> None:
    add_mdc(element, "code", "MDC_ECG_INTERPRETATION_STATEMENT")
    if statement.code is None:
        add_text(element, "value", statement.text).set("xsi:type", "ST")
        return
    value = add_code(element, "value", statement.code)
    value.set("xsi:type", "CE")
    if statement.text != statement.code.meaning:
        add_text(value, "originalText", statement.text)
