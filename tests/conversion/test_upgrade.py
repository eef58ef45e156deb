"""Detectors and adapters saved with the earlier order of the global block: refused, and upgraded to the same maps."""

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from hf_usod import UsodAdapterConfig, UsodSdConfig, UsodSdModel
from hf_usod.cli import main


def as_earlier(path):
    """Rewrites a file of weights as version 0.1 would have saved it: `fusion`, (x, pooled branches)."""
    weights = load_file(path)
    earlier = {}
    for key, value in weights.items():
        if "global_info" in key and key.endswith(".output.conv.weight"):
            width = weights[key.replace("output.conv", "reduction.conv")].shape[0]
            value = torch.cat([value[:, -width:], value[:, :-width]], dim=1)
        if "global_info" in key:
            key = key.replace(".output.", ".fusion.")
        earlier[key] = value.contiguous()
    save_file(earlier, path, metadata={"format": "pt"})


@pytest.fixture
def detector(tiny_backbone, randomize):
    backbone = tiny_backbone()
    config = UsodSdConfig(
        backbone_config=backbone,
        aux_backbone_config=backbone,
        neck_channels=[4, 6, 8, 10],
        fusion_channels=6,
        context_channels=8,
    )
    model = UsodSdModel(config).eval()
    randomize(model)
    return model


@pytest.fixture
def inputs():
    random = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 64, 64, generator=random), torch.rand(2, 3, 64, 64, generator=random)


@torch.no_grad()
def test_model(detector, inputs, tmp_path, capsys):
    detector.save_pretrained(tmp_path / "old")
    as_earlier(tmp_path / "old" / "model.safetensors")
    with pytest.raises(ValueError, match=r"lacks weights.*global_info\.output.*hf-usod convert FOLDER"):
        AutoModel.from_pretrained(tmp_path / "old")
    assert main(["convert", str(tmp_path / "old"), "--output", str(tmp_path / "new")]) == 0
    upgraded = AutoModel.from_pretrained(tmp_path / "new").eval()
    assert torch.equal(upgraded(*inputs).logits, detector(*inputs).logits)
    assert main(["convert", str(tmp_path / "new"), "--output", str(tmp_path / "again")]) == 1
    assert "nothing is to be upgraded" in capsys.readouterr().err and not (tmp_path / "again").exists()


@torch.no_grad()
def test_adapter(detector, inputs, randomize, tmp_path):
    detector.save_pretrained(tmp_path / "base")
    adapted = get_peft_model(AutoModel.from_pretrained(tmp_path / "base"), UsodAdapterConfig()).eval()
    randomize(adapted.get_base_model().decoder.global_info.usod_adapter_modules)
    adapted.save_pretrained(tmp_path / "old")
    expected = adapted(*inputs).logits
    as_earlier(tmp_path / "old" / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=r"lacks weights.*hf-usod convert FOLDER"):
        AutoModel.from_pretrained(tmp_path / "base").load_adapter(str(tmp_path / "old"))
    assert main(["convert", str(tmp_path / "old"), "--output", str(tmp_path / "new")]) == 0
    model = AutoModel.from_pretrained(tmp_path / "base").eval()
    model.load_adapter(str(tmp_path / "new"))
    assert torch.equal(model.eval()(*inputs).logits, expected)


def test_what_lacks_weights_is_refused(detector, tmp_path):
    detector.save_pretrained(tmp_path / "sd")
    weights = load_file(tmp_path / "sd" / "model.safetensors")
    del weights["decoder.score.weight"]
    save_file(weights, tmp_path / "sd" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks weights of its configuration: decoder\.score\.weight\.$"):
        AutoModel.from_pretrained(tmp_path / "sd")
