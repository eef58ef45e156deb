"""What several commands share."""

import argparse
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..constants import DEFAULT_MODEL
from ..errors import CommandError


def model_options() -> argparse.ArgumentParser:
    """A parent parser with the options that choose a model and where it runs."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--model",
        help=f"an embedded model, a folder or a Hub id (default: the adapter's base, else {DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--adapter", help="an embedded adapter, a folder or a Hub id, of a model of another kind of images"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps … (default: the fastest there is)")
    return parser


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def not_negative(text: str) -> int:
    if (number := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {text}")
    return number


def unit_interval(text: str) -> float:
    if not 0 <= (number := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"must be in [0, 1], got {text}")
    return number


def percentage(text: str) -> int:
    if not 1 <= (number := int(text)) <= 100:
        raise argparse.ArgumentTypeError(f"must be from 1 to 100, got {text}")
    return number


TILES_HELP = (
    "look at square windows of so many pixels of the photo too, for objects that are small in it; auto: of a quarter "
    "of its longer side, and 240 at least, where maps fit the photo better for it; none (default)"
)


def tiles(text: str) -> int | str | None:
    if text in ("auto", "none"):
        return None if text == "none" else text
    try:
        return positive(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number of pixels, auto or none, got {text!r}") from None


def check_aux_source(args: argparse.Namespace) -> None:
    """
    Raises:
        CommandError: for maps both given (`--aux`) and computed (`--task video`).
    """
    if args.aux and args.task:
        raise CommandError(
            "--task video computes the maps of frames; leave out --aux, or --task to use those in --aux."
        )


def process_place() -> tuple[int, int]:
    """This process's place among those that `accelerate launch` or `torchrun` started, and their number.

    Raises:
        CommandError: if the environment does not tell: photos would be left out, or done by several.
    """
    place, count = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    known = count == "1" or "RANK" in os.environ
    if not (known and place.isdecimal() and count.isdecimal() and int(place) < int(count)):
        raise CommandError(
            f"RANK={os.environ.get('RANK', '')} and WORLD_SIZE={os.environ.get('WORLD_SIZE', '')} in the environment "
            "are no place among several processes. Start them with `accelerate launch`, or unset both."
        )
    return int(place), int(count)


@contextmanager
def importing() -> Iterator[None]:
    """For imports of large libraries: garbage is not looked for meanwhile, nor later in what they made and keep, which
    would take a quarter of the time until the first photo is done."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def without_loading_bars() -> None:
    """Weights are loaded in an instant: a bar of a command is that of its work. For the whole process."""
    from transformers.utils import logging

    logging.disable_progress_bar()
