"""The views of an image that training compares: a horizontal flip of half of them, colors that vary, and a second
scale.

All randomness is a function of the seed and of where the training stands, never of a generator's history: a run that
is resumed, or spread over more processes or loader workers, sees the very same views.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset, Sampler

from ..models.configuration_usod import AUX_KINDS
from ..models.image_processing_usod import UsodImageProcessor, read_image
from .samples import Sample

LEAST_ZOOM = 0.3  # of the image's side, that a second view shows
OBJECT_SHARE = (0.05, 0.85)  # of its pixels, that are to be object
ZOOM_CANDIDATES = 16  # parts of which the one with the wanted share of object is taken
GRAY_PROBABILITY = 0.1  # of an image whose colors vary, to have none
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue


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


class ImageViews(Dataset[dict[str, torch.Tensor]]):
    """Images as model inputs, indexed by (index, flipped): `pixel_values` `(3, H, W)`, and the `index` and `flipped`
    they were made with.

    Args:
        aux: the auxiliary map of each image, or None. If any has one, `pixel_values` are `(6, H, W)`:
            image, then map in [0, 1], all zeros where there is none.
    """

    def __init__(self, paths: Sequence[Path], image_processor: UsodImageProcessor, aux: Sequence[Path | None] = ()):
        self.paths = paths
        self.image_processor = image_processor
        self.aux = aux if any(aux) else ()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, sample: tuple[int, bool]) -> dict[str, torch.Tensor]:
        index, flipped = sample
        path = self.paths[index]
        if self.aux and self.aux[index]:
            inputs = self.image_processor(path, aux_images=self.aux[index], return_tensors="pt")
            views = torch.cat([inputs["pixel_values"][0], inputs["aux_pixel_values"][0]])
        else:
            views = self.image_processor(read_image(path), return_tensors="pt")["pixel_values"][0]
            if self.aux:
                views = torch.cat([views, torch.zeros_like(views)])
        views = views.flip(-1) if flipped else views
        return {"pixel_values": views, "index": torch.tensor(index), "flipped": torch.tensor(flipped)}


class SampleViews(Dataset[dict[str, torch.Tensor]]):
    """Samples as model inputs, indexed by (index, flipped): `pixel_values` and `aux_pixel_values` `(3, H, W)`, the
    `index` and `flipped` they were made with, whether the sample `has_aux` or its image serves as its own, and the
    `aux_kind` of the map, its place in `AUX_KINDS`."""

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
        facts = {"index": index, "flipped": flipped, "has_aux": sample.aux is not None}
        facts["aux_kind"] = AUX_KINDS.index(sample.aux_kind or "none") if sample.aux else 0
        return views | {name: torch.tensor(fact) for name, fact in facts.items()}


def jitter_colors(images: torch.Tensor, strength: float, seed: int, step: int) -> torch.Tensor:
    """RGB images `(B, 3, H, W)` in [0, 1] whose saturation, contrast and brightness are each multiplied by a factor in
    1 - strength to 1 + strength, drawn for each at a training step; now and then one without color at all."""
    count = len(images)
    random = np.random.default_rng((seed, step, 2))
    factors = torch.from_numpy(random.uniform(1 - strength, 1 + strength, (3, count, 1, 1, 1))).to(images)
    grayed = torch.from_numpy(random.random((count, 1, 1, 1)) < GRAY_PROBABILITY).to(images.device)
    gray = (images * images.new_tensor(LUMINANCE).view(3, 1, 1)).sum(dim=1, keepdim=True)
    jittered = gray + factors[0] * (images - gray)
    mean = jittered.mean(dim=(1, 2, 3), keepdim=True)
    jittered = factors[2] * (mean + factors[1] * (jittered - mean))
    return torch.where(grayed, gray, jittered.clamp(0, 1))


def second_scale(size: int, steps: Sequence[int], stride: int, seed: int, step: int) -> int:
    """The side of the second view at a training step: size + stride k, k drawn from `steps`."""
    return size + stride * int(np.random.default_rng((seed, step)).choice(steps))


def zoom_boxes(label: torch.Tensor, probability: float, seed: int, step: int) -> torch.Tensor:
    """Where the second view of each sample looks at a training step: with that probability at a part of it, else at
    the whole. What share of a part is to be object is drawn from `OBJECT_SHARE`, and the part that comes nearest is
    taken; if its share lies outside, as in images that are all background, the whole is.

    Args:
        label: `(B, 1, H, W)` in {0, 1}.

    Returns:
        `(B, 3)`: center x and y, in [-1, 1] across the image, and side relative to the image's, of at least
        `LEAST_ZOOM`.
    """
    count = len(label)
    random = np.random.default_rng((seed, step, 1))
    chosen = torch.from_numpy(random.random(count) < probability).to(label.device)
    wanted = torch.from_numpy(random.uniform(*OBJECT_SHARE, count)).to(label)
    sides = random.uniform(LEAST_ZOOM, 0.9, (ZOOM_CANDIDATES, count))
    centers = random.uniform(-1, 1, (2, ZOOM_CANDIDATES, count)) * (1 - sides)
    candidates = torch.from_numpy(np.stack([*centers, sides], axis=-1)).to(label)

    small = F.interpolate(label, (64, 64), mode="area")
    shares = torch.stack([zoom(small, boxes, (24, 24)).mean(dim=(1, 2, 3)) for boxes in candidates])
    nearest = (shares - wanted).abs().argmin(dim=0), torch.arange(count, device=label.device)
    low, high = OBJECT_SHARE
    usable = chosen & (shares[nearest] > low) & (shares[nearest] < high)
    return torch.where(usable[:, None], candidates[nearest], label.new_tensor([0.0, 0.0, 1.0]))


def zoom(maps: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int], mode: str = "bilinear") -> torch.Tensor:
    """The parts of maps `(B, C, H, W)` that `zoom_boxes` names, at a size (height, width). The whole comes out as
    `resize` makes it."""
    theta = maps.new_zeros(len(maps), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = boxes[:, 2]
    theta[:, :, 2] = boxes[:, :2]
    grid = F.affine_grid(theta, [*maps.shape[:2], *size], align_corners=True)
    return F.grid_sample(maps, grid, mode=mode, padding_mode="border", align_corners=True)
