"""Convolutions of maps that are resized first, against doing one after the other in double precision."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from hf_usod.models.resized_convolution import ResizedConv

SHAPES = [  # of the maps, and what they are resized to
    ([(16, 3, 4)], (12, 16)),
    ([(16, 5, 5)], (6, 6)),
    ([(4, 1, 1)], (8, 8)),
    ([(6, 8, 6), (5, 4, 3), (7, 2, 2)], (16, 12)),
    ([(3, 6, 6)], (6, 6)),
    ([(3, 12, 10)], (6, 20)),
]


def made(shapes, size, dtype=torch.float32):
    torch.manual_seed(0)
    maps = [torch.randn(2, *shape).to(dtype).requires_grad_(True) for shape in shapes]
    return ResizedConv(sum(shape[0] for shape in shapes), 5).to(dtype), maps, torch.Size(size)


def one_after_the_other(conv, maps, size):
    resized = [F.interpolate(part.double(), size, mode="bilinear", align_corners=True) for part in maps]
    return F.conv2d(torch.cat(resized, dim=1), conv.weight.double(), conv.bias.double(), padding=1)


@pytest.mark.parametrize("shapes, size", SHAPES)
def test_is_a_convolution_of_resized_maps(shapes, size):
    conv, maps, size = made(shapes, size)
    found, expected = conv(maps, size), one_after_the_other(conv, maps, size)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)

    weights = torch.randn_like(found)
    parameters = [*maps, conv.weight, conv.bias]
    gradients = torch.autograd.grad((found * weights).sum(), parameters)
    plain = torch.autograd.grad((expected * weights.double()).sum(), parameters)
    for gradient, other in zip(gradients, plain, strict=True):
        torch.testing.assert_close(gradient.double(), other.double(), rtol=1e-4, atol=1e-4)


def test_a_sum_written_out():
    """Two pixels to three: at the middle their mean, and a kernel of ones adds up what is around."""
    conv = ResizedConv(1, 1)
    torch.nn.init.ones_(conv.weight)
    torch.nn.init.constant_(conv.bias, 10.0)
    maps = torch.tensor([[[[0.0, 4.0]]]])  # resized, in each of three rows: 0 2 4
    expected = [[2 * 2, 2 * 6, 2 * 6], [3 * 2, 3 * 6, 3 * 6], [2 * 2, 2 * 6, 2 * 6]]
    assert conv([maps], torch.Size((3, 3))).tolist() == [[[[10.0 + value for value in row] for row in expected]]]


def test_what_inference_kept_can_be_trained_with():
    conv, maps, size = made(*SHAPES[0])
    with torch.inference_mode():
        conv(maps, size)
    conv(maps, size).sum().backward()
    assert conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "shapes, size, share",
    [
        ([(96, 10, 10)], (80, 80), 0.07),  # of the detector's global block
        ([(96, 40, 40)], (80, 80), 0.6),  # of the level below
        ([(64, 40, 40), (64, 20, 20), (64, 10, 10)], (80, 80), 0.4),  # of the cue extractor
        ([(1, 16, 16)], (20, 20), 1.0),  # one after the other: nothing would be saved
    ],
)
def test_multiplies_less(shapes, size, share):
    conv, maps, size = made(shapes, size)
    with FlopCounterMode(display=False) as ours:
        conv(maps, size)
    with FlopCounterMode(display=False) as plain:
        F.conv2d(torch.randn(2, conv.in_channels, *size), conv.weight, conv.bias, padding=1)
    assert ours.get_total_flops() <= share * plain.get_total_flops()


@pytest.mark.parametrize("shapes, size", SHAPES[:4])
def test_half_precision_is_as_near(shapes, size):
    conv, maps, size = made(shapes, size, torch.bfloat16)
    expected = one_after_the_other(conv, maps, size)
    assert (conv(maps, size).double() - expected).abs().max() < 0.02 * expected.abs().max() + 0.02
