"""Statements and waves as a Waveform Annotation SR (PS3.3 A.35.23; Supplement 239, TID 3750).

A wave is one item for the whole recording: where it is in every beat are its temporal coordinates.
Which parts of this rest on which source stands in CONFORMANCE.md.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from analysis.codes import LEAD_CODES
from analysis.ecg import Code
from analysis.paper.beats import beat_kinds
from analysis.result import Marks, Result, Statement
from dicom_node.report import concepts as c
from dicom_node.report import items as i
from dicom_node.report.annotated import analysed_group
from dicom_node.report.document import (
    WAVEFORM_ANNOTATION_SR,
    algorithms,
    document,
    finding,
    preamble,
)
from dicom_node.report.draft import Attributes, Draft
from dicom_node.report.marks import KINDS, MARKED_BEATS, SEGMENTS
from dicom_node.report.matching import MANY, Item, Row, match, rows_of
from dicom_node.report.objects import (
    SAFETY_SENTENCE,
    Inputs,
    Role,
    headline,
    models_line,
    spoken,
)
from dicom_node.report.rows import FINDING_ROWS, PREAMBLE_ROWS, required, text
from dicom_node.report.shell import SYNCHRONIZATION, reference


def waveform_annotations(inputs: Inputs) -> Draft:
    """Return statements and waves as a Waveform Annotation SR Storage instance."""
    made = document(inputs, Role.ANNOTATION, WAVEFORM_ANNOTATION_SR, _content)
    came = {word: inputs.source.get(word) for word in SYNCHRONIZATION}
    return Draft(made.brought, made.ours | (came if all(came.values()) else {}))


def _content(inputs: Inputs) -> Attributes:
    result = inputs.result
    items = [
        *preamble(inputs),
        i.waveform(c.SOURCE_OF_MEASUREMENT, reference(inputs.source)),
        *algorithms(inputs),
        *(_statement(statement, result) for statement in spoken(result)),
        *_waves(inputs),
        i.text(c.COMMENT, "\n".join(_lines(result))),
    ]
    return i.container(c.ECG_ANNOTATIONS, items, "3750")


def _statement(statement: Statement, result: Result) -> Attributes:
    item = finding(statement, result)
    leads = (LEAD_CODES[lead] for lead in statement.leads if lead in LEAD_CODES)
    item["ContentSequence"] += [i.code(c.LEAD_ID, code, i.PROPERTY) for code in leads]
    item["ContentSequence"] += [i.text(c.EVIDENCE, line, i.PROPERTY) for line in statement.evidence]
    return item


def _lines(result: Result) -> Iterator[str]:
    yield from (*headline(result), *result.not_assessed)
    if len(result.measurements.r_peaks) > MARKED_BEATS:
        yield f"Only the first {MARKED_BEATS} beats are marked."
    yield from (models_line(result), SAFETY_SENTENCE)


def _waves(inputs: Inputs) -> Iterator[Attributes]:
    """Yield each wave and each kind of beat with its places on the source."""
    result = inputs.result
    group = analysed_group(inputs.source, result.recording.ecg)
    if group is None:
        return
    of = i.waveform(c.SOURCE_OF_MEASUREMENT, reference(inputs.source), i.SELECTED, (group, 0))
    for concept, ends in _marks(result):
        positions = _positions(ends, result.recording.ecg.samples)
        if positions:
            item = i.code(c.ECG_ANNOTATION, concept)
            kind = _range_type(len(ends), len(positions))
            item["ContentSequence"] = [i.samples(c.SOURCE_OF_MEASUREMENT, kind, positions, of)]
            yield item


def _marks(result: Result) -> Iterator[tuple[Code, tuple[Marks, ...]]]:
    """Yield concepts with their onsets and offsets, or with their peaks alone; one row a beat."""
    measured = result.measurements
    peaks, waves = measured.r_peaks[:MARKED_BEATS], measured.fiducials.get("global", {})
    for concept, onset, offset in SEGMENTS:
        if onset in waves and offset in waves:
            yield concept, (waves[onset], waves[offset])
    yield c.R_WAVE, (peaks,)
    codes = [KINDS[kind] for kind in beat_kinds(result)[: len(peaks)]]
    for code in dict.fromkeys(codes):
        yield code, (peaks[[other == code for other in codes]],)


def _positions(ends: Sequence[Marks], samples: int) -> list[int]:
    """Return the samples, from 1, of what lies inside the recording and ends after it begins."""
    where = np.column_stack([end[:MARKED_BEATS] for end in ends])
    inside = (where[:, 0] >= 0) & (where[:, -1] <= samples - 1) & (where[:, 0] <= where[:, -1])
    return [round(sample) + 1 for sample in where[inside].ravel().tolist()]


def _range_type(ends: int, positions: int) -> str:
    kind = "POINT" if ends == 1 else "SEGMENT"
    return kind if positions == ends else f"MULTI{kind}"


# The checker's side


def _codes() -> Iterable[Code]:
    return (*(concept for concept, *_ in SEGMENTS), c.R_WAVE, *KINDS.values())


_SELECTED: Final = rows_of(required(c.SOURCE_OF_MEASUREMENT, "WAVEFORM", i.SELECTED))
_PLACES: Final = rows_of(
    Row(
        concept=c.SOURCE_OF_MEASUREMENT, value_types=("TCOORD",), relationship=i.INFERRED,
        at_least=1, rows=_SELECTED,
    )
)  # fmt: skip
_FINDING: Final = rows_of(
    *FINDING_ROWS,
    Row(
        concept=c.LEAD_ID, value_types=("CODE",), relationship=i.PROPERTY, at_most=len(LEAD_CODES),
        values=frozenset(LEAD_CODES.values()),
    ),
    text(c.EVIDENCE, i.PROPERTY, most=MANY),
)  # fmt: skip
TID_3750: Final = rows_of(
    *PREAMBLE_ROWS,
    required(c.SOURCE_OF_MEASUREMENT, "WAVEFORM"),
    text(c.ALGORITHM_NAME, least=1, most=MANY),
    text(c.ALGORITHM_VERSION, least=1, most=MANY),
    text(c.ALGORITHM_MANUFACTURER, most=MANY),
    text(c.ALGORITHM_PARAMETERS, most=MANY),
    Row(concept=c.ECG_FINDING, value_types=("CODE",), at_most=MANY, rows=_FINDING),
    Row(
        concept=c.ECG_ANNOTATION, value_types=("CODE",), at_most=MANY, values=frozenset(_codes()),
        rows=_PLACES,
    ),
    text(c.COMMENT, least=1),
)  # fmt: skip
"""What we write under TID 3750; its own rows could not be read."""


def tid3750_faults(report: Item) -> Iterator[str]:
    """Yield what keeps a document out of these rows, one sentence each."""
    if report.value_type != "CONTAINER" or report.name != c.ECG_ANNOTATIONS:
        yield "the document is no CONTAINER titled ECG Automated Analysis Annotations"
    yield from match(report, TID_3750, "TID 3750")
