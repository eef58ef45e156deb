"""The training stages of the method, on Accelerate."""

from .arguments import (
    STAGES,
    CueExtractorArguments,
    DetectorArguments,
    TransferArguments,
    WholeArguments,
    parse_arguments,
)
from .cue_extractor import train_cue_extractor
from .detector import train_detector
from .run_folder import RunError
from .transfer import train_adapter
from .whole import train_whole

__all__ = [
    "STAGES",
    "CueExtractorArguments",
    "DetectorArguments",
    "RunError",
    "TransferArguments",
    "WholeArguments",
    "parse_arguments",
    "train_adapter",
    "train_cue_extractor",
    "train_detector",
    "train_whole",
]
