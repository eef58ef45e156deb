"""Draws figures, as FILE.png and FILE.pdf:

    python scripts/figures.py compare --images RGB --maps "ground truth=GT" ours=out rembg=rembg_out --output FILE
    python scripts/figures.py labels --images RGB --stages initial=labels "rectified=run/labels" --output FILE
    python scripts/figures.py hard --images RGB --run run --epochs 1 5 10 --output FILE   (made with --keep_epochs)
    python scripts/figures.py extremes --images RGB --masks GT --maps out --scores report/images.csv --output FILE

Photos are chosen evenly over the folder, or by --names (paths without suffix).
"""

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hf_usod.data import by_stem, list_images
from hf_usod.errors import CommandError
from hf_usod.evaluation.curves import save_figure
from hf_usod.evaluation.figures import compare, extremes, hard_sample_grid, label_evolution
from hf_usod.labels import LabelError
from hf_usod.loading import load_pipeline
from hf_usod.models.image_processing_usod import read_image


def named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected heading=folder, got {text}")
    return name, Path(folder)


def draw_compare(args: argparse.Namespace) -> Any:
    return compare(args.images, dict(args.maps), args.names, args.most)


def draw_labels(args: argparse.Namespace) -> Any:
    return label_evolution(args.images, dict(args.stages), args.names, args.most)


def draw_hard(args: argparse.Namespace) -> Any:
    """Maps of the epochs that a run kept, at the size of the photos."""
    paths = list(by_stem(args.images).values())
    if args.names:
        paths = [by_stem(args.images)[name] for name in args.names]
    paths = paths[:: max(1, len(paths) // args.most)][: args.most]
    told = json.loads((args.run / "arguments.json").read_text())
    kept = sorted((int(path.parent.name), path.parent) for path in args.run.glob("epochs/*/config.json"))
    chosen = {epoch: path for epoch, path in kept if not args.epochs or epoch in args.epochs}
    if not chosen:
        raise CommandError(f"{args.run}: keeps none of these epochs. Train with --keep_epochs.")
    photos = [read_image(path) for path in paths]
    maps = {}
    for epoch, model in chosen.items():
        detect = load_pipeline(str(model))
        maps[epoch] = [np.asarray(detect(photo)["saliency"]) / 255 for photo in photos]
    return hard_sample_grid([np.asarray(photo) for photo in photos], maps, int(told["num_epochs"]))


def draw_extremes(args: argparse.Namespace) -> Any:
    with args.scores.open() as file:
        rows = [row for row in csv.DictReader(file) if args.model in (None, row["model"])]
    if len({(row["model"], row["dataset"]) for row in rows}) != 1:
        models = ", ".join(sorted({row["model"] for row in rows})) or "none"
        raise CommandError(f"{args.scores}: has rows of several models or data sets; choose with --model ({models}).")
    return extremes(rows, args.images, args.masks, args.maps, args.by, args.most)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True, metavar="FIGURE")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--images", type=Path, required=True)
    common.add_argument("--names", nargs="+", help="photos, by their paths without suffix")
    common.add_argument("--most", type=int, default=6, help="photos (default: %(default)s)")
    common.add_argument("--output", type=Path, required=True, metavar="FILE", help="without suffix")

    figure = kinds.add_parser("compare", parents=[common], help="photos and their maps by several methods")
    figure.add_argument("--maps", type=named_folder, nargs="+", required=True, metavar="HEADING=DIR")
    figure.set_defaults(draw=draw_compare)
    figure = kinds.add_parser("labels", parents=[common], help="labels as training rectifies them")
    figure.add_argument("--stages", type=named_folder, nargs="+", required=True, metavar="HEADING=DIR")
    figure.set_defaults(draw=draw_labels)
    figure = kinds.add_parser("hard", parents=[common], help="the pixels that PCL-SD leaves out, over the epochs")
    figure.add_argument("--run", type=Path, required=True)
    figure.add_argument("--epochs", type=int, nargs="+")
    figure.set_defaults(draw=draw_hard)
    figure = kinds.add_parser("extremes", parents=[common], help="the best and the worst cases of an evaluation")
    figure.add_argument("--masks", type=Path, required=True)
    figure.add_argument("--maps", type=Path, required=True)
    figure.add_argument("--scores", type=Path, required=True, help="images.csv of `hf-usod evaluate`")
    figure.add_argument("--model", help="if the scores are of several")
    figure.add_argument("--by", default="f_weighted", help="score (default: %(default)s)")
    figure.set_defaults(draw=draw_extremes)

    args = parser.parse_args()
    try:
        list_images(args.images)
        written = save_figure(args.draw(args), args.output)
    except (CommandError, LabelError, OSError, ValueError, KeyError, ModuleNotFoundError) as error:
        print(f"figures: {error}", file=sys.stderr)
        return 1
    print(f"{', '.join(map(str, written))}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
