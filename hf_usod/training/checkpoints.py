"""The checkpoints of a run: whole or absent, with checksums, the newest two."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator

from ..errors import DataError, RunError, in_a_line
from ..files import checksums, read_json, write_json

_NAME = "checkpoint-"
ASIDE = ".writing"
_CHECKSUMS_FILE = "checksums.json"
KEPT = 2  # the newest, and one to fall back to


class Checkpoints:
    """Those in a run's folder.

    Args:
        keeps: whether this process writes the folder; the others write their part of a checkpoint alone.
    """

    def __init__(self, root: Path, accelerator: Accelerator, keeps: bool):
        self.root = root
        self.accelerator = accelerator
        self.keeps = keeps

    def all(self) -> list[tuple[Path, int]]:
        """Each with the number of steps it stands after, the newest first."""
        found = [path for path in self.root.glob(f"{_NAME}*") if path.name.removeprefix(_NAME).isdigit()]
        pairs = [(path, int(path.name.removeprefix(_NAME))) for path in found]
        return sorted(pairs, key=lambda pair: pair[1], reverse=True)

    def newest(self) -> tuple[Path, int] | None:
        return next(iter(self.all()), None)

    def whole(self) -> Iterator[tuple[Path, int]]:
        """As `all`, without those that are not what was written; they are told."""
        for path, step in self.all():
            if damage := _damage(path):
                self.accelerator.print(f"{path}: the checkpoint cannot be read ({damage}). Trying the one before.")
            else:
                yield path, step

    def save(self, step: int) -> None:
        """Writes the state of the run aside, renames it, and only then removes the older ones.

        Raises:
            RunError: if it cannot be written; what was there is then still there.
        """
        final = self.root / f"{_NAME}{step}"
        aside = self.root / f"{final.name}{ASIDE}"
        if self.keeps:
            shutil.rmtree(aside, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        with _writing_told(aside):
            self.accelerator.save_state(str(aside))
        self.accelerator.wait_for_everyone()
        if self.keeps:
            with _writing_told(aside):
                write_json(aside / _CHECKSUMS_FILE, _checksums(aside))
                if final.exists():  # damaged, or written at this very step: a resumed run may stop at once
                    _remove(final)
                os.rename(aside, final)
            self.prune(KEPT, step)
        self.accelerator.wait_for_everyone()

    def prune(self, kept: int, last: int) -> None:
        """Removes all but the newest up to a step, and what was left half written or half removed. Later ones are
        damaged: the run went on from before them."""
        later = [path for path, step in self.all() if step > last]
        upto = [path for path, step in self.all() if step <= last]
        for path in [*later, *upto[kept:]]:
            _remove(path)
        for path in self.root.glob(f"{_NAME}*{ASIDE}"):
            shutil.rmtree(path)


def _remove(folder: Path) -> None:
    """Removes a checkpoint; it is whole or absent at any instant."""
    aside = folder.with_name(f"{folder.name}-removed{ASIDE}")
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(folder, aside)
    shutil.rmtree(aside)


def _checksums(folder: Path) -> dict[str, int]:
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name != _CHECKSUMS_FILE]
    return {Path(path).name: value for path, value in checksums(files).items()}


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint's files; checkpoints of before there were checksums are taken as they are."""
    if not (path / _CHECKSUMS_FILE).exists():
        return None
    try:
        expected, found = read_json(path / _CHECKSUMS_FILE), _checksums(path)
    except (DataError, OSError) as error:
        return in_a_line(error)
    wrong = [name for name in expected if found.get(name) != expected[name]]
    return f"{wrong[0]} is not what was written" if wrong else None


@contextmanager
def _writing_told(aside: Path) -> Iterator[None]:
    """Tells in a line that a checkpoint cannot be written."""
    try:
        yield
    except Exception as error:  # torch and safetensors raise errors of their own
        shutil.rmtree(aside, ignore_errors=True)
        raise RunError(
            f"{aside.with_suffix('')}: the checkpoint cannot be written ({in_a_line(error)}). What the run has saved "
            "before is as it was: make room, and pass --resume."
        ) from error
