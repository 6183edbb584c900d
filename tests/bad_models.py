"""Forty models that nobody should run, as a stranger would upload them (RELIABILITY T16)."""

import gzip
import json
import pickle
import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any, Final
from zipfile import ZipFile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tiny_model import card, graph, packed, with_card

from analysis.model import CARD_KEY

Made = Callable[[], bytes]
WHOLE: Final = 256 * 2**20
"""Bytes that a model may have."""


def external(location: str) -> Made:
    """Return a package whose weights are said to lie in another file."""

    def made() -> bytes:
        tensor = TensorProto(name="far", data_type=TensorProto.FLOAT, dims=[1])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        return with_card(graph(weights=[tensor]))

    return made


def node(operator: str, domain: str = "", **attributes: Any) -> Made:
    """Return a package with one operator between mean and head."""
    made = helper.make_node(operator, ["mean"], ["flat"], domain=domain, **attributes)
    return lambda: with_card(graph(nodes=[made], domains=[domain] if domain else []))


def loop() -> bytes:
    """Return a package that turns 2^40 times."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    turns = numpy_helper.from_array(np.array(2**40), "turns")
    made = helper.make_node("Loop", ["turns", "", "mean"], ["flat"], body=body)
    return with_card(graph(nodes=[made], weights=[turns]))


def expanding(size: int) -> Made:
    """Return a package that makes so many numbers of nothing."""
    shape = numpy_helper.from_array(np.array([size], np.int64), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"]),
        helper.make_node("Add", ["mean", "sum"], ["flat"]),
    ]
    return lambda: with_card(graph(nodes=nodes, weights=[shape]))


def weighing(value: float) -> Made:
    """Return a package with weights of this value."""
    weights = numpy_helper.from_array(np.full(12, value, np.float32), "bad")
    add = helper.make_node("Add", ["mean", "bad"], ["flat"])
    return lambda: with_card(graph(nodes=[add], weights=[weights]))


def claiming(count: int) -> bytes:
    """Return a package with a tensor that claims more numbers than it has."""
    short = TensorProto(name="bad", data_type=TensorProto.FLOAT, dims=[count], raw_data=bytes(48))
    add = helper.make_node("Add", ["mean", "bad"], ["flat"])
    return with_card(graph(nodes=[add], weights=[short]))


def changed(change: Callable[[Any], None]) -> Made:
    """Return the valid package with something changed after its self-test was made."""

    def made() -> bytes:
        model = onnx.load_model_from_string(packed())
        change(model)
        return model.SerializeToString()

    return made


def function(model: Any) -> None:
    model.functions.add(name="Identity", domain="")


def twice(model: Any) -> None:
    model.metadata_props.add(key=CARD_KEY, value="{}")


def other_weights(model: Any) -> None:
    model.graph.CopyFrom(graph(gain=2.0).graph)


def much_metadata(model: Any) -> None:
    model.metadata_props.add(key="more", value="x" * 9 * 2**20)


def circle(model: Any) -> None:
    model.graph.node[0].input[0] = "logits"


def carded(**words: Any) -> Made:
    """Return a package whose card has other words."""
    return lambda: with_card(graph(), json.dumps(json.loads(card().to_json()) | words))


def without_card(size: int) -> bytes:
    """Return a whole model of so many bytes, as another tool writes it: it is adopted."""
    weights = TensorProto(
        name="more", data_type=TensorProto.FLOAT, dims=[size // 4], raw_data=bytes(size)
    )
    return graph(weights=[weights]).SerializeToString()


def zipped() -> bytes:
    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        archive.writestr("model.onnx", packed())
    return buffer.getvalue()


def safetensors() -> bytes:
    head = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(head)) + head + bytes(4)


def crowd() -> bytes:
    """Return a crowd of empty nodes, of which a parser makes seventy times as much."""
    nodes = b"\x0a\x00" * 400_000
    size, varint = len(nodes), bytearray()
    while size >= 128:
        varint.append(size & 127 | 128)
        size >>= 7
    return bytes([7 << 3 | 2, *varint, size]) + nodes


BAD: Final[dict[str, tuple[Made, str]]] = {
    "weights at ../": (external("../../../etc/passwd"), "external-data"),
    "weights at an absolute path": (external("/etc/passwd"), "external-data"),
    "weights at a link": (external("link-to-the-ledger"), "external-data"),
    "weights beside it": (external("weights.bin"), "external-data"),
    "weights of a process": (external("/proc/self/environ"), "external-data"),
    "a foreign domain": (node("Evil", "com.example"), "forbidden-operator"),
    "a runtime's own domain": (node("FusedGemm", "com.microsoft"), "forbidden-operator"),
    "a domain that is not used": (
        lambda: with_card(graph(domains=["ai.onnx.ml"])), "forbidden-operator"
    ),
    "an operator of no list": (node("NonZero"), "forbidden-operator"),
    "an operator that does not exist": (node("NoSuchOperator"), "forbidden-operator"),
    "chance": (node("RandomNormalLike"), "forbidden-operator"),
    "learning on": (node("Dropout", training_mode=1), "forbidden-operator"),
    "a loop of 2^40": (loop, "forbidden-operator"),
    "a function of its own": (changed(function), "forbidden-operator"),
    "2^28 numbers of nothing": (expanding(2**28), "too-large"),
    "2^40 numbers of nothing": (expanding(2**40), "too-large"),
    "a crowd of empty parts": (crowd, "too-large"),
    "much metadata": (changed(much_metadata), "too-large"),
    "weights that are NaN": (weighing(np.nan), "not-finite"),
    "weights that are infinite": (weighing(np.inf), "not-finite"),
    "a tensor that claims 10^9 numbers": (lambda: claiming(10**9), "unreadable"),
    "a circle": (changed(circle), "wrong-shape"),
    "too few leads": (lambda: with_card(graph(leads=3)), "wrong-shape"),
    "too many answers": (lambda: with_card(graph(outputs=9)), "self-test-failed"),
    "no self-test": (lambda: with_card(graph()), "self-test-failed"),
    "other weights than its self-test": (changed(other_weights), "self-test-failed"),
    "a card that is a list": (lambda: with_card(graph(), "[]"), "invalid-card"),
    "a card that is code": (
        lambda: with_card(graph(), "__import__('os').system('id')"), "invalid-card"
    ),
    "a card of 100,000 braces": (lambda: with_card(graph(), "{" * 100_000), "invalid-card"),
    "two cards": (changed(twice), "invalid-card"),
    "markup as its name": (carded(name="<script>alert(1)</script>"), "invalid-card"),
    "a finding that does not exist": (
        carded(labels=[{"key": "broken_heart", "code": ["SCT", "1", "x"], "threshold": 0.5}]),
        "invalid-card",
    ),
    "half a package": (lambda: packed()[: len(packed()) // 2], "unreadable"),
    "a pickle": (lambda: pickle.dumps({"weights": [1.0]}), "unreadable"),
    "a zip": (zipped, "unreadable"),
    "a gzip": (lambda: gzip.compress(packed()), "unreadable"),
    "safetensors": (safetensors, "unreadable"),
    "an executable": (lambda: b"\x7fELF" + bytes(4096), "unreadable"),
    "a script": (lambda: b"#!/bin/sh\nid > /tmp/pwned\n", "unreadable"),
    "zeros": (lambda: bytes(2**20), "too-large"),
}  # fmt: skip
"""What each is, how it is made, and the reason of its refusal."""
