import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from training.architectures import ARCHITECTURES, Net, build, cost, initialise
from training.architectures.net import convolution

SMALL = {
    "inceptiontime": {"filters": 4},
    "net1d": {"widths": (16, 32), "depths": (1, 2)},
    "se-wide-resnet": {"widen": 1},
    "xceptiontime": {"filters": 4},
    "xresnet1d": {"depth": 18},
}
every = pytest.mark.parametrize("name", ARCHITECTURES)


def small(name: str, **options: int) -> Net:
    torch.manual_seed(0)
    return build(name, **{"leads": 12, "outputs": 3} | SMALL[name] | options).eval()


@every
@pytest.mark.parametrize("leads", [1, 8, 12])
@pytest.mark.parametrize("samples", [250, 1000, 1001])
def test_any_number_of_leads_and_samples_will_do(name: str, leads: int, samples: int) -> None:
    assert small(name, leads=leads)(torch.zeros(2, leads, samples)).shape == (2, 3)


@every
def test_logits_are_the_head_of_the_embedding(name: str) -> None:
    net = small(name)
    waveform = torch.randn(3, 12, 500)
    assert net.embed(waveform).shape == (3, net.width)
    torch.testing.assert_close(net.head(net.embed(waveform)), net(waveform))
    assert net.head.out_features == 3
    assert {key.partition(".")[0] for key, _ in net.named_parameters()} == {"backbone", "head"}


@every
def test_an_ecg_is_judged_the_same_alone_and_in_a_batch(name: str) -> None:
    net, waveform = small(name), torch.randn(5, 12, 400)
    together = net(waveform)
    torch.testing.assert_close(net(waveform[2:3]), together[2:3], atol=1e-5, rtol=1e-4)


@every
def test_measurements_beside_the_waveform_change_the_logits(name: str) -> None:
    net = small(name, features=2)
    waveform = torch.randn(2, 12, 500)
    first = net(waveform, torch.tensor([[0.0, 0.0], [0.0, 0.0]]))
    other = net(waveform, torch.tensor([[0.0, 0.0], [60.0, 1.0]]))
    torch.testing.assert_close(first[0], other[0])
    assert not torch.allclose(first[1], other[1])


@every
def test_every_weight_learns(name: str) -> None:
    net = small(name).train()
    net(torch.randn(4, 12, 500)).square().sum().backward()
    still = [key for key, item in net.named_parameters() if item.grad is None]
    assert still == []


@every
def test_fresh_nets_are_alike_for_one_seed_and_begin_undecided(name: str) -> None:
    first, again = small(name), small(name)
    for one, other in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    logits = first.train()(torch.randn(16, 12, 1000))
    assert torch.isfinite(logits).all()
    assert logits.abs().max() < 10


def test_drawing_anew_changes_every_layer_and_keeps_the_norms_neutral() -> None:
    net = small("se-wide-resnet")
    before = {key: item.clone() for key, item in net.named_parameters()}
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.fill_(3.0)
    initialise(net)
    for key, item in net.named_parameters():
        if item.ndim > 1:
            assert not torch.equal(item, before[key]), key
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all((norm.running_mean == 0).all() for norm in norms)
    assert (net.head.bias == 0).all()


@pytest.mark.parametrize(
    ("name", "parameters", "gigaflops"),
    [("inceptiontime", 457_218, 0.910), ("xceptiontime", 400_978, 0.486)],
)
def test_sizes_are_those_of_the_nets_that_exchangeai_ships(
    name: str, parameters: int, gigaflops: float
) -> None:
    found = cost(build(name, leads=12, outputs=2), leads=12, samples=1000)
    assert found.parameters == found.trainable == parameters
    assert found.flops / 1e9 == pytest.approx(gigaflops, abs=0.001)


def test_a_frozen_backbone_is_counted_as_such_and_counting_leaves_no_trace() -> None:
    net = small("inceptiontime").train()
    net.backbone.requires_grad_(requires_grad=False)
    before = [item.clone() for item in net.state_dict().values()]
    found = cost(net, leads=12, samples=300)
    assert found.trainable == sum(item.numel() for item in net.head.parameters())
    assert net.training
    assert all(map(torch.equal, before, net.state_dict().values()))


@given(samples=st.integers(2, 200))
@settings(max_examples=25, deadline=None)
def test_net1d_halves_time_rounding_up_as_the_published_one_does(samples: int) -> None:
    net = small("net1d", leads=1)
    stem = net.backbone.first_conv(torch.zeros(1, 1, samples))
    assert stem.shape[-1] == (samples + 1) // 2
    halved = net.backbone.stage_list[0](stem).shape[-1]
    assert halved == (stem.shape[-1] + 1) // 2


@given(kernel=st.sampled_from([15, 19, 27, 39]), samples=st.integers(1, 80))
@settings(max_examples=25, deadline=None)
def test_a_long_convolution_gives_the_same_while_it_learns(kernel: int, samples: int) -> None:
    torch.manual_seed(0)
    layer = convolution(3, 4, kernel)
    waveform = torch.randn(2, 3, 1, samples)
    torch.testing.assert_close(
        layer.train()(waveform), layer.eval()(waveform), atol=1e-5, rtol=1e-4
    )


def test_an_unknown_architecture_or_option_is_named() -> None:
    with pytest.raises(ValueError, match=r"no architecture 'lstm'; there are inceptiontime"):
        build("lstm", leads=12, outputs=1)
    with pytest.raises(ValueError, match="xresnet1d has no option among deepness"):
        build("xresnet1d", leads=12, outputs=1, deepness=3)
