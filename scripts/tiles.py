"""What `--tiles` is worth: scores and time of photos looked at whole and in windows too (`results/tiles/`).

    python scripts/tiles.py --data NWPU-RSI=RGB:GT --output results/tiles/nwpu-rsi.json [--adapters usod-rsi-lite]
    python scripts/tiles.py --data NWPU-RSI=RGB:GT --mosaics 4 --output results/tiles/mosaics.json …
    python scripts/tiles.py --table results/tiles/*.json --output results/tiles/table.md

`--every 4 --first 1` takes every fourth image from the second on. `--mosaics` puts 16 of them, drawn at random, into
each of so many pictures of 1920 x 1760 pixels: what a camera sees from higher up. Seconds are of one core, with what
scoring takes left out. What is in the file already is not computed again.
"""

import argparse
import random
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from hf_usod.cli import exit_status
from hf_usod.commands.common import not_negative, parts, positive
from hf_usod.commands.common import tiles as tiles_option
from hf_usod.constants import DEFAULT_MODEL
from hf_usod.errors import DataError, counted
from hf_usod.evaluation import EvaluationSample, EvaluationSet, evaluate_maps, folder_samples
from hf_usod.evaluation.predicting import map_path, predict_maps
from hf_usod.evaluation.report import entry_label
from hf_usod.files import read_json, write_json, write_text
from hf_usod.loading import load
from hf_usod.text_tables import markdown_table

DATA = "NAME=IMAGES:MASKS"
CELL, GRID = (480, 440), 4


def mosaic(samples: Sequence[EvaluationSample], folder: Path, seed: int) -> EvaluationSample:
    """A picture of `GRID` x `GRID` images, with its mask."""
    size = (GRID * CELL[0], GRID * CELL[1])
    photo, mask = Image.new("RGB", size), Image.new("L", size)
    for place, sample in enumerate(random.Random(seed).sample(list(samples), GRID * GRID)):
        corner = (place % GRID * CELL[0], place // GRID * CELL[1])
        assert sample.image is not None
        with Image.open(sample.image) as image, Image.open(sample.mask) as truth:
            photo.paste(image.convert("RGB").resize(CELL, Image.Resampling.BICUBIC), corner)
            mask.paste(truth.convert("L").resize(CELL, Image.Resampling.NEAREST), corner)
    paths = folder / f"{seed}.jpg", folder / f"{seed}-mask.png"
    photo.save(paths[0], quality=95)
    mask.save(paths[1])
    return EvaluationSample(str(seed), paths[1], paths[0])


def measure(dataset: EvaluationSet, adapter: str | None, tiles: int | str | None) -> dict[str, Any]:
    """An entry as of `hf-usod evaluate`, with `seconds` a photo."""
    model, processor = load(DEFAULT_MODEL, adapter)
    with TemporaryDirectory() as aside:
        folder = Path(aside) / "maps"
        begun = time.process_time()
        for _ in predict_maps(model, processor, list(dataset.samples), 4, folder, tiles):
            pass
        seconds = (time.process_time() - begun) / len(dataset.samples)
        maps = [map_path(folder, sample) for sample in dataset.samples]
        scored = evaluate_maps(DEFAULT_MODEL, dataset, maps, num_workers=0, progress=False).entry()
    told = {name: value for name, value in (("adapter", adapter), ("tiles", tiles)) if value}
    return {**scored, **told, "seconds": round(seconds, 2)}


def table(entries: Sequence[dict[str, Any]]) -> str:
    """A line an entry."""
    head = ["data set", "model", "images", "M ↓", "F adaptive", "E adaptive", "seconds"]
    rows = []
    for entry in entries:
        scores = (f"{entry[name]:.3f}" for name in ("mae", "f_adaptive", "e_adaptive"))
        rows.append(
            [entry["dataset"], entry_label(entry), str(entry["num_images"]), *scores, f"{entry['seconds']:.1f}"]
        )
    return markdown_table(head, rows, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=partial(parts, form=DATA), metavar=DATA)
    parser.add_argument("--adapters", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--tiles", nargs="+", type=tiles_option, default=[None, "auto"])
    parser.add_argument("--every", type=positive, default=1)
    parser.add_argument("--first", type=not_negative, default=0)
    parser.add_argument("--mosaics", type=not_negative, default=0)
    parser.add_argument("--table", nargs="+", type=Path, metavar="FILE.json")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    args = parser.parse_args()
    if args.table:
        write_text(args.output, table([entry for file in args.table for entry in read_json(file)]))
        return
    if not args.data:
        parser.error("give --data, or --table")
    name, images, masks = args.data
    samples = folder_samples(Path(images), Path(masks))[args.first :: args.every]
    if len(samples) < (needed := GRID**2 if args.mosaics else 1):
        raise DataError(f"{images}: {counted(len(samples), 'image')} to take; {needed} or more are needed.")
    with TemporaryDirectory() as aside:
        if args.mosaics:
            name, samples = f"mosaics of {name}", [mosaic(samples, Path(aside), seed) for seed in range(args.mosaics)]
        for adapter in [None, *args.adapters]:
            for tiles in args.tiles:
                entries = read_json(args.output) if args.output.exists() else []
                told = (name, adapter, tiles)
                if any((entry["dataset"], entry.get("adapter"), entry.get("tiles")) == told for entry in entries):
                    continue
                entries.append(measure(EvaluationSet(name, samples), adapter, tiles))
                write_json(args.output, entries)
                print(table(entries[-1:]), flush=True)


if __name__ == "__main__":
    sys.exit(exit_status("tiles.py", main))
