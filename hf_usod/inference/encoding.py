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
from ..data.origin import IDENTIFIER, MARK, SOURCE, Origin, printable
from ..data.video import is_video_file
from ..errors import DataError
from .clip_files import comment_of

_LONGEST_SIDE = {"webp": 16383, "jpg": 65500}  # pixels that a format has room for
_LONGEST_EXIF = 65533  # bytes in a JPEG
_DUBLIN_CORE = "http://purl.org/dc/elements/1.1/"
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    f'<rdf:Description rdf:about="" xmlns:dc="{_DUBLIN_CORE}"><dc:source>{{}}</dc:source>'
    "<dc:identifier>{}</dc:identifier></rdf:Description></rdf:RDF></x:xmpmeta>"
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
        if self.quality is not None and (isinstance(self.quality, bool) or not 1 <= self.quality <= 100):
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

    def check_size(self, size: tuple[int, int]) -> None:
        """
        Raises:
            DataError: if the format has no room for a picture of this size (width, height).
        """
        if max(size) > (most := _LONGEST_SIDE.get(self.format, math.inf)):
            width, height = size
            raise DataError(
                f"{self.format} has room for {most} pixels a side, and the picture is {width} x {height}; choose png"
            )

    def options(
        self, photo: Image.Image, source: str, picture: Image.Image, identifier: str | None = None
    ) -> dict[str, Any]:
        """Options of `Image.save` by which a picture keeps its own ICC profile (see `Rendering.picture`), its photo's
        resolution and, if it shows the photo, EXIF data; and the name of its `source`, unless that is empty.

        Args:
            identifier: what it tells of its `Origin` beside the name.
        """
        options: dict[str, Any] = {"format": {"jpg": "jpeg"}.get(self.format, self.format)}
        if self.format == "png":
            options["pnginfo"] = PngInfo()
            for name, text in ((SOURCE, printable(source)), (IDENTIFIER, identifier)):
                if text:
                    options["pnginfo"].add_text(name, text)
        else:
            options["icc_profile"] = picture.info.get("icc_profile")  # which PNGs take by themselves
            if source:
                options["xmp"] = _XMP.format(escape(printable(source)), identifier or "").encode()
            options["quality"] = 90 if self.quality is None else self.quality
            options["lossless"] = self.quality == 100  # webp; the others do not look at it
        dpi = photo.info.get("dpi")
        if isinstance(dpi, tuple) and len(dpi) == 2 and all(math.isfinite(number) and number > 0 for number in dpi):
            options["dpi"] = tuple(min(float(number), 1e6) for number in dpi)
        if self.format == "jpg" and "dpi" in options:
            options["dpi"] = tuple(min(round(number), 65535) for number in options["dpi"])
        exif = b"" if picture.mode == "L" else _upright_exif(photo)
        if exif and not (self.format == "jpg" and len(exif) > _LONGEST_EXIF):  # the picture is what counts
            options["exif"] = exif
        return options


def made_of(path: Path) -> Origin:
    """What a result tells of its origin."""
    if is_video_file(path):
        identifier, _, name = (comment_of(path) or "").partition(" ")
        return Origin.parse(name, identifier) if identifier.startswith(MARK) else Origin()
    try:
        with Image.open(path) as image:
            if "xmp" in image.info:
                xmp = ElementTree.fromstring(image.info["xmp"])
                return Origin.parse(*(xmp.findtext(f".//{{{_DUBLIN_CORE}}}{x}") for x in ("source", "identifier")))
            return Origin.parse(image.info.get(SOURCE), image.info.get(IDENTIFIER))
    except Exception:  # whatever lies there, it is kept
        return Origin()


def _upright_exif(photo: Image.Image) -> bytes:
    """The EXIF data of a photo whose pixels are upright."""
    try:
        exif = Image.Exif()
        exif.load(photo.info.get("exif", b""))
        exif.pop(ExifTags.Base.Orientation, None)
        return exif.tobytes() if exif else b""
    except Exception:  # damaged EXIF data raise almost anything; the picture is what counts
        return b""
