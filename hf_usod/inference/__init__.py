"""From files to files: the main job."""

from .clip_files import ClipError
from .predict import Report, flow_of_frames, predict
from .video import ClipReport, predict_clip

__all__ = [
    "ClipError",
    "ClipReport",
    "Report",
    "flow_of_frames",
    "predict",
    "predict_clip",
]
