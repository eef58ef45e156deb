"""Convolutions at their fastest."""

import pytest
import torch
from torch import nn

from hf_usod.folding import PointwiseConv


@pytest.mark.parametrize("stride", [1, 2])
def test_a_pointwise_convolution_and_its_gradients_are_the_same_by_another_library(stride):
    conv = nn.Conv2d(24, 40, 1, stride).to(memory_format=torch.channels_last)
    pointwise = PointwiseConv.of(conv)
    maps = torch.randn(2, 24, 9, 11, requires_grad=True)
    expected, actual = conv(maps), pointwise(maps)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    of = (maps, conv.weight, conv.bias)
    for gradient, wanted in zip(
        torch.autograd.grad(actual.square().sum(), of), torch.autograd.grad(expected.square().sum(), of), strict=True
    ):
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-3)


def test_a_pointwise_convolution_heeds_precisions():
    pointwise, maps = PointwiseConv(4, 4, 1), torch.randn(1, 4, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert pointwise(maps).dtype == torch.bfloat16
    assert pointwise.double()(maps.double()).dtype == torch.float64
