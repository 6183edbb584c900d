"""The corpus: a folder of de-identified recordings, what is declared of them, and their labels.

Each recording is stored once, at its native rate with its scale; an index (SQLite) holds the
declared facts, the labels, keyed hashes of the names that files had, and which model learned
from what. Caches and embeddings are made from it and may be thrown away. Who withdraws leaves
all of them.
"""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Self

from analysis.ecg import ECG, Lead, Sex
from analysis.recipe import Recipe
from dicom_node.archive import SUFFIX, Pseudonyms, decode
from training.caches import Cache, Track, build_cache, read_ids, untracked
from training.labels import Label, LabelTable, Origin, Value

INDEX: Final = "corpus.sqlite"
KEY: Final = "corpus.key"
RECORDINGS: Final = "recordings"
CACHES: Final = "caches"
EMBEDDINGS: Final = "embeddings"
SPLITS: Final = "splits"

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS record (
    id TEXT PRIMARY KEY, patient TEXT NOT NULL, age INTEGER, sex TEXT, site TEXT NOT NULL,
    device TEXT NOT NULL, quarter TEXT, sampling_frequency REAL NOT NULL, leads TEXT NOT NULL,
    samples INTEGER NOT NULL, format TEXT NOT NULL, sha256 TEXT NOT NULL,
    ai_visible INTEGER NOT NULL, patient_stated INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS record_patient ON record (patient);
CREATE TABLE IF NOT EXISTS alias (
    name TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (name, record)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS file (
    name TEXT PRIMARY KEY, stamp TEXT NOT NULL, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS label (
    record TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, origin TEXT NOT NULL,
    author TEXT NOT NULL, time TEXT NOT NULL, ai_visible INTEGER NOT NULL,
    PRIMARY KEY (record, key, value, origin, author, time)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS withdrawn (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS learned (
    model TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (model, record)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS withdrawal (
    model TEXT PRIMARY KEY, records INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One recording of the corpus, as it is declared."""

    id: str
    """The beginning of the SHA-256 of its content."""
    patient: str
    """A keyed hash: recordings of one patient have the same."""
    age: int | None
    """Years, at most 90."""
    sex: Sex | None
    site: str
    device: str
    """The maker of the cart."""
    quarter: str | None
    """Of acquisition, for example "2026Q1"."""
    sampling_frequency: float
    """Hz."""
    leads: tuple[Lead, ...]
    samples: int
    """Per lead."""
    format: str
    sha256: str
    """Of rate, leads and samples, however they were encoded."""
    ai_visible: bool
    """Whether an AI result of it was there for those who read it afterwards."""
    patient_stated: bool
    """Whether its source says whose it is; if not, it counts as a patient of its own."""

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.samples / self.sampling_frequency


_first: Final = itemgetter(0)
_COLUMNS: Final = tuple(item.name for item in fields(Record))

_STATED_LATER: Final = """
 ON CONFLICT (id) DO UPDATE SET patient = excluded.patient, patient_stated = 1
 WHERE excluded.patient_stated AND NOT patient_stated"""
"""The same recording again: a file that says whose it is adds that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One recording that is about to enter the index; its file is already there."""

    record: Record
    file: str
    """Keyed hash of the path it came from."""
    stamp: str
    """Size and time of that file: where they are the same, it need not be read again."""
    aliases: tuple[str, ...] = ()
    """Keyed hashes of the names by which labels may speak of it."""
    labels: tuple[Label, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """What the withdrawal of a patient removed."""

    patient: str
    recordings: int
    labels: int
    caches: int
    embeddings: int
    splits: int
    """How many stored splits named one of the recordings."""
    models: tuple[str, ...]
    """Digests of the models that learned from them: marked, and not unlearned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learner:
    """One model that learned from the corpus."""

    model: str
    """SHA-256 of its file: a package, an ONNX file, or a checkpoint that a study keeps."""
    records: int
    """From how many recordings that are still there."""
    withdrawn: int
    """From how many that were withdrawn since."""


class Corpus:
    """A folder that holds a corpus.

    Parameters
    ----------
    folder
        As :meth:`create` made it.

    Raises
    ------
    FileNotFoundError
        If there is no corpus.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if not (self.folder / INDEX).is_file():
            raise FileNotFoundError(f"there is no corpus in {folder}; `sinusnode corpus import`")

    @classmethod
    def create(cls, folder: Path | str) -> Self:
        """Return the corpus of a folder; one that is not there yet is made."""
        root = Path(folder)
        (root / RECORDINGS).mkdir(parents=True, exist_ok=True)
        Pseudonyms.of(root / KEY)
        with closing(sqlite3.connect(root / INDEX)) as connection, connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
        return cls(root)

    def __repr__(self) -> str:
        return f"Corpus({str(self.folder)!r})"

    @property
    def pseudonyms(self) -> Pseudonyms:
        """The keyed hashes of this corpus; they need its key file."""
        return Pseudonyms.of(self.folder / KEY)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection inside one transaction."""
        with closing(sqlite3.connect(self.folder / INDEX, timeout=60.0)) as connection, connection:
            yield connection

    def _query(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._connected() as connection:
            return connection.execute(statement, values).fetchall()

    # Recordings

    @property
    def records(self) -> tuple[Record, ...]:
        """Every recording, in the order of their ids."""
        rows = self._query(
            f"SELECT {', '.join(_COLUMNS)} FROM record"  # noqa: S608 - our own column names
            " WHERE patient NOT IN (SELECT name FROM withdrawn) ORDER BY id"
        )
        return tuple(_record(row) for row in rows)

    def path(self, record: str) -> Path:
        """Return where the recording with this id lies."""
        return self.path_in(self.folder, record)

    @staticmethod
    def path_in(folder: Path, record: str) -> Path:
        """Return where a recording lies in the corpus of a folder."""
        return folder / RECORDINGS / record[:2] / f"{record}{SUFFIX}"

    def ecg(self, record: str) -> ECG:
        """Return a recording as it was imported, bit by bit.

        Raises
        ------
        KeyError
            If there is none of this id.
        ValueError
            If its file is damaged.
        """
        try:
            return decode(self.path(record))[0]
        except FileNotFoundError:
            raise KeyError(record) from None

    def add(self, found: Iterable[Stored]) -> None:
        """Enter recordings whose files are there, with their names and labels: all or none."""
        entries = tuple(found)
        marks = ", ".join("?" * len(_COLUMNS))
        with self._connected() as connection:
            connection.executemany(
                f"INSERT INTO record ({', '.join(_COLUMNS)}) VALUES ({marks}){_STATED_LATER}",  # noqa: S608
                [_row(entry.record) for entry in entries],
            )
            connection.executemany(
                "INSERT OR IGNORE INTO alias VALUES (?, ?)",
                [(name, entry.record.id) for entry in entries for name in entry.aliases],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO file VALUES (?, ?, ?)",
                [(entry.file, entry.stamp, entry.record.id) for entry in entries],
            )
            _add_labels(connection, (label for entry in entries for label in entry.labels))

    @property
    def files(self) -> Mapping[str, tuple[str, str]]:
        """Stamp and record id by the keyed hash of the path that was imported."""
        return {name: (stamp, record) for name, stamp, record in self._query("SELECT * FROM file")}

    def resolver(self, site: str | None = None) -> Callable[[str], tuple[str, ...]]:
        """Return what tells the ids that a name means: an id, a path, a file's name.

        Parameters
        ----------
        site
            Only recordings of this site.
        """
        pseudonyms = self.pseudonyms
        rows = self._query(
            "SELECT alias.name, id FROM record JOIN alias ON alias.record = id"
            " WHERE ?1 IS NULL OR site = ?1"
            " UNION SELECT id, id FROM record WHERE ?1 IS NULL OR site = ?1 ORDER BY 1, 2",
            (site,),
        )
        found = {name: tuple(row[1] for row in some) for name, some in groupby(rows, _first)}
        return lambda name: found.get(pseudonyms("name", name)) or found.get(name, ())

    def resolve(self, name: str, site: str | None = None) -> tuple[str, ...]:
        """Return the ids that one name means; see :meth:`resolver`."""
        return self.resolver(site)(name)

    def regroup(self, patients: Mapping[str, str]) -> None:
        """Say whose recordings are: the patient, as a site names them, by record id.

        Patients are told apart by site; their names are kept as keyed hashes alone.
        """
        sites = {record.id: record.site for record in self.records}
        stated = [
            (self.pseudonyms("patient", sites[record], patient), record)
            for record, patient in patients.items()
            if record in sites
        ]
        with self._connected() as connection:
            connection.executemany(
                "UPDATE record SET patient = ?, patient_stated = 1 WHERE id = ?", stated
            )

    # Labels

    @property
    def labels(self) -> LabelTable:
        """Every label; `select` takes those that a plan wants."""
        rows = self._query("SELECT * FROM label ORDER BY record, key")
        return LabelTable(tuple(_label(row) for row in rows))

    @property
    def labelled(self) -> int:
        """How many recordings somebody has labelled: a vendor's program is nobody."""
        query = "SELECT count(DISTINCT record) FROM label WHERE origin != ?"
        return int(self._query(query, (Origin.VENDOR,))[0][0])

    def labels_of(self, record: str) -> tuple[Label, ...]:
        """Return the labels of one recording, the oldest first."""
        query = "SELECT * FROM label WHERE record = ? ORDER BY time, key"
        return tuple(_label(row) for row in self._query(query, (record,)))

    def add_labels(self, labels: Iterable[Label]) -> int:
        """Return how many labels were new; those that are there already stay as they are."""
        with self._connected() as connection:
            return _add_labels(connection, labels)

    # What is made from it

    def cache(
        self, recipe: Recipe, *, processes: int | None = None, track: Track = untracked
    ) -> Cache:
        """Return every recording in a recipe's form, made now where it is not there yet.

        Parameters
        ----------
        processes
            How many make it; by default as many as there are processors.
        track
            Shows how far it is.
        """
        paths = {record.id: self.path(record.id) for record in self.records}
        return build_cache(
            self.folder / CACHES / recipe.digest, paths, recipe, processes=processes, track=track
        )

    def embeddings(self, model: str) -> Path:
        """Return the folder for what a backbone makes of the recordings.

        Write there with :func:`training.caches.publish`, so that a withdrawal finds it.
        """
        return self.folder / EMBEDDINGS / model

    @property
    def splits(self) -> Path:
        """The folder of stored splits, one JSON file each."""
        return self.folder / SPLITS

    # Who learned from it, and who leaves it

    def learned(self, model: str, records: Iterable[str]) -> None:
        """Note that the model with this digest learned from these recordings."""
        with self._connected() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO learned VALUES (?, ?)",
                [(model, record) for record in records],
            )

    def taught(self, model: str) -> frozenset[str]:
        """Return the recordings that are there from which the model with this digest learned."""
        rows = self._query("SELECT record FROM learned WHERE model = ?", (model,))
        return frozenset(row[0] for row in rows)

    @property
    def learners(self) -> tuple[Learner, ...]:
        """Every model that learned from the corpus, those that a withdrawal concerns included."""
        here = dict(self._query("SELECT model, COUNT(*) FROM learned GROUP BY model"))
        gone = dict(self._query("SELECT model, records FROM withdrawal"))
        return tuple(
            Learner(model=model, records=here.get(model, 0), withdrawn=gone.get(model, 0))
            for model in sorted(here.keys() | gone.keys())
        )

    @property
    def withdrawn(self) -> frozenset[str]:
        """Pseudonyms of those who withdrew, and ids of their recordings: neither enters again."""
        return frozenset(row[0] for row in self._query("SELECT name FROM withdrawn"))

    def withdraw(self, patient: str) -> Withdrawal:
        """Remove a patient from everything, and say what that was.

        The patient is marked first and the index cleared last, so that a withdrawal which is
        interrupted hides the recordings at once, and is completed when it is asked for again.

        Parameters
        ----------
        patient
            The pseudonym.
        """
        with self._connected() as connection:
            connection.execute("INSERT OR IGNORE INTO withdrawn VALUES (?)", (patient,))
            rows = connection.execute("SELECT id FROM record WHERE patient = ?", (patient,))
            ids = frozenset(row[0] for row in rows)
        caches = _remove_with(self.folder / CACHES, ids)
        embeddings = _remove_with(self.folder / EMBEDDINGS, ids)
        splits = sum(_leave_split(path, ids) for path in self.splits.glob("*.json"))
        for record in ids:
            self.path(record).unlink(missing_ok=True)
        labels, models = self._forget(ids)
        return Withdrawal(
            patient=patient,
            recordings=len(ids),
            labels=labels,
            caches=caches,
            embeddings=embeddings,
            splits=splits,
            models=models,
        )

    def _forget(self, ids: frozenset[str]) -> tuple[int, tuple[str, ...]]:
        """Return how many labels were removed, and which models were marked."""
        one = [(record,) for record in ids]
        marked: dict[str, int] = {}
        labels = 0
        with self._connected() as connection:
            for record in one:
                rows = connection.execute("SELECT model FROM learned WHERE record = ?", record)
                for (model,) in rows.fetchall():
                    marked[model] = marked.get(model, 0) + 1
                labels += connection.execute("DELETE FROM label WHERE record = ?", record).rowcount
            for table in ("alias", "file", "learned"):
                connection.executemany(f"DELETE FROM {table} WHERE record = ?", one)  # noqa: S608
            connection.executemany("DELETE FROM record WHERE id = ?", one)
            connection.executemany("INSERT OR IGNORE INTO withdrawn VALUES (?)", one)
            connection.executemany(
                "INSERT INTO withdrawal VALUES (?, ?)"
                " ON CONFLICT (model) DO UPDATE SET records = records + excluded.records",
                sorted(marked.items()),
            )
        return labels, tuple(sorted(marked))


def _record(row: Sequence[Any]) -> Record:
    values = dict(zip(_COLUMNS, row, strict=True))
    return Record(
        **values
        | {
            "sex": Sex(values["sex"]) if values["sex"] else None,
            "leads": tuple(map(Lead, values["leads"].split())),
            "ai_visible": bool(values["ai_visible"]),
            "patient_stated": bool(values["patient_stated"]),
        }
    )


def _row(record: Record) -> tuple[Any, ...]:
    values = asdict(record) | {"leads": " ".join(record.leads)}
    return tuple(values[name] for name in _COLUMNS)


def _label(row: Sequence[Any]) -> Label:
    record, key, value, origin, author, time, ai_visible = row
    return Label(
        record=record,
        key=key,
        value=Value(value),
        origin=Origin(origin),
        author=author,
        time=time,
        ai_visible=bool(ai_visible),
    )


def _cells(label: Label) -> tuple[Any, ...]:
    said = (label.value, label.origin, label.author, label.time)
    return (label.record, label.key, *said, label.ai_visible)


def _add_labels(connection: sqlite3.Connection, labels: Iterable[Label]) -> int:
    before = connection.total_changes
    connection.executemany(
        "INSERT OR IGNORE INTO label VALUES (?, ?, ?, ?, ?, ?, ?)", map(_cells, labels)
    )
    return connection.total_changes - before


def _remove_with(folder: Path, ids: frozenset[str]) -> int:
    """Return how many of the folders below were removed because they hold one of these."""
    concerned = [path for path in folder.glob("*") if ids & set(read_ids(path))]
    for path in concerned:
        shutil.rmtree(path)
    return len(concerned)


def _leave_split(path: Path, ids: frozenset[str]) -> bool:
    """Return whether a stored split named one of these; it does so no more."""
    document = json.loads(path.read_text())
    parts = {name: part for name, part in document.items() if isinstance(part, list)}
    if not any(ids & set(part) for part in parts.values()):
        return False
    kept = {name: [item for item in part if item not in ids] for name, part in parts.items()}
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(document | kept, indent=1))
    draft.replace(path)
    return True
