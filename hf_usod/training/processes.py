"""The process or processes of a training, and what they change for themselves."""

import ctypes
import os
import platform
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, TrackioTracker
from accelerate.utils import (
    DataLoaderConfiguration,
    DistributedDataParallelKwargs,
    broadcast_object_list,
    gather_object,
    parse_flag_from_env,
)

from ..errors import RunError, in_a_line, is_out_of_memory
from ..extras import require
from ..files import write_bytes, write_folder_aside
from .arguments import RunArguments

PATIENCE = 2.0  # seconds in which requests to stop are one


def keep_freed_memory() -> None:
    """Has glibc keep freed memory for the next tensors instead of handing it back to the system.

    By default large tensors are mapped anew each time, and the system zeroes them page by page: a third of the time of
    a step on a CPU. It holds for the whole process from then on, so that programs call it and the library does not.
    Does nothing with other C libraries.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX: map nothing by itself
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: give nothing back


def prepare_cpu(spare_memory: bool = False) -> None:
    """What a program that trains does first, where there is no accelerator or it is not to be used.

    Args:
        spare_memory: whether `keep_freed_memory` is left out: what it keeps lies in pieces, and of the full size, with
            gradient checkpointing, these are two fifths of all.

    Raises:
        RunError: for a variable of the environment that cannot be read.
    """
    if not torch.accelerator.is_available():  # processes of `torchrun` do not find each other unless told so
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")
    try:
        is_on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU")
    except ValueError as error:
        raise RunError(f"ACCELERATE_USE_CPU in the environment: {error}. Set it to true or false.") from error
    if is_on_cpu and not spare_memory:
        keep_freed_memory()


def make_accelerator(args: RunArguments, find_unused_parameters: bool = False) -> Accelerator:
    """An Accelerator whose batch size is that of all processes together, logging to what the run is told.

    Args:
        find_unused_parameters: for models of which a part rests for a while.

    Raises:
        RunError: see `join_processes`.
    """
    return join_processes(
        args.mixed_precision,
        gradient_accumulation_steps=args.gradient_accumulation_steps,  # if `accelerate launch` was not told another
        log_with=[_tracker(name, args.output_dir) for name in args.report_to] or None,
        project_dir=args.output_dir,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        # Both views go through the model before one backward; buffers must not change in between.
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=find_unused_parameters)
        ],
    )


def _tracker(name: str, output_dir: str) -> str | GeneralTracker:
    """What `Accelerator` logs with: tensorboard in the run's folder, or a run of that name in trackio's project
    hf_usod, which a resumed one goes on with.

    Raises:
        MissingPackageError: if it is not installed.
    """
    if name != "trackio":
        return name
    require("trackio", "trackio", "--report_to trackio")
    return TrackioTracker("hf_usod", name=output_dir, resume="allow", embed=False)


def join_processes(mixed_precision: str | None, **options: Any) -> Accelerator:
    """An Accelerator, which finds the other processes of a training, if there are any.

    Raises:
        RunError: for a precision that the device does not have, for a variable of the environment that Accelerate
            cannot read, or if this is one of several processes and Accelerate does not know: each would train alone,
            all in one folder.
    """
    try:
        accelerator = Accelerator(mixed_precision=mixed_precision, **options)
    except ValueError as error:
        if mixed_precision not in (None, "no") and mixed_precision in str(error):
            raise RunError(f"--mixed_precision {mixed_precision}: {error}") from error
        variables = sorted(name for name in os.environ if name.startswith("ACCELERATE_"))
        listed = f"; the environment has {', '.join(variables)}" if variables else ""
        raise RunError(f"Accelerate cannot start ({in_a_line(error)}){listed}.") from error
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise RunError("--mixed_precision fp16: needs a GPU. On a CPU, give bf16 or no.")
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started > 1 and accelerator.num_processes == 1:
        raise RunError(
            f"{started} processes were started, but Accelerate sees one. On a CPU, set ACCELERATE_USE_CPU=true before "
            "starting them."
        )
    return accelerator


@dataclass(frozen=True)
class Machine:
    """One of those that a training is spread over."""

    index: int
    count: int


def machine_of(accelerator: Accelerator) -> Machine:
    """The machine that this process is on."""
    if accelerator.num_processes == 1:
        return Machine(0, 1)
    is_first = torch.tensor([int(accelerator.is_local_main_process)], device=accelerator.device)
    firsts = accelerator.gather(is_first)
    return Machine(int(firsts[: accelerator.process_index + 1].sum()) - 1, int(firsts.sum()))


def sees_main_folder(accelerator: Accelerator, folder: Path) -> bool:
    """Whether a folder of that name on this machine is the one that the main process has, as on a shared file system.
    Tried with a file that is there for a moment; on one machine nothing is written."""
    if machine_of(accelerator).count == 1:
        return True
    (token,) = broadcast_object_list([f".seen-{uuid.uuid4().hex}"])
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / token).touch()
    accelerator.wait_for_everyone()
    seen = (folder / token).exists()
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (folder / token).unlink()
        for path in made:  # a run that is refused leaves nothing
            path.rmdir()
    accelerator.wait_for_everyone()
    return seen


def give_files(accelerator: Accelerator, paths: Sequence[Path], at_a_time: int = 200) -> None:
    """Gives each machine the files that others have and it has not; all processes name the same ones. What no machine
    has stays missing. On one machine, and where all see the same folder, nothing is sent."""
    keeps = accelerator.is_local_main_process
    missing = [number for number, path in enumerate(paths) if not path.exists()] if keeps else []
    wanted = sorted(set(gather_object(missing)))
    for start in range(0, len(wanted), at_a_time):
        part = wanted[start : start + at_a_time]
        own = [(number, paths[number].read_bytes()) for number in part if paths[number].exists()] if keeps else []
        for number, content in gather_object(own):
            if keeps and not paths[number].exists():
                write_bytes(paths[number], content)
    accelerator.wait_for_everyone()


def give_folder(accelerator: Accelerator, folder: Path, lacks: bool) -> None:
    """Gives the processes that lack it a copy of the main one's folder, without folders in it; called by all. (Asked of
    the run and not of the file system, which may be behind.) transformers saves a model in the main process alone."""
    if accelerator.num_processes == 1 or not any(gather_object([lacks])):
        return
    files = sorted(folder.iterdir()) if accelerator.is_main_process else []
    (names,) = broadcast_object_list([[path.name for path in files]])
    contents = {}
    for place, name in enumerate(names):
        (contents[name],) = broadcast_object_list([files[place].read_bytes() if files else None])

    def write(aside: Path) -> None:
        for name, content in contents.items():
            (aside / name).write_bytes(content)

    if lacks:
        write_folder_aside(folder, write)
    accelerator.wait_for_everyone()


@contextmanager
def memory_told() -> Iterator[None]:
    """Tells in a line that the memory, of the GPU or the machine, is not enough, or that the machine helped itself and
    killed a process that reads images, and what to do.

    Raises:
        RunError: instead of what torch raises then.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if "DataLoader worker" in str(error):
            raise RunError(
                f"A process that reads images was ended, most likely for lack of memory ({in_a_line(error)}). Pass "
                "--resume, with fewer --num_workers."
            ) from error
        if not is_out_of_memory(error):
            raise
        raise RunError(
            "There is not enough memory for this training. Add --gradient_checkpointing (in stage 2), or lower "
            "--batch_size (and raise --gradient_accumulation_steps as much), --size or the largest of --scale_steps."
        ) from error


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying of them, so that the step in flight can be saved. Who asks again
    after `PATIENCE` seconds is heeded at once; before that it is the terminal and `torchrun` passing on one request."""
    received: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    first = 0.0

    def note(number, _frame):
        nonlocal first
        if received and time.monotonic() - first > PATIENCE:
            raise KeyboardInterrupt
        first = first or time.monotonic()
        received.append(number)

    previous = {number: signal.signal(number, note) for number in signals}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
