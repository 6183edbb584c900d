"""Any PyTorch module as a net, by its import path, with weights as safetensors.

Importing a module runs its code. So a path must be on a list that a person wrote: the command
line's own argument, or the settings. No request over the network may name one.
"""

import json
from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from analysis.recipe import Recipe
from analysis.vetting import parse
from training.architectures import Net
from training.convert import Imported, to_onnx, to_torch

RECIPE_KEY: Final = "sinusnode.recipe"
"""Of the metadata of an ONNX file without a card: the recipe of its input, JSON."""


def load_module(
    path: str,
    *,
    allowed: Collection[str],
    weights: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Return the module that ``package.module:Name`` makes of the options, with its weights.

    Parameters
    ----------
    path
        Where it is imported from.
    allowed
        Paths that may be imported, each as a whole.
    weights
        A safetensors file that holds every tensor of the module and no other.
    options
        Arguments by keyword.

    Raises
    ------
    PermissionError
        If the path is not allowed. Nothing is imported then.
    ValueError
        If there is no such module, or the weights are not its own.
    """
    if path not in allowed:
        raise PermissionError(f"{path!r} is not on the list of modules that may be loaded.")
    module = _make(path, options or {})
    if weights is not None:
        _fill(module, weights)
    return module


def as_net(module: nn.Module, *, leads: int, samples: int) -> Net | Imported:
    """Return the module with a backbone and a named head; one that has none goes by ONNX."""
    if isinstance(module, Net | Imported):
        return module
    return to_torch(to_onnx(module, leads=leads, samples=samples))


def as_base(module: nn.Module, recipe: Recipe) -> bytes:
    """Return the module as an ONNX file that a plan can name as its base.

    Parameters
    ----------
    recipe
        The form of its input, which the file states.

    Raises
    ------
    ValueError
        If the module fails on such an input, or torch cannot export it.
    analysis.errors.ModelRejected
        If it cannot be trained once it is exported.
    training.convert.NotTheSame
        If the runtime gives other logits than torch.
    """
    leads, samples = len(recipe.leads), recipe.samples
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(2, leads, samples))
    except Exception as error:  # noqa: BLE001 - code of others raises what it likes
        raise ValueError(f"It fails on an input of {(2, leads, samples)}: {error}") from None
    content = to_onnx(module, leads=leads, samples=samples)
    to_torch(content)
    model = parse(content)
    stated = model.metadata_props.add()
    stated.key, stated.value = RECIPE_KEY, json.dumps(recipe.to_mapping())
    written: bytes = model.SerializeToString(deterministic=True)
    return written


def _make(path: str, options: Mapping[str, Any]) -> nn.Module:
    package, _, name = path.partition(":")
    try:
        made = getattr(import_module(package), name)(**options)
    except Exception as error:  # noqa: BLE001 - code of others raises what it likes
        raise ValueError(f"{path!r} gives no module: {error}") from None
    if not isinstance(made, nn.Module):
        raise ValueError(f"{path!r} gives no torch module.")  # noqa: TRY004 - bad input, no bug
    return made


def _fill(module: nn.Module, weights: Path) -> None:
    try:
        tensors = load_file(weights)
    except (OSError, SafetensorError):
        raise ValueError(f"{weights.name!r} is no safetensors file.") from None
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{weights.name!r} holds other weights: {error}") from None
