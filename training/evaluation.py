"""What was found when answers were judged: figures with their intervals, and their stored form."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import TypeAdapter

from analysis.codes import VOCABULARY
from training.intervals import Interval
from training.plan import Task

Point = tuple[float, float]
Figures = Mapping[str, Interval]
"""By measure; see `MEASURES`."""

RANKED: Final = "AUROC"
DEVIATES: Final = "MAE"
"""The figure that leads, of findings and of numbers."""
_FINDINGS: Final = (RANKED, "AUPRC", "F1", "sensitivity", "specificity", "PPV", "Brier", "ECE")
MEASURES: Final[Mapping[Task, tuple[str, ...]]] = {
    Task.MULTI_LABEL: _FINDINGS,
    Task.MULTI_CLASS: _FINDINGS,
    Task.REGRESSION: (DEVIATES, "RMSE", "bias", "r"),
}
"""What is found of each task, the leading figure first."""


def name_of(key: str) -> str:
    """Return what a finding is called in front of people."""
    return VOCABULARY[key].name if key in VOCABULARY else key


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Records whose probability is alike."""

    records: int
    expected: float
    """Mean probability."""
    observed: Interval
    """Share that has the finding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """What a threshold would do; it was chosen on these same records and flatters."""

    name: str
    threshold: float
    sensitivity: float
    specificity: float
    f1: float
    figures: Figures = field(default_factory=dict)
    """Sensitivity, specificity and F1 with their intervals, the threshold held fast."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfKey:
    """How one finding is told, or one number."""

    key: str
    records: int
    """With a known truth and an answer."""
    positives: int = 0
    patients: int = 0
    positive_patients: int = 0
    unknown: int = 0
    """Records without a known truth."""
    unanswered: int = 0
    """Records of known truth without an answer."""
    threshold: float | None = None
    figures: Figures
    confusion: tuple[int, int, int, int] | None = None
    """True and false positives, false and true negatives at the threshold."""
    chance_ece: float | None = None
    """Calibration error that so many records show on average if every probability is right."""
    roc: tuple[Point, ...] = ()
    """1 - specificity, and sensitivity."""
    precision_recall: tuple[Point, ...] = ()
    """Sensitivity, and positive predictive value."""
    operating_points: tuple[OperatingPoint, ...] = ()
    reliability: tuple[Bin, ...] = ()
    pairs: tuple[Point, ...] = ()
    """Of a regression: truth and answer of some records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgroup:
    """How answers are in a part of the records."""

    by: str
    """For example ``"sex"``."""
    name: str
    records: int
    patients: int
    macro: Figures
    everyone: float | None
    """The leading figure over the same findings, of all records: what the part is held against."""
    keys: Mapping[str, Figures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What :func:`training.evaluate.evaluate` found."""

    task: Task
    records: int
    patients: int
    resamples: int
    seed: int
    keys: tuple[OfKey, ...]
    averages: Mapping[str, Figures]
    """``macro`` (every finding counts the same), ``weighted`` (by its records), ``micro``."""
    confusion: tuple[tuple[int, ...], ...] | None = None
    """Of classes: rows are the truth, columns the likeliest class."""
    subgroups: tuple[Subgroup, ...] = ()
    notes: tuple[str, ...] = ()
    """A sentence for each thing that was left out."""

    @property
    def leading(self) -> str:
        """The measure that models are compared by."""
        return DEVIATES if self.task is Task.REGRESSION else RANKED

    def figure(self, measure: str, key: str | None = None) -> Interval:
        """Return a figure of one finding, by default the mean over all."""
        named = {item.key: item.figures for item in self.keys}
        figures = self.averages["macro"] if key is None else named.get(key, {})
        return figures.get(measure, Interval(reason=f"There is no {measure} of it."))

    def to_json(self) -> str:
        """Return the stored form."""
        return _EVALUATION.dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "Evaluation":
        """Return the evaluation of a stored form. Raises ValueError on anything else."""
        return _EVALUATION.validate_json(text)


_EVALUATION: Final = TypeAdapter(Evaluation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far the first of two models is ahead on the same records; above 0 it is better."""

    measure: str
    macro: Interval
    keys: Mapping[str, Interval]
    records: int
    patients: int

    def to_json(self) -> str:
        """Return the stored form."""
        return _DIFFERENCE.dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "Difference":
        """Return the difference of a stored form. Raises ValueError on anything else."""
        return _DIFFERENCE.validate_json(text)


_DIFFERENCE: Final = TypeAdapter(Difference)
