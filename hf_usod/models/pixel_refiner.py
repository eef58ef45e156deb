"""The pixel refiner: saliency that spreads to neighbors of like color. The prior of self-rectification (SPR).

AFA: https://arxiv.org/abs/2203.02891; as A2S-v3 uses it: https://arxiv.org/abs/2404.14759
"""

import ctypes
import itertools
import math
import statistics
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from .modeling_usod import resize

_SOURCE = Path(__file__).with_suffix(".c")
NEIGHBORS = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
BANDWIDTH = 0.3  # of both kernels, in standard deviations
POSITION_WEIGHT = 0.01
EPSILON = 1e-8
_NEGLIGIBLE = 60  # exp(-60) is lost in a float32's sum; exp(-90), a denormal number, takes a CPU many times as long


class _Refiner(ctypes.Structure):
    """`struct refiner` of pixel_refiner.c."""

    _fields_ = (
        ("count", ctypes.c_int),
        ("offsets", ctypes.POINTER(ctypes.c_int)),
        ("position_weights", ctypes.POINTER(ctypes.c_float)),
        ("pad", ctypes.c_int),
        ("iterations", ctypes.c_int),
        ("bandwidth", ctypes.c_float),
        ("epsilon", ctypes.c_float),
        ("negligible", ctypes.c_float),
    )


@cache
def compiled(source: Path) -> ctypes.CDLL | None:
    """A source of this package in C, where a compiler was there as it was installed."""
    for suffix in EXTENSION_SUFFIXES:
        path = source.with_name(f"_{source.stem}{suffix}")
        if path.exists():
            return ctypes.CDLL(str(path))
    return None


def _compiled() -> ctypes.CDLL | None:
    return compiled(_SOURCE)


class PixelRefiner(nn.Module):
    """Refines saliency maps by the images they belong to (eq. 5-7; the pixel-adaptive refinement of AFA, CVPR 2022).

    Each iteration replaces a pixel by the weighted sum of its 8 neighbors at every dilation, 32 in all. The weight of
    a neighbor is a softmax over a = -(|I_i - I_j| / (sigma_f + 1e-8) / 0.3)^2, averaged over the channels, sigma_f
    the standard deviation of the 32 values; a softmax of the same form over their distances in pixels is added to it,
    times 0.01. Beyond the border the image repeats its outermost pixels.

    Without parameters and without gradients; computes in float32, on a CPU in compiled code if there is any: the same
    but for rounding. The 32 weights of a pixel are made once, from shifted views of one padded image. Since
    |I_i - I_j|^2 matters up to what all neighbors share, it is taken as (I_j - m)(I_j + m - 2 I_i), m their mean:
    plain squares lose, in float32, what distinguishes the neighbors of a pixel that is unlike all of them.

    Args:
        dilations: of the 3 x 3 windows.
        num_iter: iterations.

    Attributes:
        gain: what a map of ones becomes.
    """

    def __init__(self, dilations: tuple[int, ...] = (1, 2, 4, 8), num_iter: int = 6):
        super().__init__()
        self.pad = max(dilations)
        self.num_iter = num_iter
        self.gain = (1 + POSITION_WEIGHT) ** num_iter
        self.offsets = [(d * y, d * x) for d in dilations for y, x in NEIGHBORS]
        distances = [math.hypot(*offset) for offset in self.offsets]
        deviation = statistics.stdev(distances) + EPSILON
        affinities = [math.exp(-((distance / deviation / BANDWIDTH) ** 2)) for distance in distances]
        self.position_weights = [POSITION_WEIGHT * affinity / sum(affinities) for affinity in affinities]

    def _padded(self, maps: torch.Tensor) -> torch.Tensor:
        """The maps `(B, C, H, W)` with their border repeated around them, in one row: `(B, C, rows * columns)`."""
        return F.pad(maps, (self.pad,) * 4, mode="replicate").flatten(2)

    def _shifted(self, padded: torch.Tensor, columns: int, offset: tuple[int, int] = (0, 0)) -> torch.Tensor:
        """Padded maps of so many columns shifted by an offset: a view `(B, C, N)` from the first to the last pixel of
        the maps. What lies between two of their rows is of no use, but costs less than to leave it out: arithmetic on
        one long row is twice as fast as on many short ones."""
        start = self.pad * columns + self.pad
        shift = offset[0] * columns + offset[1]
        return padded[..., start + shift : padded.shape[-1] - start + shift]

    def _neighbors(self, padded: torch.Tensor, columns: int) -> Iterator[torch.Tensor]:
        """Padded maps shifted by each offset, one after the other."""
        return (self._shifted(padded, columns, offset) for offset in self.offsets)

    def _weights(self, images: torch.Tensor) -> torch.Tensor:
        """The weight of each neighbor, `(offsets, B, 1, N)`; see `_shifted` for N."""
        count, columns = len(self.offsets), images.shape[-1] + 2 * self.pad
        padded = self._padded(images)
        center = self._shifted(padded, columns)
        mean = torch.zeros_like(center)
        for neighbor in self._neighbors(padded, columns):
            mean += neighbor
        mean /= count
        variance = torch.zeros_like(mean)
        difference = torch.empty_like(mean)
        for neighbor in self._neighbors(padded, columns):
            torch.sub(neighbor, mean, out=difference)
            variance.addcmul_(difference, difference)
        scale = variance.div_(count - 1).sqrt_().add_(EPSILON).mul_(BANDWIDTH).pow_(-2).div_(-images.shape[1])
        shift = 2 * (mean - center) * scale

        weights = images.new_empty(count, len(images), 1, mean.shape[-1])
        product = torch.empty_like(mean)
        for weight, neighbor in zip(weights, self._neighbors(padded, columns), strict=True):
            torch.sub(neighbor, mean, out=difference)
            torch.addcmul(shift, difference, scale, out=product)
            torch.mul(product[:, :1], difference[:, :1], out=weight)
            for channel in range(1, images.shape[1]):
                part = slice(channel, channel + 1)
                weight.addcmul_(product[:, part], difference[:, part])
        torch.maximum(weights, weights.amax(dim=0) - _NEGLIGIBLE, out=weights)
        weights = weights.softmax(dim=0)
        return weights.add_(weights.new_tensor(self.position_weights).view(-1, 1, 1, 1))

    @torch.no_grad()
    def forward(self, images: torch.Tensor, saliency: torch.Tensor) -> torch.Tensor:
        """Refined maps.

        Args:
            images: `(B, 3, H, W)`, normalized; by which mean and deviation makes no difference.
            saliency: `(B, 1, h, w)` in [0, 1]; resized (bilinear, align_corners=True) to the images.

        Returns:
            `(B, 1, H, W)` float32, at least 0. Weights add up to 1.01, so that values reach `gain`; `rectify` divides
            by the maximum.

        Raises:
            ValueError: if there is not one map an image.
        """
        if saliency.shape[:2] != (len(images), 1):
            raise ValueError(f"`saliency` is {tuple(saliency.shape)}, expected ({len(images)}, 1, height, width).")
        images, saliency = images.float(), saliency.float()
        if saliency.shape[-2:] != images.shape[-2:]:
            saliency = resize(saliency, images.shape[-2:])
        if images.device.type != "cpu":
            return self._refine(images, saliency)
        # One by one a sample's maps stay in the cache
        samples = images.split(1), saliency.split(1)
        if _compiled() is None or torch.compiler.is_compiling():
            return torch.cat([self._refine(*sample) for sample in zip(*samples, strict=True)])
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            run = threads.map if len(images) > 1 else map
            return torch.cat(list(run(self._refine_compiled, *samples)))

    def _refine_compiled(self, image: torch.Tensor, saliency: torch.Tensor) -> torch.Tensor:
        """Of one sample, on this thread."""
        image, saliency, refined = image.contiguous(), saliency.contiguous(), torch.empty(saliency.shape)
        count = len(self.offsets)
        offsets = (ctypes.c_int * (2 * count))(*itertools.chain(*self.offsets))
        weights = (ctypes.c_float * count)(*self.position_weights)
        refiner = _Refiner(count, offsets, weights, self.pad, self.num_iter, BANDWIDTH, EPSILON, _NEGLIGIBLE)
        library = _compiled()
        assert library is not None
        maps = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (image, saliency, refined)]
        if library.usod_refine(ctypes.byref(refiner), *maps, *map(ctypes.c_int, image.shape[1:])):
            raise MemoryError(f"not enough memory to refine a map of {image.shape[2]} x {image.shape[3]} pixels")
        return refined

    def _refine(self, images: torch.Tensor, saliency: torch.Tensor) -> torch.Tensor:
        weights = self._weights(images)
        height, width = images.shape[-2:]
        columns = width + 2 * self.pad
        rows = saliency.new_zeros(*saliency.shape[:2], height, columns)
        refined = rows.flatten(2)[..., : weights.shape[-1]]
        for _ in range(self.num_iter):
            padded = self._padded(saliency)
            refined.zero_()
            for weight, neighbor in zip(weights, self._neighbors(padded, columns), strict=True):
                refined.addcmul_(weight, neighbor)
            saliency = rows[..., :width]
        return saliency
