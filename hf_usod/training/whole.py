"""The whole method in one go: cue extractor, pseudo-labels, detector; it continues from wherever it was stopped."""

from pathlib import Path
from typing import Any

from ..data import list_samples
from ..inference.label import label_images
from ..models.modeling_usod_sce import UsodSceModel
from .arguments import CueExtractorArguments, DetectorArguments, WholeArguments, parse_arguments
from .base import load_base
from .cue_extractor import train_cue_extractor
from .detector import train_detector
from .run_folder import RunError


def _command_line(recipe: Path | None, **arguments: Any) -> list[str]:
    """Arguments of a stage as its command line; what is None or empty is left to the recipe and the defaults."""
    words = ["--recipe", str(recipe)] if recipe else []
    for name, value in arguments.items():
        if value is True:
            words.append(f"--{name}")
        elif value not in (None, False, []):
            words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    return words


def train_whole(args: WholeArguments, recipe: Path | None = None) -> Path:
    """Runs all stages that are not finished yet; returns the folder of the detector, or of its adapter.

    Args:
        recipe: with what the stages are told beyond `args`, in its sections `sce` and `sd`.

    Raises:
        RunError, LabelError, FileNotFoundError, ConversionError: with what to do about it.
        KeyboardInterrupt: when asked to stop, once a checkpoint is written.
    """
    root = Path(args.output_dir)
    if root.exists() and any(root.iterdir()) and not args.resume:
        raise RunError(
            f"{root}: is not empty. Pass --resume to continue the run in it, or choose another --output_dir."
        )
    shared = {
        "images": args.images,
        "resume": True,
        "skip_unreadable": args.skip_unreadable,
        "seed": args.seed,
        "mixed_precision": args.mixed_precision,
        "num_workers": args.num_workers,
    }
    sce = args.sce
    if sce is None:
        stage = _command_line(recipe, output_dir=root / "sce", **shared)
        sce = str(train_cue_extractor(parse_arguments(CueExtractorArguments, stage)))
