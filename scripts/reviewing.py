"""What reviewing labels is worth: adapters trained on labels of which a person has dropped the wrong ones, by clicks
(`results/reviewing/`).

    python scripts/reviewing.py train --name NWPU-RSI --train RGB:GT --test RGB:GT --runs DIR --output FILE.json
    python scripts/reviewing.py draw results/reviewing/*.json --table results/reviewing/table.md \\
        --output docs/reviewing.png

The person is simulated: one looks at labels in the order of doubt (the measure without masks, the lowest first), a
click a label, and drops those whose IoU with the mask is below .5. That is all that masks of training images do here:
they decide what is left out, and none is ever learned from. Labels are the default model's, as `hf-usod adapt` has
them; an adapter learns from what is left, in the same number of steps whatever that is. A training that was stopped
goes on with the same command.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hf_usod.adapting.adapt import LEAST_OBJECT, MOST_OBJECT
from hf_usod.adapting.candidates import DEFAULT, STRIDE, Source, detector_arguments, embedded, make_labels
from hf_usod.cli import exit_status
from hf_usod.commands.common import parts, positive
from hf_usod.data import Sample, evenly_spread
from hf_usod.evaluation import EvaluationSample, EvaluationSet, evaluate_model, folder_samples
from hf_usod.evaluation.curves import COLORS, pyplot
from hf_usod.evaluation.reading import read_ground_truth
from hf_usod.evaluation.usod_saliency.reading import as_mask
from hf_usod.files import read_json, write_aside, write_json, write_text
from hf_usod.labels import mask_iou, read_label
from hf_usod.loading import load
from hf_usod.models.image_processing_usod import read_image
from hf_usod.outlines import measure_image
from hf_usod.text_tables import markdown_table
from hf_usod.training.detector import train_detector
from hf_usod.training.processes import prepare_cpu

FOLDERS = "IMAGES:MASKS"
LEAST_OVERLAP = 0.5  # with the mask: a label of less is dropped by who looks at it


@dataclass(frozen=True)
class Label:
    """What is known of a label: its doubt, by the measure, and whether it is right, by the mask."""

    sample: EvaluationSample
    quality: float
    overlap: float
    object_share: float


def judge_label(sample: EvaluationSample, file: Path) -> Label:
    """
    Args:
        file: of the label, of the image's size.
    """
    assert sample.image is not None
    label, truth = read_label(file) > 0.5, as_mask(read_ground_truth(sample.mask))
    quality = measure_image(sample.id, read_image(sample.image), label * np.uint8(255))
    return Label(sample, quality.score, mask_iou(label, truth), float(label.mean()))


def review(labels: Sequence[Label], clicks: int) -> tuple[list[Label], int]:
    """The labels that are left after so many clicks, and how many were dropped."""
    doubtful = sorted(labels, key=lambda label: label.quality)[:clicks]
    dropped = {label.sample.id for label in doubtful if label.overlap < LEAST_OVERLAP}
    return [label for label in labels if label.sample.id not in dropped], len(dropped)


def place(labels: Sequence[Label], folder: Path) -> None:
    """Links to the images of labels."""
    folder.mkdir(parents=True, exist_ok=True)
    for label in labels:
        assert label.sample.image is not None
        link = folder / f"{label.sample.id}{label.sample.image.suffix}"
        if not link.exists():
            os.symlink(label.sample.image.resolve(), link)


def samples_of(folders: Sequence[str]) -> list[EvaluationSample]:
    images, masks = map(Path, folders)
    return folder_samples(images, masks)


def train(args: argparse.Namespace) -> None:
    prepare_cpu()
    source = Source("reviewed", embedded()[0], "pixel", embedded()[0])
    test = EvaluationSet(f"{args.name}/test-dev", samples_of(args.test))
    samples = evenly_spread(samples_of(args.train), args.most)
    folder = args.runs / args.name / "labels"
    make_labels(source, [Sample(s.id, s.image) for s in samples if s.image], folder, None, 4)
    judged = [judge_label(sample, folder / f"{sample.id}.png") for sample in samples]
    labels = [label for label in judged if LEAST_OBJECT <= label.object_share <= MOST_OBJECT]
    right = [label.overlap >= LEAST_OVERLAP for label in labels]
    about = {"dataset": args.name, "size": args.size, "num_labels": len(labels), "num_right": sum(right)}
    entries = read_json(args.output) if args.output.exists() else []
    for clicks in args.clicks:
        told = (args.name, clicks, args.seed)
        if any((entry["dataset"], entry["clicks"], entry["seed"]) == told for entry in entries):
            continue
        left, dropped = review(labels, clicks)
        run = args.runs / args.name / f"clicks-{clicks}-seed-{args.seed}"
        place(left, run / "images")
        arguments = detector_arguments(run / "images", None, folder, run / "run", args.seed)
        adapter = train_detector(replace(arguments, size=args.size, scale_stride=min(STRIDE, args.size // 4)))
        model, processor = load(source.candidate.model, str(adapter))
        scores = evaluate_model(DEFAULT, model, processor, test, num_workers=0).metrics.results()
        left_right = sum(label.overlap >= LEAST_OVERLAP for label in left)
        counts = {"clicks": clicks, "seed": args.seed, "dropped": dropped, "left": len(left), "left_right": left_right}
        entries = (read_json(args.output) if args.output.exists() else []) + [{**about, **counts, **scores}]
        write_json(args.output, entries)
        print(entries[-1], flush=True)


def by_clicks(entries: Sequence[dict[str, Any]]) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """Entries by data set and number of clicks, one a seed."""
    grouped: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for entry in sorted(entries, key=lambda entry: (entry["dataset"], entry["clicks"], entry["seed"])):
        grouped.setdefault(entry["dataset"], {}).setdefault(entry["clicks"], []).append(entry)
    return grouped


def table(entries: Sequence[dict[str, Any]]) -> str:
    """A line a number of clicks; of several seeds the mean."""
    head = ["data set", "clicks", "seeds", "labels", "right", "M ↓", "F adaptive", "E adaptive"]
    rows = []
    for dataset, groups in by_clicks(entries).items():
        for clicks, group in groups.items():
            scores = (np.mean([one[name] for one in group]) for name in ("mae", "f_adaptive", "e_adaptive"))
            counts = (clicks, len(group), group[0]["left"], group[0]["left_right"])
            rows.append([dataset, *map(str, counts), *(f"{score:.3f}" for score in scores)])
    return markdown_table(head, rows, 1)


def draw(args: argparse.Namespace) -> None:
    entries = [entry for file in args.results for entry in read_json(file)]
    write_text(args.table, table(entries))
    figure, panels = pyplot().subplots(1, 2, figsize=(7.4, 2.9), constrained_layout=True)
    for axes, (score, title) in zip(panels, (("f_adaptive", "F adaptive"), ("e_adaptive", "E adaptive")), strict=True):
        for number, (dataset, groups) in enumerate(by_clicks(entries).items()):
            means = [np.mean([one[score] for one in group]) for group in groups.values()]
            axes.plot(list(groups), means, "o-", color=COLORS[number], label=dataset)
            every = [(clicks, one[score]) for clicks, group in groups.items() for one in group]
            axes.plot(*zip(*every, strict=True), ".", color=COLORS[number], alpha=0.5)
        axes.set(xlabel="labels looked at", title=title)
        axes.grid(color="#dddddd", linewidth=0.6)
    panels[0].legend(frameon=False)
    write_aside(args.output, partial(figure.savefig, format="png", dpi=200, bbox_inches="tight"))
    print(args.output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument("--name", required=True, help="of the data set")
    training.add_argument("--train", type=partial(parts, form=FOLDERS), required=True, metavar=FOLDERS)
    training.add_argument("--test", type=partial(parts, form=FOLDERS), required=True, metavar=FOLDERS)
    training.add_argument("--clicks", nargs="+", type=int, default=[0, 50, 100, 200])
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--most", type=positive, default=300, help="images, evenly spread (default: %(default)s)")
    training.add_argument("--size", type=positive, default=192, help="pixels a side in training (default: %(default)s)")
    training.add_argument("--runs", type=Path, required=True, metavar="DIR", help="labels and trainings")
    training.add_argument("--output", type=Path, required=True, metavar="FILE.json")
    training.set_defaults(run=train)
    drawing = commands.add_parser("draw")
    drawing.add_argument("results", nargs="+", type=Path, metavar="FILE.json")
    drawing.add_argument("--table", type=Path, required=True, metavar="FILE.md")
    drawing.add_argument("--output", type=Path, required=True, metavar="FILE.png")
    drawing.set_defaults(run=draw)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    sys.exit(exit_status("reviewing.py", main))
