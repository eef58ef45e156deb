"""Times the steps of a whole stage-1 training against a plain transcription of the released one, and compares their
peak memory.

    python scripts/benchmark.py train --images DIR

Both sides start from the same weights: a pre-trained backbone under a decoder that was trained on the photos for a few
steps first, because the cost of texture matching depends on how much boundary the maps have. Each side runs in a
process of its own, so that its peak memory is its own. The learning rate is then 0, so that both sides must give the
same losses. Ours runs all epochs, the first of which fills its cache of features; the plain side computes everything
anew in each epoch, so that a step of each scale stands for all. The plain side, kept in this file:

- gradients through the backbone, whose learning rate is 0: autograd keeps all of its activations;
- contiguous layout, fp32, batch norms as layers;
- maps that are resized before they are convolved;
- memory allocated and freed as C library and system do by default;
- texture matching in an 11 x 11 window around every pixel of the map, masked by the boundary afterwards.
"""

import argparse
import itertools
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F
from torch.utils.data import default_collate
from transformers import AutoImageProcessor, ResNetBackbone

from hf_usod.commands.common import not_negative, positive
from hf_usod.conversion import Pretrained
from hf_usod.data import EpochSampler, ImageViews, list_images, second_scale
from hf_usod.models.configuration_usod import backbone_preset
from hf_usod.models.image_processing_usod import UsodImageProcessor
from hf_usod.models.modeling_usod_sce import UsodSceModel, resize
from hf_usod.objectives import boundary
from hf_usod.training import cue_extractor
from hf_usod.training.arguments import CueExtractorArguments
from hf_usod.training.cue_extractor import CueExtractorStage, build_model, texture
from hf_usod.training.feature_cache import FeatureCache, budget
from hf_usod.training.frozen import FrozenBackbone
from hf_usod.training.processes import keep_freed_memory, make_accelerator
from hf_usod.training.stage import StepOutput

from .measuring import Stopwatch, alone, convolve_plainly, peak_memory

EXAMPLES = Path(__file__).resolve().parents[2] / "space" / "examples"
SIDES = ("ours", "plain")
PARTS = ("load", "backbone", "decoder", "pcl_sd", "btm", "sc", "backward", "optimizer")
TOLERANCE = 1e-3  # relative, between the losses of the two sides in fp32


class Measurement(NamedTuple):
    """What one side's process hands back."""

    seconds: dict[str, float]  # of each part of a step, and of the whole ("total"): means over all epochs
    epochs: list[float]  # seconds of a step, in each of them
    losses: list[dict[str, float]]  # one entry a scale of the second view
    outline: float  # share of the quarter-size map that is boundary
    memory: float  # peak, above what the process held before its first step, in MiB
    process_memory: float  # peak of the whole process, in MiB; with what of the cache's file is in memory
    file_size: float  # of the cache, in MiB


def plain_pcl_sd(saliency: torch.Tensor, epoch: int, num_epochs: int) -> torch.Tensor:
    certainty = (saliency - 0.5).abs()
    power = 2 ** (1 - (epoch - 1) / num_epochs)
    easy = (certainty >= max(0.0, 0.2 - 0.6 * epoch / num_epochs)).float()
    return (easy * (0.5**power - certainty**power)).mean()


def plain_btm(saliency: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    height, width = saliency.shape[2] // 4, saliency.shape[3] // 4
    saliency = F.interpolate(saliency, size=(height, width), mode="bilinear", align_corners=True)
    images = F.interpolate(images, size=(height, width), mode="bilinear", align_corners=True)
    foreground = (saliency > 0.5).float()
    dilated = F.max_pool2d(foreground, 5, stride=1, padding=2)
    eroded = -F.max_pool2d(-foreground, 5, stride=1, padding=2)
    outline = (dilated - eroded).flatten(1)  # (B, pixels)

    def neighbors(maps: torch.Tensor) -> torch.Tensor:  # (B, C, 121, pixels)
        return F.unfold(maps, 11, padding=5).unflatten(1, (maps.shape[1], 121))

    texture = (images.flatten(2)[:, :, None] - neighbors(images)).square().sum(dim=1)
    difference = (saliency.flatten(2)[:, :, None] - neighbors(saliency)).abs().squeeze(1)
    return (outline[:, None] * torch.exp(-200 * texture) * difference).sum() / outline.sum()


def plain_consistency(saliency: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    resized = F.interpolate(other, size=saliency.shape[2:], mode="bilinear", align_corners=True)
    return (saliency - resized).square().mean()


class PlainStage:
    """The step transcribed plainly; `step` as that of `CueExtractorStage`."""

    def __init__(self, args: CueExtractorArguments, image_processor: UsodImageProcessor, watch: Stopwatch):
        self.args = args
        self.image_processor = image_processor  # the same normalization of textures on both sides
        self.pcl_sd = watch.timed("pcl_sd", plain_pcl_sd)
        self.btm = watch.timed("btm", plain_btm)
        self.consistency = watch.timed("sc", plain_consistency)

    def step(self, model: nn.Module, batch: dict[str, torch.Tensor], epoch: int, step: int) -> StepOutput:
        args = self.args
        side = second_scale(args.size, args.scale_steps, args.scale_stride, args.seed, step)
        terms: dict[str, Any] = {"pcl_sd": 0.0, "btm": 0.0}
        maps = []
        for view in (batch["pixel_values"], resize(batch["pixel_values"], (side, side))):
            saliency = model(pixel_values=view).logits.sigmoid()
            terms["pcl_sd"] += self.pcl_sd(saliency, epoch, args.num_epochs)
            terms["btm"] += self.btm(saliency, texture(view, self.image_processor))
            maps.append(saliency)
        terms["sc"] = self.consistency(*maps)
        return StepOutput(terms["pcl_sd"] + 0.05 * terms["btm"] + terms["sc"], terms, maps[0].detach())


def middle(args: CueExtractorArguments) -> int:
    """The epoch as which all count in the losses."""
    return (1 + args.num_epochs) // 2


def open_views(folder: str, args: CueExtractorArguments, image_processor: Any, num_images: int) -> ImageViews:
    """The first photos of a folder; from the first one again where there are too few."""
    return ImageViews(list(itertools.islice(itertools.cycle(list_images(folder)), num_images)), image_processor)


def load_batch(views: ImageViews, places: Sequence[tuple[int, bool]]) -> dict[str, torch.Tensor]:
    return default_collate([views[place] for place in places])


def epoch_batches(args: CueExtractorArguments, num_images: int, epoch: int) -> list[list[tuple[int, bool]]]:
    """The places of an epoch's batches, as in a training."""
    sampler = EpochSampler(num_images, args.seed, args.flip_probability)
    sampler.start_epoch(epoch)
    places = list(sampler)
    return [places[start : start + args.batch_size] for start in range(0, num_images, args.batch_size)]


def prepare_model(args: CueExtractorArguments, folder: str, directory: str, threads: int, num_steps: int) -> None:
    """Writes a model whose maps have outlines like those of a training."""
    torch.set_num_threads(threads)
    if args.backbone == "resnet50":  # MoCo's weights come as a file; random ones take as long
        backbone = ResNetBackbone(backbone_preset(args.backbone))
        args.backbone = str(Path(directory) / "backbone")
        Pretrained(backbone, UsodImageProcessor()).save_pretrained(args.backbone)
    model, image_processor = build_model(args)
    stage = CueExtractorStage(args, model, image_processor, [], FrozenBackbone(model.backbone))
    batch = load_batch(
        open_views(folder, args, image_processor, args.batch_size), [(i, False) for i in range(args.batch_size)]
    )
    optimizer = torch.optim.SGD(model.decoder.parameters(), args.learning_rate, momentum=args.momentum)
    for step in range(num_steps):
        optimizer.zero_grad()
        stage.step(model.decoder, batch, middle(args), step).loss.backward()
        optimizer.step()
    Pretrained(model, image_processor).save_pretrained(directory)


def measure(
    side: str, args: CueExtractorArguments, folder: str, directory: str, threads: int, num_images: int
) -> Measurement:
    """Ours: a whole training of so many images, from an empty cache. The plain one, which does the same in every epoch:
    one step of each scale of the second view, weighted by how often the training has it. Before it, a step of each
    scale that is not counted."""
    torch.set_num_threads(threads)
    watch = Stopwatch()
    model = UsodSceModel.from_pretrained(directory)
    image_processor = AutoImageProcessor.from_pretrained(directory)
    image_processor.size = {"height": args.size, "width": args.size}
    views = open_views(folder, args, image_processor, num_images)
    model.decoder.forward = watch.timed("decoder", model.decoder.forward)
    steps_per_epoch = num_images // args.batch_size
    scales = [
        second_scale(args.size, args.scale_steps, args.scale_stride, args.seed, step)
        for step in range(args.num_epochs * steps_per_epoch)
    ]
    firsts = {scale: scales.index(scale) for scale in sorted(set(scales))}
    stage: CueExtractorStage | PlainStage
    if side == "ours":
        accelerator = make_accelerator(args)
        if accelerator.device.type == "cpu":
            keep_freed_memory()
        for part, name in {"pcl_sd": "pcl_sd_loss", "btm": "btm_loss", "sc": "consistency_loss"}.items():
            setattr(cue_extractor, name, watch.timed(part, getattr(cue_extractor, name)))
        features = FrozenBackbone(model.backbone, accelerator.mixed_precision)
        stage = CueExtractorStage(args, model, image_processor, [], features)
        vars(stage)["features"] = watch.timed("backbone", features)
        trained = stage.model
    else:
        convolve_plainly()
        accelerator = Accelerator()
        stage = PlainStage(args, image_processor, watch)
        model.backbone.forward = watch.timed("backbone", model.backbone.forward)
        model.decoder.train()
        trained = model
    optimizer = torch.optim.SGD(trained.parameters(), 0.0, momentum=args.momentum, weight_decay=args.weight_decay)
    trained, optimizer = accelerator.prepare(trained, optimizer)

    def run_step(step: int) -> tuple[dict[str, float], StepOutput]:
        watch.seconds.clear()
        epoch, place = divmod(step, steps_per_epoch)
        places = epoch_batches(args, num_images, 1 + epoch)[place]
        with watch.part("total"):
            with watch.part("load"):
                batch = load_batch(views, places)
            output = stage.step(trained, batch, middle(args), step)
            with watch.part("backward"):
                accelerator.backward(output.loss)
            with watch.part("optimizer"):
                optimizer.step()
                optimizer.zero_grad()
        return dict(watch.seconds), output

    before = peak_memory()
    losses = []
    for step in firsts.values():
        output = run_step(step)[1]
        losses.append({name: value.item() for name, value in {"loss": output.loss, **output.terms}.items()})
    if isinstance(stage, CueExtractorStage):
        root = Path(args.output_dir)
        gigabytes = budget(args, features.on_cpu, root)
        cache = FeatureCache(features, args, num_images, root, gigabytes, accelerator)
        vars(stage)["cache"] = watch.timed("backbone", cache)
        rows = [run_step(step)[0] for step in range(len(scales))]
        file_size = 0 if cache.bytes is None else len(cache.bytes) / 2**20
    else:
        of_scale = {scale: run_step(step)[0] for scale, step in firsts.items()}
        rows = [of_scale[scale] for scale in scales]
        file_size = 0
    after = peak_memory()
    seconds = {part: statistics.fmean(row.get(part, 0.0) for row in rows) for part in (*PARTS, "total")}
    epochs = [
        statistics.fmean(row["total"] for row in rows[start : start + steps_per_epoch])
        for start in range(0, len(rows), steps_per_epoch)
    ]
    outline = boundary(F.interpolate(output.saliency, scale_factor=0.25)).float().mean().item()
    return Measurement(seconds, epochs, losses, outline, after - before, after, file_size)


def table(results: dict[str, Measurement]) -> str:
    """The measurements, and how many times better ours are."""
    ours, plain = (results[side] for side in SIDES)
    lines = [f"{'':18}{'ours':>10}{'plain':>10}{'ratio':>8}"]

    def row(label: str, own: float, reference: float) -> None:
        ratio = f"{reference / own:7.1f}x" if own > 0 else ""
        lines.append(f"{label:18}{own:10.1f}{reference:10.1f}{ratio:>8}")

    for part in PARTS:
        row(f"{part} (ms)", 1000 * ours.seconds[part], 1000 * plain.seconds[part])
    other = [m.seconds["total"] - sum(m.seconds[part] for part in PARTS) for m in (ours, plain)]
    row("other (ms)", 1000 * other[0], 1000 * other[1])
    row("total (ms)", 1000 * ours.seconds["total"], 1000 * plain.seconds["total"])
    row("peak memory (MiB)", ours.memory, plain.memory)
    row("  of the process", ours.process_memory, plain.process_memory)
    first, last = ours.epochs[0], ours.epochs[-1]
    lines.append(f"of ours, the first epoch's step takes {1000 * first:.0f} ms, the last one's {1000 * last:.0f} ms")
    lines.append(
        f"the cache's file, which counts as memory of the process where it is mapped: {ours.file_size:.0f} MiB"
    )
    return "\n".join(lines)


def largest_difference(results: dict[str, Measurement]) -> float:
    """The largest relative difference of any loss term of the two sides, at any scale."""
    pairs = zip(results["ours"].losses, results["plain"].losses, strict=True)
    return max(abs(own[name] / reference[name] - 1) for own, reference in pairs for name in reference)


def add_options(parser: argparse.ArgumentParser) -> None:
    choices = ("efficientnet-lite0", "efficientnet-lite2", "resnet50")
    parser.add_argument("--backbone", default=choices[0], choices=choices, help="resnet50 starts from random weights.")
    parser.add_argument("--model", help="folder of a trained cue extractor, instead of --backbone and a fresh decoder")
    parser.add_argument("--images", default=str(EXAMPLES), help="folder of photos (default: the examples of the Space)")
    parser.add_argument("--batch_size", type=positive, default=8)
    parser.add_argument("--size", type=positive, default=320)
    parser.add_argument(
        "--num_images", type=positive, default=32, help="of the training; photos come again to make as many"
    )
    parser.add_argument("--num_epochs", type=positive, default=20)
    parser.add_argument("--feature_cache", type=float, help="gigabytes; 0: none (default: as in a training)")
    parser.add_argument("--threads", type=positive, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--mixed_precision", default="no", choices=("no", "bf16"), help="of our side")
    parser.add_argument(
        "--decoder_steps", type=not_negative, default=20, help="trained before measuring, without --model"
    )


def run(options: argparse.Namespace) -> int:
    os.environ["ACCELERATE_USE_CPU"] = "true"
    photos = list_images(options.images)
    args = CueExtractorArguments(
        images=[options.images],
        output_dir="",
        num_epochs=options.num_epochs,
        feature_cache=options.feature_cache,
        backbone=options.backbone,
        batch_size=options.batch_size,
        size=options.size,
        mixed_precision=options.mixed_precision,
    )
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.model or temporary
        if not options.model:
            alone(prepare_model, args, options.images, directory, options.threads, options.decoder_steps)
        args.output_dir = temporary
        common = (args, options.images, directory, options.threads, options.num_images)
        results = {side: alone(measure, side, *common) for side in SIDES}

    side, precision = options.size, "bf16" if options.mixed_precision == "bf16" else "fp32"
    print(
        f"{options.model or options.backbone}, {options.num_epochs} epochs of {options.num_images} images "
        f"({len(photos)} photos) in batches of {options.batch_size} at {side} x {side}, ours in {precision}; "
        f"{results['ours'].outline:.1%} of the map is boundary\n"
    )
    print(table(results))
    difference = largest_difference(results)
    print(f"\nlargest relative difference of a loss: {difference:.1e}")
    if options.mixed_precision == "no" and difference > TOLERANCE:
        print(f"The sides do not compute the same: more than {TOLERANCE:.0e} apart.", file=sys.stderr)
        return 1
    return 0
