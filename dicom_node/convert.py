"""`sinusnode convert`: ECG files of any encoding written in another, one or a whole folder."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from io import BytesIO
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import analysis
from analysis.formats import writing
from analysis.formats.content import Stated
from dicom_node import offline
from dicom_node.offline import Study, Unusable

SCHEMA: Final = 1
SUFFIXES: Final[Mapping[str, str]] = {
    "npz": ".npz",
    "wfdb": ".hea",
    "edf": ".edf",
    "xml": ".xml",
    "csv": ".csv",
    "parquet": ".parquet",
    "dcm": ".dcm",
}
"""By the word that `--to` takes."""

_FEW: Final = 32
"""Files that are sooner converted here than by processes that must start first."""
_DOCUMENT: Final = re.compile(
    r".*(?i:readme).*|.*\.md|LICEN[CS]E(\.\w+)?|RECORDS(-\w+)?|ANNOTATORS|SHA256SUMS\.txt|\..*"
)
"""Names of what stands beside ECGs in databases and repositories."""
_OF_THEIR_OWN: Final = re.compile(
    r"\.(hea|edf|bdf|xml|dcm|scp|csv|tsv|txt|npz|npy|parquet|json|hl7|mwf|ecg|atc)", re.IGNORECASE
)
"""Suffixes of ECGs that may stand beside a WFDB record and are no part of it."""
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_-]")
"""What the name of a WFDB record may not have."""


@dataclass(frozen=True, slots=True)
class Job:
    """One file to convert, and the file to make of it."""

    source: Path
    target: Path
    skipped: str | None = None
    """Why it is not tried as an ECG."""


@dataclass(frozen=True, slots=True)
class Statements:
    """What the caller says: of bare tables, and of the study that a DICOM object goes into."""

    table: Stated
    study: Study | None


def plan(source: Path, out: Path, to: str | None) -> list[Job]:
    """Return what to do for a file, or for each file of a folder and its subfolders.

    Parameters
    ----------
    source, out
        Two files, or two folders.
    to
        One of `SUFFIXES`; None where the suffix of `out` says it.

    Raises
    ------
    Unusable
        If what to write is not stated, or a folder would be written into itself.
    """
    suffix = SUFFIXES.get(to.lower().lstrip("."), "") if to else out.suffix.lower()
    if suffix not in SUFFIXES.values():
        raise Unusable(f"State what to write: --to {', '.join(SUFFIXES)}.")
    if source.is_dir():
        return _jobs(source, out, suffix)
    target = out / _target(Path(source.name), suffix) if out.is_dir() else out.with_suffix(suffix)
    return [Job(source, target)]


def _jobs(folder: Path, out: Path, suffix: str) -> list[Job]:
    """Return a job for each file of a folder; no two make the same file."""
    if folder.resolve() == out.resolve():
        raise Unusable("Name another folder to write into than the one that is read.")
    inside = out.resolve()
    sources = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and inside not in path.resolve().parents
    )
    parts = _parts(path for path in sources if path.suffix == SUFFIXES["wfdb"])
    work = [
        Job(path, out / _target(path.relative_to(folder), suffix), _skipped(path, parts))
        for path in sources
    ]
    shared = _shared(work)
    work = [_apart(job, shared) for job in work]
    if twice := next(iter(_shared(work)), None):
        raise Unusable(f"Several files would become {twice}; rename one of them.")
    return work


def _shared(work: Iterable[Job]) -> set[Path]:
    """Return the targets that several jobs would write."""
    count = Counter(job.target for job in work if not job.skipped)
    return {target for target, number in count.items() if number > 1}


def _apart(job: Job, shared: set[Path]) -> Job:
    """Return a job whose target keeps the suffix of its source where others share its name."""
    if job.target not in shared:
        return job
    name = f"{job.target.stem}_{job.source.suffix[1:]}{job.target.suffix}"
    return replace(job, target=job.target.with_name(name))


def _target(path: Path, suffix: str) -> Path:
    stem = _NO_NAME.sub("_", path.stem) if suffix == SUFFIXES["wfdb"] else path.stem
    return path.with_name(stem + suffix)


def _parts(headers: Iterable[Path]) -> dict[Path, str]:
    """Return the segments of WFDB records by their path, each with the header that names it."""
    found: dict[Path, str] = {}
    for header in headers:
        with suppress(OSError):
            lines = [line.split() for line in header.read_text("latin-1").splitlines()]
            lines = [words for words in lines if words and not words[0].startswith("#")]
            if lines and "/" in lines[0][0]:
                found |= {header.parent / f"{words[0]}.hea": header.name for words in lines[1:]}
    return found


def _skipped(path: Path, parts: Mapping[Path, str]) -> str | None:
    """Return why a file is not tried as an ECG, or None where it is."""
    header = path.with_suffix(SUFFIXES["wfdb"])
    if path in parts:
        return f"The file is a segment of {parts[path]}."
    if _DOCUMENT.fullmatch(path.name):
        return "The file is a document beside ECGs."
    if not _OF_THEIR_OWN.fullmatch(path.suffix) and header.is_file():
        return f"The file belongs to {header.name}."
    return None


def convert_all(
    work: Sequence[Job], stated: Statements, processes: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the document of each job in order, made by several processes where it pays.

    Parameters
    ----------
    processes
        How many; None for one where the jobs are few, else as many as there are processors.

    Raises
    ------
    Unusable
        If a process is killed, for want of memory for example.
    """
    if processes is None:
        processes = 1 if len(work) <= _FEW else os.cpu_count() or 1
    if processes == 1:
        yield from map(partial(convert, stated=stated), work)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(convert, work, repeat(stated), chunksize=4)
        except BrokenProcessPool:
            raise Unusable("A process was killed; is there enough memory?") from None


def convert(job: Job, stated: Statements) -> dict[str, Any]:
    """Return the document of one file: written, refused or skipped, and why."""
    if job.skipped:
        return _document(job, "skipped", message=job.skipped)
    try:
        recording = analysis.read(job.source, **asdict(stated.table))
        written = _write(job, recording, stated.study)
    except analysis.Undecodable as error:
        return _document(job, "refused", reason=error.reason, message=error.message)
    except Unusable as error:
        return _document(job, "refused", reason="no-identity", message=str(error))
    except ValueError as error:
        return _document(job, "refused", reason="does-not-fit", message=_sentence(str(error)))
    return _document(
        job,
        "written",
        format=recording.format,
        written=[str(path) for path in written],
        notes=list(recording.notes),
    )


def _document(job: Job, outcome: str, **said: Any) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "file": str(job.source),
        "ok": outcome != "refused",
        "outcome": outcome,
        "reason": None,
        "message": None,
        "format": None,
        "written": [],
        "notes": [],
    } | said


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _write(job: Job, recording: analysis.Recording, study: Study | None) -> Sequence[Path]:
    """Write the recording; its source is never written over."""
    folder, name = job.target.parent, job.target.name
    if job.target.suffix == SUFFIXES["dcm"]:
        files: Mapping[str, bytes] = {name: _general_ecg(job.source, recording, study)}
    else:
        files = writing.encode(recording, name)
    paths = [folder / name for name in files]
    if job.source.resolve() in [path.resolve() for path in paths]:
        raise ValueError("the ECG would be written over its source")
    folder.mkdir(parents=True, exist_ok=True)
    for path, data in zip(paths, files.values(), strict=True):
        path.write_bytes(data)
    return paths


def _general_ecg(source: Path, recording: analysis.Recording, study: Study | None) -> bytes:
    """Return a General ECG in the patient's study: that of a DICOM source, else the one stated."""
    if recording.format.startswith("DICOM"):
        study = Study(into=source, patient_id=None, study_uid=None)
    if study is None:
        raise Unusable(offline.NO_IDENTITY)
    made = offline.adopted(source.read_bytes(), recording, study, offline.written_at(source))
    buffer = BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
