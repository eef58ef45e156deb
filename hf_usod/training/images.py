"""Choosing and checking the images of a run before the first step."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from ..data import Sample, find_unreadable
from ..errors import RunError
from .arguments import RunArguments

Item = TypeVar("Item")


def evenly_spread(items: Sequence[Item], count: int) -> Sequence[Item]:
    """At most `count` of the items, evenly spread over them."""
    return items[:: max(1, len(items) // count)][:count]


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
            print(f"{report}\nSkipping {len(unreadable)} of {len(paths)} images (above).")
    return [path for path in paths if path not in unreadable]


def readable_samples(args: RunArguments, samples: Sequence[Sample], progress: bool) -> list[Sample]:
    """As `readable_images`, for samples, of which the auxiliary maps are looked at as well."""
    paths = [path for sample in samples for path in (sample.image, sample.aux) if path is not None]
    readable = set(readable_images(args, paths, progress))
    return [sample for sample in samples if {sample.image, sample.aux} - {None} <= readable]
