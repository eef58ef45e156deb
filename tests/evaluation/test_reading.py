"""Whatever a mask or a map is kept in, it reads as what it is or is refused by name, by the command and `evaluate`."""

import io

import numpy as np
import pytest
from PIL import Image

from hf_usod.errors import DataError
from hf_usod.evaluation import EvaluationSample, EvaluationSet, SaliencyMetrics, evaluate_maps, score_maps
from hf_usod.evaluation.reading import read_ground_truth, read_prediction, upright_size
from hf_usod.evaluation.usod_saliency.reading import as_mask

HEIGHT, WIDTH = 48, 64
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
MASK = (ROWS - 20) ** 2 + (COLUMNS - 30) ** 2 < 150
WHITE = MASK * np.uint8(255)
SOFT = (np.exp(-((ROWS - 20) ** 2 + (COLUMNS - 30) ** 2) / 300) * 240).round().astype(np.uint8)
PHOTO = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
EVERYWHERE = np.ones((HEIGHT, WIDTH), np.uint8)


def rgba(rgb, alpha):
    rgb = np.broadcast_to(np.asarray(rgb, np.uint8), (HEIGHT, WIDTH, 3)) if np.ndim(rgb) == 1 else rgb
    return Image.fromarray(np.dstack([rgb, alpha]).astype(np.uint8))


def gray(levels, alpha=None):
    return rgba(np.dstack([levels] * 3), EVERYWHERE * 255 if alpha is None else alpha)


def colored(color):
    return Image.fromarray((MASK[..., None] * np.asarray(color)).astype(np.uint8))


def palette(*colors, indices=None):
    picture = Image.fromarray(MASK.astype(np.uint8) if indices is None else indices, "P")
    picture.putpalette([level for color in colors for level in color])
    return picture


def with_transparency(picture, index):
    picture.info["transparency"] = index
    return picture


def turned(picture, orientation):
    """A picture kept turned, with the EXIF orientation that turns it back."""
    kept = picture.transpose({3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation])
    kept.getexif()[0x0112] = orientation
    return kept


def saved(tmp_path, picture, name="mask.png", **options):
    path = tmp_path / name
    if name.endswith(("jpg", "png", "tif")) and picture.getexif():
        options["exif"] = picture.getexif()
    picture.save(path, **options)
    return path


OBJECTS = np.where(MASK & (COLUMNS > 30), 2, MASK).astype(np.uint8)
MASKS = {
    "alpha 254": gray(WHITE, EVERYWHERE * 254),
    "alpha 1": gray(WHITE, EVERYWHERE),
    "alpha 0, gray": gray(WHITE, EVERYWHERE * 0),
    "alpha 250..255": gray(WHITE, 250 + COLUMNS % 6),
    "alpha 0, red": rgba(np.asarray(colored((200, 0, 0))), EVERYWHERE * 0),
    "alpha 254, red": rgba(np.asarray(colored((200, 0, 0))), EVERYWHERE * 254),
    "nearly opaque rim": gray(WHITE, np.where(ROWS < 3, 200, 255)),
    "gray with constant alpha": Image.fromarray(np.dstack([WHITE, EVERYWHERE * 254])),
    "white, alpha is the mask": rgba((255, 255, 255), WHITE),
    "black, alpha is the mask": rgba((0, 0, 0), WHITE),
    "premultiplied": gray(WHITE, WHITE),
    "photo, alpha is the mask": rgba(PHOTO, WHITE),
    "levels 0 and 1": Image.fromarray(MASK * np.uint8(1)),
    "levels 0 and 2": Image.fromarray(MASK * np.uint8(2)),
    "levels 0 and 100": Image.fromarray(MASK * np.uint8(100)),
    "levels 1 and 255": Image.fromarray(np.where(MASK, 255, 1).astype(np.uint8)),
    "levels 10 and 245": Image.fromarray(np.where(MASK, 245, 10).astype(np.uint8)),
    "1 bit": Image.fromarray(MASK),
    "16 bit": Image.fromarray(MASK * np.uint16(65535)),
    "16 bit, 0 and 255": Image.fromarray(MASK * np.uint16(255)),
    "16 bit, 0 and 1": Image.fromarray(MASK * np.uint16(1)),
    "16 bit, 0 and 4095": Image.fromarray(MASK * np.uint16(4095)),
    "palette, white": palette((0, 0, 0), (255, 255, 255)),
    "palette, red": palette((0, 0, 0), (128, 0, 0)),
    "palette, white first": palette((255, 255, 255), (0, 0, 0), indices=1 - MASK.astype(np.uint8)),
    "palette of levels 0, 2": palette((0, 0, 0), (2, 2, 2)),
    "palette, two objects": palette((0, 0, 0), (64, 0, 0), (192, 128, 0), indices=OBJECTS),
    "palette, transparent ground": with_transparency(palette((255, 0, 255), (255, 0, 0)), 0),
    "red": colored((200, 0, 0)),
}
TIFF_MASKS = {
    "32 bit": Image.fromarray(MASK * np.int32(70000)),
    "float": Image.fromarray(MASK.astype(np.float32)),
    "float 0.3": Image.fromarray(MASK * np.float32(0.3)),
}


@pytest.mark.parametrize("kind", MASKS)
def test_masks(tmp_path, kind):
    np.testing.assert_array_equal(as_mask(read_ground_truth(saved(tmp_path, MASKS[kind]))), MASK)


@pytest.mark.parametrize("kind", TIFF_MASKS)
def test_masks_in_tiff(tmp_path, kind):
    np.testing.assert_array_equal(as_mask(read_ground_truth(saved(tmp_path, TIFF_MASKS[kind], "mask.tif"))), MASK)


def test_tiff_whose_white_is_zero(tmp_path):
    path = saved(tmp_path, Image.fromarray(65535 - MASK * np.uint16(65535)), "mask.tif", tiffinfo={262: 0})
    np.testing.assert_array_equal(as_mask(read_ground_truth(path)), MASK)


@pytest.mark.parametrize("quality", [95, 75, 40])
@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(WHITE),
        Image.fromarray(np.dstack([np.where(MASK, 248, 6)] * 3).astype(np.uint8)),
        colored((200, 0, 0)),
    ],
    ids=["gray", "near white and near black", "red"],
)
def test_masks_that_went_through_jpeg(tmp_path, picture, quality):
    read = as_mask(read_ground_truth(saved(tmp_path, picture, "mask.jpg", quality=quality)))
    assert np.mean(read != MASK) < 0.02 and np.mean(read[MASK]) > 0.95


def test_noise_of_colors_in_black_and_white_is_no_color(tmp_path):
    noise = np.random.default_rng(0).integers(-20, 21, (HEIGHT, WIDTH, 3))
    picture = Image.fromarray((np.where(MASK, 230, 25)[..., None] + noise).astype(np.uint8))
    np.testing.assert_array_equal(as_mask(read_ground_truth(saved(tmp_path, picture))), MASK)


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("name", ["mask.png", "mask.tif", "mask.jpg"])
def test_masks_are_turned_as_exif_says(tmp_path, orientation, name):
    path = saved(tmp_path, turned(Image.fromarray(WHITE), orientation), name)
    assert np.mean(as_mask(read_ground_truth(path)) != MASK) < 0.02
    assert upright_size(path) == (HEIGHT, WIDTH)
    assert np.mean((read_prediction(path) > 127) != MASK) < 0.02


EMPTY = {
    "black": Image.new("L", (WIDTH, HEIGHT)),
    "white, alpha 0": rgba((255, 255, 255), EVERYWHERE * 0),
    "photo, alpha 0": rgba(PHOTO, EVERYWHERE * 0),
    "16 bit": Image.fromarray(EVERYWHERE.astype(np.uint16) * 0),
    "palette": palette((0, 0, 0), (255, 255, 255), indices=EVERYWHERE * 0),
    "1 bit": Image.new("1", (WIDTH, HEIGHT)),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_masks_without_object(tmp_path, kind):
    path = saved(tmp_path, EMPTY[kind])
    assert not as_mask(read_ground_truth(path)).any() and not read_prediction(path).any()


@pytest.mark.parametrize("levels", [EVERYWHERE * 255, EVERYWHERE, np.where(MASK, 250, 255).astype(np.uint8)])
def test_masks_that_are_all_object(tmp_path, levels):
    assert as_mask(read_ground_truth(saved(tmp_path, Image.fromarray(levels)))).all()


NO_MASKS = {
    "class ids": (Image.fromarray(OBJECTS), r"levels 0, 1, 2 \(of 255\): class ids"),
    "twenty class ids": (Image.fromarray((COLUMNS // 4).astype(np.uint8)), r"levels 0, 1, 2, 3, 4, 5, … 15"),
    "ids without background": (Image.fromarray(OBJECTS + np.uint8(1)), "levels 1, 2, 3"),
    "ids and a rim of 255": (Image.fromarray(np.where(ROWS == 9, 255, MASK).astype(np.uint8)), "levels 0, 1, 255"),
    "palette of ids": (palette((0, 0, 0), (1, 1, 1), (2, 2, 2), indices=OBJECTS), "levels 0, 1, 2"),
    "12 of 16 bits": (Image.fromarray(SOFT.astype(np.uint16) * 17), r"\(of 65535\)"),
    "one gray": (Image.fromarray(EVERYWHERE * 100), "levels 100"),
    "light grays": (Image.fromarray(np.where(MASK, 255, 200).astype(np.uint8)), "levels 200, 255"),
    "photo": (Image.fromarray(PHOTO), "as many colors as a photo"),
    "no black": (palette((68, 1, 84), (253, 231, 37)), r"nowhere black \(RGB \(68, 1, 84\), \(253, 231, 37\)"),
    "two masks": (gray(WHITE, np.roll(WHITE, 20, 1)), "two masks, one in its colors and one in its alpha"),
}


@pytest.mark.parametrize("kind", NO_MASKS)
def test_what_is_no_mask_is_refused_by_name(tmp_path, kind):
    picture, message = NO_MASKS[kind]
    path = saved(tmp_path, picture)
    with pytest.raises(DataError, match=rf"mask\.png.*{message}"):
        score_maps([EvaluationSample("mask", path)], [SOFT], progress=False, num_workers=0)


MAPS = {
    "L": Image.fromarray(SOFT),
    "RGB": Image.fromarray(SOFT).convert("RGB"),
    "alpha 254": gray(SOFT, EVERYWHERE * 254),
    "alpha of a white cutout": rgba((255, 255, 255), SOFT),
    "alpha of a photo": rgba(PHOTO, SOFT),
    "alpha of a gray photo": gray(PHOTO[..., 0], SOFT),
    "16 bit": Image.fromarray(SOFT.astype(np.uint16) * 257),
    "turned": turned(Image.fromarray(SOFT), 6),
}


@pytest.mark.parametrize("kind", MAPS)
def test_maps(tmp_path, kind):
    metrics = score_maps(
        [EvaluationSample("map", saved(tmp_path, Image.fromarray(WHITE)))],
        [saved(tmp_path, MAPS[kind], "map.png")],
        progress=False,
    )
    assert metrics.results() == expected(SOFT)


def expected(levels):
    metrics = SaliencyMetrics()
    metrics.step(levels, MASK)
    return metrics.results()


@pytest.mark.parametrize(
    "array",
    [
        SOFT,
        SOFT / 255,
        (SOFT / 255).astype(np.float32),
        SOFT.astype(np.uint16) * 257,
        SOFT[None],
        SOFT[..., None] / 255,
    ],
    ids=["uint8", "float64", "float32", "uint16", "(1, H, W)", "(H, W, 1)"],
)
def test_maps_as_numpy_saves_them(tmp_path, array):
    np.save(tmp_path / "map.npy", array)
    sample = EvaluationSample("map", saved(tmp_path, Image.fromarray(WHITE)))
    assert score_maps([sample], [tmp_path / "map.npy"], progress=False).results() == expected(SOFT)


def _nan(place):
    levels = SOFT / 255
    levels[place] = np.nan
    return levels


@pytest.mark.parametrize(
    "array, message",
    [
        (_nan((0, 0)), r"in \[0, 1\], got nan"),
        (_nan(MASK), r"in \[0, 1\], got nan"),
        (np.where(MASK, np.inf, 0), r"in \[0, 1\], got 0\.\.inf"),
        (SOFT.astype(np.float32), r"in \[0, 1\], got 1\.\.240"),
        (SOFT.astype(np.int32) - 2, r"0\.\.65535, got -1"),
        (np.zeros((2, HEIGHT, WIDTH)), r"shape \(2, 48, 64\)"),
        (np.zeros(7), r"shape \(7,\)"),
        (np.full((HEIGHT, WIDTH), "a"), "holds numbers"),
        (np.full((HEIGHT, WIDTH), None), "cannot be read as an array"),
    ],
)
def test_arrays_that_are_no_maps_are_refused_by_name(tmp_path, array, message):
    np.save(tmp_path / "map.npy", array)
    sample = EvaluationSample("map", saved(tmp_path, Image.fromarray(WHITE)))
    with pytest.raises(DataError, match=rf"map\.npy.*{message}"):
        score_maps([sample], [tmp_path / "map.npy"], progress=False)


def test_float_pictures_with_nan_are_refused(tmp_path):
    path = saved(tmp_path, Image.fromarray(_nan((3, 3)).astype(np.float32)), "map.tif")
    with pytest.raises(DataError, match=r"map\.tif.*got nan"):
        score_maps([EvaluationSample("map", saved(tmp_path, Image.fromarray(WHITE)))], [path], progress=False)


@pytest.mark.parametrize(
    "levels",
    [MASK * np.uint8(1), MASK * np.uint16(1), SOFT.astype(np.uint16), EVERYWHERE],
    ids=["0 and 1", "0 and 1 in 16 bits", "8-bit levels in 16 bits", "all 1"],
)
@pytest.mark.parametrize("suffix", ["png", "npy"])
def test_maps_on_another_scale_are_not_scored_as_black(tmp_path, levels, suffix):
    path = tmp_path / f"maps/a.{suffix}"
    path.parent.mkdir()
    np.save(path, levels) if suffix == "npy" else Image.fromarray(levels).save(path)
    black = saved(tmp_path, Image.new("L", (WIDTH, HEIGHT)), "black.png")
    mask = saved(tmp_path, Image.fromarray(WHITE))
    dataset = EvaluationSet("photos", [EvaluationSample("a", mask), EvaluationSample("b", mask)])
    with pytest.raises(DataError, match=r"maps: none of the 2 maps goes above level .* of 255"):
        evaluate_maps("method", dataset, [path, black], progress=False)
    other = saved(tmp_path, Image.fromarray(SOFT), "other.png")  # one dark map among others is one
    assert len(evaluate_maps("method", dataset, [path, other], progress=False).metrics) == 2
    assert len(evaluate_maps("method", dataset, [black, black], progress=False).metrics) == 2


def test_a_map_that_is_turned_is_refused_and_another_size_is_not(tmp_path):
    sample = EvaluationSample("a", saved(tmp_path, Image.fromarray(WHITE)))
    for size in ((WIDTH * 2, HEIGHT * 2), (40, 40), (80, 40)):
        assert len(score_maps([sample], [np.asarray(Image.fromarray(SOFT).resize(size))], progress=False)) == 1
    for levels in (SOFT.T, np.asarray(Image.fromarray(SOFT.T).resize((HEIGHT * 2, WIDTH * 2)))):
        with pytest.raises(DataError, match=r"mask\.png: The map is \d+ x \d+, .* 64 x 48: one of them is turned"):
            score_maps([sample], [levels], progress=False)


@pytest.mark.parametrize("num_maps", [0, 2, 4])
@pytest.mark.parametrize("few", [16, 0])
def test_one_map_for_each_sample(tmp_path, monkeypatch, num_maps, few):
    monkeypatch.setattr("hf_usod.evaluation.scoring.FEW", few)
    samples = [EvaluationSample(str(number), saved(tmp_path, Image.fromarray(WHITE))) for number in range(3)]
    with pytest.raises(ValueError, match=r"maps .*3 samples; one for each"):
        score_maps(samples, (SOFT for _ in range(num_maps)), progress=False, num_workers=(few and 0) or 2)


ALIKE = {
    "alpha 254": (MASKS["alpha 254"], MAPS["L"]),
    "cutouts": (MASKS["white, alpha is the mask"], MAPS["alpha of a photo"]),
    "levels 0 and 2": (MASKS["levels 0 and 2"], MAPS["L"]),
    "red palette": (MASKS["palette, red"], MAPS["RGB"]),
    "16 bit": (MASKS["16 bit"], MAPS["16 bit"]),
    "1 bit": (MASKS["1 bit"], MAPS["L"]),
}


@pytest.fixture
def metric(monkeypatch):
    """The class of the `evaluate` module, fed as `evaluate` feeds it, without its cache."""
    pytest.importorskip("evaluate", reason="pip install evaluate")
    from hf_usod.evaluation.usod_saliency.usod_saliency import UsodSaliency

    return lambda maps, masks: UsodSaliency._compute(None, maps, masks)


def reopened(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return Image.open(io.BytesIO(file.getvalue()))


@pytest.mark.parametrize("kind", ALIKE)
def test_the_evaluate_module_reads_pictures_as_the_command_does(tmp_path, metric, kind):
    mask, levels = ALIKE[kind]
    sample = EvaluationSample("a", saved(tmp_path, mask))
    by_command = score_maps([sample], [saved(tmp_path, levels, "map.png")], progress=False).results()
    assert metric([reopened(levels)], [reopened(mask)]) == by_command == expected(SOFT)


@pytest.mark.parametrize(
    "mask, levels, message",
    [
        (NO_MASKS["class ids"][0], MAPS["L"], "pair 0: .*levels 0, 1, 2"),
        (MASKS["red"], Image.fromarray(PHOTO), "pair 0: is in color"),
        (MASKS["red"], Image.fromarray(MASK * np.uint8(1)), "none of the 1 maps goes above"),
    ],
)
def test_the_evaluate_module_refuses_what_the_command_refuses(metric, mask, levels, message):
    with pytest.raises(ValueError, match=message):
        metric([reopened(levels)], [reopened(mask)])
