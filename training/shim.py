"""Make ``import torchvision`` work beside a CPU build of torch; onnx2torch and lightning need it.

The usual torchvision wheel holds a library for CUDA. Next to a CPU torch it does not load, and
the import fails for want of two operators, which nobody here calls. Then they are declared.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import library as operators

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_kept: list[operators.Library] = []  # collected, one would take its operators along


def prepare_torchvision() -> None:
    """Declare what torchvision's library would have brought, where it cannot be loaded."""
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None or _kept or _loads(Path(spec.origin).parent):
        return
    declared = operators.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS.values():
        declared.define(schema)  # type: ignore[no-untyped-call]
    _kept.append(declared)


def _loads(folder: Path) -> bool:
    for path in folder.glob("_C*"):
        try:
            torch.ops.load_library(path)  # type: ignore[no-untyped-call]
        except OSError:
            continue
        return True
    return False
