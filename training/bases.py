"""What a run starts from: an architecture by its name, or a net that has learned already.

A package brings its card: recipe, keys and digest. An ONNX file of ExChanGeAI says its recipe in
its own way, and so does a module that :mod:`training.custom` wrote; any other file without a card
takes the recipe that the plan states. A checkpoint of ECGFounder is known by its suffix.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any, Final

import torch

from analysis.card import FEATURES_INPUT, Card
from analysis.errors import ModelReason, ModelRejected
from analysis.model import CARD_KEY, SHIPPED
from analysis.recipe import Recipe, strict_json
from analysis.vetting import parse
from dicom_node.models import ModelStore
from training import ecgfounder, exchangeai
from training.architectures import ARCHITECTURES, Net, build, initialise
from training.branches import ecg_branch
from training.calibrate import without_calibration
from training.cards import ACTIVATIONS
from training.convert import Imported, NotTheSame, replace_head, to_torch
from training.custom import RECIPE_KEY
from training.plan import CURRENT, RECIPE, Mode, Plan
from training.prepare import CannotTrain

CHECKPOINTS: Final = frozenset({".pt", ".pth", ".ckpt", ".safetensors"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Base:
    """Where a run starts."""

    net: Net | Imported
    """Its head is still the one that it came with."""
    recipe: Recipe
    """The form of its input."""
    name: str
    """As people read it."""
    digest: str | None = None
    """SHA-256 of its file; None for an architecture."""
    card: Card | None = None


def open_base(plan: Plan, store: ModelStore | None = None) -> Base:
    """Return what a plan starts from.

    Parameters
    ----------
    store
        The registry, for a base that is named by its digest, or "current".

    Raises
    ------
    CannotTrain
        If there is no such base, it cannot be trained, or it does not fit the plan.
    """
    if plan.base in ARCHITECTURES:
        return _architecture(plan)
    try:
        return _learned(plan, *read_base(plan.base, store))
    except (ModelRejected, NotTheSame) as error:
        raise CannotTrain(f"The base {plan.base} cannot be trained: {_sentence(error)}") from None


def net_of(base: Base, plan: Plan) -> Net | Imported:
    """Return the net of a base with the head that the plan's mode asks for.

    Raises
    ------
    CannotTrain
        If the plan continues a model of other findings.
    """
    if plan.mode is Mode.CONTINUE:
        check_same(base, plan)
        return base.net
    if plan.mode is Mode.SCRATCH:
        torch.manual_seed(plan.seed)
        initialise(base.net)
    torch.manual_seed(plan.seed)
    replace_head(base.net, len(plan.keys))
    return base.net


def check_same(base: Base, plan: Plan) -> None:
    """Raise CannotTrain unless the base finds what the plan asks for, in the same order."""
    if base.card is None:
        raise CannotTrain(f"{base.name} has no card that says what it finds: begin a new head.")
    if base.card.features:
        raise CannotTrain(f"{base.name} reads measurements beside the ECG: begin a new head.")
    keys = tuple(label.key for label in base.card.labels)
    if keys != plan.keys or base.card.activation is not ACTIVATIONS[plan.task]:
        raise CannotTrain(
            f"{base.name} finds {', '.join(keys)} ({base.card.activation}), and the plan asks for"
            f" {', '.join(plan.keys)} ({plan.task}): only the same is continued."
        )


def _architecture(plan: Plan) -> Base:
    if plan.mode is not Mode.SCRATCH:
        raise CannotTrain(
            f"{plan.base} is an architecture and has learned nothing: for the mode {plan.mode},"
            " name a package, its digest, or current as base."
        )
    torch.manual_seed(plan.seed)
    net = build(plan.base, leads=len(plan.recipe.leads), outputs=len(plan.keys))
    return Base(net=net, recipe=plan.recipe, name=plan.base)


def read_base(base: str, store: ModelStore | None) -> tuple[bytes, str]:
    """Return the bytes of what a base names, and its suffix. Raises CannotTrain if nothing is."""
    path = Path(base)
    if path.is_file():
        return path.read_bytes(), path.suffix.lower()
    if base == CURRENT:
        return _current(store), ".onnx"
    known = ", ".join((*ARCHITECTURES, CURRENT))
    absent = f"There is no base {base}: it is no file and none of {known}."
    if store is None:
        raise CannotTrain(absent)
    try:
        return store.path(store.resolve(base)).read_bytes(), ".onnx"
    except LookupError as error:
        raise CannotTrain(f"{absent} {error.args[0]}") from None


def _current(store: ModelStore | None) -> bytes:
    digests = store.current() if store else ()
    if store is None or not digests:
        return resources.files("analysis").joinpath("models", SHIPPED).read_bytes()
    return store.path(digests[0]).read_bytes()


def _learned(plan: Plan, content: bytes, suffix: str) -> Base:
    digest = sha256(content).hexdigest()
    if suffix in CHECKPOINTS:
        return _founder(plan, digest)
    card, recipe = _stated(plan, content)
    if card and card.features:
        content = ecg_branch(content, card.input, FEATURES_INPUT)
    net = without_calibration(to_torch(content))
    if not isinstance(net, Imported):
        raise TypeError("a converted graph is no imported net")
    name = f"{card.name} {card.version}" if card else Path(plan.base).name
    return Base(net=net, recipe=recipe, name=name, digest=digest, card=card)


def _founder(plan: Plan, digest: str) -> Base:
    try:
        net = ecgfounder.load_net(ecgfounder.read_checkpoint(Path(plan.base)))
    except ValueError as error:
        raise CannotTrain(f"The base {plan.base} cannot be used: {error}") from None
    leads = net.get_parameter("backbone.first_conv.conv.weight").shape[1]
    return Base(net=net, recipe=ecgfounder.recipe(leads), name=ecgfounder.NAME, digest=digest)


def _stated(plan: Plan, content: bytes) -> tuple[Card | None, Recipe]:
    """Return the card of a file, and the recipe that it or, for want of one, the plan states."""
    model = parse(content)
    properties = {item.key: item.value for item in model.metadata_props}
    if CARD_KEY in properties:
        card = _card(properties)
        return card, card.recipe
    if RECIPE_KEY in properties:
        return None, _fitting(_recipe(properties), model)
    said = plan.recipe if plan.recipe != RECIPE else None
    if "target_keys" in properties:
        described = exchangeai.describe(content, unit=said.unit if said else None)
        return None, described.recipe
    if said is None:
        raise ModelRejected(
            ModelReason.NO_CARD, "it has no card; state the recipe of its input in the plan."
        )
    return None, _fitting(said, model)


def _card(properties: Mapping[str, str]) -> Card:
    try:
        return Card.from_json(properties[CARD_KEY])
    except ValueError as error:
        raise ModelRejected(ModelReason.INVALID_CARD, f"its card is not valid: {error}.") from None


def _recipe(properties: Mapping[str, str]) -> Recipe:
    try:
        return Recipe.from_mapping(strict_json(properties[RECIPE_KEY]))
    except (ValueError, TypeError) as error:
        raise ModelRejected(
            ModelReason.INVALID_CARD, f"its recipe is not valid: {error}."
        ) from None


def _fitting(recipe: Recipe, model: Any) -> Recipe:
    """Return the recipe if the graph reads what it makes."""
    sizes = [item.dim_value for item in model.graph.input[0].type.tensor_type.shape.dim]
    if sizes[1:] != [len(recipe.leads), recipe.samples]:
        raise ModelRejected(
            ModelReason.WRONG_SHAPE,
            f"it reads {sizes[1:]} leads and samples, and the recipe makes"
            f" {[len(recipe.leads), recipe.samples]}.",
        )
    return recipe


def _sentence(error: Exception) -> str:
    return error.message if isinstance(error, ModelRejected) else str(error)
