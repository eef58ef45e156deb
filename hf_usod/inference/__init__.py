"""From files to files: the main job."""

from .clip_files import ClipError
from .pictures import OUTPUT_KINDS
from .predict import Report, flow_of_frames, predict
from .video import ClipReport, predict_clip

__all__ = [
    "OUTPUT_KINDS",
    "ClipError",
    "ClipReport",
    "Report",
    "flow_of_frames",
    "predict",
    "predict_clip",
]
