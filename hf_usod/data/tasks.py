"""The five tasks, and their data sets in the community's folder layouts (method: section 11).

A data set has images and auxiliary maps here. Where its ground truth is, `hf_usod.evaluation` knows alone.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .samples import Sample, list_samples

if TYPE_CHECKING:  # takes a second to import, which prediction need not wait for
    from datasets import Dataset

_logger = logging.getLogger(__name__)
_A2S = "https://github.com/moothes/A2S-v2, whose README links them in the layout read here"


@dataclass(frozen=True)
class Task:
    """A task, the folders of its data sets, and their customary names."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    source: str
    images: str = "RGB"
    aux: str | None = None
    aux_kind: str | None = None


TASKS = {
    "rgb": Task(("DUTS-TR",), ("DUT-O", "DUTS-TE", "ECSSD", "HKU-IS", "PASCAL-S"), _A2S),
    "rgbd": Task(("RGBD-TR",), ("RGBD135", "NJUD", "NLPR", "SIP"), _A2S, aux="depth", aux_kind="depth"),
    "rgbt": Task(("VT5000-TR",), ("VT5000", "VT1000", "VT821"), _A2S, aux="T", aux_kind="thermal"),
    "video": Task(
        ("VSOD-TR",),
        ("DAVSOD", "DAVIS", "SegV2", "FBMS"),
        _A2S,
        images="JPEGImages",
        aux="optical",
        aux_kind="flow",
    ),
    "rsi": Task(
        ("RSSD-TR",),
        ("ORSSD", "EORSSD"),
        "https://li-chongyi.github.io/proj_optical_saliency.html (ORSSD) and "
        "https://github.com/rmcong/EORSSD-dataset (EORSSD)",
    ),
}


def get_task(name: str) -> Task:
    """A task by its name.

    Raises:
        ValueError: for a name that is none, listing those there are.
    """
    if name not in TASKS:
        raise ValueError(f"No task is called {name!r}; there are: {', '.join(TASKS)}.")
    return TASKS[name]


def find_datasets(task: str, root: str | Path, names: Sequence[str] | None = None, split: str = "train") -> list[Path]:
    """The folders of a task's data sets.

    Args:
        root: the folder they are in.
        names: of data sets, or their paths below `root`, of any that have the task's layout; by default the customary
            ones of the split that are there.
        split: "train" or "test".

    Raises:
        FileNotFoundError: for a data set that is not there, saying what is and where to get it.
        ValueError: for an unknown task or split.
    """
    layout, root = get_task(task), Path(root)
    if split not in ("train", "test"):
        raise ValueError(f"`split` must be 'train' or 'test', got {split!r}.")
    known = layout.train if split == "train" else layout.test
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder. It is to hold the data sets of the task {task}.")
    wanted = list(names) if names else [name for name in known if (root / name).is_dir()]
    missing = [name for name in wanted if not (root / name / layout.images).is_dir()]
    if missing or not wanted:
        there = sorted(folder.parent.name for folder in root.glob(f"*/{layout.images}"))
        raise FileNotFoundError(
            f"{root}: holds no {'/, no '.join(f'{name}/{layout.images}' for name in missing or known)}/. There "
            f"{'are ' + ', '.join(there) if there else 'is no data set in this layout'}. Those of the task {task} are "
            f"at {layout.source}."
        )
    return [root / name for name in wanted]


def task_samples(task: str, root: str | Path, names: Sequence[str] | None = None, split: str = "train") -> list[Sample]:
    """Images with their auxiliary maps, of one or several data sets; `id` is `<NAME>/<path without suffix>`.

    Lists of several tasks can be added up: `task_samples("rgb", root) + task_samples("rgbt", root)`. An image may have
    no map, and a data set no folder of maps, of which a warning is logged.

    Raises:
        FileNotFoundError: see `find_datasets`; also if a folder holds no image.
        ValueError: naming maps that belong to no image; for an unknown task.
    """
    layout = get_task(task)
    samples: list[Sample] = []
    for folder in find_datasets(task, root, names, split):
        aux = folder / layout.aux if layout.aux else None
        if aux and not aux.is_dir():
            _logger.warning("%s: no such folder; its images are taken without auxiliary maps.", aux)
            aux = None
        own = list_samples([folder / layout.images], [aux], [layout.aux_kind])
        name = folder.relative_to(root).as_posix()
        samples += [Sample(f"{name}/{sample.id}", sample.image, sample.aux, sample.aux_kind) for sample in own]
    return samples


def open_task(task: str, root: str | Path, names: Sequence[str] | None = None, split: str = "train") -> "Dataset":
    """A task's data sets as one `datasets.Dataset` with the columns `image`, `aux` (or None) and `id`.

    Files are opened when a row is read, so that opening costs no more than listing. `to_iterable_dataset`,
    `concatenate_datasets` and `split_dataset_by_node` work as on any other.

    Args:
        root, names, split: see `find_datasets`.

    Raises:
        FileNotFoundError: if a data set is not there.
        ValueError: see `task_samples`.
    """
    from datasets import Dataset, Features, Image, Value

    samples = task_samples(task, root, names, split)
    columns = {
        "image": [str(sample.image) for sample in samples],
        "aux": [None if sample.aux is None else str(sample.aux) for sample in samples],
        "id": [sample.id for sample in samples],
    }
    return Dataset.from_dict(columns, features=Features(image=Image(), aux=Image(), id=Value("string")))
