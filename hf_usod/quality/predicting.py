"""The maps of a model on images that nobody has drawn masks for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
from PIL import Image
from transformers import PreTrainedConfig

from ..data import Sample
from ..data.batches import Done, Failed, lanes_of, picture_bytes, through
from ..errors import DataError
from ..folding import FEW
from ..inference.maps import as_input
from ..inference.predict import Detects
from ..inference.speed import at_full_speed
from ..models.image_processing_usod import read_aux, read_image
from .measure import Predicted

LARGEST = 640  # pixels a side of the maps that are kept


def predict_samples(
    detect: Detects, samples: Sequence[Sample], batch_size: int = 4, refined: bool = False
) -> Iterator[Predicted]:
    """Maps of samples, in their order, with the auxiliary maps where the model takes them.

    Args:
        refined: whether a detector fits them to the images, if its configuration says so. What is to be measured is as
            the network gives it: fitted, everything has sharp outlines, and nothing is undecided.

    Raises:
        DataError, ValueError, OSError: naming an image that cannot be read.
    """
    with _refining(detect.model.config, refined), at_full_speed(detect, fold=len(samples) > FEW):
        lanes, size = lanes_of(detect.model, batch_size)
        outcomes: Iterator[Done | Failed] = through(
            samples,
            partial(_read, detect.model.config.takes_aux),
            partial(_run, detect),
            batch_size=size,
            lanes=lanes,
            cost=lambda sample: picture_bytes(sample.image),
        )
        for sample, outcome in zip(samples, outcomes, strict=True):
            if isinstance(outcome, Failed):
                raise outcome.error
            yield Predicted(sample, *outcome.result)


@contextmanager
def _refining(config: PreTrainedConfig, wanted: bool) -> Iterator[None]:
    before = getattr(config, "refine_maps", False)
    if before:
        config.refine_maps = wanted
    try:
        yield
    finally:
        if before:
            config.refine_maps = True


def _read(with_aux: bool, sample: Sample) -> tuple[Image.Image, Image.Image | None]:
    return read_image(sample.image), read_aux(sample.aux) if with_aux and sample.aux else None


def _run(detect: Detects, samples: list[Sample], read: list) -> Iterator[tuple[Image.Image, np.ndarray]]:
    inputs = [
        as_input(detect.model.config, image, aux, sample.aux_kind)
        for sample, (image, aux) in zip(samples, read, strict=True)
    ]
    for sample, (image, _), made in zip(
        samples, read, detect(inputs, batch_size=len(inputs), outputs=["saliency"]), strict=True
    ):
        saliency = made["saliency"]
        if image.size != saliency.size:
            raise DataError(f"{sample.image}: has a map of {saliency.size}, not {image.size}.")
        scale = min(1.0, LARGEST / max(image.size))
        if scale < 1:
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
            saliency = saliency.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        yield image, np.asarray(saliency)
