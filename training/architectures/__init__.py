"""The networks that can be trained, all made by one call and used through one shape.

Each is a :class:`Net`: ``.embed(waveform)`` gives ``(batch, width)``, ``.head`` turns that into
logits, ``.backbone`` is everything before. Any number of leads and of samples will do.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import torch

from training.architectures.cost import Cost, cost
from training.architectures.inceptiontime import inceptiontime
from training.architectures.net import Net, initialise, linear_head
from training.architectures.net1d import net1d
from training.architectures.se_wide_resnet import se_wide_resnet
from training.architectures.xceptiontime import xceptiontime
from training.architectures.xresnet1d import xresnet1d

__all__ = ["ARCHITECTURES", "Cost", "Net", "build", "cost", "initialise", "linear_head"]

ARCHITECTURES: Final[Mapping[str, Callable[..., Net]]] = MappingProxyType(
    {
        "inceptiontime": inceptiontime,
        "net1d": net1d,
        "se-wide-resnet": se_wide_resnet,
        "xceptiontime": xceptiontime,
        "xresnet1d": xresnet1d,
    }
)
"""How each is made, by the name that commands and cards use."""


def build(name: str, *, leads: int, outputs: int, features: int = 0, **options: Any) -> Net:
    """Return a net with fresh weights, drawn from torch's generator.

    Parameters
    ----------
    name
        A key of ``ARCHITECTURES``.
    leads, outputs
        Rows of the waveform; number of logits.
    features
        Measurements beside the waveform.
    options
        The architecture's own; see its module.

    Raises
    ------
    ValueError
        If there is no such architecture, or it has no such option.
    """
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"There is no architecture {name!r}; there are {known}.")
    try:
        net = ARCHITECTURES[name](leads=leads, outputs=outputs, features=features, **options)
    except TypeError:
        raise ValueError(f"{name} has no option among {', '.join(sorted(options))}.") from None
    initialise(net)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
