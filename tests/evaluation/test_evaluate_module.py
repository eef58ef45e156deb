"""The `evaluate` module: loads from its folder, offline, without this package, and gives the package's numbers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import hf_usod.evaluation
from hf_usod.evaluation import METRICS, SaliencyMetrics, score_image

FOLDER = Path(hf_usod.evaluation.__file__).parent / "usod_saliency"
SCRIPT = """
import json, sys
sys.modules["hf_usod"] = None  # an import of it fails
import evaluate, numpy as np
from PIL import Image
metric = evaluate.load(sys.argv[1])
data = np.load(sys.argv[2])
maps, masks = ([data[f"{kind}{i}"] for i in range(2)] for kind in ("map", "mask"))
arrays = metric.compute(predictions=[m / 255 for m in maps], references=[m.astype(float) for m in masks])
for one, mask in zip(maps, masks):
    metric.add(prediction=Image.fromarray(one), reference=Image.fromarray(mask))
print(json.dumps([arrays, metric.compute(normalize=True)]))
"""


def examples():
    random = np.random.default_rng(0)
    maps = [random.integers(20, 200, shape).astype(np.uint8) for shape in ((20, 30), (24, 18))]
    return maps, [one > 100 for one in maps]


def test_loads_offline_without_the_package(tmp_path):
    pytest.importorskip("evaluate", reason="pip install evaluate")
    maps, masks = examples()
    arrays = {f"map{i}": one for i, one in enumerate(maps)} | {f"mask{i}": one for i, one in enumerate(masks)}
    np.savez(tmp_path / "data.npz", **arrays)
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "PATH": "/usr/bin"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(FOLDER), str(tmp_path / "data.npz")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    for result, normalize in zip(json.loads(run.stdout.splitlines()[-1]), (False, True), strict=True):
        metrics = SaliencyMetrics(normalize)
        for one, mask in zip(maps, masks, strict=True):
            metrics.step(one, mask)
        assert result == pytest.approx(metrics.results(), abs=1e-9)


def test_the_card_names_every_score_and_its_front_matter_is_a_spaces():
    _, front, text = (FOLDER / "README.md").read_text().split("---\n", 2)
    settings = yaml.safe_load(front)
    assert settings["sdk"] == "gradio" and (FOLDER / settings["app_file"]).is_file() and settings["license"]
    assert all(f"`{name}`" in text for name in METRICS)


def test_the_space_shows_the_scores(monkeypatch):
    pytest.importorskip("gradio", reason="pip install 'hf_usod[demo]'")
    monkeypatch.syspath_prepend(str(FOLDER))
    import app

    (one, _), (mask, _) = examples()
    rows = app.score(Image.fromarray(one), Image.fromarray(mask * np.uint8(255)), False)
    scores = score_image(one, mask)
    assert [row[0] for row in rows] == list(METRICS)
    shown = {name: value for name, value, _ in rows}
    assert shown["mae"] == f"{scores.scores['mae']:.4f}" and shown["f_max"] == f"{scores.curves[2].max():.4f}"
