"""`hf-usod predict`: the salient objects of photos, as PNGs."""

import argparse
import sys

from .common import CommandError, load_pipeline, model_options, positive, unit_interval


def add_parser(commands) -> None:
    parser = commands.add_parser("predict", parents=[model_options()], help="find the salient objects of photos")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="photos, folders of photos, or quoted glob patterns")
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder for the results; keeps the folder structure"
    )
    parser.add_argument(
        "--save",
        nargs="+",
        default=["saliency"],
        choices=["saliency", "mask", "cutout", "overlay"],
        help="one gives <stem>.png, several give <stem>_<kind>.png (default: saliency)",
    )
    parser.add_argument("--threshold", type=unit_interval, default=0.5, help="of the mask (default: %(default)s)")
    parser.add_argument("--batch_size", type=positive, default=4, help="photos at a time (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from PIL import Image

    from ..inference import predict

    Image.MAX_IMAGE_PIXELS = None  # the user's own files, however large
    detect = load_pipeline(args.model, args.device)
    try:
        report = predict(
            detect,
            args.inputs,
            args.output,
            args.save,
            threshold=args.threshold,
            batch_size=args.batch_size,
            overwrite=args.overwrite,
        )
    except (FileNotFoundError, ValueError) as error:
        raise CommandError(str(error)) from error
    print(f"{report.done} photos done, in {args.output}.")
    if report.kept:
        print(f"{len(report.kept)} outputs existed and were kept; --overwrite replaces them.")
    for problem in report.failed.values():
        print(problem, file=sys.stderr)
    if report.failed:
        print(f"{len(report.failed)} photos failed (above).", file=sys.stderr)
    return 1 if report.failed else 0
