"""Features of a frozen backbone that are needed again: computed once, and kept in a file that is mapped into memory.

Which views a run will see, and how often, follows from its seed. What is kept is decided before the first step: the
views that come most often, as many as the budget holds.
"""

import math
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator

from ..data import EpochSampler, second_scale
from ..errors import RunError
from ..labels.store import new_array
from .arguments import CueExtractorArguments, CueObjectiveArguments
from .frozen import FrozenBackbone
from .schedule import Schedule

GIGABYTE = 10**9
DEFAULT_GIGABYTES = 8.0
_ALIGNMENT = 64  # bytes
_FILE = "features.cache"


def budget(args: CueObjectiveArguments, on_cpu: bool, folder: Path) -> float:
    """The most gigabytes of features that a run keeps in a folder; 0 if it keeps none."""
    if isinstance(args, CueExtractorArguments) and args.backbone_batch_norm == "train":
        return 0.0  # what is beside an image changes its features
    if args.feature_cache is not None:
        return args.feature_cache
    return min(DEFAULT_GIGABYTES, shutil.disk_usage(folder).free / 2 / GIGABYTE) if on_cpu else 0.0


def count_views(args: CueObjectiveArguments, num_images: int) -> dict[int, np.ndarray]:
    """How often a run sees each image `(num_images, 2)`, as it is and flipped, by the side of the view.

    Raises:
        RunError: see `Schedule.of`.
    """
    sampler = EpochSampler(num_images, args.seed, args.flip_probability)
    schedule = Schedule.of(args, num_images)
    counts: dict[int, np.ndarray] = {}
    for step in range(schedule.num_steps):
        if schedule.place(step) == 0:
            sampler.start_epoch(1 + step // schedule.steps_per_epoch)
            places = iter(sampler)
        index, flipped = zip(*(next(places) for _ in range(args.batch_size)), strict=True)
        for side in (args.size, second_scale(args.size, args.scale_steps, args.scale_stride, args.seed, step)):
            views = counts.setdefault(side, np.zeros((num_images, 2), np.int64))
            np.add.at(views, (np.array(index), np.array(flipped, int)), 1)
    return counts


class _Layout(NamedTuple):
    """What the features of one view are: `(C, h, w)` of each level, and their bytes."""

    shapes: list[tuple[int, int, int]]
    num_bytes: int


def choose_views(
    counts: dict[int, np.ndarray], sizes: dict[int, int], budget: int
) -> tuple[dict[int, np.ndarray], int]:
    """Where the features of each view go, `(num_images, 2)` by side, -1 for those that are not kept; and the bytes of
    all. Those that come most often go first: what a view's features cost to compute is as its bytes.

    Args:
        sizes: the bytes of a view's features, by side.
    """
    offsets = {side: np.full(views.shape, -1, np.int64) for side, views in counts.items()}
    total = 0
    for uses in sorted({int(n) for views in counts.values() for n in np.unique(views) if n > 1}, reverse=True):
        for side in sorted(counts):
            chosen = np.argwhere(counts[side] == uses)[: max(0, (budget - total) // sizes[side])]
            offsets[side][tuple(chosen.T)] = total + sizes[side] * np.arange(len(chosen))
            total += sizes[side] * len(chosen)
    return offsets, total


class FeatureCache:
    """Features of the views of a run, computed where they are not kept.

    Every image goes through the backbone alone, so that its features do not depend on the images beside it: what is
    kept, what is computed, and what a resumed run computes again are the same to the bit. The file is shared by the
    processes of a machine and has lost its name before it is used: the system removes it when they end, however they
    end.

    Args:
        features: in evaluation mode; strides 8 to 32 are kept, of stride 4 only the shape, which is all that a decoder
            looks at.
        args: the run, whose views are counted.
        num_images: all of them.
        folder: where the file is made.
        gigabytes: the most that it takes, see `budget`.

    Raises:
        RunError: if the disk has not that much room, or for too few images.
    """

    def __init__(
        self,
        features: FrozenBackbone,
        args: CueObjectiveArguments,
        num_images: int,
        folder: Path,
        gigabytes: float,
        accelerator: Accelerator,
    ):
        self.features = features
        counts = count_views(args, num_images)
        self.layouts = {side: self._layout(side, accelerator.device) for side in counts}
        sizes = {side: layout.num_bytes for side, layout in self.layouts.items()}
        self.offsets, total = choose_views(counts, sizes, int(gigabytes * GIGABYTE))
        self.filled_at = total  # one byte for each `_ALIGNMENT` of the features
        self.bytes = _share_file(folder / _FILE, total + total // _ALIGNMENT, accelerator) if total else None
        kept = sum(int(((offsets >= 0) * counts[side]).sum()) for side, offsets in self.offsets.items())
        seen = sum(int(views.sum()) for views in counts.values())
        accelerator.print(f"Features: {total / GIGABYTE:.2f} GB for {kept / max(seen, 1):.0%} of all views.")

    def _layout(self, side: int, device: torch.device) -> _Layout:
        levels = self.features(torch.zeros(1, 3, side, side, device=device))
        self.dtype = levels[0].dtype
        num_bytes = sum(level.numel() * level.element_size() for level in levels[1:])
        shapes = [(level.shape[1], level.shape[2], level.shape[3]) for level in levels]
        return _Layout(shapes, math.ceil(num_bytes / _ALIGNMENT) * _ALIGNMENT)

    def __call__(self, images: torch.Tensor, index: torch.Tensor, flipped: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Features of images `(B, 3, side, side)`, as `FrozenBackbone`'s; those at stride 4 are without content."""
        side = images.shape[-1]
        shapes = self.layouts[side].shapes
        (channels, height, width), *others = shapes
        empty = images.new_empty(1, dtype=self.dtype).expand(len(images), channels, height, width)
        levels = [images.new_empty((len(images), h, w, c), dtype=self.dtype) for c, h, w in others]
        places = self.offsets[side][index.cpu().numpy(), flipped.cpu().numpy().astype(int)].tolist()
        rows = [row for row, offset in enumerate(places) if offset < 0 or not self._is_filled(offset)]
        for row in set(range(len(images))).difference(rows):
            for level, kept in zip(levels, self._kept(side, places[row]), strict=True):
                level[row].copy_(kept)
        if rows:
            for level, computed in zip(levels, self.features.of_each(images[rows])[1:], strict=True):
                level[rows] = computed.permute(0, 2, 3, 1)
        for row in rows:
            if places[row] >= 0:
                for level, kept in zip(levels, self._kept(side, places[row]), strict=True):
                    kept.copy_(level[row])
                self._mark_filled(places[row])
        return (empty, *(level.permute(0, 3, 1, 2) for level in levels))

    def _kept(self, side: int, offset: int) -> Iterable[torch.Tensor]:
        """The features in the file, `(h, w, C)` each."""
        assert self.bytes is not None
        for channels, height, width in self.layouts[side].shapes[1:]:
            num_bytes = channels * height * width * self.dtype.itemsize
            yield self.bytes[offset : offset + num_bytes].view(self.dtype).view(height, width, channels)
            offset += num_bytes

    def _is_filled(self, offset: int) -> bool:
        return self.bytes is not None and bool(self.bytes[self.filled_at + offset // _ALIGNMENT])

    def _mark_filled(self, offset: int) -> None:
        assert self.bytes is not None
        self.bytes[self.filled_at + offset // _ALIGNMENT] = 1


def _share_file(path: Path, num_bytes: int, accelerator: Accelerator) -> torch.Tensor:
    """A file of zeros that the processes of a machine share, as bytes; its name is gone when this returns.

    Raises:
        RunError: if the disk has not that much room, which writing into the map would end the process for.
    """
    path = path.with_name(f"{path.name}.{os.uname().nodename if hasattr(os, 'uname') else ''}")
    if accelerator.is_local_main_process:
        try:
            new_array(path, np.uint8, (num_bytes,))
        except OSError as error:
            path.unlink(missing_ok=True)
            raise RunError(
                f"--feature_cache: no room for {num_bytes / GIGABYTE:.2f} GB in {path.parent} ({error.strerror}). "
                "Give fewer gigabytes, or 0 to compute features anew each epoch."
            ) from error
    accelerator.wait_for_everyone()
    mapped = torch.from_numpy(np.lib.format.open_memmap(path, "r+"))
    accelerator.wait_for_everyone()
    if accelerator.is_local_main_process:
        with suppress(PermissionError):  # Windows, which keeps what is open
            path.unlink()
    return mapped
