"""Folders of models and adapters that are not as they should be, through every door that takes them."""

import json
import shutil

import numpy as np
import pytest
import torch
from peft import PeftModel, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModel, pipeline

import hf_usod
from hf_usod import UsodAdapterConfig, UsodImageProcessor, UsodSceConfig, UsodSceModel
from hf_usod.cli import main
from hf_usod.errors import LoadingError
from hf_usod.loading import load

TASK = "salient-object-detection"


@pytest.fixture(scope="module")
def folders(tiny_backbone, tmp_path_factory):
    """A model, an adapter of it, and a photo."""
    root = tmp_path_factory.mktemp("doors")
    model = UsodSceModel(UsodSceConfig(backbone_config=tiny_backbone(), decoder_channels=8))
    model.save_pretrained(root / "model")
    UsodImageProcessor(size={"height": 64, "width": 64}).save_pretrained(root / "model")
    model.name_or_path = str(root / "model")
    get_peft_model(model, UsodAdapterConfig()).save_pretrained(root / "adapter")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)).save(root / "photo.png")
    return root


def _weights(folder):
    (file,) = folder.glob("*.safetensors")
    return file


def _change_weights(folder, change):
    tensors = load_file(_weights(folder))
    change(tensors, next(name for name, tensor in tensors.items() if tensor.is_floating_point()))
    save_file(tensors, _weights(folder), metadata={"format": "pt"})


def _pickle(folder):
    file = _weights(folder)
    name = "pytorch_model.bin" if file.stem == "model" else "adapter_model.bin"
    torch.save(load_file(file), folder / name)
    file.unlink()


FAULTS = {
    "none": lambda folder: None,
    "no weights": lambda folder: _weights(folder).unlink(),
    "weights cut off": lambda folder: _weights(folder).write_bytes(_weights(folder).read_bytes()[:-50]),
    "weights empty": lambda folder: _weights(folder).write_bytes(b""),
    "weights NaN": lambda folder: _change_weights(folder, lambda all, name: all[name].fill_(float("nan"))),
    "weights missing": lambda folder: _change_weights(folder, lambda all, name: all.pop(name)),
    "pickle": _pickle,
    "configuration gone": lambda folder: [file.unlink() for file in folder.glob("*config.json")],
    "configuration cut off": lambda folder: [file.write_text("{") for file in folder.glob("*config.json")],
    "configuration a list": lambda folder: [file.write_text("[]") for file in folder.glob("*config.json")],
}


@pytest.mark.parametrize("kind", ["model", "adapter"])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_folders(folders, tmp_path, capsys, kind, fault):
    folder = tmp_path / "given"
    shutil.copytree(folders / kind, folder)
    FAULTS[fault](folder)
    base = AutoModel.from_pretrained(folders / "model")
    doors = {
        "AutoModel": lambda: AutoModel.from_pretrained(folder),
        "pipeline": lambda: pipeline(TASK, model=str(folder)),
        "load": lambda: load(str(folder)),
    }
    if kind == "adapter":
        doors["load_adapter"] = lambda: AutoModel.from_pretrained(folders / "model").load_adapter(str(folder))
        doors["PeftModel"] = lambda: PeftModel.from_pretrained(base, str(folder))
    command = ["predict", str(folders / "photo.png"), "--model", str(folder), "--output", str(tmp_path / "out")]
    if fault == "none":
        for door in doors.values():
            door()
        assert main([*command, "--device", "cpu"]) == 0
        return
    for name, door in doors.items():
        with pytest.raises(Exception) as caught:
            door()
        if name == "load":
            assert isinstance(caught.value, LoadingError) and str(folder) in str(caught.value)
            assert "\n" not in str(caught.value)
    assert main([*command, "--device", "cpu"]) == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and str(folder) in told[0]


@pytest.mark.parametrize("base", [None, 3, "usod-rgb-liet", "/no/such/folder", "usod-rgb-lite"])
def test_adapters_whose_base_is_wrong(folders, tmp_path, base):
    folder = tmp_path / "given"
    shutil.copytree(folders / "adapter", folder)
    config = json.loads((folder / "adapter_config.json").read_text()) | {"base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    for door in (AutoModel.from_pretrained, UsodSceModel.from_pretrained, load):
        with pytest.raises((OSError, ValueError)):
            door(str(folder))
    assert load(str(folders / "model"), str(folder)).model.active_adapters() == ["default"]


@pytest.mark.parametrize("name", hf_usod.checkpoint_names("adapter"))
def test_folders_of_embedded_adapters(name):
    folder = hf_usod.checkpoint_path(name)
    base = hf_usod.checkpoint_path(json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"])
    for file in ("config.json", "preprocessor_config.json"):
        assert (folder / file).read_bytes() == (base / file).read_bytes()
    images = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        expected = load(name).model(images).logits
        assert torch.equal(AutoModel.from_pretrained(str(folder))(images).logits, expected)
        assert torch.equal(pipeline(TASK, model=str(folder), device="cpu").model(images).logits, expected)


def test_an_adapter_finds_its_base_from_elsewhere(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(folders)
    get_peft_model(AutoModel.from_pretrained("model"), UsodAdapterConfig()).save_pretrained(tmp_path / "of_folder")
    embedded = AutoModel.from_pretrained(hf_usod.checkpoint_path("usod-sce-lite"))
    get_peft_model(embedded, UsodAdapterConfig()).save_pretrained(tmp_path / "of_embedded")
    monkeypatch.chdir(tmp_path)
    config = json.loads((tmp_path / "of_embedded" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "usod-sce-lite"  # not where this machine has it
    for folder in ("of_folder", "of_embedded"):
        assert pipeline(TASK, model=folder, device="cpu").model.active_adapters() == ["default"]
