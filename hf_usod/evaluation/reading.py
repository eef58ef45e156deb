"""Files of saliency maps and of ground truth, as levels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ..data import folders
from ..errors import DataError
from .usod_saliency.reading import map_levels, mask_levels

ARRAY_SUFFIX = ".npy"  # maps as numpy saves them, the one format beside pictures


def read_prediction(path: Path) -> np.ndarray:
    """A saliency map file as `(H, W)`: its gray levels, the alpha channel of a cutout, or the array of a `.npy` file.

    Raises:
        DataError: naming the file, if it cannot be read or is in color without an alpha channel.
        FileNotFoundError: if there is none.
    """
    return _read(path, map_levels)


def read_ground_truth(path: Path) -> np.ndarray:
    """A ground truth file as levels `(H, W)` for `as_mask`; in a colored one, all but black is object.

    Raises:
        DataError: naming the file, if it cannot be read or is no ground truth.
        FileNotFoundError: if there is none.
    """
    return _read(path, mask_levels)


def upright_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture or array as it is read, from its header alone.

    Raises:
        DataError: naming the file, if it cannot be read.
    """

    if path.suffix.lower() == ARRAY_SUFFIX:
        height, width = _read_array(path).shape
    else:
        width, height = folders.upright_size(path)
    return height, width


def list_maps(folder: Path) -> dict[str, Path]:
    """The pictures and arrays of a folder tree by their path in it without suffix; hidden files are not looked at.

    Raises:
        FileNotFoundError: if the folder does not exist or holds none.
        DataError: if two files differ in the suffix only.
    """
    if not folder.is_dir():
        problem = "is a file; a folder is expected" if folder.exists() else "no such folder"
        raise FileNotFoundError(f"{folder}: {problem}.")
    files: dict[str, Path] = {}
    for path in folders.walk(folder, suffixes=folders.IMAGE_SUFFIXES | {ARRAY_SUFFIX}).images:
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in files:
            raise DataError(f"{path}: has the same name as {files[stem].name}; which one is meant? Keep one.")
        files[stem] = path
    if not files:
        raise FileNotFoundError(f"{folder}: holds neither pictures nor {ARRAY_SUFFIX} files.")
    return files


def _read(path: Path, levels: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    if path.suffix.lower() == ARRAY_SUFFIX:
        return _read_array(path)
    # By a file object: Pillow maps uncompressed TIFF files that it opens by path, with rows of the turned length.
    with path.open("rb") as file:
        try:
            with Image.open(file) as image:
                return levels(image)
        except ValueError as error:
            raise DataError(f"{path}: {error}.") from error
        except Exception as error:  # Pillow's decoders raise almost anything on damaged files
            raise DataError(f"{path}: cannot be read as an image ({error}).") from error


def _read_array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise DataError(f"{path}: cannot be read as an array ({error}).") from error
    plane = np.squeeze(array) if array.ndim > 2 else array
    if plane.ndim != 2:
        raise DataError(f"{path}: holds an array of shape {array.shape}. A saliency map is (H, W).")
    return plane
