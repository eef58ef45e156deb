"""The saliency detector, against the method's text written down anew."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.nn import functional as F
from transformers import ResNetConfig

from hf_usod import UsodSdConfig, UsodSdModel
from hf_usod.labels import PixelRefiner

LEVELS = [5, 4]
SIZES = [(96, 96), (96, 130), (64, 224), (33, 65)]


@pytest.fixture(scope="module")
def models(tiny_sd_config, stir) -> dict[int, UsodSdModel]:
    """Untrained models of five and of four levels."""
    torch.manual_seed(0)
    return {levels: stir(UsodSdModel(tiny_sd_config(stem=levels == 5))).eval() for levels in LEVELS}


def _resize(maps, size):
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)


class Method:
    """Section "SD (MIDD)" of the method, written down from its text, on the weights of a model."""

    def __init__(self, state):
        self.state = state

    def conv(self, name, x, padding=0):
        return F.conv2d(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"), padding=padding)

    def cbr(self, name, x, padding):
        x = self.conv(f"{name}.conv", x, padding)
        mean, var, scale, shift = (
            self.state[f"{name}.norm.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)

    def ca(self, name, x):
        def mlp(v):
            return self.conv(f"{name}.excite", self.conv(f"{name}.squeeze", v).clamp(min=0))

        gate = mlp(F.adaptive_avg_pool2d(x, 1)) + mlp(F.adaptive_max_pool2d(x, 1))
        return x / (1 + (-gate).exp())

    def global_info(self, f4_rgb, f4_aux, sizes=(13, 9, 5, 1)):
        name = "decoder.global_info"
        x = self.cbr(f"{name}.reduction", self.ca(f"{name}.attention", torch.cat([f4_rgb, f4_aux], 1)), 1)
        maps = []
        for place, size in enumerate(sizes):
            branch = self.conv(f"{name}.branches.{place}.1", F.adaptive_max_pool2d(x, (size, size))).clamp(min=0)
            maps.append(_resize(branch, x.shape[-2:]))
        return self.cbr(f"{name}.output", torch.cat([*maps, x], 1), 0)

    def gfb(self, name, a, b, f, g):
        size = f.shape[-2:]
        x = self.cbr(f"{name}.deeper", _resize(self.ca(f"{name}.deeper_attention", torch.cat([a, b], 1)), size), 1)
        x = x + self.cbr(f"{name}.current", self.ca(f"{name}.attention", f), 1)
        x = x + self.cbr(f"{name}.context", _resize(g, size), 1)
        return self.cbr(f"{name}.output", x, 1)

    def levels(self, stages, neck):
        return stages[:-4] + [self.cbr(f"{neck}.{i}", stage, 0) for i, stage in enumerate(stages[-4:])]

    def __call__(self, stages, aux_stages, size):
        *rgb, f4_rgb = self.levels(stages, "neck")
        *aux, f4_aux = self.levels(aux_stages, "aux_neck")
        g = self.global_info(f4_rgb, f4_aux)
        d1 = self.gfb("decoder.rgb_blocks.0", g, f4_aux, rgb[-1], g)
        d2 = self.gfb("decoder.aux_blocks.0", g, f4_rgb, aux[-1], g)
        d3 = self.gfb("decoder.rgb_blocks.1", d1, d2, rgb[-2], g)
        d4 = self.gfb("decoder.aux_blocks.1", d2, d1, aux[-2], g)
        left = self.gfb("decoder.rgb_blocks.2", d3, d4, rgb[-3], g)  # d5
        right = self.gfb("decoder.aux_blocks.2", d4, d3, aux[-3], g)  # d6
        if len(rgb) == 4:
            d7 = self.gfb("decoder.rgb_blocks.3", left, right, rgb[-4], g)
            d8 = self.gfb("decoder.aux_blocks.3", right, left, aux[-4], g)
            left, right = d7, d8
        fused = self.conv("decoder.score", self.ca("decoder.attention", torch.cat([left, right], 1)))
        side = (
            self.conv("decoder.rgb_score", left),
            self.conv("decoder.aux_score", right),
            self.conv("decoder.global_score", g),
        )
        return F.interpolate(fused, size=size, mode="bilinear", align_corners=False), side


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("levels", LEVELS)
@torch.no_grad()
def test_outputs_are_the_methods(models, levels, size):
    model = models[levels]
    images, aux = torch.randn(3, 3, *size), torch.rand(3, 3, *size)
    outputs = model(images, aux)
    stages, aux_stages = (list(b(x).feature_maps) for b, x in ((model.backbone, images), (model.aux_backbone, aux)))
    assert len(stages) == levels
    logits, side = Method(model.state_dict())(stages, aux_stages, size)
    assert outputs.logits.shape == (3, 1, *size)
    assert logits.std() > 0.01 and all(s.std() > 0.01 for s in side)
    torch.testing.assert_close(outputs.logits, logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(outputs.side_logits.to_tuple(), side, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_side_logits_are_at_strides_4_and_32(models):
    side = models[5](torch.randn(1, 3, 96, 160)).side_logits
    assert [s.shape for s in (side.rgb, side.aux, side.context)] == [(1, 1, 24, 40), (1, 1, 24, 40), (1, 1, 3, 5)]


@pytest.mark.parametrize("mean, std", [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.5,) * 3, (0.1, 0.2, 0.3))])
@torch.no_grad()
def test_an_image_without_map_is_its_own_in_the_unit_range(tiny_sd_config, mean, std):
    model = UsodSdModel(tiny_sd_config(image_mean=list(mean), image_std=list(std))).eval()
    rgb = torch.rand(2, 3, 64, 96)
    images = (rgb - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(model.to_unit_range(images), rgb, atol=1e-6, rtol=0)
    torch.testing.assert_close(model(images).logits, model(images, rgb).logits)


def test_defaults_of_the_configuration_are_imagenets():
    config = UsodSdConfig()
    assert (tuple(config.image_mean), tuple(config.image_std)) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_refined_maps_are_the_refiners_with_more_contrast(tiny_sd_config, stir, dtype):
    model = stir(UsodSdModel(tiny_sd_config(refine_maps=True))).eval().to(dtype)
    images = torch.randn(2, 3, 64, 96, dtype=dtype)
    refined = model(images).logits
    model.config.refine_maps = False
    plain = model(images).logits
    prior = PixelRefiner()(images, plain.float().sigmoid()) / 1.01**6
    assert refined.dtype == dtype and not torch.allclose(refined, plain)
    expected = prior**4 / (prior**4 + (1 - prior) ** 4)  # the contrast that logits times 4 are
    torch.testing.assert_close(
        refined.float().sigmoid(), expected, atol=1e-5 if dtype == torch.float32 else 1e-2, rtol=0
    )


def test_maps_are_refined_outside_of_training_only(tiny_sd_config, stir, tmp_path):
    torch.manual_seed(0)
    stir(UsodSdModel(tiny_sd_config(refine_maps=True))).save_pretrained(tmp_path)
    refining, plain = (UsodSdModel.from_pretrained(tmp_path, **kwargs) for kwargs in ({}, {"refine_maps": False}))
    images = torch.randn(2, 3, 64, 64)
    assert not torch.allclose(refining(images).logits, plain(images).logits)
    logits = refining.train()(images).logits
    assert torch.equal(logits, plain.train()(images).logits) and logits.requires_grad


@torch.no_grad()
def test_streams_are_told_apart(models):
    images, aux = torch.randn(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    assert not torch.allclose(models[5](images, aux).logits, models[5](images, 1 - aux).logits, atol=1e-4)
    assert not torch.allclose(models[5](images, aux).logits, models[5](-images, aux).logits, atol=1e-4)


def test_initial_weights(tiny_sd_config):
    model = UsodSdModel(tiny_sd_config(neck_channels=[64, 64, 64, 64], fusion_channels=64))
    for part in (model.neck, model.aux_neck, model.decoder):
        for name, parameter in part.named_parameters():
            if parameter.ndim == 4:
                if parameter.numel() > 2000:
                    assert parameter.std().item() == pytest.approx(0.01, rel=0.1), name
                    assert abs(parameter.mean().item()) < 0.001, name
            elif name.endswith("norm.weight"):
                assert (parameter == 1).all(), name
            else:
                assert not parameter.any(), name
    weight = model.backbone.encoder.stages[3].layers[0].layer[0].convolution.weight
    assert weight.std() > 0.05  # the backbones' own


def _resnet(*stages, **kwargs) -> ResNetConfig:
    return ResNetConfig(out_features=list(stages), **kwargs)


FOUR = ("stage1", "stage2", "stage3", "stage4")


@pytest.mark.parametrize(
    ("rgb", "aux", "message"),
    [
        (_resnet(*FOUR[1:]), _resnet(*FOUR[1:]), "they yield 3 and 3"),
        (_resnet("stem", *FOUR), _resnet(*FOUR), "they yield 5 and 4"),
        (_resnet("stem", *FOUR), _resnet("stem", *FOUR, embedding_size=32), r"got \[64\] and \[32\]"),
    ],
)
def test_backbones_that_do_not_fit_raise(rgb, aux, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        UsodSdModel(UsodSdConfig(backbone_config=rgb, aux_backbone_config=aux))


def test_streams_of_different_backbones(tiny_backbone):
    small = _resnet("stem", *FOUR, embedding_size=8, hidden_sizes=[4, 4, 4, 4], depths=[1] * 4, layer_type="basic")
    model = UsodSdModel(
        UsodSdConfig(backbone_config=tiny_backbone(stem=True), aux_backbone_config=small, neck_channels=[4] * 4)
    )
    assert model(torch.randn(2, 3, 64, 64)).logits.shape == (2, 1, 64, 64)


def test_full_size():
    with torch.device("meta"):
        model = UsodSdModel(UsodSdConfig())
    assert model.backbone.channels == [64, 256, 512, 1024, 2048]
    for backbone in (model.backbone, model.aux_backbone):
        assert sum(p.numel() for p in backbone.parameters()) == 23_508_032  # ResNet-50 without its classifier
    # The published 79.75 M count the two ImageNet classifiers, which the authors' program carries and never calls
    total = sum(p.numel() for p in model.parameters()) + 2 * (2048 * 1000 + 1000)
    assert total / 1e6 == pytest.approx(79.75, abs=0.005)


def test_configuration(tmp_path, tiny_sd_config):
    config = tiny_sd_config(pool_sizes=[3, 1])
    config.save_pretrained(tmp_path)
    loaded = UsodSdConfig.from_pretrained(tmp_path)
    assert loaded.to_json_string() == config.to_json_string()
    assert (loaded.neck_channels, loaded.fusion_channels, loaded.pool_sizes) == ([6, 8, 10, 12], 6, [3, 1])


@pytest.mark.parametrize(
    "kwargs", [{"neck_channels": [8, 8, 8]}, {"neck_channels": [8, 8, 8, 0]}, {"fusion_channels": 7}, {"pool_sizes": 3}]
)
def test_wrong_widths_raise(kwargs):
    with pytest.raises(StrictDataclassError):
        UsodSdConfig(**kwargs)
