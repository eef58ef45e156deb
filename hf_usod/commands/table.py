"""`hf-usod table`: fills a table of the paper."""

import argparse
import logging
import shlex
import sys
from pathlib import Path

from ..errors import CommandError, WrongArgumentsError
from .outputs import check_folder

HF_USOD = (sys.executable, "-m", "hf_usod.cli")
EPILOG = """
example:
  hf-usod table tables/7 --images PHOTOS --data DATASETS --output DIR

Trains the variants of the recipe, evaluates them, and writes DIR/table.md, table.tex and cells.json. Call it again to
go on with what was stopped.
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "table",
        help="train and score the variants of a table of the paper",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("table", metavar="RECIPE", help="a file, or one of the package: tables/1 … tables/8")
    parser.add_argument("--images", nargs="*", default=[], metavar="DIR", help="unlabeled images to train on")
    parser.add_argument("--data", type=Path, metavar="DIR", help="what {data} stands for in the recipe")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the recipe's")
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help="training arguments: `size=160` for all trainings, `sd.num_epochs=2` for those of a stage",
    )
    parser.add_argument(
        "--launcher", type=shlex.split, default=HF_USOD, metavar="COMMAND", help="what runs (default: hf-usod)"
    )
    parser.set_defaults(run=run)


def _check(args: argparse.Namespace) -> None:
    for folder in [*args.images, *([args.data] if args.data else [])]:
        if not Path(folder).is_dir():
            raise CommandError(f"{folder}: no such folder. Give --images and --data folders.")
    if not args.launcher:
        raise WrongArgumentsError("--launcher: is empty; expected a command.")
    check_folder(args.output)


def _show_progress() -> None:
    """Has the commands shown that are run."""
    logger = logging.getLogger("hf_usod.experiments")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("\n%(message)s"))
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO)


def run(args: argparse.Namespace) -> int:
    _check(args)

    from ..assets import recipe_path
    from ..experiments import describe_missing, fill_table, missing_sets, override, read_recipe, score, without
    from ..experiments.rendering import table_markdown, write_table

    _show_progress()
    table = override(read_recipe(recipe_path(args.table)), args.set, args.seeds)
    if missing := missing_sets(table, args.data):
        print(describe_missing(missing), file=sys.stderr)
        table = without(table, missing)
    cells = fill_table(table, args.output, args.images, args.data, args.launcher, score)
    write_table(table, cells, args.output)
    print(f"\n{table_markdown(table, cells)}\nWritten to {args.output}.")
    return 0
