"""What every ONNX package shares: its metadata, its runtime, its identity.

A package is one ONNX file that carries its card and its self-test. What kind of card and what
test is the affair of :mod:`analysis.model` and :mod:`analysis.delineator`.
"""

from collections.abc import Mapping
from hashlib import sha256
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Final

import onnx
import onnxruntime

from analysis.errors import ModelReason, ModelRejected
from analysis.result import ModelIdentity
from analysis.vetting import bound_sizes, fields

_METADATA: Final = onnx.ModelProto.METADATA_PROPS_FIELD_NUMBER
MAX_METADATA: Final = 2**23
"""Bytes of card and self-test together."""


def metadata(proto: Any, *needed: str) -> Mapping[str, str]:
    """Return the metadata of a vetted graph, by key.

    Raises
    ------
    ModelRejected
        NO_CARD where a needed key is absent, INVALID_CARD where one stands twice, TOO_LARGE.
    """
    keys = [item.key for item in proto.metadata_props]
    for key in needed:
        if key not in keys:
            raise ModelRejected(
                ModelReason.NO_CARD, f"The model has no card: metadata key {key!r} is absent."
            )
    if len(set(keys)) != len(keys):
        raise ModelRejected(ModelReason.INVALID_CARD, "A metadata key stands twice.")
    if sum(len(item.value) for item in proto.metadata_props) > MAX_METADATA:
        raise ModelRejected(ModelReason.TOO_LARGE, "Its metadata is too large.")
    return {item.key: item.value for item in proto.metadata_props}


def without_graph(path: Path) -> Any:
    """Return an installed model with its metadata alone; the rest of a large file is not read.

    Raises
    ------
    ValueError, LookupError
        If it is no model.
    """
    with (
        path.open("rb") as file,
        mmap(file.fileno(), 0, access=ACCESS_READ) as whole,
        memoryview(whole) as view,
    ):
        entries = [bytes(view[a:b]) for number, a, b in fields(view) if number == _METADATA]
    try:
        kept = [onnx.StringStringEntryProto.FromString(entry) for entry in entries]
    except Exception:  # noqa: BLE001 - the parser's own class of error is not public
        raise ValueError("its metadata is damaged") from None
    return onnx.ModelProto(metadata_props=kept)


def open_session(content: bytes, proto: Any) -> onnxruntime.InferenceSession:
    """Return the vetted graph in a runtime: one thread, from these bytes, as ONNX and as no other.

    Raises
    ------
    ModelRejected
        TOO_LARGE where a tensor would be, UNREADABLE where the runtime refuses the graph.
    """
    bound_sizes(proto)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - the runtime's classes of error share no public parent
        raise ModelRejected(
            ModelReason.UNREADABLE, "The runtime does not accept the graph."
        ) from None


def identify(name: str, version: str, content: bytes) -> ModelIdentity:
    """Return the identity of a package: what its card says, and the digest of its bytes."""
    return ModelIdentity(name=name, version=version, digest=sha256(content).hexdigest())
