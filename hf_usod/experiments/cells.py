"""The cells of a table: scores of all that was made for it, kept on the disk, over seeds."""

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..evaluation.usod_saliency.saliency_metrics import METRICS
from ..files import read_json, write_json
from .recipes import TableRecipe, fill
from .runs import LAST, Run, epoch_models, make, plan_runs

BEST, LABELS = "best", "labels"

# Scores of a model (its folder) or, for None, of maps that are there, as a `spec` of the recipe says, braces filled.
Scorer = Callable[[Path | None, dict[str, Any]], dict[str, float]]


class _Scores:
    """Scores on disk, by variant, seed, epoch and what is scored; a score that is there is not made again."""

    def __init__(self, path: Path):
        self.path = path
        self.entries: dict[str, dict[str, Any]] = read_json(path) if path.exists() else {}

    def get(self, key: Sequence[Any], spec: dict[str, Any], make: Callable[[], dict[str, float]]) -> dict[str, float]:
        name = "/".join(map(str, key))
        entry = self.entries.get(name)
        if entry is None or entry["what"] != spec:
            entry = self.entries[name] = {"what": spec, "scores": make()}
            write_json(self.path, self.entries)
        return entry["scores"]


def _epoch_scores(run: Run, spec: dict[str, Any], scores: _Scores, scorer: Scorer) -> dict[str, dict[str, float]]:
    """Scores of a run on one data set: of the `last` epoch, and of the `best` if several were kept."""
    if "predictions" in spec:
        return {LABELS: scores.get((run.name, run.seed, LABELS, spec["name"]), spec, partial(scorer, None, spec))}
    by_epoch = {
        epoch: scores.get((run.name, run.seed, epoch, spec["name"]), spec, partial(scorer, model, spec))
        for epoch, model in epoch_models(Path(spec.get("model", run.folder / "model")))
    }
    chosen = {LAST: by_epoch[LAST]}
    if len(by_epoch) > 1:
        chosen[BEST] = max(by_epoch.values(), key=lambda values: values["f_adaptive"])
    return chosen


def _cell(dataset: str, variant: str, epoch: str, by_seed: dict[int, dict[str, float]]) -> dict[str, Any]:
    cell: dict[str, Any] = {"dataset": dataset, "variant": variant, "epoch": epoch, "seeds": sorted(by_seed)}
    for key in METRICS:
        values = [scores[key] for scores in by_seed.values()]
        spread = statistics.stdev(values) if len(values) > 1 else None
        cell[key] = {"mean": statistics.mean(values), "spread": spread}
    return cell


def fill_table(
    table: TableRecipe,
    output: Path,
    images: Sequence[str],
    data: Path | None,
    launcher: Sequence[str],
    scorer: Scorer,
) -> list[dict[str, Any]]:
    """Trains and scores all that a table needs; returns its cells, also written to `<output>/cells.json`.

    A cell has `variant`, `dataset`, `epoch` (`last`, `best` or `labels`), `seeds` and, by score, `mean` and `spread`
    (the standard deviation over seeds, None for one seed).

    Raises:
        TableError: with what to do about it.
        DataError: naming a file of the output that is damaged.
    """
    scores = _Scores(output / "scores.json")
    gathered: dict[tuple[str, str, str], dict[int, dict[str, float]]] = {}
    for run in plan_runs(table, output, images, data):
        make(run, launcher)
        if not run.variant:
            continue
        places = {"run": str(run.folder), **({"data": str(data)} if data else {})}
        for spec in table.evaluate:
            if run.name not in spec.get("only", [run.name]):
                continue
            filled = {name: fill(value, places)[0] for name, value in spec.items() if name != "only"}
            for epoch, values in _epoch_scores(run, filled, scores, scorer).items():
                gathered.setdefault((spec["name"], run.name, epoch), {})[run.seed] = values
    order = [spec["name"] for spec in table.evaluate]
    cells = [_cell(*key, gathered[key]) for key in sorted(gathered, key=lambda key: order.index(key[0]))]
    write_json(output / "cells.json", cells)
    return cells
