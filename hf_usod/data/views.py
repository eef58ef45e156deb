"""The views of an image that training compares: a horizontal flip of half of them, and a second scale.

All randomness is a function of the seed and of where the training stands, never of a generator's history: a run that
is resumed, or spread over more processes or loader workers, sees the very same views.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset, Sampler

from ..models.image_processing_usod import UsodImageProcessor, read_image
from .samples import Sample

LEAST_ZOOM = 0.5  # of the image's side, that a second view shows
OBJECT_SHARE = (0.05, 0.75)  # of its pixels, that must be object


class EpochSampler(Sampler[tuple[int, bool]]):
    """Yields (index, flipped) for every image, shuffled anew each epoch.

    Which epoch is said by `start_epoch`. It is not called `set_epoch`, because Accelerate's loaders call a method of
    that name with a count of their own, which knows nothing of resuming.
    """

    def __init__(self, num_images: int, seed: int, flip_probability: float = 0.5):
        self.num_images = num_images
        self.seed = seed
        self.flip_probability = flip_probability
        self.start_epoch(1)

    def start_epoch(self, epoch: int, seen: int = 0) -> None:
        """The next iteration is that epoch (from 1), without its first `seen` samples."""
        self.epoch = epoch
        self.seen = seen

    def __len__(self) -> int:
        return self.num_images

    def __iter__(self) -> Iterator[tuple[int, bool]]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(self.num_images)
        flipped = random.random(self.num_images) < self.flip_probability
        for position in range(self.seen, self.num_images):
            yield int(order[position]), bool(flipped[position])


class ImageViews(Dataset[torch.Tensor]):
    """Images as `(3, H, W)` model inputs, indexed by (index, flipped)."""

    def __init__(self, paths: Sequence[Path], image_processor: UsodImageProcessor):
        self.paths = paths
        self.image_processor = image_processor

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, sample: tuple[int, bool]) -> torch.Tensor:
        index, flipped = sample
        image = read_image(self.paths[index])
        pixel_values = self.image_processor(image, return_tensors="pt")["pixel_values"][0]
        return pixel_values.flip(-1) if flipped else pixel_values


class SampleViews(Dataset[dict[str, torch.Tensor]]):
    """Samples as model inputs, indexed by (index, flipped): `pixel_values` and `aux_pixel_values` `(3, H, W)`, and the
    `index` and `flipped` they were made with."""

    def __init__(self, samples: Sequence[Sample], image_processor: UsodImageProcessor):
        self.samples = samples
        self.image_processor = image_processor

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: tuple[int, bool]) -> dict[str, torch.Tensor]:
        index, flipped = place
        sample = self.samples[index]
        inputs = self.image_processor(sample.image, aux_images=[sample.aux], return_tensors="pt")
        views = {name: inputs[name][0] for name in ("pixel_values", "aux_pixel_values")}
        if flipped:
            views = {name: view.flip(-1) for name, view in views.items()}
        return views | {"index": torch.tensor(index), "flipped": torch.tensor(flipped)}


def second_scale(size: int, steps: Sequence[int], stride: int, seed: int, step: int) -> int:
    """The side of the second view at a training step: size + stride k, k drawn from `steps`."""
    return size + stride * int(np.random.default_rng((seed, step)).choice(steps))


def zoom_boxes(label: torch.Tensor, probability: float, seed: int, step: int) -> torch.Tensor:
    """Where the second view of each sample looks at a training step: at a part of it, with that probability, if its
    object neither fills that part nor is missing from it; otherwise at the whole.

    Args:
        label: `(B, 1, H, W)` in {0, 1}.

    Returns:
        `(B, 3)`: centre x and y, in [-1, 1] across the image, and side relative to the image's, of at least
        `LEAST_ZOOM`.
    """
    random = np.random.default_rng((seed, step, 1))
    chosen = random.random(len(label)) < probability
    side = random.uniform(LEAST_ZOOM, 0.9, len(label))
    centre = random.uniform(-1, 1, (2, len(label))) * (1 - side)
    boxes = torch.tensor(np.stack([*centre, side], axis=-1), dtype=label.dtype, device=label.device)
    covered = zoom(label, boxes, (32, 32)).mean(dim=(1, 2, 3))
    low, high = OBJECT_SHARE
    usable = torch.from_numpy(chosen).to(label.device) & (covered > low) & (covered < high)
    return torch.where(usable[:, None], boxes, boxes.new_tensor([0.0, 0.0, 1.0]))


def zoom(maps: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int], mode: str = "bilinear") -> torch.Tensor:
    """The parts of maps `(B, C, H, W)` that `zoom_boxes` names, at a size (height, width). The whole comes out as
    `resize` makes it."""
    theta = maps.new_zeros(len(maps), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = boxes[:, 2]
    theta[:, :, 2] = boxes[:, :2]
    grid = F.affine_grid(theta, [*maps.shape[:2], *size], align_corners=True)
    return F.grid_sample(maps, grid, mode=mode, padding_mode="border", align_corners=True)
