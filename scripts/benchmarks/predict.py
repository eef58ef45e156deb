"""Times `hf_usod.inference.predict` on photos of 400 x 300 against the plain loop.

    python scripts/benchmark.py predict --images DIR

The plain loop is what anyone writes first: for each photo the processor, the model as it is loaded, post-processing,
and saving the map as PNG. Ours writes the same maps, with --edges fine other ones; each side runs in a process of its
own, and is timed from the loaded model to the last file. As a machine's speed changes with what else it does, the sides
take turns in several rounds: told are the median round of each side, and the median of the rounds' ratios. Beside
photos a second and peak memory it tells how work is shared among decoding, preparing, the network, the pixel refiner in
it, edges, and encoding; as several of them are done at a time, shares are of their sum.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from hf_usod.commands.common import positive
from hf_usod.data import list_images
from hf_usod.inference import Rendering
from hf_usod.inference import rendering as rendering_module
from hf_usod.inference.speed import native_precision
from hf_usod.loading import load_pipeline
from hf_usod.models import pixel_refiner
from hf_usod.models.image_processing_usod import UsodImageProcessor

from .measuring import Stopwatch, alone, peak_memory

EXAMPLES = Path(__file__).resolve().parents[2] / "space" / "examples"
PHOTO = (400, 300)
PARTS = ("decode", "prepare", "network", "refine", "edges", "encode")
TOLERANCE, ROUGH_TOLERANCE = 0.5, 2.5  # levels of 255, mean absolute difference of maps: in fp32, in bf16


class Measurement(NamedTuple):
    """What one side's process hands back."""

    photos_per_second: float
    seconds: dict[str, float]  # of work on each part, in all threads
    memory: float  # peak of the process, in MiB


def write_photos(folder: Path, images: str, count: int) -> None:
    """So many photos of 400 x 300, the first of a folder; from the first again where there are too few."""
    for number, path in enumerate(itertools.islice(itertools.cycle(list_images(images)), count)):
        with Image.open(path) as image:
            image.convert("RGB").resize(PHOTO, Image.Resampling.LANCZOS).save(folder / f"{number:04d}.jpg", quality=92)


def plain_loop(detect: Any, photos: Path, output: Path) -> None:
    model, processor = detect.model, detect.image_processor
    for path in sorted(photos.iterdir()):
        image = Image.open(path).convert("RGB")
        with torch.no_grad():
            outputs = model(**processor(image, return_tensors="pt"))
        (saliency,) = processor.post_process_saliency(outputs, [(image.height, image.width)])
        Image.fromarray((saliency * 255).round().byte().numpy()).save(output / f"{path.stem}.png")


def watch_parts(watch: Stopwatch, detect: Any) -> None:
    """Has the parts of our side timed."""
    import importlib

    predict = importlib.import_module("hf_usod.inference.predict")
    for part, owner, name in (
        ("decode", predict, "read_photo"),
        ("encode", predict, "write_aside"),
        ("edges", rendering_module, "refine_edges"),
        ("prepare", UsodImageProcessor, "__call__"),
        ("refine", pixel_refiner.PixelRefiner, "forward"),
        ("network", type(detect.model), "forward"),
    ):
        setattr(owner, name, watch.timed(part, getattr(owner, name)))


def measure(
    side: str,
    model: str,
    photos: Path,
    output: Path,
    options: argparse.Namespace,
    size: int = 1,
    precision: str = "no",
) -> Measurement:
    torch.set_num_threads(options.threads)
    detect = load_pipeline(model, device="cpu")
    watch = Stopwatch()
    output.mkdir()
    start = time.perf_counter()
    if side == "plain":
        plain_loop(detect, photos, output)
    else:
        from hf_usod.inference import predict

        watch_parts(watch, detect)
        shown = Rendering(("saliency",), edges=options.edges)
        predict(detect, [photos], output, shown, batch_size=size, mixed_precision=precision, progress=False)
    seconds = time.perf_counter() - start
    watch.seconds["network"] -= watch.seconds["refine"]
    return Measurement(len(list(photos.iterdir())) / seconds, dict(watch.seconds), peak_memory())


def difference(one: Path, other: Path) -> float:
    """Of the maps in two folders, mean absolute, in levels."""

    def levels(path: Path) -> np.ndarray:
        return np.asarray(Image.open(path)).astype(np.float32)

    return statistics.fmean(float(np.abs(levels(path) - levels(other / path.name)).mean()) for path in one.iterdir())


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", default=str(EXAMPLES), help="folder of photos (default: the examples of the Space)")
    parser.add_argument("--count", type=positive, default=60, help="photos; they come again to make as many")
    parser.add_argument("--model", default="usod-rgb-lite", help="an embedded name, or a folder")
    parser.add_argument(
        "--onnx", metavar="DIR", help="the same model as `hf-usod export` wrote it, to be timed as well"
    )
    parser.add_argument("--batch_sizes", type=positive, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--edges", choices=("none", "fine"), default="none")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())


class Side(NamedTuple):
    """Something that is timed."""

    name: str
    kind: str  # plain, or ours
    model: str
    size: int = 1
    precision: str = "no"


def sides_of(options: argparse.Namespace, native: str) -> list[Side]:
    """The plain loop, and what it is compared with."""
    ours = [
        Side(f"PyTorch {precision}, batch {size}", "ours", options.model, size, precision)
        for precision in dict.fromkeys(("no", native))
        for size in options.batch_sizes
    ]
    onnx = [Side(f"ONNX, batch {size}", "ours", options.onnx, size) for size in options.batch_sizes if options.onnx]
    return [Side("plain loop", "plain", options.model), *ours, *onnx]


def told(side: Side, rounds: list[Measurement], plain: list[Measurement]) -> str:
    """A line of the table."""
    speed = statistics.median(ours.photos_per_second for ours in rounds)
    pairs = zip(rounds, plain, strict=True)
    ratio = statistics.median(ours.photos_per_second / theirs.photos_per_second for ours, theirs in pairs)
    memory = max(ours.memory for ours in rounds)
    seconds = {part: sum(ours.seconds.get(part, 0.0) for ours in rounds) for part in PARTS}
    total = sum(seconds.values())
    shares = "".join(f"{value / total:9.0%}" for value in seconds.values()) if total else ""
    return f"{side.name:24}{speed:9.2f}{ratio:6.1f}x{memory:7.0f}   {shares}".rstrip()


def run(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        photos = root / "photos"
        photos.mkdir()
        write_photos(photos, options.images, options.count)
        native = native_precision(torch.device("cpu"))  # of the command, unless it is told another
        sides = sides_of(options, native)
        rounds: dict[Side, list[Measurement]] = {side: [] for side in sides}
        for turn in range(options.rounds):
            for number, side in enumerate(sides):
                output = root / f"{turn}-{number}"
                arguments = (side.model, photos, output, options, side.size, side.precision)
                rounds[side].append(alone(measure, side.kind, *arguments))
        print(
            f"{options.count} photos of {PHOTO[0]} x {PHOTO[1]}, {options.model}, edges {options.edges}; "
            f"{options.rounds} rounds; mixed precision is {native} by default here\n"
        )
        print(f"{'':24}{'photos/s':>9}{'ratio':>7}{'MiB':>7}   " + "".join(f"{part:>9}" for part in PARTS))
        worst: dict[str, float] = {}
        for number, side in enumerate(sides):
            print(told(side, rounds[side], rounds[sides[0]]))
            if side.kind == "ours":
                apart = difference(root / "0-0", root / f"0-{number}")
                worst[side.precision] = max(worst.get(side.precision, 0.0), apart)
        apart_told = ", ".join(f"{precision} {levels:.3f}" for precision, levels in worst.items())
        print(f"\nmean absolute difference of maps to the plain loop's, at most, of 255 levels: {apart_told}")
        if options.edges == "none" and (worst["no"] > TOLERANCE or worst.get("bf16", 0.0) > ROUGH_TOLERANCE):
            print("The sides do not make the same maps.", file=sys.stderr)
            return 1
    return 0
