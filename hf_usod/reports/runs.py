"""A run's page: its maps beside those of the model that it started from, its labels and what became of them, curves."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..constants import DEFAULT_MODEL
from ..data import Sample, evenly_spread
from ..errors import RunError
from ..files import read_json
from ..html import Chart, Comparison, Comparisons, Page, histogram
from ..inference.maps import as_input
from ..labels import LabelStore, read_label
from ..loading import load_pipeline
from ..models.image_processing_usod import read_aux, read_image
from ..models.pipeline_usod import SalientObjectDetectionPipeline
from ..training.curves import charts
from ..training.page import read_history
from ..training.photos import join, label_files, list_run_samples
from ..training.run_folder import ARGUMENTS_FILE

MOST_PHOTOS, MOST_LABELS = 40, 12
AFTER = "trained"
STAGES = {"sce": "Cue extractor", "sd": "Detector"}


@dataclass(frozen=True)
class StageRun:
    """The folder of one stage: what it was told, and what it trained, if it has come to an end."""

    title: str
    folder: Path
    arguments: Mapping[str, Any]

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def is_detector(self) -> bool:
        return "spr" in self.arguments

    @property
    def before(self) -> str:
        """The model that it was trained from; the default one for what was trained from a backbone."""
        sources = (self.arguments.get(name) for name in ("adapt", "start_from", "base"))
        return next((source for source in sources if source), DEFAULT_MODEL)

    @property
    def option(self) -> str:
        """Of `hf-usod predict`, that takes it."""
        return "adapter" if (self.model / "adapter_config.json").is_file() else "model"


def find_stages(run: Path) -> list[StageRun]:
    """The stages of a run that have begun, in their order.

    Raises:
        RunError: if the folder is no run's.
    """
    folders = {title: run / name for name, title in STAGES.items() if (run / name / ARGUMENTS_FILE).is_file()}
    if (run / ARGUMENTS_FILE).is_file():
        folders["Training"] = run
    if not folders:
        raise RunError(f"{run}: holds no training. Give the folder that was its --output_dir.")
    return [StageRun(title, folder, _read_arguments(folder / ARGUMENTS_FILE)) for title, folder in folders.items()]


def _read_arguments(file: Path) -> dict[str, Any]:
    arguments = read_json(file)
    if not isinstance(arguments, dict) or not {"images", "aux"} <= arguments.keys():
        raise RunError(f"{file}: does not say what was trained on; is {file.parent} a training's --output_dir?")
    return arguments


def run_page(run: Path, photos: int = MOST_PHOTOS, device: str | None = None) -> Page:
    """The page of a run, finished or not; of its images, `photos` are shown, evenly spread.

    Raises:
        RunError: if the folder holds no training, or none whose model is finished.
        LoadingError, DataError, LabelError, FileNotFoundError: naming a model, image or label that is gone.
    """
    stages = find_stages(run)
    finished = [stage for stage in stages if stage.model.is_dir()]
    if not finished:
        raise RunError(f"{run}: has trained no model yet. It goes on with --resume.")
    last = finished[-1]
    folders = list_run_samples(last.arguments["images"], last.arguments["aux"], last.arguments.get("aux_kinds", ()))
    samples = join(folders)
    shown = evenly_spread(samples, photos)
    maps = {
        name: _maps(source, shown, device) for name, source in ((last.before, last.before), (AFTER, str(last.model)))
    }
    walls = [_maps_wall(shown, maps)]
    if last.is_detector:
        walls += _labels_wall(last, samples, label_files(last.arguments["labels"], folders))
    return Page(
        title=f"Training {run.resolve().name}",
        summary=[
            f"{len(samples)} images, {last.before} trained on. On the {len(shown)} below, its maps changed by "
            f"{np.mean([item.figures['change'] for item in walls[0].items]):.3f} on average.",
            "Whether they became better, no number without masks says for sure. Look at those that changed most.",
        ],
        commands=[f"hf-usod predict NEW_IMAGES --{last.option} {last.model} --output out --save cutout"],
        walls=walls,
        charts=[
            *(chart for stage in stages for chart in charts(read_history(stage.folder), stage.title)),
            *_histograms(maps),
        ],
        settings={
            f"{stage.title}: {key}": json.dumps(value) for stage in stages for key, value in stage.arguments.items()
        },
    )


def _maps(source: str, samples: Sequence[Sample], device: str | None) -> list[np.ndarray]:
    """Maps `(H, W)` uint8 by a model or adapter, of each sample with what the model takes."""
    detect: SalientObjectDetectionPipeline = load_pipeline(source, device=device)
    config = detect.model.config

    def read(sample: Sample) -> Any:
        aux = read_aux(sample.aux) if config.takes_aux and sample.aux else None
        return as_input(config, read_image(sample.image), aux, sample.aux_kind)

    return [np.asarray(detect(read(sample), outputs=["saliency"])["saliency"]) for sample in samples]


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference of maps uint8, of 1."""
    return float(np.abs(one.astype(np.float32) - other).mean() / 255)


def _maps_wall(samples: Sequence[Sample], maps: Mapping[str, Sequence[np.ndarray]]) -> Comparisons:
    items = [
        Comparison(sample.id, before, after, sample.image, {"change": _difference(before, after)})
        for sample, before, after in zip(samples, *maps.values(), strict=True)
    ]
    items.sort(key=lambda item: -item.figures["change"])
    before, after = maps
    return Comparisons("Before and after, most changed first", before, after, items)


def _labels_wall(stage: StageRun, samples: Sequence[Sample], files: Mapping[str, Path]) -> list[Comparisons]:
    """Of the labels of a detector's run those that changed most."""
    store, photo_of = LabelStore(stage.folder / "labels"), {sample.id: sample.image for sample in samples}
    items = []
    for index, name in enumerate(store.ids):
        latest = _levels(store.latest(index))
        first = _levels(read_label(files[name]))
        size = latest.shape[1], latest.shape[0]
        first = np.asarray(Image.fromarray(first).resize(size, Image.Resampling.BILINEAR))
        items.append(Comparison(name, first, latest, photo_of[name], {"change": _difference(first, latest)}))
    items.sort(key=lambda item: -item.figures["change"])
    return [Comparisons("Labels that changed most", "first", "rectified", items[:MOST_LABELS])]


def _levels(label: np.ndarray) -> np.ndarray:
    return (label * 255).round().astype(np.uint8)


def _histograms(maps: Mapping[str, Sequence[np.ndarray]]) -> list[Chart]:
    size = {name: [float((saliency > 127).mean()) for saliency in of] for name, of in maps.items()}
    soft = {name: [float(((saliency > 25) & (saliency < 230)).mean()) for saliency in of] for name, of in maps.items()}
    return [
        histogram("Share of an image that is object", "share of the image", size, 0.0, 1.0),
        histogram("Share of an image that is undecided, .1 to .9", "share of the image", soft, 0.0, 0.5),
    ]
