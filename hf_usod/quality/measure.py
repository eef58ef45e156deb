"""How good maps of a folder are, without masks: by how well their outlines fit the images (`outlines`), and by how many
say nothing, or the same whatever the image shows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..data import Sample
from ..errors import DataError
from ..outlines import ImageQuality, measure_image, reduced

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


def judge_folder(predicted: Iterable[Predicted]) -> FolderQuality:
    """What can be said of maps of a folder.

    Raises:
        DataError: if there is none.
    """
    images, maps = [], []
    for each in predicted:
        images.append(measure_image(each.sample.id, each.image, each.saliency))
        maps.append(reduced(each.saliency))
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


def _alikeness(maps: np.ndarray) -> float:
    """Of maps `(N, H, W)` in [0, 1] each with the mean of the others, as an IoU."""
    if len(maps) < 2:
        return 0.0
    others = (maps.sum(axis=0) - maps) / (len(maps) - 1)
    union = np.maximum(maps, others).sum(axis=(1, 2))
    shared = np.minimum(maps, others).sum(axis=(1, 2))
    return float(np.mean(np.where(union > 0, shared / np.maximum(union, 1e-6), 1.0)))
