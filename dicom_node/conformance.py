"""The tables of CONFORMANCE.md, made from the code that they describe.

``python -m dicom_node.conformance`` prints them; a test holds the document against them.
"""

from collections.abc import Iterable, Iterator

from pydicom.uid import UID

from dicom_node.deliver import RESULTS, judge
from dicom_node.reasons import Refusal, sentence
from dicom_node.receive import MISMATCH, OUT_OF_RESOURCES, SUCCESS, contexts
from dicom_node.settings import Destination, Dicom
from dicom_node.wire import REJECTIONS

_ANSWERS = {
    SUCCESS: "bytes and ledger row are durable; also for an object received before",
    OUT_OF_RESOURCES: sentence(Refusal.OUT_OF_RESOURCES),
    MISMATCH: sentence(Refusal.MISMATCH),
}
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


if __name__ == "__main__":
    for title, text in tables().items():
        print(f"### {title}\n\n{text}\n")  # noqa: T201 - the command's output
