"""The scripts that measure what is in `results/`."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPTS = Path(__file__).parents[2] / "scripts"


def script(name: str):
    spec = importlib.util.spec_from_file_location(f"script_{name}", SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("number", [1, 2])
def test_a_chart_is_one_picture_of_any_number_of_results(number, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="pip install 'hf_usod[figures]'")
    adapted = script("adapted")
    scores = dict.fromkeys(adapted.SCORES, 0.5)
    result = {"name": "steel", "chosen": "default", "quality": {"default": {"quality": 0.4}}}
    files = [tmp_path / f"{place}.json" for place in range(number)]
    for file in files:
        file.write_text(json.dumps({**result, "scores": {"default": scores}}))
    output = tmp_path / "chart.png"
    words = ["adapted.py", "draw", *files, "--table", tmp_path / "table.md", "--output", output]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    adapted.main()
    assert Image.open(output).format == "PNG" and "steel" in (tmp_path / "table.md").read_text()
    assert {path.name for path in tmp_path.glob("chart*")} == {"chart.png"}


def test_labels_are_counted_by_the_masks(tmp_path, monkeypatch):
    """Of three labels one is right, one half right, which is not enough, and one wrong; two were learned from."""
    square = np.zeros((8, 8), np.uint8)
    square[:4] = 255
    folder = tmp_path / "adapted"
    for path, picture in {
        **{folder / "images" / "train" / f"{name}.png": square for name in ("a/1", "2", "3")},
        **{folder / "labels" / "by-x" / f"{name}.png": square for name in ("a/1", "2", "3")},
        **{folder / "images" / "by-x" / f"{name}.png": square for name in ("a/1", "2")},
        tmp_path / "masks" / "a" / "1.png": square,
        tmp_path / "masks" / "2.png": np.full((8, 8), 255, np.uint8),
        tmp_path / "masks" / "3.png": 255 - square,
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    (folder / "adapt.json").write_text(json.dumps({"sources": ["by-x"]}))
    words = [
        "adapted.py",
        "labels",
        folder,
        "--name",
        "x",
        "--masks",
        tmp_path / "masks",
        "--output",
        tmp_path / "x.json",
    ]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    script("adapted").main()
    found = json.loads((tmp_path / "x.json").read_text())["labels"]["by-x"]
    assert found["made"] == {"labels": 3, "right": 1, "iou": 0.5}
    assert found["learned from"] == {"labels": 2, "right": 1, "iou": 0.75}
    told_apart = script("adapted").told_apart
    assert (
        told_apart("abcd", {"c", "d"}) == 1 and told_apart("cabd", {"c", "d"}) == 0.5 and told_apart("a", {"a"}) is None
    )


def test_tiles_of_another_set_are_measured_though_the_file_holds_one(tmp_path, monkeypatch):
    tiles, measured = script("tiles"), []

    def measure(dataset, adapter, given):
        measured.append((dataset.name, given))
        told = {"tiles": given} if given else {}
        scores = dict.fromkeys(("mae", "f_adaptive", "e_adaptive", "seconds"), 0.5)
        return {"model": "m", "dataset": dataset.name, "num_images": len(dataset.samples), **scores, **told}

    monkeypatch.setattr(tiles, "measure", measure)
    for folder in ("RGB", "GT"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(tmp_path / folder / "0.png")
    for name in ("one", "other", "one"):
        data = f"{name}={tmp_path / 'RGB'}:{tmp_path / 'GT'}"
        monkeypatch.setattr(sys, "argv", ["tiles.py", "--data", data, "--output", str(tmp_path / "tiles.json")])
        tiles.main()
    assert measured == [("one", None), ("one", "auto"), ("other", None), ("other", "auto")]
