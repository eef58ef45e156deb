"""A model as a graph: the same numbers from operations that ONNX has, for any number of images."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import Conv2dSame
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..models.pixel_refiner import BANDWIDTH, EPSILON, PixelRefiner

_END = 2**31 - 1  # of an axis, in ONNX


class GraphMaxPool(nn.Module):
    """`nn.AdaptiveMaxPool2d`, of which ONNX knows nothing: the maximum over the pixels of each bin, by their places."""

    def __init__(self, pool: nn.AdaptiveMaxPool2d):
        super().__init__()
        side = pool.output_size
        self.sizes: tuple = side if isinstance(side, tuple) else (side, side)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        for dim, size in zip((-2, -1), self.sizes, strict=True):
            length, bins = maps.shape[dim], torch.arange(size)
            first, last = bins * length // size, ((bins + 1) * length - 1) // size
            widest = (length + size - 1) // size + 1
            places = torch.minimum(first[:, None] + torch.arange(widest), last[:, None])
            maps = maps.movedim(dim, -1)[..., places].amax(dim=-1).movedim(-1, dim)
        return maps


class GraphConvSame(nn.Module):
    """timm's `Conv2dSame` on sides that its stride divides, for which the padding does not depend on the size."""

    def __init__(self, conv: Conv2dSame):
        super().__init__()
        self.conv = conv
        sides = zip(conv.kernel_size, conv.dilation, conv.stride, strict=True)
        height, width = (max((kernel - 1) * dilation + 1 - stride, 0) for kernel, dilation, stride in sides)
        self.pad = (width // 2, width - width // 2, height // 2, height - height // 2)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        conv = self.conv
        maps = F.pad(maps, self.pad)
        return F.conv2d(maps, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)


@torch.library.custom_op("hf_usod::neighbors", mutates_args=())
def neighbors(maps: torch.Tensor, pad: int, ys: list[int], xs: list[int]) -> torch.Tensor:
    """The pixels of `maps` `(B, 1, H, W)` at each offset as channels, `(B, offsets, H, W)`; the border is repeated.

    One operation, which `neighbors_in_onnx` writes down: of each slice the exporter makes ten nodes, in a minute.
    """
    height, width = maps.shape[-2:]
    padded = F.pad(maps, (pad,) * 4, mode="replicate")
    return torch.cat([padded[..., pad + y :, pad + x :][..., :height, :width] for y, x in zip(ys, xs, strict=True)], 1)


@neighbors.register_fake
def _(maps: torch.Tensor, pad: int, ys: list[int], xs: list[int]) -> torch.Tensor:
    return maps.new_empty(maps.shape[0], len(ys), *maps.shape[2:])


def neighbors_in_onnx(maps: Any, pad: int, ys: Sequence[int], xs: Sequence[int]) -> Any:
    """`neighbors`, for the exporter."""
    from onnxscript import opset18

    op: Any = opset18
    padded = op.Pad(maps, op.Constant(value_ints=[0, 0, pad, pad, 0, 0, pad, pad]), mode="edge")
    axes = op.Constant(value_ints=[2, 3])
    shifted = []
    for y, x in zip(ys, xs, strict=True):
        starts = op.Constant(value_ints=[pad + y, pad + x])
        ends = op.Constant(value_ints=[y - pad or _END, x - pad or _END])  # from the end
        shifted.append(op.Slice(padded, starts, ends, axes))
    return op.Concat(*shifted, axis=1)


class GraphRefiner(nn.Module):
    """`PixelRefiner` without its in-place steps: the neighbors of a pixel are the channels of one tensor."""

    position_weights: torch.Tensor

    def __init__(self, refiner: PixelRefiner):
        super().__init__()
        self.pad, self.num_iter, self.gain = refiner.pad, refiner.num_iter, refiner.gain
        self.ys, self.xs = (list(shifts) for shifts in zip(*refiner.offsets, strict=True))
        self.register_buffer("position_weights", torch.tensor(refiner.position_weights)[:, None, None])

    def _neighbors(self, maps: torch.Tensor) -> torch.Tensor:
        return neighbors(maps, self.pad, self.ys, self.xs)

    def forward(self, images: torch.Tensor, saliency: torch.Tensor) -> torch.Tensor:
        """As of `PixelRefiner`, for maps as large as their images."""
        size = images.shape[-2:]
        channels = images.reshape(-1, 1, *size)
        neighbors = self._neighbors(channels)
        mean = neighbors.mean(dim=1, keepdim=True)
        differences = neighbors - mean
        deviation = (differences.square().sum(dim=1, keepdim=True) / (len(self.ys) - 1)).sqrt()
        # In units of epsilon, as the exporter's optimizer takes an addition of 1e-8 for one of nothing
        scale = -1 / (images.shape[1] * (EPSILON * BANDWIDTH) ** 2) / (deviation / EPSILON + 1).square()
        affinities = differences * (differences + 2 * (mean - channels)) * scale
        affinities = affinities.reshape(-1, images.shape[1], len(self.ys), *size).sum(dim=1)
        weights = (affinities - affinities.amax(dim=1, keepdim=True)).exp()
        weights = weights / weights.sum(dim=1, keepdim=True) + self.position_weights
        for _ in range(self.num_iter):
            saliency = (self._neighbors(saliency) * weights).sum(dim=1, keepdim=True)
        return saliency


def _kinds(images: torch.Tensor, has_aux: bool, aux_kind: torch.Tensor | None) -> torch.Tensor:
    """What `UsodSdModel` makes of kinds, without its checks, which would fix the number of images."""
    return images.new_zeros(images.shape[0], dtype=torch.long) if aux_kind is None else aux_kind


class Graph(nn.Module):
    """A copy of a model that can be exported; of the images, and with `takes_aux` their maps, to the logits."""

    def __init__(self, model: PreTrainedModel, takes_aux: bool):
        super().__init__()
        self.model = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
        self.takes_aux = takes_aux
        for name, module in list(self.model.named_modules()):
            if isinstance(module, nn.AdaptiveMaxPool2d):
                self.model.set_submodule(name, GraphMaxPool(module))
            elif isinstance(module, Conv2dSame):
                self.model.set_submodule(name, GraphConvSame(module))
            elif isinstance(module, PixelRefiner):
                self.model.set_submodule(name, GraphRefiner(module))
        self.is_informed = bool(getattr(model.config, "modality_informed", False))
        if self.is_informed:
            self.model._kinds = _kinds

    @property
    def input_names(self) -> list[str]:
        if not self.takes_aux:
            return ["pixel_values"]
        return ["pixel_values", "aux_pixel_values", *(["aux_kind"] if self.is_informed else [])]

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.model(**dict(zip(self.input_names, inputs, strict=True))).logits


__all__ = ["Graph", "GraphConvSame", "GraphMaxPool", "GraphRefiner", "neighbors", "neighbors_in_onnx"]
