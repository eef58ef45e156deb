"""Writing files so that there is never half a file, and reading what JSON files hold."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .errors import DataError


def nearest(path: Path) -> Path:
    """The path itself, or the nearest folder above it, that is there; a link that leads nowhere is, too."""
    return next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))


def why_unwritable(folder: Path) -> str | None:
    """Why no file can be written to a folder, which need not exist, in words; None if one can. Makes nothing."""
    there = nearest(folder)
    if there.is_symlink() and not there.exists():
        return f"{there} is a link to what is not there"
    if not there.is_dir():
        return f"{there} is a file; a folder is expected"
    try:
        with tempfile.TemporaryFile(dir=there):
            return None
    except OSError as error:
        return f"{there} cannot be written in ({error.strerror})"


def file_state(path: str | os.PathLike) -> tuple[int, int] | None:
    """What changes when a file is written anew; None if there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size


def aside_path(path: Path) -> Path:
    """A hidden name beside a file, with its suffix, no longer than its own where that is long."""
    stem = path.stem if len(os.fsencode(path.name)) < 200 else hashlib.sha256(os.fsencode(path.stem)).hexdigest()[:16]
    return path.with_name(f".{stem}.{os.getpid()}.writing{path.suffix}")


def is_disk_full(error: BaseException) -> bool:
    """Whether nothing more can be written, to this file or another."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Has `write` write a file beside `path`, then renames it: `path` is old or new, never half.

    The folder is made if it does not exist. The file that `write` is given keeps the suffix of `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = aside_path(path)
    try:
        write(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """`write_aside` of bytes."""
    write_aside(path, lambda aside: aside.write_bytes(content))


def write_text(path: Path, text: str) -> None:
    """`write_aside` of a text, in UTF-8."""
    write_aside(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """`write_aside` of what JSON can hold. Names of files that are no UTF-8 are escaped, and read again as they are."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        text = json.dumps(content, indent=2)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: naming the file, if it is not there or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error}).") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error


def write_folder_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Has `write` fill a new folder beside `path`, then renames it: `path` is whole or absent.

    What an earlier try left beside it is removed first, so that one process at a time may do this.

    Raises:
        FileExistsError: if `path` exists.
    """
    if os.path.lexists(path):
        raise FileExistsError(f"{path}: exists. Choose another folder.")
    aside = path.with_name(f"{path.name}.writing")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        write(aside)
        os.rename(aside, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def checksums(paths: Sequence[Path]) -> dict[str, int]:
    """What each file holds, as a CRC-32, by its full path."""

    def checksum(path: Path) -> int:
        value = 0
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                value = zlib.crc32(block, value)
        return value

    with ThreadPoolExecutor() as pool:
        return dict(zip(map(os.path.abspath, paths), pool.map(checksum, paths), strict=True))
