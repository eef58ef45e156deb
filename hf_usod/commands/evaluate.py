"""`hf-usod evaluate`: scores on images with ground truth."""

import argparse
import json
from pathlib import Path

from .common import load_pipeline, model_options


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "evaluate", parents=[model_options()], help="score a model on images with ground truth"
    )
    parser.add_argument("--images", required=True, type=Path, metavar="DIR")
    parser.add_argument("--masks", required=True, type=Path, metavar="DIR", help="ground truth, by the images' stems")
    parser.add_argument("--name", help="of the dataset, for the report (default: the folder that --images lies in)")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="where to write the scores as well")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..evaluation import evaluate_model
    from ..files import write_aside

    detect = load_pipeline(args.model, args.device)
    scores = evaluate_model(detect.model, detect.image_processor, args.images, args.masks)
    report = {"model": args.model, "dataset": args.name or args.images.resolve().parent.name, **scores}
    text = json.dumps(report, indent=2)
    print(text)
    if args.output:
        write_aside(args.output, lambda path: path.write_text(text + "\n"))
    return 0
