"""How far the measure without masks is to be trusted: its rank correlation with F and E over many candidates, and what
choosing by it costs (`results/unlabelled/`).

    python scripts/unlabelled.py --data steel=test-dev/RGB:test-dev/GT … --maps MAPS --output FILE.json

Candidates: the default model, the embedded adapters, those of `--adapters NAME=FOLDER`, and the default's maps made
worse in known ways. Masks are read here alone, to see how right the measure is. To stay cheap, maps are made at 256
pixels without refinement and scored at 160; they are kept in `--maps` as `SET/CANDIDATE/ID.png` and not made again.
Beside FILE.json a table is written, for the docs (`FILE.md`).
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from scipy.stats import spearmanr

from hf_usod.adapting.candidates import DEFAULT, Candidate, embedded
from hf_usod.cli import exit_status
from hf_usod.commands.common import parts, positive
from hf_usod.constants import DEFAULT_MODEL, VIDEO_ADAPTER
from hf_usod.data import Sample, evenly_spread
from hf_usod.evaluation import EvaluationSample, folder_samples, score_image
from hf_usod.evaluation.reading import read_ground_truth
from hf_usod.evaluation.usod_saliency.reading import as_mask
from hf_usod.files import write_aside, write_json, write_text
from hf_usod.loading import load_pipeline
from hf_usod.models.image_processing_usod import read_image
from hf_usod.quality.measure import FolderQuality, Predicted, choose, find_harm, judge_folder
from hf_usod.quality.predicting import predict_samples
from hf_usod.text_tables import markdown_table

SIDE, SCORED = 256, 160
DATA, ADAPTER = "NAME=IMAGES:MASKS[:AUX]", "NAME=FOLDER"
SCORES = ("f_adaptive", "e_adaptive", "mae")


def made_worse(maps: Sequence[np.ndarray]) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Maps `(SIDE, SIDE)` uint8, worse in known ways."""
    pictures = [Image.fromarray(levels) for levels in maps]
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    blob = np.where(x**2 + y**2 < 72**2, 255, 0).astype(np.uint8)
    yield "inverted", [255 - levels for levels in maps]
    yield "blurred", [np.asarray(picture.filter(ImageFilter.GaussianBlur(11))) for picture in pictures]
    yield "grown by 17 pixels", [np.asarray(picture.filter(ImageFilter.MaxFilter(35))) for picture in pictures]
    yield "shrunk by 8 pixels", [np.asarray(picture.filter(ImageFilter.MinFilter(17))) for picture in pictures]
    yield "of other images", [*maps[7:], *maps[:7]]
    yield "every second empty", [levels * (place % 2 == 0) for place, levels in enumerate(maps)]
    yield "a blob in the middle", [blob] * len(maps)
    yield "empty", [np.zeros_like(blob)] * len(maps)


def predict(candidate: Candidate, samples: Sequence[EvaluationSample], folder: Path) -> list[np.ndarray]:
    """Maps `(SIDE, SIDE)` uint8, kept in a folder."""
    files = {sample.id: folder / f"{sample.id}.png" for sample in samples}
    missing = [sample for sample in samples if not files[sample.id].exists()]
    if missing:
        detect = load_pipeline(candidate.model, candidate.adapter)
        detect.image_processor.size = {"height": SIDE, "width": SIDE}
        plain = [Sample(s.id, s.image, s.aux, s.aux_kind) for s in missing if s.image]
        for predicted in predict_samples(detect, plain):
            picture = Image.fromarray(predicted.saliency).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            write_aside(files[predicted.sample.id], picture.save)
    return [np.asarray(Image.open(file)) for file in files.values()]


def scores(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> dict[str, float]:
    """Mean scores, at `SCORED` pixels."""
    size = (SCORED, SCORED)
    reduced = [np.asarray(Image.fromarray(levels).resize(size, Image.Resampling.BILINEAR)) for levels in maps]
    of_images = [score_image(levels, mask).scores for levels, mask in zip(reduced, masks, strict=True)]
    return {name: round(float(np.mean([one[name] for one in of_images])), 4) for name in SCORES}


def judge(samples: Sequence[EvaluationSample], maps: Sequence[np.ndarray]) -> FolderQuality:
    def predicted() -> Iterator[Predicted]:
        for sample, levels in zip(samples, maps, strict=True):
            assert sample.image is not None
            yield Predicted(Sample(sample.id, sample.image), read_image(sample.image), levels)

    return judge_folder(predicted())


def validate(
    samples: Sequence[EvaluationSample], adapters: Mapping[str, str], folder: Path, are_frames: bool
) -> dict[str, Any]:
    """An entry of the results: candidates with their scores and quality, correlations, the regret of the choice."""
    has_maps = any(sample.aux for sample in samples)
    models = [
        *embedded(has_maps),
        *(Candidate(name, DEFAULT_MODEL, path, "trained") for name, path in adapters.items()),
    ]
    maps = {candidate.name: predict(candidate, samples, folder / candidate.name) for candidate in models}
    size = (SCORED, SCORED)
    masks = [as_mask(read_ground_truth(sample.mask)) * np.uint8(255) for sample in samples]
    masks = [np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BILINEAR)) for mask in masks]
    masks = [(mask > 127) * np.uint8(255) for mask in masks]
    everything = maps | {f"default, {way}": worse for way, worse in made_worse(maps[DEFAULT])}
    qualities = {name: judge(samples, of) for name, of in everything.items()}
    scored = {name: scores(of, masks) for name, of in everything.items()}
    chosen, reason = choose(qualities, VIDEO_ADAPTER if are_frames else DEFAULT)
    best = max((name for name in maps), key=lambda name: scored[name]["f_adaptive"])
    values = [quality.score for quality in qualities.values()]
    return {
        "num_images": len(samples),
        "ids": [sample.id for sample in samples],
        "rank_correlation": {
            name: round(float(spearmanr(values, [scored[one][name] for one in qualities])[0]), 3)
            for name in ("f_adaptive", "e_adaptive")
        },
        "chosen": chosen,
        "reason": reason,
        "best_model": best,
        "regret": round(scored[best]["f_adaptive"] - scored[chosen]["f_adaptive"], 4),
        "gain_over_default": round(scored[chosen]["f_adaptive"] - scored[DEFAULT]["f_adaptive"], 4),
        "candidates": {
            name: {**scored[name], **quality.figures(), "harm": find_harm(quality, qualities[DEFAULT])}
            for name, quality in qualities.items()
        },
    }


def table(results: Mapping[str, Any]) -> str:
    """The outcome as Markdown, a line a set."""
    head = ["data set", "images", "rho F", "rho E", "chosen", "best model", "F default", "F chosen", "F best", "regret"]
    rows = []
    for name, found in results.items():
        f = {one: of["f_adaptive"] for one, of in found["candidates"].items()}
        rho = found["rank_correlation"]
        numbers = (f[DEFAULT], f[found["chosen"]], f[found["best_model"]], found["regret"])
        row = [name, found["num_images"], f"{rho['f_adaptive']:.2f}", f"{rho['e_adaptive']:.2f}"]
        rows.append([*map(str, row), found["chosen"], found["best_model"], *(f"{number:.3f}" for number in numbers)])
    return markdown_table(head, rows, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=partial(parts, form=DATA), required=True, metavar=DATA)
    parser.add_argument("--frames", nargs="*", default=[], metavar="NAME", help="sets of frames, as of --task video")
    parser.add_argument("--adapters", nargs="*", type=partial(parts, form=ADAPTER), default=[], metavar=ADAPTER)
    parser.add_argument("--most", type=positive, default=60, help="images a set, evenly spread (default: %(default)s)")
    parser.add_argument("--maps", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.json")
    args = parser.parse_args()
    results = {}
    for name, *folders in args.data:
        images, masks, *aux = map(Path, folders)
        samples = evenly_spread(folder_samples(images, masks, aux[0] if aux else None), args.most)
        samples = [replace(sample, aux_kind=None) for sample in samples]
        results[name] = validate(samples, dict(args.adapters), args.maps / name, name in args.frames)
        told = {key: value for key, value in results[name].items() if key not in ("candidates", "ids")}
        print(name, told, flush=True)
    write_json(args.output, results)
    write_text(args.output.with_suffix(".md"), table(results))


if __name__ == "__main__":
    sys.exit(exit_status("unlabelled.py", main))
