"""Times a stage-2 step with rectified labels against a plain transcription of it, and compares their peak memory.

    python scripts/benchmark.py train --images DIR

Both sides train the embedded detector, or with --adapt an adapter of it, on the same photos and labels, at a learning
rate of 0, so that they must give the same losses and the same new labels. Each runs in a process of its own. A step of
each scale of the second view is timed, after one that is not, and their mean is the figure. The plain side, kept in
this file and in `refiner`:

- gradients through everything, whatever is trained;
- contiguous layout, fp32, batch norms as layers;
- maps that are resized before they are convolved;
- memory allocated and freed as C library and system do by default;
- the pixel refiner with a copy of the image and the map for each of the 32 neighbors.
"""

import argparse
import itertools
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import default_collate

from hf_usod.commands.common import positive
from hf_usod.data import Sample, list_images, second_scale
from hf_usod.labels import LabelStore
from hf_usod.training.arguments import DetectorArguments
from hf_usod.training.depthwise import speed_up_depthwise
from hf_usod.training.detector import DetectorStage, fold_frozen, prepare_detector
from hf_usod.training.processes import keep_freed_memory

from .measuring import Stopwatch, alone, convolve_plainly, peak_memory
from .refiner import plain_refiner

MODEL = "usod-rgb-lite"
EPOCH = 4  # backbones are trained, and labels rectified
PARTS = ("network", "refiner", "backward", "optimizer")
SIDES = ("ours", "plain")
TOLERANCE = 1e-3  # relative, between losses; absolute, between labels


class Measurement(NamedTuple):
    """What one side's process hands back."""

    seconds: dict[str, float]  # of each part of a step, and of the whole ("total"): means over the scales
    losses: list[float]  # of each scale
    labels: list[float]  # a part of those that the first step makes
    memory: float  # peak, above what the process held before its first step, in MiB


def half(name: str, size: int) -> torch.Tensor:
    """The label of every photo: a disc off its middle."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return ((y - 0.55 * size) ** 2 + (x - 0.4 * size) ** 2 < (0.3 * size) ** 2).float()


class PlainStage:
    """The step transcribed plainly; `step` as that of `DetectorStage`. Labels are kept as they were."""

    def __init__(self, args: DetectorArguments, watch: Stopwatch):
        self.args, self.refiner = args, watch.timed("refiner", plain_refiner)
        self.rectified: torch.Tensor | None = None

    @staticmethod
    def overlap(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        saliency = F.interpolate(logits, label.shape[2:], mode="bilinear", align_corners=False).sigmoid()
        shared = (saliency * label).sum((1, 2, 3))
        return (1 - shared / ((saliency + label - saliency * label).sum((1, 2, 3)) + 1e-7)).mean()

    def step(self, model: nn.Module, batch: dict[str, torch.Tensor], epoch: int, step: int) -> torch.Tensor:
        args, flipped = self.args, batch["flipped"].view(-1, 1, 1, 1)
        side = second_scale(args.size, args.scale_steps, args.scale_stride, args.seed, step)
        previous = half("", args.size).expand(len(flipped), 1, -1, -1)
        previous = torch.where(flipped, previous.flip(-1), previous)
        label = (previous > 0.5).float()
        images, aux = batch["pixel_values"], batch["aux_pixel_values"]

        def rescale(maps: torch.Tensor) -> torch.Tensor:
            return F.interpolate(maps, (side, side), mode="bilinear", align_corners=True)

        first = model(pixel_values=images, aux_pixel_values=aux)
        second = model(pixel_values=rescale(images), aux_pixel_values=rescale(aux))
        small = F.interpolate(label, (side, side), mode="nearest")
        loss = self.overlap(first.logits, label) + 0.2 * self.overlap(first.side_logits.rgb, label)
        loss = loss + 0.5 * (self.overlap(second.logits, small) + 0.2 * self.overlap(second.side_logits.rgb, small))
        target = rescale(first.logits.detach()).sigmoid()
        loss = loss + (second.logits.sigmoid() - target).square().mean()

        saliency = first.logits.detach().sigmoid()
        prior = self.refiner(images, saliency)
        new = 0.2 * prior / prior.amax((1, 2, 3), keepdim=True) + 0.6 * saliency + 0.2 * previous
        new = new / new.amax((1, 2, 3), keepdim=True)
        self.rectified = torch.where(flipped, new.flip(-1), new)
        return loss


def measure(side: str, args: DetectorArguments, threads: int) -> Measurement:
    torch.set_num_threads(threads)
    watch = Stopwatch()
    model, image_processor = prepare_detector(args)
    photos = list(itertools.islice(itertools.cycle(list_images(args.images[0])), args.batch_size))
    samples = [Sample(str(number), photo) for number, photo in enumerate(photos)]
    with tempfile.TemporaryDirectory() as folder:
        store = LabelStore.create(
            Path(folder) / "labels",
            [sample.id for sample in samples],
            (args.size, args.size),
            lambda name: half(name, args.size).numpy(),
            progress=False,
        )
        if side == "ours":
            keep_freed_memory()
            if args.adapt:
                model = fold_frozen(model, args.mixed_precision or "no")
            model = speed_up_depthwise(model).to(memory_format=torch.channels_last)
        stage = DetectorStage(args, model, image_processor, samples, store)
        batch = default_collate([stage.dataset[number, bool(number % 2)] for number in range(len(samples))])
        model.train()
        step_of: Callable[..., torch.Tensor]
        if side == "ours":
            stage.start_epoch(model, EPOCH)
            vars(stage.refiner)["forward"] = watch.timed("refiner", stage.refiner.forward)
            step_of = lambda *given: stage.step(*given).loss  # noqa: E731
        else:
            convolve_plainly()
            plain = PlainStage(args, watch)
            model.requires_grad_(True)
            step_of = plain.step
        groups = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(groups, 0.0, momentum=args.momentum)
        steps: dict[int, int] = {}
        for step in range(100):
            steps.setdefault(second_scale(args.size, args.scale_steps, args.scale_stride, args.seed, step), step)

        def run(step: int) -> tuple[dict[str, float], float]:
            watch.seconds.clear()
            with watch.part("total"):
                with watch.part("network"):
                    loss = step_of(model, batch, EPOCH, step)
                with watch.part("backward"):
                    loss.backward()
                with watch.part("optimizer"):
                    optimizer.step()
                    optimizer.zero_grad()
            watch.seconds["network"] -= watch.seconds["refiner"]
            return dict(watch.seconds), loss.item()

        before = peak_memory()
        losses = [run(step)[1] for step in steps.values()]
        rows = [run(step)[0] for step in steps.values()]
        if side == "ours":
            labels = torch.stack([torch.from_numpy(store.latest(index)) for index in range(len(samples))])
        else:
            assert plain.rectified is not None
            labels = plain.rectified[:, 0]
    seconds = {part: statistics.fmean(row.get(part, 0.0) for row in rows) for part in (*PARTS, "total")}
    return Measurement(seconds, losses, labels.flatten()[::997].tolist(), peak_memory() - before)


def table(ours: Measurement, plain: Measurement) -> str:
    """The measurements, and how many times better ours are."""
    lines = [f"{'':18}{'ours':>10}{'plain':>10}{'ratio':>8}"]
    rows = [(f"{part} (ms)", 1000 * ours.seconds[part], 1000 * plain.seconds[part]) for part in (*PARTS, "total")]
    for label, own, reference in [*rows, ("peak memory (MiB)", ours.memory, plain.memory)]:
        lines.append(f"{label:18}{own:10.1f}{reference:10.1f}{reference / own:7.1f}x")
    return "\n".join(lines)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--detector_size", type=positive, default=256, help="of stage 2")
    parser.add_argument("--adapt", action="store_true", help="stage 2 trains an adapter")


def run(options: argparse.Namespace) -> int:
    os.environ["ACCELERATE_USE_CPU"] = "true"
    args = DetectorArguments(
        images=[options.images],
        labels=["none"],
        output_dir="",
        size=options.detector_size,
        scale_stride=48,
        batch_size=options.batch_size,
        adapt=MODEL if options.adapt else None,
        start_from=None if options.adapt else MODEL,
    )
    ours, plain = (alone(measure, side, args, options.threads) for side in SIDES)
    what = "an adapter" if options.adapt else "all of it"
    print(f"\nstage 2: {MODEL}, {what} trained, batches of {args.batch_size} at {args.size} x {args.size}, fp32\n")
    print(table(ours, plain))
    of_loss = max(abs(own / reference - 1) for own, reference in zip(ours.losses, plain.losses, strict=True))
    differences = [abs(own - reference) for own, reference in zip(ours.labels, plain.labels, strict=True)]
    of_labels = statistics.fmean(differences)  # of flat regions the plain refiner makes much of rounding errors
    print(f"\nlargest difference of a loss, relative: {of_loss:.1e}; of a new label, on average: {of_labels:.1e}")
    if of_loss > TOLERANCE or of_labels > TOLERANCE:
        print("The sides do not compute the same.", file=sys.stderr)
        return 1
    return 0
