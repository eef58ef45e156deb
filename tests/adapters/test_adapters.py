"""The task adapter as PEFT users expect it: T(F) + Ta(F), small files, an exact way back."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from hf_usod import UsodSceConfig, UsodSceModel, UsodSdConfig, UsodSdModel, checkpoint_path
from hf_usod.adapters import UsodAdapterConfig


@pytest.fixture(scope="module")
def base(tiny_backbone, tmp_path_factory):
    """A folder with a model."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("base")
    UsodSceModel(UsodSceConfig(backbone_config=tiny_backbone(), decoder_channels=8)).save_pretrained(folder)
    return folder


@pytest.fixture
def model(base):
    return UsodSceModel.from_pretrained(base)


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64)


@pytest.fixture
def detector(tiny_backbone):
    backbones = {"backbone_config": tiny_backbone(stem=True), "aux_backbone_config": tiny_backbone(stem=True)}
    widths = {"neck_channels": [8, 8, 16, 16], "fusion_channels": 8, "context_channels": 8, "pool_sizes": [2, 1]}
    model = UsodSdModel(UsodSdConfig(**backbones, **widths))
    for module in model.modules():  # N(0, 0.01), as it is trained from, lets the images hardly through
        if isinstance(module, torch.nn.Conv2d):
            module.reset_parameters()
    return model.eval()


def logits(model, images):
    with torch.no_grad():
        return model(pixel_values=images).logits


def detected(model, images):
    with torch.no_grad():
        return model(images, images.flip(0)).logits


def train(model, images, steps=3, rate=0.1, mode=True):
    """A few steps of gradient descent; returns the losses."""
    model.train(mode)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], rate)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(pixel_values=images).logits.sigmoid().square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses


def close(a, b):
    """Equal but for the last bits, which convolutions take from where in memory their weights lie."""
    return torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def buffers(model):
    """The base's batch norm statistics."""
    return {
        name.replace("base_layer.", ""): tensor.clone()
        for name, tensor in model.named_buffers()
        if "usod_adapter_" not in name
    }


def test_output_is_the_sum_of_both_modules(model):
    projection = model.decoder.deep_projection
    adapted = get_peft_model(model, UsodAdapterConfig())
    layer = model.decoder.deep_projection
    features = torch.randn(2, 16, 2, 2)
    adapter = layer.usod_adapter_modules["default"]
    assert torch.equal(layer(features), projection(features) + adapter(features))
    assert not torch.equal(projection(features), adapter(features))
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert len(trained) == 6 and all("deep_projection.usod_adapter_modules" in name for name in trained)


@pytest.mark.parametrize("init_weights", ["random", "copy", "zero"])
def test_training_and_disabling_gives_the_base_back(model, images, init_weights):
    before = logits(model, images)
    adapted = get_peft_model(model, UsodAdapterConfig(init_weights=init_weights))
    train(adapted, images)
    assert not torch.equal(logits(adapted, images), before)
    with adapted.disable_adapter():
        assert torch.equal(logits(adapted, images), before)


def test_copy_doubles_the_module(model):
    projection = model.decoder.deep_projection
    get_peft_model(model, UsodAdapterConfig(init_weights="copy"))
    features = torch.randn(2, 16, 2, 2)
    doubled = model.decoder.deep_projection(features)
    torch.testing.assert_close(doubled, 2 * projection(features), rtol=1e-5, atol=1e-6)  # their weights may lie apart


def test_zero_starts_as_the_base_and_learns(model, images):
    before = logits(model, images)
    adapted = get_peft_model(model, UsodAdapterConfig(init_weights="zero"))
    assert torch.equal(logits(adapted, images), before)
    layer = model.decoder.deep_projection
    scale, weights = layer.usod_adapter_scales["default"], layer.usod_adapter_modules["default"].conv.weight
    start = weights.clone()
    losses = train(adapted, images, steps=1)
    assert scale.grad != 0 and scale != 0  # it moves at the first step,
    assert weights.grad.abs().max() == 0 and torch.equal(weights, start)
    losses += train(adapted, images, steps=9)
    assert weights.grad.abs().max() > 0 and not torch.equal(weights, start)  # and with it, then, all of Ta
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("init_weights, tensors", [("random", 6), ("copy", 6), ("zero", 7)])
def test_save_and_load_through_every_door(model, base, images, tmp_path, init_weights, tensors):
    adapted = get_peft_model(model, UsodAdapterConfig(init_weights=init_weights))
    train(adapted, images)
    expected = logits(adapted, images)
    folder = str(tmp_path / "adapter")
    adapted.save_pretrained(folder)
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert len(saved) == tensors and all("deep_projection.usod_adapter_" in name for name in saved)

    fresh = UsodSceModel.from_pretrained(base)
    assert close(logits(PeftModel.from_pretrained(fresh, folder).eval(), images), expected)

    fresh = UsodSceModel.from_pretrained(base).eval()
    plain = logits(fresh, images)
    fresh.load_adapter(folder)
    assert close(logits(fresh.eval(), images), expected)
    fresh.disable_adapters()
    assert torch.equal(logits(fresh, images), plain)
    fresh.enable_adapters()
    assert close(logits(fresh, images), expected)

    assert close(logits(AutoModel.from_pretrained(folder), images), expected)  # the base by the adapter's word


def test_half_precision_files_are_computed_with_in_single(model, base, images, tmp_path):
    adapted = get_peft_model(model, UsodAdapterConfig(init_weights="zero"))
    train(adapted, images)
    expected = logits(adapted, images)
    adapted.half().save_pretrained(tmp_path / "adapter")
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float16}
    fresh = UsodSceModel.from_pretrained(base, dtype=torch.float32)
    fresh.load_adapter(str(tmp_path / "adapter"))
    wrapped = PeftModel.from_pretrained(UsodSceModel.from_pretrained(base), tmp_path / "adapter")
    for loaded in (fresh, wrapped, AutoModel.from_pretrained(tmp_path / "adapter")):
        assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
        assert torch.allclose(logits(loaded.eval(), images), expected, atol=1e-2)


def test_several_adapters(model, images):
    adapted = get_peft_model(model, UsodAdapterConfig(), adapter_name="video").eval()
    adapted.add_adapter("aerial", UsodAdapterConfig())
    outputs = {}
    for name in ("video", "aerial"):
        adapted.set_adapter(name)
        outputs[name] = logits(adapted, images)
    assert not torch.equal(outputs["video"], outputs["aerial"])
    adapted.delete_adapter("aerial")
    adapted.set_adapter("video")
    assert torch.equal(logits(adapted, images), outputs["video"])
    assert torch.equal(logits(adapted.unload(), images), logits(model, images))


def test_the_methods_of_transformers(model, images, tmp_path):
    plain = logits(model, images)
    model.add_adapter(UsodAdapterConfig(init_weights="zero"), "steel")
    assert model.active_adapters() == ["steel"]
    train(model, images)
    model.add_adapter(UsodAdapterConfig(), "aerial")
    assert model.active_adapters() == ["aerial"]
    outputs = {}
    for name in ("steel", "aerial"):
        model.set_adapter(name)
        trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
        assert trained and all(f".{name}" in key for key in trained)
        outputs[name] = logits(model, images)
    assert not torch.equal(outputs["steel"], outputs["aerial"])
    model.set_adapter("steel")
    model.save_pretrained(tmp_path / "steel")
    names = {file.name for file in (tmp_path / "steel").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json"} <= names and "model.safetensors" not in names
    assert len(load_file(tmp_path / "steel" / "adapter_model.safetensors")) == 7

    model.delete_adapter("aerial")
    assert model.active_adapters() == ["steel"]
    assert torch.equal(logits(model, images), outputs["steel"])
    model.delete_adapter("steel")
    assert torch.equal(logits(model, images), plain)
    with pytest.raises(ValueError, match="No adapter loaded"):
        model.set_adapter("steel")
    for name in ("again", "once more"):
        model.load_adapter(str(tmp_path / "steel"), name)
        assert close(logits(model, images), outputs["steel"])
    model.set_adapter("again")
    assert close(logits(model, images), outputs["steel"])
    model.disable_adapters()
    assert torch.equal(logits(model, images), plain)


@pytest.mark.parametrize("door", ["peft", "transformers"])
def test_the_detector_keeps_its_statistics_and_the_adapter_has_its_own(detector, images, door, tmp_path):
    before, statistics = detected(detector, images), buffers(detector)
    detector.save_pretrained(tmp_path / "base")
    config = UsodAdapterConfig(init_weights="zero")
    if door == "peft":
        adapted = get_peft_model(detector, config)
    else:
        detector.add_adapter(config)
        adapted = detector
    assert torch.equal(detected(adapted.eval(), images), before)
    adapted.train()
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        adapted(images, images.flip(0)).logits.square().mean().backward()
        optimizer.step()
    adapted.eval()
    assert all(torch.equal(tensor, statistics[name]) for name, tensor in buffers(detector).items())
    layer = detector.decoder.global_info
    own = layer.usod_adapter_modules["default"].reduction.norm
    assert not torch.equal(own.running_mean, layer.base_layer.reduction.norm.running_mean)
    after = detected(adapted, images)
    assert not torch.equal(after, before)
    layer.enable_adapters(False)
    assert torch.equal(detected(adapted, images), before)
    layer.enable_adapters(True)

    adapted.save_pretrained(tmp_path / "adapter")
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert all("decoder.global_info.usod_adapter_" in name for name in saved)
    assert sum(name.endswith("running_mean") for name in saved) == 2
    fresh = UsodSdModel.from_pretrained(tmp_path / "base")
    fresh.load_adapter(str(tmp_path / "adapter"))
    assert close(detected(fresh.eval(), images), after)


def test_unfrozen_batch_norms_train_again(detector, images):
    detector.add_adapter(UsodAdapterConfig())
    detector.delete_adapter("default")
    detector.requires_grad_(True).train()
    statistics = buffers(detector)
    detector(images, images)
    moved = {name for name, value in buffers(detector).items() if not torch.equal(value, statistics[name])}
    assert moved == {name for name in statistics if "global_info" not in name}  # whose wrapper is still there


def test_lora_on_the_same_module(model, images, tmp_path):
    """PEFT's own, as an alternative to compare with."""
    before = logits(model, images)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["deep_projection.conv"]))
    assert torch.equal(logits(adapted, images), before)
    train(adapted, images, mode=False)  # LoRA does not keep the base's batch norms still
    expected = logits(adapted, images)
    assert not torch.equal(expected, before)
    adapted.save_pretrained(tmp_path)
    with adapted.disable_adapter():
        assert torch.equal(logits(adapted, images), before)
    loaded = PeftModel.from_pretrained(adapted.unload(), tmp_path).eval()
    assert close(logits(loaded, images), expected)


def test_merging_says_why_not(model):
    adapted = get_peft_model(model, UsodAdapterConfig())
    for merge in (adapted.merge_and_unload, adapted.merge_adapter):
        with pytest.raises(ValueError, match="cannot be merged"):
            merge()


@pytest.mark.parametrize(
    "config, message",
    [
        ({"init_weights": "zeros"}, "must be one of random, copy, zero"),
        ({"target_modules": ["decoder", "deep_projection"]}, "must not lie in one another"),
    ],
)
def test_bad_configurations(model, config, message):
    with pytest.raises(ValueError, match=message):
        get_peft_model(model, UsodAdapterConfig(**config))


def _load(door, base, folder):
    model = UsodSceModel.from_pretrained(base)
    return PeftModel.from_pretrained(model, folder) if door == "peft" else model.load_adapter(str(folder))


def _saved_adapter(model, images, folder):
    adapted = get_peft_model(model, UsodAdapterConfig(init_weights="zero"))
    train(adapted, images)
    adapted.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("door", ["peft", "transformers", "auto"])
def test_a_learned_scale_is_loaded_whatever_the_configuration_says(model, base, images, tmp_path, door, capfd):
    folder = _saved_adapter(model, images, tmp_path / "adapter")
    expected = logits(model, images)
    config = json.loads((folder / "adapter_config.json").read_text())
    del config["init_weights"]
    (folder / "adapter_config.json").write_text(json.dumps(config))
    capfd.readouterr()
    loaded = UsodSceModel.from_pretrained(base)
    if door == "peft":
        loaded = PeftModel.from_pretrained(loaded, folder)
    elif door == "transformers":
        loaded.load_adapter(str(folder))
    else:
        loaded = AutoModel.from_pretrained(folder)
    assert close(logits(loaded.eval(), images), expected)
    assert "UNEXPECTED" not in capfd.readouterr().err
    loaded.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "adapter_config.json").read_text())["init_weights"] == "zero"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("door", ["peft", "transformers"])
def test_weights_that_are_not_finite_raise(model, base, images, tmp_path, door, value):
    folder = _saved_adapter(model, images, tmp_path)
    weights = load_file(folder / "adapter_model.safetensors")
    name = next(name for name in weights if name.endswith("norm.weight"))
    weights[name][0] = value
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"NaN or infinite: .*norm\.") as raised:
        _load(door, base, folder)
    assert "\n" not in str(raised.value)


def test_a_pickle_on_the_hub_is_not_read(tmp_path):
    """Of a repository as the Hub's cache holds it, offline."""
    weights = load_file(checkpoint_path("usod-steel-lite") / "adapter_model.safetensors")
    snapshot = tmp_path / "hub" / "models--some--pickle" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    shutil.copyfile(checkpoint_path("usod-steel-lite") / "adapter_config.json", snapshot / "adapter_config.json")
    torch.save(weights, snapshot / "adapter_model.bin")
    model, place = AutoModel.from_pretrained(checkpoint_path()), {"cache_dir": str(tmp_path / "hub")}
    with pytest.raises(ValueError, match=r"some/pickle: its weights are in adapter_model\.bin, a pickle"):
        model.load_adapter("some/pickle", adapter_kwargs=place)
    with pytest.raises(ValueError, match=r"some/pickle: its weights are in adapter_model\.bin, a pickle"):
        UsodAdapterConfig.from_pretrained("some/pickle", **place)
    (snapshot / "adapter_model.bin").unlink()
    save_file(weights, snapshot / "adapter_model.safetensors", metadata={"format": "pt"})
    model.load_adapter("some/pickle", adapter_kwargs=place)
    assert model.active_adapters() == ["default"]
