"""How an ECG becomes a model's input, as data: one value, one JSON form, one digest.

A model package carries its recipe; training and serving hand the same value to
:func:`analysis.standardise.standardise`, so neither can drift from the other.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, NoReturn, Self

from analysis.ecg import STANDARD_12, Lead


class Unit(StrEnum):
    """Unit of the samples that the model sees."""

    MILLIVOLT = "mV"
    MICROVOLT = "uV"


class Length(StrEnum):
    """What becomes of a recording longer than the model's input."""

    WINDOWS = "windows"
    """Read all of it, window by window."""
    CROP_START = "crop-start"
    """Read its first samples."""
    CROP_CENTRE = "crop-centre"
    """Read its middle."""


class Baseline(StrEnum):
    """What is subtracted from each lead."""

    NONE = "none"
    MEDIAN = "median"
    """The lead's median."""
    MOVING_MEDIAN = "moving-median"
    """The median of the two seconds around each sample."""


class Normalisation(StrEnum):
    """What is divided out; amplitudes in mV are lost with all but ``none``."""

    NONE = "none"
    LEAD = "z-score-per-lead"
    RECORDING = "z-score"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The form in which a model wants an ECG.

    Parameters
    ----------
    sampling_frequency
        Hz.
    leads
        In the model's order.
    samples
        Length of one input. A shorter recording is followed by zeros.
    length
        What becomes of a longer one.
    stride
        Samples from one window to the next; the last window ends with the recording.
    minimum_seconds
        A lead with less recorded signal counts as missing.
    allowed_missing
        How many of ``leads`` may be missing; their rows are zeros.
    high_pass, low_pass
        Edges in Hz of a zero-phase Butterworth filter of order 2 in each direction, or None.
    baseline, normalisation, unit
        See there.

    Raises
    ------
    ValueError
        If the parts do not fit each other. A constructed recipe can always be kept.
    """

    sampling_frequency: float
    samples: int
    leads: tuple[Lead, ...] = STANDARD_12
    length: Length = Length.WINDOWS
    stride: int
    minimum_seconds: float
    allowed_missing: int = 0
    high_pass: float | None = None
    low_pass: float | None = None
    baseline: Baseline = Baseline.NONE
    normalisation: Normalisation = Normalisation.NONE
    unit: Unit = Unit.MILLIVOLT

    def __post_init__(self) -> None:
        object.__setattr__(self, "leads", tuple(Lead(lead) for lead in self.leads))
        for name, kind in _CHOICES.items():
            object.__setattr__(self, name, kind(getattr(self, name)))
        for name in ("samples", "stride"):
            whole_number(name, getattr(self, name), at_least=1)
        whole_number("allowed_missing", self.allowed_missing)
        positive("sampling_frequency", self.sampling_frequency)
        positive("minimum_seconds", self.minimum_seconds)
        self._check_leads()
        self._check_band()

    def _check_leads(self) -> None:
        if not self.leads or len(set(self.leads)) != len(self.leads):
            raise ValueError("leads must be named, none of them twice")
        if self.allowed_missing >= len(self.leads):
            raise ValueError("allowed_missing must leave at least one lead")
        if self.minimum_seconds > self.samples / self.sampling_frequency:
            raise ValueError("minimum_seconds is longer than the model's input")

    def _check_band(self) -> None:
        edges = [edge for edge in (self.high_pass, self.low_pass) if edge is not None]
        for edge in edges:
            positive("an edge of the pass band", edge)
        if edges != sorted(set(edges)) or any(2 * e >= self.sampling_frequency for e in edges):
            raise ValueError("the pass band must rise and end below half the sampling frequency")

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any]) -> Self:
        """Return the recipe that :meth:`to_mapping` gave. Raises ValueError on anything else."""
        try:
            return cls(**exactly(cls, document))
        except TypeError as error:
            raise ValueError(f"not a recipe: {error}") from None

    def to_mapping(self) -> dict[str, Any]:
        """Return the JSON form: every field, by its name."""
        return asdict(self) | {"leads": list(self.leads)}

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON form, hexadecimal."""
        text = json.dumps(self.to_mapping(), separators=(",", ":"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


_CHOICES: Mapping[str, type[StrEnum]] = {
    "length": Length,
    "baseline": Baseline,
    "normalisation": Normalisation,
    "unit": Unit,
}


def exactly(kind: type[Any], document: Any) -> Mapping[str, Any]:
    """Return the JSON object if its keys are the fields of ``kind``, no more and no fewer."""
    if not isinstance(document, Mapping):
        raise ValueError(f"{kind.__name__} must be a JSON object")  # noqa: TRY004 - bad input, no bug
    names = {item.name for item in fields(kind)}
    if unknown := sorted(document.keys() - names):
        raise ValueError(f"{kind.__name__} does not know {', '.join(map(repr, unknown))}")
    if absent := sorted(names - document.keys()):
        raise ValueError(f"{kind.__name__} lacks {', '.join(map(repr, absent))}")
    return document


def strict_json(text: str) -> Any:
    """Return what the JSON text holds. Raises ValueError on NaN and on a key given twice."""
    try:
        return json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def positive(name: str, value: object) -> None:
    """Raise ValueError unless the value is a finite number above zero."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _LARGE:
        raise ValueError(f"{name} must be a positive number")


def whole_number(name: str, value: object, *, at_least: int = 0) -> None:
    """Raise ValueError unless the value is a whole number within reason."""
    if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value < _LARGE:
        raise ValueError(f"{name} must be a whole number of at least {at_least}")


_LARGE = 10_000_000
