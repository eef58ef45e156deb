"""Small pictures as text inside the page: no file of the machine is served."""

import base64
import io
from functools import lru_cache
from pathlib import Path

from PIL import Image

from ..errors import DataError
from ..models.image_processing_usod import read_image

THUMBNAIL = 200  # pixels a side
PREVIEW = 1400


def photo_uri(path: Path, side: int = THUMBNAIL) -> str:
    """Of an image, at most so many pixels a side; nothing of one that is not there any more."""
    try:
        return _photo(path, path.stat().st_mtime_ns, side)
    except (DataError, OSError, ValueError):
        return ""


def mask_uri(path: Path, side: int = THUMBNAIL) -> str:
    """Of a map or label, as the opacity of a picture; nothing of one that is not there any more."""
    try:
        return _mask(path, path.stat().st_mtime_ns, side)
    except (OSError, ValueError):
        return ""


@lru_cache(maxsize=1024)
def _photo(path: Path, _changed: int, side: int) -> str:
    picture = read_image(path)
    picture.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return _uri(picture, "jpeg", quality=82)


@lru_cache(maxsize=1024)
def _mask(path: Path, _changed: int, side: int) -> str:
    with Image.open(path) as opened:
        levels = opened.convert("L")
    levels.thumbnail((side, side), Image.Resampling.BILINEAR)
    picture = Image.new("LA", levels.size, 255)
    picture.putalpha(levels)
    return _uri(picture, "png")


def _uri(picture: Image.Image, kind: str, **options: int) -> str:
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
