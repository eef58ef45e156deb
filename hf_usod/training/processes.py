"""The process or processes of a training, and what they change for themselves."""

import ctypes
import os
import platform
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs

from ..errors import RunError, is_out_of_memory
from .arguments import RunArguments


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


def make_accelerator(args: RunArguments, find_unused_parameters: bool = False) -> Accelerator:
    """An Accelerator whose batch size is that of all processes together, logging to tensorboard in the run's folder.

    Args:
        find_unused_parameters: for models of which a part rests for a while.

    Raises:
        RunError: see `join_processes`.
    """
    return join_processes(
        args.mixed_precision,
        gradient_accumulation_steps=args.gradient_accumulation_steps,  # if `accelerate launch` was not told another
        log_with="tensorboard",
        project_dir=args.output_dir,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        # Both views go through the model before one backward; buffers must not change in between.
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=find_unused_parameters)
        ],
    )


def join_processes(mixed_precision: str | None, **options: Any) -> Accelerator:
    """An Accelerator, which finds the other processes of a training, if there are any.

    Raises:
        RunError: for a precision that the device does not have, or if this is one of several processes and Accelerate
            does not know: each would train alone, all in one folder.
    """
    try:
        accelerator = Accelerator(mixed_precision=mixed_precision, **options)
    except ValueError as error:
        raise RunError(f"--mixed_precision {mixed_precision}: {error}") from error
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise RunError("--mixed_precision fp16: needs a GPU. On a CPU, give bf16 or no.")
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started > 1 and accelerator.num_processes == 1:
        raise RunError(
            f"{started} processes were started, but Accelerate sees one. On a CPU, set ACCELERATE_USE_CPU=true before "
            "starting them."
        )
    return accelerator


@contextmanager
def memory_told() -> Iterator[None]:
    """Tells in a line that the memory, of the GPU or the machine, is not enough, and what to do.

    Raises:
        RunError: instead of what torch raises then.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            "There is not enough memory for this training. Lower --batch_size (and raise --gradient_accumulation_steps "
            "as much), --size or the largest of --scale_steps."
        ) from error


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying of them, so that the step in flight can be saved."""
    received: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)

    def note(number, _frame):
        if received:  # asked twice: now
            raise KeyboardInterrupt
        received.append(number)

    previous = {number: signal.signal(number, note) for number in signals}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
