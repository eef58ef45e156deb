"""`hf-usod export`: a model as ONNX, to be run without PyTorch."""

import argparse
from pathlib import Path

from ..errors import CommandError, WrongArgumentsError
from .outputs import check_folder

MAX_PHOTOS = 64  # that an export looks at


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("export", help="write a model as ONNX, to be run without PyTorch")
    parser.add_argument("model", metavar="MODEL", help="an embedded model or adapter, a folder or a Hub id")
    parser.add_argument("--output", required=True, metavar="DIR")
    parser.add_argument("--adapter", help="an embedded adapter, a folder or a Hub id; it becomes part of the model")
    parser.add_argument(
        "--dtype", choices=["fp32", "fp16"], default="fp32", help="fp16 halves the file (default: %(default)s)"
    )
    parser.add_argument("--quantize", choices=["int8"], help="convolutions in 8-bit integers: small, fast, less exact")
    parser.add_argument(
        "--images",
        metavar="DIR",
        help=f"photos (up to {MAX_PHOTOS}) to check it with, and to calibrate int8 (default: the package's examples)",
    )
    parser.add_argument("--aux", action="store_true", help="with an input for the auxiliary maps of a detector")
    parser.add_argument(
        "--dynamic_size", action="store_true", help="images of any sides that 32 divides; takes longer to export"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.quantize and args.dtype == "fp16":
        raise WrongArgumentsError("--quantize int8 and --dtype fp16 are two ways to a smaller file; give one of them.")
    output = Path(args.output)
    check_folder(output)
    if output.exists():
        raise CommandError(f"{output}: exists. Choose another --output.")

    from ..assets import EXAMPLES
    from ..data import evenly_spread, list_images
    from ..export.exporting import Origin, export_model, require_exporter
    from ..loading import load
    from ..models.reading_usod import read_image
    from .common import without_loading_bars

    require_exporter()
    without_loading_bars()
    try:
        photos = [read_image(path) for path in evenly_spread(list_images(args.images or EXAMPLES), MAX_PHOTOS)]
    except ValueError as error:
        raise CommandError(f"{error}. Repair or remove it, or give other --images.") from error
    model, processor = load(args.model, args.adapter, runtime="torch")
    print(f"Exporting {args.model} …", flush=True)
    found = export_model(
        model,
        processor,
        output,
        photos,
        precision=args.quantize or args.dtype,
        takes_aux=args.aux,
        dynamic_size=args.dynamic_size,
        origin=Origin(args.model, args.adapter),
    )
    megabytes = sum(path.stat().st_size for path in output.iterdir()) / 2**20
    print(f"{output}: {megabytes:.1f} MiB. Saliency maps of photos differ from PyTorch's by {found}.")
    return 0
