"""Frames of videos: sequences in folders, and optical flow as color images, the auxiliary input of a video's frames.

Needs OpenCV (extra `video`) for the flow.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.utils import flow_to_image
from tqdm.auto import tqdm

from ..errors import DataError
from ..extras import require
from ..files import write_aside
from ..models.image_processing_usod import read_image
from .folders import VIDEO_SUFFIXES, list_photos

FRAMES_FOLDER = "JPEGImages"
FLOW_SIDE = 480  # pixels; the models look at 320
STILL = 1.0  # pixels: motion below it is shown paler, so that noise does not become color
_GRID = 8  # pixels between the points at which the camera's motion is estimated


def require_opencv():
    """The module `cv2`.

    Raises:
        ModuleNotFoundError: saying what to install.
    """
    return require("cv2", "video", "Optical flow")


def is_video_file(path: Path) -> bool:
    """Whether the name says video; hidden files are not."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sorts `frame_10` after `frame_9`."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


@dataclass(frozen=True)
class FrameSequence:
    """Frames in the order of time. `name` is their folder, relative to the tree's root if it was found in one."""

    name: str
    frames: list[Path]


def group_frames(paths: Iterable[Path]) -> list[FrameSequence]:
    """Images by the folder that holds them, which names the sequence, in the natural order of their names."""
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    ordered = sorted(folders.items(), key=lambda item: _natural(item[0]))
    return [FrameSequence(str(folder), sorted(frames, key=_natural)) for folder, frames in ordered]


def list_sequences(root: str | Path) -> list[FrameSequence]:
    """The sequences below a folder: each folder that directly holds images is one.

    Where the tree has folders called `JPEGImages`, as video data sets do (`<root>/<NAME>/JPEGImages/<sequence>`), their
    contents alone are frames; what lies beside them (`Annotations`, `optical`) is not looked at.

    Raises:
        FileNotFoundError: if the folder does not exist or holds no image.
    """
    root = Path(root)
    paths = list_photos(root)
    in_data_sets = [path for path in paths if FRAMES_FOLDER in path.relative_to(root).parts[:-1]]
    sequences = group_frames(in_data_sets or paths)
    return [FrameSequence(Path(each.name).relative_to(root).as_posix(), each.frames) for each in sequences]


def flow_frame(image: Image.Image) -> np.ndarray:
    """An RGB image as flow is computed on it: `(H, W, 3)` uint8, at most `FLOW_SIDE` pixels a side."""
    scale = min(1.0, FLOW_SIDE / max(image.size))
    size = [max(1, round(side * scale)) for side in image.size]
    return np.asarray(image if scale == 1 else image.resize(size, Image.Resampling.BOX, reducing_gap=2.0))


def optical_flow(frame: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where the points of one frame lie in another, by OpenCV's DIS (Kroeger et al., ECCV 2016).

    Args:
        frame, other: `(H, W, 3)` uint8 RGB, of one size.

    Returns:
        `(H, W, 2)` float32, (right, down) in pixels, at the points of `frame`. Zero for frames too small for DIS.

    Raises:
        ValueError: if the sizes differ.
        ModuleNotFoundError: without OpenCV.
    """
    cv2 = require_opencv()
    if frame.shape != other.shape:
        raise ValueError(f"Flow needs two frames of one size, got {frame.shape[:2]} and {other.shape[:2]}.")
    if min(frame.shape[:2]) < 16:
        return np.zeros((*frame.shape[:2], 2), np.float32)
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # one a call: it is not thread-safe
    gray, other_gray = (cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY) for image in (frame, other))
    return dis.calc(gray, other_gray, None)


def subtract_camera(flow: np.ndarray) -> np.ndarray:
    """Flow `(H, W, 2)` relative to the camera's motion: the affine motion that most of the frame agrees with (RANSAC).

    What then still moves is what moves by itself, or stands out in depth.
    """
    cv2 = require_opencv()
    height, width = flow.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    thin = (slice(_GRID // 2, None, _GRID), slice(_GRID // 2, None, _GRID))
    points = np.stack([x[thin], y[thin]], axis=-1).reshape(-1, 2)
    if len(points) < 4:
        return flow
    moved = points + flow[thin].reshape(-1, 2)
    affine, _ = cv2.estimateAffine2D(points, moved, method=cv2.RANSAC, ransacReprojThreshold=1.0)
    if affine is None:
        return flow
    (a, b, c), (d, e, f) = affine.astype(np.float32)
    return flow - np.stack([(a - 1) * x + b * y + c, d * x + (e - 1) * y + f], axis=-1)


def color_flow(flow: np.ndarray) -> np.ndarray:
    """Flow `(H, W, 2)` in pixels as an image `(H, W, 3)` uint8, on the Middlebury color wheel (Baker et al., 2011).

    Direction is hue, magnitude saturation: what does not move is white. Each frame is normalized by the 99th percentile
    of its magnitudes, or by `STILL` pixels if that is more.
    """
    magnitude = np.linalg.norm(flow, axis=-1, keepdims=True)
    top = max(float(np.percentile(magnitude, 99)), 1e-6)
    limited = flow * np.minimum(1, top / np.maximum(magnitude, 1e-6))
    colors = flow_to_image(torch.from_numpy(limited.astype(np.float32)).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    # `flow_to_image` normalizes by the largest magnitude; saturation is linear in it.
    return (255 - (255.0 - colors) * min(1.0, top / STILL)).round().astype(np.uint8)


def flow_image(frame: np.ndarray, other: np.ndarray, backwards: bool = False) -> np.ndarray:
    """The motion at each point of a frame, relative to the camera's, as an auxiliary image.

    Args:
        frame, other: `(H, W, 3)` uint8 RGB, of one size; `other` is the next frame.
        backwards: `other` is the previous frame, as for the last one of a sequence: the motion is reversed.

    Returns:
        `(H, W, 3)` uint8; see `color_flow`.

    Raises:
        ValueError, ModuleNotFoundError: see `optical_flow`.
    """
    flow = subtract_camera(optical_flow(frame, other))
    return color_flow(-flow if backwards else flow)


def neighbors(sequences: Sequence[FrameSequence]) -> dict[Path, tuple[Path, bool]]:
    """For each frame the one that its flow leads to, and whether that is backwards.

    It is the next frame; for the last, backwards, the previous one. The frame of a sequence of one is left out.
    """
    found: dict[Path, tuple[Path, bool]] = {}
    for sequence in sequences:
        frames = sequence.frames
        if len(frames) > 1:
            found.update((frame, (following, False)) for frame, following in pairwise(frames))
            found[frames[-1]] = (frames[-2], True)
    return found


def read_flow_image(frame: Path, other: Path, backwards: bool = False) -> Image.Image:
    """`flow_image` of two files, at most `FLOW_SIDE` pixels a side.

    Raises:
        FileNotFoundError, ValueError: naming the file, if one cannot be read; DataError, which is one, if they differ
            in size.
    """
    first, second = flow_frame(read_image(frame)), flow_frame(read_image(other))
    try:
        return Image.fromarray(flow_image(first, second, backwards))
    except ValueError as error:
        raise DataError(f"{frame}, {other}: are no frames of one sequence. {error}") from error


def write_flow(
    root: str | Path,
    output: str | Path,
    progress: bool = True,
    *,
    readable: Collection[Path] | None = None,
    wanted: Collection[Path] | None = None,
) -> list[Path]:
    """Computes the flow of all sequences below a folder, as color images in a tree of the same shape.

    Flow that is there is kept, so that a run that was stopped goes on. Frames of sequences of one get none.

    Args:
        root: see `list_sequences`; for a data set its `JPEGImages`, with `optical` beside it as the output.
        output: gets `<sequence>/<frame's stem>.jpg`, as `list_samples` wants it.
        readable: the frames that can be read, as `list_photos` names them; the others are no one's neighbors. By
            default all.
        wanted: those whose flow is computed; by default all.

    Returns:
        The files, one for each frame that is wanted and has flow.

    Raises:
        FileNotFoundError: if there are no frames.
        DataError: naming the frames that cannot be read or do not fit, after all others are done.
        ModuleNotFoundError: without OpenCV.
    """
    require_opencv()
    root, output = Path(root), Path(output)
    sequences = list_sequences(root)
    if readable is not None:
        sequences = [replace(each, frames=[frame for frame in each.frames if frame in readable]) for each in sequences]
    pairs = neighbors(sequences)
    files = {frame: (output / frame.relative_to(root)).with_suffix(".jpg") for frame in pairs}
    if len(set(files.values())) < len(files):
        raise DataError(f"{root}: has frames that differ in the suffix only. Keep one of each.")
    if wanted is not None:
        files = {frame: file for frame, file in files.items() if frame in wanted}

    def make(frame: Path) -> None:
        image = read_flow_image(frame, *pairs[frame])
        write_aside(files[frame], lambda path: image.save(path, quality=95, subsampling=0))

    missing = [frame for frame, file in files.items() if not file.exists()]
    problems = []
    pool = ThreadPoolExecutor()  # OpenCV and Pillow work outside of Python's lock
    try:
        jobs = [pool.submit(make, frame) for frame in missing]
        for job in tqdm(as_completed(jobs), "optical flow", len(jobs), unit="frame", disable=not progress):
            try:
                job.result()
            except (ValueError, FileNotFoundError) as error:
                problems.append(str(error))
    finally:
        pool.shutdown(cancel_futures=True)
    if problems:
        raise DataError("\n".join([*sorted(problems), f"No flow for {len(problems)} frames (above)."]))
    return list(files.values())
