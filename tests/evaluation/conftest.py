"""Small data sets and maps on disk."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def data(tmp_path):
    """Six photos in two folders with noisy maps and masks of the same names: `RGB/`, `maps/`, `GT/`."""
    random = np.random.default_rng(0)
    for number in range(6):
        name = f"{'ab'[number % 2]}/{number:03d}"
        mask = np.zeros((40, 60), bool)
        mask[5 + number : 25, 10:40] = True
        photo = (random.integers(0, 60, (40, 60, 3)) + mask[..., None] * 150).astype(np.uint8)
        levels = np.clip(mask * 170 + 30 + random.normal(0, 40, mask.shape), 0, 255).astype(np.uint8)
        save(tmp_path / f"set/RGB/{name}.jpg", photo)
        save(tmp_path / f"set/maps/{name}.png", levels)
        save(tmp_path / f"set/GT/{name}.png", mask * np.uint8(255))
    return tmp_path / "set"
