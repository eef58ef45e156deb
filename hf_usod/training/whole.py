"""The whole method in one go: cue extractor, pseudo-labels, detector; it continues from wherever it was stopped."""

import dataclasses
from pathlib import Path
from typing import Any

from accelerate import Accelerator, PartialState

from ..constants import DEFAULT_CUE_EXTRACTOR, DEFAULT_MODEL
from ..data import Sample, list_samples
from ..data.video import write_flow
from ..errors import RunError
from ..labels import label_images
from ..loading import load
from ..models.modeling_usod_sce import UsodSceModel
from ..models.modeling_usod_sd import UsodSdModel
from .arguments import (
    CueExtractorArguments,
    DetectorArguments,
    SharedArguments,
    TransferArguments,
    WholeArguments,
    parse_arguments,
)
from .cue_extractor import train_cue_extractor
from .detector import train_detector
from .transfer import train_adapter


def _command_line(recipe: Path | None, **arguments: Any) -> list[str]:
    """Arguments of a stage as its command line; what is None or empty is left to the recipe and the defaults."""
    words = ["--recipe", str(recipe)] if recipe else []
    for name, value in arguments.items():
        if value is True:
            words.append(f"--{name}")
        elif value not in (None, False, []):
            words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    return words


def _label(args: WholeArguments, name: str, adapter: Path | None, samples: list[Sample], directory: Path) -> None:
    """Writes the pseudo-labels of samples that have none yet, by a model and perhaps its adapter.

    Raises:
        RunError: naming what cannot be read or written, unless it is to be skipped.
    """
    state = PartialState()
    model, image_processor = load(
        name, str(adapter) if adapter else None, kind=UsodSdModel if args.labels_from == "sd" else UsodSceModel
    )
    report = label_images(
        model.to(state.device),
        image_processor,
        [(sample.image, directory / f"{sample.id}.png") for sample in samples],
        args.refine,
        aux={sample.image: sample.aux for sample in samples if sample.aux} if args.labels_from == "sd" else None,
        shard=(state.process_index, state.num_processes),
        progress=state.is_main_process,
    )
    if report.failed and not args.skip_unreadable:
        raise RunError("\n".join([*report.failed.values(), "Repair or remove them, or pass --skip_unreadable."]))
    state.wait_for_everyone()


def _write_flow(images: list[str], directory: Path) -> list[str]:
    """Computes the flow of folders of frames that have none yet; returns the folders it is in."""
    state = PartialState()
    folders = [directory / str(place) for place in range(len(images))]
    if state.is_main_process:
        for frames, folder in zip(images, folders):
            write_flow(frames, folder)
    state.wait_for_everyone()
    return [str(folder) for folder in folders]


def train_whole(args: WholeArguments, recipe: Path | None = None) -> Path:
    """Runs all stages that are not finished yet; returns the folder of the detector, or of its adapter.

    Args:
        recipe: with what the stages are told beyond `args`, in its sections.

    Raises:
        RunError, LabelError, FileNotFoundError, ConversionError: with what to do about it.
        KeyboardInterrupt: when asked to stop, once a checkpoint is written.
    """
    root = Path(args.output_dir)
    if root.exists() and any(root.iterdir()) and not args.resume:
        raise RunError(f"{root}: is not empty. Pass --resume to continue in it, or choose another --output_dir.")
    Accelerator(mixed_precision=args.mixed_precision)  # sets up the processes, which `PartialState` would take for one
    names = (field.name for field in dataclasses.fields(SharedArguments))
    shared = {name: getattr(args, name) for name in names if name != "output_dir"} | {"resume": True}
    adapt = args.adapt or (DEFAULT_MODEL if args.transfer else None)
    labeller, adapter = args.sce, None
    if args.labels_from == "sd":
        labeller = args.adapt or DEFAULT_MODEL
    elif args.transfer:
        labeller = labeller or DEFAULT_CUE_EXTRACTOR
        told = _command_line(recipe, output_dir=root / "sce", base=labeller, **shared)
        adapter = train_adapter(parse_arguments(TransferArguments, told))
    elif labeller is None:
        told = _command_line(recipe, output_dir=root / "sce", **shared)
        labeller = str(train_cue_extractor(parse_arguments(CueExtractorArguments, told)))

    aux = _write_flow(args.images, root / "flow") if args.task == "video" else args.aux
    samples = list_samples(args.images, aux)
    _label(args, labeller, adapter, samples, root / "labels")
    places = [str(place) for place in range(len(args.images))] if len(args.images) > 1 else [""]
    labels = [root / "labels" / place for place in places]
    told = _command_line(recipe, output_dir=root / "sd", labels=labels, aux=aux, adapt=adapt, **shared)
    return train_detector(parse_arguments(DetectorArguments, told))
