"""The five tasks, and their data sets in the community's folder layouts (method: section 11).

Opened for training, a data set has images and auxiliary maps; the folder with its ground truth is not even listed.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .folders import list_images
from .samples import Sample, list_samples, relative_names

if TYPE_CHECKING:  # takes a second to import, which prediction need not wait for
    from datasets import Dataset, IterableDataset

_logger = logging.getLogger(__name__)
_A2S = "https://github.com/moothes/A2S-v2, whose README links them in the layout read here"


@dataclass(frozen=True)
class Task:
    """A task, the folders of its data sets, and their customary names."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    source: str
    images: str = "RGB"
    masks: str = "GT"
    aux: str | None = None
    every_image_has_a_mask: bool = True


TASKS = {
    "rgb": Task(("DUTS-TR",), ("DUT-O", "DUTS-TE", "ECSSD", "HKU-IS", "PASCAL-S"), _A2S),
    "rgbd": Task(("RGBD-TR",), ("RGBD135", "NJUD", "NLPR", "SIP"), _A2S, aux="depth"),
    "rgbt": Task(("VT5000-TR",), ("VT5000", "VT1000", "VT821"), _A2S, aux="T"),
    "video": Task(
        ("VSOD-TR",),
        ("DAVSOD", "DAVIS", "SegV2", "FBMS"),
        _A2S,
        images="JPEGImages",
        masks="Annotations",
        aux="optical",
        every_image_has_a_mask=False,  # FBMS annotates one frame in twenty
    ),
    "rsi": Task(
        ("RSSD-TR",),
        ("ORSSD", "EORSSD"),
        "https://li-chongyi.github.io/proj_optical_saliency.html (ORSSD) and "
        "https://github.com/rmcong/EORSSD-dataset (EORSSD)",
    ),
}


@dataclass(frozen=True)
class LabelledSample(Sample):
    """An image with its ground truth, for evaluation alone."""

    mask: Path = field(kw_only=True)


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
    found: list[Sample] = []
    for folder in find_datasets(task, root, names, split):
        aux = folder / layout.aux if layout.aux else None
        if aux and not aux.is_dir():
            _logger.warning("%s: no such folder; its images are taken without auxiliary maps.", aux)
            aux = None
        own = list_samples([folder / layout.images], [aux])
        name = folder.relative_to(root).as_posix()
        found += [Sample(f"{name}/{sample.id}", sample.image, sample.aux) for sample in own]
    return found


def labelled_samples(
    task: str, root: str | Path, names: Sequence[str] | None = None, split: str = "test"
) -> list[LabelledSample]:
    """As `task_samples`, with ground truth: for evaluation alone. Frames of a video without are left out.

    Raises:
        FileNotFoundError: naming images without ground truth; see also `task_samples`.
    """
    layout = get_task(task)
    found: list[LabelledSample] = []
    for folder in find_datasets(task, root, names, split):
        name = folder.relative_to(root).as_posix()
        masks = list_images(folder / layout.masks)
        stems = relative_names(masks, folder / layout.masks)
        mask_of = {f"{name}/{stem}": mask for stem, mask in zip(stems, masks)}
        own = task_samples(task, root, [name])
        missing = [sample.id for sample in own if sample.id not in mask_of]
        if len(missing) == len(own) or (missing and layout.every_image_has_a_mask):
            raise FileNotFoundError(
                f"{folder / layout.masks}: no ground truth for {len(missing)} of {len(own)} images: "
                f"{', '.join(missing[:5])}. Its stems must be the images'."
            )
        found += [LabelledSample(s.id, s.image, s.aux, mask=mask_of[s.id]) for s in own if s.id in mask_of]
    return found


def open_task(
    task: str,
    root: str | Path,
    names: Sequence[str] | None = None,
    split: str | None = None,
    evaluation: bool = False,
) -> "Dataset":
    """A task's data sets as one `datasets.Dataset` with the columns `image`, `aux` (or None) and `id`.

    Files are opened when a row is read, so that opening costs no more than listing. `to_iterable_dataset`,
    `concatenate_datasets` and `split_dataset_by_node` work as on any other.

    Args:
        root, names, split: see `find_datasets`; the split is "train" by default, "test" for evaluation.
        evaluation: adds the column `mask`, the ground truth. Training never asks for it.

    Raises:
        FileNotFoundError: if a data set, or ground truth for evaluation, is not there.
        ValueError: see `task_samples`.
    """
    from datasets import Dataset, Features, Image, Value

    found: Sequence[Sample]
    found = (labelled_samples if evaluation else task_samples)(
        task, root, names, split or ("test" if evaluation else "train")
    )
    columns = {
        "image": [str(sample.image) for sample in found],
        "aux": [None if sample.aux is None else str(sample.aux) for sample in found],
        "id": [sample.id for sample in found],
    }
    features = {"image": Image(), "aux": Image(), "id": Value("string")}
    if evaluation:
        columns["mask"] = [str(sample.mask) for sample in found if isinstance(sample, LabelledSample)]
        features["mask"] = Image()
    return Dataset.from_dict(columns, features=Features(features))


def open_hub(
    name: str, split: str = "train", evaluation: bool = False, streaming: bool = False, **kwargs
) -> "Dataset | IterableDataset":
    """A data set of the Hub, or a local one that `load_dataset` reads, with the columns of `open_task` that it has.

    Args:
        name: as for `load_dataset`, which gets `kwargs` as well. On the Hub, an image folder with a `metadata.csv` of
            `image_file_name`, `aux_file_name` and `mask_file_name` has these columns.
        streaming: nothing is downloaded before a row is read.
        evaluation: keeps the column `mask`; it is dropped otherwise.

    Raises:
        ValueError: if it has no column `image`, or none `mask` for evaluation.
    """
    from datasets import load_dataset

    dataset = load_dataset(name, split=split, streaming=streaming, **kwargs)
    there = list(dataset.column_names or [])
    needed = ["image", "mask"] if evaluation else ["image"]
    if missing := [column for column in needed if column not in there]:
        raise ValueError(f"{name}: has no column {', '.join(missing)}; its columns are {', '.join(there)}.")
    return dataset.select_columns([column for column in ("image", "aux", "id", *needed[1:]) if column in there])
