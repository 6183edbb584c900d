"""How far a run is. Nothing heavy is imported, so that whoever follows a run stays small."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from training.runs import RunState

LOG: Final = "run.log"
"""What an attempt printed, in the run's folder."""


class Stage(StrEnum):
    """What a run does, in this order."""

    CHECK = "check"
    PREPARE = "prepare"
    FIT = "fit"
    CALIBRATE = "calibrate"
    JUDGE = "judge"
    PUBLISH = "publish"
    REPORT = "report"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How far a run is."""

    stage: Stage
    said: str
    """One sentence."""
    epoch: int = 0
    """The last that is complete."""
    epochs: int = 0
    """Of the plan."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Of that epoch: the other fields of :class:`training.epochs.Epoch`."""

    @property
    def progress(self) -> int:
        """A number that grows as the run gets further."""
        return list(Stage).index(self.stage) * _STAGE + self.epoch

    def to_mapping(self) -> dict[str, Any]:
        """Return the JSON form."""
        of = {"epoch": self.epoch, "epochs": self.epochs} if self.epochs else {}
        return {"stage": str(self.stage), "said": self.said, **of, **self.figures}


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt at a run ended, in its own words."""

    state: RunState
    message: str
    model: str | None = None
    """Digest of the candidate that came of it."""


_STAGE: Final = 100_000
"""More than any number of epochs."""
