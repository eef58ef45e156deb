"""A page that shows a run while it runs: curves and previews, in `index.html` of its folder, which reloads itself. No
server is needed: the file is opened in a browser."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import write_text

HISTORY_FILE = "history.jsonl"  # a line for each of the log
PAGE_FILE = "index.html"
RELOAD = 15  # seconds
WIDTH, HEIGHT = 300, 100  # of a curve
POINTS = 300  # of a curve at most, each a mean

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
figure { display: inline-block; margin: 0 1.5em 1em 0 } figcaption { font-size: 13px }
svg { border: 1px solid #ddd; overflow: visible } polyline { fill: none; stroke: #2563eb; stroke-width: 1.5 }
img { max-width: 100%; display: block; margin-bottom: 1em }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #111 } svg { border-color: #444 } }
"""


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
        write_text(self.root / PAGE_FILE, render(str(self.root), status, self.records, names, running))


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


def render(
    title: str, status: str, records: Sequence[Mapping[str, float]], previews: Sequence[str], running: bool
) -> str:
    """The page's HTML.

    Args:
        records: lines of the log, each with its `step`.
        previews: pictures by their paths from the page's folder, the newest first.
        running: whether the page is to reload itself.
    """
    names = dict.fromkeys(name for record in records for name in record if name != "step")
    curves = "".join(
        _curve(name, [(record["step"], record[name]) for record in records if name in record]) for name in names
    )
    pictures = "".join(
        f'<h3>{html.escape(Path(path).stem.replace("_", " "))}</h3><img src="{html.escape(path)}" alt="">'
        for path in previews
    )
    reload = f'<meta http-equiv="refresh" content="{RELOAD}">' if running else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">{reload}<title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1><p>{html.escape(status)}</p>{curves}"
        f"<h2>Previews</h2><p>Photos, their labels in stage 2, and their maps.</p>{pictures}</html>\n"
    )


def _curve(name: str, points: Sequence[tuple[float, float]]) -> str:
    points = _thinned([(step, value) for step, value in points if math.isfinite(value)])
    if not points:
        return ""
    steps, values = zip(*points, strict=True)
    low, high = min(values), max(values)
    line = " ".join(
        f"{_place(step, steps[0], steps[-1], WIDTH):.1f},{HEIGHT - _place(value, low, high, HEIGHT):.1f}"
        for step, value in points
    )
    caption = f"<b>{html.escape(name)}</b> {values[-1]:.4g} ({low:.4g} to {high:.4g})"
    return (
        f'<figure><figcaption>{caption}</figcaption><svg width="{WIDTH}" height="{HEIGHT}">'
        f'<polyline points="{line}"/></svg></figure>'
    )


def _place(value: float, low: float, high: float, length: int) -> float:
    return length * (value - low) / (high - low) if high > low else length / 2


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of as many points in a row as leave `POINTS` of them."""
    width = -(-len(points) // POINTS) or 1
    groups = [points[start : start + width] for start in range(0, len(points), width)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]
