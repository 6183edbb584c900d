"""TID 3700, ECG Report, and its sub-templates as tables, and what a report says as a whole.

Which row rests on which source stands in CONFORMANCE.md.
"""

from collections.abc import Iterator
from typing import Final

from analysis.codes import LEAD_CODES, VOCABULARY
from analysis.statements import HARMLESS
from dicom_node.report import concepts as c
from dicom_node.report.items import CONTEXT, INFERRED, MODIFIER, PROPERTY
from dicom_node.report.matching import MANY, Item, Row, match, rows_of
from dicom_node.report.rows import (
    FINDING_ROWS,
    GLOBAL_ROWS,
    LEAD_ROWS,
    PREAMBLE_ROWS,
    choice,
    number,
    required,
    section,
    text,
)

_TID_3704: Final = rows_of(
    number(c.SUBJECT_AGE, "a", least=1), choice(c.SUBJECT_SEX, c.SEXES.values())
)
_TID_3702: Final = rows_of(
    choice(c.COMPARISON_DONE, (c.YES, c.NO)),
    Row(concept=c.PROCEDURE_DATETIME, value_types=("DATETIME",)),
    Row(concept=c.STUDY_UID, value_types=("UIDREF",)),
    Row(concept=c.SOURCE_OF_MEASUREMENT, value_types=("WAVEFORM",)),
    *(number(concept, c.MEASUREMENT_UNITS[name]) for name, concept in c.CHANGES.items()),
    text(c.COMMENT, least=1),
)
_TID_3708: Final = rows_of(
    required(c.PROCEDURE_DATETIME, "DATETIME"),
    required(c.SOURCE_OF_MEASUREMENT, "WAVEFORM"),
    choice(c.LEAD_SYSTEM, (c.UNSPECIFIED_12_LEAD,), least=0),
    text(c.EQUIPMENT_IDENTIFICATION),
    number(c.SAMPLE_RATE, "Hz"),
    number(c.LOW_PASS_FREQUENCY, "Hz"),
    number(c.NOTCH_FREQUENCY, "Hz"),
    text(c.ALGORITHM_NAME, least=1, most=MANY),
    text(c.ALGORITHM_VERSION, least=1, most=MANY),
    text(c.ALGORITHM_MANUFACTURER, most=MANY),
    text(c.ALGORITHM_PARAMETERS, most=MANY),
)
_TID_3713: Final = rows_of(*GLOBAL_ROWS, text(c.COMMENT))
_TID_3714: Final = rows_of(
    choice(c.LEAD_ID, LEAD_CODES.values(), MODIFIER),
    choice(c.MEASUREMENT_METHOD, (c.MEDIAN,), CONTEXT),
    *LEAD_ROWS,
)
_FINDING: Final = rows_of(
    *FINDING_ROWS,
    Row(
        concept=c.LEAD_ID, value_types=("CODE",), relationship=INFERRED, at_most=len(LEAD_CODES),
        values=frozenset(LEAD_CODES.values()),
    ),
    text(c.EVIDENCE, INFERRED, most=MANY),
)  # fmt: skip
_ASSESSED: Final = (
    c.WITH_FINDINGS, c.WITHOUT_FINDINGS, c.PARTLY_WITH_FINDINGS, c.PARTLY_WITHOUT_FINDINGS,
    c.NOTHING_SUCCEEDED,
)  # fmt: skip
_TID_3717: Final = rows_of(
    Row(
        concept=c.ECG_FINDING, value_types=("CODE", "TEXT"), at_least=1, at_most=MANY,
        rows=_FINDING,
    ),
    Row(
        concept=c.FINDINGS_SUMMARY, value_types=("CODE",), at_least=1, values=frozenset(_ASSESSED),
        rows=rows_of(text(c.NOT_ASSESSED, PROPERTY, most=MANY)),
    ),
)  # fmt: skip
_TID_3719: Final = rows_of(
    text(c.SUMMARY, least=1),
    choice(c.OVERALL_FINDING, c.OVERALL.values(), least=0),
    text(c.QUALITY_ASSESSMENT),
)

TID_3700: Final = rows_of(
    *PREAMBLE_ROWS,
    section(c.PATIENT_CHARACTERISTICS, _TID_3704, "3704"),
    section(c.PRIOR_PROCEDURES, _TID_3702, "3702"),
    section(c.PROCEDURE_DESCRIPTIONS, _TID_3708, "3708"),
    section(
        c.QUANTITATIVE_ANALYSIS,
        rows_of(
            section(c.GLOBAL_MEASUREMENTS, _TID_3713, "3713"),
            section(c.LEAD_MEASUREMENTS, _TID_3714, "3714", least=0, most=len(LEAD_CODES)),
        ),
    ),
    section(c.QUALITATIVE_ANALYSIS, _TID_3717, "3717"),
    section(c.SUMMARY, _TID_3719, "3719"),
)
"""TID 3700 with TID 1204, 1002, 3704, 3702, 3708, 4019, 3713, 3714, 3715, 3717 and 3719."""


def tid3700_faults(report: Item) -> Iterator[str]:
    """Yield what keeps a report out of the template, one sentence each."""
    if report.value_type != "CONTAINER" or report.name != c.ECG_REPORT:
        yield "the document is no CONTAINER titled ECG Report"
    yield from match(report, TID_3700, "TID 3700")
    for judge in (_order, _algorithms, _leads, _comparison, _findings, _certainty):
        yield from judge(report)


# What the items say together


def _order(report: Item) -> Iterator[str]:
    """TID 3700 is of type Order: Significant."""
    places = {concept: place for place, concept in enumerate(TID_3700)}
    found = [places[item.name] for item in report.items if item.name in places]
    if found != sorted(found):
        yield "TID 3700: the sections are not in the order of the template"


def _algorithms(report: Item) -> Iterator[str]:
    """TID 4019: the version follows the name."""
    for part in report.under(c.PROCEDURE_DESCRIPTIONS):
        names = [item.name for item in part.items]
        for name, following in zip(names, [*names[1:], None], strict=True):
            if name == c.ALGORITHM_NAME and following != c.ALGORITHM_VERSION:
                yield "TID 4019: an algorithm without its version"


def _leads(report: Item) -> Iterator[str]:
    """TID 3714: one container for each lead."""
    measured = report.under(c.QUANTITATIVE_ANALYSIS, c.LEAD_MEASUREMENTS, c.LEAD_ID)
    if len({item.code for item in measured}) != len(measured):
        yield "TID 3714: a lead is measured twice"


def _comparison(report: Item) -> Iterator[str]:
    """TID 3702: a comparison names the other ECG and its time; none changes nothing."""
    for part in report.under(c.PRIOR_PROCEDURES):
        found = {item.name: item for item in part.items}
        named = {c.SOURCE_OF_MEASUREMENT, c.PROCEDURE_DATETIME, c.STUDY_UID} & found.keys()
        done = c.COMPARISON_DONE in found and found[c.COMPARISON_DONE].code == c.YES
        changes = found.keys() & set(c.CHANGES.values())
        if (len(named) != 3 or not changes) if done else (named or changes):  # noqa: PLR2004 - all of them
            yield "TID 3702: what is compared does not fit whether a comparison was done"


def _findings(report: Item) -> Iterator[str]:
    """No diagnosis of a poor ECG, no normal ECG with findings, and no silence."""
    said = report.under(c.QUALITATIVE_ANALYSIS, c.ECG_FINDING)
    coded = {item.code for item in said if item.value_type == "CODE"}
    overall = {item.code for item in report.under(c.SUMMARY, c.OVERALL_FINDING)}
    assessed = {item.code for item in report.under(c.QUALITATIVE_ANALYSIS, c.FINDINGS_SUMMARY)}
    if c.NON_DIAGNOSTIC in overall and coded:
        yield "a non-diagnostic ECG has a finding"
    if c.NORMAL in overall and not coded <= _HARMLESS_CODES:
        yield "a normal ECG has a finding that is not normal"
    if bool(coded) != bool(assessed & {c.WITH_FINDINGS, c.PARTLY_WITH_FINDINGS}):
        yield "whether there are findings is said in two ways"
    if len(said) != 1 and any(item.value_type == "TEXT" for item in said):
        yield "a finding in words stands beside others"


_HARMLESS_CODES: Final = frozenset(VOCABULARY[key].code for key in HARMLESS)


def _certainty(report: Item) -> Iterator[str]:
    """Judge that each finding says who found it, and no probability is above 1."""
    for finding in report.under(c.QUALITATIVE_ANALYSIS, c.ECG_FINDING):
        if finding.value_type == "CODE" and not finding.under(c.ALGORITHM_NAME):
            yield "TID 3717: a finding without the algorithm that found it"
        for item in finding.under(c.PROBABILITY) + finding.under(c.THRESHOLD):
            if not 0 <= item.number <= 1:
                yield "TID 3717: a probability is not between 0 and 1"
