"""Recordings into the corpus: from folders of any encoding, data sets, and the node's archive.

Files are read by several processes; one writes the index. What was imported before is not read
again, so an import that was interrupted goes on where it stopped. Each file ends in exactly one
of {stored, duplicate, known, skipped, refused}, with a sentence where it is not stored.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import analysis
from analysis.ecg import ECG, Lead, Patient, Recording, Sex
from analysis.formats import dicom
from analysis.formats.content import Stated
from dicom_node import archive, convert
from dicom_node.archive import Facts, Pseudonyms
from dicom_node.offline import Unusable
from training.caches import Track, untracked
from training.corpus import Corpus, Record, Stored
from training.labels import Label, Origin, Value

WINDOW: Final = 64
"""Recordings that enter the index together."""
_FEW: Final = 500
"""Files that are sooner read here than by processes that must start first."""
_ID: Final = 32
_NOTHING_STATED: Final = Stated()


class Fate(StrEnum):
    """What became of a file."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    """The same recording is there already, from another file."""
    KNOWN = "known"
    """The file was imported before and has not changed."""
    SKIPPED = "skipped"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One file to import, and what its data set says of it beside.

    Parameters
    ----------
    path
        The file; a WFDB record is named by its header.
    patient
        Who it is of, as the data set names patients; None to believe the file.
    age, sex
        Of a file that does not say.
    leads
        What its leads really are, by what the file calls them.
    labels
        Key and value of what the data set says.
    origin, author
        Who says so.
    skipped
        Why it is not to be read.
    """

    path: Path
    site: str
    patient: str | None = None
    age: float | None = None
    sex: Sex | None = None
    leads: Mapping[Lead, Lead] = field(default_factory=dict)
    labels: tuple[tuple[str, Value], ...] = ()
    origin: Origin = Origin.OVER_READ
    author: str = ""
    skipped: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one file."""

    file: Path
    fate: Fate
    reason: str | None = None
    """Of the closed lists of :class:`analysis.Reason` and of this module."""
    message: str | None = None
    record: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What a process needs to read one file and to write its recording."""

    item: Item
    names: tuple[str, ...]
    """What labels may call it."""
    file: str
    stamp: str
    stated: Stated


_Read = Stored | Outcome


def import_folder(
    corpus: Corpus,
    folder: Path,
    *,
    site: str,
    stated: Stated = _NOTHING_STATED,
    processes: int | None = None,
    track: Track = untracked,
) -> Iterator[Outcome]:
    """Yield what becomes of each file of a folder and its subfolders.

    A file that names its patient groups with the others of that patient and site; one that does
    not counts as a patient of its own until a table of labels says more.

    Parameters
    ----------
    site
        A coarse code that is kept with each recording.
    stated
        Rate, unit and leads of bare tables.

    Raises
    ------
    Unusable
        If a process is killed.
    """
    jobs = convert.plan(folder, corpus.folder, "npz")
    items = [Item(path=job.source, site=site, skipped=job.skipped) for job in jobs]
    yield from import_items(corpus, items, folder, stated=stated, processes=processes, track=track)


def import_items(
    corpus: Corpus,
    items: Sequence[Item],
    folder: Path,
    *,
    stated: Stated = _NOTHING_STATED,
    processes: int | None = None,
    track: Track = untracked,
) -> Iterator[Outcome]:
    """Yield what becomes of each of these files, which labels may name by their path in a folder.

    Raises
    ------
    Unusable
        If a process is killed.
    """
    known = corpus.files
    tasks: list[_Task] = []
    for item in items:
        if item.skipped:
            yield Outcome(file=item.path, fate=Fate.SKIPPED, message=item.skipped)
            continue
        task = _task(corpus.pseudonyms, item, folder, stated)
        stamp, record = known.get(task.file, (None, None))
        if stamp == task.stamp and stamp:
            yield Outcome(file=item.path, fate=Fate.KNOWN, record=record)
        else:
            tasks.append(task)
    read = partial(_read_file, corpus.folder, corpus.pseudonyms)
    yield from _import(corpus, read, tasks, processes, track)


def import_archive(
    corpus: Corpus, folder: Path, *, processes: int | None = None, track: Track = untracked
) -> Iterator[Outcome]:
    """Yield what becomes of each recording of a node's archive; who withdrew there leaves here.

    Pseudonyms stay as the node made them.
    """
    for patient in sorted(archive.withdrawn(folder) - corpus.withdrawn):
        corpus.withdraw(patient)
    known = corpus.files
    tasks: list[_Task] = []
    for path in archive.recordings(folder):
        name = f"archive {path.parent.name} {path.stem}"
        if name in known:
            yield Outcome(file=path, fate=Fate.KNOWN, record=known[name][1])
        else:
            item = Item(path=path, site="")
            task = _Task(item=item, names=(), file=name, stamp="1", stated=_NOTHING_STATED)
            tasks.append(task)
    yield from _import(corpus, partial(_adopt, corpus.folder), tasks, processes, track)


def _task(pseudonyms: Pseudonyms, item: Item, folder: Path, stated: Stated) -> _Task:
    path = item.path
    below = path.relative_to(folder) if folder in path.parents else Path(path.name)
    names = {below.as_posix(), below.with_suffix("").as_posix(), path.name, path.stem}
    return _Task(
        item=item,
        names=tuple(pseudonyms("name", name) for name in sorted(names)),
        file=pseudonyms("file", item.site, str(path.resolve())),
        stamp=_stamp(path),
        stated=stated,
    )


def _stamp(path: Path) -> str:
    try:
        state = path.stat()
    except OSError:
        return ""
    return f"{state.st_size} {state.st_mtime_ns}"


def _import(
    corpus: Corpus,
    read: partial[_Read],
    tasks: Sequence[_Task],
    processes: int | None,
    track: Track,
) -> Iterator[Outcome]:
    """Yield what becomes of each file; recordings enter the index by the dozen."""
    there = {record.id: record for record in corpus.records}
    gone = corpus.withdrawn
    with _mapped(read, tasks, processes) as results:
        pairs = zip(tasks, track(results, len(tasks)), strict=True)
        while batch := list(islice(pairs, WINDOW)):
            entering = []
            outcomes = []
            for task, result in batch:
                outcome = _judged(task, result, there, gone)
                outcomes.append(outcome)
                if isinstance(result, Stored) and outcome.fate is not Fate.REFUSED:
                    there.setdefault(result.record.id, result.record)
                    entering.append(result)
                elif isinstance(result, Stored) and result.record.id not in there:
                    corpus.path(result.record.id).unlink(missing_ok=True)
            corpus.add(entering)
            yield from outcomes


def _judged(
    task: _Task, result: _Read, there: Mapping[str, Record], gone: frozenset[str]
) -> Outcome:
    if isinstance(result, Outcome):
        return result
    record = result.record
    base = Outcome(file=task.item.path, fate=Fate.STORED, record=record.id)
    if gone & {record.id, record.patient}:
        sentence = "Its patient withdrew from the corpus."
        return replace(base, fate=Fate.REFUSED, reason="withdrawn", message=sentence, record=None)
    other = there.get(record.id)
    if other is None:
        return base
    if record.patient_stated and other.patient_stated and record.patient != other.patient:
        sentence = "The same recording is there already, of another patient: one of them is wrong."
        return replace(base, fate=Fate.DUPLICATE, reason="two-patients", message=sentence)
    return replace(base, fate=Fate.DUPLICATE, message="The same recording is there already.")


@contextmanager
def _mapped(
    read: partial[_Read], tasks: Sequence[_Task], processes: int | None
) -> Iterator[Iterable[_Read]]:
    """Yield the results in order, made by several processes where it pays."""
    count = processes or (1 if len(tasks) <= _FEW else os.cpu_count() or 1)
    if count == 1:
        yield map(read, tasks)
        return
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"))
    try:
        yield pool.map(read, tasks, chunksize=4)
    except BrokenProcessPool:
        raise Unusable("A process was killed; is there enough memory?") from None
    finally:
        pool.shutdown(cancel_futures=True)


# In the reading processes


def _read_file(corpus: Path, pseudonyms: Pseudonyms, task: _Task) -> _Read:
    """Return the recording of a file, written into the corpus, or why not."""
    item = task.item
    try:
        instance = _instance(item.path)
        recording = analysis.read(item.path, **asdict(task.stated))
    except analysis.Undecodable as error:
        return _refused(item, error.reason, error.message)
    except _OwnObject:
        return _refused(item, "own-object", "The object was made by this product.")
    recording = _completed(recording, item)
    named = recording.patient.identifier if item.patient is None else item.patient
    record = archive.digest(recording.ecg)[:_ID]
    facts = Facts.of(
        recording,
        patient=pseudonyms("patient", item.site, named or f"\0{record}"),
        instance=instance and pseudonyms("instance", instance),
        site=item.site,
        ai_visible=False,
    )
    aliases = (*task.names, *filter(None, [facts.instance]))
    return _stored(corpus, task, recording.ecg, facts, aliases, stated=bool(named))


def _adopt(corpus: Path, task: _Task) -> _Read:
    """Return a recording of the node's archive, written into the corpus, or why not."""
    try:
        ecg, facts = archive.decode(task.item.path)
    except (OSError, ValueError):
        return _refused(task.item, "damaged", "The file holds no recording of an archive.")
    aliases = tuple(filter(None, [facts.instance]))
    return _stored(corpus, task, ecg, facts, aliases, stated=True)


def _stored(
    corpus: Path,
    task: _Task,
    ecg: ECG,
    facts: Facts,
    aliases: tuple[str, ...],
    *,
    stated: bool,
) -> Stored:
    sha256 = archive.digest(ecg)
    record = _record(ecg, facts, sha256, stated=stated)
    path = Corpus.path_in(corpus, record.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    archive.write(path, archive.encode(ecg, facts))
    return Stored(
        record=record,
        file=task.file,
        stamp=task.stamp,
        aliases=aliases,
        labels=(*_labels(task.item, record.id), *_vendor_labels(task.item, record.id, facts)),
    )


def _record(ecg: ECG, facts: Facts, sha256: str, *, stated: bool) -> Record:
    return Record(
        id=sha256[:_ID],
        patient=facts.patient,
        age=facts.age,
        sex=facts.sex,
        site=facts.site,
        device=facts.device,
        quarter=facts.quarter,
        sampling_frequency=ecg.sampling_frequency,
        leads=ecg.leads,
        samples=ecg.samples,
        format=facts.format,
        sha256=sha256,
        ai_visible=facts.ai_visible,
        patient_stated=stated,
    )


class _OwnObject(Exception):
    """The file is one of ours, or names us in Contributing Equipment."""


def _instance(path: Path) -> str | None:
    """Return the SOP Instance UID of a DICOM file, None of another.

    Raises
    ------
    _OwnObject
        If the object is ours: an AI result would teach an AI.
    analysis.Undecodable
        If the file cannot be parsed.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return None  # analysis.read says why
    if not dicom.looks_like_dicom(data):
        return None
    from dicom_node.report import is_own  # noqa: PLC0415 - a second that only DICOM needs

    source = dicom.parse(data)
    if is_own(source):
        raise _OwnObject
    return str(source.get("SOPInstanceUID") or "") or None


def _refused(item: Item, reason: str, message: str) -> Outcome:
    return Outcome(file=item.path, fate=Fate.REFUSED, reason=str(reason), message=message)


def _completed(recording: Recording, item: Item) -> Recording:
    """Return a recording with what its data set says and the file does not."""
    who, ecg = recording.patient, recording.ecg
    patient = Patient(
        age=who.age if item.age is None else item.age,
        sex=item.sex or who.sex,
        identifier=who.identifier,
    )
    if not item.leads:
        return replace(recording, patient=patient)
    named = ECG(
        signal=ecg.signal,
        leads=tuple(item.leads.get(lead, lead) for lead in ecg.leads),
        sampling_frequency=ecg.sampling_frequency,
    )
    return replace(recording, patient=patient, ecg=named)


def _labels(item: Item, record: str) -> Iterator[Label]:
    for key, value in item.labels:
        yield Label(record=record, key=key, value=value, origin=item.origin, author=item.author)


def _vendor_labels(item: Item, record: str, facts: Facts) -> Iterator[Label]:
    """Yield what the file itself says: the cart's statements, or the codes of a WFDB header."""
    if item.labels:
        return
    origin = Origin.CODE if facts.format == "WFDB" else Origin.VENDOR
    for key in facts.statements:
        yield Label(record=record, key=key, value=Value.PRESENT, origin=origin, author=facts.device)


def counts(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Return how many files came to what, and how many were refused for which reason."""
    listed = list(outcomes)
    reasons: dict[str, int] = {}
    for outcome in listed:
        if outcome.reason:
            reasons[outcome.reason] = reasons.get(outcome.reason, 0) + 1
    fates = {str(fate): sum(outcome.fate is fate for outcome in listed) for fate in Fate}
    return {"files": len(listed), **fates, "reasons": dict(sorted(reasons.items()))}
