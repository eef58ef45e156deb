"""How the pictures of a photo are written, and what they keep of it beside its pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from ..constants import FORMATS
from ..errors import DataError

_SOURCE = "Source"  # the PNG text that names the photo


@dataclass(frozen=True)
class Encoding:
    """The files of photos.

    Args:
        format: of `FORMATS`.
        quality: of webp and jpg, 1 to 100; None for 90. At 100, webp is lossless.

    Raises:
        DataError: for another format or quality, or a quality of PNGs, which are lossless.
    """

    format: str = "png"
    quality: int | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise DataError(f"format {self.format}: choose from {', '.join(FORMATS)}.")
        if self.quality is not None and self.format == "png":
            raise DataError("quality is for webp and jpg; PNGs keep every pixel. Leave it out, or choose a format.")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise DataError(f"quality {self.quality}: must be from 1 to 100.")

    @property
    def suffix(self) -> str:
        return f".{self.format}"

    def check(self, kinds: Sequence[str], has_background: bool) -> None:
        """
        Raises:
            DataError: if a kind of picture has transparency and the format none.
        """
        if self.format == "jpg" and "cutout" in kinds and not has_background:
            raise DataError("jpg has no transparency; give cutouts a background, such as white, or choose png or webp.")

    def options(self, photo: Image.Image, source: str, shows_photo: bool) -> dict[str, Any]:
        """Options of `Image.save` by which a picture keeps its photo's resolution and, if it shows the photo, EXIF
        data; a PNG also the name of its `source`.

        An ICC profile comes with the picture itself (see `Rendering.picture`).
        """
        options: dict[str, Any] = {"format": {"jpg": "jpeg"}.get(self.format, self.format)}
        if self.format == "png":
            options["pnginfo"] = PngInfo()
            if source:
                options["pnginfo"].add_text(_SOURCE, source)
        else:
            options["quality"] = 90 if self.quality is None else self.quality
            options["lossless"] = self.quality == 100  # webp; the others do not look at it
        dpi = photo.info.get("dpi")
        if isinstance(dpi, tuple) and len(dpi) == 2 and all(math.isfinite(number) and number > 0 for number in dpi):
            options["dpi"] = tuple(min(float(number), 1e6) for number in dpi)
        if self.format == "jpg" and "dpi" in options:
            options["dpi"] = tuple(min(round(number), 65535) for number in options["dpi"])
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
