"""What is found out about a folder of images before anything is trained."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from hf_usod.adapting import inspection
from hf_usod.adapting.inspection import inspect
from hf_usod.data import list_samples
from hf_usod.errors import RunError


def look(folder, **options):
    return inspect(list_samples([folder]), progress=False, **options)


def test_a_good_folder(photos):
    found = look(photos)
    assert (found.found, len(found.samples), found.sides) == (24, 24, (80, 80, 80))
    assert found.unreadable == found.copies == () and found.gray == found.flat == 0
    found.check()
    assert any("Fewer than 50" in line for line in found.lines())


def test_copies_and_what_cannot_be_read_are_left_out_and_named(photos):
    shutil.copy(photos / "a" / "00.png", photos / "a" / "copy.png")
    Image.open(photos / "b" / "01.png").save(photos / "b" / "again.jpg", quality=90)
    (photos / "a" / "broken.png").write_bytes(b"no picture")
    found = look(photos)
    assert len(found.samples) == 24 and found.found == 27
    assert ("a/00", "a/copy") in found.copies and len(found.copies) == 2
    (problem,) = found.unreadable
    assert "broken.png" in problem and any("broken.png" in line for line in found.lines())


@pytest.mark.parametrize(
    "place, wrong",
    [
        (30, b"\xff\xff\xff\x00"),  # millions of rows: more than Pillow opens
        (72, b"\x02"),  # of which Pillow's reader makes a TypeError
        (0, b"\x00"),
    ],
)
@pytest.mark.parametrize("is_aux", [True, False])
def test_damaged_maps_and_images_are_named(photos, tmp_path, place, wrong, is_aux):
    torn = tmp_path / "maps" / "torn.tif"
    torn.parent.mkdir()
    Image.new("L", (20, 20)).save(torn)
    held = torn.read_bytes()
    torn.write_bytes(held[:place] + wrong + held[place + len(wrong) :])
    first, *others = list_samples([photos])
    damaged = replace(first, aux=torn) if is_aux else replace(first, image=torn)
    found = inspect([damaged, *others], progress=False)
    (problem,) = found.unreadable
    assert problem.startswith(f"{torn}: cannot be read as an image") and len(found.samples) == 23


def test_frames_may_be_alike(photos):
    shutil.copy(photos / "a" / "00.png", photos / "a" / "next.png")
    assert len(look(photos, frames=True).samples) == 25


def test_gray_images_are_counted(photos):
    for path in photos.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    assert look(photos).gray == 24


def test_too_few(photos):
    for path in (photos / "b").iterdir():
        path.unlink()
    for path in sorted((photos / "a").iterdir())[6:]:
        path.unlink()
    with pytest.raises(RunError, match="6 images can be used; at least 15 are needed"):
        look(photos).check()


def test_nothing_to_see(tmp_path):
    for number in range(20):
        levels = np.full((40, 40 + number), 5 * number, np.uint8)
        path = tmp_path / f"{number}.png"
        Image.fromarray(levels).save(path)
    with pytest.raises(RunError, match="nothing stands out"):
        look(tmp_path).check()


def test_many_images_are_thinned_evenly(photos, monkeypatch):
    monkeypatch.setattr(inspection, "MOST", 8)
    found = look(photos)
    assert len(found.samples) == 8 and found.samples[0].id.startswith("a/") and found.samples[-1].id.startswith("b/")
