"""Which adaptations were open last, so that a page that is opened again shows where one was."""

import contextlib
import os
from pathlib import Path

from ..adapting.folder import STATE_FILE
from ..errors import DataError
from ..files import read_json, write_json

MOST = 8


def _file() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "hf_usod" / "workbench.json"


def recent_runs() -> list[Path]:
    """Folders of adaptations that are still there, the last one first."""
    try:
        listed = read_json(_file())["runs"]
        runs = [Path(run) for run in listed]
    except (DataError, KeyError, TypeError):
        return []
    return [run for run in runs if (run / STATE_FILE).is_file()]


def remember(run: Path) -> None:
    """Puts a folder first. A file that cannot be written is no reason to stop."""
    runs = [run.resolve(), *(other for other in recent_runs() if other != run.resolve())]
    with contextlib.suppress(OSError):
        write_json(_file(), {"runs": [str(path) for path in runs[:MOST]]})


def default_run(images: Path) -> Path:
    """Where what is made of a folder of images is kept, unless one says otherwise: beside it, or at home."""
    beside = images.parent / f"{images.name}-usod"
    return beside if os.access(images.parent, os.W_OK) else Path.home() / beside.name
