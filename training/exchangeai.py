"""What an ExChanGeAI model says of itself, read as data and turned into fields of a card.

Its files carry four metadata keys: ``target_keys`` (a Python list, as text), ``standardizer``,
``scale`` and ``sampling_rate``. ExChanGeAI evaluates them; here they are parsed. What they do
not say stays unknown, and is named.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from analysis.card import Activation, Label
from analysis.codes import VOCABULARY
from analysis.ecg import STANDARD_12
from analysis.errors import ModelReason, ModelRejected
from analysis.recipe import Baseline, Length, Normalisation, Recipe, Unit
from analysis.vetting import parse

_RATE = 100.0
"""Hz, where a file does not say."""
_LONGEST = 10_000
_UNITS: Mapping[str, Unit] = {"mikroVolt": Unit.MICROVOLT, "milliVolt": Unit.MILLIVOLT}
_NORMALISATIONS: Mapping[str, Normalisation] = {
    "None": Normalisation.NONE,
    "meanStd": Normalisation.RECORDING,
}
UNKNOWN: Final = (
    "What it was trained on, by whom, under which licence and with what results.",
    "Thresholds: it takes the largest output. Until some are fitted, 0.5 stands in.",
    "Whether its outputs exclude each other; it has been served with softmax over them.",
    "From which age on it holds.",
    "Which leads may be missing; none, therefore.",
    "ExChanGeAI clips outliers of each lead and repeats short recordings; the recipe does not.",
)
"""What no file says, one sentence each."""

_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {entry.scp: key for key, entry in VOCABULARY.items() if entry.scp}
    | {key: key for key in VOCABULARY}
)
"""Our key of an SCP-ECG acronym; ours are taken as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """Fields of a card, as far as an ExChanGeAI file gives them."""

    recipe: Recipe
    activation: Activation
    names: tuple[str, ...]
    """Of the outputs, as the file has them."""
    keys: tuple[str | None, ...]
    """Ours, by output; None where there is none."""
    unknown: tuple[str, ...]
    """What must be said or found out by others, one sentence each."""

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels, with 0.5 for a threshold.

        Raises
        ------
        ValueError
            If an output has no key: such a model can be trained on, and not be packed.
        """
        if None in self.keys:
            missing = [name for name, key in zip(self.names, self.keys, strict=True) if not key]
            raise ValueError(f"These outputs are no findings: {', '.join(missing)}.")
        return tuple(Label.of(key, 0.5) for key in self.keys if key)


def describe(content: bytes, *, unit: Unit | None = None) -> Described:
    """Return what the file says of itself.

    Parameters
    ----------
    content
        The ONNX file.
    unit
        Of its input, where the file does not say.

    Raises
    ------
    ModelRejected
        INVALID_CARD where a key stands twice with different values, is of a form not known, or
        asks for a normalisation that recipes do not have, and where nobody says the unit or two
        say different ones; WRONG_SHAPE where the input is not twelve leads of a fixed length.
    """
    model = parse(content)
    return described(_metadata(model.metadata_props), _samples(model.graph), unit=unit)


def described(metadata: Mapping[str, str], samples: int, *, unit: Unit | None = None) -> Described:
    """Return the fields of a card that these metadata of a 12-lead model give."""
    rate = _rate(metadata.get("sampling_rate"))
    names = _names(metadata.get("target_keys", ""))
    keys = tuple(_KEYS.get(name) for name in names)
    unnamed = [name for name, key in zip(names, keys, strict=True) if key is None]
    extra = [f"What the output {name!r} means." for name in unnamed]
    if "sampling_rate" not in metadata:
        extra.append(f"The sampling frequency: {_RATE:g} Hz is what ExChanGeAI takes then.")
    if "standardizer" not in metadata:
        extra.append("The normalisation: none is what ExChanGeAI takes then.")
    return Described(
        recipe=Recipe(
            sampling_frequency=rate,
            samples=samples,
            leads=STANDARD_12,
            length=Length.CROP_START,
            stride=samples,
            minimum_seconds=samples / rate / 2,
            baseline=Baseline.MOVING_MEDIAN,
            normalisation=_normalisation(metadata.get("standardizer", "None")),
            unit=_unit(metadata.get("scale"), unit),
        ),
        activation=Activation.SOFTMAX,
        names=names,
        keys=keys,
        unknown=(*UNKNOWN, *extra),
    )


def _metadata(properties: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in properties:
        if found.setdefault(item.key, item.value) != item.value:
            raise _invalid(f"{item.key[:64]!r} stands twice, with different values")
    return found


def _samples(graph: Any) -> int:
    weights = {item.name for item in graph.initializer}
    inputs = [item for item in graph.input if item.name not in weights]
    sizes = [item.dim_value for item in inputs[0].type.tensor_type.shape.dim] if inputs else []
    if len(sizes) != 3 or sizes[1] != len(STANDARD_12) or not sizes[2]:  # noqa: PLR2004 - 3-D
        raise ModelRejected(
            ModelReason.WRONG_SHAPE, "Its input must be (batch, 12, samples) with fixed samples."
        )
    return int(sizes[2])


def _names(text: str) -> tuple[str, ...]:
    try:
        names = ast.literal_eval(text) if len(text) <= _LONGEST else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise _invalid("'target_keys' is no list of names")
    if len(set(names)) != len(names):
        raise _invalid("a name stands twice in 'target_keys'")
    return tuple(names)


def _rate(text: str | None) -> float:
    try:
        rate = _RATE if text is None else float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < _LONGEST:
        raise _invalid("'sampling_rate' is no number of Hz")
    return rate


def _normalisation(text: str) -> Normalisation:
    if text not in _NORMALISATIONS:
        raise _invalid(f"'standardizer' must be one of {', '.join(_NORMALISATIONS)}")
    return _NORMALISATIONS[text]


def _unit(text: str | None, said: Unit | None) -> Unit:
    if text is not None and text not in _UNITS:
        raise _invalid(f"'scale' must be one of {', '.join(_UNITS)}")
    unit = said if text is None else _UNITS[text]
    if unit is None:
        raise _invalid("it has no 'scale'; say whether its input is in mV or uV")
    if said is not None and said is not unit:
        raise _invalid(f"its 'scale' is {text}, not {said}")
    return unit


def _invalid(what: str) -> ModelRejected:
    return ModelRejected(ModelReason.INVALID_CARD, f"Its metadata cannot be used: {what}.")
