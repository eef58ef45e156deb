"""What a plan says of files and models, looked at before anything is trained."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..conversion import load_pretrained_backbone
from ..conversion.efficientnet_lite import EFFICIENTNET_LITES
from ..data import Sample
from ..data.folders import upright_size
from ..data.video import list_sequences, require_opencv
from ..errors import DataError, LabelError, PlanError
from ..files import why_unwritable
from ..labels.crf import load_crf
from ..loading import checkpoint_names, is_adapter, load
from ..models.image_processing_usod import check_aux
from ..models.modeling_usod_sce import UsodSceModel
from ..models.modeling_usod_sd import UsodSdModel
from .arguments import CueExtractorArguments, RunArguments, TransferArguments
from .fields import suggestion
from .photos import join, label_files, list_run_samples
from .plan import Plan
from .processes import join_processes
from .schedule import Schedule


def check_plan(plan: Plan) -> list[str]:
    """Looks at what a plan names: images and their auxiliary maps, models and backbones, which are loaded, and what
    must be installed. Writes nothing.

    Returns:
        A line for each stage: its images and steps.

    Raises:
        UsodError, FileNotFoundError, ModuleNotFoundError: naming the option or the file, and what to do about it.
    """
    if not plan.stages:
        raise PlanError("The plan has no stage to train.")
    _check_output(Path(plan.output_dir))
    args = next(iter(plan.stages.values()))
    accelerator = join_processes(args.mixed_precision)
    if plan.flow:
        _check_frames(args)
    folders = list_run_samples(args.images, () if plan.flow else args.aux)
    samples = join(folders)
    check_proportions(samples)
    if plan.sd and plan.labels is None:
        _check_labels(label_files(plan.sd.labels, folders).values())
    lines = []
    for name, stage in plan.stages.items():
        schedule = Schedule.of(stage, len(samples), accelerator.num_processes)
        lines.append(f"{name}: {len(samples)} images, {schedule.num_steps} steps of {stage.batch_size}.")
    _check_models(plan)
    if plan.labels and plan.labels.refine == "crf":
        load_crf()
    return lines


def _check_output(folder: Path) -> None:
    """Raises a `PlanError` unless a folder is one, or can be made."""
    if reason := why_unwritable(folder):
        raise PlanError(f"--output_dir {folder}: {reason}. Choose another.")


def _check_models(plan: Plan) -> None:
    """Loads what the stages begin with, each once."""
    models: dict[tuple[str, type], str] = {}  # with the option that named it first
    backbones: dict[str, str] = {}
    if isinstance(plan.sce, CueExtractorArguments):
        backbones.setdefault(plan.sce.backbone, "--backbone")
    if isinstance(plan.sce, TransferArguments):
        models[plan.sce.base, UsodSceModel] = "--base"
    if plan.labels and plan.labels.model:
        by_detector = plan.labels.by_detector
        models[plan.labels.model, UsodSdModel if by_detector else UsodSceModel] = "--adapt" if by_detector else "--sce"
    if plan.sd:
        for option, model in (("--adapt", plan.sd.adapt), ("--start_from", plan.sd.start_from)):
            if model:
                models.setdefault((model, UsodSdModel), option)
        if plan.sd.start == "new":
            backbones.setdefault(plan.sd.backbone, "--backbone")
            backbones.setdefault(plan.sd.aux_backbone or plan.sd.backbone, "--aux_backbone")
    for (name, kind), option in models.items():
        if option in ("--base", "--start_from") and is_adapter(name):
            raise PlanError(
                f"{option} {name}: is an adapter, a model is expected. An adapter is trained on by --adapt."
            )
        adapters = checkpoint_names("adapter") if option == "--adapt" else []
        _check_name(option, name, [*checkpoint_names("model"), *adapters])
        load(name, kind=kind)
    for name, option in backbones.items():
        _check_name(option, name, EFFICIENTNET_LITES)
        load_pretrained_backbone(name)


def _check_name(option: str, name: str, embedded: Sequence[str]) -> None:
    """Raises a `PlanError` for a name that is not known, is no path that exists, and cannot be a Hub id."""
    if name not in embedded and not Path(name).exists() and "/" not in name:
        raise PlanError(
            f"{option} {name}: nothing is called so, neither a file or folder here nor one of "
            f"{', '.join(embedded)}.{suggestion(name, embedded)}"
        )


def _check_labels(files: Iterable[Path]) -> None:
    missing = [path for path in files if not path.is_file()]
    if missing:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise LabelError(f"{missing[0]}: no such label{more}. Make labels with `hf-usod label`.")


def check_proportions(samples: Sequence[Sample]) -> None:
    """Raises a `DataError` naming the auxiliary maps that are not of their images' proportions. Files that cannot be
    read are left to those who read them."""

    def problem(sample: Sample) -> str | None:
        sizes = _size(sample.image), _size(sample.aux) if sample.aux else None
        if sizes[0] and sizes[1]:
            try:
                check_aux(sizes[0], sizes[1], sample.image, sample.aux)
            except ValueError as error:
                return str(error)
        return None

    with ThreadPoolExecutor() as pool:
        problems = [text for text in pool.map(problem, [s for s in samples if s.aux]) if text]
    if problems:
        more = f" ({len(problems) - 1} more do not fit.)" if len(problems) > 1 else ""
        raise DataError(problems[0] + more)


def _check_frames(args: RunArguments) -> None:
    """Sees that each sequence has frames of one size, and that the flow will not lie among them."""
    require_opencv()
    output = Path(args.output_dir).resolve()
    for folder in args.images:
        if output.is_relative_to(Path(folder).resolve()):
            raise PlanError(
                f"--output_dir {args.output_dir}: lies in {folder}, whose images are frames; choose another."
            )
        for sequence in list_sequences(folder):
            with ThreadPoolExecutor() as pool:
                sizes = list(pool.map(_size, sequence.frames))
            usual = max(set(sizes), key=sizes.count)
            odd = [
                (frame, size) for frame, size in zip(sequence.frames, sizes, strict=True) if size not in (usual, None)
            ]
            if odd and usual:
                (frame, size), *more = odd
                raise DataError(
                    f"{frame}: is of {size[0]} x {size[1]}, the other frames of its sequence of {usual[0]} x {usual[1]}"
                    f"{f' (and {len(more)} more)' if more else ''}. Flow needs frames of one size."
                )


def _size(path: Path) -> tuple[int, int] | None:
    """(width, height) of an upright image; None if it cannot be read."""
    try:
        return upright_size(path)
    except (DataError, OSError):
        return None
