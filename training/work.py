"""What every stage of a run works with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.card import Card
from training.answers import examples
from training.bases import Base
from training.caches import Cache
from training.calibrate import FEW
from training.fit import Examples
from training.plan import Mode, Plan, Task
from training.prepare import Prepared


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """A plan under way."""

    plan: Plan
    """As it came to be: the findings that are left, the base's recipe."""
    base: Base
    prepared: Prepared
    cache: Cache
    folder: Path

    @property
    def calibrating(self) -> tuple[str, ...]:
        """The recordings on which calibration and thresholds are fitted.

        Where the calibration part has too few of a finding, the validation part helps out.
        """
        split = self.prepared.split
        matrix = self.prepared.matrix(split.calibration)
        counts = [(matrix == value).sum(axis=0).min() for value in (0, 1)]
        number = self.plan.task is Task.REGRESSION
        enough = number or (len(matrix) and min(counts) >= FEW)
        return split.calibration if enough else (*split.calibration, *split.validation)

    @property
    def judging(self) -> tuple[str, ...]:
        """The recordings on which it is judged."""
        split = self.prepared.split
        return split.test or split.validation

    @property
    def part(self) -> str:
        """The part of the split that they are."""
        return "test" if self.prepared.split.test else "validation"

    @property
    def taught(self) -> tuple[str, ...]:
        """Every recording that something was learned from or chosen by."""
        split = self.prepared.split
        return tuple(sorted({*split.train, *split.validation, *split.calibration}))

    @property
    def inherited(self) -> frozenset[str]:
        """The recordings that its base learned from."""
        if self.base.digest is None or self.plan.mode is Mode.SCRATCH:
            return frozenset()
        return self.prepared.corpus.taught(self.base.digest)

    @property
    def known(self) -> Card | None:
        """The card of its base, where that has learned before and has one."""
        return None if self.plan.mode is Mode.SCRATCH else self.base.card

    def examples(self, ids: Sequence[str]) -> Examples:
        """Return these recordings as the net sees them."""
        return examples(self.prepared, self.cache, ids)
