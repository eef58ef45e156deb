"""What is to be made for a table, as commands of hf-usod, and making it."""

import logging
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import TableError
from ..evaluation.curves import file_name
from ..files import read_json, write_json
from .recipes import TableRecipe, fill

LAST = "last"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """Something to be made: its name, its folder, and the commands of hf-usod that make it."""

    name: str
    variant: bool  # or a shared step
    seed: int
    folder: Path
    commands: list[list[str]]


def _training(arguments: Mapping[str, Any], recipe: Path | None, places: Mapping[str, Any]) -> list[str]:
    """Arguments as a command; None is left out."""
    words = ["train", *(["--recipe", str(recipe)] if recipe else [])]
    for name, value in arguments.items():
        if value is not None:
            values = value if isinstance(value, list) else [value]
            words += [f"--{name}", *(word for item in values for word in fill(item, places))]
    return words


def _command(text: str, places: Mapping[str, Any]) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise TableError(f"{text!r}: is no command ({error}).") from error
    return [filled for word in words for filled in fill(word, places)]


def plan_runs(table: TableRecipe, output: Path, images: Sequence[str], data: Path | None) -> list[Run]:
    """All that is to be made for a table, in order: for each seed the shared steps, then the variants."""
    runs = []
    for seed in table.seeds:
        places: dict[str, Any] = {"images": list(images), **({"data": str(data)} if data else {})}
        for name, step in [*table.shared.items(), *table.variants.items()]:
            variant = name in table.variants
            folder = output / "runs" / f"{file_name(name)}-seed{seed}"
            here = {**places, "here": str(folder), "run": str(folder), "seed": seed}
            if isinstance(step, str):
                commands = [_command(step, here)]
            else:
                common = table.arguments if variant else {}
                arguments = {**({"images": "{images}"} if images else {}), **common, **step}
                following = arguments.pop("then", [])
                arguments |= {"seed": seed, "output_dir": str(folder)}
                commands = [_training(arguments, table.recipe, here), *(_command(text, here) for text in following)]
            runs.append(Run(name, variant, seed, folder, commands))
            if not variant:
                places[name] = str(folder)
    return runs


def make(run: Run, launcher: Sequence[str]) -> None:
    """Makes a run, goes on with it, or does nothing if it is finished.

    Raises:
        TableError: if a command fails, or it was made by other commands.
    """
    marker = run.folder.with_name(f"{run.folder.name}.json")
    if marker.exists():
        if read_json(marker) != run.commands:
            raise TableError(f"{run.folder}: was made by other commands ({marker}). Choose another --output.")
        return
    for command in run.commands:
        _logger.info("%s, seed %d: hf-usod %s", run.name, run.seed, shlex.join(command))
        resume = ["--resume", "True"] if command[0] == "train" else []
        try:
            status = subprocess.run([*launcher, *command, *resume]).returncode
        except OSError as error:
            raise TableError(f"--launcher {launcher[0]}: cannot be run ({error.strerror}).") from error
        if status:
            raise TableError(f"{run.folder}: `{command[0]}` ended with status {status} (above). Call again to go on.")
    write_json(marker, run.commands)


def epoch_models(model: Path) -> list[tuple[str, Path]]:
    """The models of a run by epoch: `last`, and those that `--keep_epochs` kept beside it in `epochs/<epoch>/`."""
    kept = sorted({path.parent for path in model.parent.glob("epochs/*/*config.json") if path.parent.name.isdigit()})
    return [(LAST, model), *((path.name, path) for path in kept)]
