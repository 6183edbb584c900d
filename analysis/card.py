"""What a model says of itself: the card that travels inside its ONNX file, as JSON.

A card names labels of the closed vocabulary only, and carries everything that is needed to use
the model rightly: recipe, activation, thresholds and their purpose, training data, results.
It is data. Nothing in it is ever evaluated.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Self

from analysis.codes import VOCABULARY, Entry
from analysis.recipe import Recipe, exactly, positive, strict_json, whole_number

SCHEMA = 1
FEATURES_INPUT = "features"
"""Name of a graph's input ``(batch, features)`` of measurements."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}")
_LONGEST_TEXT = 8_000


class Activation(StrEnum):
    """What turns the graph's outputs into probabilities."""

    NONE = "none"
    """They are probabilities already."""
    SIGMOID = "sigmoid"
    SOFTMAX = "softmax"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One output of the model.

    Parameters
    ----------
    key
        Of the vocabulary.
    code
        (scheme, value, meaning), as the vocabulary has it.
    threshold
        Probability from which the finding counts as present.
    """

    key: str
    code: tuple[str, str, str]
    threshold: float

    def __post_init__(self) -> None:
        if self.key not in VOCABULARY:
            raise ValueError(f"{self.key!r} is no finding of the vocabulary")
        if tuple(self.code) != tuple(self.entry.code):
            raise ValueError(f"{self.key} is coded {self.entry.code}, not {self.code}")
        object.__setattr__(self, "code", tuple(self.code))  # from JSON a list
        _between(f"the threshold of {self.key}", self.threshold, 0, 1)

    @property
    def entry(self) -> Entry:
        """The finding's entry in the vocabulary."""
        return VOCABULARY[self.key]

    @classmethod
    def of(cls, key: str, threshold: float) -> Self:
        """Return the label of a vocabulary key."""
        return cls(key=key, code=VOCABULARY[key].code, threshold=threshold)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One data set that the model learned from."""

    name: str
    records: int
    licence: str
    citation: str

    def __post_init__(self) -> None:
        whole_number("records", self.records, at_least=1)
        for text in (self.name, self.licence, self.citation):
            _text("a training source", text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One result on records that the model was not trained on."""

    label: str
    data: str
    """On which records."""
    measure: str
    """For example ``"AUROC"``."""
    value: float
    low: float
    high: float
    """95 % interval."""
    positives: int
    negatives: int

    def __post_init__(self) -> None:
        for text in (self.label, self.data, self.measure):
            _text("a metric", text)
        for number in (self.value, self.low, self.high):
            _between("a metric", number, -1e9, 1e9)
        for count in (self.positives, self.negatives):
            whole_number("a metric's count", count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The model card.

    Parameters
    ----------
    name, version
        Named on every output; together at most 64 plain characters each.
    created
        ISO date.
    intended_use, limits
        For whom and what; what it cannot do.
    input, output
        Names of the graph's input ``(batch, leads, samples)`` and output ``(batch, labels)``.
    recipe
        The form of the input.
    activation, labels
        What the outputs are.
    threshold_purpose
        What the thresholds were chosen for, and on which records.
    minimum_age
        Years; below, the model abstains. None where age does not matter.
    training_data, metrics
        Where it comes from and how it did.
    features
        Measurements that the graph reads beside the waveform, by their names in
        :mod:`analysis.features`, as its input :data:`FEATURES_INPUT`; mostly none.

    Raises
    ------
    ValueError
        If anything is missing, unknown or absurd. A constructed card is always valid.
    """

    name: str
    version: str
    created: str
    intended_use: str
    limits: str
    input: str
    output: str
    recipe: Recipe
    activation: Activation
    labels: tuple[Label, ...]
    threshold_purpose: str
    minimum_age: float | None
    training_data: tuple[Source, ...]
    metrics: tuple[Metric, ...]
    features: tuple[str, ...] = ()
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"schema {self.schema!r} is not {SCHEMA}")
        for part in ("name", "version"):
            if not _NAME.fullmatch(_text(part, getattr(self, part))):
                raise ValueError(f"{part} must be up to 64 letters, digits, spaces or ._+-")
        for part in ("intended_use", "limits", "input", "output", "threshold_purpose"):
            _text(part, getattr(self, part))
        date.fromisoformat(_text("created", self.created))
        keys = [label.key for label in self.labels]
        if not keys or len(set(keys)) != len(keys):
            raise ValueError("labels must be named, none of them twice")
        if self.minimum_age is not None:
            positive("minimum_age", self.minimum_age)
        if len(set(self.features)) != len(self.features):
            raise ValueError("a feature is named twice")
        for name in self.features:
            _text("a feature", name)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the card that :meth:`to_json` wrote. Raises ValueError on anything else."""
        document = dict(exactly(cls, _with_features(strict_json(text))))
        try:
            document["features"] = tuple(document["features"])
            document["recipe"] = Recipe.from_mapping(document["recipe"])
            document["activation"] = Activation(document["activation"])
            for part, kind in _LISTS.items():
                document[part] = tuple(kind(**exactly(kind, item)) for item in document[part])
            return cls(**document)
        except TypeError as error:
            raise ValueError(f"a value has the wrong type: {error}") from None

    def to_json(self) -> str:
        """Return the canonical JSON form."""
        document = asdict(self) | {"recipe": self.recipe.to_mapping()}
        if not self.features:
            del document["features"]
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _with_features(document: Any) -> Any:
    """Return the document with its features, none where it says nothing of them."""
    return {"features": (), **document} if isinstance(document, dict) else document


_LISTS: Mapping[str, type[Any]] = {"labels": Label, "training_data": Source, "metrics": Metric}


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_TEXT:
        raise ValueError(f"{name} must be a text of at most {_LONGEST_TEXT} characters")
    return value


def _between(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low < value < high:
        raise ValueError(f"{name} must lie between {low:g} and {high:g}")
