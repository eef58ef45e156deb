"""The scores of what a table's recipe names."""

from pathlib import Path
from typing import Any

from ..evaluation import EvaluationSet, evaluate_maps, evaluate_model, folder_samples, map_samples, score_maps
from ..loading import load
from .label_stores import store_predictions


def score(model: Path | None, spec: dict[str, Any]) -> dict[str, float]:
    """Scores of a model folder on images, or of pseudo-labels (a folder of maps, or a label store), against masks.

    Args:
        model: a model or an adapter; None for maps that are there.
        spec: `name` and `masks`, and `images` (perhaps with `aux`) or `predictions`.

    Raises:
        UsodError, FileNotFoundError: naming what is not there or cannot be read.
    """
    name, masks = spec["name"], Path(spec["masks"])
    if model is None:
        folder = Path(spec["predictions"])
        if (folder / "index.json").exists():
            return score_maps(*store_predictions(folder, masks), label=name).results()
        samples, maps = map_samples(folder, masks, partial=True)
        return evaluate_maps("labels", EvaluationSet(name, samples), maps).metrics.results()
    adapter = str(model) if (model / "adapter_config.json").exists() else None
    network, image_processor = load(None if adapter else str(model), adapter, device=None)
    samples = folder_samples(Path(spec["images"]), masks, Path(spec["aux"]) if spec.get("aux") else None)
    dataset = EvaluationSet(name, samples)
    return evaluate_model(model.parent.name, network, image_processor, dataset).metrics.results()
