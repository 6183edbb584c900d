"""What a corpus holds, read once for as long as nothing in it changes."""

from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final

from training.admin.pages.words import finding_name
from training.corpus import INDEX, Corpus, Record
from training.labels import LabelTable, Value

UNLABELLED: Final = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One recording as a line of a list."""

    record: Record
    present: tuple[str, ...]
    """Names of the findings that its labels come to."""
    count: int
    """How many findings somebody spoke of."""


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """The recordings of a corpus in the order of their ids, and its labels."""

    records: tuple[Record, ...]
    labels: LabelTable
    stamp: tuple[int, ...]
    """What changes whenever the corpus does."""

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The id of each recording."""
        return tuple(record.id for record in self.records)

    @cached_property
    def said(self) -> dict[str, tuple[str, ...]]:
        """The findings that somebody spoke of, by recording."""
        found: dict[str, dict[str, None]] = {}
        for label in self.labels.labels:
            found.setdefault(label.record, {})[label.key] = None
        return {record: tuple(keys) for record, keys in found.items()}

    def get(self, record: str) -> Record | None:
        """Return one recording, None if there is none of this id."""
        at = bisect_left(self.ids, record)
        return self.records[at] if at < len(self.ids) and self.ids[at] == record else None

    def neighbours(self, record: str) -> tuple[str | None, str | None]:
        """Return the ids before and after one, None at the ends."""
        at = bisect_left(self.ids, record)
        after = at + (at < len(self.ids) and self.ids[at] == record)
        before = self.ids[at - 1] if at else None
        return before, self.ids[after] if after < len(self.ids) else None

    def page(self, label: str, after: str, limit: int) -> tuple[Sequence[Record], str | None]:
        """Return the recordings after an id, and the id that the next page begins after.

        Parameters
        ----------
        label
            Only those where this finding is present; `UNLABELLED` for those without any label.
        """
        start = bisect_left(self.ids, f"{after}~") if after else 0
        found = [record for record in self.records[start:] if self._fits(record, label)]
        more = len(found) > limit
        return found[:limit], found[limit - 1].id if more else None

    def _fits(self, record: Record, label: str) -> bool:
        if label == UNLABELLED:
            return record.id not in self.said
        return not label or self.labels.value(record.id, label) is Value.PRESENT

    def line(self, record: Record) -> Line:
        """Return what a list says of a recording."""
        keys = self.said.get(record.id, ())
        present = [key for key in keys if self.labels.value(record.id, key) is Value.PRESENT]
        names = tuple(map(finding_name, present))
        return Line(record=record, present=names, count=len(keys))


def holdings_of(corpus: Corpus) -> Holdings:
    """Return what a corpus holds now."""
    return _read(corpus.folder, _stamp(corpus.folder))


@lru_cache(maxsize=2)
def _read(folder: Path, stamp: tuple[int, ...]) -> Holdings:
    corpus = Corpus(folder)
    return Holdings(records=corpus.records, labels=corpus.labels, stamp=stamp)


def _stamp(folder: Path) -> tuple[int, ...]:
    """Return what changes with every transaction of the index."""
    found: list[int] = []
    for name in (INDEX, f"{INDEX}-wal"):
        with suppress(OSError):
            state = (folder / name).stat()
            found += [state.st_mtime_ns, state.st_size]
    return tuple(found)
