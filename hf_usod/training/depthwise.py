"""Depthwise convolutions that are trained on a CPU: the gradient of their weights in compiled code."""

import ctypes
from pathlib import Path
from typing import Any

import torch
from timm.layers import Conv2dSame
from torch import nn

from ..models.pixel_refiner import compiled
from ..replacing_convolution import ReplacingConv

_SOURCE = Path(__file__).with_suffix(".c")
_KINDS = ((3, 2), (5, 1), (5, 2))  # side and stride of the kernels; oneDNN is as fast at 3 x 3 without a stride
_LANES = 8  # as in depthwise.c


class _Convolution(ctypes.Structure):
    """`struct convolution` of depthwise.c."""

    _fields_ = tuple(
        (name, ctypes.c_int)
        for name in ["batch", "channels", "height", "width", "out_height", "out_width", "side", "stride", "top", "left"]
    )


def _library() -> ctypes.CDLL | None:
    return compiled(_SOURCE)


def gradient_of_weights(
    gradients: torch.Tensor, maps: torch.Tensor, side: int, stride: int, padding: tuple[int, int]
) -> torch.Tensor:
    """That of a depthwise convolution, `(C, 1, side, side)`, in single precision; C must be a multiple of 8.

    Args:
        gradients: of what it gave, `(B, C, H', W')`.
        maps: what it took, `(B, C, H, W)`.
        side, stride: 3 and 2, or 5 and 1 or 2.
        padding: lines of zeros above the maps and left of them; below and right of them there may be more.
    """
    gradients, maps = (t.contiguous(memory_format=torch.channels_last) for t in (gradients, maps))
    (batch, channels, height, width), (out_height, out_width) = maps.shape, gradients.shape[2:]
    convolution = _Convolution(batch, channels, height, width, out_height, out_width, side, stride, *padding)
    sums = torch.zeros(side, side, channels)
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (gradients, maps, sums)]
    library = _library()
    assert library is not None
    library.usod_depthwise_weights(ctypes.byref(convolution), *pointers, torch.get_num_threads())
    return sums.permute(2, 0, 1).unsqueeze(1)


class _Depthwise(torch.autograd.Function):
    """The convolution `(B, C, H, W)` -> `(B, C, H', W')`, of weights `(C, 1, side, side)` that are the last lines of a
    kernel, for which as many lines of zeros are on all sides of the maps."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: torch.Tensor,
        weight: torch.Tensor,
        kernel: torch.Tensor,
        padding: tuple[int, int],
        stride: int,
    ) -> torch.Tensor:
        ctx.save_for_backward(maps, kernel)
        ctx.side, ctx.padding, ctx.stride = weight.shape[-1], padding, stride
        return torch.mkldnn_convolution(maps, kernel, None, padding, (stride, stride), (1, 1), len(kernel))

    @staticmethod
    def backward(ctx: Any, gradients: torch.Tensor) -> Any:
        maps, kernel = ctx.saved_tensors
        of_maps = of_weights = None
        if ctx.needs_input_grad[0]:
            strides = (ctx.stride, ctx.stride)
            settings: Any = (strides, ctx.padding, (1, 1), False, (0, 0), len(kernel), (True, False, False))
            of_maps = torch.ops.aten.convolution_backward(gradients, maps, kernel, None, *settings)[0]
        if ctx.needs_input_grad[1]:
            top, left = (
                lines - (length - ctx.side) for lines, length in zip(ctx.padding, kernel.shape[2:], strict=True)
            )
            of_weights = gradient_of_weights(gradients, maps, ctx.side, ctx.stride, (top, left))
        return of_maps, of_weights, None, None, None


class DepthwiseConv(ReplacingConv):
    """A depthwise convolution whose backward pass takes half of the time on a CPU, in single precision, of kernels of
    5 x 5; maps that are padded as TensorFlow does are not copied. Elsewhere it computes as any. The same numbers but
    for rounding."""

    @classmethod
    def of(cls, conv: nn.Conv2d) -> "DepthwiseConv | None":
        """The same convolution, of the same weights; None if it is of another kind."""
        depthwise = conv.groups == conv.in_channels == conv.out_channels and conv.in_channels % _LANES == 0
        plain = conv.bias is None and conv.dilation == (1, 1) and conv.padding_mode == "zeros"
        side, stride = conv.kernel_size[0], conv.stride[0]
        shaped = (side, stride) in _KINDS and conv.kernel_size == (side, side) and conv.stride == (stride, stride)
        padded = type(conv) is Conv2dSame or (type(conv) is nn.Conv2d and conv.padding == (side // 2, side // 2))
        return cls.replacing(conv) if depthwise and plain and shaped and padded else None

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """`(B, C, H, W)` -> `(B, C, H', W')`."""
        if self._is_fast(maps):
            kernel, padding = self.evenly_padding(maps.shape[2:])
            return _Depthwise.apply(maps, self.weight, kernel.detach(), padding, self.stride[0])
        return super().forward(self.padded(maps))

    def _is_fast(self, maps: torch.Tensor) -> bool:
        if not self.weight.requires_grad or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return False
        single = maps.dtype == self.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        return single and maps.device.type == "cpu" and _library() is not None and torch.backends.mkldnn.is_available()


def speed_up_depthwise(model: nn.Module) -> nn.Module:
    """Has a model's depthwise convolutions that are trained be `DepthwiseConv`, where there is one of their kind. Its
    weights keep their names."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Conv2d) and module.weight.requires_grad and (conv := DepthwiseConv.of(module)):
            model.set_submodule(name, conv)
    return model
