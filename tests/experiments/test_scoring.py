"""What a table scores: models, adapters, folders of labels, and the labels of a training."""

import numpy as np
import pytest
from PIL import Image

from hf_usod.assets import checkpoint_path
from hf_usod.errors import DataError
from hf_usod.evaluation import EvaluationSet, SaliencyMetrics, evaluate_model, folder_samples
from hf_usod.experiments import score
from hf_usod.labels import LabelStore
from hf_usod.loading import load

SHAPE = (24, 36)


@pytest.fixture
def data(tmp_path):
    """Three photos with masks and soft labels."""
    random = np.random.default_rng(0)
    for number in range(3):
        mask = np.zeros(SHAPE, bool)
        mask[4:15, 6 : 20 + number] = True
        for folder, levels in (
            ("RGB", random.integers(0, 256, (*SHAPE, 3))),
            ("GT", mask * 255),
            ("labels", np.clip(mask * 200 + random.integers(0, 56, SHAPE), 0, 255)),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(levels.astype(np.uint8)).save(tmp_path / f"{folder}/{number}.png")
    return tmp_path


def spec(data, **fields):
    return {"name": "photos", "masks": str(data / "GT"), **{key: str(data / value) for key, value in fields.items()}}


def expected(data, names):
    metrics = SaliencyMetrics()
    for name in names:
        metrics.step(*(np.asarray(Image.open(data / folder / f"{name}.png")) for folder in ("labels", "GT")))
    return metrics.results()


def test_a_folder_of_labels_of_a_part_of_the_photos(data):
    (data / "labels/1.png").unlink()
    assert score(None, spec(data, predictions="labels")) == expected(data, "02")


def test_the_labels_of_a_training(data):
    def read(name):
        return np.asarray(Image.open(data / f"labels/{name}.png"))

    LabelStore.create(data / "store", ["0", "1", "2"], SHAPE, read, progress=False)
    assert score(None, spec(data, predictions="store")) == pytest.approx(expected(data, "012"), abs=1e-9)
    (data / "GT/2.png").unlink()
    with pytest.raises(FileNotFoundError, match="no ground truth for 1 of 3: 2"):
        score(None, spec(data, predictions="store"))


def test_labels_of_zeros_and_ones_are_refused(data):
    for path in (data / "labels").iterdir():
        Image.fromarray((np.asarray(Image.open(path)) > 127).astype(np.uint8)).save(path)
    with pytest.raises(DataError, match="labels: none of the 3 maps"):
        score(None, spec(data, predictions="labels"))


def test_a_model(data):
    folder = checkpoint_path("usod-sce-lite")
    model, image_processor = load(str(folder))
    dataset = EvaluationSet("photos", folder_samples(data / "RGB", data / "GT"))
    evaluation = evaluate_model("model", model, image_processor, dataset, progress=False)
    assert score(folder, spec(data, images="RGB")) == evaluation.metrics.results()
