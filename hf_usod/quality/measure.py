"""How good maps are, without masks: whether their outlines run where the image changes.

A map that has found something ends where that ends, and there the image changes. One that is blurred, too large, too
small, laid on another image or a blob in the middle ends anywhere. What it cannot see: whether what it has found is the
thing that was meant, for the outline of another thing, and of the ground around it, is as good. Hence the other figures
beside it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..data import Sample
from ..errors import DataError

SIDE = 80  # pixels: images and maps are compared at this size, where an outline may be a pixel off
EMPTY, FULL = 0.002, 0.9  # shares of an image below and above which a map says nothing
_BORDER = 2  # pixels of the frame
_LEAST_OUTLINE = 0.3  # added to the length of outlines, so that a trace of one counts for little
# Safety: what a candidate is not chosen with
MOST_EMPTY = 0.2  # of the images, more than by the default model
MOST_ALIKE = 0.6  # of maps with the mean of the others, as an IoU: a blob in the same place of every image
SURE = 1.645  # standard errors by which a candidate must be better than the default on the same images: one in 20


class Predicted(NamedTuple):
    """An image, and the map that a model makes of it."""

    sample: Sample
    image: Image.Image  # RGB, of any size
    saliency: np.ndarray  # (H, W) uint8, of its size


@dataclass(frozen=True)
class ImageQuality:
    """What can be said of one map.

    Args:
        id: of the image.
        alignment: of the outline with the image's edges: at most 1 (it runs along the strongest there are), about 0 for
            the map of another image, 0 without an outline.
        border: share of the image's frame that the map takes; the ground is where the frame is.
        object_share: of the image.
        undecided: share of the image between .1 and .9.
    """

    id: str
    alignment: float
    border: float
    object_share: float
    undecided: float

    @property
    def score(self) -> float:
        """In [0, 1]: the alignment, less what touches the frame, and what is undecided: outlines of strange things are
        as sharp as others, but a model that sees what it does not know is less sure of them."""
        return max(0.0, self.alignment) * (1 - self.border) * (1 - self.undecided)

    @property
    def is_empty(self) -> bool:
        """Whether the map says nothing: no object, or nothing else."""
        return not EMPTY <= self.object_share <= FULL

    def figures(self) -> dict[str, float]:
        """By the names of files and tables."""
        return {
            "quality": self.score,
            "alignment": self.alignment,
            "border": self.border,
            "object": self.object_share,
            "undecided": self.undecided,
        }


@dataclass(frozen=True)
class FolderQuality:
    """What can be said of a model's maps of a folder of images.

    Args:
        images: one by one.
        alike: how much each map is like the mean of the others, as an IoU, on average: high where the image does not
            matter.
    """

    images: Sequence[ImageQuality]
    alike: float

    @cached_property
    def score(self) -> float:
        return float(np.mean([image.score for image in self.images]))

    @property
    def empty(self) -> float:
        """Share of the images whose maps say nothing."""
        return float(np.mean([image.is_empty for image in self.images]))

    def figures(self) -> dict[str, float]:
        """By the names of files and tables; means over the images."""
        of_images = [image.figures() for image in self.images]
        means = {name: float(np.mean([figures[name] for figures in of_images])) for name in of_images[0]}
        return {name: round(value, 4) for name, value in {**means, "empty": self.empty, "alike": self.alike}.items()}


def measure_image(id: str, image: Image.Image, saliency: np.ndarray) -> ImageQuality:
    """What can be said of a map `(H, W)` uint8 of an RGB image of any size."""
    picture = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) / 255
    small = _reduced(saliency)
    strength, change = _slope(_smooth(picture)), _slope(small[..., None])
    # By rank, as contrasts of images differ; a pixel's best neighbor counts, as outlines may be a pixel off
    order = strength.ravel().argsort(kind="stable").argsort(kind="stable").reshape(strength.shape) / strength.size
    if np.ptp(strength) < 1e-6:  # nothing to see: every place is as good as another
        order = np.full_like(strength, 0.5)
    near = _greatest_neighbor(order)
    chance = near.mean()
    alignment = 0.0
    if change.sum() > _LEAST_OUTLINE:
        alignment = float(((change * near).sum() / (change.sum() + _LEAST_OUTLINE) - chance) / max(1e-6, 1 - chance))
    is_object = small > 0.5
    frame = np.ones_like(is_object)
    frame[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    return ImageQuality(
        id=id,
        alignment=alignment,
        border=float(is_object[frame].mean()),
        object_share=float(is_object.mean()),
        undecided=float(((small > 0.1) & (small < 0.9)).mean()),
    )


def judge_folder(predicted: Iterable[Predicted]) -> FolderQuality:
    """What can be said of maps of a folder.

    Raises:
        DataError: if there is none.
    """
    images, maps = [], []
    for each in predicted:
        images.append(measure_image(each.sample.id, each.image, each.saliency))
        maps.append(_reduced(each.saliency))
    if not images:
        raise DataError("There are no maps to judge.")
    return FolderQuality(images, _alikeness(np.stack(maps)))


def find_harm(quality: FolderQuality, default: FolderQuality) -> str:
    """Why maps are not to be used in place of the default model's, in words; empty if they may."""
    if quality.empty > default.empty + MOST_EMPTY:
        return f"{quality.empty:.0%} of the maps are empty or all object, of the default model's {default.empty:.0%}"
    if quality.alike > max(MOST_ALIKE, default.alike):
        return "the maps are much the same whatever the image shows"
    return ""


def choose(candidates: Mapping[str, FolderQuality], to_beat: str) -> tuple[str, str]:
    """The name of the best candidate, and why: of those that do no harm the one of the highest mean score, if that is
    beyond doubt higher than that of the one to beat on the same images; else that one."""
    base = candidates[to_beat]
    harmless = {name: quality for name, quality in candidates.items() if not find_harm(quality, base)}
    best = max(harmless, key=lambda name: harmless[name].score)
    if best == to_beat:
        return to_beat, f"no candidate's outlines fit the images better than those of {to_beat}"
    gain, error = compare(harmless[best], base)
    by = f"{gain:.3f} (standard error {error:.3f})"
    told = f"the outlines of {best} fit the images better by {by} than those of {to_beat}"
    if gain <= SURE * error:
        return to_beat, f"{told}, which may be chance"
    return best, told


def compare(quality: FolderQuality, other: FolderQuality) -> tuple[float, float]:
    """The mean difference of scores on the same images, and its standard error."""
    return compare_scores(*([image.score for image in one.images] for one in (quality, other)))


def compare_scores(scores: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """As `compare`, of the scores themselves."""
    differences = np.subtract(scores, others)
    if len(differences) < 2:
        return float(differences.mean()), float("inf")
    return float(differences.mean()), float(differences.std(ddof=1) / np.sqrt(len(differences)))


def _reduced(saliency: np.ndarray) -> np.ndarray:
    """A map `(SIDE, SIDE)` in [0, 1]."""
    return np.asarray(Image.fromarray(saliency).resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) / 255


def _smooth(picture: np.ndarray) -> np.ndarray:
    """Means over 3 x 3 pixels of `(H, W, C)`."""
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = picture.shape[:2]
    return np.mean([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)


def _slope(values: np.ndarray) -> np.ndarray:
    """The gradient's magnitude over all channels, `(H - 2, W - 2)`."""
    across = values[1:-1, 2:] - values[1:-1, :-2]
    down = values[2:, 1:-1] - values[:-2, 1:-1]
    return np.sqrt((across**2 + down**2).sum(axis=-1))


def _greatest_neighbor(values: np.ndarray) -> np.ndarray:
    padded = np.pad(values, 1, mode="edge")
    height, width = values.shape
    return np.max([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)


def _alikeness(maps: np.ndarray) -> float:
    """Of maps `(N, H, W)` in [0, 1] each with the mean of the others, as an IoU."""
    if len(maps) < 2:
        return 0.0
    others = (maps.sum(axis=0) - maps) / (len(maps) - 1)
    union = np.maximum(maps, others).sum(axis=(1, 2))
    shared = np.minimum(maps, others).sum(axis=(1, 2))
    return float(np.mean(np.where(union > 0, shared / np.maximum(union, 1e-6), 1.0)))
