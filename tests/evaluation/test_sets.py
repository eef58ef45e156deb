"""Pairing of files, and how maps and masks are read."""

import numpy as np
import pytest
from PIL import Image

from hf_usod.evaluation import SaliencyMetrics, folder_samples, map_samples, score_maps
from hf_usod.evaluation.reading import read_ground_truth, read_prediction

LEVELS = np.random.default_rng(0).integers(0, 256, (8, 10)).astype(np.uint8)
MASK = LEVELS > 127


def test_files_pair_by_their_place(data):
    samples = folder_samples(data / "RGB", data / "GT", data / "maps")
    assert [sample.id for sample in samples] == ["a/000", "a/002", "a/004", "b/001", "b/003", "b/005"]
    for sample in samples:
        assert {path.relative_to(data).parts[1:] for path in (sample.mask, sample.aux)} == {
            (sample.id.split("/")[0], f"{sample.id.split('/')[1]}.png")
        }
        assert sample.image.stem == sample.mask.stem


def test_an_image_without_auxiliary_map_has_none(data):
    (data / "maps/a/000.png").unlink()
    assert [sample.aux is None for sample in folder_samples(data / "RGB", data / "GT", data / "maps")].count(True) == 1


@pytest.mark.parametrize(
    "damage, error, message",
    [
        (lambda data: (data / "GT/b/003.png").unlink(), FileNotFoundError, r"GT: no ground truth for 1 of 6: b/003"),
        (lambda data: (data / "RGB/a/000.png").write_bytes(b""), ValueError, r"a/000.png: has the same name as 000"),
    ],
)
def test_images_that_do_not_pair(data, damage, error, message):
    damage(data)
    with pytest.raises(error, match=message):
        folder_samples(data / "RGB", data / "GT")


def test_missing_maps_are_named_or_left_out_on_request(data):
    (data / "maps/a/002.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"no map for 1 of 6: a/002 .*--partial"):
        map_samples(data / "maps", data / "GT")
    samples, maps = map_samples(data / "maps", data / "GT", partial=True)
    assert len(samples) == len(maps) == 5
    with pytest.raises(FileNotFoundError, match="no map for 6 of 6"):
        map_samples(data / "RGB" / "a", data / "GT", partial=True)


def cutout(opacity):
    colors = np.random.default_rng(1).integers(0, 256, (8, 10, 3)).astype(np.uint8)
    return Image.fromarray(np.dstack([colors, opacity]))


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(LEVELS),
        Image.fromarray(LEVELS).convert("RGB"),
        Image.fromarray(LEVELS).convert("RGBA"),  # opaque: a gray map saved with an alpha channel
        Image.fromarray(LEVELS.astype(np.uint16) * 257),
        cutout(LEVELS),  # as rembg writes it
    ],
    ids=["L", "RGB", "RGBA", "16 bit", "cutout"],
)
def test_maps_in_any_form(tmp_path, picture):
    picture.save(tmp_path / "map.png")
    metrics = SaliencyMetrics()
    metrics.step(read_prediction(tmp_path / "map.png"), LEVELS)
    expected = SaliencyMetrics()
    expected.step(LEVELS, LEVELS)
    assert metrics.results() == expected.results()


def palette(color):
    picture = Image.fromarray(MASK.astype(np.uint8), "P")
    picture.putpalette([0, 0, 0, *color])
    return picture


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(MASK),
        Image.fromarray(MASK * np.uint8(255)),
        Image.fromarray(MASK.astype(np.uint8)),
        palette((255, 255, 255)),
        palette((128, 0, 0)),  # as DAVIS stores its objects
        Image.fromarray(np.stack([MASK * np.uint8(200), MASK * np.uint8(0), MASK * np.uint8(0)], -1)),
    ],
    ids=["1", "0/255", "0/1", "white palette", "red palette", "red"],
)
def test_masks_in_any_form(tmp_path, picture):
    picture.save(tmp_path / "mask.png")
    expected, metrics = SaliencyMetrics(), SaliencyMetrics()
    expected.step(LEVELS, MASK)
    metrics.step(LEVELS, read_ground_truth(tmp_path / "mask.png"))
    assert metrics.results() == expected.results()


def test_unusable_files_are_named(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    cutout(np.full((8, 10), 255, np.uint8)).save(tmp_path / "photo.png")
    with pytest.raises(ValueError, match=r"bad\.png: cannot be read"):
        read_ground_truth(tmp_path / "bad.png")
    with pytest.raises(ValueError, match=r"photo\.png: is in color"):
        read_prediction(tmp_path / "photo.png")


def test_processes_give_the_same_scores(data, monkeypatch):
    samples, maps = map_samples(data / "maps", data / "GT")
    alone = score_maps(samples, maps, num_workers=0, progress=False)
    monkeypatch.setattr("hf_usod.evaluation.scoring.FEW", 0)
    for predictions in (maps, (read_prediction(path) for path in maps)):
        together = score_maps(samples, predictions, num_workers=2, progress=False)
        assert together.rows == alone.rows and together.results() == alone.results()


def test_a_worker_names_the_file_it_fails_on(data, monkeypatch):
    monkeypatch.setattr("hf_usod.evaluation.scoring.FEW", 0)
    (data / "GT/a/004.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"004\.png"):
        score_maps(*map_samples(data / "maps", data / "GT"), num_workers=2, progress=False)
