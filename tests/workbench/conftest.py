"""Folders of small photos, and a list of recent folders of the tests' own."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_usod.files import write_json


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write_photo(path: Path, seed: int) -> None:
    """A bright ellipse on a dark, noisy ground."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :112]
    cy, cx = random.uniform([40, 40], [56, 72])
    inside = ((y - cy) / random.uniform(14, 26)) ** 2 + ((x - cx) / random.uniform(14, 26)) ** 2 < 1
    photo = np.where(inside[..., None], [220, 180, 120], [40, 60, 50]) + random.normal(0, 10, (96, 112, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path) -> Path:
    """Named so that escaping matters."""
    for number in range(24):
        write_photo(tmp_path / "photos" / f"a & b <{number:02d}>.png", number)
    return tmp_path / "photos"


def write_label(path: Path, share: float) -> None:
    label = np.zeros((96, 112), np.uint8)
    label[: round(96 * share)] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(label).save(path)


@pytest.fixture
def run(photos) -> Path:
    """The folder of an adaptation that has made labels, and stopped."""
    root = photos.parent / "run"
    paths = sorted(photos.iterdir())
    quality = {"quality": 0.5, "empty": 0.1}
    for number, path in enumerate(paths):
        name = "held_out" if number < 7 else "train"
        target = root / "images" / name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
        if number < 7:
            for candidate, share in (("default", 0.2), ("trained-by-default", 0.1 * number)):
                write_label(root / "maps" / candidate / path.name, share)
        else:
            write_label(root / "labels" / "trained-by-default" / path.name, number / 24)
    about = {"about": "", "adapter": None, "is_detector": True, "harm": ""}
    write_json(
        root / "adapt.json",
        {
            "version": 1,
            "asked": {"images": str(photos), "aux": None, "task": None, "seed": 0},
            "seconds": {"maps default": 2.0, "cues": 9.0, "maps cues": 2.0, "labels trained-by-default": 4.0},
            "plan": [
                ["maps default", 7], ["cues", 2], ["maps cues", 7],
                ["labels trained-by-default", 17], ["training trained-by-default", 2], ["maps trained-by-default", 7],
            ],
            "running": "training trained-by-default",
            "images": {"used": 24, "lines": ["24 images, 24 used."]},
            "quality": {"default": quality, "trained-by-default": quality | {"quality": 0.6}},
            "candidates": {"default": about, "trained-by-default": about},
            "sources": ["trained-by-default"],
        },
    )  # fmt: skip
    return root
