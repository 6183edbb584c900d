"""ECGFounder's published weights (Li 2025, NEJM AI 2:AIoa2401033) as a net and as a package.

The release is a checkpoint of Net1D for twelve leads and one for lead I, each with 150 outputs.
Its tensors are taken by name. A package reports what :mod:`training.ecgfounder_tasks` allows;
where several outputs mean one finding, the largest of them speaks for it.
"""

import codecs
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from analysis.card import Activation, Card, Label, Source
from analysis.ecg import ECG, STANDARD_12, Lead
from analysis.recipe import Normalisation, Recipe
from analysis.standardise import standardise
from training.architectures import Net, build
from training.convert import INPUT, OUTPUT
from training.ecgfounder_tasks import TASKS
from training.publish import Package, publish

NAME: Final = "ECGFounder"
_LEADS: Mapping[int, tuple[Lead, ...]] = {12: STANDARD_12, 1: (Lead.I,)}
_STEM = "first_conv.conv.weight"
_HEAD = "dense"

_SCALAR = np.float64(0).__reduce__()[0]
_PLAIN: list[Any] = [
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i8")),
    np.dtype,
    codecs.encode,
]
"""Besides tensors: numbers of numpy, which checkpoints hold for their score."""

INTENDED_USE: Final = (
    "Research use. A second reader for resting ECGs of adults; a physician reviews every finding. "
    "It is no alarm and triggers no treatment."
)
LIMITS: Final = (
    "Of its 150 outputs only those that name one coded finding of one tracing are reported; the "
    "others compare with tracings that it does not see, are parts of sentences, or have no code. "
    "Its authors published three different preparations of the signal; this one takes the pass "
    "band of their code, without their 50 Hz notch and their median filter of 0.4 s, so that "
    "their figures do not carry over. Thresholds and calibration must be fitted on site."
)
PURPOSE: Final = "None: 0.5 throughout, for the release has no thresholds. Fit them before use."


class Reported(nn.Module):
    """The outputs that may be reported, one for each key."""

    def __init__(self, net: Net, outputs: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.net = net
        self.outputs = [list(group) for group in outputs]

    def forward(self, waveform: Tensor) -> Tensor:
        """Return logits, ``(batch, keys)``."""
        logits = self.net(waveform)
        return torch.stack([logits[:, group].amax(dim=1) for group in self.outputs], dim=1)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, by name.

    Parameters
    ----------
    path
        A safetensors file, or one of ``torch.save``, of which nothing but tensors is read.

    Raises
    ------
    ValueError
        If it holds anything else.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with torch.serialization.safe_globals(_PLAIN):
            document = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, UnpicklingError, RuntimeError, EOFError, ValueError):
        raise ValueError(f"{path.name!r} is no checkpoint of tensors alone.") from None
    tensors = document.get("state_dict", document) if isinstance(document, dict) else {}
    if not tensors or not all(isinstance(item, Tensor) for item in tensors.values()):
        raise ValueError(f"{path.name!r} holds no state dict.")
    return {name.removeprefix("module."): item for name, item in tensors.items()}


def load_net(tensors: Mapping[str, Tensor]) -> Net:
    """Return Net1D with these weights, every tensor taken by its name.

    BatchNorm tensors of the checkpoint must fit and are left aside: its forward pass never used
    them. Twelve leads or one, and the number of outputs, follow from the shapes.

    Raises
    ------
    ValueError
        If a tensor is absent, unknown, or of another shape.
    """
    leads, outputs = _ends(tensors)
    with torch.device("meta"):
        published = build("net1d", leads=leads, outputs=outputs, norm=True).state_dict()
    given = {_our_name(name): item for name, item in tensors.items()}
    wrong = sorted(published.keys() ^ given.keys())
    wrong += [name for name in published.keys() & given.keys()
              if published[name].shape != given[name].shape]  # fmt: skip
    if wrong:
        raise ValueError(f"These tensors are not ECGFounder's: {', '.join(wrong[:5])}.")
    net = build("net1d", leads=leads, outputs=outputs)
    net.load_state_dict({name: given[name] for name in net.state_dict()})
    return net.eval()


def recipe(leads: int) -> Recipe:
    """Return how a tracing is prepared: 10 s at 500 Hz, 0.67 to 40 Hz, one z-score for all."""
    return Recipe(
        sampling_frequency=500.0,
        samples=5000,
        leads=_LEADS[leads],
        stride=5000,
        minimum_seconds=5.0,
        high_pass=0.67,
        low_pass=40.0,
        normalisation=Normalisation.RECORDING,
    )


def card(leads: int, *, version: str, created: str, thresholds: Mapping[str, float]) -> Card:
    """Return the card of the reported findings; a key without a threshold has 0.5."""
    return Card(
        name=f"{NAME} {leads}-lead",
        version=version,
        created=created,
        intended_use=INTENDED_USE,
        limits=LIMITS,
        input=INPUT,
        output=OUTPUT,
        recipe=recipe(leads),
        activation=Activation.SIGMOID,
        labels=tuple(Label.of(key, thresholds.get(key, 0.5)) for key in groups()),
        threshold_purpose="As given by who packed it." if thresholds else PURPOSE,
        minimum_age=18.0,
        training_data=(
            Source(
                name="HEEDB, development part",
                records=7_519_035,
                licence="not public; weights as their release says",
                citation="Li J et al., NEJM AI 2025;2(7):AIoa2401033; arXiv 2410.04133",
            ),
        ),
        metrics=(),
    )


def groups() -> dict[str, tuple[int, ...]]:
    """Return the outputs that speak for each key that may be reported."""
    found: dict[str, tuple[int, ...]] = {}
    for index, task in enumerate(TASKS):
        if task.key is not None:
            found[task.key] = (*found.get(task.key, ()), index)
    return found


def to_package(
    net: Net,
    ecgs: Sequence[ECG],
    *,
    version: str,
    created: str,
    thresholds: Mapping[str, float] | None = None,
) -> Package:
    """Return ECGFounder as a package that reports what may be reported.

    Parameters
    ----------
    net
        Of :func:`load_net`, with its 150 outputs.
    ecgs
        ECGs that may be published: for parity and for the self-test.
    version, created
        For the card.
    thresholds
        By key.

    Raises
    ------
    ValueError
        If the net has other outputs than the release.
    """
    if net.head.out_features != len(TASKS):
        raise ValueError(f"The release has {len(TASKS)} outputs, not {net.head.out_features}.")
    leads = net.get_parameter(f"backbone.{_STEM}").shape[1]
    written = card(leads, version=version, created=created, thresholds=thresholds or {})
    windows = [standardise(ecg, written.recipe).windows for ecg in ecgs]
    return publish(
        Reported(net, list(groups().values())),
        written,
        waveforms=np.concatenate(windows),
        self_test=ecgs,
    )


def _ends(tensors: Mapping[str, Any]) -> tuple[int, int]:
    try:
        leads, outputs = tensors[_STEM].shape[1], tensors[f"{_HEAD}.weight"].shape[0]
    except (KeyError, IndexError):
        raise ValueError("It has no stem and head of ECGFounder's names.") from None
    if leads not in _LEADS:
        raise ValueError(f"ECGFounder reads twelve leads or one, not {leads}.")
    return leads, outputs


def _our_name(name: str) -> str:
    part, _, rest = name.partition(".")
    return f"head.{rest}" if part == _HEAD else f"backbone.{name}"
