"""Make an ONNX graph fit for learning, and a fresh export as plain as it can be.

Exporters merge equal weights, spell out sizes and initial states node by node, and leave
BatchNorm as it was while training. Here each layer gets its own weights again, what depends on
constants alone is computed, and nothing that hears the ECG is touched. Graphs come vetted.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import fx

from analysis.vetting import bound_sizes

IR_VERSION: Final = 10
_FIRST_STATE = 5
"""Place of the first initial state among the inputs of LSTM and GRU."""
_COMPUTED = frozenset(
    """
    Abs Add Cast Concat Constant ConstantOfShape Div Equal Exp Expand Floor Gather Identity Max
    Min Mod Mul Neg Pow ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Reshape Shape
    Slice Sqrt Squeeze Sub Tile Transpose Unsqueeze Where
    """.split()  # noqa: SIM905 - a list of quoted names reads worse
)
"""Operators that are computed beforehand: those that are done in one sweep."""
_ROOM = 2**27
"""Numbers that may be computed beforehand; a hostile file has no end of them."""
_FILL = 2
"""Place of what Pad fills with among its inputs."""
_WEIGHT: Final = ".weight"
_TAKEN: Final = frozenset(dir(fx.GraphModule({}, fx.Graph())))
"""What modules call parts of their own, so that no layer may be called so."""
_PASSES = 64
"""Layers deep that sizes may hang on each other."""


def put_to_rest(model: Any) -> None:
    """Put BatchNorm that was exported while training to rest: its own statistics, one output."""
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            for attribute in node.attribute:
                if attribute.name == "training_mode":
                    attribute.i = 0
            del node.output[1:]


def mend(model: Any) -> None:
    """Undo what exporters do that would freeze or hide what must be learned."""
    tidy(model)
    _forget_zero_states(model.graph)
    sizes = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    _name_layers(model.graph)
    for node in model.graph.node:
        if node.op_type == "Reshape" and 0 not in sizes.get(node.input[1], (0,)):
            _forget(node, "allowzero")


def tidy(model: Any) -> None:
    """Give each layer its own initialisers, and compute what depends on constants alone."""
    _unmerge(model.graph)
    _fold(model)
    for _ in range(_PASSES):
        if not _know_sizes(model):
            break
        _fold(model)
    _forget_zero_fills(model.graph)
    _drop_unused(model.graph)
    used = {name for node in model.graph.node for name in node.input}
    used |= {item.name for item in model.graph.output}
    for item in [item for item in model.graph.initializer if item.name not in used]:
        model.graph.initializer.remove(item)


def _fold(model: Any) -> None:
    """Put the results of nodes that hear constants only in their place.

    So weights that were sliced, turned or joined are weights again, sizes are numbers, and no
    layer is merged with another: BatchNorm hears the ECG.
    """
    known = {item.name: item for item in model.graph.initializer}
    room = _ROOM
    for node in [item for item in model.graph.node if item.op_type in _COMPUTED]:
        if room > 0 and all(name in known for name in filter(None, node.input)):
            value = _value(node, known, model.opset_import)
            if value is not None:
                room -= int(np.prod(value.dims))
                known[node.output[0]] = value
                model.graph.initializer.append(value)
                model.graph.node.remove(node)


def _know_sizes(model: Any) -> bool:
    """Put sizes that hold for any batch in the place of nodes that ask; return if any did."""
    makers = {name: node for node in model.graph.node for name in node.output}
    indices = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    asking = [
        (node, makers[node.input[0]].input[0], int(indices[node.input[1]]))
        for node in model.graph.node
        if node.op_type == "Gather"
        and node.input[0] in makers
        and makers[node.input[0]].op_type == "Shape"
        and indices.get(node.input[1], np.zeros(2)).ndim == 0
    ]
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph if asking else None
    sizes = {} if inferred is None else _sizes([*inferred.value_info, *inferred.input])
    answers = [(node, sizes[name][at]) for node, name, at in asking if sizes.get(name, {}).get(at)]
    for node, size in answers:
        value = numpy_helper.from_array(np.array(size, np.int64), node.output[0])
        model.graph.initializer.append(value)
        model.graph.node.remove(node)
    return bool(answers)


def _sizes(values: Iterable[Any]) -> dict[str, dict[int, int]]:
    """Return the known sizes of each value, by its name and axis, from either end."""
    found: dict[str, dict[int, int]] = {}
    for value in values:
        dimensions = value.type.tensor_type.shape.dim
        known = {at: item.dim_value for at, item in enumerate(dimensions) if item.dim_value}
        found[value.name] = known | {at - len(dimensions): size for at, size in known.items()}
    return found


def _value(node: Any, known: Mapping[str, Any], opsets: Any) -> Any:
    """Return what the node gives, or None where that is of unknown or absurd size."""
    graph = onnx.helper.make_graph(
        [node],
        "constant",
        [],
        [onnx.helper.make_empty_tensor_value_info(node.output[0])],
        [known[name] for name in dict.fromkeys(node.input) if name],
    )
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    try:
        bound_sizes(model)
        (value,) = ReferenceEvaluator(model).run(None, {})
    except Exception:  # noqa: BLE001 - what cannot be computed now is computed later
        return None
    return numpy_helper.from_array(np.asarray(value), node.output[0])


def _unmerge(graph: Any) -> None:
    """Give each node its own initialisers again; torch's exporter merges equal ones."""
    held = {item.name: item for item in graph.initializer}
    outputs = {item.name for item in graph.output}
    for node in [item for item in graph.node if item.op_type == "Identity"]:
        if node.input[0] in held and node.output[0] not in outputs:
            own = graph.initializer.add()
            own.CopyFrom(held[node.input[0]])
            own.name = node.output[0]
            held[own.name] = own
            graph.node.remove(node)


def _forget_zero_states(graph: Any) -> None:
    """Let recurrent layers begin at rest by default: exporters spell out zeros per batch."""
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type in ("LSTM", "GRU"):
            for at in range(_FIRST_STATE, len(node.input)):
                maker = makers.get(node.input[at])
                while maker is not None and maker.op_type in ("Expand", "Slice", "Identity"):
                    maker = makers.get(maker.input[0])
                if maker is not None and _makes_zeros(maker):
                    node.input[at] = ""
    _drop_unused(graph)


def _forget_zero_fills(graph: Any) -> None:
    """Let Pad fill with 0 by default: the runtime merges a stated 0 into MaxPool as -inf."""
    known = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "Pad" and len(node.input) > _FILL and node.input[_FILL] in known:
            node.input[_FILL] = node.input[_FILL] if known[node.input[_FILL]].any() else ""


def _makes_zeros(node: Any) -> bool:
    values = [numpy_helper.to_array(item.t) for item in node.attribute if item.name == "value"]
    return node.op_type == "ConstantOfShape" and not any(value.any() for value in values)


def _drop_unused(graph: Any) -> None:
    """Remove nodes whose outputs nobody reads."""
    read = {item.name for item in graph.output}
    for node in reversed(list(graph.node)):
        if read.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            read.update(node.input)


def _name_layers(graph: Any) -> None:
    """Call each layer what its weights are called, and any other node what it was called before.

    The names of weights come and go with a net; the names of nodes grow with every export.
    """
    weights = {item.name for item in graph.initializer}
    stems = [_stem(node, weights) for node in graph.node]
    times = Counter(stems)
    for node, stem in zip(graph.node, stems, strict=True):
        node.name = stem if stem and times[stem] == 1 else _short(node.name)


def _stem(node: Any, weights: Collection[str]) -> str | None:
    """Return what the weights of a node are called, as torch calls them; None for others."""
    found = [name for name in node.input if name in weights and name.endswith(_WEIGHT)]
    stem = _bare(found[0].removesuffix(_WEIGHT)) if len(found) == 1 else ""
    return stem if is_path(stem) else None


def is_path(name: str) -> bool:
    """Return whether layers may have these names, which stand between dots."""
    return all(re.fullmatch(r"\w+", part) and part not in _TAKEN for part in name.split("."))


def _short(name: str) -> str:
    """Return a node's name without what an export and an import add to it."""
    name = f"/{_bare(name.strip('/'))}"
    return re.sub(r"/(([^/]+?)(?:_\d+)?)(?:/\2(?:_\d+)?)+$", r"/\1", name).strip("/")


def _bare(name: str) -> str:
    """Return a name without that of the net that a calibration holds."""
    return re.sub(r"^net[./]", "", name)


def _forget(node: Any, name: str) -> None:
    for attribute in [item for item in node.attribute if item.name == name]:
        node.attribute.remove(attribute)
