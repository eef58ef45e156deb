"""What the PNGs of a photo keep of it beside its pixels."""

import math
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

_SOURCE = "Source"  # the PNG text that names the photo


def png_options(photo: Image.Image, source: Path, shows_photo: bool) -> dict[str, Any]:
    """Options of `Image.save` by which a PNG keeps its photo's name, resolution and, if it shows the photo, EXIF data.

    An ICC profile comes with the picture itself (see `Rendering.picture`).
    """
    name = PngInfo()
    name.add_text(_SOURCE, source.name)
    options: dict[str, Any] = {"pnginfo": name}
    dpi = photo.info.get("dpi")
    if isinstance(dpi, tuple) and len(dpi) == 2 and all(math.isfinite(number) and number > 0 for number in dpi):
        options["dpi"] = tuple(min(float(number), 1e6) for number in dpi)
    if shows_photo and (exif := _upright_exif(photo)):
        options["exif"] = exif
    return options


def made_of(path: Path) -> str | None:
    """The name of the photo that a PNG was made of, if it tells."""
    try:
        with Image.open(path) as image:
            return image.info.get(_SOURCE)
    except Exception:  # whatever lies there, it is kept
        return None


def _upright_exif(photo: Image.Image) -> bytes:
    """The EXIF data of a photo whose pixels are upright."""
    try:
        exif = Image.Exif()
        exif.load(photo.info.get("exif", b""))
        exif.pop(ExifTags.Base.Orientation, None)
        return exif.tobytes() if exif else b""
    except Exception:  # damaged EXIF data raise almost anything; the picture is what counts
        return b""
