import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tiny_model
import torch
from commands import Run
from safetensors.torch import save_file
from support import shared
from torch import nn

from analysis.card import Activation, Card, Label
from analysis.classify import classify
from analysis.ecg import Patient
from analysis.model import load_model
from analysis.recipe import Unit
from analysis.standardise import standardise
from analysis.synthetic import Kind, simulate
from dicom_node.report.uids import device_uid
from training.architectures import Net, build
from training.bases import net_of, open_base
from training.convert import NotTheSame, fingerprints, replace_head, to_torch
from training.custom import as_net, load_module
from training.exchangeai import describe
from training.plan import Mode, Plan
from training.publish import Package, decisions, publish

ECGS = [simulate(Kind.SINUS, seed=seed, sampling_frequency=250.0).ecg for seed in range(2)]


def net(outputs: int = 3) -> Net:
    torch.manual_seed(0)
    return build("inceptiontime", leads=12, outputs=outputs, filters=4).eval()


def windows(card: Card) -> np.ndarray:
    return np.concatenate([standardise(ecg, card.recipe).windows for ecg in ECGS])


def published(card: Card, of: nn.Module | None = None) -> Package:
    return publish(of or net(), card, waveforms=windows(card), self_test=ECGS)


def test_a_trained_net_becomes_the_package_that_the_node_loads() -> None:
    package = published(tiny_model.card())
    model = load_model(package.content)
    assert model.identity.digest == package.digest
    assert model.card == tiny_model.card()
    batch = windows(model.card)
    wanted = torch.sigmoid(net()(torch.from_numpy(batch))).detach().numpy()
    np.testing.assert_allclose(model.probabilities(batch), wanted, atol=1e-5)


def test_each_version_is_a_device_of_its_own_and_the_same_version_the_same() -> None:
    first, again, second = (published(tiny_model.card(version=v)) for v in ("1", "1", "2"))
    assert first.content == again.content
    assert first.device_uid == again.device_uid == device_uid(first.digest)
    assert second.device_uid != first.device_uid


def test_decisions_are_those_of_the_cards_thresholds() -> None:
    card = tiny_model.card(labels=(Label.of("normal", 0.2), Label.of("pvc", 0.9)))
    logits = np.array([[-1.3, 2.1], [-1.5, 2.3]], dtype=np.float32)
    assert decisions(card)(logits).tolist() == [[True, False], [False, True]]
    softmax = replace(card, activation=Activation.SOFTMAX)
    assert decisions(softmax)(logits).tolist() == [[False, True], [False, True]]
    none = replace(card, activation=Activation.NONE)
    assert decisions(none)(np.array([[0.2, 0.8]], dtype=np.float32)).tolist() == [[True, False]]


def test_a_net_whose_training_form_differs_is_published_as_it_serves() -> None:
    learning = net().train()
    package = published(tiny_model.card(), learning)
    assert learning.training
    assert package.content == published(tiny_model.card()).content


def test_what_the_runtime_computes_otherwise_is_not_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = net()
    with torch.no_grad():
        other.head.bias += 1
    content = load_model(published(tiny_model.card(), other).content)
    assert content.card
    monkeypatch.setattr(
        "training.publish.to_onnx",
        lambda _, leads, samples: __import__("training.convert").convert.to_onnx(
            other, leads=leads, samples=samples
        ),
    )
    with pytest.raises(NotTheSame):
        published(tiny_model.card())


def test_exchangeais_microvolts_survive_training_and_packing() -> None:
    content = shared("models", "xc_super_pretrained.onnx").read_bytes()
    said, learnt = describe(content), to_torch(content)
    replace_head(learnt, 2)
    card = tiny_model.card(
        recipe=said.recipe, labels=(Label.of("lbbb", 0.5), Label.of("normal", 0.5))
    )
    model = load_model(published(card, learnt).content)
    assert model.card.recipe.unit is Unit.MICROVOLT
    assert len(classify([model], ECGS, [Patient(age=60.0)] * len(ECGS))[0]) == 2


def test_exchangeais_model_serves_as_it_came_with_its_own_labels() -> None:
    content = shared("models", "xc_super_pretrained.onnx").read_bytes()
    said = describe(content)
    card = tiny_model.card(recipe=said.recipe, labels=said.labels, activation=said.activation)
    package = published(card, to_torch(content))
    found = load_model(package.content).probabilities(windows(card))
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


class Custom(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv1d(12, width, 9, stride=4)
        self.fc = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.first(x)).mean(-1))


@pytest.fixture
def house() -> Iterator[str]:
    """A module of someone's own, importable by name."""
    module = ModuleType("house_of_nets")
    module.Custom = Custom
    module.number = lambda: 3
    sys.modules["house_of_nets"] = module
    yield "house_of_nets:Custom"
    del sys.modules["house_of_nets"]


def test_a_module_of_ones_own_is_trained_and_published_like_any_net(
    house: str, tmp_path: Path
) -> None:
    saved = Custom(width=6)
    save_file(saved.state_dict(), tmp_path / "own.safetensors")
    loaded = load_module(
        house, allowed=[house], weights=tmp_path / "own.safetensors", options={"width": 6}
    )
    assert torch.equal(loaded.first.weight, saved.first.weight)
    card = tiny_model.card()
    usable = as_net(loaded, leads=12, samples=card.recipe.samples)
    assert replace_head(usable, 3) == "fc"
    assert load_model(published(card, usable).content).card == card
    assert as_net(usable, leads=12, samples=card.recipe.samples) is usable


_OWN = """
from torch import nn

class Own(nn.Module):
    def __init__(self, width=4, leads=12):
        super().__init__()
        self.first = nn.Conv1d(leads, width, 9, stride=4)
        self.fc = nn.Linear(width, 2)

    def forward(self, x):
        return self.fc(self.first(x).relu().mean(-1))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of someone's code, in a folder that nothing is imported from."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "own_net.py").write_text(_OWN)
    yield tmp_path / "code"
    sys.modules.pop("own_net", None)


def test_the_command_makes_a_module_of_ones_own_a_base_that_states_its_input(
    own: Path, run: Run
) -> None:
    options = ("--from", own, "--set", "width=6", "--recipe", "samples=2000", "--recipe", "unit=uV")
    done = run("models", "module", "own_net:Own", "own.onnx", *options, "--json")
    assert done.status == 0, done.err
    assert done.documents[0]["recipe"]["unit"] == "uV"
    wanted = Plan(name="own", keys=("pac", "pvc", "lbbb"), base="own.onnx", mode=Mode.HEAD)
    base = open_base(wanted)
    assert (base.recipe.samples, base.recipe.unit) == (2000, Unit.MICROVOLT)
    net = net_of(base, wanted)
    assert fingerprints(net).keys() == {
        "backbone.first.weight", "backbone.first.bias", "head.weight", "head.bias",
    }  # fmt: skip
    assert net(torch.zeros(2, 12, 2000)).shape == (2, 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("own_net:Absent", "own.onnx"), "gives no module"),
        (("own_net:Own", "own.onnx", "--set", "leads=8"), "fails on an input of (2, 12, 1000)"),
        (("own_net:Own", "own.onnx", "--recipe", "unit=V"), "recipe cannot be used"),
        (("own_net:Own", "own.onnx", "--weights", "absent.safetensors"), "no safetensors file"),
    ],
)
def test_a_module_that_cannot_be_a_base_is_a_sentence(
    own: Path, run: Run, words: tuple[str, ...], said: str
) -> None:
    done = run("models", "module", *words, "--from", own)
    assert done.status == 1
    assert said in done.err
    assert not Path("own.onnx").exists()


def test_a_path_that_nobody_allowed_is_not_even_imported(house: str) -> None:
    with pytest.raises(PermissionError, match="not on the list"):
        load_module("house_of_horrors:Net", allowed=[house])
    assert "house_of_horrors" not in sys.modules


def test_what_is_no_module_or_has_other_weights_is_said(house: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.safetensors"
    save_file(Custom(width=5).state_dict(), wrong)
    with pytest.raises(ValueError, match="holds other weights"):
        load_module(house, allowed=[house], weights=wrong)
    wrong.write_bytes(b"\x80\x04pickle")
    with pytest.raises(ValueError, match="no safetensors file"):
        load_module(house, allowed=[house], weights=wrong)
    for path in ("house_of_nets:Absent", "house_of_nets:number", "absent_module:Net", ":", "x"):
        with pytest.raises(ValueError, match="gives no"):
            load_module(path, allowed=[path])
