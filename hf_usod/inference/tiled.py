"""A pipeline that looks at photos in windows too, for objects that are small in them (beyond the paper)."""

from collections.abc import Collection
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel

from ..errors import DataError
from ..models.image_processing_usod import check_aux, to_rgb
from ..models.pipeline_usod import OUTPUTS, levels, render_outputs
from ..models.reading_usod import is_local, read_photo
from ..outlines import measure_image
from .tiling import Blend, Window, layout

AUTO = "auto"
AUTO_SHARE, AUTO_LEAST = 4, 240  # of a photo's longer side one in so many, and pixels at least
_SUREST = 1 / 255  # from 0 and 1: no map is believed to be surer
Tiles = int | str | None


def auto_side(size: tuple[int, int]) -> int:
    """The side of the windows that `AUTO` tries on a photo, in pixels."""
    return max(AUTO_LEAST, max(size) // AUTO_SHARE)


def model_label(model: str, adapter: str | None = None, tiles: Tiles = None) -> str:
    """A model's name in tables and pictures."""
    return f"{model}{f' + {adapter}' if adapter else ''}{f', tiles {tiles}' if tiles else ''}"


class Tiled:
    """Is called as the `salient-object-detection` pipeline that it has, and has `model` as that does.

    The map of a photo is that of the whole, which knows what is large and what is ground, and that blended of its
    windows (see `Blend`), which show what is small: the mean of their logits. Memory holds what it does without, and a
    batch of windows; with `AUTO` a map more.

    Args:
        detect: the pipeline.
        tiles: the side of a window in pixels of the photo; a photo that is no larger is not looked at again. `AUTO` is
            a quarter of the photo's longer side, but 240 at least, if the outlines of the map fit what the windows show
            better for it.

    Raises:
        DataError: for other tiles.
    """

    def __init__(self, detect: Any, tiles: int | str):
        if tiles != AUTO and not (isinstance(tiles, int) and not isinstance(tiles, bool) and tiles > 0):
            raise DataError(f"tiles {tiles!r}: give the side of a window in pixels, or {AUTO}.")
        self.detect, self.tiles = detect, tiles

    @property
    def model(self) -> PreTrainedModel:
        return self.detect.model

    @model.setter
    def model(self, model: PreTrainedModel) -> None:
        self.detect.model = model

    def __call__(
        self,
        inputs: Any,
        *,
        batch_size: int = 1,
        threshold: float = 0.5,
        outputs: Collection[str] = OUTPUTS,
        edges: str = "none",
        **options: Any,
    ) -> Any:
        """As of the pipeline; `batch_size` is of photos and of windows."""
        given = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        read = [self._read(one) for one in given]
        options |= {"batch_size": batch_size, "outputs": ["predicted_saliency"]}
        wholes = self.detect(read, **options)
        made = []
        for one, whole in zip(read, wholes, strict=True):
            saliency = self._with_windows(one, whole.pop("predicted_saliency"), options)
            made.append(render_outputs(one["image"], saliency, threshold, outputs, edges))
        return made if isinstance(inputs, (list, tuple)) else made[0]

    def _read(self, given: Any) -> dict[str, Any]:
        """An input with what it names opened: windows are cut of it."""
        given = dict(given) if isinstance(given, dict) else {"image": given}
        source, aux = given["image"], given.get("aux")
        given["image"] = read_photo(source)
        if aux is not None:
            pixels = self.detect.image_processor.process_aux_image(aux)
            given["aux"] = Image.fromarray(np.ascontiguousarray(np.moveaxis(pixels, 0, -1)))
            names = (path if is_local(path) else None for path in (source, aux))
            check_aux(given["image"].size, given["aux"].size, *names)
        return given

    def _with_windows(self, given: dict[str, Any], whole: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        """The map `(H, W)` of a photo, of which that of the whole is known."""
        photo = given["image"]
        side = auto_side(photo.size) if self.tiles == AUTO else int(self.tiles)
        if side >= max(photo.size):
            return whole
        before = whole.clone() if self.tiles == AUTO else None
        blend = Blend(_half_logits(whole), side)
        windows = iter(blend.windows)
        while some := list(islice(windows, options["batch_size"])):
            for window, found in zip(some, self.detect([_part(given, w) for w in some], **options), strict=True):
                blend.add(window, _half_logits(found["predicted_saliency"]))
        both = blend.total.sigmoid_()
        if before is not None and both.isfinite().all() and fit(photo, both, side) <= fit(photo, before, side):
            return before
        return both


def _half_logits(saliency: torch.Tensor) -> torch.Tensor:
    """In place."""
    return saliency.clamp_(_SUREST, 1 - _SUREST).logit_().div_(2)


def fit(photo: Image.Image, saliency: torch.Tensor, side: int) -> float:
    """The measure without masks of a map `(H, W)` in [0, 1], on average of what windows of `side` pixels show of it:
    the measure looks at all in 80 x 80 pixels, and sees nothing that is small there."""
    scores = []
    for window in layout(photo.height, photo.width, side):
        part = np.asarray(levels(window.of(saliency)))
        scores.append(measure_image("", to_rgb(photo.crop(window.box)), part).score)
    return float(np.mean(scores))


def _part(given: dict[str, Any], window: Window) -> dict[str, Any]:
    """What a window shows of a photo and, of whatever size, its auxiliary map."""
    photo, aux = given["image"], given.get("aux")
    part = {**given, "image": photo.crop(window.box)}
    if aux is not None:
        across, down = aux.width / photo.width, aux.height / photo.height
        left, top, right, bottom = window.box
        box = (left * across, top * down, min(aux.width, right * across), min(aux.height, bottom * down))
        part["aux"] = aux.resize(part["image"].size, Image.Resampling.BILINEAR, box)
    return part
