"""The images of an adaptation, in folders of its own."""

import json

import numpy as np
import pytest
from PIL import Image

from hf_usod.adapting.adapt import look
from hf_usod.adapting.arguments import AdaptArguments
from hf_usod.adapting.folder import AdaptFolder
from hf_usod.data import Sample, list_samples


def placed(folder, kind):
    return {path.relative_to(folder.root / kind).as_posix() for path in (folder.root / kind).rglob("*.*")}


@pytest.mark.parametrize("links", [True, False])
def test_what_was_placed_before_the_images_changed_is_removed(photos, tmp_path, monkeypatch, links):
    if not links:

        def refuse(*given):
            raise OSError("A required privilege is not held by the client.")

        monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    samples = [Sample(sample.id, sample.image, sample.image) for sample in list_samples([photos])[:6]]
    folder = AdaptFolder(tmp_path / "domain", {}, resume=True)
    folder.place(samples[:4], "train")
    folder.place(samples[4:], "held_out")
    own = folder.images("train") / "a" / "of-somebody.png"
    Image.new("RGB", (8, 8)).save(own)
    folder.save()

    folder = AdaptFolder(tmp_path / "domain", {}, resume=True)
    again = folder.place(samples[2:5], "train")
    assert [sample.id for sample in again] == ["a/04", "a/06", "a/08"]
    others = {"held_out/a/08.png", "held_out/a/10.png"}
    assert placed(folder, "aux") == others | {"train/a/04.png", "train/a/06.png", "train/a/08.png"}
    assert placed(folder, "images") == placed(folder, "aux") | {"train/a/of-somebody.png"}
    assert all(sample.image.exists() and sample.image.is_symlink() == links for sample in again)
    assert all(sample.image.exists() for sample in samples) and own.exists()


def test_nothing_is_trained_on_that_is_held_out_once_images_have_come(photos, small, tmp_path):
    root = tmp_path / "domain"
    look(AdaptArguments(photos, root), tell=lambda line: None)
    for number in range(9):
        levels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(levels).save(photos / "a" / f"new-{number}.png")
    look(AdaptArguments(photos, root, resume=True), tell=lambda line: None)
    held_out, training = (
        {path.relative_to(root / "images" / name) for path in (root / "images" / name).rglob("*.png")}
        for name in ("held_out", "train")
    )
    assert not held_out & training and (len(held_out), len(training)) == (10, 23)
    assert json.loads((root / "adapt.json").read_text())["images"]["used"] == 33
