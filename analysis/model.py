"""The ONNX model package: a graph, its card, and the answers it must give.

One file holds the network, the card (:class:`analysis.card.Card`) and a self-test: ECGs as
recorded, in mV, with the probabilities expected of them. The self-test runs whenever a package
is loaded, through the recipe and the runtime, so that a changed filter, unit or lead order is
found like a changed weight. A package that fails any check is refused with a reason.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from scipy.special import expit, softmax

from analysis import package
from analysis.card import FEATURES_INPUT, Activation, Card
from analysis.ecg import ECG, Lead, Signal
from analysis.errors import ModelReason, ModelRejected
from analysis.features import Features, chosen, measure_features, names
from analysis.package import identify, open_session
from analysis.recipe import exactly, strict_json
from analysis.result import ModelIdentity
from analysis.standardise import standardise
from analysis.vetting import MAX_BYTES, too_large, vet

CARD_KEY: Final = "sinusnode.card"
SELF_TEST_KEY: Final = "sinusnode.self_test"
TOLERANCE: Final = 1e-4
"""Largest difference in probability between this machine and the one that packed the model."""
SHIPPED: Final = "twelve-lead.onnx"
ANY_LEAD: Final = "any-lead.onnx"
"""The shipped model for recordings of fewer leads."""

_MAX_CASES = 16
_MAX_SAMPLES = 2**20
_BATCH = 32

Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """A package that passed every check; made by :func:`load_model`."""

    card: Card
    identity: ModelIdentity
    size: int
    """Bytes of the package."""
    _session: onnxruntime.InferenceSession = field(repr=False)

    def probabilities(self, batch: Signal, features: Features | None = None) -> Probabilities:
        """Return the probability of each label, ``(n, labels)``.

        Parameters
        ----------
        batch
            ``(n, leads, samples)``, float32, in the form of ``card.recipe``.
        features
            ``(n, features)``, float32, those that the card names; NaN where one was not
            measured. None = nothing was measured, which a model that names some answers
            with the little that is left.

        Raises
        ------
        ValueError
            If the batch or the features have another shape or type.
        """
        wanted = (len(self.card.recipe.leads), self.card.recipe.samples)
        if batch.dtype != np.float32 or batch.shape != (len(batch), *wanted):
            raise ValueError(f"the model reads float32 (n, {wanted[0]}, {wanted[1]})")
        inputs = {self.card.input: batch} | self._measured(len(batch), features)
        parts = [
            self._session.run(
                [self.card.output],
                {name: values[at : at + _BATCH] for name, values in inputs.items()},
            )[0]
            for at in range(0, len(batch), _BATCH)
        ]
        outputs = np.concatenate([*parts, np.empty((0, len(self.card.labels)))])
        return np.asarray(_ACTIVATIONS[self.card.activation](outputs.astype(np.float64)))

    def _measured(self, count: int, features: Features | None) -> dict[str, Features]:
        """Return the graph's second input, where it has one."""
        wanted = (count, len(self.card.features))
        if features is None:
            features = np.full(wanted, np.nan, dtype=np.float32)
        if features.dtype != np.float32 or features.shape != wanted:
            raise ValueError(f"the model reads float32 features (n, {wanted[1]})")
        return {FEATURES_INPUT: features} if self.card.features else {}


_ACTIVATIONS: Mapping[Activation, Any] = {
    Activation.NONE: np.asarray,
    Activation.SIGMOID: expit,
    Activation.SOFTMAX: partial(softmax, axis=1),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Case:
    """One ECG of the self-test, with the answers expected."""

    leads: tuple[str, ...]
    sampling_frequency: float
    signal: str
    """Base64 of little-endian float32, ``(leads, samples)``, mV."""
    probabilities: tuple[tuple[float, ...], ...]
    """``(windows, labels)``."""

    @classmethod
    def of(cls, ecg: ECG, probabilities: Probabilities) -> Self:
        return cls(
            leads=tuple(ecg.leads),
            sampling_frequency=ecg.sampling_frequency,
            signal=base64.b64encode(ecg.signal.astype("<f4").tobytes()).decode(),
            probabilities=tuple(map(tuple, probabilities.tolist())),
        )

    def ecg(self) -> ECG:
        samples = np.frombuffer(base64.b64decode(self.signal, validate=True), "<f4")
        if not 0 < samples.size <= _MAX_SAMPLES:
            raise ValueError("an ECG of the self-test is empty or too long")
        return ECG(
            signal=samples.reshape(len(self.leads), -1),
            leads=tuple(Lead(lead) for lead in self.leads),
            sampling_frequency=self.sampling_frequency,
        )


def shipped_models() -> tuple[Model, ...]:
    """Return the shipped models, the 12-lead one first."""
    folder = resources.files("analysis").joinpath("models")
    return tuple(load_model(folder.joinpath(name).read_bytes()) for name in (SHIPPED, ANY_LEAD))


def load_model(source: Path | str | bytes | None = None) -> Model:
    """Return the model of a package, after every check and its self-test.

    Parameters
    ----------
    source
        Path or bytes of the package; None for the shipped 12-lead model.

    Raises
    ------
    ModelRejected
        If it is no valid package; ``reason`` says which check failed.
    """
    content = source if isinstance(source, bytes) else _read(source)
    proto = vet(content)
    metadata = package.metadata(proto, CARD_KEY)
    model = _open(content, proto, _card(metadata))
    _self_test(model, metadata)
    return model


def pack(content: bytes, card: Card, self_test: Sequence[ECG]) -> bytes:
    """Return the ONNX model as a package with this card and self-test.

    Parameters
    ----------
    content
        An ONNX file; other metadata in it is kept, an earlier card replaced.
    card
        The model's card.
    self_test
        ECGs that may be published; the answers expected are those the graph gives now.

    Raises
    ------
    ModelRejected
        If the package would be refused by :func:`load_model`.
    """
    proto = vet(content)
    model = _open(content, proto, card)
    cases = [_Case.of(ecg, _answers(model, ecg)) for ecg in self_test]
    kept = {item.key: item.value for item in proto.metadata_props}
    onnx.helper.set_model_props(
        proto,
        kept | {CARD_KEY: card.to_json(), SELF_TEST_KEY: json.dumps(list(map(asdict, cases)))},
    )
    packed: bytes = proto.SerializeToString(deterministic=True)
    load_model(packed)
    return packed


def _read(source: Path | str | None) -> bytes:
    if source is None:
        return resources.files("analysis").joinpath("models", SHIPPED).read_bytes()
    path = Path(source)
    try:
        if not path.is_file():
            raise ModelRejected(ModelReason.UNREADABLE, f"There is no file {path.name!r}.")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise too_large(size)
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ModelRejected(
            ModelReason.UNREADABLE, f"{path.name!r} cannot be read: {error.strerror}."
        ) from None


def _card(metadata: Mapping[str, str]) -> Card:
    try:
        return Card.from_json(metadata[CARD_KEY])
    except ValueError as error:
        raise ModelRejected(ModelReason.INVALID_CARD, f"The card is not valid: {error}.") from None


def _open(content: bytes, proto: Any, card: Card) -> Model:
    """Return the model in a runtime, once its graph fits its card."""
    _check_ends(proto.graph, card)
    session = open_session(content, proto)
    identity = identify(card.name, card.version, content)
    return Model(card=card, identity=identity, size=len(content), _session=session)


def _check_ends(graph: Any, card: Card) -> None:
    """Refuse a graph whose inputs and one output are not what the card says."""
    if unknown := sorted(set(card.features) - set(names())):
        raise ModelRejected(
            ModelReason.INVALID_CARD, f"The card names no known feature: {unknown[0][:64]!r}."
        )
    weights = {item.name for item in graph.initializer}
    inputs = {item.name: _shape(item) for item in graph.input if item.name not in weights}
    recipe = card.recipe
    wanted: dict[str, list[int | None]] = {
        card.input: [None, len(recipe.leads), recipe.samples],
        **({FEATURES_INPUT: [None, len(card.features)]} if card.features else {}),
    }
    if inputs != wanted:
        said = " and ".join(f"{name!r} {tuple(size[1:])}" for name, size in wanted.items())
        raise ModelRejected(
            ModelReason.WRONG_SHAPE,
            f"The inputs must be {said} for each ECG, float32 with a free batch.",
        )
    if [item.name for item in graph.output] != [card.output]:
        raise ModelRejected(ModelReason.WRONG_SHAPE, f"The output must be {card.output!r}.")


def _shape(value: Any) -> list[int | None] | None:
    """Return the sizes, None for a free one; None where it is no float32 tensor."""
    tensor = value.type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        return None
    return [item.dim_value if item.HasField("dim_value") else None for item in tensor.shape.dim]


def _self_test(model: Model, metadata: Mapping[str, str]) -> None:
    try:
        cases = [_Case(**exactly(_Case, item)) for item in _cases(metadata)]
        expected = [np.array(case.probabilities, dtype=np.float64) for case in cases]
        answers = [_answers(model, case.ecg()) for case in cases]
    except (ValueError, TypeError) as error:
        raise ModelRejected(
            ModelReason.SELF_TEST_FAILED, f"The self-test cannot be read: {error}."
        ) from None
    for answer, wanted in zip(answers, expected, strict=True):
        if answer.shape != wanted.shape or not (abs(answer - wanted) <= TOLERANCE).all():
            raise ModelRejected(
                ModelReason.SELF_TEST_FAILED,
                "The model does not give the answers that it was packed with.",
            )


def _cases(metadata: Mapping[str, str]) -> list[Any]:
    cases = strict_json(metadata.get(SELF_TEST_KEY, "[]"))
    if not isinstance(cases, list) or not 0 < len(cases) <= _MAX_CASES:
        raise ValueError(f"it needs 1 to {_MAX_CASES} ECGs")
    return cases


def _features(model: Model, ecg: ECG) -> Features:
    """Return the features that the model names, ``(1, features)``."""
    wanted = model.card.features
    return chosen(measure_features(ecg), wanted)[None] if wanted else np.empty((1, 0), np.float32)


def _answers(model: Model, ecg: ECG) -> Probabilities:
    """Return the probabilities of each window, once alone and once in one batch."""
    standard = standardise(ecg, model.card.recipe)
    if standard.unusable:
        raise ValueError(f"an ECG of the self-test does not fit the recipe: {standard.unusable}")
    windows = np.repeat(standard.windows, 2, axis=0)
    known = _features(model, ecg)
    try:
        together = model.probabilities(windows, np.repeat(known, len(windows), axis=0))[::2]
        alone = np.concatenate(
            [model.probabilities(window[None], known) for window in standard.windows]
        )
    except Exception:  # noqa: BLE001 - as in _open
        raise ModelRejected(ModelReason.WRONG_SHAPE, "The graph does not run.") from None
    if together.shape != (len(standard.windows), len(model.card.labels)):
        raise ModelRejected(
            ModelReason.WRONG_SHAPE, f"The output must be (batch, {len(model.card.labels)})."
        )
    if not ((together >= 0) & (together <= 1)).all():
        raise ModelRejected(ModelReason.NOT_FINITE, "An output is no probability.")
    if not (abs(together - alone) <= TOLERANCE).all():
        raise ModelRejected(ModelReason.WRONG_SHAPE, "One ECG of a batch changes another.")
    return together
