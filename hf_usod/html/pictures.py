"""Pictures as text inside a page."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..models.image_processing_usod import read_image


@dataclass(frozen=True)
class Quality:
    """How pictures are kept: at most `side` pixels a side, at this quality of JPEG and WebP."""

    side: int
    quality: int


QUALITIES = (Quality(1280, 88), Quality(1024, 84), Quality(800, 80), Quality(640, 75), Quality(480, 70))


def _fit(picture: Image.Image, side: int) -> Image.Image:
    if max(picture.size) <= side:
        return picture
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _data_uri(picture: Image.Image, kind: str, quality: int) -> str:
    data = io.BytesIO()
    picture.save(data, kind, quality=quality)
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"


def photo_uri(path: Path, kept: Quality) -> str:
    return _data_uri(_fit(read_image(path), kept.side), "jpeg", kept.quality)


def map_uri(saliency: np.ndarray, kept: Quality) -> str:
    """Of a map `(H, W)` uint8."""
    return _data_uri(_fit(Image.fromarray(saliency), kept.side).convert("RGB"), "webp", kept.quality)
