"""The pictures of a prediction, made of a photo and its saliency map."""

import os
from dataclasses import dataclass
from functools import lru_cache

import torch
from PIL import Image, ImageColor, ImageOps

from ..constants import ALPHAS, EDGES, OUTPUT_KINDS
from ..errors import DataError
from ..files import file_state
from ..models.edge_refiner import foreground_colors, refine_edges
from ..models.image_processing_usod import read_image, to_rgb
from ..models.pipeline_usod import levels, render_outputs

GREEN = "#00ff00"
TRANSPARENT = "transparent"
OVERLAY_COLOR = (255, 40, 90)
OVERLAY_OPACITY = 0.6
SMALL = 400  # pixels of a photo's longer side, a quarter more than a model sees


def overlay(image: Image.Image, saliency: Image.Image) -> Image.Image:
    """The photo (RGB) with its salient objects tinted by their saliency (mode L)."""
    tint = Image.new("RGB", image.size, OVERLAY_COLOR)
    return Image.composite(tint, image, saliency.point(lambda level: round(level * OVERLAY_OPACITY)))


def side_by_side(image: Image.Image, saliency: Image.Image) -> Image.Image:
    """The photo (RGB), and its saliency map (mode L) to the right of it."""
    picture = Image.new("RGB", (2 * image.width, image.height))
    picture.paste(image, (0, 0))
    picture.paste(saliency.convert("RGB"), (image.width, 0))
    return _with_profile_of(image, picture)


def on_background(cutout: Image.Image, background: str) -> Image.Image:
    """A cutout (RGBA) over a color, by CSS name or `#rrggbb`, or over a picture by its path, cropped to fit: RGB.

    Raises:
        DataError: for what is neither.
    """
    backdrop = _backdrop(background, file_state(background))
    if isinstance(backdrop, tuple):
        ground = Image.new("RGB", cutout.size, backdrop)
    else:
        ground = ImageOps.fit(backdrop, cutout.size)
    ground.paste(cutout, mask=cutout)
    return _with_profile_of(cutout, ground)


@lru_cache(maxsize=2)
def _backdrop(background: str, _state: tuple[int, int] | None) -> tuple[int, ...] | Image.Image:
    if os.path.isfile(background):
        try:
            return read_image(background)
        except ValueError as error:
            raise DataError(f"{error}. Give a color or a picture's file as the background.") from error
    try:
        red, green, blue, *alpha = ImageColor.getrgb(background)
    except ValueError:
        alpha = None
    if alpha in ([], [255]):
        return red, green, blue
    if alpha:
        raise DataError(f'{background}: is partly transparent. Give an opaque color, or "{TRANSPARENT}".')
    raise DataError(
        f"{background}: is neither a color, by name or as #rrggbb, nor a picture's file. Give one of them as the "
        "background."
    )


def _with_profile_of(photo: Image.Image, picture: Image.Image) -> Image.Image:
    picture.info.pop("icc_profile", None)
    if profile := photo.info.get("icc_profile"):
        picture.info["icc_profile"] = profile
    return picture


@dataclass(frozen=True)
class Rendering:
    """What is to be made of photos and clips.

    Args:
        kinds: of `OUTPUT_KINDS`.
        threshold: saliency above it is object in the mask.
        background: what is behind cutouts, a color or a picture's path; `TRANSPARENT` for nothing; None for nothing,
            and for `GREEN` in clips, which only WebM can show transparent.
        temporal: whether the maps of a clip's frames, and of the photos of each folder, are to agree along the optical
            flow; see `agree`.
        alpha: the opacity of cutouts: `"soft"`, the saliency, or `"hard"`, the mask.
        crop: pictures of photos show no more than the object and this much around it, as a share of its longer side in
            [0, 1], where `--crop` has percent; None for all of the photo.
        edges: fine ones are the photo's own (see `refine_edges`), and cutouts lose the background's colors there (see
            `foreground_colors`); none of it otherwise.

    Raises:
        DataError: if `background` is neither, or for another value that there is not.
    """

    kinds: tuple[str, ...] = ("saliency",)
    threshold: float = 0.5
    background: str | None = None
    temporal: bool = False
    alpha: str = "soft"
    crop: float | None = None
    edges: str = "fine"

    def __post_init__(self) -> None:
        for name, value, choices in [
            *(("kinds", kind, OUTPUT_KINDS) for kind in self.kinds),
            ("alpha", self.alpha, ALPHAS),
            ("edges", self.edges, EDGES),
        ]:
            if value not in choices:
                raise DataError(f"{name} {value!r}: choose from {', '.join(choices)}.")
        if isinstance(self.threshold, bool) or not 0 <= self.threshold <= 1:
            raise DataError(f"threshold {self.threshold}: must be in [0, 1].")
        if self.crop is not None and (isinstance(self.crop, bool) or not 0 <= self.crop <= 1):
            raise DataError(f"crop {self.crop}: must be a share of the object's longer side, in [0, 1]; 5% are 0.05.")
        if self.background not in (None, TRANSPARENT):
            _backdrop(self.background, file_state(self.background))

    @property
    def has_background(self) -> bool:
        """Whether there is something behind cutouts of photos."""
        return self.background not in (None, TRANSPARENT)

    @property
    def transparent(self) -> tuple[str, ...]:
        """The kinds of pictures that have transparency in clips as well."""
        return ("cutout",) if self.background == TRANSPARENT else ()

    def least_size(self, kind: str, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) that a picture of a photo of `size` has at least: a crop is not known before the map."""
        width, height = size if self.crop is None else (1, 1)
        return (2 * width if kind == "side_by_side" else width), height

    def refined(self, photo: Image.Image, saliency: torch.Tensor) -> torch.Tensor:
        """A map `(H, W)` with the `edges` that pictures show; of small photos it has them already."""
        return refine_edges(photo, saliency) if self.edges == "fine" and max(photo.size) > SMALL else saliency

    def shown(self, photo: Image.Image, saliency: torch.Tensor) -> tuple[Image.Image, torch.Tensor]:
        """The part of a photo and its map `(H, W)` that pictures show, refined: all of it where nothing is above
        the threshold."""
        saliency = self.refined(photo, saliency)
        if self.crop is None:
            return photo, saliency
        rows, columns = ((saliency > self.threshold).any(dim=dim).nonzero() for dim in (1, 0))
        if not len(rows):
            return photo, saliency
        (top, bottom), (left, right) = ((int(place[0]), int(place[-1]) + 1) for place in (rows, columns))
        margin = round(self.crop * max(bottom - top, right - left))
        left, top = max(0, left - margin), max(0, top - margin)
        right, bottom = min(photo.width, right + margin), min(photo.height, bottom + margin)
        return photo.crop((left, top, right, bottom)), saliency[top:bottom, left:right]

    def picture(self, kind: str, photo: Image.Image, saliency: torch.Tensor, opaque: bool = False) -> Image.Image:
        """One of `OUTPUT_KINDS`.

        Args:
            photo: RGB or RGBA.
            saliency: `(H, W)` in [0, 1], refined.
            opaque: whether there must be something behind a cutout, unless `background` is `TRANSPARENT`.
        """
        if kind == "overlay":
            return overlay(to_rgb(photo), levels(saliency))
        if kind == "side_by_side":
            return side_by_side(to_rgb(photo), levels(saliency))
        if kind == "cutout" and self.edges == "fine":
            photo = foreground_colors(photo, saliency)
        if kind == "cutout" and self.alpha == "hard":
            saliency = (saliency > self.threshold).float()
        picture = render_outputs(photo, saliency, self.threshold, [kind])[kind]
        background = self.background or (GREEN if opaque else None)
        if kind != "cutout" or background in (None, TRANSPARENT):
            return picture
        return on_background(picture, background)
