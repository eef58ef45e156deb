"""The folder of an adaptation: what was asked for, what is done, and the images as trainings want them, in folders."""

import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..assets import checkpoint_source
from ..data import Sample
from ..errors import DataError, RunError
from ..files import read_json, write_aside, write_folder_aside, write_json
from ..training.locks import is_empty

STATE_FILE = "adapt.json"
VERSION = 1


class AdaptFolder:
    """What an adaptation keeps on disk, so that it can be stopped and gone on with.

    Args:
        root: made by whoever locks it.
        asked: what the command was told, which a resumed one must be told as well.
        resume: whether to go on with what is there.

    Attributes:
        state: JSON, written before and after each step: `asked`, the `plan`, the step that is `running`, `seconds` by
            step that is done, and by `unfinished` step, the `copies` that stand for links, and what the steps have
            found out.

    Raises:
        RunError: if the folder holds something and is not to be gone on with, or holds something else.
    """

    def __init__(self, root: Path, asked: dict[str, Any], resume: bool):
        self.root = root
        self.state: dict[str, Any] = {"version": VERSION, "asked": asked, "seconds": {}}
        file = root / STATE_FILE
        if not file.exists():
            if not is_empty(root):
                raise RunError(f"{root}: is not empty and holds no adaptation. Choose another --output.")
            return
        if not resume:
            raise RunError(f"{root}: holds an adaptation already. Pass --resume to go on, or choose another --output.")
        try:
            stored = read_json(file)
            before = stored["asked"]
            if stored["version"] != VERSION:
                raise KeyError
        except (DataError, KeyError, TypeError) as error:
            raise RunError(f"{file}: is not what `hf-usod adapt` wrote there. Choose another --output.") from error
        if changed := sorted(name for name in asked if before.get(name) != asked[name]):
            (name, *_) = changed
            raise RunError(
                f"{root}: was begun with another --{name} ({before.get(name)}, now {asked[name]}). Say the same, or "
                "choose another --output."
            )
        self.state = stored

    def save(self) -> None:
        write_json(self.root / STATE_FILE, self.state)

    def place(self, samples: Sequence[Sample], name: str) -> list[Sample]:
        """The samples as files of folders of their own, `images/NAME` and `aux/NAME`, named by their ids: links where
        the system has them, else copies. What is there is kept; links and copies of other samples, which were placed
        before the images changed, are removed: what is held out now may have been trained on, else."""
        placed = []
        for sample in samples:
            image = self._link(sample.image, self.images(name) / f"{sample.id}{sample.image.suffix}")
            aux = self._link(sample.aux, self.aux(name) / f"{sample.id}{sample.aux.suffix}") if sample.aux else None
            placed.append(replace(sample, image=image, aux=aux))
        self._remove_others(self.images(name), {sample.image for sample in placed})
        self._remove_others(self.aux(name), {sample.aux for sample in placed})
        return placed

    def _link(self, source: Path, target: Path) -> Path:
        if not os.path.lexists(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.symlink_to(source.resolve())
            except OSError:  # Windows, without the privilege
                write_aside(target, lambda aside: shutil.copy(source, aside))
                self.state.setdefault("copies", []).append(target.relative_to(self.root).as_posix())
        return target

    def _remove_others(self, folder: Path, kept: Collection[Path | None]) -> None:
        """Removes links, and copies that were made here; no file that somebody else put there."""
        copies = self.state.get("copies", [])
        for path in list(folder.rglob("*")):
            is_ours = path.is_symlink() or path.relative_to(self.root).as_posix() in copies
            if is_ours and path not in kept:
                path.unlink(missing_ok=True)

    def images(self, name: str) -> Path:
        return self.root / "images" / name

    def aux(self, name: str) -> Path:
        return self.root / "aux" / name

    def labels(self, name: str) -> Path:
        return self.root / "labels" / name

    @property
    def adapter(self) -> Path:
        """Where the chosen adapter is."""
        return self.root / "adapter"

    def keep_adapter(self, name: str, adapter: str | None) -> None:
        """Has the folder's adapter be a candidate's, or none; one of another candidate goes."""
        if self.state.get("adapter_of", name) != name:
            shutil.rmtree(self.adapter, ignore_errors=True)
        if adapter and not self.adapter.exists():
            source = Path(checkpoint_source(adapter))
            write_folder_aside(self.adapter, lambda aside: shutil.copytree(source, aside, dirs_exist_ok=True))
        self.state["adapter_of"] = name
