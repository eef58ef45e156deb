"""What was found out about maps without masks, as a table and as files."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import write_json, write_text
from ..inference.tiled import Tiles, model_label
from ..text_tables import markdown_table
from .measure import FolderQuality

LEGEND = (
    "quality: how well outlines follow the images' edges (alignment: 0 by chance, 1 along the strongest), less the "
    "share of the frame that is object (border) and of the image that is undecided; higher is better, between models "
    "on the same images. object, undecided: shares of an image. empty: share of images whose map is empty or full. "
    "alike: how much each map is like the mean of the others. Whether what was found is the thing you mean, no number "
    "without masks says."
)


@dataclass(frozen=True)
class Judged:
    """What can be said of a model, perhaps with an adapter, on a folder of images."""

    model: str
    adapter: str | None
    images: Path
    quality: FolderQuality
    tiles: Tiles = None  # what windows it looked at too, see `Tiled`

    @property
    def label(self) -> str:
        return model_label(self.model, self.adapter, self.tiles)

    def entry(self) -> dict[str, Any]:
        """As in quality.json."""
        adapter = {"adapter": self.adapter} if self.adapter else {}
        tiles = {"tiles": self.tiles} if self.tiles else {}
        images = {"images": self.images.name, "num_images": len(self.quality.images)}
        return {"model": self.model, **adapter, **tiles, **images, **self.quality.figures()}


def quality_table(judged: Sequence[Judged]) -> str:
    """A Markdown table, a line a model."""
    rows = []
    for one in judged:
        figures = (f"{value:.3f}" for value in one.quality.figures().values())
        rows.append([one.label, str(len(one.quality.images)), *figures])
    return markdown_table(["model", "images", *judged[0].quality.figures()], rows, 1)


def quality_csv(judged: Sequence[Judged]) -> str:
    """A line an image and model."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "id", *judged[0].quality.images[0].figures()])
    for one in judged:
        for image in one.quality.images:
            writer.writerow([one.label, image.id, *(f"{value:.4f}" for value in image.figures().values())])
    return text.getvalue()


def write_quality(judged: Sequence[Judged], output: Path, as_folder: bool) -> None:
    """Writes quality.json and quality.csv to a folder, or the former alone to a file."""
    entries = [one.entry() for one in judged]
    if not as_folder:
        write_json(output, entries)
        return
    write_json(output / "quality.json", entries)
    write_text(output / "quality.csv", quality_csv(judged))
