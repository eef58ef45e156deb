"""Salient objects of a clip, from a video file to video files, with a few frames in memory at a time."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path

from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from ..data.batches import BYTES_A_PIXEL, Done, Failed, lanes_of, through
from ..data.origin import Origin
from ..data.video import flow_frame, flow_image, require_opencv
from ..errors import ClipError, DataError, UsodError
from .agreement import agreed
from .clip_files import CONTAINERS, ClipReader, ClipWriter
from .jobs import partial_path
from .maps import Maps
from .rendering import Rendering

Frame = tuple[Image.Image, int]  # RGB, and its time
_Pair = tuple[Frame, Frame | None, bool]  # a frame, the one that its flow leads to, and whether that is backwards


@dataclass
class ClipReport:
    """What became of a clip."""

    frames: int = 0
    files: dict[str, Path] = field(default_factory=dict)  # by kind
    problem: str | None = None  # why they do not show the whole clip
    notes: list[str] = field(default_factory=list)  # what else should be known


def _until_damage(frames: Iterable, report: ClipReport) -> Iterator:
    """The frames up to where the clip is damaged, which the report then says."""
    try:
        yield from frames
    except ClipError as error:
        report.problem = str(error)


def _with_neighbors(frames: Iterable) -> Iterator[tuple]:
    """(frame, the next one, False), for the last (frame, the previous one, True); the other is None for a lone one."""
    previous = current = None
    for following in frames:
        if current is not None:
            yield current, following, False
        previous, current = current, following
    if current is not None:
        yield current, previous, True


def _with_flow(pair: _Pair) -> dict[str, Image.Image | None]:
    """What a model with an auxiliary input is given."""
    (image, _), other, backwards = pair
    if other is None:
        return {"image": image, "aux": None}
    return {"image": image, "aux": Image.fromarray(flow_image(flow_frame(image), flow_frame(other[0]), backwards))}


class _Writers:
    """The files of a clip, all begun with its first frame."""

    def __init__(self, reader: ClipReader, outputs: Mapping[str, Path], rendering: Rendering, report: ClipReport):
        self.reader, self.outputs, self.rendering, self.report = reader, outputs, rendering, report
        self.by_kind: dict[str, ClipWriter] = {}
        self.early_sound: list = []  # before the first frame

    def write_sound(self, packet) -> None:
        if not self.by_kind:
            self.early_sound.append(packet)
        for writer in self.by_kind.values():
            writer.write_sound(packet)

    def write(self, image: Image.Image, saliency: Tensor, pts: int) -> None:
        saliency = self.rendering.refined(image, saliency)
        pictures = {kind: self.rendering.picture(kind, image, saliency, opaque=True) for kind in self.outputs}
        if not self.by_kind:
            origin = Origin.of(self.reader.path)
            for kind, path in self.outputs.items():
                self.by_kind[kind] = ClipWriter(path, self.reader, pictures[kind], origin.as_kind(kind).comment)
            for packet in self.early_sound:
                self.write_sound(packet)
        for kind, writer in self.by_kind.items():
            writer.write(pictures[kind], pts)
        self.report.frames += 1

    def finish(self, complete: bool) -> None:
        with ExitStack() as ending:  # each is finished, whatever becomes of the others
            ending.callback(self.reader.close)
            for kind, writer in self.by_kind.items():
                self.report.files[kind] = writer.path if complete else partial_path(writer.path)
                ending.callback(writer.finish, self.report.files[kind])


def _detect(maps: Maps, clip: Path, seconds: Fraction, pairs: list[_Pair], inputs: list) -> Iterator:
    names = [f"{clip}: frame at {float(pts * seconds):.2f} seconds" for (_, pts), _, _ in pairs]
    for ((image, _), _, _), saliency in zip(pairs, maps.of(inputs, names), strict=True):
        yield saliency if isinstance(saliency, UsodError) else (image, saliency)


def _check_transparency(outputs: Mapping[str, Path], rendering: Rendering) -> None:
    for kind in rendering.transparent:
        if kind in outputs and outputs[kind].suffix.lower() != ".webm":
            raise DataError(f"{outputs[kind]}: cannot be transparent. Name it .webm, or choose a color as background.")


def predict_clip(
    detect,
    clip: str | Path,
    outputs: Mapping[str, Path],
    rendering: Rendering = Rendering(),  # noqa: B008 (it is frozen)
    *,
    batch_size: int = 4,
    progress: bool = True,
) -> ClipReport:
    """Writes the salient objects of a clip as MP4 files (H.264), with its size, shape, orientation, times and sound.

    A file that is to be named `.webm` is WebM (VP9), which has transparency.

    Memory holds twice `batch_size` frames (and `LOOK_AHEAD` where they are to agree), what is made of them, and what
    the decoder and the encoder keep. Models that take an auxiliary map get the optical flow. If the clip is damaged, or
    the work is interrupted, what is done by then is kept, playable, under `partial_path` of each file; an earlier one
    is replaced.

    Args:
        detect: a `salient-object-detection` pipeline.
        clip: a video file.
        outputs: the files to make by kind (`OUTPUT_KINDS`); those that exist are replaced.
        rendering: how they are made; cutouts are over its background, as H.264 has no transparency; `TRANSPARENT`
            wants a WebM file.
        batch_size: frames that go through the model at a time.

    Raises:
        ClipError: naming the file, if no frame of it can be read.
        DataError: for a transparent background and a file that is no WebM.
        OSError: if a file cannot be written.
        ModuleNotFoundError: without PyAV or, where flow is needed, OpenCV.
    """
    clip, report = Path(clip), ClipReport()
    with_flow = detect.model.config.takes_aux
    _check_transparency(outputs, rendering)
    maps = Maps(
        detect, batch_size, **({"aux_kind": "flow"} if with_flow and detect.model.config.modality_informed else {})
    )
    if with_flow or rendering.temporal:
        require_opencv()
    reader = ClipReader(clip)
    writers = _Writers(reader, outputs, rendering, report)
    complete = False
    lanes, size = lanes_of(detect.model, batch_size)
    try:
        outcomes: Iterable[Done | Failed] = through(
            _with_neighbors(_until_damage(reader.frames(writers.write_sound), report)),
            _with_flow if with_flow else lambda pair: pair[0][0],
            partial(_detect, maps, clip, reader.time_base),
            batch_size=size,
            lanes=lanes,
            cost=lambda pair: pair[0][0].width * pair[0][0].height * BYTES_A_PIXEL,
            link=agreed if rendering.temporal else iter,
        )
        for outcome in tqdm(outcomes, clip.name, reader.num_frames, unit="frame", disable=not progress):
            if not isinstance(outcome, Done):
                report.problem = str(outcome.error)
                break
            ((_, pts), _, _), (image, saliency) = outcome.item, outcome.result
            writers.write(image, saliency, pts)
        complete = report.problem is None
    finally:
        writers.finish(complete)
    if not report.frames:
        raise ClipError(report.problem or f"{clip}: has no frames.")
    report.notes += [f"{clip}: {note}" for note in maps.notes]
    if reader.sound is not None:
        mute = {writer.path.suffix for writer in writers.by_kind.values() if writer.sound is None}
        report.notes += [
            f"{clip}: its sound ({reader.sound.name}) does not fit into {CONTAINERS[suffix]} and was left out."
            for suffix in sorted(mute)
        ]
    return report
