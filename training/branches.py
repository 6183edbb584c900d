"""The branch of a graph that hears the ECG alone, where measurements stand beside the ECG.

Such a model can be learned from as any other: its net becomes the backbone, and what it made of
the measurements is left behind with its head.
"""

from typing import Any

import onnx
from onnx import TensorProto, helper

from analysis.errors import ModelReason, ModelRejected
from analysis.vetting import vet


def ecg_branch(content: bytes, entry: str, beside: str) -> bytes:
    """Return the part of an ONNX model that depends on its input ``entry`` and not on ``beside``.

    Parameters
    ----------
    content
        The model.
    entry, beside
        Names of the inputs: the ECG, and what stands beside it.

    Raises
    ------
    analysis.ModelRejected
        As :func:`analysis.vetting.vet`; WRONG_SHAPE unless the two meet in one place, and what
        the ECG alone gives there is one tensor.
    """
    graph = vet(content).graph
    heard, mixed = _depending(graph, entry), _depending(graph, beside)
    alone = heard - mixed
    meeting = {
        name
        for node in graph.node
        if mixed.intersection(node.output)
        for name in alone.intersection(node.input)
    }
    if len(meeting) != 1:
        raise ModelRejected(
            ModelReason.WRONG_SHAPE,
            "What it hears in the ECG cannot be told from what it makes of measurements.",
        )
    (end,) = meeting
    return _part(content, entry, _first_layer(graph, end))


def _first_layer(graph: Any, end: str) -> str:
    """Return what the first of several linear layers in a row gives, if such stand before."""
    makers = {name: node for node in graph.node for name in node.output}
    node = makers.get(end)
    while node is not None and node.op_type in _LINEAR:
        end, node = node.output[0], makers.get(node.input[0])
    return end


_LINEAR = frozenset({"Gemm", "MatMul"})


def _depending(graph: Any, entry: str) -> set[str]:
    """Return every tensor that depends on an input; the nodes are in their order."""
    found = {entry}
    for node in graph.node:
        if found.intersection(node.input):
            found.update(node.output)
    return found


def _part(content: bytes, entry: str, end: str) -> bytes:
    """Return the model from one tensor to another."""
    model = onnx.load_model_from_string(content)
    wanted = {end}
    nodes = []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            nodes.append(node)
    part = helper.make_model(
        helper.make_graph(
            nodes[::-1],
            "ecg",
            [item for item in model.graph.input if item.name == entry],
            [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["batch", None])],
            [item for item in model.graph.initializer if item.name in wanted],
        ),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )
    cut: bytes = part.SerializeToString()
    return cut
