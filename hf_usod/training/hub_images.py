"""Images of a data set on the Hub: streamed into a folder once, after which they are images as any others.

A run reads each image many times, in an order of its own, and keeps a label for each: a stream alone has neither.
"""

import dataclasses
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from huggingface_hub import HfApi, constants
from PIL import Image
from tqdm.auto import tqdm

from ..constants import HUB_DATASETS
from ..data.folders import IMAGE_SUFFIXES
from ..errors import DataError, in_a_line
from ..extras import require
from ..files import write_bytes
from .plan import Plan
from .processes import give_files, join_processes, sees_main_folder

_SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}  # of formats that are called otherwise


def bring_images(plan: Plan) -> Plan:
    """The plan with folders in place of data sets of the Hub, `hf://datasets/OWNER/NAME[@REVISION][/SPLIT]`, of which
    nothing but the images is read. The folders are in the cache of the Hub's client, named by the data set's commit.

    Raises:
        DataError: for a data set that cannot be read, or has no column of images.
        MissingPackageError: without `datasets`.
    """
    (first, *_) = plan.stages.values()
    if not any(folder.startswith(HUB_DATASETS) for folder in first.images):
        return plan
    accelerator = join_processes(first.mixed_precision)
    images = [_bring(folder, accelerator) if folder.startswith(HUB_DATASETS) else folder for folder in first.images]

    def brought(args: Any) -> Any:
        return args and dataclasses.replace(args, images=images)

    return dataclasses.replace(plan, sce=brought(plan.sce), sd=brought(plan.sd))


def _bring(url: str, accelerator: Accelerator) -> str:
    """The folder with the images of a data set; each process streams its share."""
    require("datasets", "hub", f"--images {url}")
    owner, _, rest = url.removeprefix(HUB_DATASETS).partition("/")
    name, _, split = rest.partition("/")
    name, _, revision = name.partition("@")
    split = split or "train"
    try:
        commit = HfApi().dataset_info(f"{owner}/{name}", revision=revision or None).sha
    except Exception as error:  # of the client, and of the network
        raise DataError(f"--images {url}: cannot be reached ({in_a_line(error)}).") from error
    (commit,) = broadcast_object_list([commit])
    folder = Path(constants.HF_HOME) / "hf_usod" / f"{owner}--{name}--{split}--{commit}"
    if all(gather_object([folder.is_dir()])):
        return str(folder)
    apart = not sees_main_folder(accelerator, folder.parent)
    aside = folder.with_name(f"{folder.name}.writing")
    try:
        names = list(_stream(f"{owner}/{name}", split, commit, accelerator, aside))
    except DataError as error:
        raise DataError(f"--images {url}: {error}") from error
    except Exception as error:
        raise DataError(f"--images {url}: cannot be read ({in_a_line(error)}). What came is kept.") from error
    every = sorted(set(gather_object(names)))
    give_files(accelerator, [aside / name for name in every])
    if not folder.is_dir() and (accelerator.is_main_process or (apart and accelerator.is_local_main_process)):
        os.rename(aside, folder)
    accelerator.wait_for_everyone()
    return str(folder)


def _stream(repo: str, split: str, commit: str, accelerator: Accelerator, folder: Path) -> Iterator[str]:
    """Writes this process's share of the images; yields their names, which say what they hold and so do not depend on
    the number of processes."""
    import datasets
    import fsspec
    from datasets.distributed import split_dataset_by_node

    stream = datasets.load_dataset(repo, split=split, revision=commit, streaming=True)
    columns = [name for name, feature in (stream.features or {}).items() if isinstance(feature, datasets.Image)]
    column = "image" if "image" in columns else columns[0] if len(columns) == 1 else None
    if column is None:
        found = ", ".join(columns) or "none"
        raise DataError(f"expected a column `image`, or one column of images; there are {found}.")
    stream = stream.decode(False).select_columns([column])  # before, as images of a folder are decoded after it
    part = split_dataset_by_node(stream, accelerator.process_index, accelerator.num_processes)
    for row in tqdm(part, "images", unit="image", disable=not accelerator.is_local_main_process):
        content = row[column]["bytes"]
        if content is None:
            with fsspec.open(row[column]["path"], "rb") as file:  # of a folder, on the Hub still
                content = file.read()
        name = hashlib.sha256(content).hexdigest()[:24] + suffix_of(content)
        if not (folder / name).exists():
            write_bytes(folder / name, content)
        yield name


def suffix_of(content: bytes) -> str:
    """That of an image's format, by which a folder's images are found.

    Raises:
        DataError: for a format whose files are not taken for images.
    """
    with Image.open(io.BytesIO(content)) as image:
        kind = str(image.format)
    suffix = _SUFFIXES.get(kind, f".{kind.lower()}")
    if suffix not in IMAGE_SUFFIXES:
        raise DataError(
            f"holds images of the format {kind}, which are not trained on. Save them as PNG or JPEG, and give their "
            "folder."
        )
    return suffix
