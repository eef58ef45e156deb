"""`hf-usod workbench`: the page in a browser with which a folder of images becomes an adapter."""

import argparse
from pathlib import Path

from ..errors import WrongArgumentsError
from .common import importing, positive, without_loading_bars
from .outputs import check_folder

EPILOG = """
example:
  hf-usod workbench my_images

It opens a page on this machine (127.0.0.1): choose a folder, see what the default model makes of it, train, review
labels by clicks, compare, and use or download the adapter. It is `hf-usod adapt` with a page, and the same folder.
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "workbench",
        help="the same as adapt, on a page in the browser",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", nargs="?", type=Path, metavar="FOLDER", help="a folder of images to begin with")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for what is made (default: beside FOLDER)")
    parser.add_argument("--port", type=positive, metavar="N", help="(default: the first free one from 7860 on)")
    parser.add_argument("--no_browser", action="store_true", help="do not open the page")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..extras import require

    if args.output and not args.images:
        raise WrongArgumentsError("--output has no meaning without FOLDER. Give the folder of images, too.")
    if args.output:
        check_folder(args.output)
    require("gradio", "demo", "The workbench")

    with importing():
        from ..models.reading_usod import lift_limits
        from ..workbench.actions import begin
        from ..workbench.app import serve

    lift_limits()
    without_loading_bars()
    if args.images:
        begin(str(args.images), args.output and str(args.output))
    serve(args.port, not args.no_browser)
    return 0
