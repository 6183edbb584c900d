"""What a plan finds in its corpus, before a minute is spent: what teaches, and what cannot.

Nothing is dropped in silence: what is left out is counted, in a sentence each. Where nothing is
left that could teach, the answer is one sentence, and no run.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.ecg import Sex
from training.corpus import Corpus, Record
from training.corpus_report import associations
from training.labels import Label, LabelTable, Origin, Value, Values
from training.plan import Balance, Plan, Task
from training.splits import CannotSplit, Order, Split, make_split, warnings

SEXES: Final[Mapping[str, Sex]] = {"female": Sex.FEMALE, "male": Sex.MALE}
"""Keys that the declared sex answers, where no label does."""
AGE: Final = "age"
"""The number that the declared age answers, where no label does."""

_FEWEST: Final = 10
"""Recordings with a number, below which no regression is begun."""
_BANDS: Final = 5
"""Of a number, as finely as a split spreads it."""
_BAND: Final = " band "
_NEAR: Final = 5
"""Years by which the age of a matched control may differ."""


class CannotTrain(Exception):
    """Nothing can be learned here; the message says why in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """What teaches and what judges."""

    corpus: Corpus
    keys: tuple[str, ...]
    """Of the outputs: those of the plan that can be learned."""
    records: Mapping[str, Record]
    """Those of the split, by their id."""
    targets: Mapping[str, Values]
    """``(keys,)`` by record id: 1, 0, or the number; NaN for unknown."""
    split: Split
    notes: tuple[str, ...]
    """One sentence for each thing that was left out, or to be minded."""

    def matrix(self, ids: Sequence[str]) -> Values:
        """Return ``(records, keys)``, float32."""
        rows = [self.targets[record] for record in ids]
        return np.array(rows, np.float32).reshape(len(ids), len(self.keys))


def open_corpus(plan: Plan) -> Corpus:
    """Return the corpus of a plan. Raises CannotTrain where there is none."""
    try:
        return Corpus(plan.corpus)
    except FileNotFoundError:
        raise CannotTrain(
            f"There is no corpus in {plan.corpus}; `sinusnode corpus import` makes one."
        ) from None


def choose_records(corpus: Corpus, plan: Plan) -> tuple[Record, ...]:
    """Return the recordings of the plan's sites.

    Raises
    ------
    CannotTrain
        If there is none, or none of a site.
    """
    every = corpus.records
    if not every:
        raise CannotTrain(f"The corpus {plan.corpus} holds no recording.")
    sites = {record.site for record in every}
    if absent := [site for site in plan.sites if site not in sites]:
        known = ", ".join(sorted(sites))
        raise CannotTrain(f"No recording is of the site {', '.join(absent)}; there are {known}.")
    return tuple(record for record in every if not plan.sites or record.site in plan.sites)


def prepare(
    plan: Plan,
    unusable: Mapping[str, str] | None = None,
    *,
    kept: Split | None = None,
    taught: AbstractSet[str] = frozenset(),
) -> Prepared:
    """Return what teaches and what judges.

    Parameters
    ----------
    unusable
        Why a recording has no form in the plan's recipe, by its id; None where that is not
        known yet.
    kept
        The split that this run made before.
    taught
        Recordings from which the base learned: their patients teach again, and judge nothing.

    Raises
    ------
    CannotTrain
        If nothing can be learned.
    """
    corpus = open_corpus(plan)
    notes: list[str] = []
    records = _readable(corpus, choose_records(corpus, plan), unusable or {}, notes)
    table, targets = _labelled(corpus, plan, records, notes)
    known = {
        record: row
        for record, row in zip((item.id for item in records), targets, strict=True)
        if np.isfinite(row).any()
    }
    if left := len(records) - len(known):
        notes.append(f"{left} of {len(records)} recordings have no label of the plan.")
    chosen = [record for record in records if record.id in known]
    if plan.balance is not Balance.NONE:
        chosen = _balanced(chosen, known, plan, notes)
    split = kept or _honest(_split(plan, chosen, table), chosen, taught, notes)
    teaching = {record for part in split.parts.values() for record in part}
    prepared = Prepared(
        corpus=corpus,
        keys=table.keys if plan.task is not Task.REGRESSION else plan.keys,
        records={record.id: record for record in chosen if record.id in teaching},
        targets={record: row for record, row in known.items() if record in teaching},
        split=_without_the_absent(split, {record.id for record in chosen}, notes),
        notes=(*notes, *split.warnings),
    )
    _check_parts(prepared, plan.task)
    return prepared


# Recordings


def _readable(
    corpus: Corpus, records: Sequence[Record], unusable: Mapping[str, str], notes: list[str]
) -> tuple[Record, ...]:
    there = [record for record in records if corpus.path(record.id).is_file()]
    if missing := len(records) - len(there):
        notes.append(f"The files of {missing} of {len(records)} recordings are missing.")
    left = tuple(record for record in there if record.id not in unusable)
    reasons = [unusable[record.id] for record in there if record.id in unusable]
    notes += [
        f"{reasons.count(reason)} recordings are left out: {reason}."
        for reason in sorted(set(reasons))
    ]
    if not left:
        raise CannotTrain(" ".join([*notes, "No recording is left."]))
    return left


# Labels


def _labelled(
    corpus: Corpus, plan: Plan, records: Sequence[Record], notes: list[str]
) -> tuple[LabelTable, Values]:
    """Return the labels that a split spreads, and the targets ``(records, keys)``."""
    if plan.task is Task.REGRESSION:
        numbers = _numbers(corpus, plan, records)
        rows = [[numbers.get(record.id, np.nan)] for record in records]
        return _bands(plan.keys[0], numbers), np.array(rows, np.float32)
    table = _table(corpus, plan, records, notes)
    matrix = table.matrix([record.id for record in records])
    if plan.task is Task.MULTI_CLASS:
        return table, _classes(matrix, table.keys, notes)
    if unknown := int((~np.isfinite(matrix)).sum()):
        notes.append(f"{unknown} of {matrix.size} labels are unknown and teach nothing.")
    return table, matrix


def _table(corpus: Corpus, plan: Plan, records: Sequence[Record], notes: list[str]) -> LabelTable:
    """Return the labels that can be learned."""
    every = corpus.labels
    here = {record.id for record in records}
    said = LabelTable(tuple(label for label in every.labels if label.record in here) or ())
    if lost := len({label.record for label in every.labels} - {item.id for item in corpus.records}):
        notes.append(f"{lost} recordings have labels and are not there.")
    facts = tuple(_sex_labels(records, [key for key in plan.keys if key not in said.keys]))
    asked = LabelTable((*said.labels, *facts)).select(
        origins={*plan.origins, Origin.CODE} if facts else plan.origins, keys=plan.keys
    )
    _check_keys(plan, said, asked)
    if count := len(asked.contradictions):
        notes.append(f"{count} labels contradict each other and count as unknown.")
    return asked if plan.task is Task.MULTI_CLASS else _learnable(asked, records, notes)


def _sex_labels(records: Sequence[Record], keys: Sequence[str]) -> Iterator[Label]:
    """Yield the declared sex as labels, for those of the keys that ask for it."""
    for key in keys:
        for record in records:
            if key in SEXES and record.sex in SEXES.values():
                value = Value.PRESENT if record.sex is SEXES[key] else Value.ABSENT
                yield Label(record=record.id, key=key, value=value, origin=Origin.CODE)


def _check_keys(plan: Plan, said: LabelTable, asked: LabelTable) -> None:
    """Refuse keys of which nobody, or nobody who teaches, says anything."""
    spoken = {label.key for label in asked.labels}
    silent = [key for key in plan.keys if key not in spoken]
    if not silent:
        return
    others = [key for key in silent if key in said.keys]
    if others:
        origins = sorted({str(x.origin) for x in said.labels if x.key in others})
        raise CannotTrain(
            f"Of {', '.join(others)} only {' and '.join(origins)} speaks, and the plan takes"
            f" {', '.join(plan.origins)}: name its origins."
        )
    near = [near for key in silent for near in get_close_matches(key, said.keys, 1)]
    known = f"did you mean {', '.join(near)}?" if near else f"it speaks of {_few(said.keys)}."
    raise CannotTrain(f"No label of the corpus is called {', '.join(silent)}; {known}")


def _few(words: Sequence[str], most: int = 12) -> str:
    if not words:
        return "nothing"
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def _learnable(table: LabelTable, records: Sequence[Record], notes: list[str]) -> LabelTable:
    """Return the table without keys of one class, and without those that tell the site."""
    matrix = table.matrix([record.id for record in records])
    why = {
        key: _one_class(key, column)
        for key, column in zip(table.keys, matrix.T, strict=True)
        if not {0.0, 1.0} <= set(column.tolist())
    }
    found = associations(records, table)
    why |= {item.key: item.sentence for item in found if item.constant}
    left = [key for key in table.keys if key not in why]
    if not left:
        raise CannotTrain(" ".join(why.values()))
    notes += [f"{key} is left out: {sentence}" for key, sentence in why.items()]
    notes += [item.sentence for item in found if item.is_strong and item.key in left]
    return table.select(keys=left)


def _one_class(key: str, column: npt.NDArray[np.float32]) -> str:
    known = column[np.isfinite(column)]
    if not len(known):
        return f"{key} is unknown in every recording."
    only = "present" if known.all() else "absent"
    return f"{key} is {only} in every labelled recording: one class alone teaches nothing."


# Targets


def _classes(matrix: Values, keys: Sequence[str], notes: list[str]) -> Values:
    targets = one_class(matrix)
    if several := int(((matrix == 1).sum(axis=1) > 1).sum()):
        notes.append(f"{several} recordings have several of the classes and teach nothing.")
    columns = zip(keys, targets.T, strict=True)
    if empty := [key for key, column in columns if not (column == 1).any()]:
        raise CannotTrain(f"No recording is of the class {', '.join(empty)} alone.")
    return targets


def one_class(matrix: Values) -> Values:
    """Return one 1 in each row; NaN throughout where a recording has no class, or several."""
    present = matrix == 1
    alone = present.sum(axis=1, keepdims=True) == 1
    return np.where(alone, present, np.nan).astype(np.float32)


def _numbers(corpus: Corpus, plan: Plan, records: Sequence[Record]) -> dict[str, float]:
    """Return what is to be told, by record id: the declared age, or what labels say.

    Of a label like ``lvef=55`` the number counts; of several of one recording the last.
    """
    (key,) = plan.keys
    ages = {record.id: float(record.age) for record in records if record.age is not None}
    said = dict(_said(corpus, plan, key))
    here = {record.id: said[record.id] for record in records if record.id in said}
    known = here or (ages if key == AGE else {})
    if len(known) < _FEWEST or len(set(known.values())) < _BANDS:
        raise CannotTrain(
            f"{len(known)} recordings have a number called {key} (labels like {key}=55, or {AGE});"
            f" a regression needs {_FEWEST} and more, and {_BANDS} different ones."
        )
    return known


def _said(corpus: Corpus, plan: Plan, key: str) -> Iterator[tuple[str, float]]:
    """Yield record and number of each label that states one, the latest last."""
    labels = corpus.labels.select(origins=plan.origins).labels
    for label in sorted(labels, key=lambda label: label.time):
        name, _, value = label.key.partition("=")
        if name.strip() == key and label.value is Value.PRESENT:
            with suppress(ValueError):
                yield label.record, float(value)


def _bands(key: str, numbers: Mapping[str, float]) -> LabelTable:
    """Return bands of a number as labels, so that a split spreads them."""
    values = np.array(list(numbers.values()))
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _BANDS + 1)))[1:-1]
    names = [f"{key}{_BAND}{number + 1}" for number in range(len(edges) + 1)]
    labels = [
        Label(
            record=record,
            key=name,
            value=Value.PRESENT if place == at else Value.ABSENT,
            origin=Origin.CODE,
        )
        for record, place in zip(numbers, np.digitize(values, edges).tolist(), strict=True)
        for at, name in enumerate(names)
    ]
    return LabelTable(tuple(labels), tuple(names))


# Balance


def _balanced(
    records: Sequence[Record], targets: Mapping[str, Values], plan: Plan, notes: list[str]
) -> list[Record]:
    """Return as many patients without the finding as with it, alike in age and sex if asked."""
    random = np.random.default_rng(plan.seed)
    people: dict[str, list[Record]] = {}
    for record in records:
        people.setdefault(record.patient, []).append(record)
    cases = [p for p, items in people.items() if any(targets[i.id][0] == 1 for i in items)]
    rest = [p for p in people if p not in set(cases)]
    controls = [rest[at] for at in random.permutation(len(rest)).tolist()]
    if plan.balance is Balance.MATCHED:
        cases, controls = _matched(cases, controls, people)
    count = min(len(cases), len(controls))
    if not count:
        raise CannotTrain("No case has a control: nothing can be balanced.")
    chosen = {*cases[:count], *controls[:count]}
    notes.append(
        f"{count} patients with and {count} without {plan.keys[0]} are taken"
        f" ({plan.balance}); {len(people) - 2 * count} are left out."
    )
    return [record for record in records if record.patient in chosen]


def _matched(
    cases: Sequence[str], controls: Sequence[str], people: Mapping[str, Sequence[Record]]
) -> tuple[list[str], list[str]]:
    """Return cases and as many controls, each of the same sex and within five years."""
    free = list(controls)
    pairs = []
    for case in cases:
        mine = people[case][0]
        fits = [person for person in free if _alike(mine, people[person][0])]
        if fits:
            best = min(fits, key=lambda person: _apart(mine, people[person][0]))
            free.remove(best)
            pairs.append((case, best))
    return [case for case, _ in pairs], [control for _, control in pairs]


def _alike(one: Record, other: Record) -> bool:
    return one.sex is not None and one.sex is other.sex and _apart(one, other) <= _NEAR


def _apart(one: Record, other: Record) -> float:
    """Return the years between two ages; infinite where one is not known."""
    return np.inf if one.age is None or other.age is None else abs(one.age - other.age)


# The split


def _split(plan: Plan, records: Sequence[Record], table: LabelTable) -> Split:
    if isinstance(plan.split, str):
        split = _stored(Path(plan.split))
        return replace(split, warnings=tuple(warnings(split, records, table)))
    order: Order = plan.split
    try:
        split = make_split(records, table, order)
    except CannotSplit as error:
        raise CannotTrain(str(error)) from None
    if plan.task is not Task.REGRESSION:
        return split
    said = tuple(sentence for sentence in split.warnings if _BAND not in sentence)
    return replace(split, keys=plan.keys, warnings=said)


def _honest(
    split: Split, records: Sequence[Record], taught: AbstractSet[str], notes: list[str]
) -> Split:
    """Return the split with those in the training part whom the base knows already."""
    patients = {record.id: record.patient for record in records}
    known = {patients[record] for record in taught if record in patients}
    parts = {
        name: tuple(i for i in part if name == "train" or patients.get(i) not in known)
        for name, part in split.parts.items()
    }
    moved = {i for part in split.parts.values() for i in part} - {
        i for part in parts.values() for i in part
    }
    if not moved:
        return split
    notes.append(f"{len(moved)} recordings teach and do not judge: the base learned from them.")
    train = tuple(sorted({*split.train, *moved}))
    return replace(split, **parts | {"train": train})  # type: ignore[arg-type]  # the parts alone


def _stored(path: Path) -> Split:
    try:
        return Split.load(path)
    except (OSError, ValueError):
        raise CannotTrain(f"{path} holds no split.") from None


def _without_the_absent(split: Split, here: set[str], notes: list[str]) -> Split:
    """Return a split without recordings that are not there: withdrawn, or of another plan."""
    parts = {name: tuple(i for i in part if i in here) for name, part in split.parts.items()}
    absent = sum(map(len, split.parts.values())) - sum(map(len, parts.values()))
    if absent:
        notes.append(f"{absent} recordings of the split are not there any more, or have no label.")
    return replace(split, **parts)  # type: ignore[arg-type]  # the parts alone


def _check_parts(prepared: Prepared, task: Task) -> None:
    """Refuse a split of which the training or the validation part cannot serve."""
    split = prepared.split
    for name in ("train", "validation"):
        if not getattr(split, name):
            raise CannotTrain(f"The split has no recording for {name}.")
    people = {
        name: {prepared.records[record].patient for record in part}
        for name, part in split.parts.items()
    }
    if sum(map(len, people.values())) > len(set().union(*people.values())):
        raise CannotTrain("Some patient stands in two parts of the split.")
    if task is Task.REGRESSION:
        return
    matrix = prepared.matrix(split.train)
    lacking = [
        key
        for key, column in zip(prepared.keys, matrix.T, strict=True)
        if not {0.0, 1.0} <= set(column.tolist())
    ]
    if lacking:
        raise CannotTrain(
            f"The training part has no patient with, or none without, {', '.join(lacking)}."
        )
