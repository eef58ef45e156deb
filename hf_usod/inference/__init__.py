"""From files to files: the main job."""

from ..errors import ClipError
from .predict import AuxMaps, Report, predict
from .rendering import Rendering
from .video import ClipReport, predict_clip

__all__ = [
    "AuxMaps",
    "ClipError",
    "ClipReport",
    "Rendering",
    "Report",
    "predict",
    "predict_clip",
]
