"""What a person says of labels, one by one, and the labels that come of it."""

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data import Sample
from ..errors import DataError, RunError
from ..files import read_json, write_aside, write_json
from ..labels import label_overlap, read_label
from ..models.image_processing_usod import read_image
from ..outlines import ImageQuality, measure_image

REVIEW_FILE = "review.json"
GOOD, DROP, SWAP = "good", "drop", "swap"
DECISIONS = (GOOD, DROP, SWAP)
REVIEWED = "trained-by-review"  # what an adapter of reviewed labels is called; later ones get a number


@dataclass(frozen=True)
class Review:
    """Decisions on the labels of a source; a label without one is kept as it is.

    Args:
        labels: the name of the source.
        decisions: `good`, `drop` (it is left out) or `swap` (object and ground change places), by the images' ids.
        train_on: whether an adapter is to be trained on what is left of the labels.
        others: decisions on the labels of other sources, which are kept for when they are looked at again.
    """

    labels: str
    decisions: Mapping[str, str] = field(default_factory=dict)
    train_on: bool = True
    others: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def entry(self) -> dict[str, Any]:
        """As in a file."""
        others = {"others": {name: dict(decisions) for name, decisions in self.others.items()}} if self.others else {}
        return {"labels": self.labels, "train_on": self.train_on, "decisions": dict(self.decisions), **others}

    def of(self, labels: str) -> "Review":
        """The review of another source, which has what was said of it before."""
        if labels == self.labels:
            return self
        others = {**self.others, self.labels: self.decisions}
        return Review(labels, others.pop(labels, {}), False, others)

    def same_labels(self, other: "Review") -> bool:
        """Whether the same labels come of both."""
        return self.labels == other.labels and self.changes() == other.changes()

    def changes(self) -> dict[str, str]:
        """The decisions by which labels become others."""
        return {id: decision for id, decision in self.decisions.items() if decision != GOOD}


def parse_review(entry: Any, file: Path) -> Review:
    """
    Raises:
        RunError: naming the file, if that is no review.
    """
    try:
        others = {str(name): dict(decisions) for name, decisions in entry.get("others", {}).items()}
        review = Review(str(entry["labels"]), dict(entry["decisions"]), bool(entry.get("train_on", True)), others)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{file}: is no review, which has labels and decisions. Remove it to go on without.") from error
    if unknown := [id for id, decision in review.decisions.items() if decision not in DECISIONS]:
        raise RunError(f"{file}: {unknown[0]} is {review.decisions[unknown[0]]!r}. Say one of {', '.join(DECISIONS)}.")
    return review


def read_review(root: Path) -> Review | None:
    """The review in the folder of an adaptation, if there is one.

    Raises:
        RunError: naming the file, if it does not hold one.
    """
    file = root / REVIEW_FILE
    if not file.exists():
        return None
    try:
        return parse_review(read_json(file), file)
    except DataError as error:
        raise RunError(f"{error} Remove it to go on without.") from error


def write_review(root: Path, review: Review) -> None:
    write_json(root / REVIEW_FILE, review.entry())


def place_name(place: int) -> str:
    """What is trained by the so-manieth review, from 0."""
    return REVIEWED if place == 0 else f"{REVIEWED}-{place + 1}"


def settle_reviews(root: Path, state: dict[str, Any]) -> list[tuple[str, Review]]:
    """The reviews that adapters are, or are to be, trained by, with the names of these; kept in the state.

    A review that has changed since is another one, unless nothing was trained by it: then it takes that one's place,
    and what there was of that one is removed, and what is known of its steps.
    """
    file = root / REVIEW_FILE
    kept = [parse_review(entry, file) for entry in state.get("reviews", [])]
    current = read_review(root)
    if current and current.train_on and not any(current.same_labels(review) for review in kept):
        if kept and not (root / "runs" / place_name(len(kept) - 1) / "model").exists():
            kept.pop()
            name = place_name(len(kept))
            for folder in ("labels", "images", "aux", "runs"):
                shutil.rmtree(root / folder / name, ignore_errors=True)
            for times in (state.get("seconds", {}), state.get("unfinished", {})):
                for step in (f"labels {name}", f"training {name}"):
                    times.pop(step, None)
        kept.append(current)
    state["reviews"] = [review.entry() for review in kept]
    return [(place_name(place), review) for place, review in enumerate(kept)]


def write_reviewed(review: Review, samples: Sequence[Sample], source: Path, target: Path) -> list[Sample]:
    """Writes the labels that come of a review, those that are there excepted; the samples that have one."""
    left = [sample for sample in samples if review.decisions.get(sample.id) != DROP]
    for sample in left:
        file, label = target / f"{sample.id}.png", source / f"{sample.id}.png"
        if file.exists():
            continue
        if review.decisions.get(sample.id) == SWAP:
            with Image.open(label) as picture:
                write_aside(file, Image.eval(picture.convert("L"), lambda level: 255 - level).save)
        else:
            write_aside(file, lambda aside, label=label: shutil.copy(label, aside))  # type: ignore[misc]
    return left


def order_by_doubt(images: Mapping[str, Path], labels: Path, others: Path | None = None) -> list[str]:
    """The ids of labelled images, the most doubtful first: labels that say nothing, then by how badly their outlines
    fit the image and how little other labels agree, by the sum of the ranks in both.

    Args:
        images: by id.
        labels: their folder; images without a label are left out.
        others: a folder of labels made in another way; nothing is said by them where some are missing.
    """
    ids = [id for id in images if (labels / f"{id}.png").exists()]

    def judged(id: str) -> ImageQuality:
        label = (read_label(labels / f"{id}.png") > 0.5).astype(np.uint8) * 255
        return measure_image(id, read_image(images[id]), label)

    with ThreadPoolExecutor() as pool:
        qualities = list(pool.map(judged, ids))
        sureness = _ranks([quality.score for quality in qualities])
        if others is not None and all((others / f"{id}.png").exists() for id in ids):
            overlaps = pool.map(lambda id: label_overlap(labels / f"{id}.png", others / f"{id}.png"), ids)
            sureness = sureness + _ranks(list(overlaps))
    doubts = zip([not quality.is_empty for quality in qualities], sureness.tolist(), ids, strict=True)
    return [id for *_, id in sorted(doubts)]


def _ranks(values: Sequence[float]) -> np.ndarray:
    """How many of the values are below each."""
    return np.searchsorted(np.sort(values), values)
