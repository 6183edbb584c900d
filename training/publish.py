"""A trained net as a package: the one format that the node loads, and only if it is the same net.

Every version is another device: its Device UID comes from the digest of the package, card
included, as the node derives it for its reports.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from analysis.card import Activation, Card
from analysis.ecg import ECG
from analysis.model import pack
from dicom_node.report.uids import device_uid
from training.convert import TOLERANCE, Array, Decide, Parity, parity, to_onnx


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A model package and what was found while it was made."""

    content: bytes
    digest: str
    """SHA-256 of the content, hexadecimal."""
    device_uid: str
    """Device UID (0018,1002) of this version."""
    parity: Parity


def publish(
    net: nn.Module,
    card: Card,
    *,
    waveforms: Array,
    self_test: Sequence[ECG],
    tolerance: float = TOLERANCE,
) -> Package:
    """Return the net as a package, after torch and the runtime agreed on every decision.

    Parameters
    ----------
    net
        Its outputs are those of ``card.labels``, before ``card.activation``.
    card
        Its recipe says how long the input is, its thresholds what is a decision; its input and
        output are called ``waveform`` and ``logits``.
    waveforms
        ``(records, leads, samples)`` in the form of the recipe, on which both must agree.
    self_test
        ECGs that may be published.

    Raises
    ------
    training.convert.NotTheSame
        If torch and the runtime differ.
    analysis.ModelRejected
        If the package would be refused by the node.
    """
    recipe = card.recipe
    at_rest = copy.deepcopy(net).cpu().eval()
    content = to_onnx(at_rest, leads=len(recipe.leads), samples=recipe.samples)
    found = parity(at_rest, content, waveforms, decide=decisions(card), tolerance=tolerance)
    packed = pack(content, card, self_test)
    digest = sha256(packed).hexdigest()
    return Package(content=packed, digest=digest, device_uid=device_uid(digest), parity=found)


def decisions(card: Card) -> Decide:
    """Return what turns logits into findings that count as present, by the card's thresholds."""
    thresholds = torch.tensor([label.threshold for label in card.labels])

    def decide(logits: Array) -> npt.NDArray[np.bool_]:
        outputs = torch.from_numpy(logits)
        if card.activation is Activation.SIGMOID:
            outputs = outputs.sigmoid()
        elif card.activation is Activation.SOFTMAX:
            outputs = outputs.softmax(dim=1)
        return np.asarray((outputs >= thresholds).numpy())

    return decide
