"""Whether an output can be written, asked before anything is computed for it."""

import os
import tempfile
from pathlib import Path

from ..errors import CommandError


def check_folder(path: Path, option: str = "--output") -> None:
    """Checks that files can be written to a folder, which need not exist; makes nothing.

    Raises:
        CommandError: naming the option, and why not.
    """
    _check_place(path, f"{option} {path}")


def _check_place(folder: Path, argument: str) -> None:
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if place.is_symlink() and not place.exists():
        raise CommandError(f"{argument}: {place} is a link to what is not there. Remove it, or choose another place.")
    if not place.is_dir():
        raise CommandError(f"{argument}: {place} is a file; a folder is expected. Choose another place.")
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise CommandError(f"{argument}: {place} cannot be written to ({error.strerror}). Choose another.") from error


def check_file(path: Path, option: str = "--output") -> None:
    """Checks that a file can be written; makes nothing.

    Raises:
        CommandError: naming the option, and why not.
    """
    if path.is_dir():
        raise CommandError(f"{option} {path}: is a folder; a file is expected. Choose another name.")
    _check_place(path.parent, f"{option} {path}")
