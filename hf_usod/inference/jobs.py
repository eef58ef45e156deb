"""What a prediction is to do: planned once, before anything is written, so that nothing collides or is lost."""

import glob
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data import output_names
from ..data.folders import Tree, identity, leave_out_results, walk
from ..data.video import is_video_file
from ..errors import DataError
from ..files import nearest, why_unwritable

_LONGEST_NAME = 255  # bytes, on all common file systems


@dataclass(frozen=True)
class Job:
    """A photo or a clip, and the files to be made of it by kind."""

    source: Path
    relative: Path  # to what all inputs share
    is_clip: bool
    outputs: dict[str, Path]
    is_named: bool = True  # and not found in a folder or by a pattern


@dataclass(frozen=True)
class Plan:
    """All that is to be done, and lines on what was passed over in the folders."""

    jobs: list[Job]
    notes: list[str]


def partial_path(path: Path) -> Path:
    """Where a file goes that does not show the whole clip: `<name>_partial.mp4`."""
    return path.with_stem(f"{path.stem}_partial")


def _matches(inputs: Iterable[str | Path], output: Path) -> Iterator[Path]:
    for pattern in map(str, inputs):
        named = os.path.exists(pattern)
        matches = [pattern] if named else sorted(glob.glob(pattern, recursive=True))
        if not matches:
            raise FileNotFoundError(f"{pattern}: no such file or folder.")
        for path in (Path(os.path.abspath(match)) for match in matches):
            if path.is_dir() and identity(path) == identity(output):
                if named:
                    raise DataError(f"{pattern}: is also the output folder. Choose another for --output.")
                continue  # a pattern that matches it does not mean it
            yield path


def _find_sources(
    inputs: Sequence[str | Path], output: Path, without_results: bool
) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Files, folder trees and glob patterns as (source, its path relative to what all inputs share), each once; and
    lines on what was passed over."""
    sources: dict[Path, None] = {}
    bases: list[Path] = []
    empty: list[str] = []
    left_out: list[str] = []
    all_trees = Tree()
    for path in _matches(inputs, output):
        if path.is_dir():
            tree = walk(path, skip=output)
            if without_results:
                tree.images, lines = leave_out_results(path, tree.images)
                left_out += lines
            sources.update(dict.fromkeys(tree.images))
            bases.append(path)
            empty += [] if tree.images else [f"{path}: no images found in this folder."]
            all_trees.unreadable += tree.unreadable
            all_trees.clips += tree.clips
            all_trees.links += tree.links
        else:
            sources[path] = None
            bases.append(path.parent)
    all_trees.clips = [clip for clip in all_trees.clips if clip not in sources]
    all_trees.unreadable = [photo for photo in all_trees.unreadable if photo not in sources]
    if not sources:
        searched = ", ".join(map(str, inputs))
        raise FileNotFoundError(" ".join([f"{searched}: no images found.", *left_out, *all_trees.passed_over()]))
    shared = os.path.commonpath(bases)
    return [(source, source.relative_to(shared)) for source in sources], [*empty, *left_out, *all_trees.passed_over()]


def _check_folder(output: Path) -> None:
    """
    Raises:
        NotADirectoryError, PermissionError: if `output` is a file or cannot be written in.
    """
    if reason := why_unwritable(output):
        kind = PermissionError if nearest(output).is_dir() else NotADirectoryError
        raise kind(f"{output}: {reason}. Choose another folder for --output.")


def check_untouched(jobs: Iterable[Job], files: Iterable[Path], what: str = "an input") -> None:
    """
    Raises:
        DataError: naming the file, if an output would replace one of `files`, under whatever name.
    """
    read = {identity(file) for file in files} - {None}
    for job in jobs:
        outputs = [*job.outputs.values(), *(partial_path(path) for path in job.outputs.values() if job.is_clip)]
        if touched := next((path for path in outputs if identity(path) in read), None):
            raise DataError(f"{touched}: is {what} that an output would overwrite. Choose another --output.")


def plan_jobs(
    inputs: Iterable[str | Path],
    output: str | Path,
    kinds: Sequence[str],
    transparent: Collection[str] = (),
    suffix: str = ".png",
    without_results: bool = False,
) -> Plan:
    """All jobs of a prediction, of files, folder trees and glob patterns.

    Folders are searched for images (see `walk`), but for the output folder inside them; not for clips, which take long.
    A file that is named is taken whatever its name. One kind of output is named `<stem>.png`, several
    `<stem>_<kind>.png`, in the folder structure of the inputs, or with another `suffix`; those of clips end in `.mp4`,
    or in `.webm` if their kind is in `transparent`.

    Args:
        without_results: opens every image of the folders, to leave out results of this package before names are given;
            otherwise who reads them may pass them over.

    Raises:
        FileNotFoundError: for an input that does not exist, or folders without any image.
        NotADirectoryError, PermissionError: if nothing can be written in the output folder.
        DataError: if the output folder is itself an input, an output would overwrite an image that is read, or a name
            would be too long.
    """
    inputs, output = list(inputs), Path(os.path.abspath(output))
    _check_folder(output)
    sources, notes = _find_sources(inputs, output, without_results)
    given = {Path(os.path.abspath(path)) for path in inputs}
    names = {kind: "" if len(kinds) == 1 else f"_{kind}" for kind in kinds}
    jobs = []
    for (source, relative), name in zip(sources, output_names([relative for _, relative in sources]), strict=True):
        is_clip = is_video_file(source)
        ends = {kind: (".webm" if kind in transparent else ".mp4") if is_clip else suffix for kind in kinds}
        outputs = {kind: output / f"{name}{named}{ends[kind]}" for kind, named in names.items()}
        if too_long := next((path for path in outputs.values() if len(os.fsencode(path.name)) > _LONGEST_NAME), None):
            raise DataError(
                f"{source}: its name is too long for {too_long.name[:20]}…{too_long.name[-20:]}. Shorten it."
            )
        jobs.append(Job(source, relative, is_clip, outputs, source in given))
    check_untouched(jobs, (job.source for job in jobs))
    return Plan(jobs, notes)
