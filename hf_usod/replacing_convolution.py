"""What takes the place of a network's convolutions."""

from typing import Any, TypeVar

import torch
from timm.layers import Conv2dSame
from timm.layers.padding import get_same_padding, pad_same
from torch import nn
from torch.nn import functional as F

Conv = TypeVar("Conv", bound="ReplacingConv")


class ReplacingConv(nn.Conv2d):
    """A convolution in the place of another, whose weights it has."""

    same: bool  # pads as TensorFlow does, for which see timm's `Conv2dSame`

    @classmethod
    def replacing(cls: type[Conv], conv: nn.Conv2d, **own: Any) -> Conv:
        """Of the same weights, with attributes of its own."""
        replacement = cls.__new__(cls)
        replacement.__dict__ = {**conv.__dict__, "same": type(conv) is Conv2dSame, **own}
        return replacement

    def padded(self, maps: torch.Tensor) -> torch.Tensor:
        """A copy with lines of zeros around the maps, where `nn.Conv2d` does not see to them."""
        return pad_same(maps, self.kernel_size, self.stride, self.dilation) if self.same else maps

    def evenly_padding(self, size: torch.Size) -> tuple[torch.Tensor, tuple[int, int]]:
        """The weights, and the lines of zeros above and left of maps of a size (height, width), as many as below and
        right of them: where one less is missing above or left, a line of zeros of the kernel stands for it, and the
        maps need not be copied."""
        assert not isinstance(self.padding, str)
        if not self.same:
            return self.weight, (self.padding[0], self.padding[1])
        sides = zip(size, self.kernel_size, self.stride, self.dilation, strict=True)
        high, wide = (get_same_padding(*side) for side in sides)
        return F.pad(self.weight, (wide % 2, 0, high % 2, 0)), (high - high // 2, wide - wide // 2)
