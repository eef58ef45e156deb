"""`hf-usod report`: a training as a page to look at."""

import argparse
from pathlib import Path

from ..errors import CommandError
from .common import positive, without_loading_bars
from .outputs import check_page

EPILOG = """
example:
  hf-usod report run        writes run/report.html

The page opens in any browser, offline: maps before and after with a slider, labels and what became of them, curves.
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "report",
        help="show what a training made: maps before and after, labels, curves",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="what was the training's --output_dir")
    parser.add_argument("--output", type=Path, metavar="FILE.html", help="(default: RUN/report.html)")
    parser.add_argument("--most", type=positive, default=40, help="photos on it (default: %(default)s)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps … (default: the fastest there is)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if not args.run_folder.is_dir():
        raise CommandError(f"{args.run_folder}: no such folder. Give the --output_dir of a training.")
    page = args.output or args.run_folder / "report.html"
    check_page(page)

    from ..html import write_page
    from ..reports import run_page

    without_loading_bars()
    try:
        write_page(run_page(args.run_folder, args.most, args.device), page)
    except ValueError as error:
        raise CommandError(str(error)) from error
    print(f"Written to {page}.")
    return 0
