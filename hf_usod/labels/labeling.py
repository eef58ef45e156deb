"""Pseudo-labels of a whole dataset: a model in this process, refinement in a pool of processes, PNGs out."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ..data.batches import Done, Failed, default_num_workers, lanes_of, picture_bytes, through
from ..data.folders import identity
from ..errors import DataError, LabelError
from ..files import write_aside
from ..folding import FEW, fastest
from ..models.image_processing_usod import UsodImageProcessor, read_image
from .crf import load_crf
from .pseudo_labels import make_pseudo_label

MAX_SIDE = 640  # larger photos are refined at this size: the CRF's reach is in pixels, and its time grows with them


@dataclass
class LabelReport:
    """What became of the photos."""

    done: int = 0  # labels written
    kept: list[Path] = field(default_factory=list)  # labels that existed and were left as they are
    failed: dict[Path, str] = field(default_factory=dict)  # photos that could not be read, or labels not written: why


class _Photo(NamedTuple):
    inputs: dict[str, torch.Tensor]  # of the model, each (3, H, W)
    image: np.ndarray  # (h, w, 3), what refinement looks at
    size: tuple[int, int]  # (width, height) of the photo


class _Refinable(NamedTuple):
    saliency: np.ndarray  # (h, w)
    image: np.ndarray  # (h, w, 3)
    size: tuple[int, int]  # (width, height) of the photo


def _read(image_processor: UsodImageProcessor, aux: Mapping[Path, Path] | None, job: tuple[Path, Path]) -> _Photo:
    image = read_image(job[0])
    maps = {} if aux is None else {"aux_images": [aux.get(job[0])]}
    inputs = image_processor(image, **maps, return_tensors="pt")
    reduced = ImageOps.contain(image, (MAX_SIDE, MAX_SIDE)) if max(image.size) > MAX_SIDE else image
    return _Photo({name: batch[0] for name, batch in inputs.items()}, np.array(reduced), image.size)


def _saliency(
    model: PreTrainedModel, image_processor: UsodImageProcessor, jobs: Sequence[tuple[Path, Path]], photos: list[_Photo]
) -> Iterator[_Refinable]:
    """Maps of the size at which the photos are refined."""
    inputs = {
        name: torch.stack([photo.inputs[name] for photo in photos]).to(model.device, model.dtype)
        for name in photos[0].inputs
    }
    sizes = [photo.image.shape[:2] for photo in photos]
    with torch.inference_mode():
        maps = image_processor.post_process_saliency(model(**inputs), sizes)
    for photo, saliency in zip(photos, maps, strict=True):
        yield _Refinable(saliency.cpu().numpy(), photo.image, photo.size)


def _refine_and_write(refine: str, job: tuple[Path, Path], photo: _Refinable) -> None:
    label = Image.fromarray(make_pseudo_label(photo.saliency, photo.image, refine) * np.uint8(255))
    if label.size != photo.size:
        label = label.resize(photo.size, Image.Resampling.BILINEAR).point(lambda level: 255 * (level > 127))
    write_aside(job[1], label.save)


def _start_worker() -> None:
    """One core a worker. Workers finish what they have when the user interrupts, and end when their parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def end_with_parent() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=end_with_parent, daemon=True).start()


def _workers(num_workers: int) -> Executor:
    if num_workers == 0:
        return ThreadPoolExecutor(1)
    # A fork of a process in which torch has started threads may hang.
    return ProcessPoolExecutor(num_workers, multiprocessing.get_context("spawn"), _start_worker)


def _check_jobs(jobs: Sequence[tuple[Path, Path]]) -> None:
    photos = {identity(photo) for photo, _ in jobs} - {None}
    labels: set[str] = set()
    for photo, label in jobs:
        if identity(label) in photos:
            raise DataError(f"{label}: is a photo that a label would overwrite. Choose another folder for the labels.")
        if (path := os.path.realpath(label)) in labels:
            raise DataError(f"{photo}: would share the label {label} with another photo.")
        labels.add(path)


def label_images(
    model: PreTrainedModel,
    image_processor: UsodImageProcessor,
    jobs: Sequence[tuple[Path, Path]],
    refine: str = "crf",
    *,
    aux: Mapping[Path, Path] | None = None,
    batch_size: int = 8,
    num_workers: int | None = None,
    overwrite: bool = False,
    shard: tuple[int, int] = (0, 1),
    progress: bool = True,
) -> LabelReport:
    """Writes the pseudo-labels of photos as PNGs of 0 and 255, at each photo's own size and orientation.

    Labels that exist are kept, so that a run that was stopped is gone on with by calling it again; each is written
    aside and renamed. What cannot be read or written is reported and does not stop the others. Photos with a side above
    `MAX_SIDE` are refined at that size and their labels enlarged.

    With worker processes, a script that calls this needs the usual `if __name__ == "__main__":`.

    Args:
        model: an SCE or SD, on the device where it is to run, in evaluation mode.
        image_processor: of the model.
        jobs: each photo and the file of its label.
        refine: see `make_pseudo_label`.
        aux: for an SD, the auxiliary maps of photos; a photo without one serves as its own.
        batch_size: photos that go through the model at a time.
        num_workers: processes that refine, beside this one; 0 does it here. By default one a core, divided among the
            processes of this machine (as `torchrun` says, or all of `shard`); none where there is nothing to refine.
        overwrite: whether to replace labels that exist.
        shard: (index, count): of the jobs take every count-th from the index-th on, as one of several processes.
        progress: whether to show a bar.

    Raises:
        ValueError: if two photos share a label, or a label would overwrite a photo.
        ModuleNotFoundError: for "crf" without `pydensecrf2`.
        LabelError: if a worker process dies.
    """
    if refine == "crf":
        load_crf()
    _check_jobs(jobs)
    report, remaining = LabelReport(), []
    for photo, label in jobs[shard[0] :: shard[1]]:
        if not overwrite and label.exists():
            report.kept.append(label)
        else:
            remaining.append((photo, label))
    if not remaining:
        return report
    if num_workers is None:
        sharing = int(os.environ.get("LOCAL_WORLD_SIZE", shard[1]))  # the cores of this machine
        num_workers = max(1, default_num_workers() // sharing) if refine != "none" else 0
    if len(remaining) > FEW:
        model = fastest(model)
    lanes, size = lanes_of(model, batch_size)
    with _workers(num_workers) as workers:
        outcomes = through(
            remaining,
            partial(_read, image_processor, aux),
            partial(_saliency, model, image_processor),
            partial(_refine_and_write, refine),
            batch_size=size,
            lanes=lanes,
            cost=lambda job: picture_bytes(job[0]),
            writers=workers,
            behind=batch_size + 2 * num_workers,
        )
        try:
            for outcome in tqdm(outcomes, "labeling", len(remaining), unit="photo", disable=not progress):
                _note(report, outcome)
        except BrokenProcessPool as error:
            raise LabelError(
                "A worker process died, most likely for lack of memory. Go on with fewer --num_workers; "
                "the labels made so far are kept."
            ) from error
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(
                f"stopped. {report.done} labels are made and kept; the same command goes on."
            ) from stop
    return report


def _note(report: LabelReport, outcome: Done | Failed) -> None:
    photo, _ = outcome.item
    if not isinstance(outcome, Failed):
        report.done += 1
    elif outcome.writing:
        report.failed[photo] = f"{photo}: its label cannot be written ({outcome.error})"
    else:
        report.failed[photo] = str(outcome.error)
