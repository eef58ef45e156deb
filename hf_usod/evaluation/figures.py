"""Pictures to look at: comparison grids, labels and hard samples over the epochs, best and worst cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data import by_stem
from ..labels import LabelStore
from ..models.image_processing_usod import read_image
from ..objectives.distilling import hard_sample_margin
from .curves import pyplot, save_figure
from .samples import read_map, read_mask
from .usod_saliency.saliency_metrics import as_mask

CELL = 1.25  # inches, the width of a picture in a grid
HARD_COLOUR = np.array([255, 176, 0], np.float64)


@dataclass(frozen=True)
class Column:
    """A column of a grid: its heading and a picture a row, `(H, W)` or `(H, W, 3)`, 8-bit; None leaves a gap."""

    heading: str
    pictures: Sequence[np.ndarray | None]


def grid(columns: Sequence[Column], row_labels: Sequence[str] = ()) -> Any:
    """A matplotlib figure of pictures in rows and columns, each row as high as its first picture wants."""
    plt = pyplot()
    first = [picture for picture in columns[0].pictures if picture is not None]
    heights = [picture.shape[0] / picture.shape[1] for picture in first]
    figure, axes = plt.subplots(
        len(heights),
        len(columns),
        figsize=(CELL * len(columns), CELL * sum(heights) + 0.25),
        gridspec_kw={"height_ratios": heights, "wspace": 0.03, "hspace": 0.03},
        squeeze=False,
    )
    for place, column in enumerate(columns):
        axes[0, place].set_title(column.heading, fontsize=8, pad=3)
        for row, picture in enumerate(column.pictures):
            cell = axes[row, place]
            cell.set(xticks=[], yticks=[])
            cell.spines[:].set_visible(False)
            if picture is not None:
                grey = {"cmap": "gray", "vmin": 0, "vmax": 255} if picture.ndim == 2 else {}
                cell.imshow(picture, aspect="auto", interpolation="lanczos", **grey)
    for row, label in enumerate(row_labels):
        axes[row, 0].set_ylabel(label, fontsize=7, rotation=0, ha="right", va="center", labelpad=4)
    return figure


def _photo(path: Path) -> np.ndarray:
    return np.asarray(read_image(path))


def compare(images: Path, maps: dict[str, Path], names: Sequence[str] | None = None, most: int = 6) -> Any:
    """A grid of photos and, beside each, its map in every folder of `maps` (ground truth, variants, other methods).

    Args:
        maps: folders by heading; files are found by the photos' paths without suffix.
        names: of the photos; by default `most` of those that all folders have, evenly spread.

    Raises:
        FileNotFoundError: if no photo has a map in every folder, or a named one is not there.
    """
    photos = by_stem(images)
    found = {heading: by_stem(folder) for heading, folder in maps.items()}
    if names is None:
        shared = sorted(set(photos).intersection(*found.values())) if found else sorted(photos)
        names = shared[:: max(1, len(shared) // most)][:most]
    if not names:
        raise FileNotFoundError(f"{images}: no photo has a map in each of {', '.join(map(str, maps.values()))}.")
    if missing := [name for name in names if name not in photos]:
        raise FileNotFoundError(f"{images}: there is no {missing[0]}.")
    columns = [Column("photo", [_photo(photos[name]) for name in names])]
    for heading, files in found.items():
        columns.append(Column(heading, [_levels(files[name]) if name in files else None for name in names]))
    return grid(columns)


def _levels(path: Path) -> np.ndarray:
    """A map file as 8-bit grey levels."""
    levels = read_map(path)
    return (levels / 257).astype(np.uint8) if levels.dtype == np.uint16 else levels


def _truth(path: Path) -> np.ndarray:
    """A ground truth file as black and white."""
    return as_mask(read_mask(path)) * np.uint8(255)


def label_evolution(images: Path, stages: dict[str, Path], names: Sequence[str] | None = None, most: int = 6) -> Any:
    """A grid of photos and their labels as training rectifies them; a column a stage.

    Args:
        stages: by heading, folders of PNGs or of a `LabelStore`, whose newest labels are shown.

    Raises:
        FileNotFoundError, LabelError: see `compare` and `LabelStore`.
    """
    stores = {heading: LabelStore(path) for heading, path in stages.items() if (path / "index.json").is_file()}
    photos = by_stem(images)
    files = {heading: by_stem(path) for heading, path in stages.items() if heading not in stores}
    known = {heading: set(store.ids) for heading, store in stores.items()} | {h: set(f) for h, f in files.items()}
    if names is None:
        shared = sorted(set(photos).intersection(*known.values()))
        names = shared[:: max(1, len(shared) // most)][:most]
    if not names or any(name not in photos or any(name not in ids for ids in known.values()) for name in names):
        raise FileNotFoundError(f"{images}: the photos and labels that are asked for are not all there.")
    columns = [Column("photo", [_photo(photos[name]) for name in names])]
    for heading in stages:
        if heading in stores:
            store = stores[heading]
            pictures = [(store.latest(store.ids.index(name)) * 255).round().astype(np.uint8) for name in names]
        else:
            pictures = [_levels(files[heading][name]) for name in names]
        columns.append(Column(heading, pictures))
    return grid(columns)


def hard_samples(photo: np.ndarray, saliency: np.ndarray, margin: float) -> np.ndarray:
    """The photo, grey, with the pixels that PCL-SD leaves out for being undecided (eq. 1: |S - 0.5| < p) in colour.

    Args:
        photo: `(H, W, 3)`, 8-bit.
        saliency: `(H, W)` in [0, 1].
        margin: p.
    """
    grey = np.asarray(Image.fromarray(photo).convert("L"), np.float64)[..., None].repeat(3, axis=-1)
    hard = np.abs(saliency - 0.5) < margin
    grey[hard] = 0.35 * grey[hard] + 0.65 * HARD_COLOUR
    return grey.round().astype(np.uint8)


def hard_sample_grid(photos: Sequence[np.ndarray], maps: dict[int, Sequence[np.ndarray]], num_epochs: int) -> Any:
    """A grid of photos and, for each epoch in `maps`, its map over the pixels that are hard in it.

    Args:
        photos: `(H, W, 3)`, 8-bit.
        maps: by epoch (from 1), a map `(H, W)` in [0, 1] a photo.
    """
    columns = [Column("photo", photos)]
    for epoch, saliency in maps.items():
        margin = hard_sample_margin(epoch, num_epochs)
        overlays = [hard_samples(photo, one, margin) for photo, one in zip(photos, saliency)]
        columns.append(Column(f"epoch {epoch}\nmap", [(one * 255).round().astype(np.uint8) for one in saliency]))
        columns.append(Column(f"p = {margin:.2f}\nhard", overlays))
    return grid(columns)


def extremes(
    rows: Sequence[dict[str, Any]], images: Path, masks: Path, maps: Path, score: str = "f_weighted", count: int = 5
) -> Any:
    """A grid of the best and the worst cases: photo, ground truth and map, and the score beside each.

    Args:
        rows: of `SaliencyMetrics.rows`, or of images.csv; `id` and the score by name.

    Raises:
        FileNotFoundError: if a photo, mask or map of them is not there.
    """
    sign = -1 if score == "mae" else 1
    order = sorted(rows, key=lambda row: sign * float(row[score]), reverse=True)
    count = min(count, len(order) // 2)
    chosen = order[:count] + order[len(order) - count :]
    names = [str(row["id"]) for row in chosen]
    columns = []
    for heading, folder, read in (("photo", images, _photo), ("ground truth", masks, _truth), ("map", maps, _levels)):
        files = by_stem(folder)
        if missing := [name for name in names if name not in files]:
            raise FileNotFoundError(f"{folder}: there is no {missing[0]}.")
        columns.append(Column(heading, [read(files[name]) for name in names]))
    kinds = ["best"] * count + ["worst"] * count
    return grid(columns, [f"{kind}\n{float(row[score]):.3f}" for kind, row in zip(kinds, chosen)])


__all__ = [
    "Column",
    "compare",
    "extremes",
    "grid",
    "hard_sample_grid",
    "hard_samples",
    "label_evolution",
    "save_figure",
]
