"""Networks at their fastest give the same numbers."""

import copy

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from hf_usod import UsodSceConfig, UsodSceModel
from hf_usod.folding import fastest, fold_batch_norms
from hf_usod.frozen_convolution import FrozenConv

KINDS = {
    "pointwise": nn.Conv2d(24, 40, 1),
    "pointwise, strided": nn.Conv2d(24, 40, 1, stride=2),
    "3 x 3 without bias": nn.Conv2d(24, 16, 3, padding=1, bias=False),
    "dilated": nn.Conv2d(24, 16, 3, padding=2, dilation=2),
    "depthwise": nn.Conv2d(24, 24, 5, padding=2, groups=24),
    "padded as TensorFlow does": Conv2dSame(24, 24, 3, stride=2, groups=24),
    "padded as TensorFlow does, 5 x 5": Conv2dSame(24, 16, 5, stride=2),
    "padded as TensorFlow does, 4 x 4": Conv2dSame(24, 16, 4, stride=1),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", [nn.Identity(), nn.ReLU(), nn.ReLU6()], ids=lambda module: type(module).__name__)
@pytest.mark.parametrize("size", [(16, 20), (9, 20), (9, 11)])
def test_a_frozen_convolution_and_its_gradients_are_the_same(kind, activation, size):
    torch.manual_seed(0)
    conv = copy.deepcopy(KINDS[kind])
    conv.reset_parameters()
    with torch.no_grad():
        conv.weight.mul_(4)  # beyond 6
    frozen = FrozenConv.of(conv, activation)
    maps = torch.randn(2, 24, *size).requires_grad_()
    expected = activation(conv(maps))
    with torch.inference_mode():
        for like in (maps.detach(), maps.detach().to(memory_format=torch.channels_last)):
            torch.testing.assert_close(frozen(like), expected, rtol=1e-5, atol=1e-5)
    actual = frozen(maps)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    of = (maps, *conv.parameters())
    for gradient, wanted in zip(
        torch.autograd.grad(actual.square().sum(), of), torch.autograd.grad(expected.square().sum(), of), strict=True
    ):
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("same", [False, True])
def test_a_frozen_convolution_heeds_precisions_and_copies(same):
    conv = Conv2dSame(4, 4, 3, stride=2) if same else nn.Conv2d(4, 4, 3, padding=1)
    frozen, maps = FrozenConv.of(conv, nn.ReLU()), torch.randn(1, 4, 8, 8)
    expected = conv(maps).relu()
    with torch.autocast("cpu", torch.bfloat16):  # where gradients flow
        assert frozen(maps).dtype == torch.bfloat16
    assert copy.deepcopy(frozen).double()(maps.double()).dtype == torch.float64
    with torch.inference_mode():
        frozen(maps)  # from here on weights are kept in another order
        with torch.autocast("cpu", torch.bfloat16):
            half = frozen(maps)
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(half.float(), expected, rtol=0.02, atol=0.02)
        torch.testing.assert_close(copy.deepcopy(frozen)(maps), expected)
        assert frozen.double()(maps.double()).dtype == torch.float64
        assert frozen.bfloat16()(maps.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("known", [(), (torch.float32,)])
def test_a_frozen_convolution_on_other_processors(monkeypatch, known):
    monkeypatch.setattr("hf_usod.frozen_convolution._precisions", lambda: known)
    conv = Conv2dSame(4, 4, 3, stride=2)
    frozen, maps = FrozenConv.of(conv, nn.ReLU()), torch.randn(1, 4, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(frozen(maps), conv(maps).relu(), rtol=1e-5, atol=1e-5)
        half = frozen.bfloat16()(maps.bfloat16())
    assert half.dtype == torch.bfloat16
    assert all(dtype == torch.float32 for _, dtype in frozen._packed)


def test_a_frozen_convolution_keeps_weights_for_few_shapes():
    conv = nn.Conv2d(3, 4, 3, padding=1)
    frozen = FrozenConv.of(conv, nn.Identity())
    with torch.inference_mode():
        for side in range(4, 60):
            maps = torch.randn(1, 3, side, side)
            torch.testing.assert_close(frozen(maps), conv(maps), rtol=1e-5, atol=1e-5)
    assert len(frozen._packed) <= 16


@pytest.mark.parametrize(
    "conv", [nn.Conv2d(3, 4, 3, padding="same"), nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")]
)
def test_other_convolutions_stay_as_they_are(conv):
    assert FrozenConv.of(conv, nn.Identity()) is None


class Twisted(nn.Module):
    """What a chain of convolution, norm and activation may meet."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(2))
        self.relu = nn.ReLU()

    def forward(self, maps):
        first = self.norms[0](self.convs[0](maps))
        if self.kind == "shared activation":
            return self.relu(self.norms[1](self.convs[1](self.relu(first))))
        if self.kind == "an addition in place":
            second = self.norms[1](self.convs[1](first))
            second += maps
            return self.relu(second)
        if self.kind == "a norm's output used twice":
            return self.relu(first) + first
        if self.kind == "a convolution for two norms":
            once = self.convs[0](maps)
            return self.norms[0](once) + self.norms[1](once)
        if self.kind == "a module twice":
            return self.relu(self.norms[0](self.convs[0](first)))
        return self.relu(self.norms[1](self.convs[1](first)))


@pytest.mark.parametrize(
    ("kind", "norms"),
    [
        ("a plain chain", 0),
        ("shared activation", 0),
        ("an addition in place", 0),
        ("a norm's output used twice", 2),  # the other never runs
        ("a convolution for two norms", 2),
        ("a module twice", 2),
    ],
)
def test_whatever_the_network_its_numbers_stay(kind, norms):
    torch.manual_seed(0)
    network = Twisted(kind).eval()
    with torch.no_grad():
        for norm in network.norms:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.3, 2)
    maps = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        folded = fold_batch_norms(network, lambda module: (module(maps),))
        torch.testing.assert_close(folded(maps), network(maps), rtol=1e-4, atol=1e-4)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == norms


def test_a_cue_extractor_at_its_fastest_is_the_same(tiny_backbone):
    torch.manual_seed(0)
    model = UsodSceModel(UsodSceConfig(backbone_config=tiny_backbone(), decoder_channels=8)).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.3, 2)
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        fast = fastest(model)
        expected = model(pixel_values=images).logits
        torch.testing.assert_close(fast(pixel_values=images).logits, expected, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    assert expected.std() > 1e-3
