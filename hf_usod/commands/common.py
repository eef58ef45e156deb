"""What several commands share."""

import argparse
import gc
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..constants import DEFAULT_MODEL
from ..errors import CommandError, DataError, WrongArgumentsError


@contextmanager
def checking_arguments() -> Iterator[None]:
    """What is found wrong in here is an argument, see `WrongArgumentsError`."""
    try:
        yield
    except (CommandError, DataError) as error:
        raise WrongArgumentsError(str(error)) from error


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


def _number(text: str, read: Callable[[str], float], fits: Callable[[float], bool], expected: str) -> float:
    try:
        if fits(number := read(text)):
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"must be {expected}, got {text}")


def positive(text: str) -> int:
    return int(_number(text, int, lambda number: number >= 1, "a whole number of at least 1"))


def not_negative(text: str) -> int:
    return int(_number(text, int, lambda number: number >= 0, "a whole number, not negative"))


def unit_interval(text: str) -> float:
    return _number(text, float, lambda number: 0 <= number <= 1, "a number in [0, 1], such as 0.5")


def percentage(text: str) -> int:
    return int(_number(text, int, lambda number: 1 <= number <= 100, "a whole number from 1 to 100"))


def margin(text: str) -> int:
    return int(_number(text, int, lambda number: 0 <= number <= 100, "a whole number from 0 to 100, in percent"))


def parts(text: str, form: str) -> list[str]:
    """What stands in a text for each word of a form such as NAME=IMAGES:MASKS[:AUX]; what is in brackets may be
    missing."""
    pattern = re.sub("[A-Z]+", "(.+?)", form.replace("[", "(?:").replace("]", ")?"))
    found = re.fullmatch(pattern, text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text}: expected {form}")
    return [part for part in found.groups() if part]


TILES_HELP = (
    "look at square windows of so many pixels of the photo too, for objects that are small in it; auto: of a quarter "
    "of its longer side, and 240 at least, where maps fit the photo better for it; none (default)"
)


def tiles(text: str) -> int | str | None:
    if text in ("auto", "none"):
        return None if text == "none" else text
    try:
        return positive(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"must be a number of pixels, auto or none, got {text}") from None


def check_aux_source(args: argparse.Namespace) -> None:
    """
    Raises:
        WrongArgumentsError: for maps both given (`--aux`) and computed (`--task video`).
    """
    if args.aux and args.task:
        raise WrongArgumentsError(
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
