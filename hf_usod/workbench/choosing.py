"""The first step: a folder of images is chosen, by its path or by clicking."""

import os
from itertools import islice
from pathlib import Path
from typing import Any

from ..adapting.folder import STATE_FILE
from ..data.folders import IMAGE_SUFFIXES
from ..errors import DataError, counted
from ..files import read_json
from .recent import default_run, recent_runs

SCRIPT = (Path(__file__).parent / "browse.js").read_text(encoding="utf-8")
MOST_FOLDERS = 300
_MOST_COUNTED = 2000  # files of a folder


def list_folders(path: str) -> dict[str, Any]:
    """The folders in a folder, the first `MOST_FOLDERS` by name, with how many images lie directly in each, among its
    first `_MOST_COUNTED` files; what the browser calls. Without one, those beside the images that were looked at last,
    or in the working folder."""
    folder = Path(path) if path else next((run.parent for run in recent_runs()), Path.cwd())
    folder = (folder if folder.is_dir() else Path.home()).resolve()
    try:
        below = sorted((Path(entry.path) for entry in os.scandir(folder) if _is_shown(entry)), key=_by_name)
    except OSError:
        below = []
    listed = [{"name": each.name, "path": str(each), "told": _tell_images(each)} for each in below[:MOST_FOLDERS]]
    parent = str(folder.parent) if folder.parent != folder else ""
    held = _tell_images(folder)
    told = f"In {folder}{f', which holds {held}' if held else ''}"
    if len(below) > len(listed):
        told += f", the first {len(listed)} of {len(below)} folders (type the path of another)"
    return {"parent": parent, "told": f"{told}:", "folders": listed}


def _is_shown(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir() and not entry.name.startswith(".")
    except OSError:
        return False


def _by_name(path: Path) -> str:
    return path.name.casefold()


def _tell_images(folder: Path) -> str:
    """How many images lie in a folder, in words; empty if there are none."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, _MOST_COUNTED + 1)]
    except OSError:
        return ""
    count = sum(os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES for name in names[:_MOST_COUNTED])
    told = counted(count, "image") if count else ""
    return f"at least {told}" if told and len(names) > _MOST_COUNTED else told


def places(typed: str, output: str | None) -> tuple[Path, Path]:
    """The images and the folder of the adaptation that are meant: what was typed may be the latter.

    Raises:
        DataError: naming what is missing.
    """
    if not typed.strip():
        raise DataError("Choose a folder of images first.")
    folder = Path(typed.strip().strip("\"'")).expanduser().resolve()
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder.")
    if (folder / STATE_FILE).is_file():
        try:
            return Path(read_json(folder / STATE_FILE)["asked"]["images"]), folder
        except (KeyError, TypeError) as error:
            raise DataError(f"{folder / STATE_FILE}: is not what `hf-usod adapt` wrote there.") from error
    return folder, Path(output.strip()).expanduser().resolve() if output and output.strip() else default_run(folder)
