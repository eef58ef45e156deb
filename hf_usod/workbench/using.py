"""The last step: what was chosen is compared, tried, downloaded and published."""

import os
import tempfile
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..adapting.candidates import DEFAULT
from ..constants import DEFAULT_MODEL
from ..errors import PublishError
from ..files import write_aside
from ..inference.rendering import Rendering, overlay
from ..loading import load_pipeline
from ..models.image_processing_usod import read_image
from ..models.reading_usod import read_photo
from .session import Session

_SIDE = 1200  # pixels of pictures on screen


def comparison(session: Session, id: str, name: str) -> tuple[Image.Image, Image.Image] | None:
    """A held-out image with what the default model and what a candidate finds in it, in color."""
    files = [session.map_file(candidate, id) for candidate in (DEFAULT, name)]
    if id not in session.held_out or not all(file.exists() for file in files):
        return None
    image = read_image(session.held_out[id])
    image.thumbnail((_SIDE, _SIDE))
    first, second = (_tinted(image, file) for file in files)
    return first, second


def _tinted(image: Image.Image, map_file: Path) -> Image.Image:
    with Image.open(map_file) as opened:
        return overlay(image, opened.convert("L").resize(image.size, Image.Resampling.BILINEAR))


def compared(session: Session, name: str) -> list[str]:
    """The ids of the held-out images, those first on which a candidate and the default model differ most."""

    def small(candidate: str, id: str) -> np.ndarray:
        with Image.open(session.map_file(candidate, id)) as picture:
            return np.asarray(picture.convert("L").resize((32, 32), Image.Resampling.BOX), np.float32)

    made = [id for id in session.held_out if all(session.map_file(c, id).exists() for c in (DEFAULT, name))]
    return sorted(made, key=lambda id: (-float(np.abs(small(name, id) - small(DEFAULT, id)).mean()), id))


@lru_cache(maxsize=2)
def _detector(adapter: str | None, _changed: int) -> Callable[..., Any]:
    return load_pipeline(DEFAULT_MODEL, adapter)


def cut_out(session: Session | None, photo: str) -> tuple[Image.Image, Image.Image]:
    """A photo, and the objects in it by what was chosen: RGBA.

    Raises:
        UsodError, ValueError, OSError: if the photo cannot be read or the adapter not be loaded.
    """
    adapter = session.adapter(session.chosen) if session else None
    changed = Path(adapter, "adapter_model.safetensors").stat().st_mtime_ns if adapter else 0
    image = read_photo(photo)
    found = _detector(adapter, changed)(image, outputs=["predicted_saliency"])["predicted_saliency"]
    rendering = Rendering(("cutout",))
    return image, rendering.picture("cutout", image, rendering.refined(image, found))


def pack(session: Session, folder: Path) -> Path | None:
    """The adapter as a ZIP in a folder; None if the default model is kept."""
    source = session.root / "adapter"
    if not source.is_dir():
        return None
    name = f"{session.images.name}-adapter"
    file = folder / f"{name}.zip"

    def write(aside: Path) -> None:
        with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(source.rglob("*")):
                if path.is_file():
                    archive.write(path, f"{name}/{path.relative_to(source).as_posix()}")

    write_aside(file, write)
    return file


def publish_adapter(session: Session, repo: str, base: str, private: bool) -> str:
    """Publishes the adapter as `hf-usod publish adapter` does; what came of it, in a line.

    Raises:
        UsodError, ModuleNotFoundError: with what to do about it.
    """
    from ..hub import build_adapter, publish
    from ..hub.upload import check_repo_id

    if not (session.root / "adapter").is_dir():
        raise PublishError("There is no adapter to publish: the default model is kept.")
    check_repo_id(repo)
    with tempfile.TemporaryDirectory(prefix="hf-usod-publish-") as parent:
        folder = Path(parent) / "repository"
        build_adapter(session.root / "adapter", folder, repo, base or None)
        message = f"Publish adapter {os.path.basename(repo)} with hf_usod"
        url = publish(folder, repo, "model", message=message, private=private)
    return f"Published: {url}" if url else f"{repo} is up to date; nothing was sent."
