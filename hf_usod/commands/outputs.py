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
    check_file(path)
    if path.is_file() and path.stat().st_size and not _holds_scores(path):
        raise CommandError(f"--output {path}: exists and holds no scores. Choose another name.")


def check_report(folder: Path, scores: str, *others: str) -> None:
    """`check_folder` of one whose files take the places of an earlier report's, and of no others.

    Args:
        scores: the name of the JSON file by which a report is known.
        others: patterns of the names of its other files.

    Raises:
        CommandError: why not.
    """
    check_folder(folder)
    found = [path for name in (scores, *others) for path in sorted(folder.glob(name))]
    if found and not _holds_scores(folder / scores):
        raise CommandError(f"--output {folder}: holds {found[0].name}, of no report of hf-usod. Choose another folder.")


def _holds_scores(path: Path) -> bool:
    """Whether a file is a JSON list of entries of models, with masks or without."""
    from ..files import read_json

    try:
        entries = read_json(path)
    except DataError:
        return False
    wanted = {"model", "num_images"}
    return isinstance(entries, list) and all(
        isinstance(e, dict) and wanted <= e.keys() and e.keys() & {"dataset", "images"} for e in entries
    )
