"""The method: cue extractor, pseudo-labels, detector, as the plan says; it continues from wherever it was stopped."""

from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator

from ..data import Sample
from ..data.video import write_flow
from ..errors import RunError
from ..files import write_text
from ..labels import label_images
from ..loading import load
from ..models.modeling_usod_sce import UsodSceModel
from ..models.modeling_usod_sd import UsodSdModel
from .arguments import DetectorArguments, TransferArguments
from .checks import check_plan
from .cue_extractor import train_cue_extractor
from .detector import train_detector
from .locks import is_empty, lock_folder
from .photos import join, list_run_samples
from .plan import LabelArguments, Plan
from .processes import give_files, join_processes, sees_main_folder
from .run_folder import PLAN_FILE


def train_method(plan: Plan) -> Path:
    """Runs the stages of a plan that are not finished yet; returns the folder of the last one's model, or adapter.

    On a CPU a program may call `processes.keep_freed_memory` first, as `hf-usod train` does: steps are then a third
    faster.

    Raises:
        UsodError, FileNotFoundError, ModuleNotFoundError: with what to do about it; before anything is trained if it
            can be seen by then.
        KeyboardInterrupt: when asked to stop, once a checkpoint is written.
    """
    root = Path(plan.output_dir)
    if plan.labels and not is_empty(root) and not plan.resume:
        raise RunError(f"{root}: is not empty. Pass --resume to continue in it, or choose another --output_dir.")
    check_plan(plan)
    if plan.sd is None or plan.labels is None:
        (args,) = plan.stages.values()
        return train_detector(args) if isinstance(args, DetectorArguments) else train_cue_extractor(args)
    # Sets up the processes, which `PartialState` would take for one
    accelerator = join_processes(plan.sd.mixed_precision)
    apart = not sees_main_folder(accelerator, root)
    keeps = accelerator.is_main_process or (apart and accelerator.is_local_main_process)
    with lock_folder(root, keeps):
        if keeps:
            write_text(root / PLAN_FILE, plan.describe())
        if plan.flow:
            _write_flow(plan.sd, keeps)
            accelerator.wait_for_everyone()
        trained = train_cue_extractor(plan.sce) if plan.sce else None
        samples = join(list_run_samples(plan.sd.images, plan.sd.aux))
        labeler, adapter = plan.labels.model or str(trained), None
        if isinstance(plan.sce, TransferArguments):
            labeler, adapter = plan.sce.base, str(trained)
        _label(accelerator, plan.labels, (labeler, adapter), samples, root / "labels", plan.sd.skip_unreadable)
        return train_detector(plan.sd)


def _label(
    accelerator: Accelerator,
    args: LabelArguments,
    labeler: tuple[str, str | None],
    samples: Sequence[Sample],
    directory: Path,
    skip_unreadable: bool,
) -> None:
    """Writes the pseudo-labels of samples that have none yet, by a model and perhaps its adapter.

    Raises:
        RunError: naming what cannot be read or written, unless it is to be skipped.
    """
    files = [directory / f"{sample.id}.png" for sample in samples]
    model, image_processor = load(*labeler, kind=UsodSdModel if args.by_detector else UsodSceModel)
    report = label_images(
        model.to(accelerator.device),
        image_processor,
        [(sample.image, file) for sample, file in zip(samples, files, strict=True)],
        args.refine,
        aux={sample.image: sample.aux for sample in samples if sample.aux} if args.by_detector else None,
        shard=(accelerator.process_index, accelerator.num_processes),
        progress=accelerator.is_main_process,
    )
    if report.failed and not skip_unreadable:
        raise RunError("\n".join([*report.failed.values(), "Repair or remove them, or pass --skip_unreadable."]))
    accelerator.wait_for_everyone()
    give_files(accelerator, files)


def _write_flow(args: DetectorArguments, keeps: bool) -> None:
    """Computes the flow of folders of frames that have none yet.

    Raises:
        DataError: naming frames that cannot be read or do not fit.
    """
    if keeps:
        for frames, folder in zip(args.images, args.aux, strict=True):
            write_flow(frames, str(folder))
