"""Which recordings teach, and which judge: by patient always, stored, and the same for one seed.

Recordings of one patient never stand in two parts. Labels are spread as evenly as the patients
allow (iterative stratification: Sechidis, Tsoumakas & Vlahavas, ECML PKDD 2011), or the parts
follow each other in time, or sites are held out.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from training.corpus import Record
from training.labels import LabelTable, Values

PARTS: Final = ("train", "validation", "calibration", "test")

STANDARD: Final[Mapping[str, float]] = MappingProxyType(
    {"train": 0.6, "validation": 0.15, "calibration": 0.1, "test": 0.15}
)
EIGHTY_TWENTY: Final[Mapping[str, float]] = MappingProxyType({"train": 0.8, "validation": 0.2})
"""As ExChanGeAI divides, but by patient; nothing then judges that did not also choose."""

FEW: Final = 5
"""Positive or negative patients of a finding in a part, below which it is said to be few."""


class Way(StrEnum):
    """How patients are given to the parts."""

    STRATIFIED = "stratified"
    TIME = "time"
    """The latest patients judge; a patient belongs to the quarter of the last recording."""
    SITE = "site"
    """Sites are held out for the test; the other parts are stratified."""


class CannotSplit(Exception):
    """Nothing can be learned or judged here; the message says why in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Record ids of the parts; no patient is in two of them."""

    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    calibration: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    seed: int
    way: Way = Way.STRATIFIED
    keys: tuple[str, ...] = ()
    """The findings that it was made for."""
    warnings: tuple[str, ...] = ()
    """One sentence for each thing that limits what it can show."""

    @property
    def parts(self) -> Mapping[str, tuple[str, ...]]:
        """The parts by name, empty ones left out."""
        named = {name: getattr(self, name) for name in PARTS}
        return {name: part for name, part in named.items() if part}

    def to_json(self) -> str:
        """Return the stored form."""
        document = {item.name: getattr(self, item.name) for item in fields(self)}
        return json.dumps(document, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the split of a stored form. Raises ValueError on anything else."""
        document: dict[str, Any] = json.loads(text)
        lists = {name: tuple(part) for name, part in document.items() if isinstance(part, list)}
        try:
            return cls(**document | lists | {"way": Way(document["way"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a split: {error}") from None

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_text(self.to_json())
        draft.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the split of a file. Raises ValueError where it is none."""
        return cls.from_json(path.read_text())


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How a split is wanted.

    Parameters
    ----------
    fractions
        Of the patients, by part; they come to 1.
    sites
        Held out for the test by way of `Way.SITE`; by default so many of the smallest sites as
        the test's fraction allows.
    """

    fractions: Mapping[str, float] = field(default_factory=lambda: STANDARD)
    seed: int = 0
    way: Way = Way.STRATIFIED
    sites: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if unknown := self.fractions.keys() - set(PARTS):
            raise ValueError(f"{', '.join(sorted(unknown))} is none of {', '.join(PARTS)}")
        if min(self.fractions.values()) <= 0 or abs(sum(self.fractions.values()) - 1) > _ROUNDING:
            raise ValueError("the fractions of the parts are above 0 and come to 1")


_ROUNDING: Final = 1e-6


def make_split(records: Sequence[Record], labels: LabelTable, order: Order | None = None) -> Split:
    """Return the parts; recordings without any of the labels are left out.

    Raises
    ------
    CannotSplit
        If no finding has two classes, or there are too few patients for the parts.
    """
    order = order or Order()
    ids = [record.id for record in records]
    known = np.isfinite(labels.matrix(ids)).any(axis=1)
    chosen = [records[row] for row in np.flatnonzero(known).tolist()]
    why = why_unlearnable(chosen, labels)
    people = _people(chosen)
    if len(people) < len(order.fractions) and not why:
        why = f"{len(people)} patients cannot stand in {len(order.fractions)} parts."
    if why:
        raise CannotSplit(why)
    given = _GIVERS[order.way](people, labels, order)
    parts = {
        name: tuple(sorted(record.id for person in part for record in people[person]))
        for name, part in given.items()
    }
    split = Split(**parts, seed=order.seed, way=order.way, keys=labels.keys)
    return replace(split, warnings=tuple(warnings(split, chosen, labels)))


def why_unlearnable(records: Sequence[Record], labels: LabelTable) -> str | None:
    """Return in one sentence why nothing can be learned of these labels, or None."""
    if not records:
        return "No recording has any of the labels."
    matrix = labels.matrix([record.id for record in records])
    both = [_classes(column) == {0.0, 1.0} for column in matrix.T]
    if any(both):
        return None
    names = ", ".join(labels.keys)
    if len(labels.keys) == 1:
        only = "present" if 1.0 in _classes(matrix[:, 0]) else "absent"
        return f"{names} is {only} in every labelled recording: one class alone teaches nothing."
    return f"None of {names} is both present and absent: one class alone teaches nothing."


def warnings(split: Split, records: Sequence[Record], labels: LabelTable) -> Iterable[str]:
    """Yield a sentence for each thing that limits what a split can show."""
    patients = {record.id: record.patient for record in records}
    unstated = sum(not record.patient_stated for record in records)
    if unstated:
        yield (
            f"{unstated} of {len(records)} recordings do not say whose they are; each counts as"
            " a patient of its own, so that one patient may stand in two parts."
        )
    if left := len(records) - sum(map(len, split.parts.values())):
        yield f"{left} of {len(records)} recordings stand in no part: they have no date."
    if "test" not in split.parts:
        yield "There is no test set: what is measured also chose the model, and is too good."
    for name, part in split.parts.items():
        for value, word in ((1.0, "with"), (0.0, "without")):
            few = _few(part, labels, patients, value)
            if few:
                yield f"{name} has fewer than {FEW} patients {word} {', '.join(few)}."


def _few(
    part: Sequence[str], labels: LabelTable, patients: Mapping[str, str], value: float
) -> list[str]:
    """Return the findings of which a part has few patients with this value, and how many."""
    matrix = labels.matrix(part)
    counts = {
        key: len({patients[part[row]] for row in np.flatnonzero(column == value).tolist()})
        for key, column in zip(labels.keys, matrix.T, strict=True)
    }
    return [f"{key} ({count})" for key, count in counts.items() if count < FEW]


def _classes(column: Values) -> set[float]:
    return set(np.unique(column[np.isfinite(column)]).tolist())


People = Mapping[str, Sequence[Record]]
Given = Mapping[str, Sequence[str]]
"""Patients by part."""


def _people(records: Iterable[Record]) -> People:
    people: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        people[record.patient].append(record)
    return dict(sorted(people.items()))


def _stratified(people: People, labels: LabelTable, order: Order) -> Given:
    traits = _traits(people, labels)
    parts = stratify(traits, tuple(order.fractions.values()), order.seed)
    names = tuple(order.fractions)
    given: dict[str, list[str]] = {name: [] for name in names}
    for person, part in zip(people, parts, strict=True):
        given[names[part]].append(person)
    return given


def _traits(people: People, labels: LabelTable) -> npt.NDArray[np.bool_]:
    """Return ``(patients, 2 × keys)``: who has a recording with, and one without, each finding."""
    matrices = [labels.matrix([record.id for record in records]) for records in people.values()]
    return np.array(
        [np.concatenate([(m == 1).any(axis=0), (m == 0).any(axis=0)]) for m in matrices]
    )


def stratify(
    traits: npt.NDArray[np.bool_], fractions: Sequence[float], seed: int
) -> npt.NDArray[np.int64]:
    """Return the part of each row, so that every trait is spread as the fractions say.

    The rarest trait that is left is dealt first, each of its rows to the part that lacks it
    most, then to the one that lacks rows most, then by lot (Sechidis 2011, algorithm 1).

    Parameters
    ----------
    traits
        ``(rows, traits)``.
    fractions
        Of the rows; they come to 1.
    """
    random = np.random.default_rng(seed)
    shares = np.array(fractions)
    room = shares * len(traits)
    lacking = np.outer(shares, traits.sum(axis=0))
    parts = np.full(len(traits), -1)
    while (left := parts < 0).any():
        counts = traits[left].sum(axis=0)
        wants = room
        if counts.any():
            rarest = int(np.where(counts, counts, len(traits) + 1).argmin())
            wants = lacking[:, rarest]
            left &= traits[:, rarest]
        for row in random.permutation(np.flatnonzero(left)):
            lot = random.random(len(shares))
            part = np.lexsort((lot, -room, -wants))[0]
            parts[row] = part
            room[part] -= 1
            lacking[part] -= traits[row]
    return parts


def _by_time(people: People, labels: LabelTable, order: Order) -> Given:  # noqa: ARG001 - a way
    """Return the parts in the order of their names, each later than the one before.

    Patients without a date stand in none.
    """
    last = {name: max(item.quarter or "" for item in items) for name, items in people.items()}
    dated = {name: quarter for name, quarter in last.items() if quarter}
    names = [name for name in PARTS if name in order.fractions]
    ends = np.cumsum([order.fractions[name] for name in names])
    given: dict[str, list[str]] = {name: [] for name in names}
    before = 0
    for quarter in sorted(set(dated.values())):
        those = [person for person, when in dated.items() if when == quarter]
        middle = (before + len(those) / 2) / len(dated)
        given[names[int(np.searchsorted(ends[:-1], middle))]] += those
        before += len(those)
    if empty := [name for name, part in given.items() if not part]:
        raise CannotSplit(
            f"By time, no patient is left for {', '.join(empty)}: {len(dated)} of {len(people)}"
            f" have a date, of {len(set(dated.values()))} quarters."
        )
    return given


def _by_site(people: People, labels: LabelTable, order: Order) -> Given:
    """Return the sites that are held out as the test, the rest stratified."""
    held = _held_out(people, order)
    test = [name for name, items in people.items() if any(item.site in held for item in items)]
    rest = {name: items for name, items in people.items() if name not in set(test)}
    shares = {name: share for name, share in order.fractions.items() if name != "test"}
    if len(rest) < len(shares):
        raise CannotSplit(f"Without {', '.join(sorted(held))}, too few patients are left to teach.")
    whole = sum(shares.values())
    inner = Order(fractions={name: x / whole for name, x in shares.items()}, seed=order.seed)
    return {**_stratified(rest, labels, inner), "test": test}


def _held_out(people: People, order: Order) -> frozenset[str]:
    sites = Counter(site for items in people.values() for site in {item.site for item in items})
    if len(sites) < 2:  # noqa: PLR2004 - one to teach, one to judge
        raise CannotSplit("All recordings are of one site: none can be held out.")
    if absent := set(order.sites) - sites.keys():
        raise CannotSplit(f"No recording is of the site {', '.join(sorted(absent))}.")
    if order.sites:
        return frozenset(order.sites)
    room = order.fractions.get("test", 0) * len(people)
    smallest = sorted(sites, key=lambda site: (sites[site], site))
    sizes = np.cumsum([sites[site] for site in smallest])
    return frozenset(smallest[: max(1, int(np.searchsorted(sizes, room, "right")))])


_GIVERS: Final = {Way.STRATIFIED: _stratified, Way.TIME: _by_time, Way.SITE: _by_site}
