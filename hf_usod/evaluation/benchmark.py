"""Scores of models and of maps on data sets, as report entries."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..models.image_processing_usod import UsodImageProcessor
from .predicting import predict_maps
from .samples import EvaluationSet, folder_samples
from .scoring import score_maps
from .usod_saliency.saliency_metrics import SaliencyMetrics


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model (or of another method's maps) on a data set."""

    model: str
    dataset: str
    metrics: SaliencyMetrics
    adapter: str | None = None  # a task adapter that was in the model
    note: str = ""  # what a reader must know of the model: backbone, pre-training, training data, epoch

    @property
    def label(self) -> str:
        """The model's name in tables and pictures."""
        return f"{self.model} + {self.adapter}" if self.adapter else self.model

    def entry(self) -> dict[str, Any]:
        """As in results JSON: `model`, `adapter` and `note` if any, `dataset`, `num_images`, and scores by name."""
        entry: dict[str, Any] = {"model": self.model, "dataset": self.dataset, "num_images": len(self.metrics)}
        if self.adapter:
            entry["adapter"] = self.adapter
        if self.note:
            entry["note"] = self.note
        if self.metrics.normalize:
            entry["normalize"] = True
        if self.metrics.num_empty:
            entry["num_empty_masks"] = self.metrics.num_empty
        return {**entry, **self.metrics.results()}


def evaluate_maps(
    model: str,
    dataset: EvaluationSet,
    predictions: Iterable[np.ndarray | Path],
    *,
    adapter: str | None = None,
    note: str = "",
    **options,
) -> Evaluation:
    """Scores maps that exist, or are being made; `options` are those of `score_maps`."""
    options.setdefault("label", f"{adapter or model} on {dataset.name}")
    metrics = score_maps(list(dataset.samples), predictions, **options)
    return Evaluation(model, dataset.name, metrics, adapter, note)


def evaluate_model(
    model: torch.nn.Module, processor: UsodImageProcessor, images: Path, masks: Path, progress: bool = True
) -> dict[str, float]:
    """`SaliencyMetrics.results` of a model on a folder of images and a folder of masks with the same stems, and
    `num_images`."""
    samples = folder_samples(images, masks)
    metrics = score_maps(samples, predict_maps(model, processor, samples), progress=progress)
    return {"num_images": len(metrics), **metrics.results()}
