"""Times the pixel refiner against a plain transcription of its formula, and compares their peak memory.

    python scripts/benchmark.py refiner

The transcription keeps a copy of the image and of every map for each of the 32 neighbors. Each side runs in a process
of its own, so that its peak memory is its own; the fastest of the repetitions counts.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms.functional import pil_to_tensor

from hf_usod.commands.common import positive
from hf_usod.labels import PixelRefiner

from .measuring import alone, peak_memory

PHOTO = Path(__file__).resolve().parents[2] / "space" / "examples" / "chelsea.jpg"
DILATIONS = (1, 2, 4, 8)
NEIGHBORS = [(y, x) for y in (0, 1, 2) for x in (0, 1, 2) if (y, x) != (1, 1)]
TOLERANCE = 1e-4


class Measurement(NamedTuple):
    seconds: float
    memory: float  # peak, above what the process held before, in MiB
    refined: list[float]  # a part of the result


def plain_neighbors(maps: torch.Tensor) -> torch.Tensor:
    """`(B, C, 32, H, W)`."""
    channels = maps.shape[1]
    neighbors = []
    for dilation in DILATIONS:
        padded = F.pad(maps, (dilation,) * 4, mode="replicate")
        for y, x in NEIGHBORS:
            kernel = torch.zeros(channels, 1, 3, 3)
            kernel[:, 0, y, x] = 1
            neighbors.append(F.conv2d(padded, kernel, dilation=dilation, groups=channels))
    return torch.stack(neighbors, dim=2)


@torch.no_grad()
def plain_refiner(images: torch.Tensor, saliency: torch.Tensor) -> torch.Tensor:
    neighbors = plain_neighbors(images)
    distance = (images[:, :, None] - neighbors).abs()
    affinity = -((distance / (neighbors.std(dim=2, keepdim=True) + 1e-8) / 0.3) ** 2)
    affinity = affinity.mean(dim=1, keepdim=True)
    offsets = torch.tensor([(d * (y - 1), d * (x - 1)) for d in DILATIONS for y, x in NEIGHBORS]).float()
    position = offsets.square().sum(dim=1).sqrt()
    position = -((position / (position.std() + 1e-8) / 0.3) ** 2)
    weights = affinity.softmax(dim=2) + 0.01 * position.softmax(dim=0).view(1, 1, -1, 1, 1)
    for _ in range(6):
        saliency = (plain_neighbors(saliency) * weights).sum(dim=2)
    return saliency


def measure(side: str, size: int, batch_size: int, threads: int, repeats: int) -> Measurement:
    torch.set_num_threads(threads)
    refine = PixelRefiner() if side == "ours" else plain_refiner
    photo = pil_to_tensor(Image.open(PHOTO).convert("RGB").resize((size, size))).float() / 255
    images = photo.expand(batch_size, -1, -1, -1).contiguous()
    saliency = (images.mean(dim=1, keepdim=True) > 0.5).float()
    refine(images[:, :, :32, :32], saliency[:, :, :32, :32])
    before = peak_memory()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        refined = refine(images, saliency)
        seconds.append(time.perf_counter() - start)
    return Measurement(min(seconds), peak_memory() - before, refined.flatten()[:: size // 8].tolist())


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=positive, default=320)
    parser.add_argument("--batch_size", type=positive, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=positive, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=positive, default=20)


def run(options: argparse.Namespace) -> int:
    print(f"{options.size} x {options.size}, fp32\n")
    print(f"{'':24}{'ours':>10}{'plain':>10}{'ratio':>8}")
    difference = 0.0
    for batch_size in options.batch_size:
        common = (options.size, batch_size, options.threads, options.repeats)
        ours, plain = (alone(measure, side, *common) for side in ("ours", "plain"))
        for label, own, reference in (
            (f"batch {batch_size}: time (ms)", 1000 * ours.seconds, 1000 * plain.seconds),
            ("  peak memory (MiB)", ours.memory, plain.memory),
        ):
            print(f"{label:24}{own:10.1f}{reference:10.1f}{reference / max(own, 0.1):7.1f}x")
        difference = max(difference, *(abs(a - b) for a, b in zip(ours.refined, plain.refined, strict=True)))
    print(f"\nlargest difference of a value: {difference:.1e}")
    if difference > TOLERANCE:
        print(f"The sides do not compute the same: more than {TOLERANCE:.0e} apart.", file=sys.stderr)
        return 1
    return 0
