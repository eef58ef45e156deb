"""From files to files: the main job."""

from ..errors import ClipError
from .encoding import Encoding
from .predict import AuxMaps, predict
from .rendering import Rendering
from .report import Record, Report
from .single import detect
from .tiled import Tiled
from .video import ClipReport, predict_clip

__all__ = [
    "AuxMaps",
    "ClipError",
    "ClipReport",
    "Encoding",
    "Record",
    "Rendering",
    "Report",
    "Tiled",
    "detect",
    "predict",
    "predict_clip",
]
