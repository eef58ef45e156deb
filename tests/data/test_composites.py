import numpy as np
import pytest
from PIL import Image

from hf_usod.data.composites import (
    Composer,
    Cutout,
    DoubtRule,
    beyond_doubt,
    cut_out,
    object_free,
    read_pieces,
    touched_sides,
    write_cutout,
    write_ground,
)

RED, BLUE = (220, 20, 20), (10, 20, 200)


def disc(size=120, center=(60, 60), radius=30):
    y, x = np.mgrid[:size, :size]
    distance = np.hypot(x - center[0], y - center[1])
    return ((radius - distance) / 2 + 0.5).clip(0, 1).astype(np.float32)


def photo(saliency):
    return (saliency[..., None] * RED + (1 - saliency[..., None]) * BLUE).round().astype(np.uint8)


def pieces():
    saliency = disc()
    ground = np.full((100, 140, 3), BLUE, np.uint8)
    return [cut_out(photo(saliency), saliency)], [ground]


def test_a_clear_object_is_beyond_doubt():
    assert beyond_doubt(disc(), disc())


@pytest.mark.parametrize(
    ("saliency", "flipped"),
    [
        pytest.param(disc(), disc(center=(75, 60)), id="the flipped photo disagrees"),
        pytest.param(disc() * 0.8, disc() * 0.8, id="soft"),
        pytest.param(disc(radius=8), disc(radius=8), id="small"),
        pytest.param(disc(radius=59), disc(radius=59), id="large"),
        pytest.param(disc(center=(5, 5)), disc(center=(5, 5)), id="in a corner"),
        pytest.param(
            np.maximum(disc(center=(30, 60), radius=20), disc(center=(90, 60), radius=20)),
            np.maximum(disc(center=(30, 60), radius=20), disc(center=(90, 60), radius=20)),
            id="in two pieces",
        ),
        pytest.param(np.zeros((120, 120)), np.zeros((120, 120)), id="nothing"),
    ],
)
def test_objects_in_doubt_are_left_out(saliency, flipped):
    assert not beyond_doubt(saliency, flipped)


def test_an_object_may_be_cut_by_one_border_unless_the_rule_says_no():
    saliency = disc(center=(60, 110))
    assert beyond_doubt(saliency, saliency)
    assert not beyond_doubt(saliency, saliency, DoubtRule(touched=0))


def test_the_borders_that_a_mask_touches():
    mask = np.zeros((10, 10), bool)
    mask[4:, 2:6] = True
    assert touched_sides(mask, 0.01) == ("bottom",)
    mask[5, 0] = True
    assert touched_sides(mask, 0.01) == ("left", "bottom")
    assert touched_sides(mask, 0.2) == ("bottom",)


def test_a_cutout_is_the_object_alone_with_the_borders_it_was_cut_by():
    saliency = np.maximum(disc(center=(60, 110)), disc(center=(10, 10), radius=5))
    cutout = cut_out(photo(saliency), saliency)
    height, width, channels = cutout.rgba.shape
    assert channels == 4 and abs(width - 60) <= 2 and abs(height - 40) <= 2
    inside = cutout.rgba[..., 3] == 255
    assert inside.sum() > 0.9 * (disc(center=(60, 110)) > 0.5).sum()
    assert np.abs(cutout.rgba[inside][:, :3].mean(0) - RED).max() < 12
    assert cutout.sides == ("bottom",)


def test_small_holes_are_closed_and_large_ones_stay():
    for radius, closed in ((2, True), (12, False)):
        saliency = disc() * (1 - disc(radius=radius))
        alpha = cut_out(photo(saliency), saliency).rgba[..., 3]
        assert (alpha[alpha.shape[0] // 2, alpha.shape[1] // 2] == 255) == closed


def test_grounds_are_the_strips_that_hold_nothing_of_the_object():
    saliency = disc(center=(40, 60), radius=30)
    strips = object_free(photo(saliency), saliency)
    assert sorted(strip.shape for strip in strips) == [(29, 120, 3), (30, 120, 3), (120, 49, 3)]
    for strip in strips:
        assert (strip[..., 0] < 40).all()  # some tenths of the red rim at most


def test_a_photo_without_object_is_ground_as_a_whole_and_one_that_is_all_object_none():
    empty = np.zeros((90, 120), np.float32)
    (ground,) = object_free(photo(empty), empty)
    assert ground.shape == (90, 120, 3)
    assert object_free(photo(1 - empty), 1 - empty) == []


def test_pieces_are_read_as_they_were_written(tmp_path):
    (cutout,), (ground,) = pieces()
    write_cutout(tmp_path / "objects" / "a.png", Cutout(cutout.rgba, ("left", "bottom")))
    write_ground(tmp_path / "grounds" / "a.png", ground)
    (read,), (read_ground,) = read_pieces(tmp_path)
    assert np.array_equal(read.rgba, cutout.rgba) and read.sides == ("left", "bottom")
    assert np.array_equal(read_ground, ground)


def test_a_folder_without_pieces_is_named(tmp_path):
    write_ground(tmp_path / "grounds" / "a.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(FileNotFoundError, match="objects: holds no pieces"):
        read_pieces(tmp_path)
    with pytest.raises(ValueError, match="got 0 and 1"):
        Composer([], [np.zeros((4, 4, 3), np.uint8)], 64, 0)


def test_composites_are_a_function_of_seed_and_step():
    objects, grounds = pieces()
    images, labels = Composer(objects, grounds, 64, seed=3).batch(7, 4)
    again = Composer(objects, grounds, 64, seed=3)
    again.batch(1, 2)
    for made, expected in zip(again.batch(7, 4), (images, labels), strict=True):
        assert np.array_equal(made, expected)
    assert images.shape == (4, 64, 64, 3) and images.dtype == np.uint8
    assert labels.shape == (4, 64, 64) and labels.dtype == bool
    assert not np.array_equal(images, Composer(objects, grounds, 64, seed=3).batch(8, 4)[0])
    assert not np.array_equal(images, Composer(objects, grounds, 64, seed=4).batch(7, 4)[0])


def test_labels_are_where_the_object_is():
    """Red objects on blue ground: whatever the light, redder than blue is object."""
    images, labels = Composer(*pieces(), 96, seed=0).batch(0, 24)
    redder = images[..., 0].astype(int) > images[..., 2]
    differing = (redder != labels).mean()
    assert 0.02 < labels.mean() < 0.8
    assert differing < 0.02, f"{differing:.3f} of the pixels are labeled as what they are not"


def test_objects_come_in_all_sizes_and_are_cut_by_all_borders_most_of_all_below():
    _, labels = Composer(*pieces(), 48, seed=1).batch(0, 400)
    shares = labels.mean((1, 2))
    assert np.quantile(shares, 0.1) < 0.12 and np.quantile(shares, 0.9) > 0.5
    sides = [touched_sides(label, 0) for label in labels]
    cut = {side: np.mean([side in touched for touched in sides]) for side in ("left", "top", "right", "bottom")}
    assert min(cut.values()) > 0.1
    assert cut["bottom"] == max(cut.values())


def test_an_object_that_its_photo_cut_stays_cut_by_that_border():
    (cutout,), grounds = pieces()
    flat = Cutout(np.asarray(Image.fromarray(cutout.rgba).crop((0, 0, 60, 30))), ("bottom",))
    _, labels = Composer([flat], grounds, 48, seed=2).batch(0, 60)
    assert all("bottom" in touched_sides(label, 0) for label in labels if label.any())
