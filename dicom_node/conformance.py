"""The tables of CONFORMANCE.md, made from the code that they describe.

``python -m dicom_node.conformance`` prints them; a test holds the document against them.
"""

from collections.abc import Iterable, Iterator

from pydicom.sr.codedict import codes
from pydicom.uid import UID

from analysis.codes import VOCABULARY
from analysis.ecg import Code
from dicom_node.deliver import RESULTS, judge
from dicom_node.reasons import Refusal, sentence
from dicom_node.receive import MISMATCH, OUT_OF_RESOURCES, SUCCESS, contexts
from dicom_node.report import concepts as c
from dicom_node.report.annotation import TID_3750
from dicom_node.report.matching import MANY, Row, Rows
from dicom_node.report.outside import IMPRESSION, MEASUREMENTS, STUDY
from dicom_node.report.tid1500 import TID_1500
from dicom_node.report.tid3700 import TID_3700
from dicom_node.settings import Destination, Dicom
from dicom_node.wire import REJECTIONS

_ANSWERS = {
    SUCCESS: "bytes and ledger row are durable; also for an object received before",
    OUT_OF_RESOURCES: sentence(Refusal.OUT_OF_RESOURCES),
    MISMATCH: sentence(Refusal.MISMATCH),
}
_ROW = ("concept name", "code", "type", "relationship", "number", "value")
_FEW = 7
"""More codes than these are only counted."""
_STATUSES = (0x0000, 0x0110, 0x0111, 0x0122, 0x0124, 0x0213, 0xA700, 0xA900, 0xB000, 0xC000)


def tables() -> dict[str, str]:
    """Return each generated table by its heading."""
    return {
        "Accepted presentation contexts (SCP)": _table(
            ("SOP class", "UID", "transfer syntaxes"), _accepted()
        ),
        "Proposed presentation contexts (SCU)": _table(
            ("SOP class", "UID", "transfer syntaxes"), _proposed()
        ),
        "Association rejection": _table(
            ("reason", "result, source, reason of the A-ASSOCIATE-RJ", "what to do"), _rejected()
        ),
        "C-STORE status, as SCP": _table(("status", "when"), _answered()),
        "C-STORE status, as SCU": _table(("status of the peer", "what the node does"), _judged()),
        "Limits and time-outs": _table(("setting", "default"), _limits()),
        "ECG report: rows of the templates": _table(
            _ROW,
            _template(TID_3700, ""),
        ),
        "Measurement report: rows of the templates": _table(_ROW, _template(TID_1500, "")),
        "Waveform annotations: rows": _table(_ROW, _template(TID_3750, "")),
        "Codes outside DICOM": _table(("measurement", "LOINC", "meaning"), _loinc()),
        "Finding codes": _table(("finding", "code", "meaning", "context group"), _findings()),
        "Private codes": _table(("code (99SINUS)", "meaning", "unit"), _private()),
    }


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heading, tuple("---" for _ in heading), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _accepted() -> Iterator[tuple[str, ...]]:
    for context in contexts():
        uid = UID(context.abstract_syntax)
        yield uid.name, str(uid), ", ".join(item.name for item in context.transfer_syntax)


def _proposed() -> Iterator[tuple[str, ...]]:
    for uid in map(UID, RESULTS):
        yield uid.name, str(uid), "Explicit VR Little Endian, Implicit VR Little Endian"


def _rejected() -> Iterator[tuple[str, ...]]:
    for refusal, (result, source, reason) in REJECTIONS.items():
        yield f"`{refusal}`", f"{result}, {source}, {reason}", sentence(refusal)


def _answered() -> Iterator[tuple[str, ...]]:
    for status, when in _ANSWERS.items():
        yield f"0x{status:04X}", when


def _judged() -> Iterator[tuple[str, ...]]:
    for status in _STATUSES:
        failure = judge(status)
        if failure is None:
            done = "delivered"
        else:
            done = "given up, visibly" if failure.permanent else "tried again, with growing pauses"
        yield f"0x{status:04X}", done


def _limits() -> Iterator[tuple[str, ...]]:
    for section, names in (
        (Dicom(), ("maximum_associations", "maximum_pdu", "maximum_object", "pdu_deadline",
                   "handshake_deadline", "idle_deadline")),
        (Destination(ae_title="X", host="x", port=1), ("timeout", "linger", "retry_first",
                                                       "retry_longest", "retry_for")),
    ):  # fmt: skip
        place = "dicom" if isinstance(section, Dicom) else "destinations[]"
        for name in names:
            yield f"`{place}.{name}`", str(getattr(section, name))


def _template(rows: Rows, depth: str) -> Iterator[tuple[str, ...]]:
    for row in rows.values():
        most = "n" if row.at_most == MANY else str(row.at_most)
        least = str(row.at_least)
        yield (
            f"{depth}{row.concept.meaning}{f' (TID {row.template})' if row.template else ''}",
            _code(row.concept),
            " or ".join(row.value_types),
            row.relationship,
            least if least == most else f"{least}-{most}",
            _allowed(row),
        )
        yield from _template(row.rows, f"{depth}> ")


def _allowed(row: Row) -> str:
    if row.unit is not None:
        return row.unit.value
    if row.values is None:
        return ""
    if len(row.values) > _FEW:
        return f"{len(row.values)} codes"
    return ", ".join(sorted(code.meaning for code in row.values))


def _findings() -> Iterator[tuple[str, ...]]:
    groups = {"CID 3230": codes.cid3230, "CID 3415": codes.cid3415, "CID 3677": codes.cid3677}
    for entry in VOCABULARY.values():
        found = (
            name
            for name, group in groups.items()
            if any(entry.code.value == code.value for code in group.concepts.values())
        )
        yield entry.name, _code(entry.code), entry.code.meaning, next(found, "CinC 2021")


def _private() -> Iterator[tuple[str, ...]]:
    for table in (c.MEASUREMENTS, c.CHANGES):
        for name, code in table.items():
            if code.scheme == c.PRIVATE:
                yield code.value, code.meaning, c.MEASUREMENT_UNITS[name]
    yield from ((code.value, code.meaning, "text") for code in (c.EVIDENCE, c.NOT_ASSESSED))
    yield c.ECG_ANNOTATIONS.value, c.ECG_ANNOTATIONS.meaning, "title"
    yield c.ECG_ANNOTATION.value, c.ECG_ANNOTATION.meaning, "code"


def _loinc() -> Iterator[tuple[str, ...]]:
    for name, code in MEASUREMENTS.items():
        yield name.replace("_", " "), code.value, code.meaning
    for name, code in (("the study, and the page", STUDY), ("a statement", IMPRESSION),
                       ("the overall finding", c.OVERALL_FINDING)):  # fmt: skip
        yield name, code.value, code.meaning


def _code(code: Code) -> str:
    return f"{code.value} {code.scheme}"


if __name__ == "__main__":
    for title, text in tables().items():
        print(f"### {title}\n\n{text}\n")  # noqa: T201 - the command's output
