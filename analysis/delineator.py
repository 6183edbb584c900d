"""The learned delineator: an ONNX package that marks P, QRS and T on one beat of any leads.

It is held to the rules of :mod:`analysis.model`: vetted before any runtime sees it, with a card
and with beats whose marks it must give whenever it is loaded. Its answers are positions, not
findings; that is why its card is another one. Without a package that passes, marks are the
classical ones (:mod:`analysis.fiducials`).
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from analysis import package
from analysis.card import Source
from analysis.errors import ModelReason, ModelRejected
from analysis.package import identify, open_session
from analysis.recipe import exactly, strict_json
from analysis.result import FIDUCIAL_KINDS, ModelIdentity
from analysis.vetting import vet

CARD_KEY: Final = "sinusnode.delineator"
SELF_TEST_KEY: Final = "sinusnode.self_test"
TOLERANCE: Final = 0.05
"""Largest difference of a mark, in ms, between this machine and the one that packed it."""
SHIPPED: Final = "delineator.onnx"

SAMPLING_FREQUENCY: Final = 250.0
"""Hz, of a beat that is to be marked."""
BEFORE: Final = 114
"""Samples of it before the R peak."""
SAMPLES: Final = 304
"""Samples of it in all."""

INPUT: Final = "beat"
"""``(leads, SAMPLES)``, float32, mV."""
OUTPUTS: Final = ("marks", "p_wave")
"""``(leads + 1, 9)`` in samples, the last row of all leads together; ``(1,)``, 0 to 1."""

_QRS_ONSET = FIDUCIAL_KINDS.index("qrs_onset")
_MAX_CASES = 16

Beat = npt.NDArray[np.floating[Any]]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """How far the marks of one kind lay from those of the reference, in ms."""

    kind: str
    data: str
    mean: float
    deviation: float
    marks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a delineator says of itself.

    Parameters
    ----------
    name, version, created
        ``created`` is an ISO date.
    intended_use, limits
        For what; what it cannot do.
    p_threshold
        From which answer on there is a P wave.
    training_data, errors
        What it learned from, and how far off networks of the same making were on subjects
        that they had not seen.

    Raises
    ------
    ValueError
        If the schema or the threshold is unknown.
    """

    name: str
    version: str
    created: str
    intended_use: str
    limits: str
    p_threshold: float
    training_data: tuple[Source, ...]
    errors: tuple[Error, ...]
    schema: int = 1

    def __post_init__(self) -> None:
        if self.schema != 1:
            raise ValueError(f"schema {self.schema!r} is not 1")
        if not 0 < self.p_threshold < 1:
            raise ValueError("p_threshold must lie between 0 and 1")

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the card that :meth:`to_json` wrote. Raises ValueError on anything else."""
        document = dict(exactly(cls, strict_json(text)))
        try:
            for part, kind in _LISTS.items():
                document[part] = tuple(kind(**exactly(kind, item)) for item in document[part])
            return cls(**document)
        except TypeError as error:
            raise ValueError(f"a value has the wrong type: {error}") from None

    def to_json(self) -> str:
        """Return the canonical JSON form."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"), sort_keys=True)


_LISTS: Mapping[str, type[Any]] = {"training_data": Source, "errors": Error}


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The marks of one beat.

    Parameters
    ----------
    marks
        ``(leads + 1, 9)`` in samples of the beat given, in the order of
        :data:`~analysis.result.FIDUCIAL_KINDS` and of time; the last row is global.
    p_wave
        How sure it is that there is a P wave at all, 0 to 1.
    """

    marks: Array
    p_wave: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Delineator:
    """A package that passed every check; made by :func:`load_delineator`."""

    card: Card
    identity: ModelIdentity
    _session: onnxruntime.InferenceSession = field(repr=False)

    def mark(self, beat: Beat) -> Answer:
        """Return the marks of a beat.

        Parameters
        ----------
        beat
            ``(leads, SAMPLES)`` in mV at :data:`SAMPLING_FREQUENCY`, R at :data:`BEFORE`.

        Raises
        ------
        ValueError
            If it has another shape.
        """
        if not len(beat) or beat.shape != (len(beat), SAMPLES):
            raise ValueError(f"the delineator reads (leads, {SAMPLES})")
        marks, p_wave = self._session.run(OUTPUTS, {INPUT: np.asarray(beat, dtype=np.float32)})
        return Answer(_ordered(marks.astype(np.float64)), float(p_wave[0]))


def _ordered(marks: Array) -> Array:
    """Return the marks with none before or behind its neighbour, the QRS onset kept."""
    before = np.minimum.accumulate(marks[:, _QRS_ONSET::-1], axis=1)[:, ::-1]
    after = np.maximum.accumulate(marks[:, _QRS_ONSET:], axis=1)
    return np.concatenate([before, after[:, 1:]], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Case:
    """One beat of the self-test, with the answer expected."""

    leads: int
    beat: str
    """Base64 of little-endian float32, ``(leads, samples)``, mV."""
    marks: tuple[tuple[float, ...], ...]
    p_wave: float

    @classmethod
    def of(cls, beat: Beat, answer: Answer) -> Self:
        return cls(
            leads=len(beat),
            beat=base64.b64encode(beat.astype("<f4").tobytes()).decode(),
            marks=tuple(map(tuple, answer.marks.tolist())),
            p_wave=answer.p_wave,
        )

    def failed(self, delineator: Delineator) -> bool:
        """Return whether it answers otherwise."""
        samples = np.frombuffer(base64.b64decode(self.beat, validate=True), "<f4")
        answer = delineator.mark(samples.reshape(self.leads, -1))
        wanted = np.array(self.marks, dtype=np.float64)
        if answer.marks.shape != wanted.shape or len(wanted[0]) != len(FIDUCIAL_KINDS):
            return True
        near = abs(answer.marks - wanted) <= TOLERANCE * SAMPLING_FREQUENCY / 1000
        return not (near.all() and abs(answer.p_wave - self.p_wave) <= TOLERANCE)


def load_delineator(content: bytes | None = None) -> Delineator:
    """Return the delineator of a package, after every check and its self-test.

    Parameters
    ----------
    content
        The package; None for the shipped one.

    Raises
    ------
    ModelRejected
        If it is no valid package; ``reason`` says which check failed.
    """
    if content is None:
        content = resources.files("analysis").joinpath("models", SHIPPED).read_bytes()
    proto = vet(content)
    metadata = package.metadata(proto, CARD_KEY, SELF_TEST_KEY)
    delineator = _open(content, proto, _card(metadata))
    _self_test(delineator, metadata)
    return delineator


@cache
def shipped() -> Delineator | None:
    """Return the shipped delineator, once loaded; None where the installation has no sound one."""
    try:
        return load_delineator()
    except (ModelRejected, OSError):
        return None


def pack(content: bytes, card: Card, self_test: Sequence[Beat]) -> bytes:
    """Return the ONNX graph as a package with this card and self-test.

    Parameters
    ----------
    content
        An ONNX file.
    card
        What it says of itself.
    self_test
        Beats that may be published; the answers expected are those the graph gives now.

    Raises
    ------
    ModelRejected
        If the package would be refused by :func:`load_delineator`.
    """
    proto = vet(content)
    delineator = _open(content, proto, card)
    cases = [asdict(_Case.of(beat, delineator.mark(beat))) for beat in self_test]
    onnx.helper.set_model_props(proto, {CARD_KEY: card.to_json(), SELF_TEST_KEY: json.dumps(cases)})
    packed: bytes = proto.SerializeToString(deterministic=True)
    load_delineator(packed)
    return packed


def _card(metadata: Mapping[str, str]) -> Card:
    try:
        return Card.from_json(metadata[CARD_KEY])
    except ValueError as error:
        raise ModelRejected(ModelReason.INVALID_CARD, f"The card is not valid: {error}.") from None


def _open(content: bytes, proto: Any, card: Card) -> Delineator:
    """Return the delineator in a runtime, once its graph fits its card."""
    _check_ends(proto.graph)
    session = open_session(content, proto)
    identity = identify(card.name, card.version, content)
    return Delineator(card=card, identity=identity, _session=session)


def _check_ends(graph: Any) -> None:
    weights = {item.name for item in graph.initializer}
    inputs = [item for item in graph.input if item.name not in weights]
    sizes = [item.dim_value for item in inputs[0].type.tensor_type.shape.dim] if inputs else []
    if [item.name for item in inputs] != [INPUT] or sizes != [0, SAMPLES]:
        raise ModelRejected(
            ModelReason.WRONG_SHAPE,
            f"The input must be {INPUT!r}, float32 (leads, {SAMPLES}), with free leads.",
        )
    if tuple(item.name for item in graph.output) != OUTPUTS:
        raise ModelRejected(
            ModelReason.WRONG_SHAPE, f"The outputs must be {' and '.join(OUTPUTS)}."
        )


def _self_test(delineator: Delineator, metadata: Mapping[str, str]) -> None:
    try:
        failed = any(case.failed(delineator) for case in _cases(metadata))
    except Exception:  # noqa: BLE001 - what a stranger's text or graph does is not known before
        raise ModelRejected(ModelReason.SELF_TEST_FAILED, "The self-test cannot be run.") from None
    if failed:
        raise ModelRejected(
            ModelReason.SELF_TEST_FAILED,
            "The delineator does not give the marks that it was packed with.",
        )


def _cases(metadata: Mapping[str, str]) -> list[_Case]:
    cases = strict_json(metadata[SELF_TEST_KEY])
    if not isinstance(cases, list) or not 0 < len(cases) <= _MAX_CASES:
        raise ValueError(f"it needs 1 to {_MAX_CASES} beats")
    return [_Case(**exactly(_Case, case)) for case in cases]
