"""What an ONNX file must be before any runtime sees it.

A model can come from anywhere, and a runtime is a large surface. So the file is parsed as
data first: no reference to other files, only operators of an own list (none of which can loop
or call out), finite weights, and every intermediate value of a size known beforehand. Parsing
a stranger's file belongs in a process of its own all the same.
"""

from collections.abc import Iterator
from math import prod
from typing import Any, Final

import numpy as np
import onnx

from analysis.errors import ModelReason, ModelRejected

MAX_BYTES: Final = 256 * 2**20
_MAX_FIELDS = 300_000
"""Of the whole file; a model of a hundred layers has some ten thousand."""
_MAX_ELEMENTS = 2**24
"""Of one value, for one ECG: 64 MiB as float32."""

_STANDARD_DOMAIN = ("", "ai.onnx")
OPERATORS: Final = frozenset(
    """
    Abs Add And ArgMax AveragePool BatchNormalization Cast Ceil Celu Clip Concat Constant
    ConstantOfShape Conv ConvTranspose Cos Div Dropout Elu Equal Erf Exp Expand Flatten Floor
    GRU Gather Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual
    GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LSTM
    LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Min Mish Mul
    Neg Not Or PRelu Pad Pow Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare Relu Reshape Selu Shape Sigmoid Sign Sin Slice Softmax Softplus
    Softsign Split Sqrt Squeeze Sub Tanh Tile Transpose Unsqueeze Where
    """.split()  # noqa: SIM905 - a list of ninety quoted names reads worse
)
"""Operators of the standard domain that a model may use."""

_NUMBERS = frozenset(
    getattr(onnx.TensorProto, name)
    for name in ("FLOAT", "FLOAT16", "DOUBLE", "INT64", "INT32", "INT8", "UINT8", "BOOL")
)

_LENGTH_DELIMITED = 2
_FIXED_SIZES = {1: 8, 5: 4}
_AS_LARGE_AS_PARSED = frozenset(
    getattr(onnx.TensorProto.DESCRIPTOR.fields[0], f"TYPE_{name}")
    for name in ("BYTES", "STRING", "FLOAT", "DOUBLE")
)


def vet(content: bytes) -> Any:
    """Return the parsed model, if its graph may be handed to a runtime.

    Parameters
    ----------
    content
        The ONNX file.

    Returns
    -------
    onnx.ModelProto
        The model, unchanged.

    Raises
    ------
    ModelRejected
        TOO_LARGE, UNREADABLE, EXTERNAL_DATA, FORBIDDEN_OPERATOR or NOT_FINITE.
    """
    model = parse(content)
    tensors = [item for item in _walk(model) if isinstance(item, onnx.TensorProto)]
    for tensor in tensors:
        _refuse_external(tensor)
    _refuse_forbidden(model)
    for tensor in tensors:
        _refuse_not_finite(tensor)
    return model


def too_large(size: int) -> ModelRejected:
    """Return the refusal of a file of ``size`` bytes."""
    limit = MAX_BYTES // 2**20
    return ModelRejected(
        ModelReason.TOO_LARGE, f"{size} bytes; a model may have {limit} MiB at most."
    )


def bound_sizes(model: Any) -> None:
    """Refuse a graph any of whose values is of unknown or absurd size for one ECG.

    This is what stops a graph of a few hundred bytes that expands to gigabytes.

    Raises
    ------
    ModelRejected
        UNREADABLE where the graph contradicts itself, WRONG_SHAPE where a size cannot be
        known, TOO_LARGE where it is absurd.
    """
    single = _of_one_ecg(model)
    try:
        graph = onnx.shape_inference.infer_shapes(single, strict_mode=True, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        raise ModelRejected(ModelReason.UNREADABLE, "Its graph contradicts itself.") from None
    sizes = {value.name: _elements(value) for value in [*graph.value_info, *graph.output]}
    for node in graph.node:
        for name in filter(None, node.output):
            _refuse_size(node.op_type, name[:64], sizes.get(name))


def _of_one_ecg(model: Any) -> Any:
    """Return a copy for a batch of one, without the sizes that the file itself claims."""
    single = type(model)()
    single.CopyFrom(model)
    weights = {item.name for item in single.graph.initializer}
    for value in single.graph.input:
        if value.name not in weights and value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = 1
    for value in single.graph.output:
        value.type.tensor_type.ClearField("shape")
    del single.graph.value_info[:]
    return single


def _refuse_size(operator: str, name: str, elements: int | None) -> None:
    if elements is None:
        raise ModelRejected(
            ModelReason.WRONG_SHAPE,
            f"The size of {name!r} ({operator}) cannot be known before it runs.",
        )
    if elements > _MAX_ELEMENTS:
        raise ModelRejected(
            ModelReason.TOO_LARGE, f"{name!r} ({operator}) would hold {elements} numbers."
        )


def _elements(value: Any) -> int | None:
    if not value.type.tensor_type.HasField("shape"):
        return None
    dimensions = value.type.tensor_type.shape.dim
    if not all(dimension.HasField("dim_value") for dimension in dimensions):
        return None
    return prod(int(dimension.dim_value) for dimension in dimensions)


def _refuse_crowd(content: bytes) -> None:
    """Refuse a file of more parts than a model has, before a parser makes objects of them.

    Parsed, an empty node of two bytes takes some seventy times its room. This walks the wire
    format alone, along the message types of ONNX (protobuf encoding, field numbers and wire
    types).
    """
    left = _MAX_FIELDS
    pending = [(memoryview(content), onnx.ModelProto.DESCRIPTOR)]
    while pending:
        view, kind = pending.pop()
        at = 0
        while at < len(view):
            tag, at = _varint(view, at)
            size, at = _size(view, at, tag & 7)
            field = kind.fields_by_number.get(tag >> 3)
            if field is not None and tag & 7 == _LENGTH_DELIMITED:
                if field.message_type is not None:
                    pending.append((view[at : at + size], field.message_type))
                elif field.type not in _AS_LARGE_AS_PARSED:
                    left -= size
            at += size
            left -= 1
            if left < 0:
                raise ModelRejected(ModelReason.TOO_LARGE, "It has too many parts.")


def fields(view: memoryview) -> Iterator[tuple[int, int, int]]:
    """Yield number, beginning and end of each field of a message; nothing else is read.

    Raises
    ------
    ValueError, LookupError
        If it is no message.
    """
    at = 0
    while at < len(view):
        tag, at = _varint(view, at)
        size, at = _size(view, at, tag & 7)
        yield tag >> 3, at, at + size
        at += size


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """Return the number that begins there, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the last byte of a varint
            return value, at
    raise ValueError("no varint")


def _size(view: memoryview, at: int, wire_type: int) -> tuple[int, int]:
    """Return how many bytes the value takes, and where they begin."""
    if wire_type == _LENGTH_DELIMITED:
        return _varint(view, at)
    if wire_type == 0:
        return _varint(view, at)[1] - at, at
    return _FIXED_SIZES[wire_type], at


def parse(content: bytes) -> Any:
    """Return the parsed model, of bounded size and number of parts; nothing else is vetted.

    Raises
    ------
    ModelRejected
        TOO_LARGE or UNREADABLE.
    """
    if len(content) > MAX_BYTES:
        raise too_large(len(content))
    try:
        _refuse_crowd(content)
        model = onnx.load_model_from_string(content)
    except ModelRejected:
        raise
    except Exception:  # noqa: BLE001 - the parser's own class of error is not public
        model = None
    if model is None or not model.graph.node or not model.opset_import:
        raise ModelRejected(ModelReason.UNREADABLE, "The file is no ONNX model.")
    return model


def _walk(message: Any) -> Iterator[Any]:
    """Yield the message and every message inside it, wherever ONNX may hold one."""
    yield message
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for item in value if hasattr(value, "__len__") else (value,):
                yield from _walk(item)


def _refuse_external(tensor: Any) -> None:
    if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ModelRejected(
            ModelReason.EXTERNAL_DATA,
            "A tensor lies in another file; export the model as a single file.",
        )


def _refuse_forbidden(model: Any) -> None:
    if model.functions or model.training_info or model.graph.sparse_initializer:
        raise _forbidden("functions, training steps or sparse tensors")
    for domain in (item.domain for item in model.opset_import):
        if domain not in _STANDARD_DOMAIN:
            raise _forbidden(f"operators of the domain {domain[:64]!r}")
    for node in (item for item in _walk(model) if isinstance(item, onnx.NodeProto)):
        if node.domain not in _STANDARD_DOMAIN or node.op_type not in OPERATORS:
            raise _forbidden(f"the operator {node.op_type[:64]!r}")
        if any(item.name == "training_mode" and item.i for item in node.attribute):
            raise _forbidden(f"{node.op_type} in training mode")


def _forbidden(what: str) -> ModelRejected:
    return ModelRejected(ModelReason.FORBIDDEN_OPERATOR, f"It uses {what}.")


def _refuse_not_finite(tensor: Any) -> None:
    if tensor.data_type not in _NUMBERS:
        raise _forbidden("tensors of an unusual type")
    try:
        values = onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError):
        raise ModelRejected(
            ModelReason.UNREADABLE, f"The tensor {tensor.name[:64]!r} is damaged."
        ) from None
    if not np.isfinite(values).all():
        raise ModelRejected(
            ModelReason.NOT_FINITE, f"The tensor {tensor.name[:64]!r} holds NaN or infinity."
        )
