"""What stands in the place of what ONNX does not know: the same numbers."""

import pytest
import torch
from PIL import Image
from timm.layers import Conv2dSame
from torch import nn

from hf_usod.assets import EXAMPLES
from hf_usod.export.graph import GraphConvSame, GraphMaxPool, GraphRefiner
from hf_usod.models.image_processing_usod import UsodImageProcessor
from hf_usod.models.pixel_refiner import PixelRefiner


@pytest.mark.parametrize("shape", [(10, 10), (7, 12), (26, 31), (1, 1)])
@pytest.mark.parametrize("size", [13, 9, 5, 1, (3, 2)])
def test_pools_are_to_the_bit(shape, size):
    pool, maps = nn.AdaptiveMaxPool2d(size), torch.randn(2, 3, *shape)
    assert torch.equal(GraphMaxPool(pool)(maps), pool(maps))


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (5, 2, 1), (3, 1, 1), (3, 2, 2), (1, 2, 1)])
def test_padding_is_to_the_bit(kernel, stride, dilation):
    conv, maps = Conv2dSame(3, 4, kernel, stride, dilation=dilation), torch.randn(2, 3, 32, 64)
    assert torch.equal(GraphConvSame(conv)(maps), conv(maps))


def test_refinement_is_the_same():
    """Also where a photo is of one color, as the astronaut is in places."""
    refiner = PixelRefiner()
    photos = [Image.open(EXAMPLES / f"{name}.jpg") for name in ("astronaut", "chelsea")]
    images = UsodImageProcessor(size={"height": 96, "width": 128})(photos, return_tensors="pt")["pixel_values"]
    images[1, :, :20] = 0.25
    saliency = torch.rand(2, 1, 96, 128)
    assert torch.allclose(GraphRefiner(refiner)(images, saliency), refiner(images, saliency), atol=1e-5)
