"""What a folder of images is, looked at before anything is trained on it: which can be used, and are they enough."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from ..data import Sample, evenly_spread
from ..errors import RunError, counted
from ..models.image_processing_usod import read_aux, read_image

LEAST_HELD_OUT = 5  # images, on which candidates are compared
FEWEST_LABELS = 10  # that an adapter is trained on
FEWEST = LEAST_HELD_OUT + FEWEST_LABELS  # images: below it nothing is trained
FEW = 50  # images: below it an adapter learns their accidents
MOST = 400  # images that are looked at and trained on; more cost time alone
LARGE = 1600  # pixels: of larger images, at 320 pixels, small objects are lost
_THUMBNAIL = 32
_GRAY = 8  # levels by which channels of a gray image differ at most
_SAME = 0.1  # by how much thumbnails of one picture differ at most, relative to what they vary by
_ROWS = 500  # of a table of distances that are made at a time
_FLAT = 2.0  # levels of deviation below which nothing is seen in a picture


class Look(NamedTuple):
    """One image, at a glance."""

    size: tuple[int, int]  # (width, height)
    thumbnail: np.ndarray  # (32, 32, 3) uint8


@dataclass(frozen=True)
class Inspection:
    """What a folder of images is.

    Args:
        samples: what can be used: readable, of copies the first, at most `MOST`, evenly spread.
        readable: all images that can be read.
        found: images in the folder.
        unreadable: what is wrong with those that cannot be read.
        copies: pairs of ids, of which the second shows the same picture as the first.
        gray, flat: usable images without color, or with nothing in them.
        sides: the least, median and largest of the usable images' longer sides, in pixels.
    """

    samples: tuple[Sample, ...]
    readable: frozenset[Path]
    found: int
    unreadable: tuple[str, ...]
    copies: tuple[tuple[str, str], ...]
    gray: int
    flat: int
    sides: tuple[int, int, int]

    def lines(self) -> list[str]:
        """What there is to say of them, a line each."""
        number = len(self.samples)
        least, median, largest = self.sides
        lines = [f"{self.found} images, {number} used; longer sides {least} to {largest} pixels, median {median}."]
        if self.unreadable:
            lines.append(f"{len(self.unreadable)} cannot be read and are left out: {self.unreadable[0]}")
        if self.copies:
            (first, second), *_ = self.copies
            lines.append(
                f"{counted(len(self.copies), 'copy', 'copies')} left out, such as {second}, the same as {first}."
            )
        if self.gray:
            lines.append(f"{self.gray} are gray.")
        if self.flat:
            lines.append(f"{self.flat} show nothing but one color.")
        if number < FEW:
            lines.append(f"Fewer than {FEW} images: an adapter is likely to learn their accidents.")
        if median > LARGE:
            lines.append("The images are large: objects of less than a fortieth of a side are lost without --tiles.")
        return lines

    def check(self) -> None:
        """Raises a `RunError` if there is no use in training on them."""
        number = len(self.samples)
        if number < FEWEST:
            raise RunError(
                f"{counted(number, 'image')} can be used; at least {FEWEST} are needed, better {FEW}. Use the default "
                "model, or add images."
            )
        if self.flat > number / 2:
            raise RunError(
                f"{self.flat} of {number} images show nothing but one color: nothing stands out in them. Is this the "
                "right folder?"
            )


def _look(sample: Sample) -> Look | str:
    try:
        image = read_image(sample.image)
        if sample.aux is not None:
            read_aux(sample.aux)
    except (ValueError, OSError) as error:
        return str(error)
    thumbnail = image.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX, reducing_gap=2.0)
    return Look(image.size, np.asarray(thumbnail))


def find_copies(looks: Sequence[Look]) -> dict[int, int]:
    """Places of pictures that show what an earlier one shows, in whatever encoding, with that one's place."""
    pictures = np.stack([look.thumbnail.astype(np.float32).ravel() for look in looks])
    squares = (pictures**2).mean(axis=1)
    deviations = pictures.std(axis=1)
    copies: dict[int, int] = {}
    for start in range(0, len(pictures), _ROWS):
        rows = pictures[start : start + _ROWS]
        shared = rows @ pictures.T / pictures.shape[1]
        distances = np.sqrt(np.maximum(0, squares[start : start + _ROWS, None] + squares - 2 * shared))
        for place, other in zip(*np.nonzero(distances < _SAME * deviations), strict=True):
            if other < start + place and int(other) not in copies:
                copies.setdefault(int(start + place), int(other))
    return copies


def inspect(samples: Sequence[Sample], frames: bool = False, progress: bool = True) -> Inspection:
    """Reads every image once.

    Args:
        frames: of videos, which may be alike.

    Raises:
        RunError: if none can be read.
    """
    with ThreadPoolExecutor() as pool:
        looked = list(tqdm(pool.map(_look, samples), "looking", len(samples), unit="image", disable=not progress))
    problems = tuple(look for look in looked if isinstance(look, str))
    seen = [(sample, look) for sample, look in zip(samples, looked, strict=True) if isinstance(look, Look)]
    if not seen:
        raise RunError(f"None of {counted(len(samples), 'image')} can be read: {problems[0]}")
    copies = {} if frames else find_copies([look for _, look in seen])
    usable = evenly_spread([pair for place, pair in enumerate(seen) if place not in copies], MOST)
    sides = sorted(max(look.size) for _, look in usable)
    thumbnails = [look.thumbnail.astype(np.int16) for _, look in usable]
    return Inspection(
        samples=tuple(sample for sample, _ in usable),
        readable=frozenset(sample.image for sample, _ in seen),
        found=len(samples),
        unreadable=problems,
        copies=tuple((seen[first][0].id, seen[second][0].id) for second, first in copies.items()),
        gray=sum(int(np.ptp(picture, axis=-1).max()) < _GRAY for picture in thumbnails),
        flat=sum(float(picture.std(axis=(0, 1)).max()) < _FLAT for picture in thumbnails),
        sides=(sides[0], sides[len(sides) // 2], sides[-1]),
    )
