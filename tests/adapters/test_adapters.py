"""The task adapter as PEFT users expect it: T(F) + Ta(F), small files, an exact way back."""

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import ResNetConfig

from hf_usod import UsodSceConfig, UsodSceModel
from hf_usod.adapters import UsodAdapterConfig


@pytest.fixture
def model():
    backbone = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return UsodSceModel(UsodSceConfig(backbone_config=backbone, decoder_channels=8)).eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64)


def logits(model, images):
    with torch.no_grad():
        return model(pixel_values=images).logits


def test_output_is_the_sum_of_both_modules(model, images):
    projection = model.decoder.deep_projection
    adapted = get_peft_model(model, UsodAdapterConfig())
    layer = model.decoder.deep_projection
    features = torch.randn(2, 16, 2, 2)
    adapter = layer.usod_adapter_modules["default"]
    assert torch.equal(layer(features), projection(features) + adapter(features))
    assert not torch.equal(projection(features), adapter(features))
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert len(trained) == 6 and all("deep_projection.usod_adapter_modules" in name for name in trained)


def test_training_and_disabling_gives_the_base_back(model, images):
    before = logits(model, images)
    adapted = get_peft_model(model, UsodAdapterConfig()).train()
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        adapted(pixel_values=images).logits.sigmoid().square().mean().backward()
        optimizer.step()
    adapted.eval()
    assert not torch.equal(logits(adapted, images), before)
    with adapted.disable_adapter():
        assert torch.equal(logits(adapted, images), before)


def test_copy_doubles_the_module(model):
    projection = model.decoder.deep_projection
    get_peft_model(model, UsodAdapterConfig(init_weights="copy"))
    features = torch.randn(2, 16, 2, 2)
    assert torch.equal(model.decoder.deep_projection(features), 2 * projection(features))


def test_save_and_load(model, images, tmp_path):
    model.save_pretrained(tmp_path / "base")
    adapted = get_peft_model(model, UsodAdapterConfig()).eval()
    expected = logits(adapted, images)
    adapted.save_pretrained(tmp_path / "adapter")
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert len(saved) == 6 and all("deep_projection.usod_adapter_modules." in name for name in saved)

    fresh = UsodSceModel.from_pretrained(tmp_path / "base").eval()
    assert torch.equal(logits(PeftModel.from_pretrained(fresh, tmp_path / "adapter").eval(), images), expected)

    fresh = UsodSceModel.from_pretrained(tmp_path / "base").eval()
    base = logits(fresh, images)
    fresh.load_adapter(str(tmp_path / "adapter"))
    assert torch.equal(logits(fresh.eval(), images), expected)
    fresh.disable_adapters()
    assert torch.equal(logits(fresh, images), base)


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


def test_merging_says_why_not(model):
    adapted = get_peft_model(model, UsodAdapterConfig())
    with pytest.raises(ValueError, match="cannot be merged"):
        adapted.merge_and_unload()


@pytest.mark.parametrize(
    "config, message",
    [
        ({"init_weights": "zeros"}, "must be one of random, copy"),
        ({"target_modules": ["decoder", "deep_projection"]}, "must not lie in one another"),
    ],
)
def test_bad_configurations(model, config, message):
    with pytest.raises(ValueError, match=message):
        get_peft_model(model, UsodAdapterConfig(**config))
