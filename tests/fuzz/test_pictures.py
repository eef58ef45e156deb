"""Damaged pictures: read at the size they have, or refused by an error that names them."""

import numpy as np
import pytest
from mutations import mutate, seeds
from PIL import Image

from hf_usod.data.folders import find_unreadable
from hf_usod.data.folders import upright_size as size_of_photo
from hf_usod.evaluation.reading import read_ground_truth, read_prediction, upright_size
from hf_usod.evaluation.usod_saliency.reading import as_levels, as_mask
from hf_usod.labels.store import read_label
from hf_usod.models.image_processing_usod import UsodImageProcessor
from hf_usod.models.reading_usod import read_image, read_photo

FILES = seeds()
MUTATIONS = 12  # of each file and reader
FAULTS = (ValueError, OSError)  # which `UsodError`s of readers are as well
MOST = 4_000_000  # pixels: a damaged header may ask for more than a test has time for


@pytest.fixture(autouse=True)
def _no_large_pictures(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", MOST // 2)  # Pillow refuses twice as many


def damaged(name: str, tmp_path, salt: int):
    """The path of a file, again and again with other damage."""
    random = np.random.default_rng([salt, *name.encode()])
    path = tmp_path / f"damaged-{name}"
    for _ in range(MUTATIONS):
        path.write_bytes(mutate(FILES[name], random))
        yield path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_photos(name, tmp_path):
    processor = UsodImageProcessor(size={"height": 32, "width": 32})
    for path in damaged(name, tmp_path, 0):
        try:
            photo = read_photo(path)
        except FAULTS as error:
            assert path.name in str(error)
            assert path in find_unreadable([path], progress=False)
            with pytest.raises(FAULTS):
                processor(str(path), return_tensors="pt")
            continue
        assert photo.mode in ("RGB", "RGBA")
        assert read_image(path).size == photo.size
        assert processor(str(path), return_tensors="pt")["pixel_values"].shape == (1, 3, 32, 32)
        assert size_of_photo(path) == photo.size


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("read", "understand"), [(read_prediction, as_levels), (read_ground_truth, as_mask)])
def test_maps_and_masks(name, read, understand, tmp_path):
    for path in damaged(name, tmp_path, 1):
        try:
            levels = read(path)
        except FAULTS as error:
            assert path.name in str(error)
            continue
        assert levels.ndim == 2 and levels.shape == upright_size(path)
        try:
            understood = understand(levels)
        except ValueError:  # named by those who call it, see `score_maps`
            continue
        shape = (understood[0] if isinstance(understood, tuple) else understood).shape
        assert shape == levels.shape


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_labels(name, tmp_path):
    for path in damaged(name, tmp_path, 2):
        try:
            label = read_label(path)
        except RuntimeError as error:
            assert type(error).__name__ == "LabelError" and path.name in str(error)
            continue
        assert label.ndim == 2 and label.dtype == np.float32
        assert label.min() >= 0 and label.max() <= 1.001
