"""The folder of a training run: its arguments, checkpoints, previews and the final model."""

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from PIL import Image

from ..errors import DataError, RunError
from ..files import read_json, write_aside, write_folder_aside, write_json, write_text
from ..labels.store import INDEX_FILE
from .arguments import RunArguments
from .checkpoints import Checkpoints
from .locks import is_empty, lock_folder
from .processes import machine_of, sees_main_folder

ARGUMENTS_FILE = "arguments.json"
PLAN_FILE = "plan.yaml"  # of a run of all stages
_IMAGES_FILE = "images.json"  # checksums
_DIVERGED_FILE = "diverged.txt"  # why the run stopped, if its numbers were not finite any more


class RunFolder:
    """One run on disk. All processes of a run hold one; only one writes, but for its checkpoint part: the main one, and
    on machines that do not see the main one's folder the first of each, so that each machine has all of it.

    Args:
        root: the folder; made if it does not exist.
        arguments: what the run was told; a resumed run must be told the same.
        resume: whether to continue what is there.

    Attributes:
        keeps: whether this process is one that writes.
        machine: which of the run's machines this process is on.
        labels: where stage 2 keeps its labels on this machine.

    Raises:
        RunError: if there is a run already and `resume` is not set, or one with other arguments. What stopped before
            its first checkpoint is no run yet: it is begun anew.
    """

    def __init__(self, root: str | Path, arguments: dict, resume: bool, accelerator: Accelerator):
        self.root = Path(root)
        self.arguments = arguments
        self.accelerator = accelerator
        self.machine = machine_of(accelerator)
        apart = not sees_main_folder(accelerator, self.root)
        self.keeps = accelerator.is_main_process or (apart and accelerator.is_local_main_process)
        accelerator.project_configuration.save_on_each_node = apart
        self.checkpoints = Checkpoints(self.root, accelerator, self.keeps)
        # A mapped file is not the same to several machines, though the folder be
        self.labels = self.root / (f"labels-{self.machine.index}" if self.machine.index and not apart else "labels")
        stored = self.root / ARGUMENTS_FILE
        if stored.exists() and self.is_begun:
            if not resume:
                raise RunError(
                    f"{root}: holds a run already. Pass --resume to continue it, or choose another --output_dir."
                )
            _check_same(_read_state(stored), arguments, stored, self.diverged)
        elif not stored.exists() and not is_empty(self.root):
            raise RunError(f"{root}: is not empty and holds no run. Choose another --output_dir.")
        accelerator.wait_for_everyone()

    @property
    def is_begun(self) -> bool:
        """Whether there is anything to go on from."""
        return self.checkpoints.newest() is not None or self.model.exists()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """In here no other process may train in this folder; see `lock_folder`."""
        with lock_folder(self.root, self.keeps):
            if self.keeps:
                if not self.is_begun:  # with labels that are perhaps others now
                    for labels in self.root.glob("labels*"):
                        if (labels / INDEX_FILE).exists():
                            shutil.rmtree(labels)
                write_json(self.root / ARGUMENTS_FILE, self.arguments)
            self.accelerator.wait_for_everyone()
            yield

    def check_images(self, checksums: Mapping[str, int]) -> None:
        """Keeps the checksums of a run's images, and sees that a resumed run has the same ones. For those that keep
        the folder.

        Raises:
            RunError: naming images that were renamed, added or changed since.
        """
        stored = self.root / _IMAGES_FILE
        if stored.exists() and self.is_begun:
            before = _read_state(stored)
            gone = sorted(before.keys() - checksums.keys())
            added = sorted(checksums.keys() - before.keys())
            changed = sorted(name for name in before.keys() & checksums.keys() if before[name] != checksums[name])
            if gone or added or changed:
                kinds = {"gone": gone, "new": added, "changed": changed}
                report = "; ".join(f"{kind}: {', '.join(names[:3])}" for kind, names in kinds.items() if names)
                raise RunError(
                    f"{self.root}: its images are not those that the run was started with ({report}; "
                    f"{len(gone) + len(added) + len(changed)} in all). Put them back, or begin anew in another "
                    "--output_dir."
                )
        write_json(stored, dict(checksums))

    def mark_diverged(self, reason: str) -> None:
        """Notes that the run stopped because its numbers were not finite any more: `learning_rate` may then be another
        when it is resumed."""
        write_text(self.root / _DIVERGED_FILE, f"{reason}\n")

    @property
    def diverged(self) -> bool:
        """Whether the run has stopped so since its last checkpoint."""
        return (self.root / _DIVERGED_FILE).exists()

    @property
    def model(self) -> Path:
        """Where the finished model is."""
        return self.root / "model"

    @property
    def previews(self) -> Path:
        return self.root / "previews"

    def save_checkpoint(self, step: int) -> None:
        """See `Checkpoints.save`. A run that had diverged before is well from here on."""
        self.checkpoints.save(step)
        if self.keeps:
            (self.root / _DIVERGED_FILE).unlink(missing_ok=True)

    def save_model(self, save: Callable[[Path], None], epoch: int | None = None) -> None:
        """Has `save` write the model aside, then renames the folder: `model`, or `epochs/N` after an epoch. Main
        process only."""
        final = self.model if epoch is None else self.root / "epochs" / str(epoch)
        shutil.rmtree(final, ignore_errors=True)  # a resumed run comes by the end of an epoch again
        write_folder_aside(final, save)

    def save_preview(self, epoch: int, images: torch.Tensor, *maps: torch.Tensor) -> None:
        """Writes previews/epoch_NNN.png: a row of photos over rows of their maps.

        Args:
            images: `(B, 3, H, W)` in [0, 1].
            maps: `(B, 1, H, W)` in [0, 1].
        """
        rows = torch.cat([images, *(saliency.expand_as(images) for saliency in maps)], dim=2)  # (B, 3, R H, W)
        grid = rows.permute(2, 0, 3, 1).flatten(1, 2).mul(255).round().clamp(0, 255).to(torch.uint8)
        picture = Image.fromarray(grid.cpu().numpy())
        write_aside(self.previews / f"epoch_{epoch:03d}.png", picture.save)


# Where a run looks, how fast it goes and what it shows; they do not change the result.
_NOT_COMPARED = (
    "output_dir",
    "resume",
    "num_workers",
    "log_every",
    "save_every",
    "num_previews",
    "keep_epochs",
    "feature_cache",
    "report_to",
    "gradient_checkpointing",
    "collapse_patience",
)


def comparable_arguments(args: RunArguments, accelerator: Accelerator, **facts: object) -> dict:
    """The arguments that a resumed run must share, with the folders by their full path, and further facts."""
    comparable = {name: value for name, value in dataclasses.asdict(args).items() if name not in _NOT_COMPARED}
    for name in ("images", "aux", "labels"):
        if name in comparable:
            comparable[name] = [folder and str(Path(folder).resolve()) for folder in comparable[name]]
    launched = {
        "mixed_precision": accelerator.mixed_precision,
        "gradient_accumulation_steps": accelerator.gradient_accumulation_steps,
    }
    return comparable | launched | facts


def _read_state(path: Path) -> dict:
    """What a run keeps in a file.

    Raises:
        RunError: naming the file, if it does not hold that any more.
    """
    try:
        state = read_json(path)
    except DataError as error:
        raise RunError(f"{error} The run cannot go on; begin anew in another --output_dir.") from error
    if not isinstance(state, dict):
        raise RunError(f"{path}: is not what the run wrote there. It cannot go on; begin anew in another --output_dir.")
    return state


# What runs of before these arguments existed were told
_ONCE: dict[str, object] = {"max_steps": None, "gradient_accumulation_steps": 1, "aux": []}


def _check_same(stored: dict, arguments: dict, path: Path, diverged: bool) -> None:
    """Raises unless a resumed run is told what it was told at first; one that diverged may have another learning
    rate."""
    stored = _ONCE | stored
    compared = sorted((stored.keys() | arguments.keys()) - set(_NOT_COMPARED))  # runs of before kept more of them
    changed = [name for name in compared if stored.get(name) != arguments.get(name)]
    if "num_images" in changed:
        changed.remove("num_images")  # `check_images` says which they are
    if diverged and "learning_rate" in changed:
        changed.remove("learning_rate")
    if changed:
        differences = "; ".join(f"{name}: {stored.get(name)!r}, now {arguments.get(name)!r}" for name in changed)
        raise RunError(f"{path}: the run was started with other arguments ({differences}). Resume with the same ones.")
