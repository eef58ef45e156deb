"""Depthwise convolutions that are trained on a CPU: the numbers of PyTorch's, whatever the shape."""

import copy

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from hf_usod.training import depthwise
from hf_usod.training.depthwise import DepthwiseConv, speed_up_depthwise

needs_compiler = pytest.mark.skipif(depthwise._library() is None, reason="installed without a compiler")
KINDS = [(side, stride, same) for side, stride in ((3, 2), (5, 1), (5, 2)) for same in (False, True)]


def convolution(side: int, stride: int, same: bool, channels: int = 16) -> nn.Conv2d:
    kind, padding = (Conv2dSame, 0) if same else (nn.Conv2d, side // 2)
    return kind(channels, channels, side, stride, padding, groups=channels, bias=False)


def results(conv: nn.Conv2d, maps: torch.Tensor) -> list[torch.Tensor]:
    """What it gives, and the gradients of maps and weights."""
    maps = maps.clone().requires_grad_()
    given = conv(maps)
    given.backward(torch.linspace(-1, 1, given.numel(), dtype=given.dtype).view(given.shape))
    return [given.detach(), maps.grad, conv.weight.grad]


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("side", "stride", "same"), KINDS)
def test_it_computes_what_pytorch_does_in_double_precision(side, stride, same, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for channels, height, width in ((16, 1, 1), (8, 2, 2), (24, 2, 5), (40, 7, 6), (16, 12, 9)):
        conv = convolution(side, stride, same, channels)
        maps = torch.randn(3, channels, height, width)
        expected = results(copy.deepcopy(conv).double(), maps.double())
        for laid_out in (maps, maps.to(memory_format=torch.channels_last)):
            fast = DepthwiseConv.of(copy.deepcopy(conv))
            assert fast._is_fast(laid_out)
            for actual, exact in zip(results(fast, laid_out), expected, strict=True):
                torch.testing.assert_close(actual.double(), exact, rtol=1e-5, atol=1e-5)


@needs_compiler
def test_a_sum_by_hand():
    """A map of one pixel that is 1 hands the gradients of its neighbors to the weights, in the kernel's order."""
    conv = DepthwiseConv.of(convolution(5, 1, False, 8))
    maps = torch.zeros(1, 8, 5, 5)
    maps[:, :, 2, 2] = 1
    gradients = torch.arange(25.0).view(1, 1, 5, 5).expand(1, 8, 5, 5)
    conv(maps).backward(gradients)
    # The pixel (2, 2) is at place (4 - y, 4 - x) of the window around (y, x)
    assert conv.weight.grad[5, 0].flatten().tolist() == list(range(24, -1, -1))


def test_other_convolutions_stay():
    others = [
        nn.Conv2d(16, 16, 5, padding=2, bias=False),  # not depthwise
        nn.Conv2d(16, 16, 5, padding=2, groups=16),  # with a bias
        nn.Conv2d(12, 12, 5, padding=2, groups=12, bias=False),  # no whole steps of channels
        nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),  # for which there is nothing faster
        nn.Conv2d(16, 16, 7, padding=3, groups=16, bias=False),
        nn.Conv2d(16, 16, 5, padding=1, groups=16, bias=False),
        nn.Conv2d(16, 16, 5, padding="same", groups=16, bias=False),
        nn.Conv2d(16, 16, 5, padding=2, groups=16, bias=False, padding_mode="circular"),
        nn.Conv2d(16, 16, 5, padding=4, dilation=2, groups=16, bias=False),
        nn.Conv2d(16, 16, 5, 3, padding=2, groups=16, bias=False),
    ]
    assert [DepthwiseConv.of(conv) for conv in others] == [None] * len(others)


@needs_compiler
def test_weights_keep_their_names_and_those_at_rest_their_convolutions():
    model = nn.Sequential(convolution(5, 1, False), convolution(3, 2, True), nn.Conv2d(16, 8, 1))
    model[1].requires_grad_(False)
    state = model.state_dict()
    assert speed_up_depthwise(model) is model
    assert [type(part) for part in model] == [DepthwiseConv, Conv2dSame, nn.Conv2d]
    assert list(model.state_dict()) == list(state)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied[0].weight.zero_()
    assert torch.equal(model[0].weight, state["0.weight"])


@pytest.mark.parametrize("same", [False, True])
def test_where_it_is_not_faster_it_is_a_plain_convolution(same, monkeypatch):
    plain, maps = convolution(5, 2, same), torch.randn(2, 16, 12, 12)
    expected = results(copy.deepcopy(plain), maps)

    def is_plain(conv: nn.Conv2d, **tolerance: float) -> None:
        assert not conv._is_fast(maps)
        for actual, exact in zip(results(conv, maps), expected, strict=True):
            torch.testing.assert_close(actual.float(), exact, **tolerance)

    with torch.autocast("cpu", torch.bfloat16):
        is_plain(DepthwiseConv.of(copy.deepcopy(plain)), rtol=0.1, atol=0.1)
    with torch.no_grad():
        torch.testing.assert_close(DepthwiseConv.of(plain)(maps), expected[0])
    monkeypatch.setattr(depthwise, "compiled", lambda source: None)
    is_plain(DepthwiseConv.of(copy.deepcopy(plain)))
