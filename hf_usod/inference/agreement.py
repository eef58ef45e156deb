"""Saliency maps of successive frames that agree along the motion (beyond the paper, which takes frames one by one)."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from ..data.video import flow_frame, optical_flow, require_opencv
from ..models.image_processing_usod import to_rgb

Detected = tuple[Any, tuple[Image.Image, torch.Tensor]]  # what it belongs to; the photo and its saliency (H, W)

MEMORY = 0.9  # what a frame counts for its neighbor, at most
LOOK_AHEAD = 8  # frames
_MATCHING = 20.0  # gray levels by which points of one thing may differ from frame to frame
_SUREST = 1 / 255  # from 0 and 1: no frame is believed to be surer


@dataclass
class _Moment:
    """A frame with its evidence, `(H, W, 2)`: for each pixel a sum of logits, and the sum of what they count."""

    frame: np.ndarray
    size: tuple[int, int]  # (width, height) of the image
    own: np.ndarray  # of this frame alone: the logit of its saliency, and 1
    past: np.ndarray  # of this one and those before it
    to_next: tuple[np.ndarray, np.ndarray] | None = None  # where its points lie in the next frame, and how sure that is


def _link(frame: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the points of a frame lie in another `(H, W, 2)`, and the share `(H, W, 1)` in [0, `MEMORY`] of their
    evidence there that counts: the less, the less the colors match, as where something is hidden."""
    flow = optical_flow(frame, other)
    y, x = np.mgrid[0 : frame.shape[0], 0 : frame.shape[1]].astype(np.float32)
    places = flow + np.stack([x, y], axis=-1)
    difference = np.abs(frame - _look_up(other.astype(np.float32), places)).mean(axis=-1, keepdims=True)
    return places, MEMORY * np.exp(-((difference / _MATCHING) ** 2))


def _look_up(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    cv2 = require_opencv()
    return cv2.remap(values, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _carried(evidence: np.ndarray, link: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    places, share = link
    return share * _look_up(evidence, places)


def _begin(image: Image.Image, saliency: torch.Tensor, before: _Moment | None) -> _Moment:
    frame = flow_frame(image)
    size = frame.shape[:2]
    reduced = F.interpolate(saliency[None, None], size, mode="bilinear", align_corners=False, antialias=True)[0, 0]
    logits = reduced.clamp(_SUREST, 1 - _SUREST).logit().numpy()
    own = np.stack([logits, np.ones_like(logits)], axis=-1)
    past = own
    if before is not None:
        before.to_next = _link(before.frame, frame)
        past = own + _carried(before.past, _link(frame, before.frame))
    return _Moment(frame, image.size, own, past)


def _settle(moments: deque[_Moment]) -> torch.Tensor:
    """The map of the first of some successive moments, `(H, W)` in [0, 1], at its image's size."""
    first, last = moments[0], moments[-1]
    future = last.own
    for moment in reversed(list(moments)[:-1]):
        assert moment.to_next is not None
        future = moment.own + _carried(future, moment.to_next)
    logits, weight = np.moveaxis(first.past + future - first.own, -1, 0)
    # Frames are no independent witnesses: as one would expect of noise, n of them count as the root of n
    agreed = torch.from_numpy(logits / np.sqrt(weight)).sigmoid()
    width, height = first.size
    return F.interpolate(agreed[None, None], size=(height, width), mode="bilinear", align_corners=False)[0, 0]


def agree(frames: Iterable[tuple[Image.Image, torch.Tensor]]) -> Iterator[torch.Tensor]:
    """Has the saliency maps of successive frames agree along the optical flow between them.

    The logits of each point are added up with those of the same point in the frames before and after it, each frame
    counting at most `MEMORY` of its neighbor, less where their colors do not match, and divided by the root of the
    sum of what they count. Holds `LOOK_AHEAD` frames. A frame of another size begins a new scene.

    Args:
        frames: (RGB image, saliency map `(H, W)` in [0, 1]) in the order of time.

    Yields:
        The agreed maps, `(H, W)` in [0, 1], in the same order.

    Raises:
        ModuleNotFoundError: without OpenCV.
    """
    require_opencv()
    window: deque[_Moment] = deque()

    def settle(limit: int) -> Iterator[torch.Tensor]:
        while len(window) > limit:
            yield _settle(window)
            window.popleft()

    for image, saliency in frames:
        if window and window[-1].size != image.size:
            yield from settle(0)
        window.append(_begin(image, saliency, window[-1] if window else None))
        yield from settle(LOOK_AHEAD)
    yield from settle(0)


def agreed(frames: Iterable[Detected]) -> Iterator[Detected]:
    """Successive frames with their agreed maps (see `agree`) in place of their own."""
    waiting: deque[tuple[Any, Image.Image]] = deque()

    def maps() -> Iterator[tuple[Image.Image, torch.Tensor]]:
        for item, (photo, saliency) in frames:
            waiting.append((item, photo))
            yield to_rgb(photo), saliency

    for saliency in agree(maps()):
        item, photo = waiting.popleft()
        yield item, (photo, saliency)
