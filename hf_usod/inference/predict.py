"""Salient objects of many photos and clips, from files to files."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ..data import by_stem
from ..data.batches import Failed, lanes_of, picture_bytes, through
from ..data.origin import Origin, is_result
from ..data.video import group_frames, neighbors, read_flow_image, require_opencv
from ..errors import DataError, OutputError, UsodError, counted, is_out_of_memory
from ..files import is_disk_full, write_aside
from ..folding import FEW
from ..models.image_processing_usod import check_aux, read_aux
from ..models.reading_usod import read_photo
from .agreement import Detected, agreed
from .encoding import Encoding, made_of
from .jobs import Job, check_untouched, plan_jobs
from .maps import Maps
from .rendering import Rendering
from .report import Record, Report, Tell
from .speed import AUTO, at_full_speed
from .tiled import Tiled
from .video import predict_clip

OPENED = 1000  # results of an earlier run at most, which takes some tenths of a second
TOLD = 10  # of these, one by one
# Where the auxiliary map of an image comes from; None for an image that has none.
AuxReader = Callable[[Path], Image.Image | None]


class Detects(Protocol):
    """A `salient-object-detection` pipeline, or what is called as one."""

    model: PreTrainedModel

    def __call__(self, inputs: list, **options: Any) -> list[dict[str, Any]]: ...


@dataclass(frozen=True)
class AuxMaps:
    """Where the auxiliary maps of photos come from.

    Args:
        folder: holds them at the photos' places relative to the inputs, whatever the suffix. A photo without one serves
            as its own, which is noted.
        flow: they are computed: the photos of each folder are frames.
        kind: what they are, for a model that is told.
    """

    folder: str | Path | None = None
    flow: bool = False
    kind: str | None = None


def find_maps(model: PreTrainedModel, folder: str | Path, jobs: Sequence[Job]) -> dict[Path, Path]:
    """The auxiliary maps of photos in a folder, for a model that takes them.

    Raises:
        FileNotFoundError: if the folder does not exist, or holds no map of any of the photos.
        ValueError: naming two maps of one photo, or if the model takes none, or an output would overwrite a map.
    """
    if not model.config.takes_aux:
        raise DataError(
            f"A {model.config.model_type} model takes no auxiliary maps; use a detector (usod_sd; if it is "
            "exported, with --aux)."
        )
    maps = by_stem(folder)
    stems = {job.source: job.relative.with_suffix("").as_posix() for job in jobs}
    paired = {source: maps[stem] for source, stem in stems.items() if stem in maps}
    if not paired:
        raise FileNotFoundError(f"{folder}: holds no map of any of the photos (matched by path without suffix).")
    check_untouched(jobs, paired.values(), "an auxiliary map")
    return paired


def _aux_reader(model: PreTrainedModel, aux: AuxMaps, jobs: Sequence[Job], report: Report) -> AuxReader | None:
    photos = [job for job in jobs if not job.is_clip]
    if aux.folder is not None:
        maps = find_maps(model, aux.folder, jobs)
        if without := sum(job.source not in maps for job in photos):
            report.notes.append(
                f"{without} of {len(photos)} photos have no map in {aux.folder} and were predicted without."
            )
        return lambda photo: read_aux(maps[photo]) if photo in maps else None
    if aux.flow and model.config.takes_aux:
        require_opencv()
        pairs = neighbors(group_frames(job.source for job in photos))
        return lambda photo: read_flow_image(photo, *pairs[photo]) if photo in pairs else None
    if aux.flow:
        report.notes.append("This model looks at frames one by one; their flow is not used.")
    return None


def _to_do(jobs: Iterable[Job], overwrite: bool, report: Report) -> list[Job]:
    """The jobs without the outputs that exist already; those are noted as kept. The first of them are opened, to see
    whether they are of other photos, or of other kinds."""
    remaining, misfits = [], []
    for job in jobs:
        kept = {} if overwrite else {kind: path for kind, path in job.outputs.items() if path.exists()}
        if opened := list(kept.items())[: max(0, OPENED - len(report.kept))]:
            origin = Origin.of(job.source)
            for kind, path in opened:
                if reason := made_of(path).misfit(origin.as_kind(kind)):
                    misfits.append(f"{path}: {reason}, and is kept; --overwrite replaces it.")
        report.kept += kept.values()
        if missing := {kind: path for kind, path in job.outputs.items() if kind not in kept}:
            remaining.append(replace(job, outputs=missing))
    report.notes += misfits[:TOLD]
    if (more := len(misfits) - TOLD) > 0:
        report.notes.append(f"{more} more of the files that are kept are not of these photos, or of other kinds.")
    return remaining


def _whole_sequences(jobs: Iterable[Job], to_do: Sequence[Job]) -> list[Job]:
    """The folders of what is to be done, whole and in the order of time: frames that are done already are looked at,
    as their neighbors depend on them, and nothing is made of them."""
    folders, by_source = {job.source.parent for job in to_do}, {job.source: job for job in to_do}
    frames = {job.source: job for job in jobs if job.source.parent in folders and not job.is_clip}
    ordered = [frame for sequence in group_frames(frames) for frame in sequence.frames]
    return [by_source.get(frame, replace(frames[frame], outputs={})) for frame in ordered]


def predict(
    detect: Detects,
    inputs: Iterable[str | Path],
    output: str | Path,
    rendering: Rendering = Rendering(),  # noqa: B008 (it is frozen)
    *,
    aux: AuxMaps = AuxMaps(),
    batch_size: int = 4,
    encoding: Encoding = Encoding(),  # noqa: B008
    overwrite: bool = False,
    mixed_precision: str = AUTO,
    shard: tuple[int, int] = (0, 1),
    progress: bool = True,
    tell: Tell = lambda record: None,
) -> Report:
    """Writes the salient objects of photos as pictures, and of clips as MP4s, at their own size and orientation.

    What cannot be read or written is reported and does not stop the others. Results of earlier runs that are found in
    folders or by patterns are passed over.

    Args:
        detect: a `salient-object-detection` pipeline.
        inputs: files, folder trees or glob patterns.
        output: the folder for the results; the inputs' folder structure is kept in it.
        rendering: what is made. One kind gives `<stem>.png`, several give `<stem>_<kind>.png`.
        aux: for a model that takes them, the photos' auxiliary maps.
        batch_size: images that go through the model at a time.
        encoding: the files of photos.
        overwrite: whether to replace outputs that exist; otherwise they are kept and reported.
        mixed_precision: see `at_full_speed`.
        shard: of several processes this one's place and their number: it takes its part of the photos and clips.
        tell: is called with what became of each photo and clip that was not done before, as soon as it is known.

    Raises:
        FileNotFoundError: for an input that does not exist, or if `aux` holds no map of any photo.
        ValueError: if an output would overwrite an input, or `aux` is given for a model that takes no maps.
        OSError: if nothing can be written in `output`, or (`OutputError`) nothing more, saying what is kept.
        ModuleNotFoundError: for clips, without PyAV; for optical flow, without OpenCV.
        KeyboardInterrupt: saying what is done and kept.
    """
    encoding.check(rendering.kinds, rendering.has_background)
    plan, report = plan_jobs(inputs, output, rendering.kinds, rendering.transparent, encoding.suffix), Report()
    if rendering.temporal and shard[1] > 1:
        raise DataError("Maps that agree over time depend on one another: use one process.")
    jobs = _to_do(plan.jobs[shard[0] :: shard[1]], overwrite, report)
    read_map = _aux_reader(detect.model, aux, plan.jobs, report)
    photos = [job for job in jobs if not job.is_clip]
    if rendering.temporal:
        photos = _whole_sequences(plan.jobs, photos)
    try:
        kind = "flow" if aux.flow and read_map and detect.model.config.modality_informed else aux.kind
        maps = Maps(detect, batch_size, **({"aux_kind": kind} if kind else {}))
        # A clip has many frames, and a photo many windows
        many = len(photos) > FEW or isinstance(detect, Tiled) or any(job.is_clip for job in jobs)
        with at_full_speed(detect, mixed_precision, fold=many):
            _predict_photos(_Photos(maps, rendering, encoding, read_map), photos, progress, report, tell)
            for job in jobs:
                if job.is_clip and not job.is_named and made_of(job.source).kind:
                    report.passed_over += 1
                elif job.is_clip:
                    tell(_predict_clip(detect, job, rendering, batch_size, progress, report))
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(
            f"stopped. {str(report).capitalize()} done and kept in {output}; the same command goes on."
        ) from stop
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise OutputError(
            f"{output}: the disk is full. {str(report).capitalize()} done and kept there; free some space, and the "
            "same command goes on."
        ) from error
    if report.passed_over:
        told = counted(report.passed_over, "result")
        report.notes.append(f"Passed over: {told} of hf-usod; give the files' names to have them done.")
    if rendering.background and "cutout" not in rendering.kinds:
        report.notes.append("The background is behind cutouts, and none is made; --save cutout makes them.")
    report.notes += plan.notes
    return report


class _ResultError(DataError):
    """A picture in a folder is no photo, but a result of an earlier run."""


@dataclass(frozen=True)
class _Photos:
    """What photos go through."""

    maps: Maps
    rendering: Rendering
    encoding: Encoding
    read_map: AuxReader | None
    seconds: dict[Path, float] = field(default_factory=lambda: defaultdict(float))  # of work on each

    def read(self, job: Job) -> tuple[Image.Image, Image.Image | None]:
        start = time.perf_counter()
        photo = read_photo(job.source)
        if is_result(photo) and not job.is_named:
            raise _ResultError(f"{job.source}: is a result of hf-usod.")
        try:
            for kind in job.outputs:
                self.encoding.check_size(self.rendering.least_size(kind, photo.size))
        except DataError as error:
            raise DataError(f"{job.source}: {error}.") from error
        aux = self.read_map(job.source) if self.read_map else None
        if aux is not None:
            check_aux(photo.size, aux.size, job.source)
        self.seconds[job.source] += time.perf_counter() - start
        return photo, aux

    def run(self, jobs: list[Job], pairs: list) -> Iterator[tuple[Image.Image, Tensor] | UsodError]:
        start = time.perf_counter()
        inputs = [{"image": photo, "aux": aux} if self.read_map else photo for photo, aux in pairs]
        maps = list(self.maps.of(inputs, [str(job.source) for job in jobs]))
        for job in jobs:
            self.seconds[job.source] += (time.perf_counter() - start) / len(jobs)
        for (photo, _), saliency in zip(pairs, maps, strict=True):
            yield saliency if isinstance(saliency, UsodError) else (photo, saliency)

    def write(self, job: Job, result: tuple[Image.Image, Tensor]) -> Record:
        start = time.perf_counter()
        shown = self.rendering.shown(*result) if job.outputs else result
        origin = Origin.of(job.source) if job.outputs else Origin()
        for kind, path in job.outputs.items():
            picture = self.rendering.picture(kind, *shown)
            self.encoding.check_size(picture.size)
            options = self.encoding.options(result[0], job.source.name, picture, origin.as_kind(kind).identifier)
            write_aside(path, partial(picture.save, **options))
        seconds = self.seconds.pop(job.source) + time.perf_counter() - start
        return Record(job.source, job.outputs, result[0].size, seconds)


def _predict_photos(photos: _Photos, jobs: Sequence[Job], progress: bool, report: Report, tell: Tell) -> None:
    full: list[Exception] = []
    lanes, size = lanes_of(photos.maps.detect.model, min(photos.maps.batch_size, max(1, len(jobs))))
    outcomes = through(
        takewhile(lambda _: not full, jobs),
        photos.read,
        photos.run,
        photos.write,
        batch_size=size,
        lanes=lanes,
        cost=lambda job: picture_bytes(job.source),
        link=_agreed_by_folder if photos.rendering.temporal else iter,
    )
    for outcome in tqdm(outcomes, total=len(jobs), unit="photo", disable=not (progress and jobs)):
        source = outcome.item.source
        if not isinstance(outcome, Failed):
            if outcome.item.outputs:
                report.done += 1
                tell(outcome.result)
        elif is_disk_full(outcome.error):
            full.append(outcome.error)
        elif isinstance(outcome.error, _ResultError):
            report.passed_over += 1
        else:
            cause = f"{source}: its output cannot be written ({outcome.error})" if outcome.writing else outcome.error
            report.failed[source] = str(cause)
            photos.seconds.pop(source, None)
            tell(Record(source, error=str(cause)))
    report.notes += photos.maps.notes
    if full:
        raise full[0]


def _agreed_by_folder(frames: Iterable[Detected]) -> Iterator[Detected]:
    for _, sequence in groupby(frames, key=lambda frame: frame[0].source.parent):
        yield from agreed(sequence)


def _predict_clip(
    detect: Detects, job: Job, rendering: Rendering, batch_size: int, progress: bool, report: Report
) -> Record:
    start = time.perf_counter()
    try:
        clip = predict_clip(detect, job.source, job.outputs, rendering, batch_size=batch_size, progress=progress)
    except (UsodError, OSError, MemoryError, RuntimeError) as error:
        lacks_memory = is_out_of_memory(error)
        if is_disk_full(error) or not (lacks_memory or isinstance(error, (UsodError, OSError))):
            raise
        cause = f"{job.source}: memory does not suffice for it." if lacks_memory else str(error)
        report.failed[job.source] = cause
        return Record(job.source, error=cause)
    report.notes += clip.notes
    seconds = time.perf_counter() - start
    if not clip.problem:
        report.clips += 1
        return Record(job.source, job.outputs, seconds=seconds)
    files = ", ".join(map(str, clip.files.values()))
    report.failed[job.source] = f"{clip.problem} The {clip.frames} frames before are in {files}."
    return Record(job.source, dict(clip.files), seconds=seconds, error=clip.problem)
