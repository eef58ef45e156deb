"""Reading and writing video files, frame by frame. Needs PyAV (extra `video`)."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import ClipError
from ..extras import require

ENCODER = "libx264"
_BT709 = 1  # matrix, primaries and transfer of what is written, by FFmpeg's numbers
_SLACK = 1.0  # seconds by which a clip may be shorter than its header says


def require_av():
    """The module `av`.

    Raises:
        ModuleNotFoundError: saying what to install.
    """
    return require("av", "video", "Reading and writing clips")


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

    @property
    def seconds(self) -> float | None:
        """What the header promises, if it does."""
        if self.stream.duration:
            return float(self.stream.duration * self.time_base)
        if self.container.duration and self.sound is None:
            return self.container.duration / self.av.time_base
        return None

    @property
    def num_frames(self) -> int | None:
        """As the header says, or by the frame rate."""
        return self.stream.frames or (round(self.seconds * self.rate) if self.seconds else None)

    def frames(self, on_sound: Callable[[object], None]) -> Iterator[tuple[Image.Image, int]]:
        """Frames as RGB, upright, with their times in `time_base`; packets of sound go to `on_sound` as they come.

        Raises:
            ClipError: where the clip is damaged, or ends before its time.
        """
        step = max(1, round(1 / (self.rate * self.time_base)))
        first: int | None = None
        last = 0
        try:
            for packet in self.container.demux([stream for stream in (self.stream, self.sound) if stream]):
                if packet.stream is not self.stream:
                    if packet.dts is not None:
                        on_sound(packet)
                    continue
                for frame in packet.decode():
                    pts = last + step if frame.pts is None else frame.pts
                    if first is None:
                        first = last = pts
                    else:  # some files repeat a time, which encoders refuse
                        last = max(pts, last + 1)
                    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                    yield Image.fromarray(np.ascontiguousarray(pixels)), last
        except self.av.FFmpegError as error:
            raise ClipError(f"{self.path}: is damaged ({error.strerror or error}).") from error
        if first is None:
            raise ClipError(f"{self.path}: no frame of it can be decoded.")
        seconds = float((last + step - first) * self.time_base)
        if self.seconds and seconds < self.seconds - _SLACK:
            raise ClipError(f"{self.path}: is damaged: it ends after {seconds:.1f} of {self.seconds:.1f} seconds.")

    def close(self) -> None:
        self.container.close()


class ClipWriter:
    """An MP4 file (H.264) that grows aside and gets its name when it is finished, with the sound of a clip copied.

    Args:
        path: of the file.
        clip: frame rate, times and sound are its.
        size: `(width, height)` of the pictures. H.264 wants even ones: others get another row or column.

    Raises:
        OSError: naming the file, if it cannot be written, here and by all methods.
    """

    def __init__(self, path: Path, clip: ClipReader, size: tuple[int, int]):
        self.av, self.clip, self.path = clip.av, clip, path
        self.aside = path.with_name(f".{path.stem}.{os.getpid()}.writing.mp4")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.sound = None
        with self._errors():
            self.container = self.av.open(str(self.aside), "w")  # writes nothing yet
            self.stream = self.container.add_stream(ENCODER, rate=clip.rate, options={"crf": "18"})
            self.stream.width, self.stream.height = (side + side % 2 for side in size)
            self.stream.pix_fmt = "yuv420p"
            context = self.stream.codec_context
            context.time_base = clip.time_base
            context.colorspace = context.color_primaries = context.color_trc = _BT709
        if clip.sound is not None:
            try:
                self.sound = self.container.add_stream_from_template(clip.sound)
            except (self.av.FFmpegError, ValueError):  # MP4 cannot hold it
                self.sound = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """FFmpeg's errors in here become OSErrors that name the file."""
        try:
            yield
        except self.av.codec.codec.UnknownCodecError as error:
            raise OSError(
                f"{self.path}: cannot be written: this FFmpeg has no H.264 encoder ({ENCODER}). The one in "
                "`pip install av` does."
            ) from error
        except self.av.FFmpegError as error:
            raise OSError(f"{self.path}: cannot be written ({error.strerror or error}).") from error

    def write(self, picture: Image.Image, pts: int) -> None:
        """Appends a picture, RGB or grey, at a time."""
        pixels = np.asarray(picture)
        pixels = np.pad(pixels, [(0, side % 2) for side in pixels.shape[:2]] + [(0, 0)] * (pixels.ndim - 2), "edge")
        frame = self.av.VideoFrame.from_ndarray(pixels, format="gray" if pixels.ndim == 2 else "rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = pts, self.clip.time_base
        with self._errors():
            self.container.mux(self.stream.encode(frame))

    def write_sound(self, packet) -> None:
        """Appends a packet of the clip's sound, unless MP4 cannot hold it."""
        if self.sound is not None:
            packet.stream = self.sound
            with self._errors():
                self.container.mux(packet)

    def finish(self, path: Path) -> None:
        """Ends the file and gives it a name, which may be another than planned."""
        try:
            with self._errors():
                self.container.mux(self.stream.encode(None))
                self.container.close()
            os.replace(self.aside, path)
        finally:
            self.aside.unlink(missing_ok=True)
