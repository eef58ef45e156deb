"""What is evaluated on: images with ground truth, from folders or from the test sets of a task."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..data import by_stem, find_datasets, task_samples
from ..data.tasks import get_task
from ..errors import DataError
from ..models.image_processing_usod import have_same_proportions
from .pairing import base_name, need, pair
from .reading import list_maps, upright_size


@dataclass(frozen=True)
class EvaluationSample:
    """An image with its ground truth. `id` is its path in the data set without suffix, such as `bear/00001`."""

    id: str
    mask: Path
    image: Path | None = None  # None where maps are scored that exist already
    aux: Path | None = None  # depth, thermal or flow; None where there is none
    aux_kind: str | None = None  # which of them, if it is known


@dataclass(frozen=True)
class EvaluationSet:
    """A data set by name; `samples` are sorted by id."""

    name: str
    samples: Sequence[EvaluationSample]


class _Truth(NamedTuple):
    """Where the data sets of a task have their ground truth."""

    folder: str = "GT"
    of_every_image: bool = True


_TRUTH = {"video": _Truth("Annotations", of_every_image=False)}  # FBMS annotates one frame in twenty


def folder_samples(
    images: Path, masks: Path, aux: Path | None = None, aux_kind: str | None = None
) -> list[EvaluationSample]:
    """The images of a folder tree with their masks and, if given, auxiliary maps; see `pairing` for the names.

    Every image needs a mask. One without an auxiliary map (as the last frame of a video has no flow) has `aux` None.

    Raises:
        FileNotFoundError: naming the images without a mask; if no image has an auxiliary map.
        DataError: if it is not clear which file belongs to which, or a mask has not its image's proportions.
    """
    if images.exists() and masks.exists() and images.samefile(masks):
        raise DataError(f"{masks}: is the folder of images and of ground truth. Keep them in two folders.")
    photos, truth = by_stem(images), list_maps(masks)
    mask_of = pair(photos, truth)
    need(photos, mask_of, masks, "ground truth", truth)
    maps = pair(photos, by_stem(aux)) if aux else {}
    if aux and not maps:
        raise FileNotFoundError(f"{aux}: no file is named as one of {images} (matched by path without suffix).")
    samples = [
        EvaluationSample(name, mask_of[name], path, maps.get(name), aux_kind) for name, path in sorted(photos.items())
    ]
    _check_proportions(samples)
    return samples


def map_samples(predictions: Path, masks: Path, partial: bool = False) -> tuple[list[EvaluationSample], list[Path]]:
    """Ground truths, and the saliency maps that belong to them; see `pairing` for the names.

    Args:
        partial: leave out ground truths without a map, as for labels of a part of a data set.

    Raises:
        FileNotFoundError: naming the ground truths without a map; with `partial`, if there is no map at all.
        DataError: if it is not clear which file belongs to which.
    """
    maps, truth = list_maps(predictions), list_maps(masks)
    names = sorted(truth)
    map_of = pair(names, maps)
    try:
        need(list(map_of) if partial and map_of else names, map_of, predictions, "map", maps)
    except FileNotFoundError as error:
        hint = " To score only those that there are, pass --partial." if map_of else ""
        raise FileNotFoundError(f"{error}{hint}") from error
    id_of = {name: name if name in maps else base_name(name) for name in map_of}
    order = sorted(map_of, key=lambda name: id_of[name])
    return [EvaluationSample(id_of[name], truth[name]) for name in order], [map_of[name] for name in order]


def task_sets(task: str, root: Path, names: Sequence[str] | None = None) -> tuple[list[EvaluationSet], list[str]]:
    """The test sets of a task that are below `root`, and a line for each customary one that is not: where to get it.

    Frames of a video without ground truth are left out.

    Args:
        names: of data sets; those that are named must be there.

    Raises:
        FileNotFoundError: if a named set, all sets, or ground truth is not there.
        DataError: see `folder_samples`.
        ValueError: for an unknown task.
    """
    layout, truth = get_task(task), _TRUTH.get(task, _Truth())
    sets = []
    for folder in find_datasets(task, root, names, split="test"):
        name = folder.relative_to(root).as_posix()
        photos = {
            sample.id.removeprefix(f"{name}/"): sample for sample in task_samples(task, root, [name], split="test")
        }
        masks = list_maps(folder / truth.folder)
        mask_of = pair(photos, masks)
        if not mask_of or truth.of_every_image:
            need(photos, mask_of, folder / truth.folder, "ground truth", masks)
        samples = [
            EvaluationSample(id, mask, photos[id].image, photos[id].aux, photos[id].aux_kind)
            for id, mask in sorted(mask_of.items())
        ]
        _check_proportions(samples)
        sets.append(EvaluationSet(name, samples))
    absent = [] if names else [name for name in layout.test if name not in {dataset.name for dataset in sets}]
    return sets, [
        f"{root / name}: not there, left out. The data sets of {task} are at {layout.source}." for name in absent
    ]


def _check_proportions(samples: Sequence[EvaluationSample]) -> None:
    """Masks may be smaller or larger than their images, but not turned or of others."""
    for sample in samples:
        if sample.image is None:
            continue
        (height, width), (high, wide) = upright_size(sample.image), upright_size(sample.mask)
        if not have_same_proportions((width, height), (wide, high)):
            raise DataError(
                f"{sample.mask}: is {wide} x {high}, but its image {sample.image} {width} x {height}, of other "
                "proportions. Is one of them turned?"
            )
