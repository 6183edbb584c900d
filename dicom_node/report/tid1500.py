"""The measurements as a Comprehensive 3D SR after TID 1500 (PS3.16), for readers of AI results.

Those who follow IHE AI Results read measurement groups. TID 1500 is about images: a group names
the waveform that it was measured on where the template has an image.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from analysis.codes import LEAD_CODES
from analysis.result import Result
from dicom_node.report import concepts as c
from dicom_node.report import items as i
from dicom_node.report.document import (
    COMPREHENSIVE_3D_SR,
    algorithms,
    document,
    finding,
    measuring,
    preamble,
)
from dicom_node.report.draft import Attributes, Draft
from dicom_node.report.matching import MANY, Item, Row, match, rows_of
from dicom_node.report.measured import lead_numbers, measurement
from dicom_node.report.objects import (
    SAFETY_SENTENCE,
    Inputs,
    Role,
    headline,
    is_reported,
    models_line,
    spoken,
)
from dicom_node.report.rows import (
    FINDING_ROWS,
    GLOBAL_ROWS,
    LEAD_ROWS,
    PREAMBLE_ROWS,
    choice,
    required,
    section,
    text,
)
from dicom_node.report.shell import reference
from dicom_node.report.uids import Level, derive


def measurement_report(inputs: Inputs) -> Draft:
    """Return the measurements as a Comprehensive 3D SR Storage instance (PS3.3 A.35.13)."""
    return document(inputs, Role.TID1500, COMPREHENSIVE_3D_SR, _content)


def _content(inputs: Inputs) -> Attributes:
    """TID 1500, rows in its order."""
    items = [*preamble(inputs), i.container(c.MEASUREMENTS_SECTION, _groups(inputs))]
    return i.container(c.MEASUREMENT_REPORT, items, "1500")


def _groups(inputs: Inputs) -> Iterator[Attributes]:
    result = inputs.result
    by_us = list(measuring(inputs.device, i.MODIFIER))
    numbers = list(_global_numbers(result))
    if numbers:
        yield _group(inputs, "Global measurements", [*by_us, *numbers])
    for lead, values in lead_numbers(result.leads):
        which = i.code(c.LEAD_ID, LEAD_CODES[lead], i.MODIFIER)
        yield _group(inputs, f"Lead {lead}", [which, *by_us, *values])
    yield _group(inputs, "Statements", [*algorithms(inputs, i.MODIFIER), *_evaluations(result)])


def _group(inputs: Inputs, name: str, items: Iterable[Attributes]) -> Attributes:
    """TID 1501; the waveform stands for its source image."""
    followed = derive("tracking", inputs.uid(Level.INSTANCE, Role.TID1500), name)
    content = [
        i.text(c.TRACKING_IDENTIFIER, name, i.CONTEXT),
        i.uid(c.TRACKING_UID, followed, i.CONTEXT),
        *items,
        i.waveform(c.SOURCE_OF_MEASUREMENT, reference(inputs.source)),
    ]
    return i.container(c.MEASUREMENT_GROUP, content, "1501")


def _global_numbers(result: Result) -> Iterator[Attributes]:
    quantities = dict(result.measurements.quantities())
    for name, concept in c.MEASUREMENTS.items():
        if is_reported(name, quantities[name]):
            yield measurement(name, concept, quantities[name])


def _evaluations(result: Result) -> Iterator[Attributes]:
    """Yield what is said of the ECG, coded, and in words what this is not."""
    yield from (finding(statement, result) for statement in spoken(result))
    if result.overall in c.OVERALL:
        yield i.code(c.OVERALL_FINDING, c.OVERALL[result.overall])
    lines = [*headline(result), *result.not_assessed, models_line(result), SAFETY_SENTENCE]
    yield i.text(c.COMMENT, "\n".join(lines))


# The checker's side

_GROUP: Final = rows_of(
    required(c.TRACKING_IDENTIFIER, "TEXT", i.CONTEXT),
    required(c.TRACKING_UID, "UIDREF", i.CONTEXT),
    choice(c.LEAD_ID, LEAD_CODES.values(), i.MODIFIER, least=0),
    text(c.ALGORITHM_NAME, i.MODIFIER, least=1, most=MANY),
    text(c.ALGORITHM_VERSION, i.MODIFIER, least=1, most=MANY),
    text(c.ALGORITHM_MANUFACTURER, i.MODIFIER, most=MANY),
    text(c.ALGORITHM_PARAMETERS, i.MODIFIER, most=MANY),
    *(replace(row, at_least=0) for row in GLOBAL_ROWS),
    *LEAD_ROWS,
    Row(
        concept=c.ECG_FINDING, value_types=("CODE",), at_most=MANY, rows=rows_of(*FINDING_ROWS)
    ),
    choice(c.OVERALL_FINDING, c.OVERALL.values(), least=0),
    text(c.COMMENT),
    required(c.SOURCE_OF_MEASUREMENT, "WAVEFORM"),
)  # fmt: skip

TID_1500: Final = rows_of(
    *PREAMBLE_ROWS,
    section(
        c.MEASUREMENTS_SECTION,
        rows_of(section(c.MEASUREMENT_GROUP, _GROUP, "1501", most=MANY)),
    ),
)
"""TID 1500 with TID 1204, 1002, 1501, 4019 and 300, as far as we write them."""


def tid1500_faults(report: Item) -> Iterator[str]:
    """Yield what keeps a report out of the template, one sentence each."""
    if report.value_type != "CONTAINER" or report.name != c.MEASUREMENT_REPORT:
        yield "the document is no CONTAINER titled Imaging Measurement Report"
    yield from match(report, TID_1500, "TID 1500")
    followed = report.under(c.MEASUREMENTS_SECTION, c.MEASUREMENT_GROUP, c.TRACKING_UID)
    if len({item.values.get("UID") for item in followed}) != len(followed):
        yield "TID 1501: two groups have the same Tracking Unique Identifier"
