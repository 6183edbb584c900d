"""What is to be learned, as data: one value, one JSON or TOML form, one digest.

A plan is checked when it is made. What cannot be meant is refused in a sentence, before any
minute is spent. Nothing heavy is imported, so that a page or a command can check one.
"""

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from analysis.recipe import Recipe, strict_json
from training.labels import TAUGHT_BY_DEFAULT, Origin
from training.splits import Order, Way


class Task(StrEnum):
    """What kind of answer is learned."""

    MULTI_LABEL = "multi-label"
    """Each finding for itself: present or absent."""
    MULTI_CLASS = "multi-class"
    """Exactly one of the findings."""
    REGRESSION = "regression"
    """A number, in the unit of its column."""


class Mode(StrEnum):
    """Which part of the net learns, and from where it starts."""

    SCRATCH = "scratch"
    """All of it, from random weights."""
    HEAD = "head"
    """A new head alone; every other tensor stays bit-identical."""
    ALL = "all"
    """A new head first, then the layers before it one after the other, those at lower rates."""
    CONTINUE = "continue"
    """All of it, head included, from where an earlier version stopped."""


class Optimiser(StrEnum):
    """How steps are made of gradients."""

    ADAMW = "adamw"
    ADAM = "adam"
    NADAM = "nadam"
    RMSPROP = "rmsprop"
    SGD = "sgd"
    """With Nesterov's momentum, 0.9."""


class Schedule(StrEnum):
    """How the learning rate changes."""

    ONE_CYCLE = "one-cycle"
    EXPONENTIAL = "exponential"
    PLATEAU = "plateau"
    """A third, whenever the metric has not become better for a while."""
    CONSTANT = "constant"


class Loss(StrEnum):
    """What training makes smaller; for a number it is the squared error in either case."""

    BCE = "bce"
    """Cross entropy, of each finding or over the classes."""
    FOCAL = "focal"
    """The same, what is told right already weighing less (Lin 2017)."""


class Metric(StrEnum):
    """What is watched on the validation part: means over the findings, or over the rows."""

    AUROC = "auroc"
    AUPRC = "auprc"
    F1 = "f1"
    """At a probability of 0.5; of classes, at the likeliest."""
    MAE = "mae"
    """In the unit of the target."""
    LOSS = "loss"

    @property
    def falls(self) -> bool:
        """Whether less is better."""
        return self in {Metric.MAE, Metric.LOSS}


class Precision(StrEnum):
    """Of the arithmetic, as Lightning names it."""

    SINGLE = "32-true"
    BFLOAT = "bf16-mixed"
    HALF = "16-mixed"


class Calibration(StrEnum):
    """How probabilities are made honest on the calibration part."""

    TEMPERATURE = "temperature"
    ISOTONIC = "isotonic"
    NONE = "none"


class Balance(StrEnum):
    """Which of those without the finding teach beside those with it."""

    NONE = "none"
    """All."""
    EQUAL = "equal"
    """As many as have it."""
    MATCHED = "matched"
    """As many, alike in age and sex."""


RECIPE: Final = Recipe(
    sampling_frequency=100.0,
    samples=1000,
    stride=1000,
    minimum_seconds=5.0,
    allowed_missing=2,
    high_pass=0.5,
    low_pass=40.0,
)
"""The form of the shipped 12-lead model's input."""

FIND: Final = "find"
"""In the place of a learning rate: look for one, on the training part alone."""

CURRENT: Final = "current"
"""In the place of a base: the model that is in use."""

_PURPOSE: Final = re.compile(r"f-max|(?:sensitivity|specificity) 0?\.\d{1,4}")
_LONGEST: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """How recordings are varied while a net learns from them; 0 leaves a way out.

    Parameters
    ----------
    lead_dropout
        Probability that a lead is silenced.
    lead_subset
        Probability that a recording keeps but a few of its leads, down to one, each number of
        leads as likely as the others.
    time_shift
        Largest shift, in seconds; zeros come in.
    amplitude
        Largest relative change of the amplitude.
    wander
        Amplitude of a slow sine in each lead, as a share of the recording's standard deviation.
    noise
        Standard deviation of white noise, as the same share.
    mixup
        Alpha of the beta distribution by which two recordings are mixed (Zhang 2018).
    """

    lead_dropout: float = 0.05
    lead_subset: float = 0.1
    time_shift: float = 0.5
    amplitude: float = 0.2
    wander: float = 0.2
    noise: float = 0.1
    mixup: float = 0.0

    def __post_init__(self) -> None:
        for item in fields(self):
            most = _MOST.get(item.name, 10.0)
            _within(f"augment.{item.name}", getattr(self, item.name), 0.0, most)

    @classmethod
    def none(cls) -> Self:
        """Return the settings that leave recordings as they are."""
        return cls(**dict.fromkeys((item.name for item in fields(cls)), 0.0))


_MOST: Final = {"lead_dropout": 0.9, "lead_subset": 1.0, "amplitude": 0.9}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is learned, from what, how, and by what it is judged.

    Parameters
    ----------
    name
        What people call it.
    keys
        The findings; for regression the one column of the target.
    corpus
        The folder of the recordings.
    origins
        Whose labels teach.
    sites
        Of which sites or databases the recordings are; by default of all.
    base
        An architecture's name; or what is learned from: the file or the digest of a package, or
        "current".
    recipe
        The form of the input. With a package as base, its card's recipe holds instead.
    split
        How the recordings are divided, or the file of a stored split.
    learning_rate
        Of the head, and of everything that is not at a lower one; or "find". By default 0.001,
        and 0.01 for a head alone.
    class_weights
        Whether the rare weighs as much as the frequent.
    augment
        Has no effect on head-only learning but for its mixup: embeddings are made once, of the
        recordings as they are.
    metric
        By default AUROC, of a number the mean absolute error.
    patience
        Epochs without a better metric after which it ends; 0 for never.
    precision, devices, machines
        Of the arithmetic; how many devices of each machine, or "auto"; how many machines.
    minutes
        After which it ends with the best epoch so far, or None.
    threshold_purpose
        "f-max", or for example "sensitivity 0.90" or "specificity 0.95".

    Raises
    ------
    ValueError
        If it cannot be meant; the message is a sentence.
    """

    name: str
    keys: tuple[str, ...]
    corpus: str = "sinusnode-data/corpus"
    task: Task = Task.MULTI_LABEL
    mode: Mode = Mode.SCRATCH
    origins: tuple[Origin, ...] = TAUGHT_BY_DEFAULT
    sites: tuple[str, ...] = ()
    base: str = "inceptiontime"
    recipe: Recipe = RECIPE
    split: Order | str = field(default_factory=Order)
    epochs: int = 30
    batch_size: int = 32
    optimiser: Optimiser = Optimiser.ADAMW
    learning_rate: float | str | None = None
    schedule: Schedule = Schedule.ONE_CYCLE
    weight_decay: float = 0.01
    loss: Loss = Loss.BCE
    class_weights: bool = True
    augment: Augment = field(default_factory=Augment)
    metric: Metric | None = None
    patience: int = 8
    seed: int = 0
    precision: Precision = Precision.SINGLE
    devices: int | str = 1
    machines: int = 1
    minutes: float | None = None
    threshold_purpose: str = "f-max"
    calibration: Calibration = Calibration.TEMPERATURE
    balance: Balance = Balance.NONE

    def __post_init__(self) -> None:
        for name, kind in _CHOICES.items():
            object.__setattr__(self, name, _choice(name, getattr(self, name), kind))
        origins = _words("origins", self.origins)
        object.__setattr__(self, "origins", tuple(_choice("origins", o, Origin) for o in origins))
        metric = self.metric if self.metric is not None else _USUAL.get(self.task, Metric.AUROC)
        object.__setattr__(self, "metric", _choice("metric", metric, Metric))
        rate = self.learning_rate if self.learning_rate is not None else _RATES[self.mode]
        object.__setattr__(self, "learning_rate", rate)
        for name in ("keys", "sites"):
            object.__setattr__(self, name, _words(name, getattr(self, name)))
        self._check_texts()
        self._check_task()
        self._check_numbers()

    def _check_texts(self) -> None:
        for name in ("name", "corpus", "base"):
            _text(name, getattr(self, name))
        if isinstance(self.split, str):
            _text("split", self.split)
        if not isinstance(self.class_weights, bool):
            raise ValueError("class_weights is true or false.")  # noqa: TRY004 - bad input, no bug
        if not _PURPOSE.fullmatch(str(self.threshold_purpose)):
            raise ValueError(
                "threshold_purpose is f-max, or for example sensitivity 0.90 or specificity 0.95."
            )
        if not self.origins:
            raise ValueError("origins is empty: nobody's labels would teach.")

    def _check_task(self) -> None:
        count = len(self.keys)
        if not count:
            raise ValueError("keys is empty: say what is to be learned.")
        if self.task is Task.REGRESSION and count > 1:
            raise ValueError(f"Regression learns one number; keys has {count}.")
        if self.task is Task.MULTI_CLASS and count == 1:
            raise ValueError("Of one class alone nothing can be learned; keys needs two or more.")
        if self.balance is not Balance.NONE and (count > 1 or self.task is not Task.MULTI_LABEL):
            raise ValueError(f"balance is {self.balance}: that needs one finding, and one alone.")
        number = self.task is Task.REGRESSION
        if self.watched is not Metric.LOSS and number is not (self.watched is Metric.MAE):
            raise ValueError(f"{self.watched} is no metric of {self.task}.")

    def _check_numbers(self) -> None:
        for name, (least, most) in _WHOLE.items():
            _whole(name, getattr(self, name), least, most)
        if self.devices != "auto":
            _whole("devices", self.devices, 1, 1024)
        if self.learning_rate != FIND:
            _within("learning_rate", self.learning_rate, 1e-8, 1.0)
        _within("weight_decay", self.weight_decay, 0.0, 1.0)
        if self.minutes is not None:
            _within("minutes", self.minutes, 0.001, _LONGEST)

    @property
    def watched(self) -> Metric:
        """The metric by which the best epoch is chosen."""
        assert self.metric is not None  # noqa: S101 - for the type checker
        return self.metric

    @property
    def rate(self) -> float | str:
        """The learning rate, or "find"."""
        assert self.learning_rate is not None  # noqa: S101 - for the type checker
        return self.learning_rate

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Return the plan of a file, TOML if it is called so, else JSON.

        Raises
        ------
        ValueError
            If it holds none; the message is a sentence.
        """
        text = Path(path).read_text(encoding="utf-8")
        if Path(path).suffix != ".toml":
            return cls.from_json(text)
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"The plan is no TOML: {error}.") from None
        return cls.from_mapping(document)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the plan of a JSON object, which may leave out what has a default."""
        try:
            document = strict_json(text)
        except ValueError as error:
            raise ValueError(f"The plan is no JSON: {error}.") from None
        return cls.from_mapping(document)

    @classmethod
    def from_mapping(cls, document: object) -> Self:
        """Return the plan of a table of its fields; see :meth:`from_json`."""
        values = dict(_known("The plan", document, cls))
        if absent := [name for name in ("name", "keys") if name not in values]:
            raise ValueError(f"The plan does not say its {' and its '.join(absent)}.")
        if "recipe" in values:
            values["recipe"] = recipe_of(values["recipe"])
        if "augment" in values:
            values["augment"] = Augment(**_known("augment", values["augment"], Augment))
        if isinstance(values.get("split"), Mapping):
            values["split"] = _order(values["split"])
        return cls(**values)

    def to_mapping(self) -> dict[str, Any]:
        """Return the JSON form: every field, by its name."""
        document = {item.name: getattr(self, item.name) for item in fields(self)}
        split = self.split
        if isinstance(split, Order):
            parts = {item.name: getattr(split, item.name) for item in fields(split)}
            document["split"] = parts | {"fractions": dict(split.fractions)}
        return document | {"recipe": self.recipe.to_mapping(), "augment": asdict(self.augment)}

    def to_json(self) -> str:
        """Return the stored form, one field a line."""
        return json.dumps(self.to_mapping(), indent=1, ensure_ascii=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON form, hexadecimal."""
        text = json.dumps(self.to_mapping(), separators=(",", ":"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


_CHOICES: Final[Mapping[str, type[StrEnum]]] = {
    "task": Task,
    "mode": Mode,
    "optimiser": Optimiser,
    "schedule": Schedule,
    "loss": Loss,
    "precision": Precision,
    "calibration": Calibration,
    "balance": Balance,
}
_USUAL: Final = {Task.REGRESSION: Metric.MAE}
_RATES: Final = {Mode.SCRATCH: 1e-3, Mode.HEAD: 1e-2, Mode.ALL: 1e-3, Mode.CONTINUE: 1e-3}
_WHOLE: Final = {
    "epochs": (1, 10_000),
    "batch_size": (1, 65_536),
    "patience": (0, 10_000),
    "seed": (0, 2**32 - 1),
    "machines": (1, 1024),
}


def _known(what: str, document: object, kind: type[Any]) -> Mapping[str, Any]:
    """Return the table if all it names are fields of ``kind``."""
    if not isinstance(document, Mapping):
        raise ValueError(f"{what} is a table of its fields.")  # noqa: TRY004 - bad input, no bug
    names = [item.name for item in fields(kind)]
    if unknown := [str(name) for name in document if name not in names]:
        raise ValueError(f"{what} has no {', no '.join(unknown)}; it has {', '.join(names)}.")
    return document


def recipe_of(document: object) -> Recipe:
    """Return the recipe of a table; what it leaves out is as in ``RECIPE``. Or ValueError."""
    given = _known("recipe", document, Recipe)
    try:
        return Recipe.from_mapping(RECIPE.to_mapping() | dict(given))
    except (ValueError, TypeError) as error:
        raise ValueError(f"The recipe cannot be used: {error}.") from None


def _order(document: object) -> Order:
    values = dict(_known("split", document, Order))
    if "way" in values:
        values["way"] = _choice("split.way", values["way"], Way)
    if "sites" in values:
        values["sites"] = _words("split.sites", values["sites"])
    if "seed" in values:
        _whole("split.seed", values["seed"], *_WHOLE["seed"])
    try:
        return Order(**values)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"The split cannot be made: {error}.") from None


def _choice(name: str, value: object, kind: type[StrEnum]) -> StrEnum:
    try:
        return kind(str(value))
    except ValueError:
        raise ValueError(f"{name} is {value!r}; it is one of {', '.join(kind)}.") from None


def _words(name: str, value: object) -> tuple[str, ...]:
    """Return a list of words as a tuple."""
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise ValueError(f"{name} is a list of words.")  # noqa: TRY004 - bad input, no bug
    for word in value:
        _text(name, word)
    if len(set(value)) != len(value):
        raise ValueError(f"{name} names something twice.")
    return tuple(value)


def _text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST:
        raise ValueError(f"{name} is a text, and not empty.")


def _whole(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} is {value!r}; it is a whole number from {least} to {most}.")


def _within(name: str, value: object, least: float, most: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not least <= value <= most:  # type: ignore[arg-type, operator]  # a number
        raise ValueError(f"{name} is {value!r}; it is a number from {least:g} to {most:g}.")
