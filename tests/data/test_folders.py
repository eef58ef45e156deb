"""Finding the images of folder trees."""

import numpy as np
import pytest
from PIL import Image

from hf_usod.data import by_stem, evenly_spread, find_unreadable, list_images, list_samples
from hf_usod.data.folders import list_photos, upright_size
from hf_usod.errors import DataError
from hf_usod.inference.encoding import Encoding
from hf_usod.inference.jobs import plan_jobs


def test_links_to_folders_are_followed_once(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for photo in (root / "a" / "1.png", root / "2.png", elsewhere / "3.png", elsewhere / "deep" / "4.png"):
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(photo)
    (root / "linked").symlink_to(elsewhere)
    (root / "linked_too").symlink_to(elsewhere)
    (root / "own").symlink_to(root / "a")  # comes by anyway
    (elsewhere / "back").symlink_to(root)  # loops
    (elsewhere / "up").symlink_to(tmp_path)
    (root / "self").symlink_to(root)
    (root / "nowhere").symlink_to(tmp_path / "missing")
    names = [path.relative_to(root).as_posix() for path in list_images(root)]
    assert names == ["2.png", "a/1.png", "linked/3.png", "linked/deep/4.png"]


def test_a_root_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    Image.new("L", (2, 2)).save(tmp_path / "real" / "1.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert list_images(tmp_path / "link") == [tmp_path / "link" / "1.png"]


def test_two_images_of_one_name_are_told(tmp_path):
    for name in ("1.png", "1.tif"):
        Image.new("L", (2, 2)).save(tmp_path / name)
    with pytest.raises(DataError, match=r"1\.tif: has the same name as 1\.png; which one is meant"):
        by_stem(tmp_path)


@pytest.mark.parametrize(("number", "count"), [(79, 40), (15, 8), (65, 64), (100, 7), (3, 5)])
def test_what_is_chosen_is_spread_over_all(number, count):
    chosen = evenly_spread(range(number), count)
    gaps = np.diff([*chosen, number])
    assert len(chosen) == min(number, count) and chosen[0] == 0
    assert gaps.max() - gaps.min() <= 1


def test_maps_of_no_image_are_the_users_to_mend(tmp_path):
    for path in (tmp_path / "images" / "a.png", tmp_path / "aux" / "b.png"):
        path.parent.mkdir()
        Image.new("L", (2, 2)).save(path)
    with pytest.raises(DataError, match=r"1 of 1 maps belong to no image in .*: b\. Their stems"):
        list_samples([tmp_path / "images"], [tmp_path / "aux"])


def test_links_of_photos_to_nowhere_are_photos_that_cannot_be_read(tmp_path):
    """As git-annex and DVC leave them until they are told to fetch what they mean."""
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    for name, target in (("b.png", "missing"), ("c.png", "c.png"), ("notes.txt", "missing"), ("folder", "missing")):
        (tmp_path / name).symlink_to(target)
    assert [path.name for path in list_images(tmp_path)] == ["a.png", "b.png", "c.png"]
    problems = find_unreadable(list_images(tmp_path), progress=False)
    assert [path.name for path in problems] == ["b.png", "c.png"]
    told = f"{tmp_path / 'b.png'}: cannot be read as an image (it is a link to what is not there)"
    assert problems[tmp_path / "b.png"] == told
    with pytest.raises(DataError) as raised:
        upright_size(tmp_path / "b.png")
    assert str(raised.value) == f"{told}."
    with pytest.raises(FileNotFoundError):
        upright_size(tmp_path / "missing.png")


def test_results_among_the_photos_are_left_out(tmp_path, caplog):
    """And take no photo's name: labels, and the ids of a run, are what they are without them."""
    photo = Image.new("RGB", (8, 8), "red")
    photo.save(tmp_path / "a.jpg")
    photo.save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"damaged")
    for name, suffix in (("a", "png"), ("b_cutout", "webp"), ("d", "jpg")):
        options = Encoding(suffix).options(photo, f"{name}.jpg", photo, "hf_usod:cutout:1-2")
        photo.save(tmp_path / f"{name}.{suffix}", **options)
    assert [path.name for path in list_photos(tmp_path)] == ["a.jpg", "b.png", "c.png"]
    assert "3 images below it are results of hf-usod" in caplog.text
    assert [sample.id for sample in list_samples([tmp_path])] == ["a", "b", "c"]
    plan = plan_jobs([tmp_path], tmp_path / "labels", ["label"], without_results=True)
    assert [job.outputs["label"].name for job in plan.jobs] == ["a.png", "b.png", "c.png"]
    assert plan.notes == [f"{tmp_path}: 3 images below it are results of hf-usod, no photos; left out."]
    for path in (tmp_path / "a.jpg", tmp_path / "b.png", tmp_path / "c.png"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="no images but results of hf-usod"):
        list_samples([tmp_path])
