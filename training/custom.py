"""Any PyTorch module as a net, by its import path, with weights as safetensors.

Importing a module runs its code. So a path must be on a list that a person wrote: the command
line's own argument, or the settings. No request over the network may name one.
"""

from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from training.architectures import Net
from training.convert import Imported, to_onnx, to_torch


def load_module(
    path: str, *, allowed: Collection[str], weights: Path | None = None, **options: Any
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

    Raises
    ------
    PermissionError
        If the path is not allowed. Nothing is imported then.
    ValueError
        If there is no such module, or the weights are not its own.
    """
    if path not in allowed:
        raise PermissionError(f"{path!r} is not on the list of modules that may be loaded.")
    module = _make(path, options)
    if weights is not None:
        _fill(module, weights)
    return module


def as_net(module: nn.Module, *, leads: int, samples: int) -> Net | Imported:
    """Return the module with a backbone and a named head; one that has none goes by ONNX."""
    if isinstance(module, Net | Imported):
        return module
    return to_torch(to_onnx(module, leads=leads, samples=samples))


def _make(path: str, options: dict[str, Any]) -> nn.Module:
    package, _, name = path.partition(":")
    try:
        made = getattr(import_module(package), name)(**options)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
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
