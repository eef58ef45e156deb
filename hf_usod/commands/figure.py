"""`hf-usod figure`: pictures to look at, as PNG and PDF."""

import argparse
from pathlib import Path
from typing import Any

from ..errors import CommandError, WrongArgumentsError
from .common import positive
from .outputs import check_file

EPILOG = """
examples:
  hf-usod figure compare --images RGB --maps "ground truth=GT" ours=out rembg=rembg_out --output FILE
  hf-usod figure labels --images RGB --stages initial=labels "rectified=run/labels" --output FILE
  hf-usod figure hard --images RGB --run run --epochs 1 5 10 --output FILE   (of a run with --keep_epochs)
  hf-usod figure extremes --images RGB --masks GT --maps out --scores report/images.csv --output FILE

Writes FILE.png and FILE.pdf; earlier figures are replaced, other files are not.
Photos are chosen evenly over the folder, or by --names (paths without suffix).
"""


def _named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not equals or not folder:
        raise argparse.ArgumentTypeError(f"expected HEADING=DIR, got {text}")
    return name, Path(folder)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "figure",
        help="draw comparisons, labels, hard samples, or the best and worst cases",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(required=True, metavar="FIGURE")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--images", type=Path, required=True, metavar="DIR")
    common.add_argument("--names", nargs="+", help="photos, by their paths without suffix")
    common.add_argument("--most", type=positive, default=6, help="photos (default: %(default)s)")
    common.add_argument("--output", type=Path, required=True, metavar="FILE", help="without suffix")

    figure = kinds.add_parser("compare", parents=[common], help="photos and their maps by several methods")
    figure.add_argument("--maps", type=_named_folder, nargs="+", required=True, metavar="HEADING=DIR")
    figure.set_defaults(draw=_draw_compare)
    figure = kinds.add_parser("labels", parents=[common], help="labels as training rectifies them")
    figure.add_argument("--stages", type=_named_folder, nargs="+", required=True, metavar="HEADING=DIR")
    figure.set_defaults(draw=_draw_labels)
    figure = kinds.add_parser("hard", parents=[common], help="the pixels that PCL-SD leaves out, over the epochs")
    figure.add_argument("--run", dest="run_folder", type=Path, required=True, metavar="DIR", help="of a training")
    figure.add_argument("--epochs", type=int, nargs="+")
    figure.set_defaults(draw=_draw_hard)
    figure = kinds.add_parser("extremes", parents=[common], help="the best and the worst cases of an evaluation")
    figure.add_argument("--masks", type=Path, required=True, metavar="DIR")
    figure.add_argument("--maps", type=Path, required=True, metavar="DIR")
    figure.add_argument("--scores", type=Path, required=True, metavar="FILE.csv", help="images.csv of an evaluation")
    figure.add_argument("--model", help="if the scores are of several")
    figure.add_argument("--by", default="f_weighted", metavar="SCORE", help="(default: %(default)s)")
    figure.set_defaults(draw=_draw_extremes)
    parser.set_defaults(run=run)


def _folders(named: list[tuple[str, Path]], option: str) -> dict[str, Path]:
    """By heading."""
    headings = [heading for heading, _ in named]
    if twice := next((heading for heading in headings if headings.count(heading) > 1), None):
        raise WrongArgumentsError(f"{option}: two folders are called {twice}. Give each a heading of its own.")
    return dict(named)


def _draw_compare(args: argparse.Namespace) -> Any:
    from ..evaluation.figures import compare

    return compare(args.images, _folders(args.maps, "--maps"), args.names, args.most)


def _draw_labels(args: argparse.Namespace) -> Any:
    from ..evaluation.figures import label_evolution

    return label_evolution(args.images, _folders(args.stages, "--stages"), args.names, args.most)


def _draw_hard(args: argparse.Namespace) -> Any:
    """Maps of the epochs that a run kept, at the size of the photos."""
    import numpy as np

    from ..data import by_stem
    from ..evaluation.figures import choose, hard_sample_grid
    from ..files import read_json
    from ..loading import load_pipeline
    from ..models.image_processing_usod import read_image

    files = by_stem(args.images)
    paths = [files[name] for name in choose(files, args.names, args.most, args.images)]
    arguments = read_json(args.run_folder / "arguments.json")
    if not isinstance(arguments, dict) or not isinstance(arguments.get("num_epochs"), int):
        raise CommandError(f"{args.run_folder / 'arguments.json'}: says no num_epochs; is {args.run_folder} a run?")
    folders = {path.parent for path in args.run_folder.glob("epochs/*/*config.json")}
    kept = sorted((int(folder.name), folder) for folder in folders if folder.name.isdigit())
    chosen = {epoch: path for epoch, path in kept if not args.epochs or epoch in args.epochs}
    if not chosen:
        there = ", ".join(str(epoch) for epoch, _ in kept) or "none"
        raise CommandError(f"{args.run_folder}: keeps none of these epochs, but {there}. Train with --keep_epochs.")
    photos = [read_image(path) for path in paths]
    maps = {}
    for epoch, model in chosen.items():
        detect = load_pipeline(str(model))
        maps[epoch] = [np.asarray(detect(photo)["saliency"]) / 255 for photo in photos]
    return hard_sample_grid([np.asarray(photo) for photo in photos], maps, arguments["num_epochs"])


def _score_rows(args: argparse.Namespace) -> list[dict[str, str]]:
    """The rows of images.csv of one model on one data set."""
    import csv

    try:
        with args.scores.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), list(reader.fieldnames or [])
    except (OSError, ValueError, csv.Error) as error:
        raise CommandError(f"--scores {args.scores}: cannot be read ({error}).") from error
    if not {"model", "dataset", "id"} <= set(columns):
        raise CommandError(f"--scores {args.scores}: is no images.csv of `hf-usod evaluate --output DIR`.")
    scores = [name for name in columns if name not in ("model", "dataset", "id")]
    if args.by not in scores:
        raise WrongArgumentsError(f"--by {args.by}: {args.scores} has no such score; it has {', '.join(scores)}.")
    models = ", ".join(sorted({row["model"] for row in rows})) or "none"
    rows = [row for row in rows if args.model in (None, row["model"])]
    rows = [row for row in rows if not args.names or row["id"] in args.names]
    if not rows:
        raise CommandError(f"--scores {args.scores}: has no rows of this --model and --names. Its models: {models}.")
    if len({(row["model"], row["dataset"]) for row in rows}) != 1:
        raise CommandError(f"{args.scores}: has rows of several models or data sets; choose with --model ({models}).")
    return rows


def _draw_extremes(args: argparse.Namespace) -> Any:
    from ..evaluation.figures import extremes

    return extremes(_score_rows(args), args.images, args.masks, args.maps, args.by, args.most)


def run(args: argparse.Namespace) -> int:
    from ..evaluation.curves import figure_files, is_figure, save_figure

    for file in figure_files(args.output):
        check_file(file)
        if file.exists() and not is_figure(file):
            raise CommandError(
                f"--output {args.output}: {file} exists and is no figure of hf-usod. Choose another name."
            )
    try:
        written = save_figure(args.draw(args), args.output)
    except ValueError as error:
        raise CommandError(str(error)) from error
    print(f"{', '.join(map(str, written))}.")
    return 0
