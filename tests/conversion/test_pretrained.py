"""Whatever file a network comes in: saved, loaded again to the bit, and refused if it is none."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TimmBackbone

from hf_usod import UsodImageProcessor, UsodSceConfig, UsodSceModel, backbone_preset
from hf_usod.conversion import (
    ConversionError,
    Pretrained,
    convert_checkpoint,
    convert_moco_checkpoint,
    load_pretrained_backbone,
)


@pytest.fixture(scope="module")
def folders(moco_checkpoint, tmp_path_factory) -> dict[str, tuple[Pretrained, str]]:
    """Backbones and the folders they are saved in."""
    lite = TimmBackbone(backbone_preset("efficientnet-lite0"))
    backbones = {
        "resnet50": Pretrained(convert_moco_checkpoint(moco_checkpoint["state_dict"]), UsodImageProcessor()),
        "efficientnet-lite0": Pretrained(lite, UsodImageProcessor(image_mean=[0.5] * 3, image_std=[0.5] * 3)),
    }
    folders = {name: str(tmp_path_factory.mktemp(name)) for name in backbones}
    for name, pretrained in backbones.items():
        pretrained.save_pretrained(folders[name])
    return {name: (backbones[name], folders[name]) for name in backbones}


@pytest.mark.parametrize("name", ["resnet50", "efficientnet-lite0"])
def test_load_pretrained_backbone_from_a_folder_is_the_same_to_the_bit(folders, name, images):
    saved, folder = folders[name]
    loaded = load_pretrained_backbone(folder)
    assert type(loaded.model) is type(saved.model)
    assert not loaded.model.training
    expected = saved.model.state_dict()
    state_dict = loaded.model.state_dict()
    assert state_dict.keys() == expected.keys()
    assert all(torch.equal(state_dict[key], expected[key]) for key in expected)
    assert loaded.model.channels == saved.model.channels
    assert len(loaded.model(images).feature_maps) == 4
    assert loaded.image_processor.image_mean == saved.image_processor.image_mean
    assert loaded.image_processor.image_std == saved.image_processor.image_std


def test_load_pretrained_backbone_from_a_file(moco_checkpoint, tmp_path, resnet):
    torch.save(moco_checkpoint, tmp_path / "moco.pth.tar")
    backbone = load_pretrained_backbone(tmp_path / "moco.pth.tar").model
    assert torch.equal(backbone.state_dict()["embedder.embedder.convolution.weight"], resnet.conv1.weight)


def test_config_of_a_loaded_backbone_makes_a_model(folders):
    loaded = load_pretrained_backbone(folders["efficientnet-lite0"][1])
    model = UsodSceModel(UsodSceConfig(backbone_config=loaded.model.config, decoder_channels=8))
    assert model.backbone.state_dict().keys() == loaded.model.state_dict().keys()


def test_folder_with_a_missing_tensor_raises(folders, tmp_path):
    folders["efficientnet-lite0"][0].save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["_backbone.conv_stem.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ConversionError, match=r"missing: _backbone.conv_stem.weight"):
        load_pretrained_backbone(tmp_path)


def test_whole_model_is_no_backbone(resnet, tmp_path):
    decoder = UsodSceModel(UsodSceConfig()).decoder.state_dict()
    names = {"mid_projection": "ad2", "high_projection": "ad3", "deep_projection": "ad4", "fusion": "fusion"}
    parts = {"conv": "ad0.0", "norm": "ad0.1", "gate": "se"}
    state_dict = {f"encoder.{key}": value for key, value in resnet.state_dict().items()}
    for key, value in decoder.items():
        name, part, rest = key.split(".", 2)
        state_dict[f"decoder.{names[name]}.{parts[part]}.{rest}"] = value
    torch.save(state_dict, tmp_path / "sce.pth")
    with pytest.raises(ConversionError, match="whole model"):
        load_pretrained_backbone(tmp_path / "sce.pth")


def test_unknown_layout_names_file_and_keys(tmp_path):
    torch.save({"tokens.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ConversionError, match=r"other.pth: unknown layout.*tokens.weight"):
        convert_checkpoint(tmp_path / "other.pth")


@pytest.mark.parametrize(("name", "found"), [("", "is a folder"), ("efficientnet-lite1", "no such file")])
def test_what_can_be_converted_is_said(name, found, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"{found}\. Give a checkpoint file, or efficientnet-lite0 or"):
        convert_checkpoint(tmp_path / name)


def test_saved_backbone_is_an_ordinary_one(folders):
    with open(f"{folders['resnet50'][1]}/config.json") as file:
        assert json.load(file)["model_type"] == "resnet"
