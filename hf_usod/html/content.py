"""What a page holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .charts import Chart


@dataclass(frozen=True)
class Table:
    """Rows of cells; those of `marked` rows are set off."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    marked: Sequence[int] = ()


@dataclass(frozen=True)
class Comparison:
    """Two maps of one photo, `(H, W)` uint8 of any size; `figures` are written below, the first is sorted by."""

    name: str
    left: np.ndarray
    right: np.ndarray
    photo: Path | None = None  # without one the maps alone are shown
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparisons:
    """A wall of comparisons, with what stands on either side of their sliders."""

    title: str
    left: str
    right: str
    items: Sequence[Comparison]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture of its own file, by its path from the page's folder."""

    title: str
    path: str


@dataclass(frozen=True)
class Page:
    """A whole page, from top to bottom."""

    title: str
    summary: Sequence[str] = ()  # paragraphs; the first is what a hurried reader takes away
    commands: Sequence[str] = ()  # lines to copy
    tables: Sequence[Table] = ()
    walls: Sequence[Comparisons] = ()
    charts: Sequence[Chart] = ()
    pictures: Sequence[Picture] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    reload: int | None = None  # seconds after which it reloads itself
