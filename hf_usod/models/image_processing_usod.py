"""Image processor of the salient object detection models: photos in, saliency maps at the photo's size out."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional as F
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    ChannelDimension,
    PILImageResampling,
    infer_channel_dimension_format,
)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image as 8-bit RGB.

    16-bit and float images are scaled by their type's range (65535; floats are in [0, 1]), where Pillow would clip
    them to white. Transparency is laid over white.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # 16-bit files open as I;16 or I, depending on the format
        levels = np.asarray(image).astype(np.float32) / 257.0
        return Image.fromarray(levels.clip(0, 255).round().astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        return Image.fromarray(_to_uint8(np.asarray(image))).convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def read_image(path: str | Path) -> Image.Image:
    """Opens an image file as 8-bit RGB in the orientation its EXIF tag asks for.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it is no image, of a kind Pillow cannot read, or cut short.
    """
    try:
        with Image.open(path) as image:
            return to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        raise ValueError(f"{path}: cannot be read as an image ({error})") from error


def _to_uint8(image: np.ndarray | torch.Tensor) -> np.ndarray:
    """Arrays as 8-bit: uint8 as is, uint16 by its range, bool as 0/255, floats from [0, 1]."""
    image = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.bool_:
        return image.astype(np.uint8) * np.uint8(255)
    if image.dtype == np.uint16:
        return (image / 257.0).round().astype(np.uint8)
    if np.issubdtype(image.dtype, np.integer):
        if image.min() < 0 or image.max() > 255:
            raise ValueError(f"{image.dtype} image with values {image.min()}..{image.max()}; expected 0..255.")
        return image.astype(np.uint8)
    low, high = float(image.min()), float(image.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(
            f"{image.dtype} image with values {low:.4g}..{high:.4g}; float images are in [0, 1]. "
            "Divide by 255, or pass 8-bit images."
        )
    return (image.astype(np.float32).clip(0, 1) * 255).round().astype(np.uint8)


class UsodImageProcessor(PilBackend):
    r"""
    Resizes (bicubic, to 320 x 320), rescales and normalises images, and turns model outputs into saliency maps.

    Images are paths, PIL images, numpy arrays or torch tensors, `(H, W)`, `(H, W, C)` or `(C, H, W)` with 1, 3 or 4
    channels, alone or in a list. 8-bit, 16-bit and float ([0, 1]) images of the same content give the same result.
    `image_mean` and `image_std` are the backbone's: ImageNet's by default, 0.5 for the EfficientNet-Lites.
    """

    model_input_names = ["pixel_values"]
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

    def fetch_images(self, image_url_or_urls):
        """Local paths through `read_image`; lists, URLs and images as in transformers."""
        source = image_url_or_urls
        if isinstance(source, Path):
            return read_image(source)
        if isinstance(source, str) and not source.startswith(("http://", "https://", "data:")):
            return read_image(source)
        if isinstance(source, (np.ndarray, torch.Tensor)) and source.ndim == 2:  # transformers expects three axes
            return Image.fromarray(_to_uint8(source))
        return super().fetch_images(source)

    def process_image(self, image, do_convert_rgb=None, input_data_format=None, **kwargs) -> np.ndarray:
        """One image of any accepted type as a `(3, H, W)` array of 8-bit RGB."""
        if not isinstance(image, Image.Image):
            array = _to_uint8(image)
            if array.ndim == 3:
                layout = input_data_format or infer_channel_dimension_format(array, num_channels=(1, 3, 4))
                if layout == ChannelDimension.FIRST:
                    array = np.moveaxis(array, 0, -1)
                if array.shape[-1] == 1:
                    array = array[..., 0]
            image = Image.fromarray(np.ascontiguousarray(array))
        return np.moveaxis(np.asarray(to_rgb(image)), -1, 0)

    def post_process_saliency(self, outputs, target_sizes=None) -> list[torch.Tensor]:
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
        for one, (height, width) in zip(logits, target_sizes):
            resized = F.interpolate(one[None], size=(int(height), int(width)), mode="bilinear", align_corners=False)
            maps.append(resized[0, 0].sigmoid())
        return maps

    def post_process_semantic_segmentation(self, outputs, target_sizes=None) -> list[torch.Tensor]:
        """As `post_process_saliency`, thresholded at 0.5: maps of class ids, 0 background and 1 salient object.

        What the stock `image-segmentation` pipeline calls.
        """
        return [(saliency > 0.5).long() for saliency in self.post_process_saliency(outputs, target_sizes)]


__all__ = ["UsodImageProcessor", "read_image", "to_rgb"]
