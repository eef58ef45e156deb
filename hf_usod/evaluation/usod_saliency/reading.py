"""The one reading of pictures and arrays as saliency maps and as ground truth, by the command and by `evaluate`.

This file stands alone (numpy and Pillow): it is published with the `evaluate` module. Pictures become levels here, and
levels maps (`as_levels`, `fit`) and masks (`as_mask`).

- Pictures are turned as their EXIF orientation asks.
- Gray pictures, 8-bit, 16-bit, 1-bit or float, in whatever mode they are kept: their levels.
- Transparency: of a cutout, the alpha channel is the map. It is one if it differs over the picture and the colors do
  not hold the map themselves; an alpha channel that is the same everywhere says nothing, but where it is 0, of a photo
  or a picture of one color: there nothing was cut out. Two different masks in one file, one in the colors and one in
  the alpha channel, are an error.
- Colored ground truth, as DAVIS has it: all but black is object. What JPEG adds does not count: colors that are nearly
  gray are gray, and near-black is black. One without black, or with the many colors of a photo, is an error.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

GRAY_TOLERANCE = 8  # between the channels of a gray picture that went through JPEG; also of what counts as one level
COLOR_NOISE = 48  # likewise of black and white in a JPEG with subsampled colors
NEAR_BLACK = 24
MAX_COLORS = 256  # of a ground truth, at 5 bits a channel; photos have thousands
_ORIENTATION = 0x0112  # of EXIF
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # a tag of TIFF files, and its value of those that are inverted


def map_levels(image: Image.Image) -> np.ndarray:
    """A picture of a saliency map as levels `(H, W)`: 8-bit, 16-bit or float, as it is kept.

    Raises:
        ValueError: if it is in color without an alpha channel that holds the map.
    """
    levels, _ = _levels(image)
    if levels is None:
        raise ValueError("is in color. A saliency map is gray, or a cutout with an alpha channel")
    return levels


def mask_levels(image: Image.Image) -> np.ndarray:
    """A picture of a ground truth as levels `(H, W)`, or as bool if it is in color.

    Raises:
        ValueError: if it is in color and no ground truth.
    """
    levels, rgb = _levels(image)
    return _object_of_colors(rgb) if levels is None else levels


def _levels(image: Image.Image) -> tuple[np.ndarray | None, np.ndarray]:
    """The levels of a gray picture or a cutout, None of others; and the colors."""
    tags = getattr(image, "tag_v2", None) or {}
    inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        deep = np.asarray(image).astype(np.uint16)
        return (65535 - deep if inverted else deep), deep  # Pillow turns 8-bit ones over itself
    if image.mode in ("I", "F"):
        return np.asarray(image), np.asarray(image)
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return np.asarray(image.convert("L")), np.asarray(image.convert("L"))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        rgba = np.asarray((image.convert("LA") if image.mode == "La" else image).convert("RGBA"))
        rgb, alpha = rgba[..., :3], rgba[..., 3]
    else:
        rgb, alpha = np.asarray(image.convert("RGB")), None
    gray = rgb[..., 1] if _spread(rgb).max() <= GRAY_TOLERANCE else None
    if alpha is not None and _alpha_is_the_map(rgb, gray, alpha):
        return alpha, rgb
    return gray, rgb


def _spread(rgb: np.ndarray) -> np.ndarray:
    return rgb.max(axis=-1) - rgb.min(axis=-1)


def _is_photo(rgb: np.ndarray) -> bool:
    coarse = (rgb >> 3).astype(np.int32)
    return np.unique(coarse[..., 0] << 10 | coarse[..., 1] << 5 | coarse[..., 2]).size > MAX_COLORS


def _alpha_is_the_map(rgb: np.ndarray, gray: np.ndarray | None, alpha: np.ndarray) -> bool:
    low, high = int(alpha.min()), int(alpha.max())
    one_level = gray is not None and int(gray.max()) - int(gray.min()) <= GRAY_TOLERANCE
    if high - low <= GRAY_TOLERANCE:
        return high <= GRAY_TOLERANCE and (one_level or (gray is None and _is_photo(rgb)))
    if gray is None or one_level:
        return True
    if low > 127:
        return False
    if ((gray <= GRAY_TOLERANCE) | (gray >= 255 - GRAY_TOLERANCE)).all():
        differing = np.mean((gray > 127) != (alpha > 127))
        if differing > 0.01:
            raise ValueError(
                f"holds two masks, one in its colors and one in its alpha channel, that differ in {differing:.0%} of "
                "the pixels. Save the one that is meant without alpha channel"
            )
    return True


def _object_of_colors(rgb: np.ndarray) -> np.ndarray:
    """The object of a colored ground truth `(H, W, 3)`: bool, or levels if its colors are but noise."""
    brightest = rgb.max(axis=-1)
    if _spread(rgb).max() <= COLOR_NOISE:
        return brightest
    if _is_photo(rgb):
        raise ValueError("is in color, with as many colors as a photo. A ground truth is black where no object is")
    if brightest.min() > NEAR_BLACK:
        names = ", ".join(str(tuple(map(int, color))) for color in np.unique(rgb.reshape(-1, 3), axis=0)[:4])
        raise ValueError(f"is in color and nowhere black (RGB {names}, …). A ground truth is black where no object is")
    clean = not ((brightest > 0) & (brightest <= NEAR_BLACK)).any()
    return brightest > (0 if clean else max(NEAR_BLACK, int(brightest.max()) // 4))


def _plane(levels: np.ndarray | Image.Image, name: str) -> np.ndarray:
    """Levels `(H, W)` of a type that has an order."""
    if isinstance(levels, Image.Image) and levels.mode not in ("1", "L", "I", "F") and levels.mode[:4] != "I;16":
        raise ValueError(f"{name} of mode {levels.mode} has no levels; read it with `reading` first.")
    array = np.asarray(levels)
    if array.ndim != 2:
        raise ValueError(f"{name} is (H, W), got {array.shape}.")
    if array.dtype.kind not in "buif" or not array.size:
        raise ValueError(f"{name} holds numbers, got {array.shape} of {array.dtype}.")
    if array.dtype.kind == "f" and not (array.min() >= 0 and array.max() <= 1):  # nan is in no range
        raise ValueError(f"{name} of floats is in [0, 1], got {array.min():.4g}..{array.max():.4g}.")
    return array


def as_levels(pred: np.ndarray | Image.Image) -> tuple[np.ndarray, float]:
    """A prediction `(H, W)` (bool, 8-bit, 16-bit or float in [0, 1]) as 8-bit levels, and its highest level in [0, 1].

    Raises:
        ValueError: for other shapes, types or ranges.
    """
    array = _plane(pred, "A saliency map")
    high = array.max()
    if array.dtype == np.uint8:
        return array, float(high) / 255
    white = 1
    if array.dtype.kind in "iu":
        if array.min() < 0 or high > 65535:
            raise ValueError(f"Integer saliency is in 0..255 or 0..65535, got {array.min()}..{high}.")
        white = 65535 if high > 255 or array.dtype.newbyteorder("=") == np.uint16 else 255
    return (array / white * 255 if white > 1 else array * 255).round().astype(np.uint8), float(high) / white


def fit(levels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """8-bit levels `(H, W)` as float64 k/255 of shape `size` (height, width), resized bilinearly.

    Raises:
        ValueError: if they have the proportions of the ground truth turned by 90 degrees.
    """
    if levels.shape != size:
        (height, width), (high, wide) = levels.shape, size
        turned = abs(height * high / (width * wide) - 1) < 0.02 and abs(height * wide / (width * high) - 1) > 0.1
        if turned:
            raise ValueError(f"The map is {width} x {height}, the ground truth {wide} x {high}: one of them is turned.")
        levels = np.asarray(Image.fromarray(levels).resize(size[::-1], Image.Resampling.BILINEAR))
    return levels / 255.0


def as_mask(gt: np.ndarray | Image.Image) -> np.ndarray:
    """A ground truth `(H, W)` as bool.

    One of two levels, the lower 0, is a mask whatever the other (0/1, 0/2, 0/100). Others are cut at half of their
    range. One that would be without object by that although it holds more than 0 (class ids, 12 bits in 16), or all
    object although it is not white, is an error.

    Raises:
        ValueError: for other shapes or ranges, or naming the levels of one that is no mask.
    """
    array = _plane(gt, "A ground truth")
    if array.dtype == bool:
        return array
    low, high = array.min(), array.max()
    top = array == high
    if low == 0 and high > 0 and np.count_nonzero(array) == np.count_nonzero(top):
        return top
    if low < 0 or high > 65535:
        raise ValueError(f"An integer ground truth is in 0..255 or 0..65535, got {low}..{high}.")
    white = 1 if high <= 1 else 255 if high <= 255 else 65535
    mask = array > white / 2
    unclear = (high > 0 and not mask.any()) or (mask.all() and low < 0.9 * white)
    if unclear or (low == 0 and white == 255 and _are_class_ids(array)):
        levels = np.unique(array)
        shown = ", ".join(f"{level:.4g}" if white == 1 else str(level) for level in levels[:6])
        more = f", … {levels[-1]:.6g}" if levels.size > 6 else ""
        raise ValueError(
            f"The ground truth holds the levels {shown}{more} (of {white}): class ids, or another scale? Make it black "
            "and white, white where the object is."
        )
    return mask


def _are_class_ids(array: np.ndarray) -> bool:
    """Whether 255 is but the rim that class ids leave out: among few levels, less of it than of the ids 1..32."""
    ids = np.count_nonzero((array > 0) & (array <= 32))
    rim = np.count_nonzero(array == 255)
    return bool(ids > rim and ids + rim == np.count_nonzero(array))
