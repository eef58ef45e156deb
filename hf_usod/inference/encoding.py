"""How the pictures of a photo are written, and what they keep of it beside its pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from ..constants import FORMATS
from ..errors import DataError

_SOURCE = "Source"  # the PNG text that names the photo; in other formats that is XMP's dc:source
_DUBLIN_CORE = "http://purl.org/dc/elements/1.1/"
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    f'<rdf:Description rdf:about="" xmlns:dc="{_DUBLIN_CORE}"><dc:source>{{}}</dc:source></rdf:Description>'
    "</rdf:RDF></x:xmpmeta>"
)


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

    def options(self, photo: Image.Image, source: str, picture: Image.Image) -> dict[str, Any]:
        """Options of `Image.save` by which a picture keeps its own ICC profile (see `Rendering.picture`), its photo's
        resolution and, if it shows the photo, EXIF data; and the name of its `source`, unless that is empty.
        """
        options: dict[str, Any] = {"format": {"jpg": "jpeg"}.get(self.format, self.format)}
        if self.format == "png":
            options["pnginfo"] = PngInfo()
            if source:
                options["pnginfo"].add_text(_SOURCE, printable(source))
        else:
            options["icc_profile"] = picture.info.get("icc_profile")  # which PNGs take by themselves
            if source:
                options["xmp"] = _XMP.format(escape(printable(source))).encode()
            options["quality"] = 90 if self.quality is None else self.quality
            options["lossless"] = self.quality == 100  # webp; the others do not look at it
        dpi = photo.info.get("dpi")
        if isinstance(dpi, tuple) and len(dpi) == 2 and all(math.isfinite(number) and number > 0 for number in dpi):
            options["dpi"] = tuple(min(float(number), 1e6) for number in dpi)
        if self.format == "jpg" and "dpi" in options:
            options["dpi"] = tuple(min(round(number), 65535) for number in options["dpi"])
        if picture.mode != "L" and (exif := _upright_exif(photo)):
            options["exif"] = exif
        return options


def printable(name: str) -> str:
    """A file's name as a picture can hold it: what is no letter, or no UTF-8, is escaped."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in name)


def made_of(path: Path) -> str | None:
    """The name of the photo that a picture was made of, `printable`, if it tells."""
    try:
        with Image.open(path) as image:
            if "xmp" in image.info:
                return ElementTree.fromstring(image.info["xmp"]).findtext(f".//{{{_DUBLIN_CORE}}}source")
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
