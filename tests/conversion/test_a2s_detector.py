"""The authors' detector, written down from the method in their layout, and what becomes of its checkpoints."""

import copy

import pytest
import torch
from peft import PeftModel
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet50

from hf_usod.conversion import ConversionError, convert_a2s_checkpoint, convert_checkpoint
from hf_usod.models.modeling_usod_sd import UsodSdModel


def _up(x, size):
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def _cbr(c_in, c_out, kernel=3):
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2), nn.BatchNorm2d(c_out), nn.ReLU())


class CA(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.fus = nn.Sequential(nn.Conv2d(c, c // 2, 1), nn.ReLU(), nn.Conv2d(c // 2, c, 1))

    def forward(self, x):
        return x * torch.sigmoid(self.fus(F.adaptive_avg_pool2d(x, 1)) + self.fus(F.adaptive_max_pool2d(x, 1)))


class GlobalInfo(nn.Module):
    def __init__(self):
        super().__init__()
        self.ca = CA(1024)
        self.de_chan = _cbr(1024, 256)
        self.b0, self.b1, self.b2, self.b3 = (
            nn.Sequential(nn.AdaptiveMaxPool2d(size), nn.Conv2d(256, 128, 1, bias=False), nn.ReLU())
            for size in (13, 9, 5, 1)
        )
        self.fus = _cbr(768, 512, 1)

    def forward(self, rgb, aux):
        x = self.de_chan(self.ca(torch.cat([rgb, aux], 1)))
        maps = [_up(b(x), x.shape[2:]) for b in (self.b0, self.b1, self.b2, self.b3)]
        return self.fus(torch.cat([*maps, x], 1))


class GFB(nn.Module):
    def __init__(self, c_in, c):
        super().__init__()
        self.ca1, self.conv1 = CA(c_in), _cbr(c_in, 128)
        self.conv_globalinfo = _cbr(512, 128)
        self.ca2, self.conv_curfeat = CA(c), _cbr(c, 128)
        self.conv_out = _cbr(128, c)

    def forward(self, a, b, f, g):
        size = f.shape[2:]
        x = self.conv1(_up(self.ca1(torch.cat([a, b], 1)), size)) + self.conv_curfeat(self.ca2(f))
        return self.conv_out(x + self.conv_globalinfo(_up(g, size)))


class Refine(nn.Module):
    def __init__(self):
        super().__init__()
        self.ca, self.score = CA(128), nn.Conv2d(128, 1, 1)

    def forward(self, x):
        return self.score(self.ca(x))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.global_info = GlobalInfo()
        for level, (c_in, c) in {4: (1024, 512), 3: (1024, 256), 2: (512, 128), 1: (256, 64)}.items():
            for stream in (1, 2):
                setattr(self, f"gfb{level}_{stream}", GFB(c_in, c))
        self.score_1, self.score_2 = nn.Conv2d(64, 1, 1), nn.Conv2d(64, 1, 1)
        self.score_global = nn.Conv2d(512, 1, 1)
        self.refine = Refine()

    def forward(self, r, t, size, adapter=None):
        g = self.global_info(r[4], t[4])
        if adapter is not None:
            g = g + adapter(r[4], t[4])
        d1, d2 = self.gfb4_1(g, t[4], r[3], g), self.gfb4_2(g, r[4], t[3], g)
        d3, d4 = self.gfb3_1(d1, d2, r[2], g), self.gfb3_2(d2, d1, t[2], g)
        d5, d6 = self.gfb2_1(d3, d4, r[1], g), self.gfb2_2(d4, d3, t[1], g)
        d7, d8 = self.gfb1_1(d5, d6, r[0], g), self.gfb1_2(d6, d5, t[0], g)
        fused = F.interpolate(self.refine(torch.cat([d7, d8], 1)), size=size, mode="bilinear", align_corners=False)
        return fused, self.score_1(d7), self.score_2(d8), self.score_global(g)


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.t_net = resnet50(weights=None), resnet50(weights=None)
        self.trans_rgb, self.trans_t = (
            nn.ModuleList(_cbr(a, b, 1) for a, b in ((256, 128), (512, 256), (1024, 512), (2048, 512)))
            for _ in range(2)
        )
        self.decoder = Decoder()

    @staticmethod
    def levels(net, trans, x):
        levels = [net.maxpool(net.relu(net.bn1(net.conv1(x))))]
        x = levels[0]
        for stage, reduce in zip((net.layer1, net.layer2, net.layer3, net.layer4), trans, strict=True):
            x = stage(x)
            levels.append(reduce(x))
        return levels

    def forward(self, images, aux, adapter=None):
        streams = self.levels(self.encoder, self.trans_rgb, images), self.levels(self.t_net, self.trans_t, aux)
        return self.decoder(*streams, images.shape[2:], adapter)


@pytest.fixture(scope="module")
def detector(randomize) -> Detector:
    torch.manual_seed(0)
    detector = Detector().eval()
    randomize(detector)
    return detector


@pytest.fixture(scope="module")
def adapter(randomize) -> GlobalInfo:
    torch.manual_seed(1)
    adapter = GlobalInfo().eval()
    randomize(adapter)
    return adapter


@pytest.fixture(scope="module")
def aux() -> torch.Tensor:
    return torch.rand(2, 3, 96, 130, generator=torch.Generator().manual_seed(1))


def _assert_same(outputs, expected):
    assert all(e.std() > 1e-3 for e in expected)
    for output, e in zip((outputs.logits, *outputs.side_logits.to_tuple()), expected, strict=True):
        torch.testing.assert_close(output, e, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_same_outputs_as_the_adapted_and_as_the_plain_detector(detector, adapter, images, aux):
    state_dict = detector.state_dict() | {f"adapter.{key}": value for key, value in adapter.state_dict().items()}
    model = convert_a2s_checkpoint(state_dict)
    assert isinstance(model, PeftModel) and isinstance(model.get_base_model(), UsodSdModel)
    assert not model.training
    _assert_same(model(pixel_values=images, aux_pixel_values=aux), detector(images, aux, adapter))
    with model.disable_adapter():
        _assert_same(model(pixel_values=images, aux_pixel_values=aux), detector(images, aux))


@torch.no_grad()
def test_file_of_data_parallel_without_classifiers_and_biases(detector, images, aux, tmp_path):
    detector = copy.deepcopy(detector)
    state_dict = detector.state_dict()
    for name, module in detector.named_modules():
        if isinstance(module, nn.Sequential) and len(module) == 3 and isinstance(module[1], nn.BatchNorm2d):
            module[0].bias.data.zero_()
            state_dict.pop(f"{name}.0.bias")
    stripped = {f"module.{key}": value for key, value in state_dict.items() if ".fc." not in key}
    torch.save(stripped, tmp_path / "sd.pth")
    model, processor = convert_checkpoint(tmp_path / "sd.pth")
    assert isinstance(model, UsodSdModel)
    assert processor.image_mean == (0.485, 0.456, 0.406)
    _assert_same(model(images, aux), detector(images, aux))


def test_size_is_the_published_one(detector):
    used = sum(p.numel() for name, p in detector.named_parameters())
    assert used / 1e6 == pytest.approx(79.75, abs=0.005)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"decoder.gfb3_2.conv1.0.weight": None, "decoder.gfb5_1.conv1.0.weight": (1,), "trans_t.2.1.bias": (7,)},
            r"missing: decoder.aux_blocks.1.deeper.conv.weight; unexpected: decoder.gfb5_1.deeper.conv.weight; "
            r"of another shape: aux_neck.2.norm.bias \(7,\) instead of \(512,\)",
        ),
        ({"t_net.layer4.2.bn3.weight": None}, r"\(t_net\.\*\).*missing: encoder.stages.3.layers.2"),
        ({"optimizer": (1,)}, "unexpected: optimizer"),
    ],
)
def test_wrong_keys_are_listed(detector, changes, message):
    state_dict = detector.state_dict()
    for key, shape in changes.items():
        if shape is None:
            del state_dict[key]
        else:
            state_dict[key] = torch.zeros(shape)
    with pytest.raises(ConversionError, match=message):
        convert_a2s_checkpoint(state_dict)
