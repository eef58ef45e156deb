"""What a training will take in time, memory and disk, measured: the whole of it on a few of its images, in a folder
that is removed again."""

import dataclasses
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from ..data import Sample, evenly_spread, second_scale
from ..errors import RunError
from ..files import nearest
from .arguments import DetectorArguments, RunArguments
from .feature_cache import GIGABYTE, budget
from .method import train_method
from .page import read_history
from .photos import join, label_files, list_run_samples, readable_samples
from .plan import Plan
from .processes import join_processes
from .schedule import Schedule

STEPS_AN_EPOCH = 2  # the first of a kind is slow, the second tells
GIB = 2**30


def rehearse(plan: Plan) -> list[str]:
    """Looks at every image, and runs all stages on a few of them: as many epochs as differ in what they do, of two
    steps each.

    Returns:
        A line for each stage, with what an epoch and all of them take, and one about memory and disk.

    Raises:
        UsodError: what the training itself would say.
    """
    (first, *_) = plan.stages.values()
    accelerator = join_processes(first.mixed_precision)
    kinds = plan.sd.aux_kinds if plan.sd else ()
    folders = list_run_samples(first.images, () if plan.flow else first.aux, kinds)
    samples = readable_samples(first, join(folders), accelerator.is_local_main_process)
    labels = label_files(plan.sd.labels, folders) if plan.sd and plan.labels is None else {}
    chosen = evenly_spread(samples, STEPS_AN_EPOCH * max(args.batch_size for args in plan.stages.values()))

    # One for all processes; on another machine than the main one's it is made there
    made = tempfile.mkdtemp(prefix="hf_usod-") if accelerator.is_main_process else None
    root = Path(broadcast_object_list([made])[0])
    try:
        small = _small(plan, root, accelerator.is_local_main_process, chosen, labels)
        accelerator.wait_for_everyone()
        train_method(small)
        lines = [*_times(plan, small, len(samples)), _space(plan, small, len(samples), accelerator)]
        accelerator.wait_for_everyone()
        return lines
    finally:
        if accelerator.is_local_main_process:
            shutil.rmtree(root, ignore_errors=True)


def _small(plan: Plan, root: Path, writes: bool, samples: Sequence[Sample], labels: dict[str, Path]) -> Plan:
    """The plan for copies of a few samples, which one process of a machine makes in `root`."""
    has_aux = any(sample.aux for sample in samples)
    kinds = [sample.aux_kind for sample in samples if sample.aux and sample.aux_kind][:1]
    if writes:
        for number, sample in enumerate(samples):
            sources = {"images": sample.image, "aux": sample.aux, "own_labels": labels.get(sample.id)}
            for folder, source in sources.items():
                if source:
                    (root / folder).mkdir(parents=True, exist_ok=True)
                    shutil.copy(source, root / folder / f"{number:04d}{source.suffix}")

    def small(args: Any, stage: str) -> Any:
        if args is None:
            return None
        changes: dict[str, Any] = {
            "images": [str(root / "images")],
            "aux": [str(root / "aux")] if has_aux else [],
            "output_dir": str(root / "run" / stage if plan.labels else root / "run"),
            "num_epochs": min(args.num_epochs, _first_alike(args)),
            "batch_size": min(args.batch_size, len(samples)),
            "resume": bool(plan.labels),
            "max_steps": None,
            "gradient_accumulation_steps": 1,
            "num_workers": 0,
            "num_previews": 1,
            "log_every": 1,
            "report_to": [],
        }
        if isinstance(args, DetectorArguments):
            changes["labels"] = [str(root / "run" / "labels" if plan.labels else root / "own_labels")]
            changes["aux_kinds"] = kinds
        return dataclasses.replace(args, **changes)

    return dataclasses.replace(
        plan,
        output_dir=str(root / "run"),
        resume=False,
        sce=small(plan.sce, "sce"),
        sd=small(plan.sd, "sd"),
        flow=False,
    )


def _first_alike(args: RunArguments) -> int:
    """The epoch from which on all do the same."""
    if not isinstance(args, DetectorArguments):
        return 1
    rectifying = args.spr_first_epoch if args.spr != "none" else 1
    return max(rectifying, args.backbone_first_epoch if args.adapt is None else 1)


def _times(plan: Plan, small: Plan, num_images: int) -> Iterator[str]:
    total = 0.0
    for (name, args), part in zip(plan.stages.items(), small.stages.values(), strict=True):
        if name == "sd" and plan.labels:
            seconds = _label_seconds(Path(small.output_dir) / "labels") * num_images
            total += seconds
            yield f"labels: about {_time(seconds)}."
        schedule = Schedule.of(args, num_images)
        epochs = [seconds * schedule.steps_per_epoch * args.batch_size for seconds in _seconds_an_image(part)]
        epochs += [epochs[-1]] * (args.num_epochs - len(epochs))
        whole = sum(epochs) * schedule.num_steps / (schedule.steps_per_epoch * args.num_epochs)
        total += whole
        first = f"{_time(epochs[0])} the first epoch, " if epochs[0] != epochs[-1] else ""
        # Features of stage 1 may be kept, which makes later epochs shorter
        about = "about" if name == "sd" else "at most"
        yield f"{name}: {about} {first}{_time(epochs[-1])} an epoch, {_time(whole)} in all."
    if len(plan.stages) > 1:
        yield f"All stages: about {_time(total)}."


def _seconds_an_image(args: RunArguments) -> list[float]:
    """Of each epoch of a rehearsal, at the mean of the scales of second views."""
    records = read_history(Path(args.output_dir))

    def pixels(side: int) -> int:
        return args.size**2 + side**2

    sides = [args.size + args.scale_stride * step for step in args.scale_steps]
    mean = sum(map(pixels, sides)) / len(sides)
    seconds = []
    for record in records:
        side = second_scale(args.size, args.scale_steps, args.scale_stride, args.seed, record["step"] - 1)
        seconds.append(mean / pixels(side) / record["images_per_second"])
    per_epoch = len(records) // args.num_epochs
    return [seconds[(epoch + 1) * per_epoch - 1] for epoch in range(args.num_epochs)]


def _label_seconds(folder: Path) -> float:
    """What a label took, without what was done before the first."""
    written = sorted(path.stat().st_mtime for path in folder.rglob("*.png"))
    return (written[-1] - written[0]) / max(1, len(written) - 1)


def _space(plan: Plan, small: Plan, num_images: int, accelerator: Accelerator) -> str:
    """A line about memory and disk."""
    if accelerator.device.type == "cuda":
        memory, free = torch.cuda.max_memory_allocated(), torch.cuda.get_device_properties(0).total_memory
        told = f"{memory / GIB:.1f} GiB of the GPU's memory (of {free / GIB:.1f})"
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        available = psutil.virtual_memory().available
        told = f"{memory / GIB:.1f} GiB of memory ({available / GIB:.1f} GiB are free)"
        told += f", and what {_workers(plan)} loader processes take"
    disk = sum(path.stat().st_size for path in Path(small.output_dir).rglob("checkpoint-*/*")) * 3.0
    if plan.sd:
        disk += 4.0 * plan.sd.size**2 * num_images
    place = nearest(Path(plan.output_dir))
    free = shutil.disk_usage(place).free
    if disk > free:
        raise RunError(
            f"{plan.output_dir}: the run will take about {disk / GIB:.1f} GiB of disk, {free / GIB:.1f} GiB are free. "
            "Make room, or choose another --output_dir."
        )
    features = budget(plan.sce, accelerator.device.type == "cpu", place) * GIGABYTE if plan.sce else 0
    kept = f", and up to {features / GIB:.1f} GiB more while stage 1 keeps features" if features else ""
    return f"It takes {told}; and {disk / GIB:.1f} GiB of disk{kept} ({free / GIB:.1f} GiB are free)."


def _workers(plan: Plan) -> int:
    return max(args.num_workers for args in plan.stages.values())


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
