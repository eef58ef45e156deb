"""What comes in, checked before it costs anything, and where results go until they are removed."""

import tempfile
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image

from hf_usod.inference.clip_files import ClipError, ClipReader
from hf_usod.models.image_processing_usod import check_aux, read_aux
from hf_usod.models.reading_usod import read_photo as open_photo

MAX_FILE_MB = 100  # of any upload: the server stops reading there
MAX_PHOTO_MB = 25
MAX_MEGAPIXELS = 24
MAX_BATCH = 50
MAX_CLIP_SECONDS = 30
MAX_CLIP_FRAMES = 900
MAX_CLIP_MEGAPIXELS = 9
_MEGA = 10**6


def explained(component: gr.components.Component) -> None:
    """Has a component say what it was given when that is of a wrong type, as programs may send it."""
    usual = component.preprocess

    def preprocess(payload):
        try:
            return usual(payload)
        except gr.Error:
            raise
        except Exception as error:  # of whatever kind the component's own code raises
            name = getattr(component, "label", None) or type(component).__name__
            raise gr.Error(f"{name}: {str(payload)[:100]!r} is not what is expected here.") from error

    vars(component)["preprocess"] = preprocess


def by_path(component: gr.Image | gr.File):
    """Makes a component hand over the paths of what was uploaded, whatever it is, so that the app opens it itself and
    can say what is wrong with it. (A subclass would make gradio write a .pyi file beside this one.)"""
    usual = component.preprocess

    def preprocess(payload):
        if payload is None or (getattr(payload, "url", None) or "").startswith("data:"):
            return usual(payload)
        return [file.path for file in payload.root] if hasattr(payload, "root") else payload.path

    vars(component)["preprocess"] = preprocess
    return component


def result_folder() -> Path:
    """A new folder for results. Its files are removed with gradio's own (`delete_cache`), once they are returned."""
    root = Path(get_upload_folder())
    root.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=root))


def _check_size(path: Path, what: str) -> None:
    if (size := path.stat().st_size) > MAX_PHOTO_MB * _MEGA:
        raise gr.Error(f"{path.name}: {what} may have up to {MAX_PHOTO_MB} MB; this one has {size / _MEGA:.0f}.")
    try:
        with Image.open(path) as image:  # reads the header only
            megapixels = image.width * image.height / _MEGA
    except (Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        if isinstance(error, Image.DecompressionBombError):
            raise gr.Error(f"{path.name}: {what} may have up to {MAX_MEGAPIXELS} megapixels.") from error
        raise gr.Error(f"{path.name} cannot be read as an image. JPEG, PNG, WebP and TIFF work.") from error
    if megapixels > MAX_MEGAPIXELS:
        raise gr.Error(
            f"{path.name}: {what} may have up to {MAX_MEGAPIXELS} megapixels; this one has {megapixels:.0f}."
        )


def _read(path: str, what: str, read) -> Image.Image:
    _check_size(Path(path), what)
    try:
        return read(path)
    except ValueError as error:
        raise gr.Error(f"{Path(path).name} is damaged or of an unusual kind and cannot be read.") from error


def read_photo(path: str) -> Image.Image:
    """RGB or, if it is transparent itself, RGBA; upright.

    Raises:
        gr.Error: saying what is wrong with the file.
    """
    return _read(path, "a photo", open_photo)


def read_map(path: str, photo: Image.Image) -> Image.Image:
    """The depth or thermal map of a photo.

    Raises:
        gr.Error: as `read_photo`, and if it cannot belong to the photo.
    """
    aux = _read(path, "a map", read_aux)
    try:
        check_aux(photo.size, aux.size)
    except ValueError as error:
        raise gr.Error(str(error)) from error
    return aux


def check_clip(path: str) -> int | None:
    """Checks a clip's header; the number of frames, if it says.

    Raises:
        gr.Error: if it is no clip, too long or too large.
    """
    name = Path(path).name
    try:
        reader = ClipReader(Path(path))
    except ClipError as error:
        raise gr.Error(f"{name} cannot be read as a clip. MP4, MOV, MKV, WebM and AVI work.") from error
    try:
        megapixels = reader.stream.width * reader.stream.height / _MEGA
        if reader.seconds and reader.seconds > MAX_CLIP_SECONDS + 0.5:
            raise gr.Error(f"{name}: a clip may last {MAX_CLIP_SECONDS} seconds; this one lasts {reader.seconds:.0f}.")
        if megapixels > MAX_CLIP_MEGAPIXELS:
            raise gr.Error(f"{name}: frames may have up to {MAX_CLIP_MEGAPIXELS} megapixels.")
        return reader.num_frames
    finally:
        reader.close()
