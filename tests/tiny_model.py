"""A model small enough to read: each probability is the sigmoid of a weighted mean of leads."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from analysis.card import Activation, Card, Label, Metric, Source
from analysis.model import CARD_KEY, pack
from analysis.recipe import Recipe
from analysis.synthetic import Kind, simulate

RECIPE = Recipe(
    sampling_frequency=100.0, samples=500, stride=500, minimum_seconds=2.0, allowed_missing=1
)
KEYS = ("normal", "atrial_fibrillation", "lbbb")
ECGS = [simulate(Kind.SINUS, sampling_frequency=250.0, duration=10.0).ecg]


def card(**changes: Any) -> Card:
    """Return a valid card, with these changes."""
    values: dict[str, Any] = {
        "name": "Tiny",
        "version": "1",
        "created": "2026-01-02",
        "intended_use": "Tests.",
        "limits": "Everything.",
        "input": "waveform",
        "output": "logits",
        "recipe": RECIPE,
        "activation": Activation.SIGMOID,
        "labels": tuple(Label.of(key, 0.5) for key in KEYS),
        "threshold_purpose": "None.",
        "minimum_age": 18.0,
        "training_data": (Source(name="none", records=1, licence="none", citation="none"),),
        "metrics": (
            Metric(
                label="lbbb",
                data="none",
                measure="AUROC",
                value=0.5,
                low=0.4,
                high=0.6,
                positives=1,
                negatives=1,
            ),
        ),
    }
    return Card(**values | changes)


def graph(
    *,
    nodes: Sequence[onnx.NodeProto] = (),
    weights: Sequence[onnx.TensorProto] = (),
    leads: int = 12,
    samples: int = 500,
    batch: int | str = "batch",
    gain: float = 1.0,
    outputs: int = len(KEYS),
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """Return mean over time → Gemm; ``nodes`` are put between, from ``mean`` to ``flat``."""
    rows = np.zeros((outputs, leads), np.float32)
    rows[:, 1] = gain * np.arange(1, outputs + 1)
    middle = list(nodes) or [helper.make_node("Identity", ["mean"], ["flat"])]
    return helper.make_model(
        helper.make_graph(
            [
                helper.make_node("ReduceMean", ["waveform"], ["mean"], axes=[2], keepdims=0),
                *middle,
                helper.make_node("Gemm", ["flat", "rows", "bias"], ["logits"], transB=1),
            ],
            "tiny",
            [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, [batch, leads, samples])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, outputs])],
            [
                numpy_helper.from_array(rows, "rows"),
                numpy_helper.from_array(np.zeros(outputs, np.float32), "bias"),
                *weights,
            ],
        ),
        opset_imports=[
            helper.make_opsetid("", 17),
            *(helper.make_opsetid(domain, 1) for domain in domains),
        ],
        ir_version=10,
    )


def packed(**changes: Any) -> bytes:
    """Return the tiny model as a valid package; ``changes`` are those of the card."""
    return pack(graph().SerializeToString(), card(**changes), ECGS)


def with_card(model: onnx.ModelProto, text: str | None = None) -> bytes:
    """Return the model with a card and no self-test, as someone else might write it."""
    helper.set_model_props(model, {CARD_KEY: card().to_json() if text is None else text})
    return model.SerializeToString()
