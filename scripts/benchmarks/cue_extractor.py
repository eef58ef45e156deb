"""Times a stage-1 training step against a plain transcription of the released one, and compares their peak memory.

    python scripts/benchmark.py train --images DIR

Both sides start from the same weights: a pre-trained backbone under a decoder that was trained on the photos for a few
steps first, because the cost of texture matching depends on how much boundary the maps have. Each side runs in a
process of its own, so that its peak memory is its own. The learning rate is then 0: every repetition does the same
work, and both sides must give the same losses. The plain side, kept in this file:

- gradients through the backbone, whose learning rate is 0: autograd keeps all of its activations;
- contiguous layout, fp32, batch norms as layers;
- memory allocated and freed as C library and system do by default;
- texture matching in an 11 x 11 window around every pixel of the map, masked by the boundary afterwards.
"""

import argparse
import itertools
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F
from transformers import AutoImageProcessor, ResNetBackbone

from hf_usod.conversion import Pretrained
from hf_usod.data import ImageViews, list_images, second_scale
from hf_usod.models.configuration_usod import backbone_preset
from hf_usod.models.image_processing_usod import UsodImageProcessor
from hf_usod.models.modeling_usod_sce import UsodSceModel, resize
from hf_usod.objectives import boundary
from hf_usod.training import cue_extractor
from hf_usod.training.arguments import CueExtractorArguments
from hf_usod.training.cue_extractor import CueExtractorStage, build_model, texture
from hf_usod.training.frozen import FrozenBackbone
from hf_usod.training.processes import keep_freed_memory, make_accelerator
from hf_usod.training.stage import StepOutput

from .measuring import Stopwatch, alone, peak_memory

EXAMPLES = Path(__file__).resolve().parents[2] / "space" / "examples"
SIDES = ("ours", "plain")
PARTS = ("backbone", "decoder", "pcl_sd", "btm", "sc", "backward", "optimizer")
EPOCH = 10  # of 20: the middle of a training
TOLERANCE = 1e-3  # relative, between the losses of the two sides in fp32


class Measurement(NamedTuple):
    """What one side's process hands back."""

    seconds: dict[str, float]  # of each part, of the whole step ("total") and of loading a batch ("load")
    losses: list[dict[str, float]]  # one entry a scale of the second view
    outline: float  # share of the quarter-size map that is boundary
    memory: float  # peak, above what the process held before its first step, in MiB
    process_memory: float  # peak of the whole process, in MiB


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

    def step(self, model: nn.Module, batch: torch.Tensor, epoch: int, step: int) -> StepOutput:
        args = self.args
        side = second_scale(args.size, args.scale_steps, args.scale_stride, args.seed, step)
        terms: dict[str, Any] = {"pcl_sd": 0.0, "btm": 0.0}
        maps = []
        for view in (batch, resize(batch, (side, side))):
            saliency = model(pixel_values=view).logits.sigmoid()
            terms["pcl_sd"] += self.pcl_sd(saliency, epoch, args.num_epochs)
            terms["btm"] += self.btm(saliency, texture(view, self.image_processor))
            maps.append(saliency)
        terms["sc"] = self.consistency(*maps)
        return StepOutput(terms["pcl_sd"] + 0.05 * terms["btm"] + terms["sc"], terms, maps[0].detach())


def load_batch(folder: str, args: CueExtractorArguments, image_processor: Any) -> torch.Tensor:
    """The first photos of a folder, `(B, 3, size, size)`; from the first one again where there are too few."""
    photos = list(itertools.islice(itertools.cycle(list_images(folder)), args.batch_size))
    views = ImageViews(photos, image_processor)
    return torch.stack([views[index, False] for index in range(len(photos))])


def prepare_model(args: CueExtractorArguments, folder: str, directory: str, threads: int, num_steps: int) -> None:
    """Writes a model whose maps have outlines like those of a training."""
    torch.set_num_threads(threads)
    if args.backbone == "resnet50":  # MoCo's weights come as a file; random ones take as long
        backbone = ResNetBackbone(backbone_preset(args.backbone))
        args.backbone = str(Path(directory) / "backbone")
        Pretrained(backbone, UsodImageProcessor()).save_pretrained(args.backbone)
    model, image_processor = build_model(args)
    stage = CueExtractorStage(args, model, image_processor, [], FrozenBackbone(model.backbone))
    batch = load_batch(folder, args, image_processor)
    optimizer = torch.optim.SGD(model.decoder.parameters(), args.learning_rate, momentum=args.momentum)
    for step in range(num_steps):
        optimizer.zero_grad()
        stage.step(model.decoder, batch, EPOCH, step).loss.backward()
        optimizer.step()
    Pretrained(model, image_processor).save_pretrained(directory)


def measure(
    side: str, args: CueExtractorArguments, folder: str, directory: str, threads: int, repeats: int
) -> Measurement:
    """Runs one side's steps, over every scale of the second view; the first round is not counted."""
    torch.set_num_threads(threads)
    watch = Stopwatch()
    model = UsodSceModel.from_pretrained(directory)
    image_processor = AutoImageProcessor.from_pretrained(directory)
    image_processor.size = {"height": args.size, "width": args.size}
    model.decoder.forward = watch.timed("decoder", model.decoder.forward)
    stage: CueExtractorStage | PlainStage
    if side == "ours":
        accelerator = make_accelerator(args)
        if accelerator.device.type == "cpu":
            keep_freed_memory()
        for part, name in {"pcl_sd": "pcl_sd_loss", "btm": "btm_loss", "sc": "consistency_loss"}.items():
            setattr(cue_extractor, name, watch.timed(part, getattr(cue_extractor, name)))
        features = FrozenBackbone(model.backbone, accelerator.mixed_precision)
        stage = CueExtractorStage(args, model, image_processor, [], features)
        stage.features = watch.timed("backbone", features)
        trained = stage.model
    else:
        accelerator = Accelerator()
        stage = PlainStage(args, image_processor, watch)
        model.backbone.forward = watch.timed("backbone", model.backbone.forward)
        model.decoder.train()
        trained = model
    optimizer = torch.optim.SGD(trained.parameters(), 0.0, momentum=args.momentum, weight_decay=args.weight_decay)
    trained, optimizer = accelerator.prepare(trained, optimizer)

    load_seconds = []
    for _ in range(repeats):
        with watch.part("load"):
            batch = load_batch(folder, args, image_processor)
        load_seconds.append(watch.seconds.pop("load"))

    def scale(step: int) -> int:
        return second_scale(args.size, args.scale_steps, args.scale_stride, args.seed, step)

    steps = {scale(step): step for step in reversed(range(1000))}  # the first step of each scale
    rounds: list[list[dict[str, float]]] = []
    before = peak_memory()
    for _ in range(repeats + 1):
        rounds.append([])
        losses = []
        for _, step in sorted(steps.items()):
            watch.seconds.clear()
            with watch.part("total"):
                output = stage.step(trained, batch, EPOCH, step)
                with watch.part("backward"):
                    accelerator.backward(output.loss)
                with watch.part("optimizer"):
                    optimizer.step()
                    optimizer.zero_grad()
            rounds[-1].append(dict(watch.seconds))
            losses.append({name: value.item() for name, value in {"loss": output.loss, **output.terms}.items()})
    after = peak_memory()
    counted = rounds[1:]
    seconds = {
        part: statistics.fmean(statistics.median(row[i][part] for row in counted) for i in range(len(steps)))
        for part in (*PARTS, "total")
    }
    seconds["load"] = statistics.median(load_seconds)
    outline = boundary(F.interpolate(output.saliency, scale_factor=0.25)).float().mean().item()
    return Measurement(seconds, losses, outline, after - before, after)


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
    row("load (ms)", 1000 * ours.seconds["load"], 1000 * plain.seconds["load"])
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
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--repeats", type=int, default=3, help="of each scale; medians are printed")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--mixed_precision", default="no", choices=("no", "bf16"), help="of our side")
    parser.add_argument("--decoder_steps", type=int, default=20, help="trained before measuring, without --model")


def run(options: argparse.Namespace) -> int:
    os.environ["ACCELERATE_USE_CPU"] = "true"
    try:
        photos = list_images(options.images)
    except FileNotFoundError as error:
        print(f"{error} Pass a folder of photos as --images.", file=sys.stderr)
        return 1
    args = CueExtractorArguments(
        images=[options.images],
        output_dir="",  # nothing is written
        backbone=options.backbone,
        batch_size=options.batch_size,
        size=options.size,
        mixed_precision=options.mixed_precision,
    )
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.model or temporary
        if not options.model:
            alone(prepare_model, args, options.images, directory, options.threads, options.decoder_steps)
        common = (args, options.images, directory, options.threads, options.repeats)
        results = {side: alone(measure, side, *common) for side in SIDES}

    print(
        f"{options.model or options.backbone}, batch {options.batch_size} of {len(photos)} photos at {options.size} x "
        f"{options.size}, ours in {'bf16' if options.mixed_precision == 'bf16' else 'fp32'}; "
        f"{results['ours'].outline:.1%} of the map is boundary\n"
    )
    print(table(results))
    difference = largest_difference(results)
    print(f"\nlargest relative difference of a loss: {difference:.1e}")
    if options.mixed_precision == "no" and difference > TOLERANCE:
        print(f"The sides do not compute the same: more than {TOLERANCE:.0e} apart.", file=sys.stderr)
        return 1
    return 0
