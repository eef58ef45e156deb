"""A page that shows a run while it runs: curves and previews, in `index.html` of its folder, which reloads itself. No
server is needed: the file is opened in a browser."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import write_text
from ..html import Page, Picture, Table, write_page
from .curves import charts

HISTORY_FILE = "history.jsonl"  # a line for each of the log
PAGE_FILE = "index.html"
RELOAD = 15  # seconds


class RunPage:
    """The history of a run, and its page.

    Args:
        root: the run's folder.
        step: the step that the run goes on from; what the history has of later ones is dropped.
    """

    def __init__(self, root: Path, step: int):
        self.root = root
        self.records = [record for record in read_history(root) if record["step"] <= step]
        write_text(root / HISTORY_FILE, "".join(f"{json.dumps(record)}\n" for record in self.records))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """A line of the log, after a step (from 1)."""
        record = {"step": step, **{name: float(f"{value:.6g}") for name, value in values.items()}}
        self.records.append(record)
        with open(self.root / HISTORY_FILE, "a", encoding="utf-8") as file:
            file.write(f"{json.dumps(record)}\n")

    def write(self, status: str, running: bool = True) -> None:
        """Makes the page anew; `status` is a line about where the run stands."""
        previews = sorted((self.root / "previews").glob("*.png"), reverse=True)
        names = [path.relative_to(self.root).as_posix() for path in previews]
        write_page(make_page(str(self.root), status, self.records, names, running), self.root / PAGE_FILE)


def read_history(root: Path) -> list[dict[str, Any]]:
    """What a run's folder holds of its log, a record a line; one that was cut short by a kill is left out."""
    path = root / HISTORY_FILE
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records


def make_page(
    title: str, status: str, records: Sequence[Mapping[str, float]], previews: Sequence[str], running: bool
) -> Page:
    """What the page holds.

    Args:
        records: lines of the log, each with its `step`.
        previews: pictures by their paths from the page's folder, the newest first.
        running: whether the page is to reload itself.
    """
    latest: dict[str, float] = {}
    for record in records:
        latest |= record
    rows = [[name, f"{value:.4g}"] for name, value in latest.items() if name != "step"]
    return Page(
        title,
        [status, *(["Previews: photos, their labels in stage 2, and their maps."] if previews else [])],
        tables=[Table("Latest", ["of the log", ""], rows)] if rows else [],
        charts=charts(records),
        pictures=[Picture(Path(path).stem.replace("_", " "), path) for path in previews],
        reload=RELOAD if running else None,
    )
