"""Pseudo-labels of single images: threshold, refinement, median filter."""

import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from hf_usod.constants import REFINEMENTS
from hf_usod.labels import make_pseudo_label
from hf_usod.labels.pseudo_labels import otsu_threshold


def scene(noise=3):
    """A red square on green, and a saliency map that is 4 pixels off, soft, and has a speck."""
    image = Image.new("RGB", (80, 60), (40, 140, 50))
    ImageDraw.Draw(image).rectangle([20, 15, 54, 44], fill=(200, 40, 40))
    truth = np.asarray(image)[..., 0] > 100
    texture = np.random.default_rng(0).integers(0, noise, (60, 80, 3), dtype=np.uint8)
    saliency = np.clip(np.roll(truth, 4, axis=1) * 0.6 + 0.15, 0, 1)
    saliency[4:6, 4:6] = 0.9
    return saliency, np.asarray(image) + texture, truth


def error(label, truth):
    return np.abs(label.astype(float) - truth).mean()


@pytest.fixture
def crf():
    return pytest.importorskip("pydensecrf.densecrf", reason='pip install "hf_usod[crf]"')


@pytest.mark.parametrize(
    "levels",
    [
        np.random.default_rng(0).beta(0.4, 0.6, (30, 40)),
        np.random.default_rng(1).normal(0.2, 0.1, 1000).clip(0, 1),
        np.repeat([0.0, 1.0], 10),
        np.repeat([0.5, 0.51], [3, 900]),
        np.array([0.1, 0.2, 0.9]),
    ],
)
def test_otsu_is_the_best_split(levels):
    """Against a search over all thresholds for the least variance within the classes, which is the same."""
    levels = (levels * 255).round().astype(np.uint8)

    def within(threshold):
        low, high = levels[levels <= threshold], levels[levels > threshold]
        return len(low) * low.var() + len(high) * high.var()

    best = min(within(t) for t in range(levels.min(), levels.max()))
    assert within(otsu_threshold(levels)) == pytest.approx(best)


def test_levels_are_cut_off_and_not_rounded():
    """Otsu by OpenCV on floor(255 S), as the released program; where rounding would give another mask."""
    cv2 = pytest.importorskip("cv2")
    random = np.random.default_rng(3)
    different = 0
    for _ in range(20):
        saliency = random.beta(0.5, 0.8, (40, 50))
        levels = np.floor(255 * saliency).astype(np.uint8)
        expected = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[1]
        label = make_pseudo_label(saliency, np.zeros((40, 50, 3), np.uint8), "none")
        np.testing.assert_array_equal(label, expected)
        rounded = np.round(255 * saliency).astype(np.uint8)
        different += (cv2.threshold(rounded, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[1] != expected).any()
    assert different


def test_levels_by_hand():
    """254.9 / 255 is level 254, which Otsu puts on the dark side of a split between 254 and 255."""
    saliency = np.array([[254.9 / 255, 254.9 / 255, 1.0, 1.0]])
    assert make_pseudo_label(saliency, np.zeros((1, 4, 3), np.uint8), "none").tolist() == [[0, 0, 1, 1]]


def test_otsu_of_a_constant_map():
    assert otsu_threshold(np.full((3, 3), 7, np.uint8)) is None


def test_threshold_alone():
    saliency, image, truth = scene()
    label = make_pseudo_label(saliency, image, "none")
    assert label.dtype == np.uint8 and set(np.unique(label)) == {0, 1}
    expected = np.roll(truth, 4, axis=1)
    expected[4:6, 4:6] = True
    np.testing.assert_array_equal(label, expected)


def test_pixel_refinement_moves_toward_the_object():
    saliency, image, truth = scene()
    label = make_pseudo_label(saliency, image, "pixel")
    assert error(label, truth) < error(make_pseudo_label(saliency, image, "none"), truth)
    assert label[4:6, 4:6].sum() == 0  # the median filter takes specks


def test_crf_finds_the_object(crf):
    saliency, image, truth = scene()
    image.flags.writeable = False  # as Pillow's are
    label = make_pseudo_label(saliency, image)
    assert label.dtype == np.uint8 and label.shape == truth.shape
    assert error(label, truth) < 0.01 < error(make_pseudo_label(saliency, image, "none"), truth)


def test_crf_has_the_constants_of_the_method(crf):
    """Step by step as method section 4 says, but for the median filter, which is SciPy's."""
    from pydensecrf.utils import unary_from_labels
    from scipy.ndimage import median_filter

    saliency, image, _ = scene(noise=60)
    mask = make_pseudo_label(saliency, image, "none")
    model = crf.DenseCRF2D(80, 60, 2)
    model.setUnaryEnergy(unary_from_labels(mask.astype(int), 2, 0.7, zero_unsure=False))
    model.addPairwiseGaussian(sxy=3, compat=3)
    model.addPairwiseBilateral(sxy=50, srgb=5, rgbim=image, compat=10)
    expected = np.argmax(model.inference(10), axis=0).reshape(60, 80)
    expected = median_filter(expected, 7, mode="nearest")
    np.testing.assert_array_equal(make_pseudo_label(saliency, image), expected)


@pytest.mark.parametrize("refine", REFINEMENTS)
@pytest.mark.parametrize("value, expected", [(0.0, 0), (0.2, 0), (0.8, 1), (1.0, 1)])
def test_constant_maps(refine, value, expected):
    image = scene()[1]
    label = make_pseudo_label(np.full((60, 80), value), image, refine)
    assert (label == expected).all()


@pytest.mark.parametrize("refine", REFINEMENTS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (6, 6), (1, 50), (7, 1)])
def test_images_smaller_than_the_window(refine, shape):
    if refine == "crf":
        pytest.importorskip("pydensecrf")
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (*shape, 3), dtype=np.uint8)
    label = make_pseudo_label(random.uniform(size=shape), image, refine)
    assert label.shape == shape and label.max() <= 1


def test_a_missing_crf_says_what_to_install(monkeypatch):
    for name in ("pydensecrf", "pydensecrf.densecrf", "pydensecrf.utils"):  # those that were imported before, too
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "hf_usod\[crf\]"'):
        make_pseudo_label(*scene()[:2])


@pytest.mark.parametrize(
    "saliency, image, refine, message",
    [
        (np.zeros((4, 5)), np.zeros((5, 4, 3), np.uint8), "none", "of the size of"),
        (np.zeros((4, 5)), np.zeros((4, 5, 3)), "none", "expected uint8"),
        (np.full((4, 5), 255.0), np.zeros((4, 5, 3), np.uint8), "none", r"255..255, expected values in \[0, 1\]"),
        (np.full((4, 5), np.nan), np.zeros((4, 5, 3), np.uint8), "none", "nan"),
        (np.zeros((4, 5)), np.zeros((4, 5, 3), np.uint8), "crff", "expected one of crf, pixel, none"),
    ],
)
def test_bad_input(saliency, image, refine, message):
    with pytest.raises(ValueError, match=message):
        make_pseudo_label(saliency, image, refine)


def hard_scene(height=97, width=130):
    """A photo-like image with stripes, a gradient and noise, and a map with soft edges, holes and specks up to its
    borders, whose two kinds of levels overlap."""
    random = np.random.default_rng(7)
    y, x = np.mgrid[:height, :width]
    inside = ((y - 60) / 34) ** 2 + ((x - 20) / 46) ** 2 < 1  # cut by the left border
    inside |= (y > height - 9) & (x > 90)  # in a corner
    image = np.stack([40 + x, 60 + y, 90 + 40 * ((x // 9) % 2)], axis=-1) + inside[..., None] * np.array([90, 10, -60])
    image = (image + random.normal(0, 14, image.shape)).clip(0, 255).astype(np.uint8)
    saliency = 0.25 + 0.45 * np.roll(inside, (3, -5), (0, 1)) + random.normal(0, 0.13, inside.shape)
    saliency[40:44, 10:14] = 0.02
    saliency[0:3, 60:66] = saliency[5:8, -3:] = 0.97
    return saliency.clip(0, 1).astype(np.float32), image


def test_the_whole_label_is_the_released_programs(crf):
    """OpenCV's Otsu on levels that are cut off, pydensecrf, OpenCV's median filter: what the released program calls."""
    cv2 = pytest.importorskip("cv2")
    from pydensecrf.utils import unary_from_labels
    from scipy.ndimage import median_filter

    saliency, image = hard_scene()
    height, width = saliency.shape
    _, binary = cv2.threshold((saliency * 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    np.testing.assert_array_equal(make_pseudo_label(saliency, image, "none"), binary > 0)
    model = crf.DenseCRF2D(width, height, 2)
    model.setUnaryEnergy(unary_from_labels((binary > 0).astype(np.uint8), 2, gt_prob=0.7, zero_unsure=False))
    model.addPairwiseGaussian(sxy=3, compat=3)
    model.addPairwiseBilateral(sxy=50, srgb=5, rgbim=np.ascontiguousarray(image), compat=10)
    refined = np.argmax(np.array(model.inference(10)).reshape(2, height, width), axis=0).astype(np.uint8)
    expected = cv2.medianBlur(refined, 7)
    assert (expected != refined).any() and (refined != binary // 255).any()  # each step does something
    np.testing.assert_array_equal(make_pseudo_label(saliency, image), expected)
    # OpenCV repeats the border. Zeros beyond it, or the image reflected in it (SciPy's default), are another label
    np.testing.assert_array_equal(median_filter(refined, 7, mode="nearest"), expected)
    assert all((median_filter(refined, 7, mode=mode) != expected).any() for mode in ("constant", "reflect"))


def test_levels_of_the_released_otsu_where_two_thresholds_are_equally_good():
    """The lowest: with levels 10 and 200 alone every threshold between splits alike."""
    cv2 = pytest.importorskip("cv2")
    levels = np.repeat([10, 200], [30, 70]).astype(np.uint8).reshape(10, 10)
    assert cv2.threshold(levels, 0, 255, cv2.THRESH_OTSU)[0] == otsu_threshold(levels) == 10
