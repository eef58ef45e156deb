"""Scores of models and of maps on data sets, and the results files that keep them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import DataError
from ..files import read_json
from ..inference.tiled import Tiles, model_label
from ..models.image_processing_usod import UsodImageProcessor
from .predicting import predict_maps
from .published import PAPER, published_scores
from .scoring import score_maps
from .sets import EvaluationSet
from .usod_saliency.saliency_metrics import METRICS, SaliencyMetrics

Entry = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model (or of another method's maps) on a data set."""

    model: str
    dataset: str
    metrics: SaliencyMetrics
    adapter: str | None = None  # a task adapter that was in the model
    note: str = ""  # what a reader must know of the model: backbone, pre-training, training data, epoch
    tiles: Tiles = None  # what windows it looked at too, see `Tiled`

    @property
    def label(self) -> str:
        """The model's name in tables and pictures."""
        return model_label(self.model, self.adapter, self.tiles)

    def entry(self) -> dict[str, Any]:
        """As in results JSON: `model`, `dataset`, `num_images`, scores by name; `adapter`, `tiles`, `note` if any."""
        entry: dict[str, Any] = {"model": self.model, "dataset": self.dataset, "num_images": len(self.metrics)}
        if self.adapter:
            entry["adapter"] = self.adapter
        if self.tiles:
            entry["tiles"] = self.tiles
        if self.note:
            entry["note"] = self.note
        if self.metrics.normalize:
            entry["normalize"] = True
        if self.metrics.num_empty:
            entry["num_empty_masks"] = self.metrics.num_empty
        return {**entry, **self.metrics.results()}


def evaluate_maps(
    model: str, dataset: EvaluationSet, predictions: Sequence[Path], *, note: str = "", **options: Any
) -> Evaluation:
    """Scores maps that exist, by any method; `options` are those of `score_maps`.

    Raises:
        DataError: naming a file that cannot be scored, or the data set if its maps are on another scale.
    """
    metrics = score_maps(dataset.samples, predictions, **{"label": f"{model} on {dataset.name}", **options})
    try:
        metrics.check_scale()
    except ValueError as error:
        raise DataError(f"{predictions[0].parent}: {error}") from error
    return Evaluation(model, dataset.name, metrics, note=note)


def evaluate_model(
    name: str,
    model: torch.nn.Module,
    processor: UsodImageProcessor,
    dataset: EvaluationSet,
    *,
    adapter: str | None = None,
    note: str = "",
    batch_size: int = 8,
    folder: Path | None = None,
    tiles: Tiles = None,
    **options: Any,
) -> Evaluation:
    """Scores a model; `options` are those of `score_maps`.

    Args:
        name, adapter: as the report is to call them.
        folder: where its maps are kept, see `predict_maps`.
        tiles: the windows that it looks at too, see `Tiled`; None for none.

    Raises:
        DataError: naming a file that cannot be read or scored.
    """
    maps = predict_maps(model, processor, list(dataset.samples), batch_size, folder, tiles)
    metrics = score_maps(dataset.samples, maps, **{"label": f"{adapter or name} on {dataset.name}", **options})
    return Evaluation(name, dataset.name, metrics, adapter, note, tiles)


def entries_of(evaluations: Sequence[Evaluation]) -> list[Entry]:
    """Entries for a results file; those on a published test set carry the paper's scores and the difference."""
    entries = []
    for evaluation in evaluations:
        entry = evaluation.entry()
        if paper := published_scores(evaluation.dataset):
            entry["published"] = {"source": PAPER, **paper._asdict()}
            entry["difference"] = {key: entry[key] - value for key, value in paper._asdict().items()}
        entries.append(entry)
    return entries


def is_entry(content: object) -> bool:
    """Whether it says of which model, on what, and at least one score."""
    return (
        isinstance(content, dict)
        and content.keys() >= {"model", "dataset", "num_images"}
        and any(isinstance(content.get(key), int | float) for key in METRICS)
    )


def find_entries(path: Path) -> list[Entry]:
    """The entries of a JSON file, which is one, or a list of them; whatever else it holds is left out.

    Raises:
        DataError: naming the file, if it is not JSON.
    """
    content = read_json(path)
    return [entry for entry in (content if isinstance(content, list) else [content]) if is_entry(entry)]


def read_entries(path: Path) -> list[Entry]:
    """The entries of a results file.

    Raises:
        DataError: naming the file, if it is none or holds anything else.
    """
    content, entries = read_json(path), find_entries(path)
    if not entries or len(entries) != len(content):
        raise DataError(f"{path}: is no results file; expected a list of entries, as `hf-usod evaluate` writes it.")
    return entries
