"""Files dropped in the browser: ECGs of any encoding into the corpus, and tables of labels.

An upload is a folder with what was sent, until it is read, and with what became of each file,
for good. Nothing here needs a PACS: a recording is pseudonymised as every import is, can be
looked at once it is in the corpus, and labels of the same upload may speak of it.
"""

import csv
import json
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, Self

import analysis
from analysis.formats.content import Stated
from analysis.result import Result
from dicom_node.archive import decode
from training.admin.views import headline
from training.corpus import Corpus
from training.importing import Fate, Outcome, import_folder
from training.labels import Origin, Reading, read_csv

SITE: Final = "upload"
MOST_FILES: Final = 5_000
MOST_BYTES: Final = 2 * 2**30
"""Of one upload, archives unpacked."""

_FILES, _ABOUT, _OUTCOMES = "files", "upload.json", "outcomes.jsonl"
_CHUNK: Final = 2**20
_LONGEST_NAME: Final = 200
_ID_BYTES: Final = 8

Analyse = Callable[[analysis.Recording], Result]


class Refused(ValueError):
    """The files are not taken; the message is a sentence for who sent them."""


class UploadState(StrEnum):
    """Where an upload stands."""

    RECEIVING = "RECEIVING"
    READING = "READING"
    DONE = "DONE"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOutcome:
    """What became of one file, in the words of the page."""

    file: str
    """As it was named by who sent it."""
    fate: str
    """One of :class:`training.importing.Fate`, or "labels"."""
    reason: str | None = None
    message: str | None = None
    record: str | None = None
    """Its id in the corpus, by which it can be looked at."""
    overall: str | None = None
    rate: str | None = None
    statements: str | None = None
    problems: tuple[str, ...] = ()
    """Of a table of labels: a sentence for each row that is wrong or odd."""

    @classmethod
    def from_mapping(cls, document: dict[str, Any]) -> Self:
        """Return what :func:`dataclasses.asdict` made."""
        return cls(**document | {"problems": tuple(document["problems"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One upload, and how far it is."""

    id: str
    by: str
    at: float
    """UTC, seconds since the epoch."""
    state: UploadState = UploadState.RECEIVING
    message: str = ""
    total: int = 0
    """Files to read."""
    outcomes: tuple[FileOutcome, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many files came to what."""
        fates = [outcome.fate for outcome in self.outcomes]
        return {fate: fates.count(fate) for fate in dict.fromkeys(fates)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploads:
    """The uploads of one installation.

    Parameters
    ----------
    folder
        Where they lie, one folder for each.
    corpus
        The folder of the corpus that the recordings enter; it is made where it is not there.
    """

    folder: Path
    corpus: Path

    def begin(self, by: str, now: float) -> str:
        """Return the id of a new upload of this person."""
        upload = Upload(id=secrets.token_hex(_ID_BYTES), by=by, at=now)
        (self.folder / upload.id / _FILES).mkdir(parents=True)
        self._note(upload)
        return upload.id

    def add(self, upload: str, name: str, data: IO[bytes]) -> None:
        """Keep a file of an upload; a ZIP archive is unpacked.

        Raises
        ------
        Refused
            If the file's name is none, an archive is damaged, or it is all too much.
        """
        place = self._place(upload) / _FILES
        if not place.is_dir():
            raise Refused("This upload is complete; begin another.")
        path = _safe(place, name)
        room = MOST_BYTES - _size(place)
        if path.suffix.lower() == ".zip":
            _unpack(data, place / path.stem, room)
        else:
            _copy(data, path, room)
        if sum(1 for item in place.rglob("*") if item.is_file()) > MOST_FILES:
            raise Refused(f"An upload holds at most {MOST_FILES} files.")

    def read(
        self, upload: str, *, analyse: Analyse, reviewer: bool, stated: Stated | None = None
    ) -> Iterator[FileOutcome]:
        """Yield what becomes of each file, and note it; labels come last.

        Parameters
        ----------
        analyse
            Analyses a recording, for the first look.
        reviewer
            Whether who sent it may label.
        stated
            Rate, unit and leads of bare tables.
        """
        about = replace(self.get(upload), outcomes=(), state=UploadState.READING)
        place = self._place(upload)
        tables = [path for path in _files(place / _FILES) if is_labels(path)]
        self._note(replace(about, total=len(_files(place / _FILES))))
        corpus = Corpus.create(self.corpus)
        moved = _apart(tables, place)
        try:
            found = self._recordings(corpus, place / _FILES, analyse, stated or Stated())
            labels = (
                _labelled(corpus, path, name, about, reviewer=reviewer) for path, name in moved
            )
            with (place / _OUTCOMES).open("a", encoding="utf-8") as file:
                for outcomes in (found, labels):
                    for outcome in outcomes:
                        file.write(json.dumps(asdict(outcome)) + "\n")
                        file.flush()
                        yield outcome
        except Exception:
            sentence = "Reading the files failed unexpectedly; the log says where."
            self._note(replace(about, state=UploadState.FAILED, message=sentence))
            raise
        finally:
            shutil.rmtree(place / _FILES, ignore_errors=True)
            for path, _ in moved:
                path.unlink(missing_ok=True)
        self._note(replace(self.get(upload), state=UploadState.DONE, outcomes=()))

    def _recordings(
        self, corpus: Corpus, folder: Path, analyse: Analyse, stated: Stated
    ) -> Iterator[FileOutcome]:
        for outcome in import_folder(corpus, folder, site=SITE, stated=stated):
            yield _seen(corpus, outcome, outcome.file.relative_to(folder).as_posix(), analyse)

    def get(self, upload: str) -> Upload:
        """Return one upload.

        Raises
        ------
        KeyError
            If there is none of this id.
        """
        place = self._place(upload)
        about = json.loads((place / _ABOUT).read_text(encoding="utf-8"))
        lines: list[str] = []
        if (place / _OUTCOMES).is_file():
            lines = (place / _OUTCOMES).read_text(encoding="utf-8").splitlines()
        outcomes = tuple(FileOutcome.from_mapping(json.loads(line)) for line in lines)
        return Upload(
            **about | {"state": UploadState(about["state"]), "outcomes": outcomes},
        )

    def list(self) -> tuple[Upload, ...]:
        """Return every upload, the newest first."""
        found = [self.get(path.parent.name) for path in self.folder.glob(f"*/{_ABOUT}")]
        return tuple(sorted(found, key=lambda upload: -upload.at))

    def _place(self, upload: str) -> Path:
        place = self.folder / upload
        if not upload.isalnum() or not place.is_dir():
            raise KeyError(upload)
        return place

    def _note(self, upload: Upload) -> None:
        document = asdict(upload) | {"outcomes": []}
        path = self.folder / upload.id / _ABOUT
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(document), encoding="utf-8")
        draft.replace(path)


# Files


def _safe(folder: Path, name: str) -> Path:
    """Return a path below the folder that keeps a file's name and its folders.

    Raises
    ------
    Refused
        If no name is left, or it leads elsewhere.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    kept = [part for part in parts if part not in {"/", "."} and not part.endswith(":")]
    if not kept or ".." in kept or any(_odd(part) for part in kept):
        raise Refused("A file needs a name of letters, without “..” in its path.")
    return folder.joinpath(*kept)


def _odd(part: str) -> bool:
    return len(part.encode()) > _LONGEST_NAME or not part.isprintable()


def _copy(data: IO[bytes], path: Path, room: int) -> int:
    """Write a file of at most so many bytes; return how many there were."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with path.open("wb") as file:
        while chunk := data.read(_CHUNK):
            written += len(chunk)
            if written > room:
                raise Refused(f"An upload holds at most {MOST_BYTES // 2**20} MiB, unpacked.")
            file.write(chunk)
    return written


def _unpack(data: IO[bytes], folder: Path, room: int) -> None:
    """Unpack an archive; what it says of its sizes is not believed."""
    try:
        with zipfile.ZipFile(data) as archive:
            members = [item for item in archive.infolist() if not item.is_dir()]
            if len(members) > MOST_FILES:
                raise Refused(f"An upload holds at most {MOST_FILES} files.")
            for member in members:
                with archive.open(member) as part:
                    room -= _copy(part, _safe(folder, member.filename), room)
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        why = "encrypted" if isinstance(error, RuntimeError) else "damaged"
        raise Refused(f"The ZIP archive is {why}.") from None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in _files(folder))


def _apart(tables: list[Path], place: Path) -> list[tuple[Path, str]]:
    """Move tables of labels out of the way of the ECGs; return each with its name."""
    moved = []
    for number, path in enumerate(tables):
        target = place / f"labels-{number}.csv"
        path.replace(target)
        moved.append((target, path.relative_to(place / _FILES).as_posix()))
    return moved


def is_labels(path: Path) -> bool:
    """Return whether a file is a table of labels: a CSV with a column `label`, by its head."""
    if path.suffix.lower() != ".csv":
        return False
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        head = file.readline(10_000)
    between = "," if "," in head else ";"
    columns = {
        name.strip().lower() for row in csv.reader([head], delimiter=between) for name in row
    }
    return "label" in columns


# What became of them


def _seen(corpus: Corpus, outcome: Outcome, name: str, analyse: Analyse) -> FileOutcome:
    told = FileOutcome(
        file=name,
        fate=str(outcome.fate),
        reason=outcome.reason,
        message=outcome.message,
        record=outcome.record,
    )
    if outcome.record is None or outcome.fate is Fate.REFUSED:
        return told
    seen = headline(analyse(recording_of(corpus, outcome.record)))
    return replace(told, overall=seen.overall, rate=seen.rate, statements=seen.statements)


def recording_of(corpus: Corpus, record: str) -> analysis.Recording:
    """Return a recording of a corpus with the age and sex that are declared of it.

    Raises
    ------
    KeyError
        If there is none of this id.
    """
    if not record.isalnum():
        raise KeyError(record)
    try:
        ecg, facts = decode(corpus.path(record))
    except FileNotFoundError:
        raise KeyError(record) from None
    return analysis.Recording(
        ecg=ecg,
        format=facts.format,
        patient=analysis.Patient(age=facts.age, sex=facts.sex),
    )


def _labelled(
    corpus: Corpus, path: Path, name: str, about: Upload, *, reviewer: bool
) -> FileOutcome:
    if not reviewer:
        sentence = "Labels come from a reviewer; this account is none."
        return FileOutcome(file=name, fate=str(Fate.REFUSED), reason="role", message=sentence)
    reading = Reading(resolve=corpus.resolver(), origin=Origin.REVIEWER, author=about.by)
    try:
        rows = read_csv(path, reading)
    except (ValueError, csv.Error) as error:
        sentence = f"{error}".removeprefix(path.name).strip()
        return FileOutcome(
            file=name,
            fate=str(Fate.REFUSED),
            reason="not-a-table",
            message=f"The table {sentence}.",
        )
    corpus.regroup(rows.patients)
    time = datetime.fromtimestamp(about.at, UTC).isoformat(timespec="seconds")
    new = corpus.add_labels(replace(label, time=label.time or time) for label in rows.labels)
    return FileOutcome(
        file=name,
        fate="labels",
        message=f"{new} new labels from {rows.rows} rows.",
        problems=tuple(problem.sentence for problem in rows.problems),
    )
