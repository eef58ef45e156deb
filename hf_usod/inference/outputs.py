"""Where the outputs of a prediction go: planned before anything is written, so that nothing collides or is lost."""

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data import is_image_file, output_names
from ..data.video import is_video_file


@dataclass(frozen=True)
class Job:
    """An image or a clip, and the files to be made of it by kind."""

    image: Path
    outputs: dict[str, Path]


def expand_inputs(inputs: Iterable[str | Path], output: str | Path) -> list[tuple[Path, Path]]:
    """Files, folder trees and glob patterns as (image, its path relative to what all inputs share), each image once.

    Folders are searched for images, but for the output folder inside them; not for clips, which take long. A file that
    is named is taken whatever its name.

    Raises:
        FileNotFoundError: for an input that does not exist, or folders without any image.
        ValueError: if the output folder is itself an input.
    """
    target = Path(os.path.abspath(output))
    images: dict[Path, None] = {}
    bases: list[Path] = []
    for given in map(str, inputs):
        matches = [given] if os.path.exists(given) else sorted(glob.glob(given, recursive=True))
        if not matches:
            raise FileNotFoundError(f"{given}: no such file or folder.")
        for path in (Path(os.path.abspath(match)) for match in matches):
            if path == target:
                raise ValueError(f"{given}: is also the output folder. Choose another for --output.")
            if path.is_dir():
                tree = (file for file in sorted(path.rglob("*")) if is_image_file(file) and file.is_file())
                images.update(dict.fromkeys(file for file in tree if target not in file.parents))
                bases.append(path)
            else:
                images[path] = None
                bases.append(path.parent)
    if not images:
        raise FileNotFoundError(f"{', '.join(map(str, inputs))}: no images found.")
    shared = os.path.commonpath(bases)
    return [(image, image.relative_to(shared)) for image in images]


def plan_outputs(inputs: Iterable[str | Path], output: str | Path, kinds: Sequence[str]) -> list[Job]:
    """All jobs of a prediction.

    One kind of output is named `<stem>.png`, several `<stem>_<kind>.png`, in the folder structure of the inputs; those
    of clips end in `.mp4`.

    Raises:
        FileNotFoundError: see `expand_inputs`.
        ValueError: if the output folder is an input, or an output would overwrite an image that is read.
    """
    images = expand_inputs(inputs, output)
    names = output_names([relative for _, relative in images])
    output = Path(os.path.abspath(output))
    jobs = []
    for (image, _), name in zip(images, names):
        suffixes = {kind: "" if len(kinds) == 1 else f"_{kind}" for kind in kinds}
        end = ".mp4" if is_video_file(image) else ".png"
        jobs.append(Job(image, {kind: output / f"{name}{suffix}{end}" for kind, suffix in suffixes.items()}))
    read = {job.image for job in jobs}
    for job in jobs:
        if endangered := read.intersection(job.outputs.values()):
            raise ValueError(
                f"{endangered.pop()}: is an input that an output would overwrite. Choose another --output."
            )
    return jobs
