"""The command `hf-usod`; its subcommands are the modules of `hf_usod.commands`."""

import argparse
import sys
from collections.abc import Sequence

from .commands import convert, evaluate, figure, label, predict, publish, table, train
from .errors import UsodError

COMMANDS = (predict, label, train, evaluate, convert, publish, table, figure)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hf-usod", description="Salient object detection without labels.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    try:
        args = _parser().parse_args(argv)
        return args.run(args)
    except (UsodError, OSError, ModuleNotFoundError) as error:
        print(f"hf-usod: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:
        print(f"hf-usod: {stopped or 'stopped'}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
