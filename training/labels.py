"""What is known of each recording: labels, who said them, and what they come to together.

A label is present, absent or unknown; what nobody said is unknown, never absent. Every label
keeps its origin, author and time, and whether an AI result was visible to its author. No AI
result is ever a label.
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from analysis.codes import VOCABULARY
from training.label_maps import ICD10, SCHEMES, LabelMap, standard_map

Values = npt.NDArray[np.float32]


class Value(StrEnum):
    """What a label says."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"

    @property
    def number(self) -> float:
        """1, 0 or NaN."""
        return _NUMBERS[self]


_NUMBERS: Final = {Value.PRESENT: 1.0, Value.ABSENT: 0.0, Value.UNKNOWN: float("nan")}


class Origin(StrEnum):
    """Who speaks, the most trusted first. AI is none of them, on purpose."""

    OVER_READ = "over-read"
    """A physician's verified report of this recording."""
    REVIEWER = "reviewer"
    """A person who labels for learning."""
    VENDOR = "vendor"
    """The cart's own program."""
    CODE = "code"
    """A diagnosis code of the patient, the stay or the database, not read from this tracing."""


TAUGHT_BY_DEFAULT: Final = (Origin.OVER_READ, Origin.REVIEWER)
"""Origins that training takes unless its plan says otherwise."""

_RANK: Final = {origin: rank for rank, origin in enumerate(Origin)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One statement about one recording.

    Parameters
    ----------
    record
        Id in the corpus.
    key
        Of `analysis.VOCABULARY`, or a free name.
    author
        Who; a data set's name, or a code for a person.
    time
        When, ISO 8601, as far as it is known; "" for unknown.
    ai_visible
        Whether the author could see an AI result of the recording.
    """

    record: str
    key: str
    value: Value
    origin: Origin
    author: str = ""
    time: str = ""
    ai_visible: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class LabelTable:
    """Labels of many recordings, and what they come to.

    Where several speak of one recording and finding, the most trusted origin decides; of one
    author's statements the last one does. Who then still contradict each other leave it unknown.
    """

    labels: tuple[Label, ...]
    keys: tuple[str, ...] = ()
    """Columns of the matrix; by default every key that a label names, vocabulary first."""
    _settled: Mapping[tuple[str, str], Value] = field(init=False, repr=False)
    contradictions: tuple[tuple[str, str], ...] = field(init=False, repr=False)
    """Record and key of what stays unknown because two statements oppose each other."""

    def __post_init__(self) -> None:
        said: defaultdict[tuple[str, str], list[Label]] = defaultdict(list)
        for label in self.labels:
            said[label.record, label.key].append(label)
        values = {pair: _agreed(labels) for pair, labels in said.items()}
        settled = {pair: value or Value.UNKNOWN for pair, value in values.items()}
        object.__setattr__(self, "_settled", settled)
        opposed = tuple(sorted(pair for pair, value in values.items() if value is None))
        object.__setattr__(self, "contradictions", opposed)
        object.__setattr__(self, "keys", self.keys or ordered({key for _, key in said}))

    def value(self, record: str, key: str) -> Value:
        """Return what is known of one recording and finding."""
        return self._settled.get((record, key), Value.UNKNOWN)

    def matrix(self, ids: Sequence[str]) -> Values:
        """Return ``(records, keys)``, float32: 1 present, 0 absent, NaN unknown."""
        numbers = [[self.value(record, key).number for key in self.keys] for record in ids]
        return np.array(numbers, np.float32).reshape(len(ids), len(self.keys))

    def select(
        self,
        *,
        origins: Iterable[Origin] = tuple(Origin),
        keys: Sequence[str] | None = None,
        unbiased: bool = False,
    ) -> Self:
        """Return the table of some labels alone.

        Parameters
        ----------
        keys
            Findings, in the order of the matrix; one that no label names is an unknown column.
        unbiased
            Whether to leave out labels whose author could see an AI result.
        """
        chosen, wanted = set(origins), None if keys is None else set(keys)
        labels = tuple(
            label
            for label in self.labels
            if label.origin in chosen
            and (wanted is None or label.key in wanted)
            and not (unbiased and label.ai_visible)
        )
        return type(self)(labels, tuple(keys or ()))


def _agreed(labels: Sequence[Label]) -> Value | None:
    """Return what statements of one recording and finding come to; None where they oppose."""
    if len(labels) == 1:
        return labels[0].value
    best = min(_RANK[label.origin] for label in labels)
    trusted = [label for label in labels if _RANK[label.origin] == best]
    last: dict[str, str] = {}
    for label in trusted:
        last[label.author] = max(last.get(label.author, ""), label.time)
    values = {label.value for label in trusted if label.time == last[label.author]}
    certain = values - {Value.UNKNOWN}
    if len(certain) > 1:
        return None
    return next(iter(certain), Value.UNKNOWN)


def ordered(keys: Iterable[str]) -> tuple[str, ...]:
    """Return keys in the order of the vocabulary, free names after it by the alphabet."""
    place = {key: number for number, key in enumerate(VOCABULARY)}
    return tuple(sorted(set(keys), key=lambda key: (place.get(key, len(place)), key)))


# Tables of a site


class Fault(StrEnum):
    """What is wrong with a row of a table of labels, or odd."""

    NO_RECORD = "no-record"
    """No recording of that name is in the corpus."""
    AMBIGUOUS = "ambiguous"
    """Several recordings have that name."""
    NO_LABEL = "no-label"
    NOT_A_VALUE = "not-a-value"
    NOT_AN_ORIGIN = "not-an-origin"
    AI = "ai"
    """The row is an AI result."""
    DOUBLE = "double"
    """The same stands in another row."""
    CONTRADICTORY = "contradictory"
    """Another row says the opposite."""
    FREE_NAME = "free-name"
    """The label is no word of the vocabulary: taken, under its own name."""
    NOT_A_REPORT = "not-a-report"
    NOT_VERIFIED = "not-verified"
    """Nobody signed the report."""
    NO_TIME = "no-time"
    """The time is none: taken, without it."""


TAKEN: Final = frozenset({Fault.CONTRADICTORY, Fault.FREE_NAME, Fault.NO_TIME})
"""Faults of rows that count all the same."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One sentence about one row of a table."""

    row: int
    """As a spreadsheet counts: the head is row 1."""
    fault: Fault
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What a table of labels holds."""

    labels: tuple[Label, ...]
    patients: Mapping[str, str]
    """What the table says of whose recordings are: the patient by record id."""
    problems: tuple[Problem, ...]
    rows: int

    @property
    def counts(self) -> Counter[Fault]:
        """How many rows have which fault."""
        return Counter(problem.fault for problem in self.problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a table of labels is to be read.

    Parameters
    ----------
    resolve
        Returns the ids of the recordings that a name means.
    origin, author, ai_visible
        What holds where a row does not say it.
    exclusive
        Whether each recording has one class of the table, so that the others are absent; by
        default for a table in ExChanGeAI's form (`file_name,label,ICD-10`) alone.
    """

    resolve: Callable[[str], Sequence[str]]
    origin: Origin = Origin.REVIEWER
    author: str = ""
    ai_visible: bool = False
    exclusive: bool | None = None
    map: LabelMap = field(default_factory=standard_map)


_NAMES: Final = ("record", "file_name", "file", "filename")
_EXCHANGEAI: Final = {"file_name", "label", "icd-10"}
_YES: Final = frozenset({"", "1", "1.0", "true", "yes", "y", "present", "positive"})
_NO: Final = frozenset({"0", "0.0", "false", "no", "n", "absent", "negative"})
_NEITHER: Final = frozenset({"unknown", "nan", "na", "n/a", "?", "uncertain"})
_AI_ORIGIN: Final = re.compile(r"(?i)\b(ai|model|sinusnode|onnx|algorithm|prediction)\b")
_AI_AUTHOR: Final = re.compile(r"(?i)ai|.*\b(sinusnode|onnx|model|algorithm)\b.*")
_TIME: Final = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d:\d\d(:\d\d)?.*)?)?)?")


def read_csv(path: Path, reading: Reading) -> Rows:
    """Return the labels of a table, and a sentence for each row that is wrong or odd.

    Two forms are read. ExChanGeAI's: `file_name,label,ICD-10`, one class for each file. A
    richer one: `record` (an id) or `file_name`; `label`, several separated by `;`; and, where
    they are wanted, `value` (present, absent, unknown; by default present), `scheme` (of the
    label), `patient`, `origin`, `author`, `time`, `ai_visible`.

    Raises
    ------
    ValueError
        If the table has no column for the recordings or none for the labels.
    """
    columns, table = _rows_of(path)
    if not columns & set(_NAMES) or "label" not in columns:
        raise ValueError(f"{path.name} needs the columns file_name (or record) and label")
    if reading.exclusive is None:
        reading = replace(reading, exclusive=columns == _EXCHANGEAI)
    return _Table(reading, _meanings(table, reading.map)).read(table)


def _rows_of(path: Path) -> tuple[set[str], list[dict[str, str]]]:
    """Return the columns of a table and its rows; cells stand between commas or semicolons."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} is no text in UTF-8") from None
    head = text.partition("\n")[0]
    between = "," if "," in head else ";"
    reader = csv.DictReader(text.splitlines(), delimiter=between, skipinitialspace=True)
    columns = {(name or "").strip().lower() for name in reader.fieldnames or ()}
    rows = [
        {key.strip().lower(): (cell or "").strip() for key, cell in row.items() if key}
        for row in reader
    ]
    return columns, rows


def _meanings(table: Sequence[Mapping[str, str]], words: LabelMap) -> dict[str, tuple[str, ...]]:
    """Return the keys of each label of a table, by scheme and word.

    A word that no table holds means what its ICD-10 code means, where no other label of the
    table means that too; else it keeps its own name.
    """
    found: dict[str, tuple[str, ...]] = {}
    codes: dict[str, str] = {}
    for row in table:
        scheme = row.get("scheme", "").upper()
        for word in _labels_of(row):
            keys = words.keys(scheme, word) if scheme in SCHEMES else words.keys_of_word(word)
            found[f"{scheme}:{word}"] = keys
            codes[f"{scheme}:{word}"] = row.get("icd-10", "")
    by_code = {word: words.keys(ICD10, codes[word]) for word, keys in found.items() if not keys}
    taken = Counter([*filter(None, found.values()), *by_code.values()])
    for word, keys in by_code.items():
        found[word] = keys if keys and taken[keys] == 1 else (word.partition(":")[2],)
    return found


def _labels_of(row: Mapping[str, str]) -> list[str]:
    return [word.strip() for word in row["label"].split(";") if word.strip()]


class _Table:
    """The reading of one table, row by row."""

    def __init__(self, reading: Reading, meanings: Mapping[str, tuple[str, ...]]) -> None:
        self.reading = reading
        self.meanings = meanings
        self.classes = {key for keys in meanings.values() for key in keys}
        self.labels: dict[Label, int] = {}
        self.patients: dict[str, str] = {}
        self.problems: list[Problem] = []
        self.free: set[str] = set()

    def read(self, table: Sequence[Mapping[str, str]]) -> Rows:
        for number, row in enumerate(table, 2):
            if problem := self._take(number, row):
                self._say(number, *problem)
        self._find_contradictions()
        return Rows(
            labels=tuple(self.labels),
            patients=self.patients,
            problems=tuple(self.problems),
            rows=len(table),
        )

    def _say(self, row: int, fault: Fault, sentence: str) -> None:
        self.problems.append(Problem(row, fault, f"Row {row}: {sentence}"))

    def _take(self, number: int, row: Mapping[str, str]) -> tuple[Fault, str] | None:
        """Take a row in, or return why not."""
        name = next((row[key] for key in _NAMES if row.get(key)), "")
        stated = row.get("origin", "").lower()
        author = row.get("author") or self.reading.author
        if _AI_ORIGIN.search(stated.replace("_", " ")) or _AI_AUTHOR.fullmatch(author):
            return Fault.AI, "an AI result is never a label."
        if stated and stated not in set(Origin):
            return Fault.NOT_AN_ORIGIN, f"“{stated}” is none of {', '.join(Origin)}."
        value = _value(row.get("value", ""))
        if value is None:
            return Fault.NOT_A_VALUE, f"“{row['value']}” is none of present, absent, unknown."
        if not _labels_of(row):
            return Fault.NO_LABEL, f"{name or 'it'} has no label."
        ids = self.reading.resolve(name) if name else ()
        if len(ids) != 1:
            return _why_not_one(name, len(ids))
        if row.get("patient"):
            self.patients[ids[0]] = row["patient"]
        return self._add(number, row, ids[0], value)

    def _add(
        self, number: int, row: Mapping[str, str], record: str, value: Value
    ) -> tuple[Fault, str] | None:
        time = row.get("time", "")
        if time and not _TIME.fullmatch(time):
            self._say(number, Fault.NO_TIME, f"“{time}” is no time as ISO 8601 writes it.")
            time = ""
        base = Label(
            record=record,
            key="",
            value=value,
            origin=Origin(row.get("origin", "").lower() or self.reading.origin),
            author=row.get("author") or self.reading.author,
            time=time,
            ai_visible=self.reading.ai_visible or _value(row.get("ai_visible") or "0") == "present",
        )
        keys = [key for word in _labels_of(row) for key in self._keys(number, row, word)]
        new = [replace(base, key=key) for key in keys]
        if all(label in self.labels for label in new):
            return Fault.DOUBLE, "the same stands in another row."
        if self.reading.exclusive and value is Value.PRESENT:
            others = sorted(self.classes - set(keys))
            new += [replace(base, key=key, value=Value.ABSENT) for key in others]
        for label in new:
            self.labels.setdefault(label, number)
        return None

    def _keys(self, number: int, row: Mapping[str, str], word: str) -> tuple[str, ...]:
        keys = self.meanings[f"{row.get('scheme', '').upper()}:{word}"]
        free = [key for key in keys if key not in VOCABULARY and key not in self.free]
        for key in free:
            self.free.add(key)
            self._say(number, Fault.FREE_NAME, f"“{key}” is no word of the vocabulary; kept so.")
        return keys

    def _find_contradictions(self) -> None:
        rows = {(label.record, label.key): number for label, number in self.labels.items()}
        opposed = {rows[pair] for pair in LabelTable(tuple(self.labels)).contradictions}
        for number in sorted(opposed):
            sentence = "another row says the opposite of the same recording; both count as unknown."
            self._say(number, Fault.CONTRADICTORY, sentence)


def _value(text: str) -> Value | None:
    word = text.lower()
    if word in _YES:
        return Value.PRESENT
    if word in _NO:
        return Value.ABSENT
    return Value.UNKNOWN if word in _NEITHER else None


def _why_not_one(name: str, count: int) -> tuple[Fault, str]:
    if not name:
        return Fault.NO_RECORD, "it names no recording."
    if count == 0:
        return Fault.NO_RECORD, f"no recording named {name} is in the corpus."
    return Fault.AMBIGUOUS, f"{count} recordings are named {name}; use its path, or state the site."


# Writing

COLUMNS: Final = ("record", "label", "value", "origin", "author", "time", "ai_visible", "patient")


def write_csv(path: Path, labels: Iterable[Label], patients: Mapping[str, str]) -> None:
    """Write labels in the richer form; `patients` are pseudonyms by record id."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(_cells(labels, patients))


def _cells(labels: Iterable[Label], patients: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    for item in labels:
        visible = "1" if item.ai_visible else "0"
        patient = patients.get(item.record, "")
        said = (item.value, item.origin, item.author, item.time)
        yield (item.record, item.key, *said, visible, patient)
