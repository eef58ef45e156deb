"""What is evaluated on: images with ground truth, from folders or from the task registry, and how their files read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..data import by_stem
from ..models.image_processing_usod import to_rgb

GREY_TOLERANCE = 8  # between the channels of a grey picture that went through JPEG


@dataclass(frozen=True)
class EvaluationSample:
    """An image with its ground truth. `id` is its path in the data set without suffix, such as `bear/00001`."""

    id: str
    mask: Path
    image: Path | None = None  # None where maps are scored that exist already
    aux: Path | None = None  # depth, thermal or flow; None where there is none


@dataclass(frozen=True)
class EvaluationSet:
    """A data set by name; `samples` are sorted by id."""

    name: str
    samples: Sequence[EvaluationSample]


def _need(wanted: Sequence[str], found: dict[str, Path], folder: Path, what: str, hint: str = "") -> None:
    if missing := [stem for stem in wanted if stem not in found]:
        names = ", ".join(missing[:10]) + (", …" if len(missing) > 10 else "")
        raise FileNotFoundError(
            f"{folder}: no {what} for {len(missing)} of {len(wanted)}: {names} (matched by path without suffix).{hint}"
        )


def folder_samples(images: Path, masks: Path, aux: Path | None = None) -> list[EvaluationSample]:
    """The images of a folder tree with their masks and, if given, auxiliary maps, at the same place in their trees.

    Every image needs a mask. One without an auxiliary map (as the last frame of a video has no flow) has `aux` None.

    Raises:
        FileNotFoundError: naming the images without a mask; if no image has an auxiliary map.
        ValueError: see `by_stem`.
    """
    found, truth = by_stem(images), by_stem(masks)
    _need(list(found), truth, masks, "ground truth")
    maps = by_stem(aux) if aux else {}
    if aux and not maps.keys() & found.keys():
        raise FileNotFoundError(f"{aux}: no file is named as one of {images} (matched by path without suffix).")
    return [EvaluationSample(stem, truth[stem], path, maps.get(stem)) for stem, path in sorted(found.items())]


def map_samples(predictions: Path, masks: Path, partial: bool = False) -> tuple[list[EvaluationSample], list[Path]]:
    """Ground truths, and the saliency maps found for them at the same place in their tree.

    Args:
        partial: leave out ground truths without a map, as for labels of a part of a data set.

    Raises:
        FileNotFoundError: naming the ground truths without a map; with `partial`, if there is no map at all.
        ValueError: see `by_stem`.
    """
    found, truth = by_stem(predictions), by_stem(masks)
    stems = sorted(stem for stem in truth if stem in found)
    if not (partial and stems):
        hint = "" if partial else " To score only those that there are, pass --partial."
        _need(list(truth), found, predictions, "map", hint)
    return [EvaluationSample(stem, truth[stem]) for stem in stems], [found[stem] for stem in stems]


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        raise ValueError(f"{path}: cannot be read as an image ({error})") from error


def _grey(image: Image.Image) -> np.ndarray | None:
    """Grey levels `(H, W)`: 8-bit, or 16-bit of files that have them; the alpha channel of a cutout. None in colour."""
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.uint16)
    if image.mode == "F":
        return np.asarray(image)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA"):
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
        if alpha.min() < 255:
            return alpha
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    rgb = np.asarray(to_rgb(image)).astype(np.int16)
    if (rgb.max(axis=-1) - rgb.min(axis=-1)).max() <= GREY_TOLERANCE:
        return rgb[..., 1].astype(np.uint8)
    return None


def read_map(path: Path) -> np.ndarray:
    """A saliency map file as `(H, W)`: its grey levels, or the alpha channel of a cutout (rembg's RGBA output).

    Raises:
        ValueError: naming the file, if it cannot be read or is in colour without an alpha channel.
    """
    levels = _grey(_open(path))
    if levels is None:
        raise ValueError(f"{path}: is in colour. A saliency map is grey, or a cutout with an alpha channel.")
    return levels


def read_mask(path: Path) -> np.ndarray:
    """A ground truth file as `(H, W)` for `as_mask`; in a coloured one, all but black is object.

    Raises:
        ValueError: naming the file, if it cannot be read.
    """
    image = _open(path)
    levels = _grey(image)
    return np.asarray(to_rgb(image)).max(axis=-1) > 0 if levels is None else levels
