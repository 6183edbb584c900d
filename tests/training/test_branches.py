"""The branch that hears the ECG alone, cut out of a model that reads measurements beside it."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from analysis.errors import ModelRejected
from training.branches import ecg_branch

WEIGHTS = {
    "rows": np.arange(12, dtype=np.float32).reshape(12, 1),
    "turn": np.array([[2.0]], np.float32),
    "table": np.ones((3, 1), np.float32),
}
ECG = np.random.default_rng(0).standard_normal((2, 12, 50), dtype=np.float32)


def hybrid(*last: tuple[str, list[str], list[str]]) -> bytes:
    """Return mean of the ECG → two linear layers, and measurements → one; then ``last``."""
    nodes = [
        helper.make_node("ReduceMean", ["waveform"], ["mean"], axes=[2], keepdims=0),
        helper.make_node("MatMul", ["mean", "rows"], ["first"]),
        helper.make_node("MatMul", ["first", "turn"], ["second"]),
        helper.make_node("MatMul", ["features", "table"], ["measured"]),
        *(helper.make_node(*each) for each in last),
    ]
    inputs = {"waveform": ["batch", 12, 50], "features": ["batch", 3]}
    graph = helper.make_graph(
        nodes,
        "hybrid",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, d) for n, d in inputs.items()],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(value, name) for name, value in WEIGHTS.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def test_the_branch_gives_what_its_first_linear_layer_gave() -> None:
    cut = ecg_branch(hybrid(("Add", ["second", "measured"], ["logits"])), "waveform", "features")
    session = onnxruntime.InferenceSession(cut)
    assert [item.name for item in session.get_inputs()] == ["waveform"]
    (given,) = session.run(None, {"waveform": ECG})
    np.testing.assert_allclose(given, ECG.mean(axis=2) @ WEIGHTS["rows"], rtol=1e-4)


def test_branches_that_meet_in_several_places_are_not_told_apart() -> None:
    tangled = hybrid(
        ("Add", ["second", "measured"], ["once"]), ("Add", ["first", "once"], ["logits"])
    )
    with pytest.raises(ModelRejected, match="cannot be told from"):
        ecg_branch(tangled, "waveform", "features")
