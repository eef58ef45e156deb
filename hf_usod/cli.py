"""The command `hf-usod`; its subcommands are the modules of `hf_usod.commands`."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from .commands import adapt, convert, evaluate, export, figure, label, predict, publish, report, table, train, workbench
from .constants import VERSION
from .errors import Stopped, UsodError, WrongArgumentsError

COMMANDS = (predict, adapt, workbench, label, train, report, evaluate, convert, export, publish, table, figure)
EPILOG = """exit status:
  0 done, 1 something failed (it says what), 2 wrong arguments, 130 stopped by Ctrl-C; 143 a training that was
  stopped by SIGTERM and has saved where it stands (--resume)

`hf-usod COMMAND --help` shows the options of a command; --batch-size is as good as --batch_size.
"""


class Parser(argparse.ArgumentParser):
    """Takes options with dashes for those with underscores, and the other way round, and refuses an empty value, which
    a shell makes of a variable that is not set: as a path it would be the working folder. Subparsers are of this class.
    """

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args([self._as_defined(word) for word in words], namespace)

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if "" in arg_strings and action.default != "":
            raise argparse.ArgumentError(action, "got an empty value; give one, or leave the option out")
        return super()._get_values(action, arg_strings)  # type: ignore[misc]

    def _as_defined(self, word: str) -> str:
        name, equals, value = word.partition("=")
        if not name.startswith("--"):
            return word
        spellings = (name, "--" + name[2:].replace("-", "_"), "--" + name[2:].replace("_", "-"))
        known = next((spelling for spelling in spellings if spelling in self._option_string_actions), name)
        return f"{known}{equals}{value}"


def parser() -> argparse.ArgumentParser:
    """The parser of all commands. It loads neither torch nor transformers."""
    top = Parser(
        prog="hf-usod",
        description="Salient object detection without labels.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"hf-usod {VERSION}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status (see `EPILOG`)."""

    def run() -> int:
        args = parser().parse_args(argv)
        return args.run(args)

    return exit_status("hf-usod", run)


def exit_status(name: str, run: Callable[[], int | None]) -> int:
    """Runs a program; returns its exit status (see `EPILOG`): what `run` returns, 0 for None.

    A user's mistake and Ctrl-C end in one line that begins with the program's name.
    """
    for stream in (sys.stdout, sys.stderr):  # which may know fewer letters than names and tables have
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = run() or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # what reads has seen enough, such as `head`; Python would complain once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (UsodError, OSError, ModuleNotFoundError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2 if isinstance(error, WrongArgumentsError) else 1
    except KeyboardInterrupt as stopped:
        message = str(stopped) or "stopped. What was finished is kept, and nothing is half written."
        print(f"{name}: {message}", file=sys.stderr)
        return stopped.status if isinstance(stopped, Stopped) else 130


if __name__ == "__main__":
    sys.exit(main())
