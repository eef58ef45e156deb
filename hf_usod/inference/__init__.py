"""From files to files: the main job."""

from .outputs import OUTPUT_KINDS
from .predict import Report, predict

__all__ = ["OUTPUT_KINDS", "Report", "predict"]
