"""What training and labeling work on: images, each with its auxiliary map if it has one. No masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..errors import DataError
from .folders import list_images, list_photos, output_names

Item = TypeVar("Item")


@dataclass(frozen=True)
class Sample:
    """An image without ground truth."""

    id: str  # a relative path without suffix, unique among the samples
    image: Path
    aux: Path | None = None  # its depth, thermal or flow map; without one the image serves as its own
    aux_kind: str | None = None  # of the map, if it is known: depth, thermal or flow


def evenly_spread(items: Sequence[Item], count: int) -> list[Item]:
    """`count` of the items, or all if there are fewer, evenly spread over them."""
    if len(items) <= count:
        return list(items)
    return [items[place * len(items) // count] for place in range(count)]


def relative_names(paths: Sequence[Path], root: Path) -> list[str]:
    """Relative paths without suffix, as `output_names` makes them, so that an image is called as its label is."""
    return [name.as_posix() for name in output_names([path.relative_to(root) for path in paths])]


def list_samples(
    images: Sequence[str | Path], aux: Sequence[str | Path | None] = (), aux_kinds: Sequence[str | None] = ()
) -> list[Sample]:
    """The samples of folders of images, in their order.

    Args:
        images: folders; their trees are searched, and results of this package in them left out. The ids of several
            folders begin with the folder's place, `0/…`.
        aux: for each of them the folder with its auxiliary maps, by relative path and stem, or None. An image may
            have none; that a map belongs to no image is an error.
        aux_kinds: for each of them what its maps are, if that is known.

    Raises:
        FileNotFoundError: for a folder that does not exist or holds no image.
        ValueError: if there is not one auxiliary folder for each folder of images.
        DataError: naming maps without an image.
    """
    if aux and len(aux) != len(images):
        raise ValueError(f"{len(images)} folders of images but {len(aux)} of auxiliary maps; give None for none.")
    samples: list[Sample] = []
    for place, (folder, aux_folder) in enumerate(zip(images, aux or [None] * len(images), strict=True)):
        paths = list_photos(folder)
        maps: dict[str, Path] = {}
        if aux_folder is not None:
            map_paths = list_images(aux_folder)
            maps = dict(zip(relative_names(map_paths, Path(aux_folder)), map_paths, strict=True))
        names = relative_names(paths, Path(folder))
        if orphans := sorted(maps.keys() - set(names)):
            raise DataError(
                f"{aux_folder}: {len(orphans)} of {len(maps)} maps belong to no image in {folder}: "
                f"{', '.join(orphans[:5])}. Their stems must be the images'."
            )
        prefix = f"{place}/" if len(images) > 1 else ""
        kind = aux_kinds[place] if aux_kinds else None
        samples += [Sample(prefix + name, path, maps.get(name), kind) for name, path in zip(names, paths, strict=True)]
    return samples
