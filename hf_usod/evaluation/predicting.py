"""The saliency maps of a model on a data set, kept as files where a folder for them is given."""

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..data.batches import Failed, lanes_of, picture_bytes, through
from ..errors import DataError
from ..files import file_state, write_aside
from ..folding import FEW, fastest
from ..inference.maps import as_input
from ..inference.tiled import Tiled, Tiles
from ..models.image_processing_usod import UsodImageProcessor, read_aux, read_image
from ..models.pipeline_usod import SalientObjectDetectionPipeline, levels
from .reading import upright_size
from .sets import EvaluationSample

FINGERPRINT_FILE = ".made-by.json"


def fingerprint(model: torch.nn.Module, processor: UsodImageProcessor) -> str:
    """Changes when the weights or the preparation of images do."""
    digest = hashlib.sha256(processor.to_json_string().encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def map_path(folder: Path, sample: EvaluationSample) -> Path:
    return folder / f"{sample.id}.png"


def prepare_folder(
    folder: Path,
    model: torch.nn.Module,
    processor: UsodImageProcessor,
    samples: list[EvaluationSample],
    tiles: Tiles = None,
) -> None:
    """Makes `folder` one for the maps of this model on these images, in these windows. What another model left in it,
    or was made of images that have changed since, is removed.

    Raises:
        FileExistsError: if the folder holds files that were not written here.
    """
    images = [
        (sample.id, sample.aux_kind, *((str(file), file and file_state(file)) for file in (sample.image, sample.aux)))
        for sample in samples
    ]
    stamp = {
        "model": fingerprint(model, processor),
        "images": hashlib.sha256(json.dumps(images).encode()).hexdigest()[:16],
    } | ({"tiles": tiles} if tiles else {})
    marker = folder / FINGERPRINT_FILE
    if marker.exists():
        if json.loads(marker.read_text()) == stamp:
            return
        for path in folder.rglob("*.png"):
            path.unlink()
    elif folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder}: holds files of another origin. Choose another --output.")
    write_aside(marker, lambda path: path.write_text(json.dumps(stamp) + "\n"))


def predict_maps(
    model: PreTrainedModel,
    processor: UsodImageProcessor,
    samples: list[EvaluationSample],
    batch_size: int = 8,
    folder: Path | None = None,
    tiles: Tiles = None,
) -> Iterator[np.ndarray | Path]:
    """Yields a map a sample, 8-bit `(height, width)` of its ground truth.

    With a `folder` they are PNG files `<folder>/<id>.png`, and those that are there already are not made again: an
    evaluation that was stopped goes on where it was.

    A model of two streams is given the auxiliary maps; where a sample has none, it is given the image in its place. One
    that is told what its maps are needs to know their kinds. With `tiles` it looks at windows too (see `Tiled`).

    Raises:
        ValueError: naming the kinds, if it is told none.
    """
    if folder is not None:
        prepare_folder(folder, model, processor, samples, tiles)
    made = {sample.id for sample in samples if folder is not None and map_path(folder, sample).exists()}
    missing = [sample for sample in samples if sample.id not in made]
    if len(missing) > FEW:
        model = fastest(model)
    lanes, size = lanes_of(model, batch_size)
    outcomes = through(
        missing,
        partial(_read, model.config.takes_aux),
        partial(_run_tiled, _tiled(model, processor, tiles)) if tiles else partial(_run, model, processor),
        partial(_write, folder),
        batch_size=size,
        lanes=lanes,
        cost=lambda sample: 0 if sample.image is None else picture_bytes(sample.image),
    )
    for sample in samples:
        if folder is not None and sample.id in made:
            yield map_path(folder, sample)
            continue
        outcome = next(outcomes)
        if isinstance(outcome, Failed):
            raise outcome.error
        yield outcome.result


def _read(with_aux: bool, sample: EvaluationSample) -> tuple[Image.Image, Image.Image | None, tuple[int, int]]:
    if sample.image is None:
        raise DataError(f"{sample.id}: has no image to predict a map of.")
    aux = read_aux(sample.aux) if with_aux and sample.aux else None
    return read_image(sample.image), aux, upright_size(sample.mask)


def _run(
    model: PreTrainedModel, processor: UsodImageProcessor, samples: list[EvaluationSample], inputs: list
) -> list[torch.Tensor]:
    images, maps, sizes = zip(*inputs, strict=True)
    extra: dict[str, list] = {} if all(aux is None for aux in maps) else {"aux_images": list(maps)}
    if extra and model.config.modality_informed:
        extra["aux_kinds"] = [sample.aux_kind for sample in samples]
    features = processor(list(images), **extra, return_tensors="pt").to(model.device)
    with torch.inference_mode():
        outputs = model(**features)
    return [saliency.cpu() for saliency in processor.post_process_saliency(outputs, sizes)]


def _tiled(model: PreTrainedModel, processor: UsodImageProcessor, tiles: int | str) -> Tiled:
    detect = SalientObjectDetectionPipeline(model=model, image_processor=processor, device=model.device)
    return Tiled(detect, tiles)


def _run_tiled(detect: Tiled, samples: list[EvaluationSample], inputs: list) -> Iterator[torch.Tensor]:
    given = [
        as_input(detect.model.config, image, aux, sample.aux_kind)
        for sample, (image, aux, _) in zip(samples, inputs, strict=True)
    ]
    maps = detect(given, batch_size=len(inputs), outputs=["predicted_saliency"])
    for found, (_, _, size) in zip(maps, inputs, strict=True):
        saliency = found["predicted_saliency"]
        if saliency.shape != size:
            saliency = F.interpolate(saliency[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        yield saliency


def _write(folder: Path | None, sample: EvaluationSample, saliency: torch.Tensor) -> np.ndarray:
    picture = levels(saliency)
    if folder is not None:
        write_aside(map_path(folder, sample), picture.save)
    return np.asarray(picture)
