"""From what a page holds to the file."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from ..files import write_text
from .charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from .content import Comparison, Comparisons, Page
from .pictures import QUALITIES, Quality, map_uri, photo_uri

LARGEST = 10_000_000  # bytes of a page

_FRAME = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "top": TOP, "right": WIDTH - RIGHT, "bottom": HEIGHT - BOTTOM}


@dataclass(frozen=True)
class _Card:
    comparison: Comparison
    photo: str | None  # data URIs
    left: str
    right: str

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.comparison.right.shape
        return width, height

    @property
    def key(self) -> float:
        return next(iter(self.comparison.figures.values()), 0.0)


def _card(item: Comparison, kept: Quality) -> _Card:
    photo = photo_uri(item.photo, kept) if item.photo else None
    return _Card(item, photo, map_uri(item.left, kept), map_uri(item.right, kept))


def _cards(walls: "tuple[Comparisons, ...]", kept: Quality) -> list[list[_Card]]:
    return [[_card(item, kept) for item in wall.items] for wall in walls]


@cache
def _template() -> Template:
    """Made once: a training writes its page again and again."""
    environment = Environment(
        loader=PackageLoader("hf_usod.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")


def render(page: Page, kept: Quality) -> str:
    """The page as HTML, with pictures of that quality."""
    walls = list(zip(page.walls, _cards(tuple(page.walls), kept), strict=True))
    return _template().render(page=page, walls=walls, frame=_FRAME)


def write_page(page: Page, path: Path, largest: int = LARGEST) -> Path:
    """Writes a page of at most `largest` bytes, with pictures as sharp as that allows; returns the path.

    Raises:
        ValueError: if the smallest pictures are too many for it.
    """
    for kept in QUALITIES:
        html = render(page, kept)
        if len(html.encode()) <= largest:
            write_text(path, html)
            return path
    raise ValueError(f"{path}: {len(html) / 1e6:.1f} MB, more than {largest / 1e6:.1f}; show fewer pictures.")
