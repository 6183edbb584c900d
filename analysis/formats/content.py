"""What a reader is given: the bytes, where they came from, and what the caller states of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What a caller says of a bare table, which cannot say it itself.

    A table that does say it must agree; other encodings speak for themselves.
    """

    sampling_frequency: float | None = None
    """Hz."""
    unit: str | None = None
    """Of the samples: nV, uV, mV or V."""
    leads: Sequence[str] | None = None
    """One name for each column, in their order."""


@dataclass(frozen=True, slots=True)
class Content:
    """The content of one source, its path if it has one, and the caller's statements."""

    data: bytes = field(repr=False)
    path: Path | None = None
    stated: Stated = Stated()
