"""The `salient-object-detection` pipeline: an image in; its saliency map, mask and cutout out."""

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers import Pipeline

from .image_processing_usod import check_aux, is_local, read_aux, read_image, to_rgb

# What an input may hold by name: the columns of the data sets of hf_usod. Of these, `id` and `mask` are not looked at.
_COLUMNS = {"image", "aux", "aux_kind", "id", "mask"}


def render_outputs(image: Image.Image, saliency: torch.Tensor, threshold: float = 0.5) -> dict[str, Image.Image]:
    """The pictures made of a saliency map.

    Args:
        image: RGB, `(H, W)` large.
        saliency: `(H, W)` in [0, 1].
        threshold: saliency above it is object in the mask.

    Returns:
        `saliency` (mode L, 0-255), `mask` (mode L, 0 or 255) and `cutout` (RGBA: the image with the saliency as its
        opacity), all of the image's size.
    """
    levels = saliency.mul(255).round().to(torch.uint8).numpy()
    matte = Image.fromarray(levels)
    mask = Image.fromarray(np.where(saliency.numpy() > threshold, np.uint8(255), np.uint8(0)))
    cutout = image.convert("RGBA")
    cutout.putalpha(matte)
    return {"saliency": matte, "mask": mask, "cutout": cutout}


class SalientObjectDetectionPipeline(Pipeline):
    """
    Finds the salient objects of images with any salient object detection model of hf_usod.

    ```python
    >>> detect = pipeline("salient-object-detection", model=checkpoint)
    >>> detect("photo.jpg")["cutout"].save("cutout.png")
    >>> detect({"image": "photo.jpg", "aux": "depth/photo.png"})["mask"]  # with a detector of two streams
    ```
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False
    _load_video_processor = False

    def __call__(self, inputs, **kwargs):
        """
        Args:
            inputs (`str`, `Path`, `PIL.Image`, `dict` or a list of them):
                Images, as paths, URLs or PIL images. The EXIF orientation is applied. As a `dict`, `"image"` with its
                `"aux"`: a depth, thermal or flow map of any type that [`UsodImageProcessor`] takes, or None; for a
                detector that is told what its maps are, with its `"aux_kind"`.
            aux_kind (`str`, *optional*):
                For such a detector, what the maps are of which their `dict` does not say it: depth, thermal or flow.
            threshold (`float`, *optional*, defaults to 0.5):
                Saliency above it is object in the mask.
            batch_size (`int`, *optional*, defaults to 1):
                How many images go through the model at a time.

        Returns:
            `dict` or `list[dict]`: `saliency` (PIL, mode L), `mask` (PIL, mode L, 0 or 255) and `cutout` (PIL,
            RGBA), each at the image's own size.

        Raises:
            ValueError: if an auxiliary map is given to a model that takes none, or cannot belong to its image; if a
                kind is missing, unknown, or given to a model that is not told.
        """
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, threshold: float | None = None, aux_kind: str | None = None, **kwargs):
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"`threshold` must be in [0, 1], got {threshold}.")
        reading = {} if aux_kind is None else {"aux_kind": aux_kind}
        return reading, {}, {} if threshold is None else {"threshold": threshold}

    def _read(self, source) -> Image.Image:
        if isinstance(source, Image.Image):
            return to_rgb(ImageOps.exif_transpose(source))
        if not is_local(source):
            return to_rgb(self.image_processor.fetch_images(source))
        return read_image(source)

    def preprocess(self, inputs, aux_kind: str | None = None):
        if not isinstance(inputs, dict):
            inputs = {"image": inputs}
        if "image" not in inputs or inputs.keys() - _COLUMNS:
            raise ValueError(f"An input is an image, or a dict of `image` and `aux`; got one of {', '.join(inputs)}.")
        source, aux = inputs["image"], inputs.get("aux")
        image = self._read(source)
        maps = {}
        aux_kind = inputs.get("aux_kind") or aux_kind
        if self.model.config.takes_aux:
            if is_local(aux):  # here, where the files' names are known
                path, aux = aux, read_aux(aux)
                check_aux(image.size, aux.size, source if is_local(source) else None, path)
            maps["aux_images"] = [aux]  # for images without as well: they may share a batch with others
            if self.model.config.modality_informed:
                maps["aux_kinds"] = [aux_kind]
        elif aux is not None:
            raise ValueError(
                f"A {self.model.config.model_type} model takes no auxiliary map. Give the image alone, or use a "
                "detector of two streams (usod_sd)."
            )
        if aux_kind is not None and "aux_kinds" not in maps:
            raise ValueError(f"aux_kind {aux_kind!r} is given, but this model treats all maps alike; leave it out.")
        model_inputs = self.image_processor(image, **maps, return_tensors="pt").to(self.dtype)
        model_inputs["image"] = image
        return model_inputs

    def _forward(self, model_inputs):
        image = model_inputs.pop("image")
        outputs = self.model(**model_inputs)
        outputs["image"] = image
        return outputs

    def postprocess(self, model_outputs, threshold: float = 0.5):
        image = model_outputs["image"]
        if isinstance(image, list):  # batching wraps what is no tensor
            image = image[0]
        saliency = self.image_processor.post_process_saliency(model_outputs, [(image.height, image.width)])[0]
        return render_outputs(image, saliency.cpu(), threshold)


__all__ = ["SalientObjectDetectionPipeline", "render_outputs"]
