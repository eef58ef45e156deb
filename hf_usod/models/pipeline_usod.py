"""The `salient-object-detection` pipeline: an image in; its saliency map, mask and cutout out."""

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers import Pipeline

from .image_processing_usod import read_image, to_rgb


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
            inputs (`str`, `Path`, `PIL.Image` or a list of them):
                Images, as paths, URLs or PIL images. The EXIF orientation is applied.
            threshold (`float`, *optional*, defaults to 0.5):
                Saliency above it is object in the mask.
            batch_size (`int`, *optional*, defaults to 1):
                How many images go through the model at a time.

        Returns:
            `dict` or `list[dict]`: `saliency` (PIL, mode L), `mask` (PIL, mode L, 0 or 255) and `cutout` (PIL,
            RGBA), each at the image's own size.
        """
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, threshold: float | None = None, **kwargs):
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"`threshold` must be in [0, 1], got {threshold}.")
        return {}, {}, {} if threshold is None else {"threshold": threshold}

    def preprocess(self, inputs):
        if isinstance(inputs, Image.Image):
            image = to_rgb(ImageOps.exif_transpose(inputs))
        elif str(inputs).startswith(("http://", "https://", "data:")):
            image = to_rgb(self.image_processor.fetch_images(inputs))
        else:
            image = read_image(inputs)
        model_inputs = self.image_processor(image, return_tensors="pt").to(self.dtype)
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
