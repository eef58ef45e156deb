"""Models and adapters by name, folder or Hub id; an adapter finds its base by itself."""

import json
import shutil

import numpy as np
import pytest
import torch
from peft import get_peft_model
from PIL import Image
from transformers import AutoConfig, AutoModel, pipeline

import hf_usod
from hf_usod import UsodAdapterConfig, UsodImageProcessor, UsodSceConfig, UsodSceModel
from hf_usod.adapters.config import copy_base_files
from hf_usod.cli import main
from hf_usod.errors import LoadingError
from hf_usod.loading import load, load_pipeline


@pytest.fixture
def checkpoints(tiny_backbone, tmp_path, monkeypatch):
    """A package with one tiny embedded model, `tiny`, and one adapter of it, `tiny-steel`."""
    folder = tmp_path / "checkpoints"
    backbone = tiny_backbone()
    model = UsodSceModel(UsodSceConfig(backbone_config=backbone, decoder_channels=8))
    model.save_pretrained(folder / "tiny")
    UsodImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder / "tiny")
    model.name_or_path = "tiny"
    get_peft_model(model, UsodAdapterConfig()).save_pretrained(folder / "tiny-steel")
    monkeypatch.setattr("hf_usod.assets.CHECKPOINTS", folder)
    monkeypatch.setattr("hf_usod.loading.DEFAULT_MODEL", "tiny")
    return folder


def saliency(detect):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))
    return np.asarray(detect(image)["saliency"])


def rename_base(folder, base):
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": base}))


def test_embedded_models_and_adapters_by_name(checkpoints):
    assert hf_usod.checkpoint_names() == ["tiny"] and hf_usod.checkpoint_names("adapter") == ["tiny-steel"]
    assert hf_usod.checkpoint_path("tiny-steel") == checkpoints / "tiny-steel"
    with pytest.raises(ValueError, match="there are: tiny, tiny-steel"):
        hf_usod.checkpoint_path("huge")


@pytest.mark.parametrize("given", ["name", "folder"])
def test_an_adapter_brings_its_base(checkpoints, given):
    plain = saliency(load_pipeline(device="cpu"))
    adapter = "tiny-steel" if given == "name" else str(checkpoints / "tiny-steel")
    detect = load_pipeline(device="cpu", adapter=adapter)
    assert type(detect.model) is UsodSceModel and detect.model.active_adapters() == ["default"]
    assert not detect.model.training
    assert not np.array_equal(saliency(detect), plain)
    detect.model.disable_adapters()
    assert np.array_equal(saliency(detect), plain)


def test_a_base_elsewhere_is_given(checkpoints, tmp_path):
    rename_base(checkpoints / "tiny-steel", str(tmp_path / "gone"))
    with pytest.raises(LoadingError, match=r"gone, cannot be loaded\. If it lies elsewhere, say where with --model"):
        load_pipeline(device="cpu", adapter="tiny-steel")
    shutil.copytree(checkpoints / "tiny", tmp_path / "here")
    assert load_pipeline(str(tmp_path / "here"), "tiny-steel", device="cpu").model.active_adapters() == ["default"]


def test_errors_say_the_way_out(checkpoints):
    with pytest.raises(LoadingError, match=r"no/such: cannot be read.*one of the embedded: tiny-steel"):
        load_pipeline(device="cpu", adapter="no/such")
    with pytest.raises(LoadingError, match="--adapter tiny: cannot be read"):
        load_pipeline(device="cpu", adapter="tiny")  # a model, and no adapter
    rename_base(checkpoints / "tiny-steel", None)
    with pytest.raises(LoadingError, match=r"does not name its base model\. Give it with --model"):
        load_pipeline(device="cpu", adapter="tiny-steel")


def test_an_adapter_of_another_model_does_not_fit(tiny_backbone, checkpoints, tmp_path):
    UsodSceModel(UsodSceConfig(backbone_config=tiny_backbone(), decoder_channels=6)).save_pretrained(tmp_path / "other")
    UsodImageProcessor().save_pretrained(tmp_path / "other")
    with pytest.raises(LoadingError, match="tiny-steel: cannot be loaded into"):
        load_pipeline(str(tmp_path / "other"), "tiny-steel", device="cpu")


def test_predict_with_an_adapter(checkpoints, tmp_path):
    torch.manual_seed(1)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)).save(tmp_path / "a.png")
    for name, options in (("plain", []), ("steel", ["--adapter", "tiny-steel"])):
        arguments = ["predict", str(tmp_path / "a.png"), "--output", str(tmp_path / name), "--device", "cpu"]
        assert main([*arguments, *options]) == 0
    plain, steel = (np.asarray(Image.open(tmp_path / name / "a.png")) for name in ("plain", "steel"))
    assert not np.array_equal(plain, steel)


@pytest.mark.parametrize("device, problem", [("cuda:99", "cannot be used here"), ("cudda", "no such device. Give cpu")])
def test_a_device_that_is_not_there_is_named(device, problem):
    with pytest.raises(LoadingError, match=f"--device {device}: {problem}"):
        load("usod-sce-lite", device=device)


def test_an_adapter_given_as_a_model_brings_its_base(checkpoints):
    for name in ("tiny-steel", str(checkpoints / "tiny-steel")):
        model = load(name).model
        assert type(model) is UsodSceModel and model.active_adapters() == ["default"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tinny", "no model of that name is embedded; did you mean tiny[?]"),
        ("something-else", "no model of that name is embedded; there are: tiny"),
        ("somebody/something", "The Hub cannot be reached"),
    ],
)
def test_names_that_lead_nowhere(checkpoints, monkeypatch, name, message):
    def offline(*args, **kwargs):
        raise OSError("We couldn't connect to 'https://huggingface.co' to load the files.\nCheck your connection.")

    if "/" in name:
        monkeypatch.setattr("hf_usod.loading.AutoModel.from_pretrained", offline)
    with pytest.raises(LoadingError, match=message) as caught:
        load(name)
    assert "\n" not in str(caught.value)


def _truncate(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def _wrong_type(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"decoder_channels": "many"}))


def _pickle(folder):
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _wrong_type,
        _pickle,
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'),
        lambda folder: (folder / "preprocessor_config.json").write_text("[]"),
    ],
)
def test_damaged_folders_end_in_a_line(checkpoints, tmp_path, damage):
    folder = tmp_path / "model"
    shutil.copytree(checkpoints / "tiny", folder)
    damage(folder)
    with pytest.raises(LoadingError, match=f"{folder}: cannot be loaded") as caught:
        load(str(folder), kind=UsodSceModel)
    assert "\n" not in str(caught.value)


@pytest.fixture
def adapter_on_the_hub(checkpoints, tmp_path, monkeypatch):
    """`some/adapter`, as `push_to_hub` of an adapter writes it, in the Hub's cache, offline."""
    repository = tmp_path / "hub" / "models--some--adapter"
    snapshot = repository / "snapshots" / ("0" * 40)
    shutil.copytree(checkpoints / "tiny-steel", snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return "some/adapter"


@pytest.mark.parametrize("files", ["with the base's", "its own alone"])
def test_an_adapter_on_the_hub_brings_its_embedded_base(checkpoints, adapter_on_the_hub, tmp_path, files, monkeypatch):
    expected = saliency(load_pipeline(device="cpu", adapter="tiny-steel"))
    if files == "with the base's":
        copy_base_files("tiny", next(tmp_path.glob("hub/*/snapshots/*")))
    for detect in (
        pipeline(model=adapter_on_the_hub, task="salient-object-detection", device="cpu"),
        pipeline(model=adapter_on_the_hub, task="salient-object-detection", device="cpu", revision="main"),
    ):
        assert detect.model.active_adapters() == ["default"]
        assert np.array_equal(saliency(detect), expected)
    for loaded in (AutoModel.from_pretrained(adapter_on_the_hub), UsodSceModel.from_pretrained(adapter_on_the_hub)):
        assert type(loaded) is UsodSceModel and loaded.active_adapters() == ["default"] and not loaded.training
    monkeypatch.undo()  # another cache than the usual
    monkeypatch.setattr("hf_usod.assets.CHECKPOINTS", checkpoints)
    loaded = UsodSceModel.from_pretrained(adapter_on_the_hub, cache_dir=tmp_path / "hub", revision="main")
    assert loaded.active_adapters() == ["default"]


def test_a_folder_of_an_embedded_name_comes_first(checkpoints, tmp_path, monkeypatch):
    assert AutoModel.from_pretrained("tiny").config.decoder_channels == 8
    backbone = AutoConfig.from_pretrained("tiny").backbone_config
    UsodSceModel(UsodSceConfig(backbone_config=backbone, decoder_channels=4)).save_pretrained(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    assert AutoModel.from_pretrained("tiny").config.decoder_channels == 4
