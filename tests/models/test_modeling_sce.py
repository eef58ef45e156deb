"""The saliency cue extractor, against the method's text written down anew."""

import itertools

import pytest
import torch
from torch.nn import functional as F
from transformers import ResNetConfig

from hf_usod import UsodSceConfig, UsodSceModel, backbone_preset
from hf_usod.models.modeling_usod_sce import orient_foreground

BACKBONES = ["tiny-resnet", "efficientnet-lite0"]
SIZES = [(96, 96), (96, 130), (64, 224), (33, 65)]


@pytest.fixture(scope="module")
def models(tiny_config) -> dict[str, UsodSceModel]:
    """Untrained models in which no parameter or statistic has a value it could be confused with another at."""
    torch.manual_seed(0)
    lite = UsodSceConfig(backbone_config=backbone_preset("efficientnet-lite0"), decoder_channels=8)
    models = {name: UsodSceModel(c).eval() for name, c in zip(BACKBONES, (tiny_config(), lite), strict=True)}
    for model in models.values():
        for parameter in model.decoder.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return models


def _project(state, name, features):
    """Conv3x3 -> GroupNorm(1) -> ReLU -> x * sigmoid(Conv1x1(GAP(x)))."""
    x = F.conv2d(features, state[f"{name}.conv.weight"], state[f"{name}.conv.bias"], padding=1)
    mean, var = x.mean(dim=(1, 2, 3), keepdim=True), x.var(dim=(1, 2, 3), keepdim=True, correction=0)
    scale, shift = state[f"{name}.norm.weight"], state[f"{name}.norm.bias"]
    x = ((x - mean) / (var + 1e-5).sqrt() * scale[:, None, None] + shift[:, None, None]).clamp(min=0)
    gate = state[f"{name}.gate.conv.weight"][:, :, 0, 0] @ x.mean(dim=(2, 3))[..., None]
    gate = gate + state[f"{name}.gate.conv.bias"][:, None]
    return x / (1 + (-gate[..., None]).exp())


def _resize(maps, size):
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)


def _expected_logits(state, features, image_size):
    """Section "SCE (A2S)" of the method, written down from its text."""
    stride4, *deeper = features
    names = ["decoder.mid_projection", "decoder.high_projection", "decoder.deep_projection"]
    projected = [_resize(_project(state, name, f), stride4.shape[-2:]) for name, f in zip(names, deeper, strict=True)]
    fused = _project(state, "decoder.fusion", torch.cat(projected, dim=1))
    maps = []
    for channels in fused:
        logits = sum(channel - channel.mean() for channel in channels)
        corners = [logits[y, x] for y in (0, -1) for x in (0, -1)]
        maps.append(-logits if sum(bool(corner > 0) for corner in corners) >= 2 else logits)
    return _resize(torch.stack(maps)[:, None], image_size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_logits_are_the_methods(models, backbone, size):
    model = models[backbone]
    images = torch.randn(3, 3, *size)
    logits = model(images).logits
    assert logits.shape == (3, 1, *size)
    expected = _expected_logits(model.state_dict(), model.backbone(images).feature_maps, size)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_stride_4_map_is_centered(models):
    model = models["tiny-resnet"]
    logits = model.decoder(model.backbone(torch.randn(2, 3, 96, 128)).feature_maps)
    assert logits.shape == (2, 1, 24, 32)
    assert logits.std() > 0.1
    torch.testing.assert_close(logits.mean(dim=(2, 3)), torch.zeros(2, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("signs", list(itertools.product([-1.0, 1.0], repeat=4)))
def test_orient_foreground_flips_from_two_positive_corners_on(signs):
    logits = torch.full((1, 1, 3, 4), 5.0)
    logits[0, 0, [0, 0, -1, -1], [0, -1, 0, -1]] = torch.tensor(signs)
    expected = -logits if signs.count(1.0) >= 2 else logits
    assert torch.equal(orient_foreground(logits), expected)


def test_orient_foreground_treats_every_map_alone():
    bright, dark = torch.ones(1, 4, 4), -torch.ones(1, 4, 4)
    assert torch.equal(orient_foreground(torch.stack([bright, dark])), torch.stack([dark, dark]))


def test_freeze_backbone(tiny_config):
    model = UsodSceModel(tiny_config())
    model.freeze_backbone()
    model(torch.randn(2, 3, 64, 64)).logits.square().mean().backward()
    assert all(p.grad is None for p in model.backbone.parameters())
    assert all(p.grad is not None and p.grad.any() for p in model.decoder.parameters())


@pytest.mark.parametrize("stages", [["stage2", "stage3", "stage4"], ["stem", "stage1", "stage2", "stage3", "stage4"]])
def test_other_than_four_feature_maps_raise(stages):
    config = UsodSceConfig(backbone_config=ResNetConfig(out_features=stages))
    with torch.device("meta"), pytest.raises(ValueError, match=f"four feature maps.*asks for {len(stages)}"):
        UsodSceModel(config)


def test_full_size():
    with torch.device("meta"):
        model = UsodSceModel(UsodSceConfig())
    assert model.backbone.channels == [256, 512, 1024, 2048]
    assert sum(p.numel() for p in model.backbone.parameters()) == 23_508_032  # ResNet-50 without its classifier
    assert sum(p.numel() for p in model.decoder.parameters()) == 2_192_384
