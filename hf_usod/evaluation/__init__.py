"""The only room that reads ground truth."""

# ruff: noqa: E402

from ..extras import require

for _module in ("scipy", "py_sod_metrics"):  # the metrics' own file, which stands alone, cannot say so
    require(_module, "evaluate", "Scoring")

from .results import Evaluation, evaluate_maps, evaluate_model
from .scoring import score_maps
from .sets import EvaluationSample, EvaluationSet, folder_samples, map_samples, task_sets
from .usod_saliency.saliency_metrics import METRICS, Metric, SaliencyMetrics, score_image

__all__ = [
    "METRICS",
    "Evaluation",
    "EvaluationSample",
    "EvaluationSet",
    "Metric",
    "SaliencyMetrics",
    "evaluate_maps",
    "evaluate_model",
    "folder_samples",
    "map_samples",
    "score_image",
    "score_maps",
    "task_sets",
]
