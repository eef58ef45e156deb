"""From a saliency map to a pseudo-label: threshold, refinement, median filter (method: section 4).

A2S-v3: https://arxiv.org/abs/2404.14759
"""

import numpy as np
import torch
from PIL import Image, ImageFilter

from ..constants import REFINEMENTS
from ..models.pixel_refiner import PixelRefiner
from .crf import dense_crf

MEDIAN_SIZE = 7


def otsu_threshold(levels: np.ndarray) -> int | None:
    """The level that best splits an 8-bit map in two (Otsu, 1979): object is what lies above it.

    Args:
        levels: uint8, any shape.

    Returns:
        The lowest level that maximizes the variance between the classes; None for a constant map, which has no two.
    """
    histogram = np.bincount(levels.ravel(), minlength=256).astype(np.float64)
    below = np.cumsum(histogram)  # pixels up to each level
    above = below[-1] - below
    total = np.cumsum(histogram * np.arange(256))  # sum of their levels
    possible = (below > 0) & (above > 0)
    if not possible.any():
        return None
    mean_below = total / np.maximum(below, 1)
    mean_above = (total[-1] - total) / np.maximum(above, 1)
    between = below * above * (mean_below - mean_above) ** 2
    return int(np.argmax(np.where(possible, between, -1.0)))


def make_pseudo_label(saliency: np.ndarray, image: np.ndarray, refine: str = "crf") -> np.ndarray:
    """The pseudo-label of an image (method: section 4).

    crf: Otsu's threshold, a fully connected CRF on the image, median filter of 7 x 7 pixels. pixel: the pixel refiner,
    then threshold and median filter. none: the threshold alone. The median filter repeats the outermost pixels beyond
    the border, so that images smaller than its window are no exception.

    A map that is constant in 8 bits has nothing to threshold: its label is all object above 0.5, else all background.

    Args:
        saliency: `(H, W)` float in [0, 1].
        image: `(H, W, 3)` uint8, RGB.
        refine: of `REFINEMENTS`.

    Returns:
        `(H, W)` uint8, 0 or 1.

    Raises:
        ValueError: if map and image differ in size, or values are not in [0, 1].
        ModuleNotFoundError: for "crf" without `pydensecrf2`.
    """
    if refine not in REFINEMENTS:
        raise ValueError(f"`refine` is {refine!r}, expected one of {', '.join(REFINEMENTS)}.")
    if image.shape != (*saliency.shape, 3) or image.dtype != np.uint8:
        raise ValueError(
            f"`image` is {image.dtype} {image.shape}, expected uint8 (H, W, 3) of the size of `saliency` "
            f"{saliency.shape}."
        )
    if not (saliency.min() >= 0 and saliency.max() <= 1):
        raise ValueError(f"`saliency` is in {saliency.min():.4g}..{saliency.max():.4g}, expected values in [0, 1].")
    mask = _binarize(saliency)
    if refine == "none" or mask.all() or not mask.any():
        return mask.astype(np.uint8)
    mask = dense_crf(mask, image) if refine == "crf" else _binarize(_refine_by_pixels(saliency, image))
    smooth = Image.fromarray(mask.astype(np.uint8)).filter(ImageFilter.MedianFilter(MEDIAN_SIZE))
    return np.array(smooth)


def _binarize(saliency: np.ndarray) -> np.ndarray:
    levels = (saliency * 255).astype(np.uint8)  # cut off, not rounded: the released mask depends on it
    threshold = otsu_threshold(levels)
    return levels > (127 if threshold is None else threshold)


def _refine_by_pixels(saliency: np.ndarray, image: np.ndarray) -> np.ndarray:
    pixels = torch.from_numpy(np.array(image)).movedim(-1, 0)[None] / 255
    refined = PixelRefiner()(pixels, torch.from_numpy(np.array(saliency, np.float32))[None, None])[0, 0].numpy()
    return refined / refined.max()
