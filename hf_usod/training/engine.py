"""The training loop that all stages share, on Accelerate: log, previews, checkpoints, resume, collapse watch."""

import ctypes
import math
import platform
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ..data import EpochSampler, ImageViews, SampleViews
from ..errors import RunError
from .arguments import RunArguments
from .run_folder import RunFolder, comparable_arguments


class StepOutput(NamedTuple):
    """What a stage makes of a batch."""

    loss: torch.Tensor  # the scalar to descend
    terms: dict[str, torch.Tensor]  # its parts, for the log
    saliency: torch.Tensor  # (B, 1, H, W) in [0, 1], detached


class Stage(ABC):
    """What the loop needs of a stage."""

    @abstractmethod
    def step(self, model: nn.Module, batch: Any, epoch: int, step: int) -> StepOutput:
        """The objective on one batch; `epoch` counts from 1, `step` from 0 over the whole run."""

    def start_epoch(self, model: Any, epoch: int) -> None:  # noqa: B027
        """Called with the unwrapped model before the first step of an epoch, and where a run resumes inside one."""


class CollapseWatch:
    """Stops a run whose maps have been all background, or all foreground, for long: it will not recover by itself."""

    bounds = (0.01, 0.95)

    def __init__(self, patience: int):
        self.patience = patience
        self.collapsed_steps = 0

    def update(self, foreground: float, steps: int) -> None:
        """Takes the share of foreground pixels over the last `steps` steps.

        Raises:
            RunError: when maps have been collapsed for `patience` steps.
        """
        low, high = self.bounds
        self.collapsed_steps = 0 if low <= foreground <= high else self.collapsed_steps + steps
        if self.collapsed_steps >= self.patience:
            kind = "background" if foreground < low else "foreground"
            raise RunError(
                f"The maps have collapsed: for {self.collapsed_steps} steps they were all {kind} "
                f"({foreground:.1%} foreground). Look at previews/. Usual reasons: images without an object or all "
                "alike, too high a learning rate (--learning_rate), a texture term that outweighs the rest "
                "(--btm_weight), a backbone without its weights."
            )


def keep_freed_memory() -> None:
    """Has glibc keep freed memory for the next tensors instead of handing it back to the system.

    By default large tensors are mapped anew each time, and the system zeroes them page by page: a third of the time of
    a step on a CPU. Does nothing with other C libraries.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX: map nothing by itself
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: give nothing back


def make_accelerator(args: RunArguments, find_unused_parameters: bool = False) -> Accelerator:
    """An Accelerator whose batch size is that of all processes together, logging to tensorboard in the run's folder.

    Args:
        find_unused_parameters: for models of which a part rests for a while.
    """
    accelerator = Accelerator(
        mixed_precision=args.mixed_precision,
        log_with="tensorboard",
        project_dir=args.output_dir,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        # Both views go through the model before one backward; buffers must not change in between.
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=find_unused_parameters)
        ],
    )
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    return accelerator


def open_run(args: RunArguments, num_images: int, find_unused_parameters: bool = False) -> RunFolder:
    """The folder of a run, new or to be resumed, with its Accelerator; says so if the model in it is trained already.

    Raises:
        RunError: see `RunFolder`.
    """
    accelerator = make_accelerator(args, find_unused_parameters)
    comparable = comparable_arguments(args, accelerator, num_images=num_images)
    folder = RunFolder(args.output_dir, comparable, args.resume, accelerator)
    if folder.model.exists():
        accelerator.print(f"{folder.model}: is trained already.")
    return folder


def linear_decay(optimizer: torch.optim.Optimizer, num_steps: int, final_ratio: float) -> LambdaLR:
    """A learning rate that falls linearly over all steps to `final_ratio` of itself; 0 before the `first_step` of
    parameter groups that have one."""

    def factor(first_step: int) -> Callable[[int], float]:
        return lambda step: 0.0 if step < first_step else 1 - (1 - final_ratio) * min(step / num_steps, 1)

    return LambdaLR(optimizer, [factor(group.get("first_step", 0)) for group in optimizer.param_groups])


class _Averages:
    """Running means of scalars on the device, fetched once a log line."""

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0
        self.since = time.perf_counter()

    def add(self, scalars: dict[str, torch.Tensor]) -> None:
        for name, value in scalars.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += 1

    def fetch(self, accelerator: Accelerator) -> dict[str, float]:
        """Means over steps and processes, and steps a second; starts anew."""
        means = accelerator.reduce(torch.stack(list(self.sums.values())) / self.count, "mean").tolist()
        result = dict(zip(self.sums, means))
        result["steps_per_second"] = self.count / (time.perf_counter() - self.since)
        self.restart()
        return result


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


def fit(
    args: RunArguments,
    stage: Stage,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    dataset: ImageViews | SampleViews,
    folder: RunFolder,
    after_epoch: Callable[[nn.Module, int], None],
) -> None:
    """Trains `model` to the end, from wherever the run's last checkpoint stands.

    The images left over at the end of an epoch, too few for a batch, are left out; the shuffle makes it others each
    epoch.

    Args:
        after_epoch: called with the unwrapped model, in evaluation mode, and the epoch; in the main process.

    Raises:
        RunError: for fewer images than a batch, a batch that does not split over the processes, collapsed maps, or a
            loss that is not finite.
        KeyboardInterrupt: when asked to stop, once a checkpoint is written.
    """
    accelerator = folder.accelerator
    if len(dataset) < args.batch_size:
        raise RunError(
            f"{len(dataset)} images do not fill a batch of {args.batch_size}. Bring more, or lower --batch_size."
        )
    if args.batch_size % accelerator.num_processes:
        raise RunError(f"--batch_size {args.batch_size} does not split over {accelerator.num_processes} processes.")
    steps_per_epoch = len(dataset) // args.batch_size
    num_steps = steps_per_epoch * args.num_epochs

    sampler = EpochSampler(len(dataset), args.seed, args.flip_probability)
    loader = DataLoader(dataset, args.batch_size, sampler=sampler, num_workers=args.num_workers, drop_last=True)
    scheduler = linear_decay(optimizer, num_steps, args.final_learning_rate_ratio)
    accelerator.register_for_checkpointing(scheduler)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    bare_model = accelerator.unwrap_model(model)

    step = 0
    if checkpoint := folder.last_checkpoint():
        path, step = checkpoint
        accelerator.load_state(str(path))
        accelerator.print(f"Resuming after step {step} of {num_steps} ({path}).")

    watch = CollapseWatch(args.collapse_patience)
    averages = _Averages()
    bar = tqdm(total=num_steps, initial=step, unit="step", disable=not accelerator.is_main_process, smoothing=0.05)
    with stop_requests() as stop, bar:
        for epoch in range(step // steps_per_epoch + 1, args.num_epochs + 1):
            sampler.start_epoch(epoch, seen=(step % steps_per_epoch) * args.batch_size)
            model.train()
            stage.start_epoch(bare_model, epoch)
            bar.set_description(f"epoch {epoch}/{args.num_epochs}")
            for batch in loader:
                output = stage.step(model, batch, epoch, step)
                accelerator.backward(output.loss)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
                step += 1
                averages.add(
                    {"loss": output.loss, **output.terms, "foreground": (output.saliency > 0.5).float().mean()}
                )
                bar.update()
                if step % args.log_every == 0:
                    means = averages.fetch(accelerator)
                    images_per_second = means.pop("steps_per_second") * args.batch_size
                    if not math.isfinite(means["loss"]):
                        raise RunError(
                            f"The loss is not finite after step {step}. "
                            "Lower --learning_rate, or train without --mixed_precision."
                        )
                    learning_rate = scheduler.get_last_lr()[0]
                    accelerator.log(
                        {**means, "learning_rate": learning_rate, "images_per_second": images_per_second}, step
                    )
                    terms = {name: f"{means[name]:.4f}" for name in output.terms}
                    bar.set_postfix(terms, img_s=f"{images_per_second:.1f}")
                    watch.update(means["foreground"], args.log_every)
                if stop:
                    accelerator.set_trigger()
                stopping = accelerator.check_trigger()  # all processes stop after the same step
                end_of_epoch = step % steps_per_epoch == 0
                if end_of_epoch and accelerator.is_main_process:  # before the checkpoint: a resumed run has them all
                    after_epoch(bare_model.eval(), epoch)
                if end_of_epoch or stopping or step % args.save_every == 0:
                    folder.save_checkpoint(step)
                if stopping:
                    raise KeyboardInterrupt(f"Stopped after step {step}; pass --resume to go on.")


def train(
    args: RunArguments,
    stage: Stage,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    dataset: ImageViews | SampleViews,
    folder: RunFolder,
    preview: Callable[[Any, int], None],
    save: Callable[[Path], None],
) -> Path:
    """`fit`, with a log, previews, and the model saved at the end (and after each epoch, if asked for); its folder.

    Args:
        preview: writes the previews of an epoch; arguments as for `after_epoch` of `fit`.
        save: writes what is trained into a folder.

    Raises:
        RunError, KeyboardInterrupt: see `fit`.
    """
    accelerator = folder.accelerator

    def after_epoch(model: nn.Module, epoch: int) -> None:
        preview(model, epoch)
        if args.keep_epochs:
            folder.save_model(save, epoch)

    accelerator.init_trackers("log", {name: str(value) for name, value in folder.arguments.items()})
    try:
        fit(args, stage, model, optimizer, dataset, folder, after_epoch)
        if accelerator.is_main_process:
            folder.save_model(save)
    finally:
        accelerator.end_training()  # writes what is left of the log
    return folder.model
