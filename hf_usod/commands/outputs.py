"""Whether an output can be written, asked before anything is computed for it."""

from pathlib import Path

from ..errors import CommandError, DataError


def check_folder(path: Path) -> None:
    """Checks that files can be written to the folder `--output`, which need not exist; makes nothing.

    Raises:
        CommandError: why not.
    """
    _check_place(path, f"--output {path}")


def _check_place(folder: Path, argument: str) -> None:
    from ..files import why_unwritable

    if reason := why_unwritable(folder):
        raise CommandError(f"{argument}: {reason}. Choose another place.")


def check_file(path: Path, option: str = "--output") -> None:
    """Checks that a file can be written; makes nothing.

    Raises:
        CommandError: naming the option, and why not.
    """
    if path.is_dir():
        raise CommandError(f"{option} {path}: is a folder; a file is expected. Choose another name.")
    _check_place(path.parent, f"{option} {path}")


def check_page(path: Path, option: str = "--output") -> None:
    """`check_file` of a page, which takes the place of an earlier page, and of no other file.

    Raises:
        CommandError: naming the option, and why not.
    """
    check_file(path, option)
    if path.is_file() and path.stat().st_size:
        with open(path, "rb") as file:
            if b'<meta name="generator" content="hf_usod">' not in file.read(500):
                raise CommandError(f"{option} {path}: exists and is no page of hf-usod. Choose another name.")


def check_scores(path: Path) -> None:
    """`check_file` of a JSON file of scores, which takes the place of earlier ones, and of no other file.

    Raises:
        CommandError: why not.
    """
    from ..files import read_json

    check_file(path)
    if path.is_file() and path.stat().st_size:
        try:
            entries = read_json(path)
        except DataError:
            entries = None
        wanted = {"model", "dataset", "num_images"}
        if not isinstance(entries, list) or not all(isinstance(e, dict) and wanted <= e.keys() for e in entries):
            raise CommandError(f"--output {path}: exists and holds no scores. Choose another name.")
