"""How good one map is, without a mask: whether its outline runs where the image changes.

A map that has found something ends where that ends, and there the image changes. One that is blurred, too large, too
small, laid on another image or a blob in the middle ends anywhere. What it cannot see: whether what it has found is the
thing that was meant, for the outline of another thing, and of the ground around it, is as good. Hence the other figures
beside it.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 80  # pixels: images and maps are compared at this size, where an outline may be a pixel off
EMPTY, FULL = 0.002, 0.9  # shares of an image below and above which a map says nothing
_BORDER = 2  # pixels of the frame
_LEAST_OUTLINE = 0.3  # added to the length of outlines, so that a trace of one counts for little


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


def measure_image(id: str, image: Image.Image, saliency: np.ndarray) -> ImageQuality:
    """What can be said of a map `(H, W)` uint8 of an RGB image of any size."""
    picture = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) / 255
    small = reduced(saliency)
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


def reduced(saliency: np.ndarray) -> np.ndarray:
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
