import itertools

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForSemanticSegmentation, ResNetConfig

from hf_usod import UsodSceConfig, UsodSceModel, backbone_preset
from hf_usod.models import modeling_usod_sce
from hf_usod.models.modeling_usod_sce import orient_foreground

BACKBONES = ["tiny-resnet", "efficientnet-lite0"]
SIZES = [(96, 96), (96, 130), (64, 224), (33, 65)]


@pytest.fixture(scope="module")
def models(tiny_config) -> dict[str, UsodSceModel]:
    """Untrained models in which no parameter or statistic has a value it could be confused with another at."""
    torch.manual_seed(0)
    lite = UsodSceConfig(backbone_config=backbone_preset("efficientnet-lite0"), decoder_channels=8)
    models = {name: UsodSceModel(c).eval() for name, c in zip(BACKBONES, (tiny_config(), lite))}
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
    projected = [_resize(_project(state, name, f), stride4.shape[-2:]) for name, f in zip(names, deeper)]
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


@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_hidden_states_are_the_features_at_strides_4_to_32(models, backbone):
    images = torch.randn(1, 3, 96, 160)
    assert models[backbone](images).hidden_states is None
    hidden_states = models[backbone](images, output_hidden_states=True).hidden_states
    assert [tuple(h.shape[-2:]) for h in hidden_states] == [(24, 40), (12, 20), (6, 10), (3, 5)]
    for hidden_state, features in zip(hidden_states, models[backbone].backbone(images).feature_maps):
        assert torch.equal(hidden_state, features)


@torch.no_grad()
def test_stride_4_map_is_centred(models):
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


def test_return_dict_false_gives_a_tuple(models):
    outputs = models["tiny-resnet"](torch.randn(1, 3, 64, 64), return_dict=False)
    assert isinstance(outputs, tuple)
    assert [o.shape for o in outputs] == [(1, 1, 64, 64)]


@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_saved_and_loaded_is_the_same_to_the_bit(models, backbone, tmp_path):
    model = models[backbone]
    model.save_pretrained(tmp_path)
    images = torch.randn(2, 3, 64, 96)
    for door in (UsodSceModel, AutoModel, AutoModelForSemanticSegmentation):
        loaded = door.from_pretrained(tmp_path)
        assert type(loaded) is UsodSceModel
        assert not loaded.training
        state_dict = loaded.state_dict()
        assert state_dict.keys() == model.state_dict().keys()
        assert all(torch.equal(state_dict[key], value) for key, value in model.state_dict().items())
        # Not to the bit: matrix products round by the alignment of the weights in memory
        torch.testing.assert_close(loaded(images).logits, model(images).logits, atol=1e-5, rtol=1e-5)


def test_loading_builds_on_the_meta_device(checkpoint, monkeypatch):
    devices = []

    class Spy(modeling_usod_sce.UsodSceDecoder):
        def __init__(self, *args):
            super().__init__(*args)
            devices.append(self.fusion.conv.weight.device.type)

    monkeypatch.setattr(modeling_usod_sce, "UsodSceDecoder", Spy)
    model = UsodSceModel.from_pretrained(checkpoint)
    assert devices == ["meta"]
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"cpu"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision(checkpoint, dtype):
    model = AutoModel.from_pretrained(checkpoint, dtype=dtype)
    full = AutoModel.from_pretrained(checkpoint)
    assert model.dtype == dtype
    assert torch.equal(model.decoder.fusion.conv.weight, full.decoder.fusion.conv.weight.to(dtype))
    logits = model(torch.randn(1, 3, 64, 96, dtype=dtype)).logits
    assert logits.dtype == dtype
    assert logits.isfinite().all()


@pytest.mark.parametrize("device_map", ["cpu", "auto"])
@torch.no_grad()
def test_device_map(checkpoint, device_map):
    model = AutoModel.from_pretrained(checkpoint, device_map=device_map)
    images = torch.randn(1, 3, 64, 96)
    expected = AutoModel.from_pretrained(checkpoint)(images).logits
    torch.testing.assert_close(model(images.to(model.device)).logits.cpu(), expected, atol=1e-3, rtol=1e-3)


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
