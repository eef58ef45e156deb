"""Fills a table of the paper: `python scripts/tables.py scripts/recipes/tables/7.yaml --images PHOTOS --data SETS
--output DIR`.

Trains the variants of the recipe, evaluates them, and writes DIR/table.md, table.tex and cells.json. Call it again to
go on with what was stopped. `--set size=160 sd.num_epochs=2` overrides training arguments (a reduced setting), for all
trainings or those of a stage.
"""

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Any

from hf_usod.errors import CommandError
from hf_usod.evaluation import folder_samples, map_samples, score_maps
from hf_usod.evaluation.label_stores import store_predictions
from hf_usod.evaluation.predicting import predict_maps
from hf_usod.evaluation.tables import (
    TableError,
    TableRecipe,
    describe_missing,
    fill_table,
    missing_sets,
    read_recipe,
    table_markdown,
    without,
    write_table,
)
from hf_usod.loading import load_pipeline

HF_USOD = [sys.executable, "-m", "hf_usod.cli"]


def score(model: Path | None, what: dict[str, Any]) -> dict[str, float]:
    """Scores of a model folder on images, or of pseudo-labels (a folder of maps, or a label store), against masks."""
    masks = Path(what["masks"])
    if model is None:
        folder = Path(what["predictions"])
        pairs = (
            store_predictions(folder, masks) if (folder / "index.json").exists() else map_samples(folder, masks, True)
        )
        return score_maps(*pairs, label=what["name"]).results()
    adapter = str(model) if (model / "adapter_config.json").exists() else None
    detect = load_pipeline(None if adapter else str(model), adapter)
    aux = Path(what["aux"]) if what.get("aux") else None
    samples = folder_samples(Path(what["images"]), masks, aux)
    maps = predict_maps(detect.model, detect.image_processor, samples)
    return score_maps(samples, maps, label=f"{model.parent.name} on {what['name']}").results()


def override(table: TableRecipe, settings: list[str], seeds: list[int] | None) -> TableRecipe:
    """A recipe with arguments replaced in its trainings: `name=value` in all, `stage.name=value` in a stage's."""
    changed: list[tuple[str, str, Any]] = []
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise TableError(f"--set {setting}: expected name=value.")
        stage, _, name = name.rpartition(".")
        changed.append((stage, name, value.split(",") if "," in value else value))

    def told(step: Any, common: dict[str, Any]) -> Any:
        if isinstance(step, str):
            return step
        stage = {**common, **step}.get("stage", "all")
        return {**step, **{name: value for only, name, value in changed if only in ("", stage)}}

    return dataclasses.replace(
        table,
        shared={name: told(step, {}) for name, step in table.shared.items()},
        variants={name: told(step, table.arguments) for name, step in table.variants.items()},
        seeds=seeds or table.seeds,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, help="a recipe of scripts/recipes/tables")
    parser.add_argument("--images", nargs="*", default=[], help="folders of unlabelled images to train on")
    parser.add_argument("--data", type=Path, help="what {data} stands for in the recipe")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the recipe's")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="training arguments, for all runs")
    parser.add_argument("--launcher", type=shlex.split, default=HF_USOD, help="what runs (default: hf-usod)")
    args = parser.parse_args()
    try:
        table = override(read_recipe(args.table), args.set, args.seeds)
        if missing := missing_sets(table, args.data):
            print(describe_missing(missing), file=sys.stderr)
            table = without(table, missing)
        cells = fill_table(table, args.output, args.images, args.data, args.launcher, score)
    except (TableError, CommandError, OSError, ValueError) as error:
        print(f"tables: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tables: stopped; call again to go on.", file=sys.stderr)
        return 130
    write_table(table, cells, args.output)
    print(f"\n{table_markdown(table, cells)}\nWritten to {args.output}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
