"""The paper's full-size recipes, rehearsed: their constants, and two steps of every stage, one of which trains the
backbones and rectifies labels."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torchvision.models import resnet50

from hf_usod.cli import main
from hf_usod.labels import LabelStore

RECIPES = Path(__file__).parents[2] / "scripts" / "recipes"
EXAMPLES = Path(__file__).parents[2] / "space" / "examples"
# Method, sections 3, 6 and 7
STAGE_1 = {
    "size": 320,
    "scale_steps": [-2, -1, 1, 2],
    "scale_stride": 64,
    "batch_size": 8,
    "num_epochs": 20,
    "learning_rate": 0.1,
    "final_learning_rate_ratio": 0.2,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "btm_weight": 0.05,
}
STAGE_2 = STAGE_1 | {
    "num_epochs": 10,
    "learning_rate": 0.005,
    "weight_decay": 0.0,
    "backbone_learning_rate_ratio": 0.1,
    "backbone_first_epoch": 2,
    "neck_channels": [128, 256, 512, 512],
    "fusion_channels": 128,
    "context_channels": 256,
    "loss": "iou+sc",
    "spr": "both",
    "spr_weights": [0.2, 0.6, 0.2],
    "spr_first_epoch": 2,
}
del STAGE_2["btm_weight"]


@pytest.fixture(scope="module")
def moco(tmp_path_factory) -> Path:
    """A file in MoCo's layout, of random weights."""
    torch.manual_seed(0)
    encoder = {f"module.encoder_q.{name}": value for name, value in resnet50(weights=None).state_dict().items()}
    weights = {name: value for name, value in encoder.items() if ".fc." not in name}
    file = tmp_path_factory.mktemp("moco") / "moco_v2_800ep_pretrain.pth.tar"
    torch.save({"epoch": 800, "state_dict": weights}, file)
    return file


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> dict[str, Path]:
    """One photo alone, one with a depth and one with a thermal map."""
    root = tmp_path_factory.mktemp("sets")
    folders = {name: root / name for name in ("photos", "rgbd", "depth", "rgbt", "thermal")}
    photos = sorted(EXAMPLES.glob("*.jpg"))
    for (name, folder), number in zip(folders.items(), [0, 1, 1, 2, 2], strict=True):
        folder.mkdir()
        mode = "L" if name in ("depth", "thermal") else "RGB"
        Image.open(photos[number]).convert(mode).resize((240, 180)).save(folder / "one.png")
    return folders


@pytest.mark.parametrize("name", ["usod-rgb", "usod-nsi"])
def test_the_constants_are_the_papers(name):
    recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    for stage, constants in (("sce", STAGE_1), ("sd", STAGE_2)):
        said = {key: float(value) if value == "5e-4" else value for key, value in recipe[stage].items()}
        assert said.pop("backbone") == "moco_v2_800ep_pretrain.pth.tar"
        assert said == constants


@pytest.mark.slow
def test_two_steps_of_every_stage_run(sets, moco, tmp_path):
    """Jointly, which goes through all that the photos alone do. Constants are as they are but the batch's, three
    images, which is an epoch here, and their size's."""
    images = [sets["photos"], sets["rgbd"], sets["rgbt"]]
    words = ["--recipe", "usod-nsi", "--images", *images, "--set", f"sce.backbone={moco}", f"sd.backbone={moco}"]
    words += ["--aux", "none", sets["depth"], sets["thermal"]]
    words += ["--output_dir", tmp_path / "run", "--refine", "none", "--num_workers", "0", "--num_previews", "1"]
    words += ["--batch_size", "3", "--max_steps", "2", "--log_every", "1", "--size", "96", "--scale_stride", "16"]
    assert main(["train", *map(str, words)]) == 0
    start = torch.load(moco)["state_dict"]["module.encoder_q.conv1.weight"]
    cue, detector = (load_file(tmp_path / "run" / stage / "model" / "model.safetensors") for stage in ("sce", "sd"))
    assert torch.equal(cue["backbone.embedder.embedder.convolution.weight"], start)
    for backbone in ("backbone", "aux_backbone"):
        assert not torch.equal(detector[f"{backbone}.embedder.embedder.convolution.weight"], start)
    labels = LabelStore(tmp_path / "run" / "sd" / "labels")
    assert all(0 < label.mean() < 1 and len(set(label.flat)) > 2 for label in map(labels.latest, range(3)))
    history = [json.loads(line) for line in (tmp_path / "run" / "sd" / "history.jsonl").read_text().splitlines()]
    assert [record["learning_rate"] for record in history] == pytest.approx([0.005 * (1 - 0.8 / 2 * n) for n in (1, 2)])
    assert "label_change" in history[1]
