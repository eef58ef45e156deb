"""What `hf-usod adapt` made of folders of images, scored on others whose masks it did not see (`results/unlabelled/`).

    hf-usod adapt SD-steel/train/RGB --output steel
    python scripts/adapted.py score steel --name SD-steel --output results/unlabelled/adapt-steel.json \\
        -- --images SD-steel/test-dev/RGB --masks SD-steel/test-dev/GT
    python scripts/adapted.py draw results/unlabelled/adapt-*.json --table results/unlabelled/adapted.md \\
        --output docs/adapted.png

`score` takes all candidates of the folder that do no harm; what follows `--` is for `hf-usod evaluate`. `draw` writes
a table and a chart of the measure that the command chooses by, and of F.
"""

import argparse
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hf_usod.adapting import adapt as adapting
from hf_usod.adapting.adapt import LEAST_OBJECT, MOST_OBJECT
from hf_usod.adapting.candidates import DEFAULT, embedded, other_labels
from hf_usod.adapting.review import order_by_doubt
from hf_usod.cli import exit_status
from hf_usod.cli import main as run_command
from hf_usod.constants import DEFAULT_MODEL
from hf_usod.data import by_stem
from hf_usod.evaluation.curves import pyplot
from hf_usod.evaluation.reading import read_ground_truth
from hf_usod.evaluation.usod_saliency.reading import as_mask
from hf_usod.files import read_json, write_aside, write_json, write_text
from hf_usod.labels import mask_iou, read_label
from hf_usod.text_tables import markdown_table
from hf_usod.training.processes import prepare_cpu

RIGHT = 0.5  # IoU with the mask, above which a label is right

KEPT = ("quality", "chosen", "reason", "tiles", "notes", "seconds")  # of what the command says of itself
SCORES = ("mae", "f_adaptive", "e_adaptive")
COLORS = {"default": "#777777", "of the package": "#1f77b4", "trained here": "#d62728"}


def score(args: argparse.Namespace) -> None:
    state = read_json(args.folder / "adapt.json")
    candidates = state["candidates"]
    adapters = {
        candidate["adapter"]: name
        for name, candidate in candidates.items()
        if candidate["is_detector"] and candidate["adapter"] and not candidate["harm"]
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scores.json"
        command = ["evaluate", "--model", DEFAULT_MODEL, "--adapter", *adapters, "--output", str(file), *args.evaluate]
        if status := run_command(command):
            sys.exit(status)
        entries = read_json(file)
    scores = {
        adapters.get(entry.get("adapter"), DEFAULT): {name: round(entry[name], 4) for name in SCORES}
        for entry in entries
    }
    write_json(
        args.output,
        {
            "name": args.name,
            "images": " ".join(state["images"]["lines"]),
            **{key: state.get(key) for key in KEPT},
            "about": {name: candidate["about"] for name, candidate in candidates.items()},
            "num_scored": entries[0]["num_images"],
            "scores": scores,
        },
    )


def alone(args: argparse.Namespace) -> None:
    vars(adapting)["embedded"] = lambda has_maps: embedded(has_maps)[:1]
    prepare_cpu()
    adapting.adapt(adapting.AdaptArguments(args.images, args.output, resume=args.resume))


def overlap(label: Path, mask: Path) -> float:
    """The IoU of a label and a mask."""
    return mask_iou(read_label(label) > 0.5, as_mask(read_ground_truth(mask)).astype(bool))


def told_apart(order: Sequence[str], right: Collection[str]) -> float | None:
    """How often a wrong label comes before a right one in an order of doubt, of all such pairs: .5 by chance."""
    is_right = np.array([id in right for id in order])
    pairs = is_right.sum() * (~is_right).sum()
    in_order = np.cumsum(~is_right)[is_right].sum()  # wrong ones before each that is right
    return round(float(in_order / pairs), 4) if pairs else None


def labels(args: argparse.Namespace) -> None:
    found: dict[str, Any] = {}
    images = by_stem(args.folder / "images" / "train")
    sources = read_json(args.folder / "adapt.json")["sources"]
    for name in sources:
        folder, used = args.folder / "labels" / name, by_stem(args.folder / "images" / name)
        files = by_stem(folder)
        overlaps = {id: overlap(label, args.masks / f"{id}.png") for id, label in files.items()}
        other = other_labels(name, sources)
        filled = [id for id, file in files.items() if LEAST_OBJECT <= (read_label(file) > 0.5).mean() <= MOST_OBJECT]
        shown = {
            "made": list(overlaps),
            "with an object": filled,
            "learned from": [id for id in overlaps if id in used],
        }
        found[name] = {
            kind: {
                "labels": len(ids),
                "right": sum(overlaps[id] > RIGHT for id in ids),
                "iou": round(sum(overlaps[id] for id in ids) / len(ids), 4),
            }
            for kind, ids in shown.items()
        }
        right = {id for id in filled if overlaps[id] > RIGHT}
        seen = {id: images[id] for id in filled}
        orders = {"outlines": order_by_doubt(seen, folder)}
        if other:
            orders["outlines and the other labels"] = order_by_doubt(seen, folder, args.folder / "labels" / other)
        found[name]["doubt"] = {kind: told_apart(order, right) for kind, order in orders.items()}
    write_json(args.output, {"name": args.name, "labels": found})
    print(args.output)


def label_rows(result: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, told in result["labels"].items():
        counts = [told[kind][key] for kind in ("with an object", "learned from") for key in ("labels", "right")]
        doubt = [f"{value:.2f}" if value is not None else "" for value in told["doubt"].values()]
        yield [result["name"], name, *map(str, counts), *doubt, *[""] * (2 - len(doubt))]


def kind_of(name: str) -> str:
    return DEFAULT if name == DEFAULT else "trained here" if name.startswith("trained") else "of the package"


def rows(result: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, scores in result["scores"].items():
        told = kind_of(name) + (", chosen" if name == result["chosen"] else "")
        quality = f"{result['quality'][name]['quality']:.3f}"
        yield [result["name"], name, told, quality, *(f"{scores[score]:.3f}" for score in SCORES)]


def chart(results: Sequence[Mapping[str, Any]], output: Path) -> None:
    size = (3.4 * len(results), 3.0)
    figure, (panels,) = pyplot().subplots(1, len(results), figsize=size, constrained_layout=True, squeeze=False)
    for axes, result in zip(panels, results, strict=True):
        for name, scores in result["scores"].items():
            place = result["quality"][name]["quality"], scores["f_adaptive"]
            axes.plot(*place, "o", color=COLORS[kind_of(name)], label=kind_of(name))
            if name == result["chosen"]:
                axes.plot(*place, "o", markersize=13, markerfacecolor="none", color="black", label="chosen")
        axes.set(title=result["name"], xlabel="the measure, without masks")
        axes.margins(0.15)
        axes.grid(color="#dddddd", linewidth=0.6)
    panels[0].set_ylabel("F adaptive")
    labelled = {label: dot for axes in panels for dot, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(labelled.values(), labelled, loc="outside lower center", ncols=len(labelled), frameon=False)
    write_aside(output, partial(figure.savefig, format="png", dpi=200, bbox_inches="tight"))


def draw(args: argparse.Namespace) -> None:
    files = [read_json(file) for file in args.results]
    results = [result for result in files if "scores" in result]
    if args.labels:
        head = [
            "images",
            "labels of",
            "with an object",
            "right",
            "learned from",
            "right",
            "doubt: outlines",
            "and agreement",
        ]
        told = [row for result in files if "labels" in result for row in label_rows(result)]
        write_text(args.labels, markdown_table(head, told, 2))
    head = ["images", "candidate", "", "quality", "M ↓", "F adaptive", "E adaptive"]
    write_text(args.table, markdown_table(head, [row for result in results for row in rows(result)], 3))
    chart(results, args.output)
    print(args.output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    scoring = commands.add_parser("score")
    scoring.add_argument("folder", type=Path, help="that `hf-usod adapt` wrote")
    scoring.add_argument("--name", required=True, help="of the images")
    scoring.add_argument("--output", type=Path, required=True, metavar="FILE.json")
    scoring.add_argument("evaluate", nargs="+", help="options of `hf-usod evaluate`, after --")
    scoring.set_defaults(run=score)
    lonely = commands.add_parser("alone")
    lonely.add_argument("images", type=Path)
    lonely.add_argument("--output", type=Path, required=True, metavar="DIR")
    lonely.add_argument("--resume", action="store_true")
    lonely.set_defaults(run=alone)
    rating = commands.add_parser("labels")
    rating.add_argument("folder", type=Path, help="that `hf-usod adapt` or `alone` wrote")
    rating.add_argument("--name", required=True, help="of the images")
    rating.add_argument("--masks", type=Path, required=True, metavar="DIR", help="of the images")
    rating.add_argument("--output", type=Path, required=True, metavar="FILE.json")
    rating.set_defaults(run=labels)
    drawing = commands.add_parser("draw")
    drawing.add_argument("results", nargs="+", type=Path, metavar="FILE.json")
    drawing.add_argument("--table", type=Path, required=True, metavar="FILE.md")
    drawing.add_argument("--labels", type=Path, metavar="FILE.md", help="a table of what `labels` wrote")
    drawing.add_argument("--output", type=Path, required=True, metavar="FILE.png")
    drawing.set_defaults(run=draw)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    sys.exit(exit_status("adapted.py", main))
