"""Damaged files: small whole ones, and what bit flips, cuts and edits of their headers make of them."""

import io

import numpy as np
from PIL import Image, TiffImagePlugin

SIZE = (24, 20)  # width, height


def _picture(mode: str) -> Image.Image:
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    gray = ((x - 12) ** 2 + (y - 10) ** 2 < 40) * 180 + x
    if mode == "I;16":
        return Image.fromarray((gray * 257).astype(np.uint16))
    if mode == "F":
        return Image.fromarray((gray / 255).astype(np.float32))
    image = Image.fromarray(gray.astype(np.uint8)).convert("RGB").convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(gray.astype(np.uint8)))
    return image


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def seeds() -> dict[str, bytes]:
    """Whole picture files, by name: every kind that people have, with EXIF, profiles and frames."""
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb = _picture("RGB")
    files = {
        "rgb.jpg": _encoded(rgb, "JPEG", exif=exif),
        "progressive.jpg": _encoded(rgb, "JPEG", progressive=True),
        "cmyk.jpg": _encoded(rgb.convert("CMYK"), "JPEG"),
        "rgb.png": _encoded(rgb, "PNG", exif=exif),
        "rgba.png": _encoded(_picture("RGBA"), "PNG"),
        "palette.png": _encoded(_picture("P"), "PNG", transparency=3),
        "deep.png": _encoded(_picture("I;16"), "PNG"),
        "bilevel.png": _encoded(_picture("1"), "PNG"),
        "rgb.tif": _encoded(rgb, "TIFF"),
        "lzw.tif": _encoded(rgb, "TIFF", compression="tiff_lzw"),
        "turned.tif": _encoded(_picture("L"), "TIFF", tiffinfo=_turned()),
        "deep.tif": _encoded(_picture("I;16"), "TIFF"),
        "float.tif": _encoded(_picture("F"), "TIFF"),
        "rgb.webp": _encoded(rgb, "WEBP", exif=exif),
        "rgba.webp": _encoded(_picture("RGBA"), "WEBP", lossless=True),
        "rgb.bmp": _encoded(rgb, "BMP"),
        "two.gif": _encoded(_picture("P"), "GIF", save_all=True, append_images=[_picture("P").rotate(90)]),
        "rgb.ppm": _encoded(rgb, "PPM"),
        "rgba.tga": _encoded(_picture("RGBA"), "TGA"),
        "icon.ico": _encoded(_picture("RGBA"), "ICO", sizes=[(16, 16)]),
    }
    return files


def _turned() -> TiffImagePlugin.ImageFileDirectory_v2:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x0112] = 6
    return tags


def mutate(content: bytes, random: np.random.Generator) -> bytes:
    """One to four bit flips, cuts, insertions, repetitions, zeroed stretches or header bytes of extreme values."""
    data = bytearray(content)
    for _ in range(int(random.integers(1, 5))):
        if not data:
            break
        place = int(random.integers(len(data)))
        header = int(random.integers(min(len(data), 64)))
        length = int(random.integers(1, 17))
        kind = int(random.integers(7))
        if kind == 0:
            data[place] ^= 1 << int(random.integers(8))
        elif kind == 1:
            data[header] = int(random.choice([0, 1, 0x7F, 0x80, 0xFF]))
        elif kind == 2:
            del data[place:]
        elif kind == 3:
            data[place:place] = random.bytes(length)
        elif kind == 4:
            data[place:place] = data[place : place + length]
        elif kind == 5:
            data[place : place + length] = bytes(len(data[place : place + length]))
        else:
            data[header : header + 4] = random.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0"])
    return bytes(data)
