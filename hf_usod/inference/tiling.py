"""Windows over a photo, and one map blended of theirs.

Along each side windows begin at even distances, and their weights are a raised cosine, divided by the sum of all there:
blended maps that agree give just themselves, without a seam, and the map that grows is all that is held.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

OVERLAP = 0.25  # of a window with the next, at least
_LEAST = 1e-3  # the weight of a window's border, beside 1 in its middle


@dataclass(frozen=True)
class Window:
    """A part of a photo, in pixels: from `top` and `left` up to, and without, `bottom` and `right`."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """As Pillow has it: left, top, right, bottom."""
        return self.left, self.top, self.right, self.bottom

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """Its part of a map `(H, W)`, a view of it."""
        return values[self.top : self.bottom, self.left : self.right]


def starts(length: int, side: int, overlap: float = OVERLAP) -> list[int]:
    """Where windows of `side` begin along a length of pixels: evenly from 0 to the last that fits, each sharing at
    least `overlap` (in [0, 1)) with the next; one alone, if the length is no more than a window's."""
    if length <= side:
        return [0]
    count = math.ceil((length - side) / max(1, math.floor(side * (1 - overlap)))) + 1
    return [round(place * (length - side) / (count - 1)) for place in range(count)]


def shares(length: int, side: int, overlap: float = OVERLAP) -> list[torch.Tensor]:
    """What each window's pixels count along a length, `(min(side, length),)` each: positive, in sum 1 everywhere."""
    side = min(side, length)
    rise = torch.sin(math.pi * (torch.arange(side, dtype=torch.float64) + 0.5) / side).square() + _LEAST
    places, total = starts(length, side, overlap), torch.zeros(length, dtype=torch.float64)
    for place in places:
        total[place : place + side] += rise
    return [(rise / total[place : place + side]).float() for place in places]


def layout(height: int, width: int, side: int, overlap: float = OVERLAP) -> Iterator[Window]:
    """The square windows of `side` pixels, row by row; along a side of the photo that is shorter, theirs is that."""
    for top in starts(height, side, overlap):
        for left in starts(width, side, overlap):
            yield Window(top, left, top + min(side, height), left + min(side, width))


class Blend:
    """Adds to a map `(height, width)`, in place, that which is blended of the maps of windows (see `layout`).

    Beside it, no more is held than what `add` is given.

    Args:
        total: what is added to.
        side: of the windows, in pixels.
        overlap: of neighbors, as a share of a window.
    """

    def __init__(self, total: torch.Tensor, side: int, overlap: float = OVERLAP):
        height, width = total.shape
        self.total, self.windows = total, list(layout(height, width, side, overlap))
        self._rows, self._columns = (
            dict(zip(starts(length, side, overlap), shares(length, side, overlap), strict=True))
            for length in (height, width)
        )

    def add(self, window: Window, values: torch.Tensor) -> None:
        """Adds the map of one of the windows, of its size; each is to be added once."""
        weights = self._rows[window.top][:, None] * self._columns[window.left]
        window.of(self.total).addcmul_(values, weights)
