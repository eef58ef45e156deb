"""The only room that reads ground truth."""

from .benchmark import Evaluation, evaluate_maps, evaluate_model
from .samples import EvaluationSample, EvaluationSet, folder_samples, map_samples
from .scoring import score_maps
from .usod_saliency.saliency_metrics import METRICS, SaliencyMetrics, score_image

__all__ = [
    "METRICS",
    "Evaluation",
    "EvaluationSample",
    "EvaluationSet",
    "SaliencyMetrics",
    "evaluate_maps",
    "evaluate_model",
    "folder_samples",
    "map_samples",
    "score_image",
    "score_maps",
]
