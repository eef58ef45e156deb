"""The folder of a training run: its arguments, checkpoints that are whole or absent, previews and the final model."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from PIL import Image

from ..errors import RunError
from ..files import write_aside
from .arguments import RunArguments

ARGUMENTS_FILE = "arguments.json"
_CHECKPOINT = "checkpoint-"
_ASIDE = ".writing"


class RunFolder:
    """One run on disk. All processes of a run hold one; only the main process writes, but for its checkpoint part.

    Args:
        root: the folder; made if it does not exist.
        arguments: what the run was told; a resumed run must be told the same.
        resume: whether to continue what is there.

    Raises:
        RunError: if there is a run already and `resume` is not set, or one with other arguments. What stopped before
            its first checkpoint is no run yet: it is begun anew.
    """

    def __init__(self, root: str | Path, arguments: dict, resume: bool, accelerator: Accelerator):
        self.root = Path(root)
        self.arguments = arguments
        self.accelerator = accelerator
        stored = self.root / ARGUMENTS_FILE
        if stored.exists() and (self.last_checkpoint() or self.model.exists()):
            if not resume:
                raise RunError(
                    f"{root}: holds a run already. Pass --resume to continue it, or choose another --output_dir."
                )
            _check_same(json.loads(stored.read_text()), arguments, stored)
        elif not stored.exists() and self.root.exists() and any(self.root.iterdir()):
            raise RunError(f"{root}: is not empty and holds no run. Choose another --output_dir.")
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            write_aside(stored, lambda path: path.write_text(json.dumps(arguments, indent=2) + "\n"))

    @property
    def model(self) -> Path:
        """Where the finished model is."""
        return self.root / "model"

    @property
    def labels(self) -> Path:
        """Where stage 2 keeps its labels."""
        return self.root / "labels"

    @property
    def previews(self) -> Path:
        return self.root / "previews"

    def last_checkpoint(self) -> tuple[Path, int] | None:
        """The newest checkpoint and the number of steps it stands after."""
        found = [(path, int(path.name.removeprefix(_CHECKPOINT))) for path in self._checkpoints()]
        return max(found, key=lambda pair: pair[1], default=None)

    def _checkpoints(self) -> list[Path]:
        return [path for path in self.root.glob(f"{_CHECKPOINT}*") if path.name.removeprefix(_CHECKPOINT).isdigit()]

    def save_checkpoint(self, step: int) -> None:
        """Writes the state of the run aside, renames it, and only then removes the older ones."""
        final = self.root / f"{_CHECKPOINT}{step}"
        aside = self.root / f"{_CHECKPOINT}{step}{_ASIDE}"
        older = self._checkpoints()
        if self.accelerator.is_main_process:
            shutil.rmtree(aside, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(aside))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process and final not in older:
            os.rename(aside, final)
            for path in older:
                shutil.rmtree(path)
        self.accelerator.wait_for_everyone()

    def save_model(self, save: Callable[[Path], None], epoch: int | None = None) -> None:
        """Has `save` write the model aside, then renames the folder: `model`, or `epochs/N` after an epoch. Main
        process only."""
        final = self.model if epoch is None else self.root / "epochs" / str(epoch)
        aside = final.with_name(final.name + _ASIDE)
        for stale in (aside, final):  # a resumed run comes by the end of an epoch again
            shutil.rmtree(stale, ignore_errors=True)
        save(aside)
        os.rename(aside, final)

    def save_preview(self, epoch: int, images: torch.Tensor, *maps: torch.Tensor) -> None:
        """Writes previews/epoch_NNN.png: a row of photos over rows of their maps.

        Args:
            images: `(B, 3, H, W)` in [0, 1].
            maps: `(B, 1, H, W)` in [0, 1].
        """
        rows = torch.cat([images, *(one.expand_as(images) for one in maps)], dim=2)  # (B, 3, R H, W)
        grid = rows.permute(2, 0, 3, 1).flatten(1, 2).mul(255).round().clamp(0, 255).to(torch.uint8)
        picture = Image.fromarray(grid.cpu().numpy())
        write_aside(self.previews / f"epoch_{epoch:03d}.png", picture.save)


# Where a run looks, how fast it goes and what it shows; they do not change the result.
_NOT_COMPARED = ("output_dir", "resume", "num_workers", "log_every", "save_every", "num_previews", "keep_epochs")


def comparable_arguments(args: RunArguments, accelerator: Accelerator, **facts: object) -> dict:
    """The arguments that a resumed run must share, with the folders by their full path, and further facts."""
    comparable = {name: value for name, value in dataclasses.asdict(args).items() if name not in _NOT_COMPARED}
    for name in ("images", "aux", "labels"):
        if name in comparable:
            folders = comparable[name]
            comparable[name] = [folder if folder == "none" else str(Path(folder).resolve()) for folder in folders]
    return comparable | {"mixed_precision": accelerator.mixed_precision, **facts}


def _check_same(stored: dict, given: dict, path: Path) -> None:
    """Raises unless a resumed run is told what it was told at first."""
    changed = [name for name in sorted(stored.keys() | given.keys()) if stored.get(name) != given.get(name)]
    if changed:
        differences = "; ".join(f"{name}: {stored.get(name)!r}, now {given.get(name)!r}" for name in changed)
        raise RunError(f"{path}: the run was started with other arguments ({differences}). Resume with the same ones.")
