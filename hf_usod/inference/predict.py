"""Salient objects of many photos, from files to files."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm
from transformers import Pipeline

from ..files import write_aside
from ..models.image_processing_usod import read_image
from .outputs import Job, plan_outputs

OVERLAY_COLOUR = (255, 40, 90)
OVERLAY_OPACITY = 0.6


@dataclass
class Report:
    """What became of the images of a prediction."""

    done: int = 0  # images with at least one file written
    kept: list[Path] = field(default_factory=list)  # outputs that existed and were left as they are
    failed: dict[Path, str] = field(default_factory=dict)  # images that could not be read or written, and why


def overlay(image: Image.Image, saliency: Image.Image) -> Image.Image:
    """The photo (RGB) with its salient objects tinted by their saliency (mode L)."""
    tint = Image.new("RGB", image.size, OVERLAY_COLOUR)
    return Image.composite(tint, image, saliency.point(lambda level: round(level * OVERLAY_OPACITY)))


def _to_do(jobs: Iterable[Job], overwrite: bool, report: Report) -> list[Job]:
    """The jobs without the outputs that exist already; those are noted as kept."""
    remaining = []
    for job in jobs:
        kept = [] if overwrite else [path for path in job.outputs.values() if path.exists()]
        report.kept += kept
        if missing := {kind: path for kind, path in job.outputs.items() if path not in kept}:
            remaining.append(Job(job.image, missing))
    return remaining


def _read_ahead(jobs: Sequence[Job], size: int, pool: ThreadPoolExecutor) -> Iterator[list[tuple[Job, Future]]]:
    """Chunks of jobs with their images being read, one chunk ahead of the one that is worked on."""
    chunks = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    ahead: list[tuple[Job, Future]] = []
    for chunk in [*chunks, []]:
        reading = [(job, pool.submit(read_image, job.image)) for job in chunk]
        if ahead:
            yield ahead
        ahead = reading


def _write(job: Job, image: Image.Image, pictures: dict[str, Image.Image]) -> None:
    for kind, path in job.outputs.items():
        picture = overlay(image, pictures["saliency"]) if kind == "overlay" else pictures[kind]
        write_aside(path, picture.save)


def predict(
    detect: Pipeline,
    inputs: Iterable[str | Path],
    output: str | Path,
    kinds: Sequence[str] = ("saliency",),
    *,
    threshold: float = 0.5,
    batch_size: int = 4,
    overwrite: bool = False,
    progress: bool = True,
) -> Report:
    """Writes the salient objects of photos as PNGs, at each photo's own size and orientation.

    Images that cannot be read, and outputs that cannot be written, are reported and do not stop the others.

    Args:
        detect: a `salient-object-detection` pipeline.
        inputs: files, folder trees or glob patterns.
        output: the folder for the results; the inputs' folder structure is kept in it.
        kinds: of `OUTPUT_KINDS`. One gives `<stem>.png`, several give `<stem>_<kind>.png`.
        threshold: saliency above it is object in the mask.
        batch_size: images that go through the model at a time.
        overwrite: whether to replace outputs that exist; otherwise they are kept and reported.

    Raises:
        FileNotFoundError: for an input that does not exist.
        ValueError: if an output would overwrite an input.
    """
    report = Report()
    jobs = _to_do(plan_outputs(inputs, output, kinds), overwrite, report)
    with ThreadPoolExecutor() as pool, tqdm(total=len(jobs), unit="photo", disable=not progress) as bar:
        for chunk in _read_ahead(jobs, batch_size, pool):
            images: list[tuple[Job, Image.Image]] = []
            for job, reading in chunk:
                try:
                    images.append((job, reading.result()))
                except (ValueError, OSError) as error:
                    report.failed[job.image] = str(error)
            results = (
                detect([image for _, image in images], batch_size=batch_size, threshold=threshold) if images else []
            )
            writing = [(job, pool.submit(_write, job, image, result)) for (job, image), result in zip(images, results)]
            for job, future in writing:
                try:
                    future.result()
                    report.done += 1
                except OSError as error:
                    report.failed[job.image] = f"{job.image}: its output cannot be written ({error})"
            bar.update(len(chunk))
    return report
