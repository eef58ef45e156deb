"""The metrics equal the formulae, and read their inputs the one way."""

import numpy as np
import pytest
from PIL import Image

from hf_usod.evaluation import SaliencyMetrics


def example(seed, shape=(37, 53)):
    """A noisy 8-bit prediction of a rectangle, and the rectangle."""
    random = np.random.default_rng(seed)
    mask = np.zeros(shape, bool)
    mask[8:25, 10 + seed : 40] = True
    noise = random.normal(0, 40, shape)
    return np.clip(mask * 170 + 30 + noise, 0, 255).astype(np.uint8), mask


def expected(pairs):
    """Mean absolute error and adaptive F and E, straight from their definitions."""
    scores = []
    for prediction, mask in pairs:
        saliency = prediction / 255
        binary = saliency >= min(2 * saliency.mean(), 1)
        true = (binary & mask).sum()
        precision, recall = true / binary.sum(), true / mask.sum()
        f = 1.3 * precision * recall / (0.3 * precision + recall)
        a, b = binary - binary.mean(), mask - mask.mean()
        aligned = (1 + 2 * a * b / (a**2 + b**2)) ** 2 / 4
        scores.append([np.abs(saliency - mask).mean(), f, aligned.sum() / (mask.size - 1)])
    return np.mean(scores, axis=0)


def test_definitions():
    pairs = [example(seed) for seed in range(4)]
    metrics = SaliencyMetrics()
    for prediction, mask in pairs:
        metrics.step(prediction, mask)
    results = metrics.results()
    assert [results[name] for name in ("mae", "f_adaptive", "e_adaptive")] == pytest.approx(expected(pairs), abs=1e-6)
    assert results["f_max"] >= results["f_mean"] and results["e_max"] >= results["e_mean"]


def test_perfect_and_inverse_predictions():
    _, mask = example(0)
    perfect, inverse = SaliencyMetrics(), SaliencyMetrics()
    perfect.step(mask.astype(float), mask)
    inverse.step(1.0 - mask, mask)
    assert perfect.results()["mae"] == 0 and perfect.results()["f_adaptive"] == pytest.approx(1)
    assert perfect.results()["s_alpha"] == pytest.approx(1) and perfect.results()["f_weighted"] == pytest.approx(1)
    assert inverse.results()["mae"] == 1 and inverse.results()["f_adaptive"] == 0


def test_inputs_are_read_the_same_in_every_form():
    prediction, mask = example(1)
    forms = [
        (prediction, mask),
        (prediction / 255, mask.astype(np.uint8) * 255),
        (Image.fromarray(prediction), Image.fromarray(mask)),
        ((prediction / 255).astype(np.float32), mask.astype(float)),
    ]
    results = []
    for form in forms:
        metrics = SaliencyMetrics()
        metrics.step(*form)
        results.append(metrics.results())
    assert all(result == results[0] for result in results)


def test_predictions_are_resized_to_the_ground_truth_and_not_stretched():
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:40] = True
    metrics = SaliencyMetrics()
    metrics.step(np.full((20, 30), 51, np.uint8), mask)
    assert metrics.results()["mae"] == pytest.approx((0.8 * mask.mean()) + 0.2 * (1 - mask.mean()))


@pytest.mark.parametrize(
    "prediction, mask, message",
    [
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), bool), r"is \(H, W\)"),
        (np.full((4, 4), 7.0), np.zeros((4, 4), bool), r"in \[0, 1\]"),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), bool), r"is \(H, W\)"),
    ],
)
def test_bad_inputs(prediction, mask, message):
    with pytest.raises(ValueError, match=message):
        SaliencyMetrics().step(prediction, mask)
