"""The `salient-object-detection` pipeline: an image in; its saliency map, mask and cutout out."""

from collections.abc import Collection
from typing import Any

import torch
from PIL import Image, ImageChops
from transformers import Pipeline

from .edge_refiner import foreground_colors, refine_edges
from .image_processing_usod import check_aux, read_aux
from .reading_usod import is_local, read_photo, to_rgb

# What an input may hold by name: the columns of the data sets of hf_usod. Of these, `id` and `mask` are not looked at.
_COLUMNS = {"image", "aux", "aux_kind", "id", "mask"}
EDGES = ("fine", "none")
OUTPUTS = ("predicted_saliency", "saliency", "mask", "cutout")


def _checked(saliency: torch.Tensor) -> torch.Tensor:
    if not saliency.isfinite().all():
        raise ValueError(
            "The model gives NaN. Its weights are ruined (take an earlier checkpoint of it), or too large for its "
            "dtype (use float32)."
        )
    return saliency


def levels(saliency: torch.Tensor) -> Image.Image:
    """A saliency map `(H, W)` in [0, 1] as a picture (mode L, 0-255).

    Raises:
        ValueError: for one that is NaN.
    """
    return Image.fromarray(_checked(saliency).mul(255).round_().to(torch.uint8).numpy())


def cut_out(photo: Image.Image, opacity: Image.Image) -> Image.Image:
    """A photo (RGB or RGBA) as RGBA, in its own colors, no more opaque than `opacity` (mode L) says."""
    cutout = photo.convert("RGBA")
    cutout.putalpha(ImageChops.multiply(photo.getchannel("A"), opacity) if photo.mode == "RGBA" else opacity)
    return cutout


def render_outputs(
    photo: Image.Image,
    saliency: torch.Tensor,
    threshold: float = 0.5,
    outputs: Collection[str] = OUTPUTS,
    edges: str = "none",
) -> dict[str, Any]:
    """What is made of a saliency map.

    Args:
        photo: RGB or RGBA, `(H, W)` large.
        saliency: `(H, W)` in [0, 1].
        threshold: saliency above it is object in the mask.
        outputs: which of `OUTPUTS`.
        edges: of `EDGES`; fine ones are the photo's own (see `refine_edges`), and cutouts lose the background's colors
            there (see `foreground_colors`).

    Returns:
        `predicted_saliency`, `saliency` (mode L, 0-255), `mask` (mode L, 0 or 255) and `cutout`
        (RGBA: the photo with the saliency as its opacity, where it is not more transparent itself), all of the photo's
        size.
    """
    own = refine_edges(photo, saliency) if edges == "fine" else saliency
    render = {
        "predicted_saliency": lambda: own,
        "saliency": lambda: levels(own),
        "mask": lambda: levels((_checked(own) > threshold).float()),
        "cutout": lambda: cut_out(foreground_colors(photo, own) if edges == "fine" else photo, levels(own)),
    }
    return {kind: render[kind]() for kind in outputs}


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
            inputs (`str`, `Path`, `bytes`, file object, `PIL.Image`, array, tensor, `dict` or a list of them):
                Images, as paths, URLs, data URIs, the bytes of a file, or whatever else [`UsodImageProcessor`] takes.
                The EXIF orientation is applied. As a `dict`, `"image"` with its `"aux"`: a depth, thermal or flow map
                of any type that the processor takes, or None; for a detector that is told what its maps are,
                with its `"aux_kind"`.
            aux_kind (`str`, *optional*):
                For such a detector, what the maps are of which their `dict` does not say it: depth, thermal or flow.
            threshold (`float`, *optional*, defaults to 0.5):
                Saliency above it is object in the mask.
            outputs (`list[str]`, *optional*, defaults to all):
                What is to be made; the less, the faster for large images.
            edges (`str`, *optional*, defaults to `"none"`):
                `"fine"` fits maps to the photo's own edges, and cutouts lose the background's colors there; with
                `"none"` they are as the model gives them, enlarged.
            input_data_format (`str`, *optional*):
                `"channels_first"` or `"channels_last"`, for arrays whose shape does not tell.
            batch_size (`int`, *optional*, defaults to 1):
                How many images go through the model at a time.

        Returns:
            `dict` or `list[dict]`: `predicted_saliency` (`torch.FloatTensor` `(H, W)` in [0, 1]), `saliency` (the same
            as PIL, mode L), `mask` (PIL, mode L, 0 or 255) and `cutout` (PIL, RGBA), each at the image's own size.

        Raises:
            ValueError: if an auxiliary map is given to a model that takes none, or cannot belong to its image; if a
                kind is missing, unknown, or given to a model that is not told; for a threshold or outputs that there
                are not.
            TypeError: for an option that there is not.
        """
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self, threshold=None, outputs=None, input_data_format=None, aux_kind=None, edges=None, **unknown
    ):
        if unknown:
            options = "threshold, outputs, edges, input_data_format, aux_kind, batch_size, num_workers"
            raise TypeError(f"There is no option {', '.join(unknown)}; there are: {options}.")
        if threshold is not None and (isinstance(threshold, bool) or not 0 <= threshold <= 1):
            raise ValueError(f"`threshold` must be in [0, 1], got {threshold}.")
        if outputs is not None and (isinstance(outputs, str) or not set(outputs) <= set(OUTPUTS)):
            raise ValueError(f"`outputs` is a list of {', '.join(OUTPUTS)}; got {outputs!r}.")
        if edges not in (None, *EDGES):
            raise ValueError(f"`edges` is one of {', '.join(EDGES)}; got {edges!r}.")
        reading = {"input_data_format": input_data_format, "aux_kind": aux_kind}
        rendering = {"threshold": threshold, "outputs": outputs, "edges": edges}
        return _given(reading), {}, _given(rendering)

    def preprocess(self, inputs, input_data_format=None, aux_kind: str | None = None):
        if not isinstance(inputs, dict):
            inputs = {"image": inputs}
        if "image" not in inputs or inputs.keys() - _COLUMNS:
            raise ValueError(f"An input is an image, or a dict of `image` and `aux`; got one of {', '.join(inputs)}.")
        source, aux = inputs["image"], inputs.get("aux")
        photo = read_photo(source, input_data_format)
        image = to_rgb(photo)
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
                "detector of two streams (usod_sd; if it is exported, with --aux)."
            )
        if aux_kind is not None and "aux_kinds" not in maps:
            raise ValueError(f"aux_kind {aux_kind!r} is given, but this model treats all maps alike; leave it out.")
        model_inputs = self.image_processor(image, **maps, return_tensors="pt").to(self.dtype)
        model_inputs["image"] = photo
        return model_inputs

    def _forward(self, model_inputs):
        image = model_inputs.pop("image")
        outputs = self.model(**model_inputs)
        outputs["image"] = image
        return outputs

    def postprocess(
        self, model_outputs, threshold: float = 0.5, outputs: Collection[str] = OUTPUTS, edges: str = "none"
    ):
        photo = model_outputs["image"]
        if isinstance(photo, list):  # batching wraps what is no tensor
            photo = photo[0]
        saliency = self.image_processor.post_process_saliency(model_outputs, [(photo.height, photo.width)])[0]
        return render_outputs(photo, saliency.cpu(), threshold, outputs, edges)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


__all__ = ["EDGES", "OUTPUTS", "SalientObjectDetectionPipeline", "cut_out", "levels", "render_outputs"]
