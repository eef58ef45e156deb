"""The labels of a training run, which change with every step, on disk: safe against a kill at any instant."""

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from ..errors import LabelError, in_a_line
from ..files import write_folder_aside

LEVELS = 65535  # of 16 bits: fine enough that hundreds of small updates lose nothing
INDEX_FILE = "index.json"
LABELS_FILE = "labels.npy"  # uint16 (2, N, H, W)
VERSIONS_FILE = "versions.npy"  # int32 (2, N)
ABSENT = -1  # the version of a slot that was never written, or whose write was cut short


def read_label(path: str | Path) -> np.ndarray:
    """A label file (8-bit, 16-bit or 1-bit grayscale; of color images the luminance) as `(h, w)` float32 in [0, 1].

    Raises:
        LabelError: naming the file, if it does not exist or cannot be read.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):
                return _unit_values(np.asarray(image).astype(np.uint16))
            return _unit_values(np.asarray(image if image.mode == "1" else image.convert("L")))
    except FileNotFoundError:
        raise LabelError(f"{path}: no such label. Make labels with `hf-usod label`.") from None
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        raise LabelError(f"{path}: cannot be read as a label ({error}).") from error


def label_overlap(one: Path, other: Path) -> float:
    """The IoU, at .5, of two label files of one size; 0 where neither has an object.

    Raises:
        LabelError: see `read_label`.
    """
    return mask_iou(read_label(one) > 0.5, read_label(other) > 0.5)


def mask_iou(one: np.ndarray, other: np.ndarray) -> float:
    """The IoU of two bool masks of one shape; 0 where neither has an object."""
    return float((one & other).sum() / max(1, (one | other).sum()))


def _unit_values(label: np.ndarray) -> np.ndarray:
    """float32 in [0, 1] from bool, 8-bit, 16-bit or float values; 8-bit ones up to 1 only are masks of 0 and 1."""
    if label.ndim != 2:
        raise ValueError(f"expected (height, width), got the shape {label.shape}")
    if label.dtype == np.uint8:
        divisor = 255 if label.max(initial=0) > 1 else 1
    elif label.dtype == np.uint16:
        divisor = LEVELS
    elif label.dtype == np.bool_ or np.issubdtype(label.dtype, np.floating):
        divisor = 1
    else:
        raise ValueError(f"expected bool, uint8, uint16 or float values, got {label.dtype}")
    unit = label.astype(np.float32) / divisor
    if not (unit.min(initial=0) >= 0 and unit.max(initial=0) <= 1 + 1e-3):
        raise ValueError(f"expected float values in [0, 1], got {label.min():.4g}..{label.max():.4g}")
    return unit


def _quantize(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A label of any kind and size as uint16 `size`."""
    unit = _unit_values(label)
    if unit.shape != size:
        unit = np.asarray(Image.fromarray(unit).resize(size[::-1], Image.Resampling.BILINEAR))
    return (unit.clip(0, 1) * LEVELS).round().astype(np.uint16)


def _check_ids(ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in ids:
        path = PurePosixPath(name)
        if name in ("", ".") or path.is_absolute() or ".." in path.parts:
            raise LabelError(f"{name!r}: cannot be the id of a label; ids are relative paths without '..'.")
        if name in seen:
            raise LabelError(f"{name!r}: is the id of two samples. Give each its own.")
        seen.add(name)


def new_array(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    """A new array file, all zeros, with its space on the disk reserved: a full disk is an error here and now, where a
    later write to the mapped file would kill the process.

    Raises:
        OSError: if the disk has not that much room.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size > (free := shutil.disk_usage(path.parent).free):
        raise OSError(
            errno.ENOSPC,
            f"no room for {path.stem} of {size / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free",
            str(path),
        )
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # what some file systems cannot do
                    raise
    return array


def _open_array(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    """Maps an array file, to be written if it may be. It is opened for reading first: opened for writing, numpy would
    fill up a file that is too short with zeros."""
    array = np.lib.format.open_memmap(path, "r")
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{path.name} is {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}")
    return np.lib.format.open_memmap(path, "r+") if os.access(path, os.W_OK) else array


class LabelStore:
    """The labels of a run: a version of each sample for every epoch that changed it, of which the last two are kept.

    Version 0 is the initial label, version e what epoch e (from 1) made of it. In epoch e a sample is read at its
    newest version below e, and written as version e into the other of its two slots. So a killed run that goes on from
    a checkpoint inside epoch e reads again exactly what it read the first time, whatever was written since: nothing is
    rolled back. This holds as long as a checkpoint is written at the end of each epoch. A slot has no version while
    it is being written, so that a write that was cut short is never read.

    A step does not wait for the disk: files are mapped into memory, and the system writes them when it likes, also
    after the process was killed. `flush` makes them safe from a power cut. Several processes may open one store and
    write different samples.

    Args:
        directory: of a store that `create` made.

    Raises:
        LabelError: if there is none, or it is damaged.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        if not (self.directory / INDEX_FILE).is_file():
            raise LabelError(f"{directory}: holds no labels (no {INDEX_FILE}).")
        try:
            index = json.loads((self.directory / INDEX_FILE).read_text())
            self.ids: list[str] = index["ids"]
            self.size: tuple[int, int] = tuple(index["size"])
            self.fingerprint: str = index["fingerprint"]  # of the initial labels
            shape = (2, len(self.ids))
            self._labels = _open_array(self.directory / LABELS_FILE, np.uint16, (*shape, *self.size))
            self._versions = _open_array(self.directory / VERSIONS_FILE, np.int32, shape)
        except Exception as error:  # numpy's reader raises almost anything on damaged headers
            raise LabelError(
                f"{directory}: damaged labels ({in_a_line(error)}). Remove the folder and start anew."
            ) from error

    def __reduce__(self) -> tuple[type["LabelStore"], tuple[Path]]:
        return type(self), (self.directory,)  # to worker processes go the files, not a copy of their contents

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def create(
        cls,
        directory: str | Path,
        ids: Sequence[str],
        size: tuple[int, int],
        load: Callable[[str], np.ndarray],
        progress: bool = True,
    ) -> "LabelStore":
        """A new store, made aside and renamed when complete. In one process only.

        Args:
            directory: must not exist. Takes 4 H W bytes a sample.
            ids: of the samples in their order; relative paths without suffix.
            size: (height, width) of the labels; those of another size are resized (bilinear).
            load: the initial label of an id, `(h, w)`, bool, uint8 (0-255, or a mask of 0 and 1), uint16 or float in
                [0, 1]; for a file see `read_label`. What it reads is not touched.

        Raises:
            LabelError: for ids that are no relative paths or not unique, or a label that is none, naming it.
            OSError: if the disk has no room for the labels.
        """
        ids, size = list(ids), (int(size[0]), int(size[1]))
        _check_ids(ids)

        def write(aside: Path) -> None:
            labels = new_array(aside / LABELS_FILE, np.uint16, (2, len(ids), *size))
            versions = new_array(aside / VERSIONS_FILE, np.int32, (2, len(ids)))
            digest = hashlib.sha256()
            for index, name in enumerate(tqdm(ids, "labels", unit="label", disable=not progress)):
                try:
                    label = _quantize(np.asarray(load(name)), size)
                except ValueError as error:
                    raise LabelError(f"{name}: is no label: {error}.") from error
                labels[0, index] = label
                digest.update(label.tobytes())
            versions[0], versions[1] = 0, ABSENT
            labels.flush()
            versions.flush()
            index_of_store = {"size": size, "fingerprint": digest.hexdigest(), "ids": ids}
            (aside / INDEX_FILE).write_text(json.dumps(index_of_store, indent=1) + "\n")

        write_folder_aside(Path(directory), write)
        return cls(directory)

    @classmethod
    def open_or_create(
        cls,
        directory: str | Path,
        ids: Sequence[str],
        size: tuple[int, int],
        load: Callable[[str], np.ndarray],
        progress: bool = True,
    ) -> "LabelStore":
        """The store of a run that is resumed, or a new one; arguments and errors as for `create`. With several
        processes, the main one first.

        Raises:
            LabelError: if there are labels already that are of other samples or another size.
        """
        if not Path(directory).exists():
            return cls.create(directory, ids, size, load, progress)
        store = cls(directory)
        if store.size != tuple(size):
            raise LabelError(
                f"{directory}: holds labels of {store.size[0]}x{store.size[1]}, not of {size[0]}x{size[1]}. "
                "Train at the same size, or in another folder."
            )
        if store.ids != list(ids):
            different = next((pair for pair in zip(store.ids, ids, strict=False) if pair[0] != pair[1]), None)
            first = f"{different[0]!r} where now is {different[1]!r}" if different else "the others are the same"
            raise LabelError(
                f"{directory}: holds labels of {len(store)} other samples than the {len(ids)} given ({first}). "
                "Train on the same data, or in another folder."
            )
        return store

    def _slot(self, index: int, epoch: int) -> int:
        """Where the newest version below `epoch` is."""
        versions = self._versions[:, index]
        slot = int(np.where(versions < epoch, versions, ABSENT).argmax())
        if not ABSENT < versions[slot] < epoch:
            raise LabelError(
                f"{self.directory}: the label of {self.ids[index]} that epoch {epoch} began with is no longer kept "
                f"(there are versions {', '.join(map(str, versions))}). Resume from a later checkpoint, or start anew."
            )
        return slot

    def read(self, indices: Sequence[int] | torch.Tensor, epoch: int) -> torch.Tensor:
        """The labels that epoch `epoch` (from 1) begins with, `(B, 1, H, W)` float32 in [0, 1].

        Raises:
            LabelError: if the epoch is one before the last that was written.
        """
        levels = np.stack([self._labels[self._slot(index, epoch), index] for index in map(int, indices)])
        return torch.from_numpy(levels.astype(np.float32) / np.float32(LEVELS))[:, None]

    def write(self, indices: Sequence[int] | torch.Tensor, epoch: int, labels: torch.Tensor) -> None:
        """Stores what epoch `epoch` (from 1) makes of labels: `(B, 1, H, W)` in [0, 1], as they lie in the image that
        is not flipped. Other processes may write other samples meanwhile.

        Raises:
            ValueError: for another shape.
            LabelError: for values that are not finite, or an epoch before the last that was written.
        """
        if tuple(labels.shape) != (len(indices), 1, *self.size):
            raise ValueError(f"`labels` are {tuple(labels.shape)}, expected {(len(indices), 1, *self.size)}.")
        values = labels.detach()[:, 0].float()
        if not values.isfinite().all():
            raise LabelError("New labels are not finite: training diverges. Lower the learning rate.")
        levels = values.clamp(0, 1).mul(LEVELS).round().cpu().numpy().astype(np.uint16)
        for index, level in zip(map(int, indices), levels, strict=True):
            slot = 1 - self._slot(index, epoch)
            self._versions[slot, index] = ABSENT
            self._labels[slot, index] = level
            self._versions[slot, index] = epoch

    def state(self) -> tuple[str, bytes]:
        """What tells whether two stores are at the same point of the same run."""
        return self.fingerprint, hashlib.sha256(self._versions.tobytes()).digest()

    def slots(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """All that is kept of samples: their labels, uint16 `(2, n, H, W)`, and which versions they are, `(2, n)`."""
        return self._labels[:, list(indices)], self._versions[:, list(indices)]

    def put_slots(self, indices: Sequence[int], labels: np.ndarray, versions: np.ndarray) -> None:
        """Takes over `slots` of another store of the same samples; what is there already is left alone."""
        for place, index in enumerate(indices):
            for slot in range(2):
                if self._versions[slot, index] != versions[slot, place]:
                    self._versions[slot, index] = ABSENT
                    self._labels[slot, index] = labels[slot, place]
                    self._versions[slot, index] = versions[slot, place]

    def latest(self, index: int) -> np.ndarray:
        """The newest label of a sample, `(H, W)` float32 in [0, 1]."""
        levels = self._labels[int(self._versions[:, index].argmax()), index]
        return levels.astype(np.float32) / np.float32(LEVELS)

    def flush(self) -> None:
        """Waits until all labels are on the disk."""
        self._labels.flush()
        self._versions.flush()
