"""The registry as those use it who train: foreign models get a card, withdrawals are marked.

What the node needs of it is :mod:`dicom_node.models`; here is what only this side knows.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from analysis.card import Card
from analysis.model import pack
from analysis.recipe import Unit
from analysis.synthetic import Kind, simulate
from analysis.vetting import parse
from dicom_node.examine import apart
from dicom_node.models import ModelStore
from dicom_node.operate import opened
from dicom_node.settings import Settings
from training.exchangeai import describe

CORPUS: Final = "corpus"
"""In the data folder, where the settings of the node lie beside those of the corpus."""

_ADULT: Final = 18.0
_INTENDED_USE: Final = (
    "Research use. A second reader for resting ECGs of adults; a physician reviews every finding."
)
_NOT_A_WORD: Final = re.compile(r"[^A-Za-z0-9 ._+-]+")


@contextmanager
def registry(settings: Settings, now: float) -> Iterator[ModelStore]:
    """Yield the registry of an installation, withdrawals marked; packages are examined apart."""
    with opened(settings) as ledger:
        store = ModelStore(settings.storage.folder / "models", ledger, apart)
        mark_withdrawals(store, now, settings.storage.folder / CORPUS)
        yield store


def mark_withdrawals(store: ModelStore, now: float, *corpora: Path) -> None:
    """Mark every model that learned from a recording whose patient withdrew since.

    Parameters
    ----------
    store
        The registry.
    now
        UTC, seconds since the epoch.
    corpora
        Folders to ask, beside those that the models' evidence names; what is no corpus is
        passed over.
    """
    from training.corpus import INDEX, Corpus  # noqa: PLC0415 - the models' commands start fast

    named = [store.evidence(entry.digest).get("corpus") for entry in store.list()]
    folders = {*corpora, *(Path(name) for name in named if isinstance(name, str))}
    withdrawn: dict[str, int] = {}
    for folder in sorted({item.resolve() for item in folders if (item / INDEX).is_file()}):
        for learner in Corpus(folder).learners:
            withdrawn[learner.model] = withdrawn.get(learner.model, 0) + learner.withdrawn
    store.mark_withdrawn({digest: count for digest, count in withdrawn.items() if count}, now)


@dataclass(frozen=True, slots=True)
class Adopted:
    """A foreign model as a package."""

    content: bytes
    unknown: tuple[str, ...]
    """What its file does not say, one sentence each; its card says so too."""


def adopt(content: bytes, *, name: str, created: str, unit: Unit | None = None) -> Adopted:
    """Return an ExChanGeAI model as a package whose card says what the file says, and no more.

    Parameters
    ----------
    content
        The ONNX file.
    name
        What to call it; characters that a card does not take are left out.
    created
        ISO date.
    unit
        Of its input, where the file does not say.

    Raises
    ------
    analysis.ModelRejected
        If it is no model of ExChanGeAI's form, or may not be run.
    ValueError
        If an output is no finding: such a model can be trained on, and not be packed.
    """
    described = describe(content, unit=unit)
    graph = parse(content).graph
    weights = {item.name for item in graph.initializer}
    card = Card(
        name=_NOT_A_WORD.sub(" ", name).strip(" ._+-")[:64] or "foreign",
        version=sha256(content).hexdigest()[:12],
        created=created,
        intended_use=_INTENDED_USE,
        limits=" ".join(("Unknown:", *described.unknown)),
        input=next(item.name for item in graph.input if item.name not in weights),
        output=graph.output[0].name,
        recipe=described.recipe,
        activation=described.activation,
        labels=described.labels,
        threshold_purpose="None: 0.5 throughout. Fit them before use.",
        minimum_age=_ADULT,
        training_data=(),
        metrics=(),
    )
    return Adopted(pack(content, card, [simulate(Kind.SINUS).ecg]), described.unknown)
