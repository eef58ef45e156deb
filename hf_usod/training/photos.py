"""The images of a run: which they are, and whether they can be read and are still the same."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..data import Sample, find_unreadable, list_samples
from ..data.folders import identity
from ..errors import DataError, RunError, counted
from .arguments import RunArguments
from .run_folder import ARGUMENTS_FILE, PLAN_FILE

_logger = logging.getLogger(__name__)


def _own_files(paths: Sequence[Path], root: Path) -> set[Path]:
    """Of the images below `root`, those in the folders of trainings: their previews, labels and flow."""
    is_run: dict[Path, bool] = {root: False}  # the images may lie in a run's folder; they were asked for

    def in_run(folder: Path) -> bool:
        if folder not in is_run:
            markers = (ARGUMENTS_FILE, PLAN_FILE)
            is_run[folder] = any((folder / name).is_file() for name in markers) or in_run(folder.parent)
        return is_run[folder]

    return {path for path in paths if in_run(path.parent)}


def list_run_samples(
    images: Sequence[str], aux: Sequence[str | None] = (), aux_kinds: Sequence[str | None] = ()
) -> list[list[Sample]]:
    """The samples of each folder of images, their ids relative to it, without the files that trainings have written
    there; see `list_samples`.

    Raises:
        FileNotFoundError: for a folder that does not exist or holds no image.
        DataError: naming auxiliary maps that belong to no image, or an image that is in several of the folders.
    """
    folders: list[list[Sample]] = []
    for place, folder in enumerate(images):
        kinds = [aux_kinds[place]] if aux_kinds else ()
        samples = list_samples([folder], [aux[place]] if aux else (), kinds)
        own = _own_files([sample.image for sample in samples], Path(folder))
        if own:
            _logger.warning("%s: %d files below it are of trainings, not photos; they are left out.", folder, len(own))
        kept = [sample for sample in samples if sample.image not in own]
        if not kept:
            raise FileNotFoundError(f"{folder}: holds no images but those that trainings have written.")
        folders.append(kept)
    _check_once(images, folders)
    return folders


def _check_once(images: Sequence[str], folders: Sequence[Sequence[Sample]]) -> None:
    """Raises a `DataError` naming an image that several of the folders hold, under whatever name."""
    first: dict[tuple[int, int] | None, tuple[str, Path]] = {}
    for folder, samples in zip(images, folders, strict=True):
        own = {identity(sample.image): (folder, sample.image) for sample in samples}
        if twice := sorted(own[key][1] for key in own.keys() & first.keys() - {None}):
            other, path = first[identity(twice[0])]
            raise DataError(
                f"--images: {folder} and {other} share {counted(len(twice), 'image')} ({twice[0]} is {path}). Give "
                "each folder once."
            )
        first |= own


def join(folders: Sequence[Sequence[Sample]]) -> list[Sample]:
    """The samples of all folders; if there are several, ids begin with the folder's place, `0/…`."""
    if len(folders) == 1:
        return list(folders[0])
    return [replace(sample, id=f"{place}/{sample.id}") for place, samples in enumerate(folders) for sample in samples]


def label_files(labels: Sequence[str], folders: Sequence[Sequence[Sample]]) -> dict[str, Path]:
    """The file of each sample's pseudo-label, by the id that `join` gives the sample."""
    files = [
        Path(folder) / f"{sample.id}.png" for folder, samples in zip(labels, folders, strict=True) for sample in samples
    ]
    return dict(zip([sample.id for sample in join(folders)], files, strict=True))


def readable_images(args: RunArguments, paths: Sequence[Path], progress: bool) -> list[Path]:
    """The images that can be read; every one is decoded once.

    Raises:
        RunError: naming the images that cannot be read, unless they are to be skipped.
    """
    unreadable = find_unreadable(paths, progress)
    if unreadable:
        report = "\n".join(unreadable.values())
        if not args.skip_unreadable:
            raise RunError(
                f"{report}\n{len(unreadable)} of {len(paths)} images cannot be read (above). "
                "Repair or remove them, or pass --skip_unreadable."
            )
        if progress:
            _logger.warning("%s\nSkipping %d of %d images (above).", report, len(unreadable), len(paths))
    return [path for path in paths if path not in unreadable]


def readable_samples(args: RunArguments, samples: Sequence[Sample], progress: bool) -> list[Sample]:
    """As `readable_images`, for samples, of which the auxiliary maps are looked at as well."""
    readable = set(readable_images(args, files_of(samples), progress))
    return [sample for sample in samples if {sample.image, sample.aux} - {None} <= readable]


def files_of(samples: Sequence[Sample]) -> list[Path]:
    """Images and auxiliary maps."""
    return [path for sample in samples for path in (sample.image, sample.aux) if path is not None]
