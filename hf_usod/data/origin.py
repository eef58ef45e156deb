"""What a result of this package tells of its origin: the photo or clip that it was made of, and as what."""

import zlib
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

SOURCE = "Source"  # the PNG text that names the photo; in other formats that is XMP's dc:source
IDENTIFIER = "Identifier"  # the PNG text that tells what is shown of which content; else dc:identifier
MARK = "hf_usod:"  # what an identifier begins with: `hf_usod:mask:48213-5c0ffee5`
_BEGINNING = 2**16  # bytes


@dataclass(frozen=True)
class Origin:
    """What a result was made of, and as what. What it does not tell, as results of earlier versions, is None.

    Args:
        name: of the photo's or clip's file, `printable`.
        kind: of `OUTPUT_KINDS`.
        content: see `content_of`.
    """

    name: str | None = None
    kind: str | None = None
    content: str | None = None

    @classmethod
    def of(cls, source: Path) -> "Origin":
        """Of results of any kind."""
        return cls(printable(source.name), content=content_of(source))

    def as_kind(self, kind: str) -> "Origin":
        return replace(self, kind=kind)

    @property
    def identifier(self) -> str:
        return f"{MARK}{self.kind}:{self.content or ''}"

    @property
    def comment(self) -> str:
        """What clips hold, which have no field for more."""
        return f"{self.identifier} {self.name}"

    @classmethod
    def parse(cls, name: str | None, identifier: str | None) -> "Origin":
        mark, _, told = (identifier or "").partition(MARK)
        kind, _, content = ("" if mark else told).partition(":")
        return cls(name or None, kind or None, content or None)

    def misfit(self, wanted: "Origin") -> str | None:
        """Why a result of this origin is not the wanted one, as far as both tell."""
        if self.name not in (None, wanted.name):
            return f"was made of {self.name}, not of {wanted.name}"
        if self.kind not in (None, wanted.kind):
            return f"holds the {self.kind} of {wanted.name}, not the {wanted.kind}"
        if None not in (self.content, wanted.content) and self.content != wanted.content:
            return f"was made of another {wanted.name}"
        return None


def content_of(path: Path) -> str | None:
    """What tells a file from others of its name, wherever they lie: its size, and a CRC-32 of its beginning; None if it
    cannot be read."""
    try:
        if not path.is_file():  # a pipe can be read once
            return None
        with open(path, "rb") as file:
            return f"{path.stat().st_size}-{zlib.crc32(file.read(_BEGINNING)):08x}"
    except OSError:
        return None


def printable(name: str) -> str:
    """A file's name as a picture can hold it: what is no letter, or no UTF-8, is escaped."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in name)


def is_result(picture: Image.Image) -> bool:
    """Whether a picture, as it was read from a file, says that this package made it."""
    xmp = picture.info.get("xmp", b"")
    return str(picture.info.get(IDENTIFIER, "")).startswith(MARK) or (
        isinstance(xmp, bytes) and f"<dc:identifier>{MARK}".encode() in xmp
    )
