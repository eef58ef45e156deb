"""Salient objects of many photos and clips, from files to files."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm
from transformers import Pipeline, PreTrainedModel

from ..data import by_stem
from ..data.video import group_frames, is_video_file, neighbours, read_flow_image, require_opencv
from ..files import write_aside
from ..models.image_processing_usod import check_aux, read_aux, read_image
from .agreement import Detected, agreed
from .clip_files import ClipError
from .outputs import Job, expand_inputs, plan_outputs
from .pictures import picture
from .video import GREEN, predict_clip

# Where the auxiliary map of an image comes from; None for an image that has none.
AuxReader = Callable[[Path], Image.Image | None]


@dataclass
class Report:
    """What became of the images of a prediction."""

    done: int = 0  # images with at least one file written
    clips: int = 0  # clips that were done to their end
    kept: list[Path] = field(default_factory=list)  # outputs that existed and were left as they are
    failed: dict[Path, str] = field(default_factory=dict)  # what could not be read or written (to its end), and why
    notes: list[str] = field(default_factory=list)  # what else should be known


def flow_of_frames(images: Iterable[Path]) -> AuxReader:
    """The optical flow of frames, computed from neighbouring ones as it is asked for.

    Args:
        images: all frames; those of one folder, in the order of their names, are a sequence.

    Raises:
        ModuleNotFoundError: without OpenCV.
    """
    require_opencv()
    pairs = neighbours(group_frames(images))
    return lambda image: read_flow_image(image, *pairs[image]) if image in pairs else None


def find_maps(model: PreTrainedModel, folder: str | Path, images: Iterable[tuple[Path, Path]]) -> dict[Path, Path]:
    """The auxiliary maps of images in a folder, for a model that takes them.

    Args:
        images: with their relative paths, which the maps have in their folder, whatever the suffix.

    Raises:
        FileNotFoundError: if the folder does not exist, or holds no map of any of the images.
        ValueError: naming two maps of one image, or if the model takes none.
    """
    if not model.config.takes_aux:
        raise ValueError(f"A {model.config.model_type} model takes no auxiliary maps; use a detector (usod_sd).")
    maps = by_stem(folder)
    found = {image: maps[stem] for image, relative in images if (stem := relative.with_suffix("").as_posix()) in maps}
    if not found:
        raise FileNotFoundError(f"{folder}: holds no map of any of the photos (matched by path without suffix).")
    return found


def _to_do(jobs: Iterable[Job], overwrite: bool, report: Report) -> list[Job]:
    """The jobs without the outputs that exist already; those are noted as kept."""
    remaining = []
    for job in jobs:
        kept = [] if overwrite else [path for path in job.outputs.values() if path.exists()]
        report.kept += kept
        if missing := {kind: path for kind, path in job.outputs.items() if path not in kept}:
            remaining.append(Job(job.image, missing))
    return remaining


def _whole_sequences(jobs: Iterable[Job], to_do: Sequence[Job]) -> list[Job]:
    """The folders of what is to be done, whole and in the order of time: frames that are done already are looked at,
    as their neighbours depend on them, and nothing is made of them."""
    folders, by_image = {job.image.parent for job in to_do}, {job.image: job for job in to_do}
    frames = [job.image for job in jobs if job.image.parent in folders and not is_video_file(job.image)]
    return [by_image.get(frame, Job(frame, {})) for sequence in group_frames(frames) for frame in sequence.frames]


def _read(image: Path, aux_of: AuxReader | None) -> tuple[Image.Image, Image.Image | None]:
    photo, aux = read_image(image), aux_of(image) if aux_of else None
    if aux is not None:
        check_aux(photo.size, aux.size, image)
    return photo, aux


def _read_ahead(
    jobs: Sequence[Job], size: int, aux_of: AuxReader | None, pool: ThreadPoolExecutor
) -> Iterator[list[tuple[Job, Future]]]:
    """Chunks of jobs with their images being read, one chunk ahead of the one that is worked on."""
    chunks = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    ahead: list[tuple[Job, Future]] = []
    for chunk in [*chunks, []]:
        reading = [(job, pool.submit(_read, job.image, aux_of)) for job in chunk]
        if ahead:
            yield ahead
        ahead = reading


def _write(job: Job, image: Image.Image, pictures: dict[str, Image.Image]) -> None:
    for kind, path in job.outputs.items():
        write_aside(path, picture(kind, image, pictures).save)


def predict(
    detect: Pipeline,
    inputs: Iterable[str | Path],
    output: str | Path,
    kinds: Sequence[str] = ("saliency",),
    *,
    threshold: float = 0.5,
    batch_size: int = 4,
    overwrite: bool = False,
    aux: str | Path | None = None,
    aux_of: AuxReader | None = None,
    aux_kind: str | None = None,
    background: str = GREEN,
    temporal: bool = False,
    progress: bool = True,
) -> Report:
    """Writes the salient objects of photos as PNGs, and of clips as MP4s, at their own size and orientation.

    What cannot be read or written is reported and does not stop the others.

    Args:
        detect: a `salient-object-detection` pipeline.
        inputs: files, folder trees or glob patterns.
        output: the folder for the results; the inputs' folder structure is kept in it.
        kinds: of `OUTPUT_KINDS`. One gives `<stem>.png`, several give `<stem>_<kind>.png`.
        threshold: saliency above it is object in the mask.
        batch_size: images that go through the model at a time.
        overwrite: whether to replace outputs that exist; otherwise they are kept and reported.
        aux: for a model that takes them, the folder with the auxiliary maps of photos, at the photos' places relative
            to the inputs, whatever the suffix. A photo without one serves as its own, which is noted.
        aux_of: gives the auxiliary maps instead.
        aux_kind: what the maps of photos are, for a model that is told; those of clips are flow.
        background: colour behind the cutouts of clips.
        temporal: whether the maps of a clip's frames, and of the photos of each folder, are to agree along the optical
            flow; see `agree`.

    Raises:
        FileNotFoundError: for an input that does not exist, or if `aux` holds no map of any photo.
        ValueError: if an output would overwrite an input, `background` is no colour, or `aux` is given for a model
            that takes no maps.
        ModuleNotFoundError: for clips, without PyAV; for `temporal`, without OpenCV.
    """
    report = Report()
    planned = plan_outputs(inputs, output, kinds)
    jobs = _to_do(planned, overwrite, report)
    photos = [job for job in jobs if not is_video_file(job.image)]
    if aux is not None:
        maps = find_maps(detect.model, aux, expand_inputs(inputs, output))
        if without := sum(job.image not in maps for job in photos):
            report.notes.append(f"{without} of {len(photos)} photos have no map in {aux} and were predicted without.")
        aux_of = lambda image: read_aux(maps[image]) if image in maps else None  # noqa: E731
    if temporal:
        photos = _whole_sequences(planned, photos)
    _predict_photos(detect, photos, threshold, batch_size, aux_of, aux_kind, temporal, progress, report)
    for job in jobs:
        if not is_video_file(job.image):
            continue
        try:
            clip = predict_clip(
                detect,
                job.image,
                job.outputs,
                threshold=threshold,
                background=background,
                batch_size=batch_size,
                temporal=temporal,
                progress=progress,
            )
        except (ClipError, OSError) as error:
            report.failed[job.image] = str(error)
            continue
        report.notes += [clip.note] if clip.note else []
        if clip.problem:
            files = ", ".join(map(str, clip.files.values()))
            report.failed[job.image] = f"{clip.problem} The {clip.frames} frames before are in {files}."
        else:
            report.clips += 1
    return report


def _predict_photos(
    detect: Pipeline,
    jobs: Sequence[Job],
    threshold: float,
    batch_size: int,
    aux_of: AuxReader | None,
    aux_kind: str | None,
    temporal: bool,
    progress: bool,
    report: Report,
) -> None:
    if not jobs:
        return
    writing: deque[tuple[Job, Future]] = deque()
    with ThreadPoolExecutor() as pool, tqdm(total=len(jobs), unit="photo", disable=not progress) as bar:

        def detected() -> Iterator[Detected]:
            for chunk in _read_ahead(jobs, batch_size, aux_of, pool):
                read: list[tuple[Job, Image.Image, Image.Image | None]] = []
                for job, reading in chunk:
                    try:
                        read.append((job, *reading.result()))
                    except (ValueError, OSError) as error:
                        report.failed[job.image] = str(error)
                given = [{"image": image, "aux": aux} if aux_of else image for _, image, aux in read]
                results = detect(given, batch_size=batch_size, threshold=threshold, aux_kind=aux_kind) if given else []
                yield from ((job, image, result) for (job, image, _), result in zip(read, results))
                bar.update(len(chunk))

        def settle(limit: int) -> None:
            """Waits until no more than `limit` images are being written."""
            while len(writing) > limit:
                job, future = writing.popleft()
                try:
                    future.result()
                    report.done += bool(job.outputs)
                except OSError as error:
                    report.failed[job.image] = f"{job.image}: its output cannot be written ({error})"

        for job, image, result in _agreed_by_folder(detected(), threshold) if temporal else detected():
            writing.append((job, pool.submit(_write, job, image, result)))
            settle(limit=batch_size)
        settle(limit=0)


def _agreed_by_folder(frames: Iterable[Detected], threshold: float) -> Iterator[Detected]:
    for _, sequence in groupby(frames, key=lambda frame: frame[0].image.parent):
        yield from agreed(sequence, threshold)
