"""An evaluation as a page to look at: scores, curves, and the worst maps beside their ground truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..html import Chart, Comparison, Comparisons, Page, Table, histogram
from .reading import read_ground_truth, read_prediction
from .report import entry_label, format_score, legend
from .results import Evaluation, entries_of
from .sets import EvaluationSample
from .usod_saliency.reading import as_levels, as_mask, fit
from .usod_saliency.saliency_metrics import METRICS, NUM_THRESHOLDS

MOST_PICTURES = 40  # on a page
SORTED_BY = "f_adaptive"


@dataclass(frozen=True)
class Scored:
    """An evaluation with what was scored: `maps` by the samples' ids."""

    evaluation: Evaluation
    samples: Sequence[EvaluationSample]
    maps: Mapping[str, Path]


def evaluation_page(scored: Sequence[Scored], worst: int = MOST_PICTURES) -> Page:
    """Scores of all evaluations, and the `worst` images, shared among them, by adaptive F.

    Raises:
        DataError: naming a map or ground truth that cannot be read any more.
    """
    evaluations = [one.evaluation for one in scored]
    entries = entries_of(evaluations)
    rows = [
        [entry["dataset"], entry_label(entry), str(entry["num_images"]), *(format_score(entry[key]) for key in METRICS)]
        for entry in entries
    ]
    head = ["data set", "model", "images", *(metric.column for metric in METRICS.values())]
    datasets = list(dict.fromkeys(evaluation.dataset for evaluation in evaluations))
    return Page(
        title=f"Evaluation on {', '.join(datasets)}",
        tables=[Table("Scores", head, rows, note=legend(entries))],
        walls=[_worst(one, max(1, worst // len(scored))) for one in scored],
        charts=[chart for name in datasets for chart in _charts(name, evaluations)],
        settings={f"{one.label} on {one.dataset}": one.note for one in evaluations if one.note},
    )


def _worst(scored: Scored, count: int) -> Comparisons:
    rows = sorted(scored.evaluation.metrics.rows, key=lambda row: row[SORTED_BY])[:count]
    sample_of = {sample.id: sample for sample in scored.samples}
    items = [_comparison(row, sample_of[str(row["id"])], scored.maps[str(row["id"])]) for row in rows]
    title = f"{scored.evaluation.label} on {scored.evaluation.dataset}: the {len(items)} lowest F"
    return Comparisons(title, "ground truth", scored.evaluation.label, items)


def _comparison(row: Mapping[str, Any], sample: EvaluationSample, path: Path) -> Comparison:
    mask = as_mask(read_ground_truth(sample.mask)).astype(np.uint8) * 255
    levels, _ = as_levels(read_prediction(path))
    levels = (fit(levels, mask.shape) * 255).round().astype(np.uint8)
    figures = {METRICS[key].heading: float(row[key]) for key in (SORTED_BY, "mae", "e_adaptive")}
    return Comparison(sample.id, mask, levels, sample.image, figures)


def _charts(dataset: str, evaluations: Sequence[Evaluation]) -> list[Chart]:
    here = [evaluation for evaluation in evaluations if evaluation.dataset == dataset]
    curves = {evaluation.label: evaluation.metrics.curves() for evaluation in here}
    thresholds = [level / (NUM_THRESHOLDS - 1) for level in range(NUM_THRESHOLDS)]
    recalled = {name: list(zip(of["recall"], of["precision"], strict=True)) for name, of in curves.items()}
    scores = {one.label: [float(row[SORTED_BY]) for row in one.metrics.rows] for one in here}
    return [
        Chart(f"{dataset}: precision over recall", "recall", recalled),
        Chart(
            f"{dataset}: F over the threshold",
            "threshold",
            {name: list(zip(thresholds, of["f"], strict=True)) for name, of in curves.items()},
        ),
        histogram(f"{dataset}: images by adaptive F", "adaptive F", scores, 0.0, 1.0),
    ]
