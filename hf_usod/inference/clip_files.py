"""Reading and writing video files, frame by frame. Needs PyAV (extra `video`)."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import ClipError
from ..extras import require
from ..files import aside_path

ENCODER = "libx264"
VP9_ENCODER = "libvpx-vp9"  # which decodes transparency, too: FFmpeg's own decoder drops it
CONTAINERS = {".mp4": "MP4", ".webm": "WebM"}
_FORMATS = {"L": "gray", "RGB": "rgb24", "RGBA": "rgba"}
# Without frames that wait for later ones: times of decoding would end before those of showing, and the file
_H264_OPTIONS = {"crf": "18", "bf": "0"}
_VP9_OPTIONS = {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1", "auto-alt-ref": "0"}
_BT709 = 1  # matrix, primaries and transfer of what is written, by FFmpeg's numbers
_VIDEO_RANGE, _FULL_RANGE = 1, 2  # of brightness, by FFmpeg's numbers
_SLACK = 1.0  # seconds by which a clip may be shorter than its header says


def require_av():
    """The module `av`.

    Raises:
        ModuleNotFoundError: saying what to install.
    """
    return require("av", "video", "Reading and writing clips")


def comment_of(path: Path) -> str | None:
    """What a clip says of itself, if it is one and says anything."""
    try:
        with require_av().open(str(path)) as container:
            return {name.lower(): text for name, text in container.metadata.items()}.get("comment")
    except Exception:  # whatever lies there
        return None


class ClipReader:
    """Decodes the first video stream of a file.

    Raises:
        ClipError: if the file is no video, or its codec is unknown.
        ModuleNotFoundError: without PyAV.
    """

    def __init__(self, path: Path):
        self.av = require_av()
        self.path = path
        try:
            self.container = self.av.open(str(path))
        except (self.av.FFmpegError, OSError) as error:
            raise ClipError(f"{path}: cannot be read as a video ({error.strerror or error}).") from error
        if not self.container.streams.video:
            raise ClipError(f"{path}: has no video stream.")
        self.stream = self.container.streams.video[0]
        if self.stream.codec_context is None:
            raise ClipError(f"{path}: this FFmpeg has no decoder for its codec. Convert it to H.264 first.")
        self.stream.thread_type = "AUTO"
        self.sound = self.container.streams.audio[0] if self.container.streams.audio else None
        self.rate = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        self.time_base = self.stream.time_base or 1 / self.rate
        self.end: int | None = None  # of the last frame, in `time_base`, once it is read
        self.turn = 0  # of the frames, in quarters

    @property
    def seconds(self) -> float | None:
        """What the header promises, from the first frame on, if it does."""
        if self.stream.duration:
            return float(self.stream.duration * self.time_base)
        if self.container.duration and self.sound is None:
            # Containers whose streams have none of their own, as Matroska, count from zero and not from the start
            return (self.container.duration - max(0, self.container.start_time or 0)) / self.av.time_base
        return None

    @property
    def num_frames(self) -> int | None:
        """As the header says, or by the frame rate."""
        return self.stream.frames or (round(self.seconds * self.rate) if self.seconds else None)

    @property
    def pixel_aspect(self) -> Fraction | None:
        """Width by height of a pixel as the frames are given, if it is known."""
        aspect = self.stream.sample_aspect_ratio
        return 1 / aspect if aspect and self.turn % 2 else aspect

    def frames(self, on_sound: Callable[[object], None]) -> Iterator[tuple[Image.Image, int]]:
        """Frames as RGB, upright, with their times in `time_base`; packets of sound go to `on_sound` as they come.

        Raises:
            ClipError: where the clip is damaged, ends before its time, or its frames change their size.
        """
        step = max(1, round(1 / (self.rate * self.time_base)))
        first: int | None = None
        last = end = packets = 0
        size: tuple[int, int] | None = None
        try:
            for packet in self.container.demux([stream for stream in (self.stream, self.sound) if stream]):
                if packet.stream is not self.stream:
                    if packet.dts is not None:
                        on_sound(packet)
                    continue
                if packet.pts is not None:
                    packets += 1
                    end = max(end, packet.pts + (packet.duration or step))
                for frame in packet.decode():
                    pts = last + step if frame.pts is None else frame.pts
                    # Some files repeat a time, which encoders refuse
                    last = pts if first is None else max(pts, last + 1)
                    first = last if first is None else first
                    image = self._upright(frame)
                    if image.size != (size := size or image.size):
                        raise ClipError(self._changes_size(size, image.size, last))
                    yield image, last
        except self.av.FFmpegError as error:
            raise ClipError(f"{self.path}: is damaged ({error.strerror or error}).") from error
        if first is None:
            raise ClipError(f"{self.path}: no frame of it can be decoded.")
        self._check_end(first, max(end, last + 1), packets)
        self.end = self._end_of_last(first, last, step)

    def _upright(self, frame) -> Image.Image:
        self.turn = round(frame.rotation / 90)
        range_ = _FULL_RANGE if frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj") else None
        frame = frame.reformat(format="rgb24", src_color_range=range_, dst_color_range=_FULL_RANGE)
        return Image.fromarray(np.ascontiguousarray(np.rot90(frame.to_ndarray(), self.turn)))

    def _changes_size(self, size: tuple[int, int], other: tuple[int, int], pts: int) -> str:
        (width, height), (other_width, other_height) = size, other
        return (
            f"{self.path}: its frames change from {width} x {height} to {other_width} x {other_height} after "
            f"{float(pts * self.time_base):.1f} seconds. Cut it there to have both."
        )

    def _check_end(self, first: int, end: int, packets: int) -> None:
        if self.stream.frames and packets >= self.stream.frames:  # all are there, the last of them held for long
            return
        seconds = float((end - first) * self.time_base)
        if self.seconds and seconds < self.seconds - _SLACK:
            raise ClipError(f"{self.path}: is damaged: it ends after {seconds:.1f} of {self.seconds:.1f} seconds.")

    def _end_of_last(self, first: int, last: int, step: int) -> int:
        """Until when the last frame is shown: as the header says, if that can be."""
        start = self.stream.start_time if self.stream.start_time is not None else first
        end = start + round(self.seconds / self.time_base) if self.seconds else last + step
        return end if end > last else last + step

    def close(self) -> None:
        self.container.close()


class ClipWriter:
    """A file that grows aside and gets its name when it is finished, with the sound of a clip copied: MP4 (H.264), or
    WebM (VP9), which may be transparent.

    Args:
        path: of the file; it ends as one of `CONTAINERS`.
        clip: frame rate, times and sound are its.
        like: a picture of the size and mode of all. Sides are to be even: odd ones get another row or column.
        comment: what the file is to say of itself.

    Raises:
        OSError: naming the file, if it cannot be written, here and by all methods.
    """

    def __init__(self, path: Path, clip: ClipReader, like: Image.Image, comment: str):
        self.av, self.clip, self.path = clip.av, clip, path
        self.aside = aside_path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.sound = None
        self.held: Any = None  # the last packet
        with self._errors():
            self.container = self.av.open(str(self.aside), "w")  # writes nothing yet
            self.container.metadata["comment"] = comment
            webm = path.suffix == ".webm"
            encoder, options = (VP9_ENCODER, _VP9_OPTIONS) if webm else (ENCODER, _H264_OPTIONS)
            self.stream = self.container.add_stream(encoder, rate=clip.rate, options=options)
            self.stream.width, self.stream.height = (side + side % 2 for side in like.size)
            self.stream.pix_fmt = self.format = "yuva420p" if like.mode == "RGBA" else "yuv420p"
            context = self.stream.codec_context
            context.time_base = clip.time_base
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _VIDEO_RANGE
            if clip.pixel_aspect:
                context.sample_aspect_ratio = clip.pixel_aspect
        if clip.sound is not None:
            try:
                self.sound = self.container.add_stream_from_template(clip.sound)
            except (self.av.FFmpegError, ValueError):  # the container cannot hold it
                self.sound = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """FFmpeg's errors in here become OSErrors that name the file."""
        try:
            yield
        except self.av.codec.codec.UnknownCodecError as error:
            name, encoder = ("VP9", VP9_ENCODER) if self.path.suffix == ".webm" else ("H.264", ENCODER)
            raise OSError(
                f"{self.path}: cannot be written: this FFmpeg has no {name} encoder ({encoder}). The one in "
                "`pip install av` does."
            ) from error
        except self.av.FFmpegError as error:
            failure = OSError(f"{self.path}: cannot be written ({error.strerror or error}).")
            failure.errno = error.errno
            raise failure from error

    def write(self, picture: Image.Image, pts: int) -> None:
        """Appends a picture, RGB, RGBA or gray, at a time."""
        pixels = np.asarray(picture)
        pixels = np.pad(pixels, [(0, side % 2) for side in pixels.shape[:2]] + [(0, 0)] * (pixels.ndim - 2), "edge")
        frame = self.av.VideoFrame.from_ndarray(pixels, format=_FORMATS[picture.mode])
        frame = frame.reformat(format=self.format, dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = pts, self.clip.time_base
        with self._errors():
            self._mux(self.stream.encode(frame))

    def _mux(self, packets) -> None:
        """Writes packets, each for as long as it is shown; holds one back, as that is not known before the next."""
        for packet in packets:
            if self.held is not None:
                self.held.duration = packet.pts - self.held.pts
                self.container.mux(self.held)
            self.held = packet

    def _end(self) -> None:
        if self.held is not None:
            end = self.clip.end or self.held.pts + round(1 / (self.clip.rate * self.clip.time_base))
            self.held.duration = max(1, end - self.held.pts)
            self.container.mux(self.held)

    def write_sound(self, packet) -> None:
        """Appends a packet of the clip's sound, unless the container cannot hold it."""
        if self.sound is not None:
            packet.stream = self.sound
            with self._errors():
                self.container.mux(packet)

    def finish(self, path: Path) -> None:
        """Ends the file and gives it a name, which may be another than planned."""
        try:
            with self._errors():
                self._mux(self.stream.encode(None))
                self._end()
                self.container.close()
            os.replace(self.aside, path)
        finally:
            self.aside.unlink(missing_ok=True)
