"""The only room that reads ground truth."""

from .benchmark import evaluate_model
from .metrics import SaliencyMetrics

__all__ = ["SaliencyMetrics", "evaluate_model"]
