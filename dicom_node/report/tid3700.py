"""TID 3700, ECG Report, and its sub-templates as tables, and what a report says as a whole.

Which row rests on which source stands in CONFORMANCE.md.
"""

from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Final

from analysis.codes import LEAD_CODES, VOCABULARY
from analysis.ecg import Code
from analysis.statements import HARMLESS
from dicom_node.report import concepts as c
from dicom_node.report.items import CONTAINS, CONTEXT, INFERRED, MODIFIER, PROPERTY
from dicom_node.report.matching import MANY, Item, Row, Rows, match, rows_of


def _required(concept: Code, value_type: str, how: str = CONTAINS) -> Row:
    return Row(concept=concept, value_types=(value_type,), relationship=how, at_least=1)


def _choice(concept: Code, values: Iterable[Code], how: str = CONTAINS, least: int = 1) -> Row:
    chosen = frozenset(values)
    return Row(
        concept=concept, value_types=("CODE",), relationship=how, at_least=least, values=chosen
    )


def _text(concept: Code, how: str = CONTAINS, least: int = 0, most: int = 1) -> Row:
    return Row(
        concept=concept, value_types=("TEXT",), relationship=how, at_least=least, at_most=most
    )


def _number(
    concept: Code, unit: str, how: str = CONTAINS, *, least: int = 0, most: int = 1,
    rows: Rows = MappingProxyType({}),
) -> Row:  # fmt: skip
    return Row(
        concept=concept, value_types=("NUM",), relationship=how, at_least=least, at_most=most,
        unit=c.UNITS[unit], rows=rows,
    )  # fmt: skip


def _section(
    concept: Code, rows: Rows, template: str = "", *, least: int = 1, most: int = 1
) -> Row:
    return Row(
        concept=concept, value_types=("CONTAINER",), at_least=least, at_most=most,
        template=template, rows=rows,
    )  # fmt: skip


_TID_3704: Final = rows_of(
    _number(c.SUBJECT_AGE, "a", least=1), _choice(c.SUBJECT_SEX, c.SEXES.values())
)
_TID_3702: Final = rows_of(
    _choice(c.COMPARISON_DONE, (c.YES, c.NO)),
    Row(concept=c.PROCEDURE_DATETIME, value_types=("DATETIME",)),
    Row(concept=c.STUDY_UID, value_types=("UIDREF",)),
    Row(concept=c.SOURCE_OF_MEASUREMENT, value_types=("WAVEFORM",)),
    *(_number(concept, c.MEASUREMENT_UNITS[name]) for name, concept in c.CHANGES.items()),
    _text(c.COMMENT, least=1),
)
_TID_3708: Final = rows_of(
    _required(c.PROCEDURE_DATETIME, "DATETIME"),
    _required(c.SOURCE_OF_MEASUREMENT, "WAVEFORM"),
    _choice(c.LEAD_SYSTEM, (c.UNSPECIFIED_12_LEAD,), least=0),
    _text(c.EQUIPMENT_IDENTIFICATION),
    _number(c.SAMPLE_RATE, "Hz"),
    _number(c.LOW_PASS_FREQUENCY, "Hz"),
    _number(c.NOTCH_FREQUENCY, "Hz"),
    _text(c.ALGORITHM_NAME, least=1, most=MANY),
    _text(c.ALGORITHM_VERSION, least=1, most=MANY),
    _text(c.ALGORITHM_MANUFACTURER, most=MANY),
    _text(c.ALGORITHM_PARAMETERS, most=MANY),
)
_FORMULA: Final = rows_of(_choice(c.ALGORITHM_NAME, c.FORMULAS.values(), PROPERTY))


def _measurement(name: str) -> Row:
    concept, unit = c.MEASUREMENTS[name], c.MEASUREMENT_UNITS[name]
    if name in c.FORMULAS:
        return _number(concept, unit, most=len(c.FORMULAS), rows=_FORMULA)
    return _number(concept, unit, least=int(name in c.ALWAYS_STATED))


_TID_3713: Final = rows_of(*map(_measurement, c.MEASUREMENTS), _text(c.COMMENT))
_TID_3714: Final = rows_of(
    _choice(c.LEAD_ID, LEAD_CODES.values(), MODIFIER),
    _choice(c.MEASUREMENT_METHOD, (c.MEDIAN,), CONTEXT),
    *(_number(concept, "ms") for concept in c.LEAD_DURATIONS.values()),
    *(_number(concept, "mV") for concept in c.LEAD_VOLTAGES.values()),
    *(_number(concept, "mV") for concept in (c.P_MAXIMUM, c.P_MINIMUM, c.T_MAXIMUM, c.T_MINIMUM)),
)
_FINDING: Final = rows_of(
    _text(c.EQUIVALENT_MEANING, MODIFIER),
    _number(c.PROBABILITY, "1", PROPERTY),
    _number(c.THRESHOLD, "1", PROPERTY),
    _text(c.ALGORITHM_NAME, PROPERTY),
    Row(
        concept=c.LEAD_ID, value_types=("CODE",), relationship=INFERRED, at_most=len(LEAD_CODES),
        values=frozenset(LEAD_CODES.values()),
    ),
    _text(c.EVIDENCE, INFERRED, most=MANY),
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
        rows=rows_of(_text(c.NOT_ASSESSED, PROPERTY, most=MANY)),
    ),
)  # fmt: skip
_TID_3719: Final = rows_of(
    _text(c.SUMMARY, least=1),
    _choice(c.OVERALL_FINDING, c.OVERALL.values(), least=0),
    _text(c.QUALITY_ASSESSMENT),
)

TID_3700: Final = rows_of(
    Row(
        concept=c.LANGUAGE,
        value_types=("CODE",),
        relationship=MODIFIER,
        at_least=1,
        scheme="RFC5646",
    ),
    _choice(c.OBSERVER_TYPE, (c.OBSERVER_DEVICE,), CONTEXT),
    _required(c.OBSERVER_UID, "UIDREF", CONTEXT),
    _text(c.OBSERVER_NAME, CONTEXT),
    _text(c.OBSERVER_MANUFACTURER, CONTEXT),
    _text(c.OBSERVER_MODEL_NAME, CONTEXT),
    _text(c.OBSERVER_SERIAL_NUMBER, CONTEXT),
    _choice(c.PROCEDURE_REPORTED, (c.TWELVE_LEAD_ECG, c.ELECTROCARDIOGRAM), MODIFIER),
    _section(c.PATIENT_CHARACTERISTICS, _TID_3704, "3704"),
    _section(c.PRIOR_PROCEDURES, _TID_3702, "3702"),
    _section(c.PROCEDURE_DESCRIPTIONS, _TID_3708, "3708"),
    _section(
        c.QUANTITATIVE_ANALYSIS,
        rows_of(
            _section(c.GLOBAL_MEASUREMENTS, _TID_3713, "3713"),
            _section(c.LEAD_MEASUREMENTS, _TID_3714, "3714", least=0, most=len(LEAD_CODES)),
        ),
    ),
    _section(c.QUALITATIVE_ANALYSIS, _TID_3717, "3717"),
    _section(c.SUMMARY, _TID_3719, "3719"),
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
    for section in report.under(c.PROCEDURE_DESCRIPTIONS):
        names = [item.name for item in section.items]
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
    for section in report.under(c.PRIOR_PROCEDURES):
        found = {item.name: item for item in section.items}
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
