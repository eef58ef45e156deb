"""The training loop that all stages share, on Accelerate: log, previews, checkpoints, resume, collapse watch."""

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from PIL import Image
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ..data import EpochSampler, Sample
from ..errors import RunError, Stopped, in_a_line
from ..files import checksums
from .arguments import RunArguments
from .card import write_card
from .learning_rate import linear_decay, set_rates
from .monitoring import Averages, CollapseWatch, insight
from .page import RunPage
from .photos import files_of
from .processes import give_folder, make_accelerator, memory_told, stop_requests
from .run_folder import RunFolder, comparable_arguments
from .schedule import Schedule
from .stage import Stage, StepOutput

_RUINED = 100.0  # trainings that learn make their weights a few times larger, at most


def train_stage(
    args: RunArguments,
    samples: Sequence[Sample],
    build: Callable[[RunFolder], Stage],
    find_unused_parameters: bool = False,
) -> Path:
    """Runs a stage to the end, or goes on with it; returns the folder of what it trained.

    Args:
        samples: their images and auxiliary maps must be the same in a resumed run.
        build: makes the stage; not called if the run is finished.
        find_unused_parameters: see `make_accelerator`.

    Raises:
        RunError: see `RunFolder`, `memory_told` and `Loop.fit`.
        KeyboardInterrupt: when asked to stop, once a checkpoint is written.
    """
    accelerator = make_accelerator(args, find_unused_parameters)
    arguments = comparable_arguments(args, accelerator, num_images=len(samples))
    run = RunFolder(args.output_dir, arguments, args.resume, accelerator)
    if run.model.exists():
        if run.keeps:  # the next stage goes on from it, with these images
            run.check_images(checksums(files_of(samples)))
        accelerator.print(f"{run.model}: is trained already.")
        return run.model
    with run.locked(), memory_told():
        if run.keeps:
            run.check_images(checksums(files_of(samples)))
        return Loop(args, run).fit(build(run))


class Loop:
    """Trains stages: `Loop(args, run).fit(stage)`.

    The images left over at the end of an epoch, too few for a batch, are left out; the shuffle makes it others each
    epoch.
    """

    def __init__(self, args: RunArguments, run: RunFolder):
        self.args = args
        self.run = run
        self.accelerator = run.accelerator
        self.averages = Averages()

    def fit(self, stage: Stage) -> Path:
        """Trains a stage to the end, from wherever the run's last checkpoint stands; returns the model's folder.

        Raises:
            RunError: for fewer images than a batch, a batch that does not split over the processes, collapsed maps,
                numbers that are not finite, an image that cannot be read any more, or a damaged checkpoint.
            KeyboardInterrupt: when asked to stop, once a checkpoint is written.
        """
        args, accelerator = self.args, self.accelerator
        self.schedule = Schedule.of(
            args,
            len(stage.dataset),
            accelerator.num_processes,
            accelerator.gradient_accumulation_steps,
        )
        self.watch = CollapseWatch(args.collapse_patience, stage.collapse_advice)
        accelerator.init_trackers("log", {name: str(value) for name, value in self.run.arguments.items()})
        try:
            self._prepare(stage)
            self._resume()
            self.bar = tqdm(
                total=self.schedule.num_steps,
                initial=self.step,
                unit="step",
                disable=not accelerator.is_main_process,
                smoothing=0.05,
            )
            self.page = RunPage(self.run.root, self.step) if accelerator.is_main_process else None
            with stop_requests() as self.stop, self.bar:
                for epoch in self.schedule.epochs(self.step):
                    self._epoch(stage, epoch)
            if accelerator.is_main_process:
                self.run.save_model(partial(self._save, stage))
            give_folder(accelerator, self.run.model, self.run.keeps and not accelerator.is_main_process)
            if self.run.keeps:
                self.run.checkpoints.prune(1, self.step)
            if self.page:
                self.page.write(f"Finished after {self.step} steps.", running=False)
            accelerator.wait_for_everyone()  # the next stage reads it in every process
        finally:
            # Writes what is left of the log; `end_training` would also part the processes, before the next stage
            for tracker in accelerator.trackers:
                tracker.finish()
        return self.run.model

    def _prepare(self, stage: Stage) -> None:
        args, accelerator = self.args, self.accelerator
        groups = stage.parameter_groups(self.schedule.updates_per_epoch)
        optimizer = torch.optim.SGD(groups, args.learning_rate, momentum=args.momentum, weight_decay=args.weight_decay)
        self.sampler = EpochSampler(len(stage.dataset), args.seed, args.flip_probability)
        loader: DataLoader = DataLoader(
            stage.dataset,
            args.batch_size,
            sampler=self.sampler,
            num_workers=args.num_workers,
            drop_last=True,
            worker_init_fn=partial(_begin_worker, Image.MAX_IMAGE_PIXELS),
        )
        self.scheduler = linear_decay(optimizer, self.schedule.num_updates, args.final_learning_rate_ratio)
        for module in stage.stateful:
            accelerator.register_for_checkpointing(module)
        accelerator.register_for_checkpointing(self.scheduler)
        self.model, self.optimizer, self.loader = accelerator.prepare(stage.model, optimizer, loader)
        self.bare_model = accelerator.unwrap_model(self.model)
        self.state = [self.bare_model, *stage.stateful]
        self.first_norm = self._norm()  # in a resumed run, still that of the untrained

    def _resume(self) -> None:
        """Loads the last checkpoint that is whole, if there is any."""
        self.step = 0
        newest = self.run.checkpoints.newest()
        if newest is None:
            return
        checkpoint = next(self.run.checkpoints.whole(), None)
        if checkpoint is None:
            raise RunError(
                f"{newest[0]}: the checkpoint cannot be read, and there is none before it. Remove it, which begins the "
                "stage anew, or choose another --output_dir."
            )
        path, self.step = checkpoint
        base_rates = list(self.scheduler.base_lrs)
        try:
            self.accelerator.load_state(str(path))
        except Exception as error:  # its readers raise almost anything on files that are not theirs
            raise RunError(
                f"{path}: the checkpoint cannot be read ({in_a_line(error)}). Remove it, or choose another "
                "--output_dir."
            ) from error
        if self.scheduler.base_lrs != base_rates:  # after a run that diverged
            set_rates(self.scheduler, base_rates)
        self.accelerator.print(f"Resuming after step {self.step} of {self.schedule.num_steps} ({path}).")

    def _epoch(self, stage: Stage, epoch: int) -> None:
        """An epoch, or what is left of it."""
        schedule = self.schedule
        self.sampler.start_epoch(epoch, seen=schedule.place(self.step) * self.args.batch_size)
        self.model.train()
        stage.start_epoch(self.bare_model, epoch)
        self.bar.set_description(f"epoch {epoch}/{self.args.num_epochs}")
        saving = stopping = False
        for batch in self._batches():
            updated = schedule.is_update(self.step)
            self._step(stage, batch, epoch, updated)
            if self.stop:
                self.accelerator.set_trigger()
            stopping |= self.accelerator.check_trigger()  # all processes stop after the same step
            ending = schedule.ends_epoch(self.step)
            saving |= ending or stopping or self.step % self.args.save_every == 0
            if saving and updated:  # not between two updates: the gradients so far would be lost
                began = time.perf_counter()
                self._check_state()
                stage.share(self.accelerator)
                if ending and self.run.keeps:  # before the checkpoint: a resumed run has them all
                    self._end_epoch(stage, epoch)
                self.run.save_checkpoint(self.step)
                self.averages.since += time.perf_counter() - began  # images a second are those of the steps
                saving = False
                if stopping:
                    number = self.stop[0] if self.stop else signal.SIGINT  # another process was told
                    raise Stopped(f"Stopped after step {self.step}; pass --resume to go on.", number)
            if self.step == schedule.num_steps:
                break

    def _batches(self) -> Iterator[Any]:
        """The batches of an epoch; an image that cannot be read any more is named in one line."""
        batches = iter(self.loader)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (OSError, ValueError) as error:  # from a worker process, with a traceback as its message
                reason = str(error).strip().splitlines()[-1]
                raise RunError(
                    f"After step {self.step} an image cannot be read any more: {reason}. Put it back and pass --resume."
                ) from error
            yield batch

    def _step(self, stage: Stage, batch: Any, epoch: int, update: bool) -> None:
        accelerator = self.accelerator
        accelerator.sync_gradients = update
        with nullcontext() if update else accelerator.no_sync(self.model):
            output = stage.step(self.model, batch, epoch, self.step)
            accelerator.backward(output.loss)  # over the number of steps an update
        self.optimizer.step()
        if update:
            self.scheduler.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.averages.add({"loss": output.loss, **output.terms, **insight(output.saliency), **output.insight})
        self.bar.update()
        if self.step % self.args.log_every == 0:
            self._log(output)

    def _log(self, output: StepOutput) -> None:
        means = self.averages.fetch(self.accelerator)
        steps_per_second = means.pop("steps_per_second")
        images_per_second = steps_per_second * self.args.batch_size
        minutes_left = (self.schedule.num_steps - self.step) / steps_per_second / 60
        if not math.isfinite(means["loss"]):
            self._diverge("loss is not finite")
        speed = {"images_per_second": images_per_second, "minutes_left": minutes_left}
        values: dict[str, Any] = {**means, "learning_rate": self.scheduler.get_last_lr()[0], **speed}
        self.accelerator.log(values, self.step)
        told = {name: f"{means[name]:.4f}" for name in output.terms}
        told |= {name: f"{means[name]:.1%}" for name in ("hard_samples", *output.insight) if name in means}
        self.bar.set_postfix(told, img_s=f"{images_per_second:.1f}")
        if self.page:
            self.page.add(self.step, values)
            self.page.write(f"Step {self.step} of {self.schedule.num_steps}, {minutes_left:.0f} minutes left.")
        self.watch.update(means["foreground"], self.args.log_every)

    def _end_epoch(self, stage: Stage, epoch: int) -> None:
        self.run.save_preview(epoch, *stage.preview(self.bare_model.eval()))
        if self.args.keep_epochs and self.accelerator.is_main_process:
            self.run.save_model(partial(self._save, stage), epoch)
        stage.end_epoch()

    def _save(self, stage: Stage, directory: Path) -> None:
        stage.save(directory)
        write_card(directory, self.run.arguments)

    def _norm(self) -> torch.Tensor:
        """Of all that is trained."""
        trained = [value.detach().norm() for value in self.bare_model.parameters() if value.requires_grad]
        return torch.stack(trained).norm()

    def _check_state(self) -> None:
        """Sees that what is about to be saved is finite, and not of another order than it began with, so that it never
        takes the place of what was."""
        values = [
            value
            for module in self.state
            for value in (*module.parameters(), *module.buffers())
            if value.is_floating_point()
        ]
        broken = torch.stack([~value.detach().isfinite().all() for value in values]).any()
        if self.accelerator.reduce(broken.float(), "sum").item():
            self._diverge("weights are not finite")
        growth = (self._norm() / self.first_norm).item()
        if growth > _RUINED:
            self._diverge(f"weights are {growth:.0f} times as large as at first")

    def _diverge(self, what: str) -> NoReturn:
        precise = "" if self.accelerator.mixed_precision == "no" else ", or without --mixed_precision"
        anew = f"begin anew in another --output_dir with a lower one{precise}"
        checkpoint = self.run.checkpoints.newest()
        if checkpoint and not self.run.diverged:
            advice = (
                f"Lower --learning_rate and pass --resume, to go on from step {checkpoint[1]}. If its weights were too "
                f"far gone by then, {anew}."
            )
        else:  # the checkpoint did not help either, or there is none
            advice = f"Lower --learning_rate: {anew}."
        reason = f"The {what} after step {self.step}. {advice}"
        if self.run.keeps:
            self.run.mark_diverged(reason)
        raise RunError(reason)


def _begin_worker(pixel_limit: int | None, _worker: int) -> None:
    """Gives a worker process Pillow's limit of this one, which those that are not forked do not inherit. A request to
    stop that goes to all processes is for this one alone, which still needs images."""
    Image.MAX_IMAGE_PIXELS = pixel_limit
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
