"""The shipped graph: measurements by soft forests and, for shapes, networks on the waveform."""

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnx.utils
import onnxruntime
import torch
from torch import Tensor, nn

from analysis.card import FEATURES_INPUT
from training.shipped.forest import SoftForests
from training.shipped.judge import Calibration
from training.shipped.net import Net

OPSET = 17
_HEAD = "nets.0.head.weight"
PARITY = 1e-4
"""Largest difference of a logit between torch and the runtime."""

Arrays = npt.NDArray[np.float32]


class Graph(nn.Module):
    """Calibrated logits from ``(batch, leads, samples)`` and ``(batch, features)``.

    Parameters
    ----------
    forests
        One for each label.
    nets
        Networks whose mean answer is added; may be none.
    places
        For each label the output of the networks that is its own, or None.
    calibrations
        One for each label.
    """

    chosen: Tensor
    scale: Tensor
    offset: Tensor

    def __init__(
        self,
        forests: SoftForests,
        nets: Sequence[Net],
        places: Sequence[int | None],
        calibrations: Sequence[Calibration],
    ) -> None:
        super().__init__()
        self.forests, self.nets = forests, nn.ModuleList(nets)
        outputs = nets[0].head.out_features if nets else 0
        chosen = torch.zeros(outputs, len(places))
        for label, place in enumerate(places):
            if nets and place is not None:
                chosen[place, label] = 1 / len(nets)
        self.register_buffer("chosen", chosen)
        self.register_buffer("scale", torch.tensor([item.scale for item in calibrations]))
        self.register_buffer("offset", torch.tensor([item.offset for item in calibrations]))

    def forward(self, waveform: Tensor, features: Tensor) -> Tensor:
        """Return logits, ``(batch, labels)``."""
        found = self.forests(features)
        for net in self.nets:
            found = found + net(waveform) @ self.chosen
        logits: Tensor = found * self.scale + self.offset
        return logits


def export(graph: Graph, waveform: Arrays, features: Arrays) -> bytes:
    """Return the graph as one ONNX file, after the runtime gave torch's answers.

    Raises
    ------
    ArithmeticError
        If a logit differs by more than ``PARITY``.
    """
    graph = graph.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    inputs = torch.from_numpy(waveform), torch.from_numpy(features)
    file = io.BytesIO()
    torch.onnx.export(
        graph,
        tuple(part[:2] for part in inputs),
        file,  # type: ignore[arg-type]  # the signature forgets file objects
        dynamo=False,
        opset_version=OPSET,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        input_names=["waveform", FEATURES_INPUT],
        output_names=["logits"],
        dynamic_axes={name: {0: "batch"} for name in ("waveform", FEATURES_INPUT, "logits")},
    )
    content = _with_waveform(file.getvalue(), waveform.shape[1:])
    check_parity(content, graph, inputs)
    return content


def _with_waveform(content: bytes, size: tuple[int, ...]) -> bytes:
    """Return the graph with its input of the waveform, which torch drops where none reads it."""
    proto = onnx.load_model_from_string(content)
    if "waveform" not in {item.name for item in proto.graph.input}:
        kind = onnx.TensorProto.FLOAT
        proto.graph.input.append(
            onnx.helper.make_tensor_value_info("waveform", kind, ["batch", *size])
        )
    written: bytes = proto.SerializeToString(deterministic=True)
    return written


def network(content: bytes) -> bytes:
    """Return the first network inside a shipped package: one ONNX file, waveform to logits.

    What can be trained on: the trees beside it read measurements and have no gradient to follow.

    Raises
    ------
    ValueError
        If there is none.
    """
    proto = onnx.load_model_from_string(content)
    outputs = [node.output[0] for node in proto.graph.node if _HEAD in node.input]
    if not outputs:
        raise ValueError("no network is in it that reads the waveform")
    inferred = onnx.shape_inference.infer_shapes(proto)
    alone = onnx.utils.Extractor(inferred).extract_model(["waveform"], outputs[:1])
    written: bytes = alone.SerializeToString(deterministic=True)
    return written


def check_parity(content: bytes, graph: Graph, inputs: tuple[Tensor, Tensor]) -> None:
    """Raise ArithmeticError unless the runtime's logits are torch's, alone and in a batch."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for count in (1, len(inputs[0])):
        waveform, features = (part[:count] for part in inputs)
        with torch.no_grad():
            wanted = graph(waveform, features).numpy()
        feed = {"waveform": waveform.numpy(), FEATURES_INPUT: features.numpy()}
        found = session.run(None, feed)[0]
        if not np.abs(found - wanted).max() <= PARITY:
            raise ArithmeticError("the exported graph does not give torch's answers")
