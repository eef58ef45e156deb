"""Salient objects of a clip, from a video file to video files, with a few frames in memory at a time."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm
from transformers import Pipeline

from ..data.video import flow_frame, flow_image, require_opencv
from .agreement import Detected, agreed
from .clip_files import ClipError, ClipReader, ClipWriter
from .pictures import on_background, picture

GREEN = "#00ff00"


@dataclass
class ClipReport:
    """What became of a clip."""

    frames: int = 0
    files: dict[str, Path] = field(default_factory=dict)  # by kind
    problem: str | None = None  # why they do not show the whole clip
    note: str | None = None  # what else is missing


def partial_path(path: Path) -> Path:
    """Where a file goes that does not show the whole clip: `<name>_partial.mp4`."""
    return path.with_stem(f"{path.stem}_partial")


def _until_damage(frames: Iterable, report: ClipReport) -> Iterator:
    """The frames up to where the clip is damaged, which the report then says."""
    try:
        yield from frames
    except ClipError as error:
        report.problem = str(error)


def _with_neighbours(frames: Iterable) -> Iterator[tuple]:
    """(frame, the next one, False), for the last (frame, the previous one, True); the other is None for a lone one."""
    previous = current = None
    for following in frames:
        if current is not None:
            yield current, following, False
        previous, current = current, following
    if current is not None:
        yield current, previous, True


def _batches(items: Iterable, size: int) -> Iterator[list]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _with_flow(pair) -> dict[str, Image.Image | None]:
    """What a model with an auxiliary input is given."""
    (image, _), other, backwards = pair
    if other is None:
        return {"image": image, "aux": None}
    return {"image": image, "aux": Image.fromarray(flow_image(flow_frame(image), flow_frame(other[0]), backwards))}


def predict_clip(
    detect: Pipeline,
    clip: str | Path,
    outputs: Mapping[str, Path],
    *,
    threshold: float = 0.5,
    background: str = GREEN,
    batch_size: int = 4,
    temporal: bool = False,
    progress: bool = True,
) -> ClipReport:
    """Writes the salient objects of a clip as MP4 files (H.264), with its size, orientation, times and sound.

    Memory holds `batch_size` frames (and `LOOK_AHEAD` with `temporal`), what is made of them, and what the decoder and
    the encoder keep. Models that take
    an auxiliary map get the optical flow. If the clip is damaged, or the work is interrupted, what is done by then is
    kept, playable, under `partial_path` of each file; an earlier one is replaced.

    Args:
        detect: a `salient-object-detection` pipeline.
        clip: a video file.
        outputs: the files to make by kind (`OUTPUT_KINDS`); those that exist are replaced.
        threshold: saliency above it is object in the mask.
        background: what is behind the cutout, as a CSS colour: H.264 has no transparency.
        batch_size: frames that go through the model at a time.
        temporal: whether the maps of frames are to agree along the optical flow; see `agree`.

    Raises:
        ClipError: naming the file, if no frame of it can be read.
        ValueError: if `background` is no colour.
        OSError: if a file cannot be written.
        ModuleNotFoundError: without PyAV or, where flow is needed, OpenCV.
    """
    clip = Path(clip)
    with_flow = detect.model.config.takes_aux
    told = {"aux_kind": "flow"} if with_flow and detect.model.config.modality_informed else {}
    if with_flow or temporal:
        require_opencv()
    on_background(Image.new("RGBA", (1, 1)), background)
    reader = ClipReader(clip)
    report = ClipReport()
    writers: dict[str, ClipWriter] = {}
    early_sound: list = []  # before the first frame

    def on_sound(packet) -> None:
        if not writers:
            early_sound.append(packet)
        for writer in writers.values():
            writer.write_sound(packet)

    def write(image: Image.Image, pts: int, pictures: dict[str, Image.Image]) -> None:
        pictures["cutout"] = on_background(pictures["cutout"], background)
        made = {kind: picture(kind, image, pictures) for kind in outputs}
        if not writers:
            writers.update((kind, ClipWriter(path, reader, made[kind].size)) for kind, path in outputs.items())
            for packet in early_sound:
                on_sound(packet)
        for kind, writer in writers.items():
            writer.write(made[kind], pts)
        report.frames += 1

    complete = False
    try:
        with (
            ThreadPoolExecutor() as pool,
            tqdm(total=reader.num_frames, desc=clip.name, unit="frame", disable=not progress) as bar,
        ):

            def detected() -> Iterator[Detected]:
                for batch in _batches(_with_neighbours(_until_damage(reader.frames(on_sound), report)), batch_size):
                    images = [image for (image, _), _, _ in batch]
                    inputs = list(pool.map(_with_flow, batch)) if with_flow else images
                    results = detect(inputs, batch_size=batch_size, threshold=threshold, **told)
                    yield from ((pts, image, result) for ((image, pts), _, _), result in zip(batch, results))

            for pts, image, result in agreed(detected(), threshold) if temporal else detected():
                write(image, pts, result)
                bar.update()
        complete = report.problem is None
    finally:
        with ExitStack() as ending:  # each is finished, whatever becomes of the others
            ending.callback(reader.close)
            for kind, writer in writers.items():
                report.files[kind] = writer.path if complete else partial_path(writer.path)
                ending.callback(writer.finish, report.files[kind])
    if not report.frames:
        raise ClipError(report.problem or f"{clip}: has no frames.")
    if reader.sound is not None and any(writer.sound is None for writer in writers.values()):
        report.note = f"{clip}: its sound ({reader.sound.name}) does not fit into MP4 and was left out."
    return report
