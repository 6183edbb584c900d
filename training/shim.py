"""Make ``import torchvision`` work beside a CPU build of torch; onnx2torch and lightning need it.

The usual torchvision wheel holds a library for CUDA. Next to a CPU torch it does not load, and
the import fails for want of two operators, which nobody here calls. Then they are declared.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import library as operators

_NAMES = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@cache
def prepare_torchvision() -> None:
    """Declare, once, what torchvision's library would have brought, where it cannot be loaded."""
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None or _loads(Path(spec.origin).parent):
        return
    for name in _NAMES:
        operators.define(f"torchvision::{name}", _SCHEMA)


def _loads(folder: Path) -> bool:
    for path in folder.glob("_C*"):
        try:
            torch.ops.load_library(path)  # type: ignore[no-untyped-call]
        except OSError:
            continue
        return True
    return False
