"""What onnx2torch 1.5 lacks: operators newer than opset 17, recurrent layers, learnable products.

Importing this module registers converters with onnx2torch, whose registry is private: its
version is pinned. An operator whose meaning did not change between two opsets takes the
converter of the older; the others are written here. :func:`untrainable` says what is left.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import torch
from onnx import defs, helper
from torch import Tensor, fx, nn

from analysis.errors import ModelReason, ModelRejected
from analysis.vetting import OPERATORS
from training.shim import prepare_torchvision

prepare_torchvision()  # before the first import of onnx2torch

import onnx2torch  # noqa: E402 - the shim comes first
from onnx2torch.node_converters import registry  # noqa: E402 - same
from onnx2torch.node_converters.activations import OnnxPReLU  # noqa: E402 - same
from onnx2torch.node_converters.binary_math_operations import (  # noqa: E402 - same
    OnnxBinaryMathOperation,
)
from onnx2torch.node_converters.gemm import OnnxGemm  # noqa: E402 - same
from onnx2torch.node_converters.matmul import OnnxMatMul  # noqa: E402 - same
from onnx2torch.node_converters.pad import OnnxPadStatic  # noqa: E402 - same
from onnx2torch.node_converters.reduce import OnnxReduceStaticAxes  # noqa: E402 - same
from onnx2torch.utils.common import (  # noqa: E402 - same
    OnnxMapping,
    OnnxToTorchModule,
    OperationConverterResult,
    get_const_value,
    onnx_mapping_from_node,
)

NEWEST_OPSET: Final = 25
"""Newest opset that is read."""
_OLDEST_OPSET = 7

_RECURRENT: Mapping[str, tuple[Any, ...]] = {
    "activations": (),
    "clip": (),
    "direction": (b"forward", b"bidirectional"),
    "input_forget": (0,),
    "layout": (0,),
}
_LIMITS: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "AveragePool": {"dilations": ([1], [1, 1]), "auto_pad": (b"NOTSET", b"VALID")},
    "Conv": {"auto_pad": (b"NOTSET", b"VALID")},
    "GRU": {**_RECURRENT, "linear_before_reset": (1,)},
    "LSTM": _RECURRENT,
}
"""Values of attributes that the converters understand, where they do not understand all."""
_LEARNABLE_OPERANDS = (OnnxBinaryMathOperation, OnnxGemm, OnnxMatMul, OnnxPReLU)
_SEQUENCE_LENGTHS = 4
"""Place of that input of a recurrent operator."""


def untrainable(model: Any) -> tuple[str, ...]:
    """Return the operators of a vetted graph that cannot be trained, sorted; empty if none.

    Parameters
    ----------
    model
        onnx.ModelProto of the standard domain.
    """
    opset = max(item.version for item in model.opset_import)
    if not _OLDEST_OPSET <= opset <= NEWEST_OPSET:
        return (f"all of opset {opset} (read are {_OLDEST_OPSET} to {NEWEST_OPSET})",)
    return tuple(sorted({said for node in model.graph.node for said in _objections(node, opset)}))


def _objections(node: Any, opset: int) -> Iterator[str]:
    try:
        registry.get_converter(node.op_type, opset)
    except NotImplementedError:
        yield node.op_type
    limits = _LIMITS.get(node.op_type, {})
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if attribute.name in limits and value not in limits[attribute.name]:
            yield f"{node.op_type} with {attribute.name}"
    if node.op_type == "GRU" and "linear_before_reset" not in [a.name for a in node.attribute]:
        yield "GRU without linear_before_reset"
    if limits.get("layout") and "".join(node.input[_SEQUENCE_LENGTHS : _SEQUENCE_LENGTHS + 1]):
        yield f"{node.op_type} with sequence_lens"


def convert(model: Any) -> fx.GraphModule:
    """Return the graph as a torch module, every number that can be learned a parameter.

    Raises
    ------
    ModelRejected
        FORBIDDEN_OPERATOR with what the converter says.
    """
    try:
        module: fx.GraphModule = onnx2torch.convert(model)
    except Exception as error:  # noqa: BLE001 - its converters raise what they like
        raise ModelRejected(
            ModelReason.FORBIDDEN_OPERATOR, f"It cannot be trained: {error}"
        ) from None
    for node in [item for item in module.graph.nodes if item.op == "get_attr"]:
        _let_learn(module, node)
    return module


def _let_learn(module: fx.GraphModule, node: Any) -> None:
    """Make an operand of a product or sum a parameter; the package keeps it as a buffer."""
    holder, _, name = node.target.rpartition(".")
    owner = module.get_submodule(holder)
    values = getattr(owner, name)
    users = [module.get_submodule(user.target) for user in node.users]
    learns = all(isinstance(user, _LEARNABLE_OPERANDS) for user in users)
    if learns and values.is_floating_point() and values.numel() > 1:
        delattr(owner, name)
        owner.register_parameter(name, nn.Parameter(values.clone()))


class GlobalMaximum(nn.Module, OnnxToTorchModule):  # type: ignore[misc]  # untyped package
    """Maximum over everything behind the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(batch, channels, 1, …)``."""
        return x.amax(dim=tuple(range(2, x.ndim)), keepdim=True)


class Cut(nn.Module, OnnxToTorchModule):  # type: ignore[misc]  # untyped package
    """Part of a tensor, known beforehand."""

    def __init__(self, parts: Mapping[int, slice]) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, x: Tensor) -> Tensor:
        """Return the part."""
        parts = {axis % x.ndim: part for axis, part in self.parts.items()}
        return x[tuple(parts.get(axis, slice(None)) for axis in range(x.ndim))]


class Recurrent(nn.Module, OnnxToTorchModule):  # type: ignore[misc]  # untyped package
    """An LSTM or GRU with ONNX's shapes: time first, directions an axis of their own."""

    def __init__(self, layer: nn.LSTM | nn.GRU, outputs: int) -> None:
        super().__init__()
        self.layer = layer
        self.outputs = outputs

    def forward(
        self, x: Tensor, hidden: Tensor | None = None, cell: Tensor | None = None
    ) -> Tensor | tuple[Tensor, ...]:
        """Return ``(time, directions, batch, size)`` and, where asked for, the last states."""
        state = hidden if cell is None else (hidden, cell)
        found, last = self.layer(x, state)
        directions = 2 if self.layer.bidirectional else 1
        found = found.unflatten(-1, (directions, self.layer.hidden_size)).transpose(1, 2)
        states = last if isinstance(last, tuple) else (last,)
        return found if self.outputs == 1 else (found, *states)[: self.outputs]


_GATES: Mapping[str, tuple[int, ...]] = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}
"""Torch's order of gates in ONNX's (iofc and zrh)."""


def _recurrent(node: Any, graph: Any) -> OperationConverterResult:
    kind = node.operation_type
    inputs = [*node.input_values, *[""] * 3]
    weights, recurrent = (get_const_value(name, graph) for name in inputs[1:3])
    bias = get_const_value(inputs[3], graph) if inputs[3] else None
    layer = getattr(nn, kind)(
        weights.shape[2],
        node.attributes["hidden_size"],
        bidirectional=len(weights) > 1,
        bias=bias is not None,
    )
    with torch.no_grad():
        for direction, suffix in zip(range(len(weights)), ("", "_reverse"), strict=False):
            parts = {"weight_ih": weights[direction], "weight_hh": recurrent[direction]}
            if bias is not None:
                parts["bias_ih"], parts["bias_hh"] = bias[direction].chunk(2)
            for name, values in parts.items():
                getattr(layer, f"{name}_l0{suffix}").copy_(_reordered(values, _GATES[kind]))
    states = tuple(name for name in inputs[5:7] if name)
    return OperationConverterResult(
        torch_module=Recurrent(layer, len(node.output_values)),
        onnx_mapping=OnnxMapping(inputs=(inputs[0], *states), outputs=node.output_values),
    )


def _reordered(values: Tensor, gates: tuple[int, ...]) -> Tensor:
    parts = values.chunk(len(gates))
    return torch.cat([parts[gate] for gate in gates])


def _reduction(node: Any, graph: Any) -> OperationConverterResult:
    """Reduce*-18: the axes are an input, and must be known."""
    axes = None
    if len(node.input_values) > 1 and node.input_values[1]:
        axes = get_const_value(node.input_values[1], graph).tolist()
    module: nn.Module = OnnxReduceStaticAxes(
        operation_type=node.operation_type, axes=axes, keepdims=node.attributes.get("keepdims", 1)
    )
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        module = nn.Identity()
    return _of_first_input(module, node)


def _group_norm(node: Any, graph: Any) -> OperationConverterResult:
    """GroupNormalization-21: scale and shift per channel."""
    scale, shift = (get_const_value(name, graph) for name in node.input_values[1:3])
    layer = nn.GroupNorm(
        node.attributes["num_groups"], scale.numel(), eps=node.attributes.get("epsilon", 1e-5)
    )
    layer.load_state_dict({"weight": scale, "bias": shift})
    return _of_first_input(layer, node)


def _product(node: Any, graph: Any) -> OperationConverterResult:
    """MatMul: by a constant matrix it is a linear layer, so that it learns and can be a head."""
    name = node.input_values[1]
    matrix = graph.initializers[name].to_torch() if name in graph.initializers else None
    if matrix is None or matrix.ndim != 2:  # noqa: PLR2004 - a matrix
        return _PRODUCT(node, graph)
    inputs, outputs = matrix.shape
    layer = nn.Linear(inputs, outputs, bias=False)
    layer.load_state_dict({"weight": matrix.T})
    return _of_first_input(layer, node)


def _slice(node: Any, graph: Any) -> OperationConverterResult:
    """Slice by constants, forwards: the package's own indexes in a way that torch gives up."""
    try:
        given = [get_const_value(name, graph).tolist() for name in node.input_values[1:]]
    except KeyError:
        return _SLICE(node, graph)
    starts, ends, *rest = given
    axes = rest[0] if rest else range(len(starts))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    if min(steps) < 1:
        return _SLICE(node, graph)
    parts = {axis: slice(*part) for axis, *part in zip(axes, starts, ends, steps, strict=True)}
    return _of_first_input(Cut(parts), node)


def _pad(node: Any, graph: Any) -> OperationConverterResult:
    """Pad by constants of all axes: they must be known for the export to be as simple."""
    names = [*node.input_values, ""]
    if len(node.input_values) > 3 and node.input_values[3]:  # noqa: PLR2004 - the input "axes"
        raise NotImplementedError("Pad of named axes")
    value = float(get_const_value(names[2], graph)) if names[2] else 0.0
    module = OnnxPadStatic.create_from_onnx_params(
        onnx_pads=get_const_value(names[1], graph).tolist(),
        onnx_mode=node.attributes.get("mode", "constant"),
        constant_value=value,
    )
    return _of_first_input(module, node)


def _activation(make: Callable[[Any], nn.Module]) -> Callable[[Any, Any], Any]:
    def convert(node: Any, graph: Any) -> OperationConverterResult:  # noqa: ARG001 - its protocol
        return OperationConverterResult(make(node), onnx_mapping_from_node(node))

    return convert


def _of_first_input(module: nn.Module, node: Any) -> OperationConverterResult:
    mapping = OnnxMapping(inputs=(node.input_values[0],), outputs=node.output_values)
    return OperationConverterResult(module, mapping)


def _gelu(node: Any) -> nn.Module:
    return nn.GELU(approximate=node.attributes.get("approximate", "none"))


_PRODUCT = registry.get_converter("MatMul", NEWEST_OPSET)
_SLICE = registry.get_converter("Slice", NEWEST_OPSET)
_OWN: Mapping[tuple[str, int], Any] = {
    **{(f"Reduce{kind}", 18): _reduction for kind in ("L2", "Max", "Mean", "Min", "Prod")},
    ("ReduceSumSquare", 18): _reduction,
    ("GRU", 7): _recurrent,
    ("LSTM", 7): _recurrent,
    ("GroupNormalization", 21): _group_norm,
    ("GlobalMaxPool", 1): _activation(lambda _: GlobalMaximum()),
    ("Gelu", 20): _activation(_gelu),
    ("Mish", 18): _activation(lambda _: nn.Mish()),
    ("MatMul", 1): _product,
    ("MatMul", 9): _product,
    ("MatMul", 13): _product,
    ("Slice", 10): _slice,
    ("Slice", 11): _slice,
    ("Slice", 13): _slice,
    ("Pad", 11): _pad,
    ("Pad", 13): _pad,
}
_CHANGED = frozenset({("GroupNormalization", 18)})
"""Versions that mean something else than their successor and are not read."""


def _register() -> None:
    converters = registry._CONVERTER_REGISTRY  # noqa: SLF001 - the package is pinned
    for (operator, version), converter in _OWN.items():
        converters[registry.OperationDescription("", operator, version)] = converter
    for operator in OPERATORS:
        last = None
        for version in _versions(operator):
            key = registry.OperationDescription("", operator, version)
            if (operator, version) not in _CHANGED and last is not None:
                converters.setdefault(key, last)
            last = converters.get(key, last)


def _versions(operator: str) -> list[int]:
    """Return the opsets in which the operator was defined anew."""
    schemas = (item for item in defs.get_all_schemas_with_history() if item.name == operator)
    found = {item.since_version for item in schemas if item.domain == ""}
    return sorted(version for version in found if version <= NEWEST_OPSET)


_register()
