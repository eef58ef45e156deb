"""The authors' cue extractors, written down with their names, give the same maps when converted."""

import copy

import pytest
import torch
from peft import PeftModel
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel

from hf_usod.conversion import ConversionError, convert_a2s_checkpoint, convert_checkpoint
from hf_usod.models.modeling_usod_sce import UsodSceModel


class Gate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)
        self.gn = nn.GroupNorm(1, channels)  # owned, never called

    def forward(self, x):
        return x * torch.sigmoid(self.conv(F.adaptive_avg_pool2d(x, 1)))


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.ad0 = nn.Sequential(nn.Conv2d(channels, 64, 3, padding=1), nn.GroupNorm(1, 64))
        self.se = Gate(64)

    def forward(self, x):
        return self.se(F.relu(self.ad0(x)))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.ad2, self.ad3, self.ad4, self.fusion = Block(512), Block(1024), Block(2048), Block(192)

    def forward(self, stages, size, adapter=None):
        maps = [block(x) for block, x in zip((self.ad2, self.ad3, self.ad4), stages[1:], strict=True)]
        if adapter is not None:
            maps[2] = maps[2] + adapter(stages[3])
        maps = [F.interpolate(m, size=stages[0].shape[2:], mode="bilinear", align_corners=True) for m in maps]
        fused = self.fusion(torch.cat(maps, dim=1))
        logits = (fused - fused.mean(dim=(2, 3), keepdim=True)).sum(dim=1, keepdim=True)
        corners = torch.stack([logits[..., y, x] for y in (0, -1) for x in (0, -1)]) > 0
        logits = logits * (1 - 2 * (corners.sum(dim=0) >= 2).float())[..., None, None]
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=True)


@pytest.fixture(scope="module")
def decoder(randomize) -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder().eval()
    randomize(decoder)
    return decoder


@pytest.fixture(scope="module")
def state_dict(resnet, decoder) -> dict:
    """The authors' checkpoint of an encoder (with its classifier) and a decoder."""
    encoder = {f"encoder.{key}": value for key, value in resnet.state_dict().items()}
    return encoder | {f"decoder.{key}": value for key, value in decoder.state_dict().items()}


FORMS = {
    "plain": lambda state_dict: state_dict,
    "data parallel": lambda state_dict: {f"module.{key}": value for key, value in state_dict.items()},
    "no classifier": lambda state_dict: {k: v for k, v in state_dict.items() if not k.startswith("encoder.fc.")},
}


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_same_outputs(state_dict, decoder, resnet_features, images, form):
    model = convert_a2s_checkpoint(FORMS[form](state_dict))
    assert isinstance(model, UsodSceModel)
    assert not model.training
    expected = decoder(resnet_features(images), images.shape[-2:])
    assert expected.std() > 0.1
    torch.testing.assert_close(model(images).logits, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_file(state_dict, decoder, resnet_features, images, tmp_path):
    torch.save(state_dict, tmp_path / "sce.pth")
    model, processor = convert_checkpoint(tmp_path / "sce.pth")
    expected = decoder(resnet_features(images), images.shape[-2:])
    torch.testing.assert_close(model(images).logits, expected, atol=1e-4, rtol=1e-4)
    assert processor.image_mean == (0.485, 0.456, 0.406)


@pytest.fixture(scope="module")
def adapter(randomize) -> Block:
    torch.manual_seed(1)
    adapter = Block(2048).eval()
    randomize(adapter)
    return adapter


@torch.no_grad()
def test_adapter(state_dict, decoder, adapter, resnet_features, images, tmp_path):
    keys = {f"adapter.{key}": value for key, value in adapter.state_dict().items()}
    torch.save(state_dict | keys, tmp_path / "transferred.pth")
    converted = convert_checkpoint(tmp_path / "transferred.pth")
    stages, size = resnet_features(images), images.shape[-2:]
    adapted, plain = decoder(stages, size, adapter), decoder(stages, size)
    torch.testing.assert_close(converted.model(pixel_values=images).logits, adapted, atol=1e-4, rtol=1e-4)
    with converted.model.disable_adapter():
        torch.testing.assert_close(converted.model(pixel_values=images).logits, plain, atol=1e-4, rtol=1e-4)

    converted.save_pretrained(tmp_path / "saved")
    base = AutoModel.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(base(images).logits, plain, atol=1e-4, rtol=1e-4)
    loaded = PeftModel.from_pretrained(base, tmp_path / "saved" / "adapter")
    torch.testing.assert_close(loaded(pixel_values=images).logits, adapted, atol=1e-4, rtol=1e-4)


def test_adapter_of_wrong_keys_raises(state_dict, adapter):
    keys = {f"adapter.{key}": value for key, value in adapter.state_dict().items() if key != "ad0.0.bias"}
    with pytest.raises(ConversionError, match=r"missing: conv\.bias"):
        convert_a2s_checkpoint(state_dict | keys)


def _without(key):
    return lambda state_dict: state_dict.pop(key)


def _with(key, *shape):
    return lambda state_dict: state_dict.update({key: torch.zeros(shape)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("decoder.ad3.ad0.0.bias"), "missing: high_projection.conv.bias"),
        (_without("decoder.fusion.se.conv.weight"), "missing: fusion.gate.conv.weight"),
        (_without("encoder.layer4.2.bn3.running_var"), "missing: encoder.stages.3.layers.2.layer.2.normalization.run"),
        (_with("decoder.ad5.ad0.0.weight", 64, 64, 3, 3), r"unexpected: ad5\.conv\.weight"),
        (_with("decoder.ad4.extra", 1), r"unexpected: deep_projection\.extra"),
        (_with("encoder.layer9.0.conv1.weight", 1), r"unexpected: encoder\.stages\.8\."),
        (_with("optimizer", 1), "unexpected: optimizer"),
        (_with("decoder.ad2.ad0.0.weight", 64, 256, 3, 3), r"mid_projection.conv.weight \(64, 256, 3, 3\) instead of"),
        (_with("encoder.conv1.weight", 64, 3, 3, 3), r"another shape: .* \(64, 3, 3, 3\) instead of \(64, 3, 7, 7\)"),
    ],
)
def test_wrong_keys_are_listed(state_dict, change, message):
    state_dict = copy.copy(state_dict)
    change(state_dict)
    with pytest.raises(ConversionError, match=message):
        convert_a2s_checkpoint(state_dict)


def test_all_wrong_keys_are_listed_at_once(state_dict):
    state_dict = {k: v for k, v in state_dict.items() if not k.startswith("decoder.ad3.ad0.")}
    with pytest.raises(ConversionError) as error:
        convert_a2s_checkpoint(state_dict | {"decoder.ad3.what": torch.zeros(1)})
    for key in ("conv.weight", "conv.bias", "norm.weight", "norm.bias", "what"):
        assert f"high_projection.{key}" in str(error.value)
