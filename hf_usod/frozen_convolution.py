"""Convolutions whose weights stay, as a CPU computes them fastest."""

import platform
from functools import cache
from typing import Any

import torch
from timm.layers import Conv2dSame
from torch import nn

from .replacing_convolution import ReplacingConv

Packed = tuple[torch.Tensor, torch.Tensor | None, tuple[int, int]]  # weight, bias, padding

_MOST_SHAPES = 16  # that weights are kept for: of a training's second views there are fewer
FUSED: dict[type[nn.Module], tuple[str, list[float]]] = {  # activations, and what oneDNN calls them
    nn.Identity: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
}


@cache
def _precisions() -> tuple[torch.dtype, ...]:
    """What oneDNN computes in on this processor; where it has not been tried, nothing."""
    tried = platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()
    if not tried or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return ()
    return (torch.float32, torch.bfloat16) if torch.ops.mkldnn._is_mkldnn_bf16_supported() else (torch.float32,)


class FrozenConv(ReplacingConv):
    """A convolution and the activation after it, by oneDNN on a CPU: in one pass over the maps, with its weights in the
    order that it computes in, which is found once for each shape of maps. The same numbers; a detector in bf16 takes
    three fifths of the time.

    Where gradients flow, and on other devices, it computes as any convolution. Its weights must stay as they are.
    """

    activation: nn.Module
    _packed: dict[tuple[torch.Size, torch.dtype], Packed]

    @classmethod
    def of(cls, conv: nn.Conv2d, activation: nn.Module) -> "FrozenConv | None":
        """The same convolution, of the same weights; None if it is of a kind that is not known here.

        Args:
            activation: one of `FUSED`.
        """
        same = type(conv) is Conv2dSame
        known = (same and conv.dilation == (1, 1)) or type(conv) is nn.Conv2d
        if not known or isinstance(conv.padding, str) or conv.padding_mode != "zeros":
            return None
        return cls.replacing(conv, _modules={"activation": activation}, _packed={})

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """`(B, C_in, H, W)` -> `(B, C_out, H', W')`."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else maps.dtype
        if self._is_fused(maps, dtype):
            return self._fused(maps.to(dtype))
        maps = self.padded(maps)
        if maps.device.type == "cpu" and dtype == maps.dtype == torch.float32 and torch.float32 in _precisions():
            # PyTorch takes oneDNN for several threads only; one multiplies matrices, twice as long with AVX-512
            settings: Any = (self.padding, self.stride, self.dilation, self.groups)
            return self.activation(torch.mkldnn_convolution(maps, self.weight, self.bias, *settings))
        return self.activation(super().forward(maps))

    def _is_fused(self, maps: torch.Tensor, dtype: torch.dtype) -> bool:
        if maps.device.type != "cpu" or dtype not in _precisions() or torch.compiler.is_compiling():
            return False
        return not (torch.is_grad_enabled() and (maps.requires_grad or self.weight.requires_grad))

    def _fused(self, maps: torch.Tensor) -> torch.Tensor:
        key = (maps.shape, maps.dtype)
        packed = self._packed.get(key)
        if packed is None:
            if len(self._packed) >= _MOST_SHAPES:
                self._packed.clear()
            packed = self._packed[key] = self._pack(maps.shape, maps.dtype)
        weight, bias, padding = packed
        name, limits = FUSED[type(self.activation)]
        return torch.ops.mkldnn._convolution_pointwise(
            maps, weight, bias, padding, self.stride, self.dilation, self.groups, name, limits, ""
        )

    def _pack(self, shape: torch.Size, dtype: torch.dtype) -> Packed:
        weight, padding = self.evenly_padding(shape[2:])
        order = torch.ops.mkldnn._reorder_convolution_weight
        ordered = order(weight.detach().to(dtype), padding, self.stride, self.dilation, self.groups, shape)
        return ordered, None if self.bias is None else self.bias.to(dtype), padding

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        self._packed.clear()  # as weights get another device or precision
        return super()._apply(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": {}}  # which cannot be copied
