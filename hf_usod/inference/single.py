"""One picture in, one picture out: the shortest way in Python."""

import io
import os
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..constants import OUTPUT_KINDS
from ..errors import DataError
from ..files import file_state
from ..loading import load_pipeline
from ..models.pipeline_usod import SalientObjectDetectionPipeline
from ..models.reading_usod import read_photo
from .encoding import Encoding
from .maps import Maps
from .predict import Detects
from .rendering import Rendering
from .tiled import Tiled, Tiles


@lru_cache(maxsize=2)
def _detector(
    model: str | None, adapter: str | None, device: str | None, _states: tuple[frozenset, ...]
) -> SalientObjectDetectionPipeline:
    return load_pipeline(model, adapter, device=device)


def _folder_state(folder: str | None) -> frozenset:
    """What changes with a folder's files; nothing for a name or Hub id."""
    if folder is None or not os.path.isdir(folder):
        return frozenset()
    return frozenset((entry.name, file_state(entry)) for entry in os.scandir(folder))


def _shown(
    detect: Detects, photo: Image.Image, rendering: Rendering, aux: Any = None
) -> tuple[Image.Image, torch.Tensor]:
    """What a picture shows of a photo and its map `(H, W)`.

    Raises:
        DataError: if the model has no map for it.
    """
    given = photo if aux is None else {"image": photo, "aux": aux}
    (saliency,) = Maps(detect, 1).of([given], ["the photo"])
    if isinstance(saliency, DataError):
        raise saliency
    return rendering.shown(photo, saliency)


def detect(
    image: Any,
    output: str = "saliency",
    *,
    aux: Any = None,
    model: str | None = None,
    adapter: str | None = None,
    device: str | None = None,
    tiles: Tiles = None,
    input_data_format: str | None = None,
    **rendering: Any,
) -> Any:
    """The salient objects of one image. Models stay loaded until their files change; of many images, `predict` and the
    pipeline are faster.

    Args:
        image: a PIL image, array, tensor, path, URL, or the bytes of a file; see `UsodImageProcessor`.
        output: `"saliency"` (the map), `"mask"`, `"cutout"`, `"overlay"` or `"side_by_side"`.
        aux: its depth, thermal or flow map, for a detector that takes one.
        model, adapter: embedded names, folders or Hub ids; see `load`.
        device: None for the fastest there is.
        tiles: the windows to look at too, for small objects: their side in pixels, or `"auto"`; see `Tiled`.
        input_data_format: `"channels_first"` or `"channels_last"`, of an array whose shape does not tell.
        rendering: `threshold`, `background`, `alpha`, `crop` and `edges`, see `Rendering`.

    Returns:
        What was given: of an array an array, `(H, W)` float32 in [0, 1] for a map, bool for a mask, else uint8
        `(H, W, C)`; of a tensor a tensor, of the same types, `(H, W)` or `(C, H, W)`; of all else a PIL image.

    Raises:
        LoadingError: if the model cannot be loaded.
        DataError: if the model has no map for it; for another output.
        ValueError, FileNotFoundError: if the image cannot be read.
    """
    if output not in OUTPUT_KINDS:
        raise DataError(f"output {output!r}: choose from {', '.join(OUTPUT_KINDS)}.")
    wanted = Rendering((output,), **rendering)
    detector: Detects = _detector(model, adapter, device, (_folder_state(model), _folder_state(adapter)))
    if tiles is not None:
        detector = Tiled(detector, tiles)
    photo, saliency = _shown(detector, read_photo(image, input_data_format), wanted, aux)
    if output == "saliency" and isinstance(image, (np.ndarray, torch.Tensor)):
        values = saliency
    else:
        picture = wanted.picture(output, photo, saliency)
        if not isinstance(image, (np.ndarray, torch.Tensor)):
            return picture
        values = _values(picture, output)
    return values if isinstance(image, torch.Tensor) else _last(values).numpy()


def _values(picture: Image.Image, output: str) -> torch.Tensor:
    """A picture as `(H, W)` bool, if it is a mask, or `(C, H, W)` uint8."""
    pixels = torch.from_numpy(np.array(picture))
    return pixels > 127 if output == "mask" else pixels.permute(2, 0, 1)


def _last(values: torch.Tensor) -> torch.Tensor:
    """With the channels last, if there are any."""
    return values if values.ndim == 2 else values.permute(1, 2, 0)


def predict_bytes(detect: Detects, photo: bytes, rendering: Rendering, encoding: Encoding = Encoding()) -> bytes:  # noqa: B008
    """One picture of a photo, from the bytes of a file to those of another; `rendering` is of one kind.

    Raises:
        ValueError: if it is no photo that can be read, the model has no map for it, or the format no transparency or no
            room for it.
    """
    (kind,) = rendering.kinds
    encoding.check(rendering.kinds, rendering.has_background)
    image = read_photo(photo)
    encoding.check_size(rendering.least_size(kind, image.size))
    picture = rendering.picture(kind, *_shown(detect, image, rendering))
    encoding.check_size(picture.size)
    data = io.BytesIO()
    picture.save(data, **encoding.options(image, "", picture))
    return data.getvalue()
