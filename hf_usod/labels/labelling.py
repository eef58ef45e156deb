"""Pseudo-labels of a whole dataset: a model in this process, refinement in a pool of processes, PNGs out."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ..files import write_aside
from ..models.image_processing_usod import UsodImageProcessor, read_image
from .crf import load_crf
from .pseudo_labels import make_pseudo_label
from .store import LabelError

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


def default_num_workers() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read(photo: Path, image_processor: UsodImageProcessor, aux: Mapping[Path, Path] | None) -> _Photo:
    image = read_image(photo)
    maps = {} if aux is None else {"aux_images": [aux.get(photo)]}
    inputs = image_processor(image, **maps, return_tensors="pt")
    reduced = ImageOps.contain(image, (MAX_SIDE, MAX_SIDE)) if max(image.size) > MAX_SIDE else image
    return _Photo({name: batch[0] for name, batch in inputs.items()}, np.array(reduced), image.size)


def _read_ahead(
    jobs: Sequence[tuple[Path, Path]], size: int, read: Callable[[Path], "Future[_Photo]"]
) -> Iterator[list[tuple[Path, Path, "Future[_Photo]"]]]:
    """Batches of jobs with their photos being read, one batch ahead of the one that is worked on."""
    ahead: list[tuple[Path, Path, Future[_Photo]]] = []
    for start in range(0, len(jobs) + size, size):
        reading = [(photo, label, read(photo)) for photo, label in jobs[start : start + size]]
        if ahead:
            yield ahead
        ahead = reading


@torch.inference_mode()
def _saliency(model: PreTrainedModel, image_processor: UsodImageProcessor, photos: list[_Photo]) -> list[np.ndarray]:
    """Maps of the size at which the photos are refined."""
    inputs = {
        name: torch.stack([photo.inputs[name] for photo in photos]).to(model.device, model.dtype)
        for name in photos[0].inputs
    }
    sizes = [photo.image.shape[:2] for photo in photos]
    return [one.cpu().numpy() for one in image_processor.post_process_saliency(model(**inputs), sizes)]


def _refine_and_write(saliency: np.ndarray, image: np.ndarray, refine: str, size: tuple[int, int], path: Path) -> None:
    label = Image.fromarray(make_pseudo_label(saliency, image, refine) * np.uint8(255))
    if label.size != size:
        label = label.resize(size, Image.Resampling.BILINEAR).point(lambda level: 255 * (level > 127))
    write_aside(path, label.save)


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
    photos = {os.path.abspath(photo) for photo, _ in jobs}
    labels: set[str] = set()
    for photo, label in jobs:
        path = os.path.abspath(label)
        if path in photos:
            raise ValueError(f"{label}: is a photo that a label would overwrite. Choose another folder for the labels.")
        if path in labels:
            raise ValueError(f"{photo}: would share the label {label} with another photo.")
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
        num_workers: processes that refine, beside this one; 0 does it here. By default one a core, divided
            among the processes of `shard`; none where there is nothing to refine.
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
    report = LabelReport()
    remaining = []
    for photo, label in jobs[shard[0] :: shard[1]]:
        if not overwrite and label.exists():
            report.kept.append(label)
        else:
            remaining.append((photo, label))
    if not remaining:
        return report
    if num_workers is None:
        # The processes of a machine share its cores
        num_workers = max(1, default_num_workers() // shard[1]) if refine != "none" else 0

    writing: deque[tuple[Path, Future[None]]] = deque()
    with (
        tqdm(total=len(remaining), desc="labelling", unit="photo", disable=not progress) as bar,
        ThreadPoolExecutor(2) as readers,
        _workers(num_workers) as workers,
    ):

        def settle(limit: int) -> None:
            """Waits until no more than `limit` labels are being made."""
            while len(writing) > limit:
                photo, future = writing.popleft()
                try:
                    future.result()
                    report.done += 1
                except OSError as error:
                    report.failed[photo] = f"{photo}: its label cannot be written ({error})"
                bar.update()

        def read(photo: Path) -> "Future[_Photo]":
            return readers.submit(_read, photo, image_processor, aux)

        try:
            for batch in _read_ahead(remaining, batch_size, read):
                photos: list[tuple[Path, Path, _Photo]] = []
                for path, label, reading in batch:
                    try:
                        photos.append((path, label, reading.result()))
                    except (ValueError, OSError) as error:
                        report.failed[path] = str(error)
                        bar.update()
                maps = _saliency(model, image_processor, [photo for _, _, photo in photos]) if photos else []
                for (path, label, read_photo), saliency in zip(photos, maps):
                    job = workers.submit(_refine_and_write, saliency, read_photo.image, refine, read_photo.size, label)
                    writing.append((path, job))
                settle(limit=batch_size + 2 * num_workers)
            settle(limit=0)
        except BrokenProcessPool as error:
            raise LabelError(
                "A worker process died, most likely for lack of memory. Go on with fewer --num_workers; "
                "the labels made so far are kept."
            ) from error
    return report
