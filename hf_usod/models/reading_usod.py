"""One way in for photos: whatever holds a photo, to its 8-bit pixels, upright, as the models are to see them."""

import base64
import binascii
import io
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, PngImagePlugin
from PIL.TiffImagePlugin import TiffImageFile
from transformers.image_utils import ChannelDimension
from transformers.utils import logging

try:  # photos of phones, where the package is there
    import pillow_heif

    pillow_heif.register_heif_opener()
except ImportError:
    pillow_heif = None

_logger = logging.get_logger(__name__)

_CHANNELS = (1, 3, 4)
_DEPTHS = (8, 10, 12, 14, 16, 24, 32)  # bits that integers of a photo may fill
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
_GROUNDS = (255, 0, 128)  # gray levels that a transparent photo may be laid over
_VISIBLE = 48  # levels by which an object stands out from its ground
_PHOTOMETRIC = 262  # TIFF tag; 0: white is zero
_TELLING = (270, 271, 272, 305, 306, 315, 316, 33432)  # TIFF tags of the photo, from description to copyright
_SAMPLE_FORMAT = 339  # TIFF tag; 1 or none: unsigned
_PROFILES = {"RGB": b"RGB ", "RGBA": b"RGB ", "L": b"GRAY"}
_END_OF_JPEG = b"\xff\xd9"
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_ANIMATIONS = ("GIF", "WEBP", "PNG", "AVIF", "TIFF")  # other formats hold previews beside the photo


def lift_limits() -> None:
    """Lifts Pillow's limits, which protect servers from strangers' files: for programs that read their user's own."""
    Image.MAX_IMAGE_PIXELS = None
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 2**31 - 1


def is_local(source) -> bool:
    """Whether it is a path, not a URL and not an image."""
    return isinstance(source, Path) or (
        isinstance(source, str) and not source.startswith(("http://", "https://", "data:"))
    )


def read_photo(source, input_data_format: str | ChannelDimension | None = None) -> Image.Image:
    """A photo of any type with its own colors and transparency, in the orientation its EXIF tag asks for.

    All types of one photo give the same pixels. Integers of more than 8 bits are scaled by the fewest bits (8, 10, 12,
    14, 16, …) that hold the largest of them, floats are in [0, 1].

    Args:
        source: a path, URL, data URI, the bytes of a file, a file object, a PIL image, or an array or tensor `(H, W)`,
            `(H, W, C)` or `(C, H, W)` with 1, 3 or 4 channels.
        input_data_format: `"channels_first"` or `"channels_last"`, for arrays whose shape does not tell.

    Returns:
        A PIL image of mode RGB, or RGBA if any of it is transparent. `info["icc_profile"]` is there if it fits.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the source, if it is no image, of a kind Pillow cannot read, or cut short; for arrays of
            other shapes or values.
        TypeError: for other types.
    """
    if isinstance(source, Image.Image):
        return _to_photo(upright(source))
    if isinstance(source, (np.ndarray, torch.Tensor)):
        return _to_photo(Image.fromarray(as_hwc(to_uint8(source), input_data_format)))
    return open_image(source, lambda image: _with_exif_of(image, _to_photo(upright(image), _name(source))))


def read_image(source, input_data_format: str | ChannelDimension | None = None) -> Image.Image:
    """`read_photo` as the models see it: RGB, see `to_rgb`."""
    return to_rgb(read_photo(source, input_data_format))


def to_rgb(image: Image.Image) -> Image.Image:
    """Any upright PIL image as 8-bit RGB.

    16-bit and float images are scaled as in `read_photo`, where Pillow would clip them to white. A photo with
    transparency is laid over white, unless a tenth of what is visible would not be seen there: then over black or gray,
    whichever shows it best.
    """
    photo = _to_photo(image)
    if photo.mode == "RGB":
        return photo
    ground = Image.new("RGBA", photo.size, (_ground(photo),) * 3)
    image = Image.alpha_composite(ground, photo).convert("RGB")
    if profile := photo.info.get("icc_profile"):
        image.info["icc_profile"] = profile
    return image


def open_image(source, convert) -> Image.Image:
    """What `convert` makes of a file: a path, URL, data URI, bytes or a file object.

    Raises:
        FileNotFoundError, ValueError, TypeError: see `read_photo`.
    """
    name = _name(source)
    try:
        with _opened(source) as file:
            try:
                with Image.open(file) as image:
                    result = convert(image)
                if image.format in _ANIMATIONS:
                    _tell_of_others(file, name)
                return result
            except Image.UnidentifiedImageError as error:
                file.seek(0)
                raise _Unreadable(f"{name}: cannot be read as an image ({_kind(file.read(12))})") from error
            except TypeError as error:  # of a decoder; one of `_opened` is the caller's
                raise _Unreadable(f"{name}: cannot be read as an image ({fault(error)})") from error
            except OSError as error:
                if "truncated" not in str(error):
                    raise
                file.seek(0)
                with _ended(file.read(), error) as whole:
                    result = convert(whole)
                _logger.warning_once(f"{name}: has no end marker; its pixels are all there and were read.")
                return result
    except (TypeError, _Unreadable):
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        if isinstance(error, FileNotFoundError) and not (is_local(source) and Path(source).is_symlink()):
            raise
        raise ValueError(f"{name}: cannot be read as an image ({fault(error)})") from error


def fault(error: Exception) -> str:
    """Why an image cannot be read, in a line."""
    if isinstance(error, FileNotFoundError):
        return "it is a link to what is not there"
    if isinstance(error, MemoryError):
        return "memory does not suffice for it"
    return " ".join(str(error).split()) or type(error).__name__


class _Unreadable(ValueError):
    """A file that no reader knows."""


def _kind(head: bytes) -> str:
    """Why Pillow does not know a file that begins so."""
    if not head:
        return "it is empty"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and pillow_heif is None:
        return "it is a HEIF file; `pip install pillow-heif` makes them readable"
    return "its kind is unknown"


def _tell_of_others(file, name: str) -> None:
    with suppress(Exception):  # of what comes after the first picture, which could be read
        file.seek(0)
        with Image.open(file) as image:
            if getattr(image, "is_animated", False):
                _logger.warning_once(f"{name}: holds several pictures; the first is read.")


def _name(source) -> str:
    if isinstance(source, (str, Path)):
        text = str(source)
        return f"{text[:40]}…" if text.startswith("data:") and len(text) > 40 else text
    return str(getattr(source, "name", None) or f"The {type(source).__name__}")


@contextmanager
def _opened(source):
    if is_local(source):
        with open(source, "rb") as file:
            yield file
    elif isinstance(source, str) and source.startswith("data:"):
        yield io.BytesIO(_decode_uri(source))
    elif isinstance(source, str):
        yield io.BytesIO(_fetch(source))
    elif isinstance(source, (bytes, bytearray, memoryview)):
        yield io.BytesIO(source)
    elif hasattr(source, "read"):
        yield source if hasattr(source, "seek") else io.BytesIO(source.read())
    else:
        raise TypeError(
            f"A {type(source).__name__} is no image. Give a path, URL, data URI, bytes, file object, PIL image, array "
            "or tensor."
        )


def _decode_uri(uri: str) -> bytes:
    head, comma, data = uri.partition(",")
    if not comma:
        raise ValueError("a data URI has a comma before its data")
    if not head.endswith(";base64"):
        return unquote_to_bytes(data)
    try:
        return base64.b64decode(unquote_to_bytes(data), validate=False)
    except binascii.Error as error:
        raise ValueError(f"its base64 is damaged: {error}") from error


def _fetch(url: str) -> bytes:
    import httpx  # what transformers itself loads images with

    answer = httpx.get(url, follow_redirects=True, timeout=60)
    answer.raise_for_status()
    return answer.content


def _ended(content: bytes, error: OSError) -> Image.Image:
    """A JPEG that lacks nothing but its end marker; if more is missing, raises the error.

    Pixels that are missing would follow from what is appended instead, so that two appendices differ.
    """
    if not content.startswith(b"\xff\xd8"):
        raise error
    pictures = []
    for appendix in (b"", b"\x55" * 64, b"\xaa" * 64):
        picture = Image.open(io.BytesIO(content.rstrip(b"\xff") + appendix + _END_OF_JPEG))
        picture.load()
        pictures.append(picture)
    if any(picture.tobytes() != pictures[0].tobytes() for picture in pictures):
        raise error
    return pictures[0]


def upright(image: Image.Image) -> Image.Image:
    """An image in the orientation its EXIF tag asks for; itself, if that is as it is."""
    if isinstance(image, TiffImageFile):
        # Pillow maps an uncompressed file into memory with the size it is shown at, which scrambles turned ones
        name, image.filename = image.filename, ""
        try:
            image.load()
        finally:
            image.filename = name
    image.load()
    try:
        is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:  # damaged EXIF data raise almost anything, and ask for no orientation
        return image
    return ImageOps.exif_transpose(image) if is_turned else image


def _to_photo(image: Image.Image, name: str = "The image") -> Image.Image:
    """Any upright PIL image as RGB or, if any of it is transparent, as RGBA, with a profile that fits."""
    if 0 in image.size:
        raise ValueError(f"{name} of {image.width} x {image.height} has no pixels.")
    if image.mode == "RGB" and "transparency" not in image.info:
        photo = image
    elif image.mode == "F":
        photo = _scaled(to_uint8(np.asarray(image)), image)
    elif image.mode.startswith("I"):  # 16-bit files open as I;16 or I, depending on the format
        photo = _scaled(_to_levels(_unsigned(image), name), image)
    elif "transparency" in image.info or image.mode in _TRANSPARENT:
        photo = image.convert("RGBA")
        if photo.getchannel("A").getextrema()[0] == 255:
            photo = photo.convert("RGB")
    else:
        photo = image.convert("RGB")
    return _with_fitting_profile(photo)


def _with_exif_of(image: Image.Image, photo: Image.Image) -> Image.Image:
    """A photo with what its file tells of it, where Pillow does not have that in `info`: in TIFFs it is among the tags
    of the file, and in old PNGs a text."""
    if not photo.info.get("exif"):
        with suppress(Exception):  # damaged EXIF data raise almost anything; the photo is what counts
            told, exif = image.getexif(), Image.Exif()
            exif.update({tag: told[tag] for tag in _TELLING if tag in told})
            for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
                if ifd := {key: each for key, each in told.get_ifd(tag).items() if key != ExifTags.IFD.Interop}:
                    exif[tag] = ifd
            if exif:
                photo.info["exif"] = exif.tobytes()
    return photo


def _with_fitting_profile(photo: Image.Image) -> Image.Image:
    profile = photo.info.get("icc_profile")
    if profile and profile[16:20] != _PROFILES[photo.mode]:
        photo = photo.copy()
        del photo.info["icc_profile"]
    return photo


def _unsigned(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if values.dtype.kind == "i" and tags and tags.get(_SAMPLE_FORMAT, 1) in (1, (1,)):  # which Pillow reads as signed
        return values.view(np.uint32)
    return values


def _scaled(levels: np.ndarray, image: Image.Image) -> Image.Image:
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:
        levels = 255 - levels
    photo = Image.fromarray(levels).convert("RGB")
    photo.info.update({key: image.info[key] for key in ("dpi", "exif") if key in image.info})
    if isinstance(image.info.get("transparency"), int):
        photo.putalpha(Image.fromarray(np.where(np.asarray(image) == image.info["transparency"], 0, 255).astype("u1")))
    return photo


def _to_levels(values: np.ndarray, name: str) -> np.ndarray:
    """Integers of one channel as 8-bit, by the fewest bits that hold them; says so if the file has room for more."""
    if values.min() < 0:
        raise ValueError(f"{values.dtype} image with values {values.min()}..{values.max()}; expected none below 0")
    top = int(values.max())
    bits = next(bits for bits in _DEPTHS if top < 2**bits)
    if bits < 8 * values.dtype.itemsize and top and bits != 16:
        _logger.warning_once(f"{name}: holds numbers up to {top} and is read as a photo of {bits} bits.")
    return (values * (255 / (2**bits - 1))).round().astype(np.uint8)


def _ground(photo: Image.Image) -> int:
    """The gray level under a transparent photo (RGBA)."""
    if max(photo.size) > 512:
        photo = photo.resize([max(1, round(side * 512 / max(photo.size))) for side in photo.size], reducing_gap=2.0)
    pixels = np.asarray(photo).reshape(-1, 4)
    visible = pixels[pixels[:, 3] > 0]
    if not len(visible):
        return _GROUNDS[0]
    colors = visible[:, :3].astype(int)
    contrasts = [float(np.percentile(np.abs(colors - ground).max(axis=1), 10)) for ground in _GROUNDS]
    return _GROUNDS[0] if contrasts[0] >= _VISIBLE else _GROUNDS[int(np.argmax(contrasts))]


def as_hwc(array: np.ndarray, layout: str | ChannelDimension | None = None) -> np.ndarray:
    """`(H, W)`, `(H, W, C)` or `(C, H, W)` as `(H, W)` or, with three or four channels, `(H, W, C)`.

    Raises:
        ValueError: for another shape, or one that may be either layout without `layout`.
    """
    if array.ndim == 3:
        first, last = array.shape[0] in _CHANNELS, array.shape[-1] in _CHANNELS
        if layout is None and first and last:
            raise ValueError(
                f"An array of shape {array.shape} may have its channels first or last. Say which: "
                'input_data_format="channels_first" or "channels_last".'
            )
        if layout == ChannelDimension.FIRST or (layout is None and first):
            array = np.moveaxis(array, 0, -1)
        if array.shape[-1] == 1:
            array = array[..., 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[-1] in _CHANNELS):
        raise ValueError(f"An array of shape {array.shape} is no image: expected (H, W), (H, W, C) or (C, H, W).")
    return np.ascontiguousarray(array)


def to_numpy(array: np.ndarray | torch.Tensor) -> np.ndarray:
    """An array of NumPy, which has no bfloat16: short floats become float32."""
    if isinstance(array, torch.Tensor):
        array = array.float() if array.is_floating_point() and array.itemsize < 4 else array
        array = array.detach().cpu().numpy()
    return np.asarray(array)


def to_uint8(image: np.ndarray | torch.Tensor) -> np.ndarray:
    """Arrays as 8-bit: uint8 as is, uint16 as in `read_photo`, bool as 0/255, floats from [0, 1].

    Raises:
        ValueError: for other integers outside 0..255, floats outside [0, 1], and arrays without pixels.
    """
    image = to_numpy(image)
    if not image.size:
        raise ValueError(f"An array of shape {image.shape} has no pixels.")
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.bool_:
        return image.astype(np.uint8) * np.uint8(255)
    if image.dtype.kind == "u" and image.dtype.itemsize == 2:  # of either byte order
        return _to_levels(image, "The array")
    if np.issubdtype(image.dtype, np.integer):
        if image.min() < 0 or image.max() > 255:
            raise ValueError(
                f"{image.dtype} image with values {image.min()}..{image.max()}; expected 0..255. Levels of up to 16 "
                "bits are passed as uint16."
            )
        return image.astype(np.uint8)
    low, high = float(image.min()), float(image.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(
            f"{image.dtype} image with values {low:.4g}..{high:.4g}; float images are in [0, 1]. "
            "Divide by 255, or pass 8-bit images."
        )
    return (image.astype(np.float32).clip(0, 1) * 255).round().astype(np.uint8)
