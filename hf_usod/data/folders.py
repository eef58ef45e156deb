"""Finding and checking the images of folder trees. Nothing here knows of masks: training reads images alone."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm

from ..models.image_processing_usod import read_image

Image.init()
# What Pillow can open and people call an image; documents and video containers are not.
IMAGE_SUFFIXES = frozenset(Image.registered_extensions()) - {".pdf", ".eps", ".ps", ".mpg", ".mpeg", ".hdf", ".h5"}


def is_image_file(path: Path) -> bool:
    """Whether the name says image; hidden files (`.DS_Store`, `._photo.jpg`) are not."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def list_images(root: str | Path) -> list[Path]:
    """All images below a folder, sorted, so that the order is the same on every machine.

    Links to folders are followed, but for those to folders that are below it anyway, or that were followed already.

    Raises:
        FileNotFoundError: if the folder does not exist or holds no image.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder of images.")
    paths = sorted(path for path in _walk(root) if is_image_file(path) and path.is_file())
    if not paths:
        raise FileNotFoundError(f"{root}: holds no images (looked for {', '.join(sorted(IMAGE_SUFFIXES)[:8])}, …).")
    return paths


def _walk(root: Path) -> Iterator[Path]:
    """The files below a folder and, once, below the folders that links in it lead to."""
    top = Path(os.path.realpath(root))
    seen: set[Path] = set()  # real folders
    pending = [root]
    while pending:
        for folder, subfolders, names in os.walk(pending.pop(0)):  # does not follow links
            real = Path(os.path.realpath(folder))
            if real in seen:
                subfolders.clear()
                continue
            seen.add(real)
            yield from (Path(folder, name) for name in names)
            links = [Path(folder, name) for name in sorted(subfolders) if os.path.islink(os.path.join(folder, name))]
            targets = {link: Path(os.path.realpath(link)) for link in links}
            # What is below `top` comes by anyway; what `top` is below is a loop
            pending += [
                link
                for link, target in targets.items()
                if not (target.is_relative_to(top) or top.is_relative_to(target))
            ]


def output_names(relative: Sequence[Path]) -> list[Path]:
    """A name without suffix for each image: its stem, or its full name where others differ in the suffix only."""
    names = {path: path.with_suffix("") for path in relative}
    while True:
        uses = Counter(str(name).casefold() for name in names.values())
        clashing = [path for path, name in names.items() if uses[str(name).casefold()] > 1 and name != path]
        if not clashing:
            return [names[path] for path in relative]
        names.update((path, path) for path in clashing)


def by_stem(root: str | Path) -> dict[str, Path]:
    """The images of a folder tree by their path in it without suffix.

    Raises:
        FileNotFoundError: see `list_images`.
        ValueError: if two files differ in the suffix only.
    """
    found: dict[str, Path] = {}
    for path in list_images(root):
        stem = path.relative_to(root).with_suffix("").as_posix()
        if stem in found:
            raise ValueError(f"{path}: has the same name as {found[stem].name}; which one is meant? Keep one.")
        found[stem] = path
    return found


def find_unreadable(paths: Sequence[Path], progress: bool = True) -> dict[Path, str]:
    """Decodes every image once; returns what is wrong with those that fail."""

    def problem(path: Path) -> str | None:
        try:
            read_image(path)
        except (ValueError, OSError) as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:
        problems: Iterable[str | None] = tqdm(
            pool.map(problem, paths), "checking images", len(paths), unit="image", disable=not progress
        )
        return {path: text for path, text in zip(paths, problems) if text}
