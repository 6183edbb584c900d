"""What carried the findings of models: which of them the second page shows, in grey.

Of the numbered statements that a model explains, the first that rests on parts of the beat is
shown on the median beats, and the first that rests on single beats or on the RR intervals on the
rhythm strip. The others say it in words.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.result import RR_INTERVALS, Explanation, Result, Statement

SHADE = "#dcdcdc"
"""Behind the parts that carried a finding."""
BAR = "#8a8a8a"
"""The weight of a lead, against the greatest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """A statement that is shown with what carried it."""

    number: int
    """Of the statement, from 1."""
    explanation: Explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What is shown on the median beats, and on the strip."""

    beat: Carried | None = None
    rhythm: Carried | None = None

    @property
    def legend(self) -> str:
        """What grey means, empty where there is none."""
        beat = f"grey: what carried {self.beat.number}, bars: its leads" if self.beat else ""
        rhythm = f"grey on the strip: what carried {self.rhythm.number}" if self.rhythm else ""
        said = "; ".join(filter(None, (beat, rhythm)))
        return said[:1].upper() + said[1:]


def shown(result: Result, statements: Sequence[Statement]) -> Shown:
    """Return which of the statements are shown with what carried them."""
    known = {item.key: item for item in reversed(result.explanations)}
    found = [
        Carried(number=number, explanation=known[statement.key])
        for number, statement in enumerate(statements, 1)
        if statement.key in known
    ]
    return Shown(
        beat=_first(item for item in found if not _of_rhythm(item.explanation)),
        rhythm=_first(item for item in found if _of_rhythm(item.explanation)),
    )


def _of_rhythm(explanation: Explanation) -> bool:
    return bool(explanation.beats) or RR_INTERVALS in explanation.carrying_parts


def _first(items: Iterable[Carried]) -> Carried | None:
    return next(iter(items), None)
