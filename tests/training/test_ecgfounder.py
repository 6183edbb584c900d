from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import shared
from torch import Tensor

from analysis.codes import VOCABULARY
from analysis.model import load_model
from analysis.standardise import standardise
from analysis.synthetic import Kind, simulate
from training import ecgfounder
from training.architectures import Net
from training.convert import fingerprints, replace_head
from training.ecgfounder import groups, load_net, read_checkpoint, recipe, to_package
from training.ecgfounder_tasks import TASKS, Standing

WIDTHS = (64, 160, 160, 400, 400, 1024, 1024)
DEPTHS = (2, 2, 2, 3, 3, 4, 4)
ECGS = [simulate(Kind.SINUS, sampling_frequency=500.0).ecg]


def published(leads: int = 12, outputs: int = 150, seed: int = 0) -> dict[str, Tensor]:
    """Return a checkpoint with the names and shapes of the release, written out from its source."""
    made = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}

    def layer(name: str, *shape: int) -> None:
        size = (1 / np.prod(shape[1:])) ** 0.5
        found[f"{name}.weight"] = size * torch.randn(shape, generator=made)
        found[f"{name}.bias"] = 0.1 * torch.randn(shape[:1], generator=made)

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            found[f"{name}.{part}"] = torch.rand(channels, generator=made)
        found[f"{name}.num_batches_tracked"] = torch.tensor(7)

    layer("first_conv.conv", 64, leads, 16)
    norm("first_bn", 64)
    inputs = 64
    for stage, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
        for block in range(depth):
            name = f"stage_list.{stage}.block_list.{block}"
            norm(f"{name}.bn1", inputs)
            layer(f"{name}.conv1.conv", width, inputs, 1)
            norm(f"{name}.bn2", width)
            layer(f"{name}.conv2.conv", width, 16, 16)
            norm(f"{name}.bn3", width)
            layer(f"{name}.conv3.conv", width, width, 1)
            layer(f"{name}.se_fc1", width // 2, width)
            layer(f"{name}.se_fc2", width, width // 2)
            inputs = width
    layer("dense", outputs, 1024)
    return found


@pytest.fixture(scope="module")
def twelve() -> dict[str, Tensor]:
    return published()


def by_hand(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """Return what the published forward pass gives, written as formulas."""
    f = torch.nn.functional

    def same(x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = tensors[f"{name}.conv.weight"]
        length, kernel = x.shape[-1], weight.shape[-1]
        pad = max(0, ((length + stride - 1) // stride - 1) * stride + kernel - length)
        x = f.pad(x, (pad // 2, pad - pad // 2))
        return f.conv1d(x, weight, tensors[f"{name}.conv.bias"], stride, groups=groups)

    x = f.silu(same(x, "first_conv", 2))
    for stage, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
        for block in range(depth):
            name, stride = f"stage_list.{stage}.block_list.{block}", 1 if block else 2
            out = same(x if stage == block == 0 else f.silu(x), f"{name}.conv1")
            out = same(f.silu(out), f"{name}.conv2", stride, width // 16)
            out = same(f.silu(out), f"{name}.conv3")
            excited = f.linear(
                out.mean(-1), tensors[f"{name}.se_fc1.weight"], tensors[f"{name}.se_fc1.bias"]
            )
            excited = f.linear(
                f.silu(excited), tensors[f"{name}.se_fc2.weight"], tensors[f"{name}.se_fc2.bias"]
            )
            if stride > 1:
                x = f.max_pool1d(f.pad(x, (0, 1)), 2)
            grown = width - x.shape[1]
            x = f.pad(x, (0, 0, grown // 2, grown - grown // 2))
            x = x + torch.einsum("abc,ab->abc", out, torch.sigmoid(excited))
    return f.linear(x.mean(-1), tensors["dense.weight"], tensors["dense.bias"])


@pytest.mark.parametrize("samples", [1000, 999])
def test_a_checkpoint_loads_by_name_and_gives_what_the_published_net_gives(
    twelve: dict[str, Tensor], samples: int
) -> None:
    net, waveform = load_net(twelve), torch.randn(2, 12, samples)
    with torch.no_grad():
        torch.testing.assert_close(net(waveform), by_hand(twelve, waveform), atol=1e-4, rtol=1e-4)


def test_every_tensor_that_the_forward_pass_uses_is_the_checkpoints(
    twelve: dict[str, Tensor],
) -> None:
    held = load_net(twelve).state_dict()
    for name, values in held.items():
        theirs = name.replace("head.", "dense.").removeprefix("backbone.")
        assert torch.equal(values, twelve[theirs]), name
    unused = [name for name in twelve if ".bn" in name or name.startswith("first_bn")]
    assert len(held) == len(twelve) - len(unused)


def test_the_single_lead_release_loads_too() -> None:
    net = load_net(published(leads=1))
    assert net(torch.zeros(1, 1, 500)).shape == (1, 150)
    assert sum(item.numel() for item in published(leads=1).values()) > 30_000_000
    assert [str(lead) for lead in recipe(1).leads] == ["I"]


@pytest.mark.parametrize("change", ["absent", "unknown", "shape", "leads", "no stem"])
def test_other_weights_are_refused_and_named(twelve: dict[str, Tensor], change: str) -> None:
    tensors: dict[str, Any] = dict(twelve)
    block = "stage_list.3.block_list.1"
    if change == "absent":
        del tensors[f"{block}.se_fc1.bias"]
    elif change == "unknown":
        tensors[f"{block}.se_fc3.bias"] = torch.zeros(3)
    elif change == "shape":
        tensors[f"{block}.bn2.weight"] = torch.zeros(3)
    elif change == "leads":
        tensors["first_conv.conv.weight"] = torch.zeros(64, 8, 16)
    else:
        del tensors["first_conv.conv.weight"]
    with pytest.raises(ValueError, match=r"se_fc|bn2|not 8|no stem"):
        load_net(tensors)


def small(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: values for name, values in tensors.items() if values.numel() < 1000}


def test_a_checkpoint_is_read_from_safetensors_and_from_torch_without_running_it(
    twelve: dict[str, Tensor], tmp_path: Path
) -> None:
    part = small(twelve)
    save_file(part, tmp_path / "a.safetensors")
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in part.items()}, "val_auroc": np.float64(0.9)},
        tmp_path / "a.pth",
    )
    for name in ("a.safetensors", "a.pth"):
        found = read_checkpoint(tmp_path / name)
        assert found.keys() == part.keys()
        assert all(torch.equal(found[key], part[key]) for key in part)


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    for document in (
        {"state_dict": Trap(sprung)},
        {"state_dict": {}},
        {"state_dict": {"a": 1}},
        [1],
    ):
        torch.save(document, tmp_path / "evil.pth")
        with pytest.raises(ValueError, match=r"evil\.pth"):
            read_checkpoint(tmp_path / "evil.pth")
    assert not sprung.exists()
    (tmp_path / "evil.pth").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="tensors alone"):
        read_checkpoint(tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="tensors alone"):
        read_checkpoint(tmp_path / "absent.safetensors")


def test_the_tasks_are_those_of_the_release_in_its_order() -> None:
    names = shared("models", "ecgfounder_tasks_150.txt").read_text().splitlines()
    assert [task.name for task in TASKS] == names


def test_every_task_has_a_reason_and_only_findings_have_a_key() -> None:
    assert len({task.name for task in TASKS}) == len(TASKS) == 150
    for task in TASKS:
        assert task.reason
        assert (task.standing is Standing.FINDING) == (task.key is not None)
        assert task.key is None or task.key in VOCABULARY
    assert Counter(task.standing for task in TASKS)[Standing.FINDING] == 64


@pytest.mark.parametrize(
    "part", ["EVIDENT IN", "HAS ", "NO LONGER", " NOW ", "MORE ", "LESS ", "HAVE REPLACED"]
)
def test_no_comparison_with_an_earlier_tracing_is_ever_reportable(part: str) -> None:
    found = [task for task in TASKS if part in task.name]
    assert found
    assert {task.standing for task in found} == {Standing.SERIAL}


@pytest.mark.parametrize(
    "name", ["ACUTE", "BLOCKED", "OR DIGITALIS EFFECT", "PEDIATRIC ECG ANALYSIS", "ABNORMAL ECG"]
)
def test_fragments_and_meta_statements_are_never_reportable(name: str) -> None:
    (task,) = (task for task in TASKS if task.name == name)
    assert task.key is None


@pytest.fixture
def thin(monkeypatch: pytest.MonkeyPatch) -> Net:
    """The release's shape with little in it, so that packing takes no time."""
    torch.manual_seed(1)
    return ecgfounder.build("net1d", leads=12, outputs=150, widths=(16, 32), depths=(1, 1)).eval()


def test_its_package_reports_one_finding_per_key_by_its_largest_output(thin: Net) -> None:
    package = to_package(thin, ECGS, version="1.0", created="2026-01-02", thresholds={"lbbb": 0.25})
    model = load_model(package.content)
    assert [label.key for label in model.card.labels] == list(groups())
    by_key = {label.key: label.threshold for label in model.card.labels}
    assert (by_key["lbbb"], by_key["rbbb"]) == (0.25, 0.5)
    windows = standardise(ECGS[0], model.card.recipe).windows
    with torch.no_grad():
        every = torch.sigmoid(thin(torch.from_numpy(windows))).numpy()
    wanted = np.stack([every[:, list(which)].max(axis=1) for which in groups().values()], axis=1)
    np.testing.assert_allclose(model.probabilities(windows), wanted, atol=1e-5)


def test_a_head_of_ones_own_keeps_the_published_backbone(twelve: dict[str, Tensor]) -> None:
    net = load_net(twelve)
    before = fingerprints(net.backbone)
    assert replace_head(net, 12) == "head"
    assert fingerprints(net.backbone) == before
    with pytest.raises(ValueError, match="150 outputs, not 12"):
        to_package(net, ECGS, version="1", created="2026-01-02")


def test_the_whole_release_fits_into_a_package(twelve: dict[str, Tensor]) -> None:
    package = to_package(load_net(twelve), ECGS, version="1", created="2026-01-02")
    assert package.parity.difference <= 1e-4
    assert 100e6 < len(package.content) < 200e6
    assert package.device_uid.startswith("2.25.")
