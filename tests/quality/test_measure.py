"""The measure without masks, on images whose object is known."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from hf_usod.data import Sample
from hf_usod.errors import DataError
from hf_usod.outlines import measure_image
from hf_usod.quality.measure import Predicted, choose, compare, find_harm, judge_folder


def scene(seed: int) -> tuple[Image.Image, np.ndarray]:
    """A noisy ellipse on a noisy ground, and its mask, 0 or 255."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:120, :160]
    cy, cx = random.uniform([40, 50], [80, 110])
    inside = ((y - cy) / random.uniform(15, 30)) ** 2 + ((x - cx) / random.uniform(15, 40)) ** 2 < 1
    photo = np.where(inside[..., None], [190, 120, 60], [70, 90, 110]) + random.normal(0, 12, (120, 160, 3))
    return Image.fromarray(photo.clip(0, 255).astype(np.uint8)), inside * np.uint8(255)


SCENES = [scene(seed) for seed in range(12)]


def blurred(levels: np.ndarray, radius: float = 16) -> np.ndarray:
    return np.asarray(Image.fromarray(levels).filter(ImageFilter.GaussianBlur(radius)))


def grown(levels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(levels).filter(ImageFilter.MaxFilter(41)))


def judged(maps):
    photos = [photo for photo, _ in SCENES]
    return judge_folder(
        Predicted(Sample(str(place), Path("x")), photo, levels)
        for place, (photo, levels) in enumerate(zip(photos, maps, strict=True))
    )


MASKS = [mask for _, mask in SCENES]
CANDIDATES = {
    "true": MASKS,
    "blurred": [blurred(mask) for mask in MASKS],
    "grown": [grown(mask) for mask in MASKS],
    "inverted": [255 - mask for mask in MASKS],
    "empty": [np.zeros_like(mask) for mask in MASKS],
    "full": [np.full_like(mask, 255) for mask in MASKS],
    "shuffled": MASKS[1:] + MASKS[:1],
    "middle": [np.pad(np.full((60, 80), 255, np.uint8), ((30, 30), (40, 40)))] * len(MASKS),
    "half of them empty": [mask * (place % 2) for place, mask in enumerate(MASKS)],
}
QUALITIES = {name: judged(maps) for name, maps in CANDIDATES.items()}


def test_the_true_map_is_best():
    scores = {name: quality.score for name, quality in QUALITIES.items()}
    assert scores["true"] > 0.6
    assert all(score < 0.75 * scores["true"] for name, score in scores.items() if name != "true"), scores
    assert scores["empty"] == scores["full"] == 0
    assert scores["inverted"] < 0.1  # the outline is the same, but the frame is ground
    assert abs(np.mean([image.alignment for image in QUALITIES["shuffled"].images])) < 0.35


def test_harm_is_seen():
    true = QUALITIES["true"]
    harms = {name: find_harm(quality, true) for name, quality in QUALITIES.items()}
    assert harms["true"] == harms["blurred"] == harms["shuffled"] == ""
    assert harms["half of them empty"].startswith("50% of the maps are empty")
    assert harms["empty"].startswith("100% of the maps are empty")
    assert harms["middle"] == "the maps are much the same whatever the image shows"
    assert find_harm(QUALITIES["half of them empty"], QUALITIES["empty"]) == ""  # no worse than the default


def test_the_default_is_kept_unless_another_is_better_beyond_doubt():
    assert choose({"default": QUALITIES["blurred"], "other": QUALITIES["true"]}, "default")[0] == "other"
    assert choose({"default": QUALITIES["true"], "other": QUALITIES["blurred"]}, "default")[0] == "default"
    assert choose({"default": QUALITIES["empty"], "other": QUALITIES["empty"]}, "default")[0] == "default"
    # Better on one image alone
    maps = [*CANDIDATES["blurred"][:-1], MASKS[-1]]
    name, reason = choose({"default": QUALITIES["blurred"], "other": judged(maps)}, "default")
    assert name == "default" and "may be chance" in reason


def test_a_harmful_candidate_is_not_chosen_though_its_score_is_higher():
    """Of the default's maps all are somewhat blurred; the candidate is right where it finds anything."""
    default = judged([blurred(mask, 8) for mask in MASKS])
    candidate = judged([mask * (place % 4 > 0) for place, mask in enumerate(MASKS)])
    assert candidate.score > default.score and default.empty == 0
    assert choose({"default": default, "other": candidate}, "default")[0] == "default"


def test_the_difference_is_that_of_the_same_images():
    gain, error = compare(QUALITIES["true"], QUALITIES["blurred"])
    assert gain == pytest.approx(QUALITIES["true"].score - QUALITIES["blurred"].score)
    assert 0 < error < gain / 3


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (1000, 700)])
def test_any_size_and_an_image_without_anything(size):
    photo = Image.new("RGB", size, "gray")
    levels = np.zeros(size[::-1], np.uint8)
    levels[: size[1] // 2 + 1] = 255
    quality = measure_image("a", photo, levels)
    assert -1 <= quality.alignment <= 0.3
    assert np.isfinite(list(quality.figures().values())).all()


def test_the_figures_of_a_folder_are_means():
    figures = QUALITIES["true"].figures()
    assert figures["object"] == pytest.approx(np.mean([mask.mean() / 255 for mask in MASKS]), abs=0.005)
    assert figures["empty"] == figures["border"] == 0
    assert set(figures) == {"quality", "alignment", "border", "object", "undecided", "empty", "alike"}


def test_no_map_is_an_error():
    with pytest.raises(DataError, match="no maps"):
        judge_folder([])
