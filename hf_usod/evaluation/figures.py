"""Pictures to look at: comparison grids, labels and hard samples over the epochs, best and worst cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data import by_stem, evenly_spread
from ..errors import DataError
from ..labels import LabelStore
from ..models.image_processing_usod import read_image
from ..objectives.distilling import hard_sample_margin
from .curves import pyplot
from .pairing import need, pair, shorten
from .reading import list_maps, read_ground_truth, read_prediction
from .usod_saliency.reading import as_levels, as_mask
from .usod_saliency.saliency_metrics import METRICS

CELL = 1.25  # inches, the width of a picture in a grid
HARD_COLOR = np.array([255, 176, 0], np.float64)


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
                gray = {"cmap": "gray", "vmin": 0, "vmax": 255} if picture.ndim == 2 else {}
                cell.imshow(picture, aspect="auto", interpolation="lanczos", **gray)
    for row, label in enumerate(row_labels):
        axes[row, 0].set_ylabel(label, fontsize=7, rotation=0, ha="right", va="center", labelpad=4)
    return figure


def _photo(path: Path) -> np.ndarray:
    return np.asarray(read_image(path))


def choose(photos: Mapping[str, Path], names: Sequence[str] | None, most: int, images: Path) -> list[str]:
    """The photos to show: those named or, evenly spread, at most `most` of all.

    Args:
        photos: by their path in `images` without suffix.

    Raises:
        FileNotFoundError: if a named one is not there, saying which are.
    """
    if names is None:
        return evenly_spread(sorted(photos), most)
    if missing := [name for name in names if name not in photos]:
        raise FileNotFoundError(f"{images}: there is no {missing[0]}; there are {shorten(photos)}.")
    return list(names)


def compare(images: Path, maps: dict[str, Path], names: Sequence[str] | None = None, most: int = 6) -> Any:
    """A grid of photos and, beside each, its map in every folder of `maps` (ground truth, variants, other methods).

    Args:
        maps: folders by heading; `pairing` says which file belongs to which photo.
        names: of the photos; by default `most` of those that all folders have, evenly spread.

    Raises:
        FileNotFoundError: if no photo has a map in every folder, or a named one is not there.
        DataError: naming a file that cannot be read, or does not belong to one photo alone.
    """
    photos = by_stem(images)
    files = {heading: pair(photos, list_maps(folder)) for heading, folder in maps.items()}
    shared = {name: path for name, path in photos.items() if all(name in pairs for pairs in files.values())}
    names = choose(shared if names is None else photos, names, most, images)
    if not names:
        folders = ", ".join(map(str, maps.values()))
        raise FileNotFoundError(f"{images}: no photo has a map in each of {folders}. There are {shorten(photos)}.")
    columns = [Column("photo", [_photo(photos[name]) for name in names])]
    for heading, pairs in files.items():
        columns.append(Column(heading, [_levels(pairs[name]) if name in pairs else None for name in names]))
    return grid(columns)


def _levels(path: Path) -> np.ndarray:
    """A map file as 8-bit gray levels."""
    try:
        return as_levels(read_prediction(path))[0]
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _truth(path: Path) -> np.ndarray:
    """A ground truth file as black and white."""
    try:
        return as_mask(read_ground_truth(path)) * np.uint8(255)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def label_evolution(images: Path, stages: dict[str, Path], names: Sequence[str] | None = None, most: int = 6) -> Any:
    """A grid of photos and their labels as training rectifies them; a column a stage.

    Args:
        stages: by heading, folders of PNGs or of a `LabelStore`, whose newest labels are shown.

    Raises:
        FileNotFoundError, DataError, LabelError: see `compare` and `LabelStore`.
    """
    stores = {heading: LabelStore(path) for heading, path in stages.items() if (path / "index.json").is_file()}
    photos = by_stem(images)
    files = {heading: pair(photos, list_maps(path)) for heading, path in stages.items() if heading not in stores}
    known = {heading: set(store.ids) for heading, store in stores.items()}
    known |= {heading: set(pairs) for heading, pairs in files.items()}
    shared = {name: path for name, path in photos.items() if all(name in ids for ids in known.values())}
    if not shared or not set(names or []) <= shared.keys():
        raise FileNotFoundError(
            f"{images}: the photos and labels that are asked for are not all there. Photos with all labels: "
            f"{shorten(shared) or 'none'}; photos: {shorten(photos)}."
        )
    names = choose(shared, names, most, images)
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
    """The photo, gray, with the pixels that PCL-SD leaves out for being undecided (eq. 1: |S - 0.5| < p) in color.

    Args:
        photo: `(H, W, 3)`, 8-bit.
        saliency: `(H, W)` in [0, 1].
        margin: p.
    """
    gray = np.asarray(Image.fromarray(photo).convert("L"), np.float64)[..., None].repeat(3, axis=-1)
    hard = np.abs(saliency - 0.5) < margin
    gray[hard] = 0.35 * gray[hard] + 0.65 * HARD_COLOR
    return gray.round().astype(np.uint8)


def hard_sample_grid(photos: Sequence[np.ndarray], maps: Mapping[int, Sequence[np.ndarray]], num_epochs: int) -> Any:
    """A grid of photos and, for each epoch in `maps`, its map over the pixels that are hard in it.

    Args:
        photos: `(H, W, 3)`, 8-bit.
        maps: by epoch (from 1), a map `(H, W)` in [0, 1] a photo.
    """
    columns = [Column("photo", photos)]
    for epoch, saliency in maps.items():
        margin = hard_sample_margin(epoch, num_epochs)
        overlays = [hard_samples(photo, levels, margin) for photo, levels in zip(photos, saliency, strict=True)]
        columns.append(Column(f"epoch {epoch}\nmap", [(levels * 255).round().astype(np.uint8) for levels in saliency]))
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
        DataError: if there are fewer than two rows, or naming a file that cannot be read.
    """
    lower_is_better = score in METRICS and METRICS[score].lower_is_better
    order = sorted(rows, key=lambda row: float(row[score]), reverse=not lower_is_better)
    if len(order) < 2:
        raise DataError(f"There are scores of {len(order)} images; the best and the worst need two at least.")
    count = min(count, len(order) // 2)
    chosen = order[:count] + order[len(order) - count :]
    names = [str(row["id"]) for row in chosen]
    photos = by_stem(images)
    columns = []
    for heading, folder, read in (("photo", images, _photo), ("ground truth", masks, _truth), ("map", maps, _levels)):
        files = photos if heading == "photo" else list_maps(folder)
        pairs = pair(names, files)
        need(names, pairs, folder, heading, files)
        columns.append(Column(heading, [read(pairs[name]) for name in names]))
    kinds = ["best"] * count + ["worst"] * count
    return grid(columns, [f"{kind}\n{float(row[score]):.3f}" for kind, row in zip(kinds, chosen, strict=True)])
