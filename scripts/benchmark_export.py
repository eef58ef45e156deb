"""Times a model's network in PyTorch and as `hf-usod export` wrote it, in one run:

    python scripts/benchmark_export.py usod-rgb-lite exported exported-int8 --threads 2

Prints milliseconds an image for batches of 1 and 4, the least of several repeats, and the size of the weights.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedModel

from hf_usod.assets import checkpoint_source
from hf_usod.cli import exit_status
from hf_usod.commands.common import positive
from hf_usod.loading import load


def seconds_per_image(
    model: PreTrainedModel,
    batch_size: int,
    size: tuple[int, int],
    repeats: int = 8,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """The least time an image of `size` (height, width) takes in a batch, of a model of PyTorch or an exported one."""
    images = torch.randn(batch_size, 3, *size)
    times = []
    with torch.inference_mode():
        model(pixel_values=images)
        for _ in range(repeats):
            start = clock()
            model(pixel_values=images)
            times.append(clock() - start)
    return min(times) / batch_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="names or folders; the first is what the others are compared with")
    parser.add_argument("--batch_sizes", nargs="+", type=positive, default=[1, 4])
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--busy", action="store_true", help="processor time, for a machine that does other things too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.busy else time.perf_counter
    first: dict[int, float] = {}
    for name in args.models:
        model, processor = load(name)
        size = processor.size["height"], processor.size["width"]
        weights = [
            path for kind in ("model.onnx", "*.safetensors") for path in Path(checkpoint_source(name)).glob(kind)
        ]
        cells = []
        for batch_size in args.batch_sizes:
            seconds = seconds_per_image(model, batch_size, size, clock=clock)
            ratio = first.setdefault(batch_size, seconds) / seconds
            cells.append(f"batch {batch_size}: {1000 * seconds:.0f} ms an image ({ratio:.2f}x)")
        print(f"{name}: {', '.join(cells)}, {sum(path.stat().st_size for path in weights) / 2**20:.1f} MiB", flush=True)


if __name__ == "__main__":
    sys.exit(exit_status("benchmark_export.py", main))
