"""The embedded model: small, loadable through every door, and right about the example photos."""

import json
import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, pipeline

import hf_usod
from hf_usod.evaluation import EvaluationSet, evaluate_model, folder_samples

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "space" / "examples"
DATA = Path(os.environ.get("HF_USOD_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="module")
def detect():
    return pipeline("salient-object-detection", model=str(hf_usod.checkpoint_path()), device="cpu")


@pytest.mark.parametrize("name, limit", [("usod-rgb-lite", 25), ("usod-sce-lite", 15)])
def test_size_and_precision(name, limit):
    folder = hf_usod.checkpoint_path(name)
    assert sum(file.stat().st_size for file in folder.iterdir()) < limit * 2**20
    assert "auto_map" not in json.loads((folder / "config.json").read_text())
    model = AutoModel.from_pretrained(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", hf_usod.checkpoint_names("adapter"))
def test_adapters_are_small_and_leave_their_base_as_it_was(detect, name):
    folder = hf_usod.checkpoint_path(name)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 2**20
    base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    model = AutoModel.from_pretrained(hf_usod.checkpoint_path(base)).eval()
    photo = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        expected = model(photo).logits
        model.load_adapter(str(folder))
        assert not torch.equal(model.eval()(photo).logits, expected)
        model.disable_adapters()
        assert torch.equal(model(photo).logits, expected)


@pytest.mark.parametrize(
    "photo, inside, outside",
    [
        ("astronaut", [(220, 100)], [(490, 60)]),
        ("chelsea", [(200, 150), (250, 200)], [(440, 10), (440, 290)]),
        ("coffee", [(300, 150), (320, 250)], [(10, 10), (590, 390)]),
        ("motorcycle", [(330, 300), (450, 300)], [(10, 10), (730, 490)]),
        ("rocket", [(322, 250)], [(20, 20)]),
    ],
)
def test_examples(detect, photo, inside, outside):
    mask = detect(EXAMPLES / f"{photo}.jpg")["mask"]
    assert all(mask.getpixel(point) == 255 for point in inside)
    assert all(mask.getpixel(point) == 0 for point in outside)


@pytest.mark.slow
def test_scores_are_those_that_were_measured(detect):
    """On every tenth image of ECSSD-dev, which are easier than all (results/ecssd-dev.json)."""
    folder = DATA / "ECSSD-dev"
    if not folder.is_dir():
        pytest.skip(f"{folder}: no such folder; set HF_USOD_DATA to where ECSSD-dev is")
    dataset = EvaluationSet("ECSSD-dev", folder_samples(folder / "RGB", folder / "GT")[::10])
    evaluation = evaluate_model("usod-rgb-lite", detect.model, detect.image_processor, dataset, progress=False)
    scores = evaluation.metrics.results()
    measured = {"mae": 0.0320, "f_adaptive": 0.9294, "e_adaptive": 0.9639, "s_alpha": 0.9166, "f_weighted": 0.9119}
    assert len(evaluation.metrics) == 50
    assert {name: scores[name] for name in measured} == pytest.approx(measured, abs=2e-3)
