"""From a photo and its saliency map to the pictures that are shown: cheap, so that sliders need no model."""

import re

import numpy as np
import torch
from PIL import Image, ImageColor

from hf_usod.inference.rendering import Rendering, on_background
from hf_usod.models.edge_refiner import foreground_colors
from hf_usod.models.pipeline_usod import cut_out, levels

SOFT, SHARP = "soft", "sharp"
DISPLAY_SIDE = 1400  # pixels of the longer side on screen; files keep the photo's own size


def find(detect, photo: Image.Image, aux: Image.Image | None = None) -> Image.Image:
    """The saliency map (mode L) of a photo, perhaps with its auxiliary map, as the command writes it."""
    given = photo if aux is None else {"image": photo, "aux": aux}
    saliency = detect(given, outputs=["predicted_saliency"])["predicted_saliency"]
    return levels(Rendering().refined(photo, saliency))


def opacity(saliency: Image.Image, threshold: float, edge: str = SOFT) -> Image.Image:
    """How much of the photo is kept (mode L): as much as it is salient, as in the cutouts of the command; or, with a
    sharp edge, all above the threshold and nothing below it."""
    return saliency if edge == SOFT else saliency.point(lambda level: 255 * (level > 255 * threshold))


def css_color(color: str) -> str:
    """`#rrggbb` of what a color picker gives, which may be `rgba(12.5, 0, 255, 1)`."""
    if color.startswith("rgb"):
        red, green, blue = (min(255, round(float(number))) for number in re.findall(r"[\d.]+", color)[:3])
        return f"#{red:02x}{green:02x}{blue:02x}"
    return color


def cut_photo(
    photo: Image.Image, saliency: Image.Image, threshold: float, edge: str = SOFT, background: str | None = None
) -> Image.Image:
    """The objects of a photo: RGBA, or RGB over a background color.

    Raises:
        ValueError: if `background` is no color.
    """
    photo = foreground_colors(photo, torch.from_numpy(np.asarray(saliency, np.float32) / 255))
    cutout = cut_out(photo, opacity(saliency, threshold, edge))
    if background is None:
        return cutout
    ImageColor.getrgb(css_color(background))  # on a server, no file's name is meant
    return on_background(cutout, css_color(background))


def shrink(image: Image.Image, side: int = DISPLAY_SIDE) -> Image.Image:
    """No side is longer than `side`."""
    if max(image.size) <= side:
        return image
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def on_checkerboard(image: Image.Image, square: int = 12) -> Image.Image:
    """A picture whose transparency can be seen (RGB)."""
    if image.mode != "RGBA":
        return image
    rows, columns = np.indices((image.height, image.width)) // square
    board = np.where((rows + columns) % 2 == 0, np.uint8(255), np.uint8(226))
    ground = Image.fromarray(board).convert("RGB")
    ground.paste(image, mask=image)
    return ground
