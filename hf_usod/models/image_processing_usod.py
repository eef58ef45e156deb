"""Image processor of the salient object detection models: photos and their auxiliary maps in, saliency maps out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import BatchFeature
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    ImageInput,
    PILImageResampling,
    SizeDict,
)
from transformers.processing_utils import ImagesKwargs, Unpack

from .configuration_usod import AUX_KINDS
from .reading_usod import as_hwc, is_local, open_image, read_image, to_numpy, to_rgb, to_uint8, upright

_PROPORTION_TOLERANCE = 0.05


def to_aux_rgb(image: Image.Image) -> Image.Image:
    """Any auxiliary map (depth, thermal, optical flow) as 8-bit RGB.

    8-bit maps are pictures and taken as `to_rgb` takes them, flow and thermal in color among them. 16-bit, 32-bit and
    float ones of one channel are measurements in the unit of their sensor, millimeters or kelvins, and are scaled by
    their own range: lowest value black, highest white; a constant map is black. What was not measured does not count
    in the range: NaN and, in a map without negative values, 0 become black, infinity white.

    Whether near is dark or bright is left as it is.
    """
    if image.mode != "F" and not image.mode.startswith("I"):
        return to_rgb(image)
    values = np.asarray(image).astype(np.float64)
    measured = values[np.isfinite(values)]
    if (positive := measured[measured > 0]).size and measured.min() >= 0:
        measured = positive
    low, high = (measured.min(), measured.max()) if measured.size else (0.0, 0.0)
    unit = np.nan_to_num(((values - low) / (high - low or 1.0)).clip(0, 1))
    return Image.fromarray((unit * 255).round().astype(np.uint8)).convert("RGB")


def read_aux(path: str | Path) -> Image.Image:
    """As `read_image`, of an auxiliary map: see `to_aux_rgb` for what becomes of 16-bit and float files."""
    return open_image(path, lambda image: to_aux_rgb(upright(image)))


def have_same_proportions(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes `(width, height)` differ in their proportions by no more than 5%, or a pixel."""
    (width, height), (other_width, other_height) = size, other
    expected = other_height * width / height
    return abs(other_width - expected) <= max(1, _PROPORTION_TOLERANCE * expected)


def check_aux(
    image_size: tuple[int, int],
    aux_size: tuple[int, int],
    image_name: str | Path | None = None,
    aux_name: str | Path | None = None,
) -> None:
    """Checks that an auxiliary map belongs to its image: it may be smaller or larger, but not of other proportions.

    Args:
        image_size, aux_size: `(width, height)`.
        image_name, aux_name: their files, if they have any. The files' stems must then be the same.

    Raises:
        ValueError: naming both, if the proportions differ by more than 5% (and a pixel), or the stems do.
    """
    image = f"the image{'' if image_name is None else f' {image_name}'}"
    aux = f"The auxiliary map{'' if aux_name is None else f' {aux_name}'}"
    (width, height), (aux_width, aux_height) = image_size, aux_size
    if not have_same_proportions(image_size, aux_size):
        raise ValueError(
            f"{aux} is {aux_width} x {aux_height} and cannot belong to {image} of {width} x {height}: their "
            "proportions differ."
        )
    if image_name is not None and aux_name is not None and Path(image_name).stem != Path(aux_name).stem:
        raise ValueError(
            f"{aux} does not have the name of {image}. If they do belong together, open them and pass what they hold."
        )


def _as_list(images: Any) -> list:
    return list(images) if isinstance(images, (list, tuple)) else [images]


def _kind_ids(kinds: Sequence[str | None], aux_images: Sequence) -> list[int]:
    """The places in `AUX_KINDS` of what auxiliary maps are; 0 where there is no map.

    Raises:
        ValueError: if there is not one kind a map, or a map is of none that is known.
    """
    if len(kinds) != len(aux_images):
        raise ValueError(f"Got {len(kinds)} kinds for {len(aux_images)} auxiliary maps; give one for all or one each.")
    for kind, aux in zip(kinds, aux_images, strict=True):
        if aux is not None and kind not in AUX_KINDS[1:]:
            raise ValueError(f"An auxiliary map is of kind {kind!r}; the kinds of maps are {', '.join(AUX_KINDS[1:])}.")
    return [0 if aux is None else AUX_KINDS.index(kind) for kind, aux in zip(kinds, aux_images, strict=True)]


class UsodImageProcessor(PilBackend):
    r"""
    Resizes (bicubic, to 320 x 320), rescales and normalizes images, and turns model outputs into saliency maps.

    Images are paths, PIL images, numpy arrays or torch tensors, `(H, W)`, `(H, W, C)` or `(C, H, W)` with 1, 3 or 4
    channels, alone or in a list. 8-bit, 16-bit and float ([0, 1]) images of the same content give the same result.
    `image_mean` and `image_std` are the backbone's: ImageNet's by default, 0.5 for the EfficientNet-Lites.

    Auxiliary maps (depth, thermal, optical flow) are resized the same way and stay in [0, 1], not normalized. In 16-bit
    and float ones of one channel the range is the map's own (see `to_aux_rgb`).
    """

    _auto_class = "AutoImageProcessor"  # what is saved carries its code
    model_input_names = ["pixel_values", "aux_pixel_values", "aux_kind"]
    resample = PILImageResampling.BICUBIC
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    size = {"height": 320, "width": 320}
    default_to_square = True
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    rescale_factor = 1 / 255

    def preprocess(
        self,
        images: ImageInput,
        aux_images: ImageInput | Sequence[ImageInput | None] | None = None,
        aux_kinds: str | Sequence[str | None] | None = None,
        **kwargs: Unpack[ImagesKwargs],
    ) -> BatchFeature:
        """
        Args:
            images (`ImageInput`):
                Images, as above.
            aux_images (`ImageInput`, *optional*):
                The auxiliary map of each image, in a list as long as that of the images; None for an image without
                one, which then serves as its own.
            aux_kinds (`str` or `list[str]`, *optional*):
                What the maps are, for a detector that is told (`modality_informed`): depth, thermal or flow, one for
                all or one an image. An image without map is of the kind none, whatever is said of it.

        Returns:
            [`BatchFeature`]: `pixel_values` `(batch_size, 3, height, width)`; with `aux_images`, `aux_pixel_values` of
            the same shape in [0, 1]; with `aux_kinds`, `aux_kind` `(batch_size,)`, their places in `AUX_KINDS`.

        Raises:
            ValueError: if there is not one auxiliary map (or kind) an image, or one cannot belong to its image: its
                proportions are others, or the stem of its file is, where both are given as paths; for a map of no
                known kind.
        """
        features = super().preprocess(images, aux_images, **kwargs)
        if aux_kinds is not None:
            count = len(features["pixel_values"])
            maps = [None] * count if aux_images is None else _as_list(aux_images)
            kinds = [aux_kinds] * count if isinstance(aux_kinds, str) else aux_kinds
            features["aux_kind"] = _kind_ids(kinds, maps)
            features.convert_to_tensors(kwargs.get("return_tensors"))
        return features

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """Whatever holds a photo through `read_image`; lists and arrays as in transformers."""
        source = image_url_or_urls
        if isinstance(source, (list, tuple)):
            return [self.fetch_images(photo) for photo in source]
        if isinstance(source, (np.ndarray, torch.Tensor)) and source.ndim != 2:  # of which the layout is to be told
            return source
        return read_image(source)

    def process_image(
        self, image: Any, do_convert_rgb: Any = None, input_data_format: Any = None, **kwargs: Any
    ) -> np.ndarray:
        """One image of any accepted type as a `(3, H, W)` array of 8-bit RGB."""
        return np.moveaxis(np.asarray(read_image(image, input_data_format)), -1, 0)

    def process_aux_image(self, aux: Any) -> np.ndarray:
        """One auxiliary map of any accepted type as a `(3, H, W)` array of 8-bit RGB."""
        if isinstance(aux, Image.Image):
            aux = upright(aux)
        elif not isinstance(aux, (np.ndarray, torch.Tensor)):
            aux = read_aux(aux)
        else:
            array = as_hwc(to_numpy(aux))
            if array.ndim == 2 and array.dtype not in (np.uint8, np.bool_):  # a measurement
                array = array.astype(np.float32)
            else:
                array = to_uint8(array)
            aux = Image.fromarray(array)
        return np.moveaxis(np.asarray(to_aux_rgb(aux)), -1, 0)

    def _preprocess_image_like_inputs(self, images: Any, aux_images: Any = None, **kwargs: Any) -> BatchFeature:
        prepared = self._prepare_image_like_inputs(images, **kwargs)
        if aux_images is None:
            return self._preprocess(prepared, **kwargs)
        sources, aux_sources = _as_list(images), _as_list(aux_images)
        if len(aux_sources) != len(prepared):
            raise ValueError(
                f"Got {len(aux_sources)} auxiliary maps for {len(prepared)} images; give a list with one an image, "
                "None for an image without."
            )
        if len(sources) != len(prepared):  # a batch in one array
            sources = [None] * len(prepared)
        # Sizes first, values after: an image that is its own auxiliary map is resized once
        sizes = kwargs | {"do_rescale": False, "do_normalize": False, "do_pad": False, "return_tensors": None}
        values = kwargs | {"do_resize": False, "do_center_crop": False}
        resized, aux_resized = [], []
        for image, source, aux_source in zip(prepared, sources, aux_sources, strict=True):
            resized += self._preprocess([image], **sizes)["pixel_values"]
            if aux_source is None:
                aux_resized.append(resized[-1])
                continue
            aux = self.process_aux_image(aux_source)
            names = (str(s) if is_local(s) else None for s in (source, aux_source))
            check_aux(image.shape[:0:-1], aux.shape[:0:-1], *names)
            if not kwargs["do_resize"]:  # to the size of its image, then
                aux = self.resize(aux, SizeDict(height=image.shape[1], width=image.shape[2]), kwargs["resample"])
            aux_resized += self._preprocess([aux], **sizes)["pixel_values"]
        features = self._preprocess(resized, **values)
        unit_range = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": False}
        features["aux_pixel_values"] = self._preprocess(aux_resized, **values | unit_range)["pixel_values"]
        return features

    def resize(self, image: np.ndarray, size: SizeDict, resample: Any = None, **kwargs: Any) -> np.ndarray:
        """As the base class does; to a fixed size without its copies."""
        if not (size.height and size.width) or kwargs:
            return super().resize(image, size, resample, **kwargs)
        photo = Image.fromarray(np.ascontiguousarray(np.moveaxis(image, 0, -1)))
        resized = np.asarray(photo.resize((size.width, size.height), resample))
        return np.ascontiguousarray(np.moveaxis(resized, -1, 0))

    def rescale(self, image: np.ndarray, scale: float, **kwargs: Any) -> np.ndarray:
        """As the base class does, in one pass."""
        return np.multiply(image, scale, out=np.empty(image.shape, np.float32), dtype=np.float64, casting="unsafe")

    def normalize(
        self, image: np.ndarray, mean: float | Sequence[float], std: float | Sequence[float], **kwargs: Any
    ) -> np.ndarray:
        """As the base class does, which does it in an order that is slow on photos."""
        shift, scale = (np.broadcast_to(np.asarray(v, dtype=np.float32), 3)[:, None, None] for v in (mean, std))
        image = image.astype(np.float32)
        image -= shift
        image /= scale
        return image

    def post_process_saliency(
        self, outputs: Any, target_sizes: Sequence[tuple[int, int]] | torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """Saliency maps from the output of a model.

        Args:
            outputs (`SaliencyOutput`):
                Its `logits` are `(batch_size, 1, height, width)`.
            target_sizes (`list[tuple[int, int]]` or `torch.Tensor` of shape `(batch_size, 2)`, *optional*):
                `(height, width)` of each map; the logits' own size if not given. Logits are resized (bilinear)
                before the sigmoid, which keeps edges sharper.

        Returns:
            `list[torch.FloatTensor]`: one map `(height, width)` in [0, 1] an image.

        Raises:
            ValueError: if there is not one target size an image.
        """
        logits = outputs.logits.float()
        if target_sizes is None:
            target_sizes = [tuple(logits.shape[-2:])] * len(logits)
        if len(target_sizes) != len(logits):
            raise ValueError(f"Got {len(target_sizes)} target sizes for {len(logits)} images; give one an image.")
        maps = []
        for sample, (height, width) in zip(logits, target_sizes, strict=True):
            resized = F.interpolate(sample[None], size=(int(height), int(width)), mode="bilinear", align_corners=False)
            maps.append(resized[0, 0].sigmoid())
        return maps


__all__ = ["UsodImageProcessor", "check_aux", "is_local", "read_aux", "read_image", "to_aux_rgb", "to_rgb"]
