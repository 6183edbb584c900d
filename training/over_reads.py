"""Labels from verified reports: the over-read that a physician signed in the PACS.

Only a structured report whose Verification Flag (0040,A493) says VERIFIED counts, and none that
this product made. Of it are kept the findings it codes, the recording it refers to, a keyed hash
of who signed, and the month in which the quarter of the signature began.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset

import analysis
from analysis.formats import dicom
from dicom_node.archive import Pseudonyms
from dicom_node.dicomweb import IMAGE, SERIES, STUDY, Client
from dicom_node.link import Unanswered, Unreachable
from dicom_node.report import is_own
from dicom_node.report.objects import UNREADABLE
from dicom_node.report.uids import is_uid
from training.corpus import Corpus
from training.label_maps import SCT, LabelMap, standard_map
from training.labels import Fault, Label, Origin, Problem, Rows, Value

_SCHEMES: Final = {"SRT": SCT, "SNM3": SCT}
"""Designators of older reports (PS3.16 §8.1)."""
_DEEPEST: Final = 32
_DATE: Final = re.compile(r"\d{6,}")
_REPORT, _ECG = "SR", "ECG"
"""Modality (0008,0060)."""

Named = tuple[str, Callable[[], bytes]]
"""What a report is called, and how to get it."""


def read_over_reads(
    files: Sequence[Path],
    corpus: Corpus,
    *,
    words: LabelMap | None = None,
    archive: Pseudonyms | None = None,
) -> Rows:
    """Return the findings of verified reports, and a sentence for each report that gives none.

    Parameters
    ----------
    archive
        Of the node's archive, where recordings came from there; it needs the node's key.
    """
    named = [(path.name, path.read_bytes) for path in files]
    return read_reports(named, corpus, words=words, archive=archive)


def find_reports(client: Client, day: str, largest: int) -> Iterator[Named]:
    """Yield the reports beside ECGs that a DICOMweb server has of one study date (YYYYMMDD).

    A report is retrieved when it is read.

    Parameters
    ----------
    largest
        Bytes of one report.

    Raises
    ------
    dicom_node.link.Unreachable
        If the server does not answer.
    """
    asked = {"StudyDate": day, "ModalitiesInStudy": _REPORT}
    for study in _uids(client.search(STUDY, **asked, StudyInstanceUID=""), "StudyInstanceUID"):
        for kept in _of_ecgs(client, study):
            named = {"StudyInstanceUID": study, "SeriesInstanceUID": kept}
            found = client.search(IMAGE, **named, SOPInstanceUID="")
            for uid in _uids(found, "SOPInstanceUID"):
                yield uid, partial(client.retrieve, study, kept, uid, largest)


def _of_ecgs(client: Client, study: str) -> list[str]:
    """Return the series of reports of a study that holds ECGs."""
    series = list(client.search(SERIES, StudyInstanceUID=study, Modality="", SeriesInstanceUID=""))
    if not any(item.get("Modality") == _ECG for item in series):
        return []
    reports = (item for item in series if item.get("Modality") == _REPORT)
    return list(_uids(reports, "SeriesInstanceUID"))


def _uids(found: Iterable[Dataset], keyword: str) -> Iterator[str]:
    """Yield the UIDs of answers: what is none reaches no path."""
    return filter(is_uid, [str(item.get(keyword) or "") for item in found])


def read_reports(
    reports: Iterable[Named],
    corpus: Corpus,
    *,
    words: LabelMap | None = None,
    archive: Pseudonyms | None = None,
) -> Rows:
    """Return the same of reports wherever they come from; see :func:`read_over_reads`."""
    keys = [corpus.pseudonyms, *([archive] if archive else [])]
    reader = _Reader(corpus, words or standard_map(), keys)
    labels: list[Label] = []
    problems: list[Problem] = []
    number = 0
    for number, (name, load) in enumerate(reports, 1):
        found = reader.read(load)
        if isinstance(found, tuple):
            fault, sentence = found
            problems.append(Problem(number, fault, f"{name}: {sentence}"))
        else:
            labels += found
    return Rows(labels=tuple(labels), patients={}, problems=tuple(problems), rows=number)


class _Reader:
    """What is the same for all reports of one import."""

    def __init__(self, corpus: Corpus, words: LabelMap, keys: Sequence[Pseudonyms]) -> None:
        self.corpus = corpus
        self.words = words
        self.resolve = corpus.resolver()
        self.keys = keys
        self.visible = {record.id: record.ai_visible for record in corpus.records}

    def read(self, load: Callable[[], bytes]) -> list[Label] | tuple[Fault, str]:
        """Return the labels of one report, or why it gives none."""
        try:
            return self._labels(dicom.parse(load()))
        except Unanswered as error:
            if error.status is None:
                raise
            return Fault.NOT_A_REPORT, f"it does not come ({error})."
        except Unreachable:
            raise
        except (OSError, analysis.Undecodable, *UNREADABLE) as error:
            return Fault.NOT_A_REPORT, f"it cannot be read as a report ({type(error).__name__})."

    def _labels(self, report: Any) -> list[Label] | tuple[Fault, str]:
        if is_own(report):
            return Fault.AI, "an AI result is never a label."
        if str(report.get("VerificationFlag", "")) != "VERIFIED":
            return Fault.NOT_VERIFIED, "the report is not verified."
        records = self._records(report)
        if len(records) != 1:
            some = f"it refers to {len(records)} recordings of the corpus, not to one."
            return (Fault.AMBIGUOUS if records else Fault.NO_RECORD), some
        keys = sorted({key for code in _codes(report) for key in self.words.keys(*code)})
        if not keys:
            return Fault.NO_LABEL, "it codes no finding of the vocabulary."
        return [self._label(report, records[0], key) for key in keys]

    def _records(self, report: Any) -> list[str]:
        names = {key("instance", uid) for uid in _references(report) for key in self.keys}
        return sorted({record for name in names for record in self.resolve(name)})

    def _label(self, report: Any, record: str, key: str) -> Label:
        observers = report.get("VerifyingObserverSequence") or ()
        name = str(observers[0].get("VerifyingObserverName") or "") if observers else ""
        time = str(observers[0].get("VerificationDateTime") or "") if observers else ""
        return Label(
            record=record,
            key=key,
            value=Value.PRESENT,
            origin=Origin.OVER_READ,
            author=self.corpus.pseudonyms("author", name)[:8] if name else "",
            time=_quarter_month(time),
            ai_visible=self.visible[record],
        )


def _quarter_month(moment: str) -> str:
    """Return the first month of a DT value's quarter, ISO 8601, or "" for none."""
    if not _DATE.match(moment):
        return ""
    return f"{moment[:4]}-{(int(moment[4:6]) - 1) // 3 * 3 + 1:02}"


def _references(report: Any) -> Iterator[str]:
    """Yield the SOP Instance UIDs that the content refers to."""
    for item in _items(report):
        for reference in item.get("ReferencedSOPSequence") or ():
            yield str(reference.get("ReferencedSOPInstanceUID") or "")


def _codes(report: Any) -> Iterator[tuple[str, str]]:
    """Yield scheme and value of every coded value of the content."""
    for item in _items(report):
        if item.get("ValueType") == "CODE":
            for code in item.get("ConceptCodeSequence") or ():
                scheme = str(code.get("CodingSchemeDesignator") or "")
                yield _SCHEMES.get(scheme, scheme), str(code.get("CodeValue") or "")


def _items(parent: Any, depth: int = 0) -> Iterator[Any]:
    """Yield the content items of a report, parents first."""
    content: Iterable[Any] = parent.get("ContentSequence") or ()
    for item in content if depth < _DEEPEST else ():
        yield item
        yield from _items(item, depth + 1)
