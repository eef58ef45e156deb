"""What is tried for a folder of images: models whose maps are compared, and labels that adapters are trained on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..assets import checkpoint_names
from ..constants import DEFAULT_CUE_EXTRACTOR, DEFAULT_MODEL, VIDEO_ADAPTER
from ..data import Sample, list_images
from ..errors import RunError
from ..files import write_aside
from ..inference.predict import Detects
from ..inference.tiled import AUTO_SHARE, Tiled, Tiles, fit
from ..labels import label_images, label_overlap, read_label
from ..loading import base_of, load, load_pipeline
from ..models.image_processing_usod import read_image
from ..quality.measure import FolderQuality, Predicted, judge_folder
from ..quality.predicting import predict_samples
from ..training.arguments import DetectorArguments, TransferArguments
from ..training.cue_extractor import train_cue_extractor
from ..training.detector import train_detector
from .review import Review

DEFAULT = "default"
CUES = "cues"  # the cue extractor, transferred to the images
BY_CUES = f"trained-by-{CUES}"
AGAIN = "trained-again"  # by labels of what was trained here
_FEW = 32  # images that are refined sooner than processes start
# As the recipe transfer-lite
SIZE, STRIDE, EPOCHS, RATE = 256, 48, 3, 0.05
RATE_ON = 0.02  # of an adapter that is trained on
STEPS = (
    225  # at least: what these epochs of 600 images are. After a tenth of them an adapter is still the default model
)


LEAST_AGREEMENT = 0.35  # IoU of two labels above which one confirms the other


@dataclass(frozen=True)
class Candidate:
    """A model whose maps are compared.

    Args:
        name: as it is called in files and tables.
        model, adapter: see `load`.
        about: what it is, for a reader.
        is_detector: rather than a cue extractor, whose maps may become labels but are nobody's choice.
        tiles: the windows that it looks at too, see `Tiled`.
    """

    name: str
    model: str
    adapter: str | None
    about: str
    is_detector: bool = True
    tiles: Tiles = None


@dataclass(frozen=True)
class Source:
    """What makes labels, and how they are used.

    Args:
        begins_with: the detector whose adapter is trained on; without adapter, a new one is trained.
        review: what a person said of the labels.
        confirmed_by: the name of other labels. Where these agree, the labels are learned from; if enough are left.
    """

    name: str
    candidate: Candidate
    refine: str
    begins_with: Candidate
    review: Review | None = None
    confirmed_by: str | None = None


def embedded(has_maps: bool = True) -> list[Candidate]:
    """The default model, alone and with each adapter of it that comes with the package.

    Args:
        has_maps: whether the images have auxiliary maps, which may be the flow that the adapter for video looks at.
    """
    found = [Candidate(DEFAULT, DEFAULT_MODEL, None, f"{DEFAULT_MODEL}, as it is")]
    for name in checkpoint_names("adapter"):
        if base_of(name) == DEFAULT_MODEL and (has_maps or name != VIDEO_ADAPTER):
            found.append(Candidate(name, DEFAULT_MODEL, name, "an adapter that comes with the package"))
    return found


def again_name(rounds: int) -> str:
    """What is trained by what was trained here, after so many such rounds."""
    return AGAIN if rounds == 0 else f"{AGAIN}-{rounds + 1}"


def other_labels(source: str, sources: Sequence[str]) -> str | None:
    """Of several sources, the first whose labels are made in another way: a cue extractor's or else a detector's."""
    return next((name for name in sources if (name == BY_CUES) != (source == BY_CUES)), None)


def label_refinement() -> str:
    """What cleans the cue extractor's labels: the dense CRF, as in the paper, where it is installed."""
    return "crf" if find_spec("pydensecrf") else "pixel"


def _epochs(count: int) -> int:
    """So many that a training on few images takes `STEPS` as well."""
    return max(EPOCHS, math.ceil(STEPS * DetectorArguments.batch_size / count))


def training_steps(count: int) -> int:
    """Of a training on so many images."""
    return _epochs(count) * (count // DetectorArguments.batch_size)


def _shared(images: Path, aux: Path | None, folder: Path, seed: int) -> dict[str, Any]:
    """What both trainings are told."""
    return {
        "images": [str(images)],
        "aux": [str(aux)] if aux else [],
        "output_dir": str(folder),
        "resume": True,
        "seed": seed,
        "size": SIZE,
        "scale_stride": STRIDE,
        "num_epochs": _epochs(len(list_images(images))),
    }


def transfer_arguments(images: Path, aux: Path | None, folder: Path, seed: int) -> TransferArguments:
    """Of the cue extractor's training."""
    return TransferArguments(**_shared(images, aux, folder, seed), base=DEFAULT_CUE_EXTRACTOR)


def detector_arguments(
    images: Path, aux: Path | None, labels: Path, folder: Path, seed: int, begins_with: str | None = None
) -> DetectorArguments:
    """Of the training of a new adapter, or of one that is trained on, gently, that it may not forget."""
    shared = _shared(images, aux, folder, seed) | {"labels": [str(labels)], "spr": "none"}
    if begins_with is None:
        return DetectorArguments(**shared, adapt=DEFAULT_MODEL, learning_rate=RATE)
    return DetectorArguments(**shared, adapt=begins_with, learning_rate=RATE_ON, loss="iou+bce", batch_norm="eval")


def transfer_cues(images: Path, aux: Path | None, folder: Path, seed: int) -> Candidate:
    """Has the cue extractor learn from the images what stands out in them; goes on where it was stopped."""
    adapter = train_cue_extractor(transfer_arguments(images, aux, folder, seed))
    about = f"{DEFAULT_CUE_EXTRACTOR}, transferred to the images"
    return Candidate(CUES, DEFAULT_CUE_EXTRACTOR, str(adapter), about, False)


def judge(
    candidate: Candidate, samples: Sequence[Sample], root: Path, device: str | None, batch_size: int
) -> FolderQuality:
    """What can be said of a candidate's maps of samples. They are kept as PNGs, and not made again: in `measured/NAME`
    of the root as the network gives them, by which they are judged, and in `maps/NAME` as people get them."""
    measured, shown = root / "measured" / candidate.name, root / "maps" / candidate.name
    missing = {folder: [s for s in samples if not map_file(folder, s).exists()] for folder in (measured, shown)}
    if any(missing.values()):
        detect: Detects = load_pipeline(candidate.model, candidate.adapter, device=device)
        if candidate.tiles is not None:
            detect = Tiled(detect, candidate.tiles)
        for folder, made in missing.items():
            for predicted in predict_samples(detect, made, batch_size, refined=folder == shown) if made else ():
                write_aside(map_file(folder, predicted.sample), Image.fromarray(predicted.saliency).save)
    return judge_folder(_kept(sample, map_file(measured, sample)) for sample in samples)


def judge_parts(samples: Sequence[Sample], folder: Path) -> list[float]:
    """As `judge`, of maps that are kept, a score an image: the mean over what windows show of it (see `fit`)."""
    scores = []
    for sample in samples:
        _, image, levels = _kept(sample, map_file(folder, sample))
        saliency = torch.from_numpy(levels / np.float32(255))
        scores.append(fit(image, saliency, max(image.size) // AUTO_SHARE))
    return scores


def map_file(folder: Path, sample: Sample) -> Path:
    return folder / f"{sample.id}.png"


def _kept(sample: Sample, file: Path) -> Predicted:
    """A sample with its map from a file."""
    with Image.open(file) as picture:
        saliency = np.asarray(picture.convert("L"))
    image = read_image(sample.image).resize(saliency.shape[::-1], Image.Resampling.BILINEAR, reducing_gap=2.0)
    return Predicted(sample, image, saliency)


def make_labels(source: Source, samples: Sequence[Sample], folder: Path, device: str | None, batch_size: int) -> None:
    """Writes the labels of samples that have none yet.

    Raises:
        RunError: naming an image of which none can be made.
    """
    model, image_processor = load(source.candidate.model, source.candidate.adapter, device=device)
    aux = {sample.image: sample.aux for sample in samples if sample.aux} if model.config.takes_aux else None
    report = label_images(
        model,
        image_processor,
        [(sample.image, folder / f"{sample.id}.png") for sample in samples],
        source.refine,
        aux=aux or None,
        batch_size=batch_size,
        num_workers=0 if len(samples) <= _FEW else None,
    )
    if report.failed:
        raise RunError(next(iter(report.failed.values())))


def judge_labels(samples: Sequence[Sample], folder: Path) -> dict[str, float]:
    """The share of each sample's label that is object, by id."""
    return {sample.id: float((read_label(folder / f"{sample.id}.png") > 0.5).mean()) for sample in samples}


def agreeing(samples: Sequence[Sample], folder: Path, other: Path) -> list[Sample]:
    """The samples whose labels in two folders agree: their IoU is above `LEAST_AGREEMENT`."""
    files = [f"{sample.id}.png" for sample in samples]
    overlaps = [label_overlap(folder / file, other / file) for file in files]
    return [sample for sample, overlap in zip(samples, overlaps, strict=True) if overlap > LEAST_AGREEMENT]


def train_adapter(
    source: Source, used: str, images: Path, aux: Path | None, labels: Path, folder: Path, seed: int
) -> Candidate:
    """Trains an adapter of the default model; goes on where it was stopped.

    Args:
        used: which of the labels, for a reader.
    """
    begun = source.begins_with
    adapter = train_detector(detector_arguments(images, aux, labels, folder, seed, begun.adapter))
    trained = f"{begun.name}, trained on" if begun.adapter else "an adapter trained"
    about = f"{trained} here with labels by {source.candidate.name} ({source.refine}), {used}"
    return Candidate(source.name, DEFAULT_MODEL, str(adapter), about)
