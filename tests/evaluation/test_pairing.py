"""One rule says which file belongs to which; where it leaves two, that is an error."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_usod.errors import DataError
from hf_usod.evaluation import folder_samples, map_samples
from hf_usod.evaluation.pairing import base_name, pair

LEVELS = np.tile(np.arange(0, 240, 8, np.uint8), (20, 1))
MASK = np.where(LEVELS > 100, 255, 0).astype(np.uint8)


def write(folder, *names, picture=LEVELS):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, picture)
        else:
            Image.fromarray(picture).save(path)
    return folder


def files(*names):
    return {name: Path(f"{name}.png") for name in names}


@pytest.mark.parametrize(
    "name, base",
    [
        ("a0_mask", "a0"),
        ("b/a0-GT", "b/a0"),
        ("a0.saliency", "a0"),
        ("a0_ground_truth", "a0"),
        ("a0_segmentation", "a0"),
        ("a0", "a0"),
        ("unmasked", "unmasked"),
        ("mask", "mask"),
        ("a_mask/0", "a_mask/0"),
        ("a0_2", "a0_2"),
    ],
)
def test_endings(name, base):
    assert base_name(name) == base


@pytest.mark.parametrize("map_ending", ["", "_saliency", "-sal", ".pred", "_cutout"])
@pytest.mark.parametrize("mask_ending", ["", "_mask", "_gt", "_GT", " mask"])
def test_maps_and_masks_with_endings(tmp_path, map_ending, mask_ending):
    stems = ["b/a0", "b/a1", "c_2"]
    maps = write(tmp_path / "maps", *(f"{stem}{map_ending}.png" for stem in stems))
    masks = write(tmp_path / "masks", *(f"{stem}{mask_ending}.png" for stem in stems), picture=MASK)
    samples, paths = map_samples(maps, masks)
    assert [path.relative_to(maps).as_posix() for path in paths] == [f"{stem}{map_ending}.png" for stem in stems]
    assert [sample.mask.relative_to(masks).as_posix() for sample in samples] == [f"{s}{mask_ending}.png" for s in stems]
    if map_ending != mask_ending:
        assert [sample.id for sample in samples] == stems
    photos = write(tmp_path / "photos", *(f"{stem}.jpg" for stem in stems))
    assert [(sample.id, sample.mask) for sample in folder_samples(photos, masks)] == [
        (stem, masks / f"{stem}{mask_ending}.png") for stem in stems
    ]


def test_the_same_name_goes_before_an_ending():
    assert pair(["a", "a_mask"], files("a", "a_mask", "a_gt")) == files("a", "a_mask")
    assert pair(["a", "b"], files("a", "a_mask", "b_mask")) == {"a": Path("a.png"), "b": Path("b_mask.png")}


@pytest.mark.parametrize(
    "names, there, message",
    [
        (["a"], ["a_mask", "a_saliency"], r"a_mask\.png, a_saliency\.png: each may be the one of a"),
        (["a"], ["a_mask", "a-mask"], "each may be the one of a"),
        (["a_mask", "a_gt"], ["a"], r"a\.png: is it of a_mask or of a_gt"),
    ],
)
def test_two_for_one_is_an_error(names, there, message):
    with pytest.raises(DataError, match=message):
        pair(names, files(*there))


def test_what_predict_saves_in_several_kinds_is_ambiguous(tmp_path):
    maps = write(tmp_path / "maps", "a_saliency.png", "a_mask.png")
    with pytest.raises(DataError, match="Leave one in the folder"):
        map_samples(maps, write(tmp_path / "masks", "a.png", picture=MASK))


def test_the_suffix_tells_nothing_apart(tmp_path):
    maps = write(tmp_path / "maps", "a.png", "a.npy")
    with pytest.raises(DataError, match=r"a\.png: has the same name as a\.npy"):
        map_samples(maps, write(tmp_path / "masks", "a.png", picture=MASK))


def test_hidden_files_and_folders_are_left_alone(tmp_path):
    maps = write(tmp_path / "maps", "a.npy", ".cache/a.png", ".a.png")
    assert map_samples(maps, write(tmp_path / "masks", "a.png", picture=MASK))[1] == [maps / "a.npy"]


def test_names_that_do_not_match_are_told(tmp_path):
    maps = write(tmp_path / "maps", "x.png", "y.png")
    with pytest.raises(FileNotFoundError, match=r"no map for 1 of 1: a .*There are x, y\.$"):
        map_samples(maps, write(tmp_path / "masks", "a.png", picture=MASK))


@pytest.mark.parametrize("kind", ["no such folder", "is a file", "holds neither"])
def test_folders_that_are_none(tmp_path, kind):
    masks = write(tmp_path / "masks", "a.png", picture=MASK)
    maps = tmp_path / "maps"
    if kind == "is a file":
        maps.write_text("")
    elif kind == "holds neither":
        (maps / "empty").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=f"maps: {kind}"):
        map_samples(maps, masks)


@pytest.mark.parametrize(
    "size, fits", [((30, 20), True), ((60, 40), True), ((31, 20), True), ((20, 30), False), ((50, 20), False)]
)
def test_masks_have_the_proportions_of_their_images(tmp_path, size, fits):
    photos = write(tmp_path / "photos", "a.png")
    write(tmp_path / "masks", "a.png", picture=np.asarray(Image.fromarray(MASK).resize(size)))
    if fits:
        assert len(folder_samples(photos, tmp_path / "masks")) == 1
    else:
        with pytest.raises(DataError, match=r"masks/a\.png: is \d+ x \d+, but its image .* 30 x 20"):
            folder_samples(photos, tmp_path / "masks")


@pytest.mark.parametrize("photo_is_turned", [True, False])
def test_proportions_are_those_of_upright_pictures(tmp_path, photo_is_turned):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, upright = (tmp_path / name / "a.png" for name in (("p", "m") if photo_is_turned else ("m", "p")))
    for path, picture, options in ((turned, MASK.T.copy(), {"exif": exif}), (upright, MASK, {})):
        path.parent.mkdir()
        Image.fromarray(picture).save(path, **options)
    assert len(folder_samples(tmp_path / "p", tmp_path / "m")) == 1


def test_photos_and_masks_in_one_folder_are_refused(tmp_path):
    folder = write(tmp_path / "all", "a.jpg", "a_mask.png")
    with pytest.raises(DataError, match="Keep them in two folders"):
        folder_samples(folder, folder)
