"""Tables of training variants: a recipe (YAML) says what to train and evaluate, and the table is filled.

```yaml
title: Table 7, refinement of pseudo-labels
recipe: ../usod-rgb-lite.yaml         # of `hf-usod train`, relative to this file; optional
arguments: {stage: sd, labels: "{labels}"}           # of `hf-usod train`, for every variant, over the recipe
shared:                               # what variants build on, made once a seed, in this order
  sce: {stage: sce}                   # a training
  labels: label {images} --model {sce}/model --output {here}      # or any command of hf-usod
variants:                             # what each is told besides
  none: {spr: none}
  both: {spr: both}                   # may have `then`: commands to run after its training
seeds: [0, 1]
evaluate:                             # what is scored of every variant, or `only` of some
  - {name: ECSSD-dev, images: "{data}/ECSSD-dev/RGB", masks: "{data}/ECSSD-dev/GT"}       # its model
  - {name: training labels, predictions: "{run}/labels", masks: "{data}/train/GT", only: [both]}
scores: [mae, f_adaptive]
published:
  both: {DUTS-TE: {mae: .047, f_adaptive: .816}}
```

Braces stand for: `{data}` and `{images}` the folders given to the command, `{run}` the variant's run, `{here}` the
folder of a shared step, and the name of a shared step for its folder. A model to score is in `{run}/model`, unless
`model` in `evaluate` says otherwise. What is finished is not repeated, a training that was stopped is resumed, and
scores that are there are kept.
"""

import json
import shlex
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ..errors import TableError
from ..files import write_json, write_text
from .curves import file_name
from .published import PAPER, published_scores, source
from .report import HEADINGS, format_score
from .usod_saliency.saliency_metrics import METRICS

LAST, BEST, LABELS = "last", "best", "labels"
BEST_NOTE = (
    "Best: the epoch with the highest adaptive F on the very images it is scored on, chosen anew for each seed and "
    "data set, so that it flatters; it is what reports of best epochs mean. Last: the epoch that training ends with."
)


@dataclass(frozen=True)
class TableRecipe:
    """A table to fill; see the module for the fields."""

    title: str
    variants: dict[str, dict[str, Any] | str]
    evaluate: list[dict[str, Any]]
    recipe: Path | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    shared: dict[str, dict[str, Any] | str] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0, 1])
    scores: list[str] = field(default_factory=lambda: ["mae", "f_adaptive", "e_adaptive"])
    published: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)


def read_recipe(path: Path) -> TableRecipe:
    """A table recipe from its file.

    Raises:
        TableError: naming the file and what is wrong with it.
    """
    try:
        content = yaml.safe_load(path.read_text())
        if not isinstance(content, dict):
            raise TypeError("expected lines of `field: value`")
        if content.get("recipe"):
            content["recipe"] = (path.parent / content["recipe"]).resolve()
        table = TableRecipe(**content)
    except (OSError, yaml.YAMLError, TypeError) as error:
        raise TableError(f"{path}: {str(error).removeprefix('TableRecipe.__init__() ')}.") from error
    if unknown := [name for name in table.scores if name not in METRICS]:
        raise TableError(f"{path}: there is no score {unknown[0]!r}; there are {', '.join(METRICS)}.")
    for what in table.evaluate:
        if "masks" not in what or "name" not in what or ("images" in what) == ("predictions" in what):
            raise TableError(f"{path}: `evaluate` needs a name, masks, and either images or predictions, got {what}.")
        if unknown := sorted(set(what.get("only", [])) - table.variants.keys()):
            raise TableError(f"{path}: `only` has {unknown[0]!r}, which is no variant.")
    if unknown := sorted(table.published.keys() - table.variants.keys()):
        raise TableError(f"{path}: `published` has {unknown[0]!r}, which is no variant.")
    if table.recipe and not table.recipe.is_file():
        raise TableError(f"{path}: there is no recipe {table.recipe}.")
    return table


@dataclass(frozen=True)
class Run:
    """Something to be made: its name, its folder, and the commands of hf-usod that make it."""

    name: str
    variant: bool  # or a shared step
    seed: int
    folder: Path
    commands: list[list[str]]


def _fill(value: Any, places: Mapping[str, Any]) -> list[str]:
    """The words of a value, its braces filled: one, or all folders for `{images}`."""
    if value == "{images}":
        return list(places["images"])
    if not isinstance(value, str):
        return [str(value)]
    try:
        return [value.format_map(places)]
    except (KeyError, IndexError) as error:
        raise TableError(f"{value!r}: nothing is known of {error}; known are {', '.join(sorted(places))}.") from error


def _training(arguments: Mapping[str, Any], recipe: Path | None, places: Mapping[str, Any]) -> list[str]:
    """Arguments as a command; None is left out."""
    words = ["train", *(["--recipe", str(recipe)] if recipe else [])]
    for name, value in arguments.items():
        if value is not None:
            values = value if isinstance(value, list) else [value]
            words += [f"--{name}", *(word for one in values for word in _fill(one, places))]
    return words


def _command(text: str, places: Mapping[str, Any]) -> list[str]:
    return [filled for word in shlex.split(text) for filled in _fill(word, places)]


def plan_runs(table: TableRecipe, output: Path, images: Sequence[str], data: Path | None) -> list[Run]:
    """All that is to be made for a table, in order: for each seed the shared steps, then the variants."""
    runs = []
    for seed in table.seeds:
        places: dict[str, Any] = {"images": list(images), **({"data": str(data)} if data else {})}
        for name, step in [*table.shared.items(), *table.variants.items()]:
            variant = name in table.variants
            folder = output / "runs" / f"{file_name(name)}-seed{seed}"
            here = {**places, "here": str(folder), "run": str(folder), "seed": seed}
            if isinstance(step, str):
                commands = [_command(step, here)]
            else:
                told = {**({"images": "{images}"} if images else {}), **(table.arguments if variant else {}), **step}
                then = told.pop("then", [])
                told |= {"seed": seed, "output_dir": str(folder)}
                commands = [_training(told, table.recipe, here), *(_command(text, here) for text in then)]
            runs.append(Run(name, variant, seed, folder, commands))
            if not variant:
                places[name] = str(folder)
    return runs


def make(run: Run, launcher: Sequence[str]) -> None:
    """Makes a run, goes on with it, or does nothing if it is finished.

    Raises:
        TableError: if a command fails, or it was made by other commands.
    """
    marker = run.folder.with_name(f"{run.folder.name}.json")
    if marker.exists():
        if json.loads(marker.read_text()) != run.commands:
            raise TableError(f"{run.folder}: was made by other commands ({marker}). Choose another --output.")
        return
    for command in run.commands:
        print(f"\n{run.name}, seed {run.seed}: hf-usod {shlex.join(command)}", flush=True)
        resume = ["--resume", "True"] if command[0] == "train" else []
        if status := subprocess.run([*launcher, *command, *resume]).returncode:
            raise TableError(f"{run.folder}: `{command[0]}` ended with status {status} (above). Call again to go on.")
    write_json(marker, run.commands)


def epoch_models(model: Path) -> list[tuple[str, Path]]:
    """The models of a run by epoch: `last`, and those that `--keep_epochs` kept beside it in `epochs/<epoch>/`."""
    kept = sorted(path.parent for path in model.parent.glob("epochs/*/config.json"))
    return [(LAST, model), *((path.name, path) for path in kept)]


# Scores of a model (its folder) or, for None, of maps that are there, as `what` of a recipe says, its braces filled.
Scorer = Callable[[Path | None, dict[str, Any]], dict[str, float]]


class _Scores:
    """Scores on disk, by variant, seed, epoch and what is scored; a score that is there is not made again."""

    def __init__(self, path: Path):
        self.path = path
        self.found: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, key: Sequence[Any], what: dict[str, Any], make: Callable[[], dict[str, float]]) -> dict[str, float]:
        name = "/".join(map(str, key))
        entry = self.found.get(name)
        if entry is None or entry["what"] != what:
            entry = self.found[name] = {"what": what, "scores": make()}
            write_json(self.path, self.found)
        return entry["scores"]


def _epoch_scores(run: Run, what: dict[str, Any], scores: _Scores, scorer: Scorer) -> dict[str, dict[str, float]]:
    """Scores of a run on one data set: of the `last` epoch, and of the `best` if several were kept."""
    if "predictions" in what:
        return {LABELS: scores.get((run.name, run.seed, LABELS, what["name"]), what, partial(scorer, None, what))}
    by_epoch = {
        epoch: scores.get((run.name, run.seed, epoch, what["name"]), what, partial(scorer, model, what))
        for epoch, model in epoch_models(Path(what.get("model", run.folder / "model")))
    }
    found = {LAST: by_epoch[LAST]}
    if len(by_epoch) > 1:
        found[BEST] = max(by_epoch.values(), key=lambda one: one["f_adaptive"])
    return found


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
    """
    scores = _Scores(output / "scores.json")
    gathered: dict[tuple[str, str, str], dict[int, dict[str, float]]] = {}
    for run in plan_runs(table, output, images, data):
        make(run, launcher)
        if not run.variant:
            continue
        places = {"run": str(run.folder), **({"data": str(data)} if data else {})}
        for what in table.evaluate:
            if run.name not in what.get("only", [run.name]):
                continue
            filled = {name: _fill(value, places)[0] for name, value in what.items() if name != "only"}
            for epoch, found in _epoch_scores(run, filled, scores, scorer).items():
                gathered.setdefault((what["name"], run.name, epoch), {})[run.seed] = found
    order = [what["name"] for what in table.evaluate]
    cells = []
    for dataset, variant, epoch in sorted(gathered, key=lambda key: order.index(key[0])):
        by_seed = gathered[dataset, variant, epoch]
        cell: dict[str, Any] = {"dataset": dataset, "variant": variant, "epoch": epoch, "seeds": sorted(by_seed)}
        for name in METRICS:
            values = [found[name] for found in by_seed.values()]
            spread = statistics.stdev(values) if len(values) > 1 else None
            cell[name] = {"mean": statistics.mean(values), "spread": spread}
        cells.append(cell)
    write_json(output / "cells.json", cells)
    return cells


def _cell_text(cell: dict[str, float | None]) -> str:
    mean, spread = format_score(cell["mean"]), cell["spread"]
    return mean if spread is None else f"{mean} ± {format_score(spread)}"


def _rows(table: TableRecipe, cells: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    for cell in cells:
        values = [_cell_text(cell[name]) for name in table.scores]
        yield [cell["dataset"], cell["variant"], cell["epoch"], str(len(cell["seeds"])), *values]
    for dataset in dict.fromkeys(what["name"] for what in table.evaluate):
        if paper := published_scores(dataset):
            values = [format_score(paper._asdict().get(name)) for name in table.scores]
            yield [dataset, PAPER, "the paper's", "", *values]
    for dataset in dict.fromkeys(name for rows in table.published.values() for name in rows):
        for variant, rows in table.published.items():
            if scores := rows.get(dataset):
                values = [format_score(scores.get(name)) for name in table.scores]
                yield [dataset, variant, "the paper's", "", *values]


def missing_sets(table: TableRecipe, data: Path | None) -> list[dict[str, Any]]:
    """What a table would be evaluated on, were its ground truth at hand."""
    places = {"data": str(data)} if data else {}
    return [what for what in table.evaluate if not Path(_fill(what["masks"], places)[0]).is_dir()]


def without(table: TableRecipe, missing: Sequence[dict[str, Any]]) -> TableRecipe:
    """The table without those data sets.

    Raises:
        TableError: if that leaves none.
    """
    rest = [what for what in table.evaluate if what not in missing]
    if not rest:
        raise TableError("None of the data sets that the table is evaluated on is at hand (above). Is --data right?")
    return replace(table, evaluate=rest)


def describe_missing(missing: Sequence[dict[str, Any]]) -> str:
    """One line a data set: what is not there, and where it can be had."""
    return "\n".join(f"not at hand: {what['name']} ({what['masks']}); {source(what['name'])}" for what in missing)


def table_markdown(table: TableRecipe, cells: Sequence[dict[str, Any]]) -> str:
    """The table with its title, the paper's rows under ours, and what the numbers are."""
    head = ["data set", "variant", "epoch", "seeds", *(HEADINGS[name] for name in table.scores)]
    rule = ["---"] * 3 + ["---:"] * (len(head) - 3)
    lines = ["| " + " | ".join(row) + " |" for row in [head, rule, *_rows(table, cells)]]
    notes = ["Mean ± standard deviation over seeds. F and E without another word: adaptive threshold, beta² = 0.3."]
    if any(cell["epoch"] == BEST for cell in cells):
        notes.append(BEST_NOTE)
    return "\n".join([f"**{table.title}**", "", *lines, "", " ".join(notes)]) + "\n"


def table_latex(table: TableRecipe, cells: Sequence[dict[str, Any]]) -> str:
    """The rows for LaTeX with the booktabs package."""
    head = ["data set", "variant", "epoch", "seeds", *(HEADINGS[name] for name in table.scores)]
    symbols = {"±": r"$\pm$", "↓": r"$\downarrow$", "_": r"\_", "&": r"\&", "%": r"\%"}

    def line(row: Sequence[str]) -> str:
        return " & ".join("".join(symbols.get(character, character) for character in cell) for cell in row) + r" \\"

    columns = "lll" + "r" * (len(head) - 3)
    body = [line(row) for row in _rows(table, cells)]
    frame = [f"\\begin{{tabular}}{{{columns}}}", r"\toprule", line(head), r"\midrule", *body]
    return "\n".join([*frame, r"\bottomrule", r"\end{tabular}"]) + "\n"


def write_table(table: TableRecipe, cells: Sequence[dict[str, Any]], output: Path) -> None:
    """Writes table.md and table.tex."""
    write_text(output / "table.md", table_markdown(table, cells))
    write_text(output / "table.tex", table_latex(table, cells))
