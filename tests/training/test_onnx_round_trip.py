import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import tiny_model
import torch
from onnx import TensorProto, helper, numpy_helper
from support import shared
from torch import nn

from analysis.ecg import STANDARD_12
from analysis.errors import ModelReason, ModelRejected
from analysis.package import open_session
from analysis.recipe import Recipe, Unit
from analysis.standardise import standardise
from analysis.synthetic import Kind, simulate
from analysis.vetting import parse
from training.architectures import build, initialise
from training.calibrate import Calibrated, Calibration, line, without_calibration
from training.convert import (
    Imported,
    NotTheSame,
    fingerprints,
    parity,
    replace_head,
    to_onnx,
    to_torch,
)
from training.plan import Calibration as Way
from training.plan import Task

EXCHANGEAI = ("xc_super_pretrained", "XceptionTime_untrained", "InceptionTime_untrained")
MODES = ("scratch", "head", "all")
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def noise(records: int = 3, leads: int = 12, samples: int = 200) -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((records, leads, samples), dtype=np.float32)


def microvolts(records: int = 64) -> npt.NDArray[np.float32]:
    """Simulated ECGs in the form that ExChanGeAI's models read."""
    recipe = Recipe(
        sampling_frequency=100.0,
        samples=1000,
        stride=1000,
        minimum_seconds=5.0,
        unit=Unit.MICROVOLT,
    )
    kinds = (Kind.SINUS, Kind.LBBB, Kind.ATRIAL_FIBRILLATION)
    ecgs = [simulate(kinds[seed % 3], seed=seed, sampling_frequency=100.0).ecg for seed in range(8)]
    windows = np.concatenate([standardise(ecg, recipe).windows for ecg in ecgs])
    return (
        np.resize(windows, (records, 12, 1000))
        * np.linspace(0.5, 2, records, dtype=np.float32)[:, None, None]
    )


def norms(content: bytes) -> int:
    model = onnx.load_model_from_string(content)
    return [node.op_type for node in model.graph.node].count("BatchNormalization")


def one_step(net: nn.Module, waveforms: npt.NDArray[np.float32], mode: str) -> None:
    """Take one optimiser step as the mode has it."""
    torch.manual_seed(0)
    if mode == "scratch":
        initialise(net)
    net.train()
    if mode == "head":
        net.backbone.eval().requires_grad_(requires_grad=False)
    learning = [item for item in net.parameters() if item.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=1e-3)
    net(torch.from_numpy(waveforms)).square().mean().backward()
    optimiser.step()
    net.eval()


def apart_by_record(net: nn.Module, content: bytes, waveforms: npt.NDArray[np.float32]) -> float:
    """Return how far torch and the runtime differ, as a share of a record's largest logit.

    An untrained net makes logits of hundreds out of microvolts. Where one of them comes out near
    0, float32 itself is off by more than 1e-5 of it, in torch as in the runtime.
    """
    theirs = open_session(content, parse(content)).run(None, {"waveform": waveforms})[0]
    with torch.no_grad():
        ours = net(torch.from_numpy(waveforms)).numpy()
    return float((np.abs(ours - theirs) / np.abs(ours).max(axis=1, keepdims=True)).max())


def largest(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    return logits == logits.max(axis=1, keepdims=True)


class Between(nn.Module):
    """A layer between a convolution and a head."""

    def __init__(self, layer: nn.Module, *, leads: int = 12, channels: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv1d(leads, channels, 7, stride=2, padding=3)
        self.layer = layer
        self.fc = nn.Linear(channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layer(self.first(x)).mean(-1))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.LSTM | nn.GRU]) -> None:
        super().__init__()
        self.first = nn.Conv1d(12, 8, 7, stride=4)
        self.layer = kind(8, 6, bidirectional=True)
        self.fc = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layer(self.first(x).permute(2, 0, 1))[0].mean(0))


class Awake(Recurrent):
    """A recurrent layer that does not begin at rest."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = self.first(x).permute(2, 0, 1)
        state = torch.ones(2, steps.shape[1], 6)
        return self.fc(self.layer(steps, state)[0].mean(0))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(12, 16, 10, stride=10)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.layer = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layer(self.first(x).transpose(1, 2)).mean(1))


class Tokens(nn.Module):
    """A head on every moment, the mean behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(12, 16, 10, stride=10)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.fc(self.first(x).transpose(1, 2)).mean(1))


NETS: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "attention": Attention,
    "tokens": Tokens,
    "batch norm": lambda: Between(nn.BatchNorm1d(8)),
    "layer norm": lambda: Between(nn.LayerNorm(100)),
    "instance norm": lambda: Between(nn.InstanceNorm1d(8, affine=True)),
    "prelu": lambda: Between(nn.PReLU(8)),
    "gelu": lambda: Between(nn.GELU()),
    "silu": lambda: Between(nn.SiLU()),
    "mish": lambda: Between(nn.Mish()),
    "hardswish": lambda: Between(nn.Hardswish()),
    "max pool": lambda: Between(nn.MaxPool1d(3, ceil_mode=True)),
    "average pool": lambda: Between(nn.AvgPool1d(3, ceil_mode=True)),
    "global maximum": lambda: Between(nn.AdaptiveMaxPool1d(1)),
    "transposed": lambda: Between(nn.ConvTranspose1d(8, 8, 4, stride=2)),
    "reflection": lambda: Between(nn.ReflectionPad1d(3)),
    "zeros": lambda: Between(nn.ConstantPad1d((3, 4), 0.0)),
    "padded maximum": lambda: Between(
        nn.Sequential(nn.ConstantPad1d((1, 1), 0.0), nn.MaxPool1d(2))
    ),
    "dropout": lambda: Between(nn.Dropout(0.3)),
    "inceptiontime": lambda: build("inceptiontime", leads=12, outputs=3, filters=4),
    "xceptiontime": lambda: build("xceptiontime", leads=12, outputs=3, filters=4),
    "se-wide-resnet": lambda: build("se-wide-resnet", leads=12, outputs=3, widen=1),
    "xresnet1d": lambda: build("xresnet1d", leads=12, outputs=3, depth=18),
    "net1d": lambda: build("net1d", leads=12, outputs=3, widths=(16, 48), depths=(1, 2)),
}


@pytest.mark.parametrize("name", NETS)
def test_a_net_goes_to_onnx_and_back_and_learns_with_all_its_numbers(name: str) -> None:
    torch.manual_seed(0)
    net = NETS[name]().eval()
    content = to_onnx(net, leads=12, samples=200)
    back = to_torch(content)
    wanted, found = (sum(i.numel() for i in n.parameters()) for n in (net, back))
    assert found == wanted
    assert sum(isinstance(m, NORMS) for m in back.modules()) == sum(
        isinstance(m, NORMS) for m in net.modules()
    )
    waveforms = torch.from_numpy(noise())
    with torch.no_grad():
        torch.testing.assert_close(back(waveforms), net(waveforms), atol=1e-5, rtol=1e-5)
    one_step(back, noise(), "all")
    still = [key for key, item in back.named_parameters() if item.grad is None]
    assert still == []
    again = to_onnx(back, leads=12, samples=200)
    assert parity(back, again, noise(9), tolerance=1e-5).difference <= 1e-5


@pytest.mark.parametrize("name", ["prelu", "padded maximum", "net1d"])
def test_names_do_not_grow_with_each_generation(name: str) -> None:
    torch.manual_seed(0)
    calibration = Calibration(
        task=Task.MULTI_LABEL, way=Way.TEMPERATURE, curves=(line(1.1, 0.1),) * 3
    )
    net: nn.Module = NETS[name]().eval()
    known, longest = [], []
    for _ in range(3):
        content = to_onnx(Calibrated(net, calibration), leads=12, samples=200)
        net = without_calibration(to_torch(content))
        known.append(fingerprints(net))
        longest.append(max(len(node.name) for node in parse(content).graph.node))
    assert known[2] == known[1] == known[0]
    assert longest[2] == longest[1]


def test_names_do_not_grow_where_torch_exports_weights_without_one() -> None:
    net: nn.Module = Attention().eval()
    longest = []
    for _ in range(4):
        net = to_torch(to_onnx(net, leads=12, samples=200))
        longest.append(max(map(len, net.state_dict())))
    assert longest == sorted(longest, reverse=True)


@pytest.mark.parametrize("name", ["xceptiontime", "net1d"])
def test_a_net_of_the_house_comes_back_under_its_own_names(name: str) -> None:
    net = NETS[name]().eval()
    back = to_torch(to_onnx(net, leads=12, samples=200))
    assert fingerprints(back) == fingerprints(net)
    assert replace_head(back, 2) == "head"


def test_a_recurrent_layer_that_does_not_begin_at_rest_is_read_as_such() -> None:
    net = Awake(nn.GRU).eval()
    back, waveforms = to_torch(to_onnx(net, leads=12, samples=200)), torch.from_numpy(noise())
    with torch.no_grad():
        torch.testing.assert_close(back(waveforms), net(waveforms), atol=1e-5, rtol=1e-5)


def test_group_norm_goes_through_opset_17_as_the_parts_it_is_made_of() -> None:
    net = Between(nn.GroupNorm(2, 8)).eval()
    back = to_torch(to_onnx(net, leads=12, samples=200))
    with torch.no_grad():
        torch.testing.assert_close(
            back(torch.from_numpy(noise())), net(torch.from_numpy(noise())), atol=1e-5, rtol=1e-5
        )


def test_an_export_is_one_plain_file_of_opset_17_that_takes_any_batch() -> None:
    net = build("inceptiontime", leads=12, outputs=3, filters=4).train()
    content = to_onnx(net, leads=12, samples=200)
    assert net.training
    model = onnx.load_model_from_string(content)
    assert (model.ir_version, [item.version for item in model.opset_import]) == (10, [17])
    assert not any(item.external_data for item in model.graph.initializer)
    assert norms(content) == 8
    for records in (1, 2, 64, 65):
        assert parity(net.eval(), content, noise(records)).records == records


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", EXCHANGEAI)
def test_exchangeais_files_learn_in_every_mode_and_go_back_the_same(name: str, mode: str) -> None:
    torch.manual_seed(0)
    content = shared("models", f"{name}.onnx").read_bytes()
    net = to_torch(content)
    waveforms = microvolts()
    before = fingerprints(net.backbone)
    if mode != "scratch":
        replace_head(net, 5)
    one_step(net, waveforms[:4], mode)
    exported = to_onnx(net, leads=12, samples=1000)
    assert apart_by_record(net, exported, waveforms) <= 1e-5
    tolerance = 1e-4 if "untrained" in name else 1e-5
    assert parity(net, exported, waveforms, decide=largest, tolerance=tolerance).flipped == 0
    parity(net, exported, waveforms[:2], tolerance=tolerance)
    replaced = mode != "scratch" and "Xception" in name.replace("xc_", "Xception")
    assert norms(exported) == norms(content) - replaced
    assert (fingerprints(net.backbone) == before) == (mode == "head")


@pytest.mark.parametrize("name", EXCHANGEAI)
def test_four_rounds_of_export_and_import_lose_nothing(name: str) -> None:
    net = to_torch(shared("models", f"{name}.onnx").read_bytes())
    sizes, tensors = [], []
    for _ in range(4):
        content = to_onnx(net, leads=12, samples=1000)
        net = to_torch(content)
        sizes.append(len(content))
        tensors.append(sorted(fingerprints(net).values()))
    assert len(set(sizes)) == 1
    assert all(one == other for one, other in pairwise(tensors))


def test_a_model_exported_while_training_is_put_to_rest_without_losing_a_statistic() -> None:
    content = shared("models", "InceptionTime_untrained.onnx").read_bytes()
    model = onnx.load_model_from_string(content)
    initialisers = {item.name: item for item in model.graph.initializer}
    wanted = {
        numpy_helper.to_array(initialisers[node.input[4]]).tobytes()
        for node in model.graph.node
        if node.op_type == "BatchNormalization"
    }
    found = {
        module.running_var.numpy().tobytes()
        for module in to_torch(content).modules()
        if isinstance(module, NORMS)
    }
    assert found == wanted


@pytest.mark.parametrize("outputs", [12, 32])
@pytest.mark.parametrize("imported", [True, False])
def test_a_head_as_wide_as_the_leads_or_a_layer_keeps_the_backbone(
    outputs: int, *, imported: bool
) -> None:
    """What wipes ExChanGeAI's weights: 12 classes on 12 leads, 32 on 32 channels."""
    net: Any = build("inceptiontime", leads=12, outputs=outputs, filters=32)
    if imported:
        net = to_torch(to_onnx(net, leads=12, samples=200))
    before, old = fingerprints(net.backbone), copy.deepcopy(net.head.weight)
    name = replace_head(net, outputs)
    assert name == "head"
    assert fingerprints(net.backbone) == before
    assert net.head.weight.shape == (outputs, 128)
    assert not torch.equal(net.head.weight, old)
    assert (net.head.bias == 0).all()
    assert net.head.weight.abs().max() <= (6 / (128 + outputs)) ** 0.5
    content = to_onnx(net.eval(), leads=12, samples=200)
    assert (
        fingerprints(to_torch(content).backbone).keys()
        == fingerprints(to_torch(to_onnx(net, leads=12, samples=200)).backbone).keys()
    )


def test_a_head_of_convolution_norm_and_activation_is_replaced_as_a_whole() -> None:
    net = to_torch(shared("models", "xc_super_pretrained.onnx").read_bytes())
    before = fingerprints(net.backbone)
    assert replace_head(net, 6) == "head.3.head.3.0.Conv"
    assert fingerprints(net.backbone) == before
    logits = net(torch.from_numpy(microvolts(8)))
    assert logits.shape == (8, 6)
    assert (logits < 0).any()  # the old head could not say no
    assert torch.equal(net.head(net.embed(torch.from_numpy(microvolts(8)))), logits)


def test_head_mode_leaves_weights_and_statistics_of_the_backbone_bit_identical() -> None:
    net = to_torch(to_onnx(Between(nn.BatchNorm1d(8)), leads=12, samples=200))
    replace_head(net, 2)
    before, head = fingerprints(net.backbone), fingerprints(net.head)
    one_step(net, noise(8), "head")
    assert fingerprints(net.backbone) == before
    assert fingerprints(net.head) != head


def test_other_weights_than_the_exported_ones_do_not_pass() -> None:
    net = build("inceptiontime", leads=12, outputs=3, filters=4).eval()
    content = to_onnx(net, leads=12, samples=200)
    with torch.no_grad():
        net.head.weight[0, 0] += 0.5
    with pytest.raises(NotTheSame, match="differ by up to"):
        parity(net, content, noise())


def test_a_flipped_decision_does_not_pass_however_small_the_difference() -> None:
    net = build("inceptiontime", leads=12, outputs=1, filters=4).eval()
    content = to_onnx(net, leads=12, samples=200)
    with torch.no_grad():
        border = float(net(torch.from_numpy(noise(1))).item())
        net.head.bias += 1.0
    with pytest.raises(NotTheSame, match=r"in [1-9] decisions"):
        parity(net, content, noise(1), decide=lambda logits: logits > border + 0.5, tolerance=10.0)


def test_not_a_number_does_not_pass() -> None:
    net = build("inceptiontime", leads=12, outputs=3, filters=4).eval()
    content = to_onnx(net, leads=12, samples=200)
    with pytest.raises(NotTheSame):
        parity(net, content, np.full((1, 12, 200), np.nan, dtype=np.float32))


def graph(*nodes: onnx.NodeProto, weights: dict[str, Any], opset: int = 17) -> bytes:
    """Return a model from ``waveform`` (batch, 12, 200) to ``logits``."""
    made = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", 12, 200])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", None])],
        [numpy_helper.from_array(np.asarray(item), name) for name, item in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return model.SerializeToString()


MATRIX = np.ones((12, 3), np.float32)
MEAN = helper.make_node("ReduceMean", ["waveform"], ["mean"], axes=[2], keepdims=0)
HEAD = helper.make_node("MatMul", ["mean", "matrix"], ["logits"])


def refused(content: bytes) -> ModelRejected:
    with pytest.raises(ModelRejected) as caught:
        to_torch(content)
    return caught.value


def test_operators_that_cannot_be_trained_are_all_named_before_any_work() -> None:
    found = refused(
        graph(
            helper.make_node("GRU", ["waveform", "w", "r"], ["y"], hidden_size=2),
            helper.make_node(
                "LSTM", ["waveform", "w", "r"], ["z"], hidden_size=2, direction="reverse"
            ),
            MEAN,
            HEAD,
            weights={"matrix": MATRIX, "w": MATRIX[None], "r": MATRIX[None]},
        )
    )
    assert found.reason is ModelReason.FORBIDDEN_OPERATOR
    assert "GRU without linear_before_reset" in found.message
    assert "LSTM with direction" in found.message


def test_an_opset_of_the_future_is_named() -> None:
    assert "opset 26" in refused(graph(MEAN, HEAD, weights={"matrix": MATRIX}, opset=26)).message


def test_a_graph_without_a_layer_or_with_two_last_ones_has_no_head() -> None:
    headless = graph(
        helper.make_node("ReduceMean", ["waveform"], ["logits"], axes=[2], keepdims=0), weights={}
    )
    two = graph(
        MEAN,
        helper.make_node("MatMul", ["mean", "matrix"], ["one"]),
        helper.make_node("MatMul", ["mean", "matrix"], ["other"]),
        helper.make_node("Add", ["one", "other"], ["logits"]),
        weights={"matrix": MATRIX},
    )
    for content in (headless, two):
        assert "No single last layer" in refused(content).message


@pytest.mark.parametrize("opset", [18, 20, 22, 25])
def test_newer_opsets_of_the_same_meaning_are_read(opset: int) -> None:
    content = graph(
        helper.make_node("Conv", ["waveform", "kernel"], ["maps"]),
        helper.make_node("ReduceMean", ["maps", "axes"], ["mean"], keepdims=0),
        HEAD,
        weights={
            "kernel": np.ones((12, 12, 3), np.float32),
            "axes": np.array([2]),
            "matrix": MATRIX,
        },
        opset=opset,
    )
    net = to_torch(content)
    assert (net.head_name, net.width) == ("MatMul", 12)


@pytest.mark.parametrize(
    "name", ["meta", "graph", "training", "a.forward", "head.forward", "..", ""]
)
def test_a_layer_may_be_called_what_a_module_calls_its_own_parts(name: str) -> None:
    content = graph(
        helper.make_node("Conv", ["waveform", f"{name}.weight"], ["maps"]),
        helper.make_node("ReduceMean", ["maps"], ["mean"], axes=[2], keepdims=0),
        HEAD,
        weights={f"{name}.weight": np.ones((12, 12, 3), np.float32), "matrix": MATRIX},
    )
    assert to_torch(content).eval().width == 12


def hostile() -> dict[str, bytes]:
    loop = helper.make_node(
        "If",
        ["yes"],
        ["logits"],
        then_branch=helper.make_graph([], "then", [], []),
        else_branch=helper.make_graph([], "else", [], []),
    )
    outside = onnx.load_model_from_string(graph(MEAN, HEAD, weights={"matrix": MATRIX}))
    tensor = outside.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    bomb = graph(
        helper.make_node("Expand", ["matrix", "size"], ["huge"]),
        helper.make_node("ReduceMean", ["huge"], ["one"], axes=[0], keepdims=0),
        MEAN,
        helper.make_node("MatMul", ["mean", "one"], ["logits"]),
        weights={"matrix": MATRIX, "size": np.array([2**20, 12, 3])},
    )
    return {
        "no model": b"GIF89a",
        "a crowd": b"\x3a\x80\x80\x40" + b"\x0a\x00" * 2**19,
        "control flow": graph(loop, weights={"yes": np.array(1, dtype=bool)}),
        "another file": outside.SerializeToString(),
        "infinity": graph(MEAN, HEAD, weights={"matrix": MATRIX * np.inf}),
        "expands": bomb,
        "own domain": tiny_model.graph(domains=["evil"]).SerializeToString(),
    }


@pytest.mark.parametrize("what", hostile())
def test_a_hostile_file_is_refused_by_the_same_vetting_as_any_model(what: str) -> None:
    assert refused(hostile()[what]).message


def test_a_net_that_reads_measurements_is_not_exported_as_if_it_did_not() -> None:
    net = build("inceptiontime", leads=12, outputs=1, features=2, filters=4)
    with pytest.raises(ValueError, match="no input for measurements"):
        to_onnx(net, leads=12, samples=200)


def test_what_torch_cannot_export_is_said_in_a_sentence(capsys: pytest.CaptureFixture) -> None:
    net = Between(nn.AdaptiveAvgPool1d(64))
    with pytest.raises(ValueError, match="cannot be exported"):
        to_onnx(net, leads=12, samples=200)
    assert capsys.readouterr().out == ""


def test_an_imported_net_knows_its_parts() -> None:
    net = to_torch(to_onnx(Tokens(), leads=12, samples=200))
    assert isinstance(net, Imported)
    assert (net.head_name, net.width) == ("fc.MatMul", 16)
    assert net.embed(torch.zeros(2, len(STANDARD_12), 200)).shape == (2, 16)
