"""All stages in one command, on a tiny network and synthetic photos."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModel

from hf_usod import UsodSdModel
from hf_usod.cli import main
from hf_usod.folding import maps_of_an_example
from hf_usod.training import method


@pytest.fixture(scope="module")
def recipe(backbone, tmp_path_factory) -> Path:
    """Two steps of each stage."""
    small = {"size": 96, "num_epochs": 2, "batch_size": 8, "scale_steps": [1], "scale_stride": 32, "num_previews": 2}
    small["log_every"] = 1
    widths = {"neck_channels": [8, 8, 8, 8], "fusion_channels": 8, "context_channels": 8, "learning_rate": 0.05}
    sections = {
        "sce": {**small, "backbone": str(backbone), "decoder_channels": 8},
        "transfer": small,
        "sd": {**small, **widths, "backbone": str(backbone)},
    }
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    file.write_text(yaml.dump(sections))
    return file


def command(recipe: Path, photos: Path, run: Path, *more: str) -> list[str]:
    given = ["--recipe", recipe, "--images", photos, "--output_dir", run, "--refine", "none", "--num_workers", "0"]
    return ["train", *map(str, given), *more]


@pytest.fixture(scope="module")
def trained(recipe, photos, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert main(command(recipe, photos, run)) == 0
    return run


def test_all_stages_run_from_one_command(trained, photos):
    assert isinstance(AutoModel.from_pretrained(trained / "sd" / "model"), UsodSdModel)
    sce = AutoModel.from_pretrained(trained / "sce" / "model")
    assert type(sce).__name__ == "UsodSceModel"
    for photo in photos.iterdir():
        with Image.open(trained / "labels" / photo.name) as label, Image.open(photo) as image:
            assert label.size == image.size
            assert set(np.unique(np.asarray(label))) <= {0, 255}


def test_it_is_not_begun_anew_by_accident(trained, recipe, photos, capsys):
    assert main(command(recipe, photos, trained)) == 1
    assert "is not empty. Pass --resume" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["_label", "train_detector"])
def test_it_continues_from_where_it_was_stopped(trained, recipe, photos, tmp_path, monkeypatch, stage):
    def stop(*_):
        raise KeyboardInterrupt

    run = tmp_path / "whole"
    with monkeypatch.context() as patch:
        patch.setattr(method, stage, stop)
        assert main(command(recipe, photos, run)) == 130
    assert main(command(recipe, photos, run, "--resume")) == 0
    actual, expected = (load_file(folder / "sd" / "model" / "model.safetensors") for folder in (run, trained))
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []


def test_video_is_trained_with_its_flow(trained, recipe, tmp_path):
    pytest.importorskip("cv2")
    texture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (100, 120, 3), np.uint8))
    for sequence in "ab":
        (tmp_path / "frames" / sequence).mkdir(parents=True)
        for frame in range(4):
            texture.crop((4 * frame, 0, 4 * frame + 96, 96)).save(tmp_path / "frames" / sequence / f"{frame}.png")
    run = tmp_path / "video"
    assert main(command(recipe, tmp_path / "frames", run, "--task", "video")) == 0
    assert len(list((run / "flow").rglob("*.jpg"))) == 8
    flow = [str(run / "flow" / "0")]
    assert [json.loads((run / stage / "arguments.json").read_text())["aux"] for stage in ("sce", "sd")] == [flow, flow]
    assert (run / "sd" / "model" / "model.safetensors").exists()


def test_transfer_trains_adapters_of_both_networks(trained, recipe, photos, tmp_path):
    run = tmp_path / "transfer"
    bases = ["--transfer", "--sce", str(trained / "sce" / "model"), "--adapt", str(trained / "sd" / "model")]
    assert main(command(recipe, photos, run, *bases)) == 0
    for stage, module in (("sce", "deep_projection"), ("sd", "global_info")):
        adapter = load_file(run / stage / "model" / "adapter_model.safetensors")
        assert adapter
        assert all(f"decoder.{module}." in name for name in adapter)
        model = AutoModel.from_pretrained(trained / stage / "model").eval()
        before = maps_of_an_example(model)
        model.load_adapter(str(run / stage / "model"))
        assert any(not torch.equal(*pair) for pair in zip(maps_of_an_example(model), before, strict=True))


def test_the_detector_that_is_transferred_may_make_the_labels(trained, recipe, photos, tmp_path):
    run, own, detector = tmp_path / "transfer", tmp_path / "own", str(trained / "sd" / "model")
    assert main(command(recipe, photos, run, "--adapt", detector, "--labels_from", "sd")) == 0
    assert not (run / "sce").exists()
    assert main(["label", str(photos), "--model", detector, "--refine", "none", "--output", str(own)]) == 0
    for label in own.iterdir():
        assert label.read_bytes() == (run / "labels" / label.name).read_bytes()
    assert (run / "sd" / "model" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize(
    ("told", "problem"),
    [([], "there is no detector yet"), (["--transfer", "--sce", "usod-sce-lite"], "makes no use of")],
)
def test_labels_of_a_detector_need_one(recipe, photos, tmp_path, capsys, told, problem):
    assert main(command(recipe, photos, tmp_path / "run", "--labels_from", "sd", *told)) == 1
    assert problem in capsys.readouterr().err


def test_a_page_shows_what_was_trained(trained, photos, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["report", str(trained), "--output", str(page), "--most", "3", "--device", "cpu"]) == 0
    text = page.read_text()
    assert capsys.readouterr().out == f"Written to {page}.\n"
    walls = text.split('class="wall"')[1:]
    assert ["Before and after" in walls[0], "Labels that changed" in walls[1]] == [True, True]
    assert walls[0].count("<figure") == 3 and walls[1].split("<h2>Curves")[0].count("<figure") == 12
    changes = [float(value) for value in re.findall(r"change&nbsp;([\d.]+)", walls[0])]
    assert changes == sorted(changes, reverse=True) and changes[0] > 0.01
    assert f"--model {trained}/sd/model" in text and "Cue extractor: loss" in text and "Detector: loss" in text


@pytest.mark.parametrize(
    "folder, message",
    [("nowhere", "no such folder"), (".", "holds no training"), ("begun", "has trained no model yet")],
)
def test_a_page_of_no_training_is_refused(folder, message, trained, tmp_path, capsys):
    (tmp_path / "begun").mkdir()
    shutil.copy(trained / "sd" / "arguments.json", tmp_path / "begun")
    assert main(["report", str(tmp_path / folder)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and not list(tmp_path.rglob("*.html"))


def test_a_page_says_what_of_a_run_cannot_be_read(trained, photos, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.copytree(photos, tmp_path / "photos")
    file = run / "sd" / "arguments.json"
    arguments = json.loads(file.read_text())
    file.write_text(json.dumps(arguments | {"images": [str(tmp_path / "photos")]}))
    torn = min((tmp_path / "photos").rglob("*.png"))
    torn.write_text("no picture")
    assert main(["report", str(run), "--most", "1", "--device", "cpu"]) == 1
    assert f"{torn}: cannot be read" in capsys.readouterr().err
    del arguments["images"]
    file.write_text(json.dumps(arguments))
    assert main(["report", str(run), "--most", "1", "--device", "cpu"]) == 1
    assert "arguments.json: does not say what was trained on" in capsys.readouterr().err


def test_a_page_says_which_label_is_gone(trained, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    arguments = json.loads((run / "sd" / "arguments.json").read_text())
    (run / "sd" / "arguments.json").write_text(json.dumps(arguments | {"labels": [str(tmp_path)]}))
    assert main(["report", str(run), "--most", "1", "--device", "cpu"]) == 1
    assert f"{tmp_path}/photo_00.png: no such label" in capsys.readouterr().err
