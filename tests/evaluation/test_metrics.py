"""The metrics equal PySODMetrics and the formulae, and read their inputs the one way."""

import numpy as np
import py_sod_metrics
import pytest
from PIL import Image

from hf_usod.evaluation import METRICS, SaliencyMetrics, score_image


def example(seed, shape=(37, 53)):
    """A noisy 8-bit prediction of a rectangle, and the rectangle."""
    random = np.random.default_rng(seed)
    mask = np.zeros(shape, bool)
    mask[8:25, 10 + seed : 40] = True
    noise = random.normal(0, 40, shape)
    return np.clip(mask * 170 + 30 + noise, 0, 255).astype(np.uint8), mask


def collect(pairs, **options):
    metrics = SaliencyMetrics(**options)
    for number, (prediction, mask) in enumerate(pairs):
        metrics.step(prediction, mask, id=str(number))
    return metrics


def reference(pairs, normalize):
    """The scores and the F and E curves by PySODMetrics alone; thresholds ascending."""
    mae, e, s, weighted = (getattr(py_sod_metrics, n)() for n in ("MAE", "Emeasure", "Smeasure", "WeightedFmeasure"))
    f = py_sod_metrics.FmeasureV2(
        {
            "f": py_sod_metrics.FmeasureHandler(with_dynamic=True, with_adaptive=True, beta=0.3),
            "precision": py_sod_metrics.PrecisionHandler(with_dynamic=True, with_adaptive=False),
            "recall": py_sod_metrics.RecallHandler(with_dynamic=True, with_adaptive=False),
        }
    )
    for prediction, mask in pairs:
        given = (prediction, mask * np.uint8(255)) if normalize else (prediction / 255, mask)
        for metric in (mae, e, s, weighted, f):
            metric.step(*given, normalize=normalize)
    f, e = f.get_results(), e.get_results()["em"]
    curves = {"e": e["curve"], **{name: f[name]["dynamic"] for name in ("f", "precision", "recall")}}
    scores = {
        "mae": mae.get_results()["mae"],
        "f_adaptive": f["f"]["adaptive"],
        "f_mean": f["f"]["dynamic"].mean(),
        "f_max": f["f"]["dynamic"].max(),
        "e_adaptive": e["adp"],
        "e_mean": e["curve"].mean(),
        "e_max": e["curve"].max(),
        "s_alpha": s.get_results()["sm"],
        "f_weighted": weighted.get_results()["wfm"],
    }
    return scores, {name: curve[::-1] for name, curve in curves.items()}


SHAPE = (20, 30)
ONE_PIXEL = np.zeros(SHAPE, bool)
ONE_PIXEL[4, 7] = True
CORNER = np.zeros(SHAPE, bool)
CORNER[:3, :5] = True
NOISE = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
PAIRS = {
    "noisy rectangles": [example(seed) for seed in range(4)],
    "narrow range": [((example(seed)[0] // 4) + 60, example(seed)[1]) for seed in range(3)],
    "empty ground truth": [(NOISE, np.zeros(SHAPE, bool))],
    "empty ground truth, empty prediction": [(np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, bool))],
    "all object": [(NOISE, np.ones(SHAPE, bool))],
    "one pixel": [(NOISE, ONE_PIXEL)],
    "corner": [(NOISE, CORNER)],
    "all black": [(np.zeros(SHAPE, np.uint8), CORNER)],
    "all white": [(np.full(SHAPE, 255, np.uint8), CORNER)],
    "constant": [(np.full(SHAPE, 77, np.uint8), CORNER)],
    "binary prediction": [((NOISE > 99) * np.uint8(255), CORNER)],
    "perfect": [(CORNER * np.uint8(255), CORNER)],
}


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("case", PAIRS)
def test_equals_pysodmetrics(case, normalize):
    metrics = collect(PAIRS[case], normalize=normalize)
    scores, curves = reference(PAIRS[case], normalize)
    assert metrics.results() == pytest.approx(scores, abs=1e-9)
    assert list(metrics.results()) == list(METRICS)
    for name, curve in metrics.curves().items():
        np.testing.assert_allclose(curve, curves[name], atol=1e-9, err_msg=name)


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
    pairs = PAIRS["noisy rectangles"]
    results = collect(pairs).results()
    assert [results[name] for name in ("mae", "f_adaptive", "e_adaptive")] == pytest.approx(expected(pairs), abs=1e-6)


def test_numbers_by_hand():
    """Found are the pixels above min(2 * 0.45, 1): the last alone. P = 1, R = 1/2, F = 1.3/2 / (0.3 + 1/2); the terms
    of E are (1 + 4/5)^2/4 twice, (1 - 4/5)^2/4 and (1 + 12/13)^2/4, over 3."""
    saliency, mask = np.array([[0.0, 0.2], [0.6, 1.0]]), np.array([[0, 0], [1, 1]])
    results = collect([(saliency, mask)]).results()
    assert results["mae"] == pytest.approx((0.2 + 0.4) / 4)
    assert results["f_adaptive"] == pytest.approx(0.8125)
    assert results["e_adaptive"] == pytest.approx((2 * 0.81 + 0.01 + 625 / 676) / 3)
    # Levels 0, 51, 153, 255. Thresholds up to 0 find all four, up to 51 three, up to 153 two, up to 255 one
    f = [1.3 * p * r / (0.3 * p + r) for p, r in ((2 / 4, 1), (2 / 3, 1), (1, 1), (1, 1 / 2))]
    assert results["f_max"] == pytest.approx(1)
    assert results["f_mean"] == pytest.approx((1 * f[0] + 51 * f[1] + 102 * f[2] + 102 * f[3]) / 256)


def test_predictions_are_rounded_to_levels_and_not_cut_off():
    """99.6 is level 100. (Where the method makes a label it cuts off; where it measures it rounds.)"""
    prediction = np.full((4, 4), 99.6 / 255)
    assert collect([(prediction, np.zeros((4, 4), bool))]).results()["mae"] == pytest.approx(100 / 255)


def structure(saliency, mask):
    """S at alpha = 0.5, from its paper (Fan et al., ICCV 2017): of regions and of objects."""

    def similarity(x, y):
        covariance = ((x - x.mean()) * (y - y.mean())).sum() / (x.size - 1)
        above = 4 * x.mean() * y.mean() * covariance
        below = (x.mean() ** 2 + y.mean() ** 2) * (x.var(ddof=1) + y.var(ddof=1))
        return above / below if above else float(below == 0)

    def of_object(x):
        return 2 * x.mean() / (x.mean() ** 2 + 1 + x.std(ddof=1))

    rows, columns = np.nonzero(mask)
    row, column = round(rows.mean()) + 1, round(columns.mean()) + 1
    quarters = [np.s_[:row, :column], np.s_[:row, column:], np.s_[row:, :column], np.s_[row:, column:]]
    regions = sum(similarity(saliency[q], mask[q].astype(float)) * mask[q].size / mask.size for q in quarters)
    share = mask.mean()
    objects = share * of_object(saliency[mask]) + (1 - share) * of_object(1 - saliency[~mask])
    return 0.5 * objects + 0.5 * regions


def weighted(saliency, mask):
    """Weighted F, beta = 1, from its paper (Margolin et al., CVPR 2014), pixel by pixel."""
    error = np.abs(saliency - mask)
    places = np.argwhere(mask)
    distance, carried = np.zeros(mask.shape), error.copy()
    for place in np.argwhere(~mask):
        distances = np.sqrt(((places - place) ** 2).sum(axis=1))
        distance[tuple(place)] = distances.min()
        carried[tuple(place)] = error[tuple(places[distances.argmin()])]
    y, x = np.mgrid[-3:4, -3:4]
    window = np.exp(-(y**2 + x**2) / (2 * 5**2))
    window /= window.sum()
    padded = np.pad(carried, 3)
    true, false = 0.0, 0.0
    for row, column in np.ndindex(mask.shape):
        if mask[row, column]:
            smooth = (padded[row : row + 7, column : column + 7] * window).sum()
            true += 1 - min(error[row, column], smooth)
        else:
            false += error[row, column] * (2 - np.exp(np.log(0.5) / 5 * distance[row, column]))
    recall, precision = true / mask.sum(), true / (true + false)
    return 2 * recall * precision / (recall + precision)


def test_structure_and_weighted_f_are_their_papers():
    for prediction, mask in PAIRS["noisy rectangles"]:
        scores = score_image(prediction, mask).scores
        assert scores["s_alpha"] == pytest.approx(structure(prediction / 255, mask), abs=1e-9)
        assert scores["f_weighted"] == pytest.approx(weighted(prediction / 255, mask), abs=1e-9)


def test_curves_and_maxima_by_their_definition():
    pairs = PAIRS["noisy rectangles"]
    metrics = collect(pairs)
    curves = np.zeros((3, 256))
    for prediction, mask in pairs:
        for level in range(256):
            found = prediction >= level
            true = (found & mask).sum()
            precision, recall = true / max(found.sum(), 1), true / mask.sum()
            f = 1.3 * precision * recall / (0.3 * precision + recall) if true else 0
            curves[:, level] += np.array([precision, recall, f]) / len(pairs)
    np.testing.assert_allclose(np.stack([metrics.curves()[n] for n in ("precision", "recall", "f")]), curves, atol=1e-9)
    assert metrics.results()["f_max"] == pytest.approx(curves[2].max())
    assert metrics.results()["f_mean"] == pytest.approx(curves[2].mean())


@pytest.mark.parametrize("place", [np.s_[:, -1], np.s_[-1, :], np.s_[-1, -1]])
def test_an_object_at_the_last_edge_has_a_structure_score(place):
    mask = np.zeros(SHAPE, bool)
    mask[place] = True
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning):
        assert np.isnan(py_sod_metrics.Smeasure().cal_sm(NOISE / 255, mask))  # why it is done otherwise here
    score = score_image(NOISE, mask).scores["s_alpha"]
    assert 0 <= score < score_image(mask, mask).scores["s_alpha"] == pytest.approx(1)


def test_perfect_and_inverse_predictions():
    _, mask = example(0)
    perfect, inverse = collect([(mask.astype(float), mask)]).results(), collect([(1.0 - mask, mask)]).results()
    assert perfect["mae"] == 0 and perfect["f_adaptive"] == pytest.approx(1)
    assert perfect["s_alpha"] == pytest.approx(1) and perfect["f_weighted"] == pytest.approx(1)
    assert inverse["mae"] == 1 and inverse["f_adaptive"] == 0


def test_images_without_an_object_are_counted():
    metrics = collect([*PAIRS["empty ground truth"], *PAIRS["corner"]])
    assert metrics.num_empty == 1 and len(metrics) == 2
    assert metrics.rows[0]["f_adaptive"] == 0 and metrics.rows[0]["foreground"] == 0


def test_inputs_are_read_the_same_in_every_form():
    prediction, mask = example(1)
    forms = [
        (prediction, mask),
        (prediction / 255, mask.astype(np.uint8) * 255),
        (prediction.astype(np.uint16) * 257, mask.astype(np.uint8)),
        (prediction.astype(np.int64), mask.astype(np.uint16) * 65535),
        (Image.fromarray(prediction), Image.fromarray(mask)),
        ((prediction / 255).astype(np.float32), mask.astype(float)),
    ]
    results = [collect([form]).results() for form in forms]
    assert all(result == results[0] for result in results)


def test_gray_ground_truth_is_cut_at_half_of_its_range():
    gray = np.array([[0, 127, 128, 255]], np.uint8).repeat(4, 0)
    cut = np.array([[False, False, True, True]]).repeat(4, 0)
    prediction = NOISE[:4, :4]
    for truth in (gray, gray / 255, gray.astype(np.uint16) * 257):
        assert score_image(prediction, truth).scores == score_image(prediction, cut).scores


def test_predictions_are_resized_to_the_ground_truth_and_not_stretched():
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:40] = True
    metrics = collect([(np.full((20, 30), 51, np.uint8), mask)])
    assert metrics.results()["mae"] == pytest.approx((0.8 * mask.mean()) + 0.2 * (1 - mask.mean()))


def test_merged_is_as_collected_by_one():
    pairs = PAIRS["noisy rectangles"]
    whole = collect(pairs)
    merged = collect(pairs[:1]).merge(SaliencyMetrics()).merge(collect(pairs[1:]))
    assert merged.results() == pytest.approx(whole.results(), abs=1e-12)
    assert [row["mae"] for row in merged.rows] == [row["mae"] for row in whole.rows]
    with pytest.raises(ValueError, match="do not merge"):
        merged.merge(SaliencyMetrics(normalize=True))


def test_results_are_the_means_of_the_rows():
    metrics = collect(PAIRS["noisy rectangles"])
    for name in ("mae", "f_adaptive", "f_mean", "e_adaptive", "e_mean", "s_alpha", "f_weighted"):
        assert np.mean([row[name] for row in metrics.rows]) == pytest.approx(metrics.results()[name])
    assert [row["id"] for row in metrics.rows] == ["0", "1", "2", "3"]


def test_no_images_no_scores():
    with pytest.raises(ValueError, match="no image was added"):
        SaliencyMetrics().results()


@pytest.mark.parametrize(
    "prediction, mask, message",
    [
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), bool), r"is \(H, W\)"),
        (np.full((4, 4), 7.0), np.zeros((4, 4), bool), r"in \[0, 1\]"),
        (np.full((4, 4), np.nan), np.zeros((4, 4), bool), r"in \[0, 1\]"),
        (np.full((4, 4), -3), np.zeros((4, 4), bool), r"0\.\.255"),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), bool), r"is \(H, W\)"),
        (np.zeros((4, 4), np.uint8), np.full((4, 4), 255.0), r"in \[0, 1\]"),
        (np.zeros((4, 4), np.uint8), np.full((4, 4), -1), r"0\.\.255"),
    ],
)
def test_bad_inputs(prediction, mask, message):
    with pytest.raises(ValueError, match=message):
        SaliencyMetrics().step(prediction, mask)
