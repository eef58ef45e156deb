"""A model as a graph: the same numbers from operations that ONNX has, for any number of images."""

import copy

import torch
from timm.layers import Conv2dSame
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..models.pixel_refiner import BANDWIDTH, EPSILON, PixelRefiner



class GraphMaxPool(nn.Module):
    """`nn.AdaptiveMaxPool2d`, of which ONNX knows nothing: the maximum over the pixels of each bin, by their places."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        for dim in (-2, -1):
            length, bins = maps.shape[dim], torch.arange(self.size)
            first, last = bins * length // self.size, ((bins + 1) * length - 1) // self.size
            widest = (length + self.size - 1) // self.size + 1
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


class GraphRefiner(nn.Module):
    """`PixelRefiner` without its in-place steps: the neighbors of a pixel are the channels of one tensor."""

    def __init__(self, refiner: PixelRefiner):
        super().__init__()
        self.pad, self.offsets, self.num_iter, self.gain = refiner.pad, refiner.offsets, refiner.num_iter, refiner.gain
        self.register_buffer("position_weights", torch.tensor(refiner.position_weights)[:, None, None])

    def _neighbors(self, maps: torch.Tensor) -> torch.Tensor:
        """`(B, 1, H, W)` -> `(B, offsets, H, W)`."""
        height, width = maps.shape[-2:]
        padded = F.pad(maps, (self.pad,) * 4, mode="replicate")
        shifted = [
            padded[..., self.pad + y : self.pad + y + height, self.pad + x : self.pad + x + width]
            for y, x in self.offsets
        ]
        return torch.cat(shifted, dim=1)

    def forward(self, images: torch.Tensor, saliency: torch.Tensor) -> torch.Tensor:
        """As of `PixelRefiner`, for maps as large as their images."""
        size = images.shape[-2:]
        channels = images.reshape(-1, 1, *size)
        neighbors = self._neighbors(channels)
        mean = neighbors.mean(dim=1, keepdim=True)
        differences = neighbors - mean
        deviation = (differences.square().sum(dim=1, keepdim=True) / (len(self.offsets) - 1)).sqrt()
        # In units of epsilon, as the exporter's optimizer takes an addition of 1e-8 for one of nothing
        scale = -1 / (images.shape[1] * (EPSILON * BANDWIDTH) ** 2) / (deviation / EPSILON + 1).square()
        affinities = differences * (differences + 2 * (mean - channels)) * scale
        affinities = affinities.reshape(-1, images.shape[1], len(self.offsets), *size).sum(dim=1)
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
                self.model.set_submodule(name, GraphMaxPool(module.output_size))
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


__all__ = ["Graph", "GraphConvSame", "GraphMaxPool", "GraphRefiner"]
