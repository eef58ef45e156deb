"""The training stages of the method, on Accelerate."""

from .arguments import CueExtractorArguments, parse_arguments
from .cue_extractor import train_cue_extractor
from .run_folder import RunError

__all__ = ["CueExtractorArguments", "RunError", "parse_arguments", "train_cue_extractor"]
