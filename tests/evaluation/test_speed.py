"""All metrics take less than 60% of the time of a plain serial loop of PySODMetrics."""

import os
import time

import numpy as np
import py_sod_metrics
import pytest
from PIL import Image, ImageFilter

from hf_usod.evaluation import map_samples, score_maps

NUM_IMAGES, SIZE = int(os.environ.get("HF_USOD_SPEED_IMAGES", 100)), (400, 300)


def plain_loop(maps, masks):
    """What one writes by PySODMetrics' README; its current F is FmeasureV2."""
    handler = py_sod_metrics.FmeasureHandler(with_dynamic=True, with_adaptive=True, beta=0.3)
    names = ("MAE", "Emeasure", "Smeasure", "WeightedFmeasure")
    metrics = [getattr(py_sod_metrics, name)() for name in names] + [py_sod_metrics.FmeasureV2({"f": handler})]
    for prediction, mask in zip(maps, masks, strict=True):
        pair = [np.asarray(Image.open(path).convert("L")) for path in (prediction, mask)]
        for metric in metrics:
            metric.step(*pair)
    return metrics[0].get_results()["mae"]


@pytest.mark.slow
def test_speed(tmp_path):
    random = np.random.default_rng(0)
    for folder in ("maps", "GT"):
        (tmp_path / folder).mkdir()
    for number in range(NUM_IMAGES):
        blob = Image.fromarray((random.random((6, 8)) > 0.6).astype(np.uint8) * 255).resize(SIZE)
        mask = blob.filter(ImageFilter.GaussianBlur(8)).point(lambda level: 255 * (level > 127))
        mask.save(tmp_path / f"GT/{number:04d}.png")
        noisy = np.asarray(mask.filter(ImageFilter.GaussianBlur(5))) * 0.8 + random.normal(20, 12, SIZE[::-1])
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / f"maps/{number:04d}.png")
    samples, maps = map_samples(tmp_path / "maps", tmp_path / "GT")
    times = {}
    for workers in (0, 2):
        start = time.perf_counter()
        metrics = score_maps(samples, maps, normalize=True, num_workers=workers, progress=False)
        times[f"{workers} processes"] = time.perf_counter() - start
    start = time.perf_counter()
    mae = plain_loop(maps, [sample.mask for sample in samples])
    times["plain"] = time.perf_counter() - start
    assert metrics.results()["mae"] == pytest.approx(mae, abs=1e-9)
    shown = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in times.items())
    print(f"{NUM_IMAGES} images of {SIZE[0]} x {SIZE[1]}: {shown}")
    fastest = min(times["0 processes"], times["2 processes"])  # a machine may have a core, or other work
    assert fastest < 0.6 * times["plain"], shown
