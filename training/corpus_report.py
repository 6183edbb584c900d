"""What a corpus holds, and what a model could learn from it by mistake; read before any run.

Counts for each label and origin, what is missing, double or contradictory, and whether a label
goes with the site or the cart: a model then learns the hospital and not the heart.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2_contingency

from analysis.card import Card
from training.corpus import Corpus, Learner, Record
from training.labels import LabelTable, Origin, Value
from training.splits import Split

SIGNIFICANT: Final = 0.001
"""p of the chi-square test below which a label goes with a site or a cart."""
STRONG: Final = 0.3
"""Cramér's V from which the association is worth a warning (Cohen 1988: medium)."""
ENOUGH: Final = 5
"""Recordings of a site with a known label, below which the site says nothing."""
_CONFOUNDERS: Final = ("site", "device")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCount:
    """How often a label is what, over the recordings; and who says so."""

    key: str
    present: int
    absent: int
    unknown: int
    contradictory: int
    patients: int
    """With a recording in which it is present."""
    origins: Mapping[str, int]
    """Statements by origin, those that a better origin overrules included."""
    ai_visible: int
    """Statements whose author could see an AI result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """How a label goes with the site or the cart, over the recordings where it is known."""

    key: str
    confounder: str
    """`site` or `device`."""
    groups: Mapping[str, tuple[int, int]]
    """Present and absent, by site or cart."""
    p: float
    """Of Pearson's chi-square test."""
    cramers_v: float
    mutual_information: float
    """Bits that the group tells of the label, as a part of the label's entropy."""
    constant: bool
    """Whether the group alone says which value the label has."""

    @property
    def is_strong(self) -> bool:
        """Whether a model could learn the group instead of the finding."""
        return self.constant or (self.p < SIGNIFICANT and self.cramers_v >= STRONG)

    @property
    def sentence(self) -> str:
        """What is wrong."""
        shares = ", ".join(f"{name} {a} of {a + b}" for name, (a, b) in self.groups.items())
        if self.constant:
            return (
                f"{self.key} is constant within each {self.confounder} and differs between them"
                f" ({shares}): a model would learn the {self.confounder}."
            )
        return (
            f"{self.key} goes with the {self.confounder} (Cramér's V {self.cramers_v:.2f},"
            f" p {self.p:.1g}; {shares}): judge on {self.confounder}s that were held out."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a corpus holds."""

    recordings: int
    patients: int
    patients_unstated: int
    """Recordings that do not say whose they are."""
    hours: float
    unlabelled: int
    duplicates: int
    """Files whose recording was there already."""
    labels: tuple[LabelCount, ...]
    sites: Mapping[str, int]
    devices: Mapping[str, int]
    formats: Mapping[str, int]
    rates: Mapping[str, int]
    """By sampling frequency, Hz."""
    leads: Mapping[str, int]
    quarters: Mapping[str, int]
    sexes: Mapping[str, int]
    ages: Mapping[str, int]
    """By decade."""
    ai_visible: int
    associations: tuple[Association, ...]
    learners: tuple[Learner, ...]
    warnings: tuple[str, ...]

    def to_mapping(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"schema": 1, **asdict(self)}


def report(corpus: Corpus, table: LabelTable | None = None) -> Report:
    """Return what a corpus holds.

    Parameters
    ----------
    table
        The labels that a plan would take; by default all.
    """
    records = corpus.records
    labels = corpus.labels if table is None else table
    found = associations(records, labels)
    ids = [record.id for record in records]
    known = np.isfinite(labels.matrix(ids)).any(axis=1) if records else np.zeros(0, np.bool_)
    return Report(
        recordings=len(records),
        patients=len({record.patient for record in records}),
        patients_unstated=sum(not record.patient_stated for record in records),
        hours=round(sum(record.duration for record in records) / 3600, 2),
        unlabelled=int((~known).sum()),
        duplicates=len(corpus.files) - len({record for _, record in corpus.files.values()}),
        labels=tuple(label_counts(records, labels)),
        sites=_count(record.site for record in records),
        devices=_count(record.device for record in records),
        formats=_count(record.format for record in records),
        rates=_count(f"{record.sampling_frequency:g}" for record in records),
        leads=_count(_leads(record) for record in records),
        quarters=_count(record.quarter or "unknown" for record in records),
        sexes=_count(record.sex or "unknown" for record in records),
        ages=_count(map(_decade, records)),
        ai_visible=sum(record.ai_visible for record in records),
        associations=found,
        learners=corpus.learners,
        warnings=tuple(_warnings(corpus, records, labels, found)),
    )


def _count(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(map(str, words)).items()))


def _leads(record: Record) -> str:
    names = " ".join(record.leads)
    return names if len(record.leads) <= 3 else f"{len(record.leads)} leads"  # noqa: PLR2004 - few


def _decade(record: Record) -> str:
    if record.age is None:
        return "unknown"
    return f"{record.age // 10 * 10:02}-{record.age // 10 * 10 + 9:02}"


def label_counts(records: Sequence[Record], labels: LabelTable) -> Iterator[LabelCount]:
    """Yield the counts of each label, in the order of the table."""
    ids = [record.id for record in records]
    here = frozenset(ids)
    origins = Counter((item.key, item.origin) for item in labels.labels if item.record in here)
    visible = Counter(item.key for item in labels.labels if item.ai_visible)
    opposed = Counter(key for record, key in labels.contradictions if record in here)
    for key, column in zip(labels.keys, labels.matrix(ids).T.tolist(), strict=True):
        pairs = zip(records, column, strict=True)
        yield LabelCount(
            key=key,
            present=column.count(1.0),
            absent=column.count(0.0),
            unknown=len(column) - column.count(1.0) - column.count(0.0),
            contradictory=opposed[key],
            patients=len({record.patient for record, value in pairs if value == 1.0}),
            origins={str(o): origins[key, o] for o in Origin if origins[key, o]},
            ai_visible=visible[key],
        )


# A label that goes with the site


def associations(records: Sequence[Record], labels: LabelTable) -> tuple[Association, ...]:
    """Return how each label goes with site and cart, where that can be told; strongest first."""
    found = [
        association
        for confounder in _CONFOUNDERS
        for key in labels.keys
        if (association := _association(records, labels, key, confounder))
    ]
    return tuple(sorted(found, key=lambda item: (-item.constant, -item.cramers_v, item.key)))


def _association(
    records: Sequence[Record], labels: LabelTable, key: str, confounder: str
) -> Association | None:
    groups = _groups(records, labels, key, confounder)
    counts = np.array(list(groups.values())).reshape(-1, 2)
    if len(groups) < 2 or not counts.sum(axis=0).all():  # noqa: PLR2004 - two to compare
        return None
    test = chi2_contingency(counts, correction=False)
    return Association(
        key=key,
        confounder=confounder,
        groups=groups,
        p=float(test.pvalue),
        cramers_v=float(np.sqrt(test.statistic / counts.sum())),
        mutual_information=_mutual_information(counts),
        constant=bool((counts == 0).any(axis=1).all()),
    )


def _groups(
    records: Sequence[Record], labels: LabelTable, key: str, confounder: str
) -> dict[str, tuple[int, int]]:
    """Return present and absent of each group with enough recordings, by its name."""
    said = sorted(
        (str(getattr(record, confounder)), value)
        for record in records
        if (value := labels.value(record.id, key)) is not Value.UNKNOWN
    )
    counts = {}
    for name, pairs in groupby(said, key=lambda pair: pair[0]):
        values = [value for _, value in pairs]
        if len(values) >= ENOUGH:
            present = values.count(Value.PRESENT)
            counts[name] = (present, len(values) - present)
    return counts


def _mutual_information(counts: npt.NDArray[np.int64]) -> float:
    """Return the mutual information of rows and columns over the columns' entropy, 0 to 1."""
    joint = counts / counts.sum()
    rows, columns = joint.sum(axis=1, keepdims=True), joint.sum(axis=0, keepdims=True)
    some = joint > 0
    shared = float((joint[some] * np.log(joint[some] / (rows @ columns)[some])).sum())
    return shared / float(-(columns * np.log(columns)).sum())


# What to mind


def _warnings(
    corpus: Corpus,
    records: Sequence[Record],
    labels: LabelTable,
    found: Iterable[Association],
) -> Iterator[str]:
    yield from (item.sentence for item in found if item.is_strong)
    unstated = sum(not record.patient_stated for record in records)
    if unstated:
        yield (
            f"{unstated} of {len(records)} recordings do not say whose they are; import labels"
            " with a column `patient`, or patients may stand in two parts of a split."
        )
    if count := len(labels.contradictions):
        yield f"{count} labels contradict each other and count as unknown."
    here = {record.id for record in records}
    if lost := len({item.record for item in labels.labels} - here):
        yield f"{lost} recordings have labels and are not there."
    yield from _of_sites(records)
    yield from _of_splits(corpus, records)
    for learner in corpus.learners:
        if learner.withdrawn:
            yield (
                f"The model {learner.model[:12]} learned from {learner.withdrawn} recordings"
                " whose patients withdrew since: train it anew."
            )


def _of_sites(records: Sequence[Record]) -> Iterator[str]:
    sites = Counter(patient for patient, _ in {(item.patient, item.site) for item in records})
    if several := sum(count > 1 for count in sites.values()):
        yield f"{several} patients have recordings of several sites."


def _of_splits(corpus: Corpus, records: Sequence[Record]) -> Iterator[str]:
    patients = {record.id: record.patient for record in records}
    for path in sorted(corpus.splits.glob("*.json")):
        split = Split.load(path)
        people = [{patients[i] for i in part if i in patients} for part in split.parts.values()]
        if several := sum(map(len, people)) - len(set().union(*people)):
            yield f"{several} patients stand in several parts of the split {path.stem}."


# As text


def describe(found: Report) -> str:
    """Return a report as a person reads it."""
    head = (
        f"{found.recordings} recordings of {found.patients} patients, {found.hours:g} h;"
        f" {found.unlabelled} without a label, {found.duplicates} files that were doubles"
    )
    facts = {
        "sites": found.sites,
        "carts": found.devices,
        "encodings": found.formats,
        "Hz": found.rates,
        "leads": found.leads,
        "sex": found.sexes,
        "age": found.ages,
        "quarters": found.quarters if len(found.quarters) <= _MANY else {},
    }
    lines = [f"{name}: {_listed(counts)}" for name, counts in facts.items() if counts]
    return "\n".join([head, *lines, "", *_label_lines(found.labels), *_warning_lines(found)])


_MANY: Final = 16


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _label_lines(labels: Iterable[LabelCount]) -> Iterator[str]:
    yield f"{'label':24} {'present':>8} {'patients':>8} {'absent':>8} {'unknown':>8}  origins"
    for item in labels:
        counts = f"{item.present:8} {item.patients:8} {item.absent:8} {item.unknown:8}"
        yield f"{item.key:24} {counts}  {_listed(item.origins)}"


def _warning_lines(found: Report) -> Iterator[str]:
    if found.warnings:
        yield ""
    yield from (f"! {sentence}" for sentence in found.warnings)


# A model that read some of it before


def flattered(card: Card, records: Iterable[Record]) -> str | None:
    """Return a sentence if recordings are of data sets that a model learned from, by its card."""
    sites = {record.site for record in records}
    same = sorted(sites & {source.name for source in card.training_data})
    if not same:
        return None
    return (
        f"{card.name} {card.version} learned from {', '.join(same)}, as its card says, and"
        " recordings of these judge here: its figures may flatter."
    )
