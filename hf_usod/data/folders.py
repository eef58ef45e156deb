"""Finding and checking the images of folder trees. Nothing here knows of masks: training reads images alone."""

import logging
import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from PIL import ExifTags, Image
from tqdm.auto import tqdm

from ..errors import DataError
from ..files import file_state
from ..models.image_processing_usod import read_image
from ..models.reading_usod import fault
from .origin import is_result

_logger = logging.getLogger(__name__)

Image.init()
# What Pillow can open and people call an image; documents and video containers are not.
IMAGE_SUFFIXES = frozenset(Image.registered_extensions()) - {".pdf", ".eps", ".ps", ".mpg", ".mpeg", ".hdf", ".h5"}
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".flv", ".wmv", ".3gp", ".3g2"}
    | {".mpg", ".mpeg", ".ogv"}
)
HEIF_SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
_PHONES = HEIF_SUFFIXES | {".avif", ".jxl", ".jp2"}  # photos as well, but not for every Pillow
_CAMERAS = {".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw"}
UNREADABLE_SUFFIXES = (_PHONES | _CAMERAS) - IMAGE_SUFFIXES


@dataclass
class Tree:
    """The images of a folder tree, sorted, and what was passed over that somebody may miss."""

    images: list[Path] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)  # of kinds that Pillow here cannot read
    clips: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)  # to folders that are searched elsewhere

    def passed_over(self) -> list[str]:
        """A line for each kind of what was passed over."""
        suffixes = sorted({path.suffix.lower() for path in self.unreadable})
        way_out = "convert them to PNG or JPEG"
        if heif := ", ".join(suffix for suffix in suffixes if suffix in HEIF_SUFFIXES):
            way_out += f', or for {heif}: pip install "hf_usod[heif]"'
        lines = [
            (self.unreadable, f"of kinds that Pillow cannot read here ({', '.join(suffixes)}); {way_out}"),
            (self.clips, "clips in folders; name them to have them done"),
            (self.links, "links to folders that are searched anyway"),
        ]
        return [f"Passed over: {len(paths)} {reason}." for paths, reason in lines if paths]


def identity(path: str | Path) -> tuple[int, int] | None:
    """What is the same for all names of a file or folder; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def walk(root: str | Path, skip: str | Path | None = None, suffixes: Collection[str] = IMAGE_SUFFIXES) -> Tree:
    """Searches a folder tree: hidden files and folders are left alone, links are followed, each folder once.

    Args:
        skip: a folder in it that is not searched, under whatever name.
        suffixes: what counts as an image.
    """
    tree, seen = Tree(), {identity(root)}
    skipped = None if skip is None else identity(skip)
    linked: list[Path] = []  # after all others, so that a folder is found at its own place
    folders = [Path(root)]
    while folders or linked:
        folder = folders.pop() if folders else linked.pop(0)
        if folder.is_symlink() and folder != Path(root):
            if identity(folder) in seen:
                tree.links.append(folder)
                continue
            seen.add(identity(folder))
        for entry in os.scandir(folder):
            path = Path(entry.path)
            if entry.name.startswith("."):
                continue
            if not path.is_dir():  # as it may be a link to itself
                _sort_in(tree, path, suffixes)
            elif identity(path) == skipped:
                continue
            elif entry.is_symlink():
                linked.append(path)
            elif identity(path) not in seen:
                seen.add(identity(path))
                folders.append(path)
        linked.sort()
    tree.images.sort()
    return tree


def _sort_in(tree: Tree, path: Path, suffixes: Collection[str]) -> None:
    suffix = path.suffix.lower()
    if suffix in suffixes and (path.is_file() or path.is_symlink()):  # links to nowhere too: reading them says so
        tree.images.append(path)
    elif suffix in UNREADABLE_SUFFIXES:
        tree.unreadable.append(path)
    elif suffix in VIDEO_SUFFIXES:
        tree.clips.append(path)


def is_image_file(path: Path) -> bool:
    """Whether the name says image; hidden files (`.DS_Store`, `._photo.jpg`) are not."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def list_images(root: str | Path) -> list[Path]:
    """All images below a folder (see `walk`), sorted, so that the order is the same on every machine.

    Raises:
        FileNotFoundError: if the folder does not exist or holds no image.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder of images.")
    if not (paths := walk(root).images):
        raise FileNotFoundError(f"{root}: holds no images (looked for {', '.join(sorted(IMAGE_SUFFIXES)[:8])}, …).")
    return paths


def leave_out_results(root: str | Path, paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The images below a folder without those that this package made of others, as their headers say; and a line on
    these, if there are any."""
    with ThreadPoolExecutor() as pool:
        are_results = list(pool.map(_is_result_file, paths, map(file_state, paths)))
    photos = [path for path, is_result in zip(paths, are_results, strict=True) if not is_result]
    left_out = f"{root}: {sum(are_results)} images below it are results of hf-usod, no photos; left out."
    return photos, [left_out] if any(are_results) else []


@lru_cache(maxsize=1 << 20)  # a training lists its images several times
def _is_result_file(path: Path, _state: tuple[int, int] | None) -> bool:
    try:
        with Image.open(path) as image:
            return is_result(image)
    except Exception:  # Pillow's readers raise almost anything on damaged files; who reads the photo says so
        return False


def list_photos(root: str | Path) -> list[Path]:
    """As `list_images`, without results of this package that lie among them, of which a warning is logged.

    Raises:
        FileNotFoundError: if the folder does not exist, or holds no image but such results.
    """
    photos, left_out = leave_out_results(root, list_images(root))
    if not photos:
        raise FileNotFoundError(f"{root}: holds no images but results of hf-usod. Give the folder of the photos.")
    for line in left_out:
        _logger.warning(line)
    return photos


def upright_size(path: Path) -> tuple[int, int]:
    """(width, height) of an image as it is meant to be seen, by its header alone.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: naming the file, if it cannot be read.
    """
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            return image.size[::-1] if turned and image.format != "TIFF" else image.size  # those Pillow turns itself
    except Exception as error:  # Pillow's readers raise almost anything on damaged files
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            raise
        raise DataError(f"{path}: cannot be read as an image ({fault(error)}).") from error


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
        DataError: if two files differ in the suffix only.
    """
    paths: dict[str, Path] = {}
    for path in list_images(root):
        stem = path.relative_to(root).with_suffix("").as_posix()
        if stem in paths:
            raise DataError(f"{path}: has the same name as {paths[stem].name}; which one is meant? Keep one.")
        paths[stem] = path
    return paths


def read_rgb(path: Path) -> Image.Image:
    """A photo as RGB, upright.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: naming the file, if it cannot be read.
    """
    try:
        return read_image(path)
    except ValueError as error:
        raise DataError(str(error)) from error


def find_unreadable(paths: Sequence[Path], progress: bool = True) -> dict[Path, str]:
    """Decodes every image once; returns what is wrong with those that fail."""

    def problem(path: Path) -> str | None:
        try:
            read_rgb(path)
        except (DataError, OSError) as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:
        problems: Iterable[str | None] = tqdm(
            pool.map(problem, paths), "checking images", len(paths), unit="image", disable=not progress
        )
        return {path: text for path, text in zip(paths, problems, strict=True) if text}
