"""MoCo's checkpoints, in both layouts, give the features of torchvision's ResNet-50."""

import pickle

import numpy as np
import pytest
import torch
from transformers import ResNetBackbone

from hf_usod.conversion import ConversionError, convert_checkpoint, convert_moco_checkpoint


def _assert_same_features(backbone, expected, images):
    with torch.no_grad():
        features = backbone(images).feature_maps
    assert [f.shape[1] for f in features] == [256, 512, 1024, 2048]
    for ours, theirs in zip(features, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def _detectron2_names(state_dict: dict) -> dict[str, np.ndarray]:
    """What MoCo's script for detectron2 makes of its query encoder."""
    renamed = {}
    for key, value in state_dict.items():
        if not key.startswith("module.encoder_q."):
            continue
        key = key.removeprefix("module.encoder_q.")
        if not key.startswith("layer"):
            key = "stem." + key
        for i in (1, 2, 3, 4):
            key = key.replace(f"layer{i}", f"res{i + 1}")
        for i in (1, 2, 3):
            key = key.replace(f"bn{i}", f"conv{i}.norm")
        renamed[key.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")] = value.numpy()
    return renamed


def test_official_file(moco_checkpoint, resnet_features, images, tmp_path):
    path = tmp_path / "moco_v2_800ep_pretrain.pth.tar"
    torch.save(moco_checkpoint, path)
    backbone, processor = convert_checkpoint(path)
    assert isinstance(backbone, ResNetBackbone)
    assert not backbone.training
    _assert_same_features(backbone, resnet_features(images), images)
    assert processor.image_mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(("protocol", "counters"), [(2, True), (4, False), (5, True)])
def test_detectron2_file(moco_checkpoint, resnet_features, images, tmp_path, protocol, counters):
    arrays = _detectron2_names(moco_checkpoint["state_dict"])
    assert {"stem.conv1.norm.bias", "res2.0.shortcut.norm.bias", "res5.2.conv3.weight", "stem.fc.2.bias"} <= set(arrays)
    if not counters:
        arrays = {key: value for key, value in arrays.items() if not key.endswith("num_batches_tracked")}
    path = tmp_path / "moco_v2.pkl"
    with path.open("wb") as file:
        pickle.dump({"model": arrays, "__author__": "MOCO", "matching_heuristics": True}, file, protocol=protocol)
    _assert_same_features(convert_checkpoint(path).model, resnet_features(images), images)


def test_keys_not_of_moco_raise(moco_checkpoint):
    with pytest.raises(ConversionError, match=r"unexpected: predictor.weight"):
        convert_moco_checkpoint(moco_checkpoint["state_dict"] | {"module.predictor.weight": torch.zeros(1)})


def test_missing_and_misshapen_keys_raise(moco_checkpoint):
    state_dict = dict(moco_checkpoint["state_dict"])
    del state_dict["module.encoder_q.layer1.0.conv2.weight"]
    state_dict["module.encoder_q.bn1.weight"] = torch.zeros(32)
    with pytest.raises(ConversionError) as error:
        convert_moco_checkpoint(state_dict)
    assert "missing: encoder.stages.0.layers.0.layer.1.convolution.weight" in str(error.value)
    assert "embedder.embedder.normalization.weight (32,) instead of (64,)" in str(error.value)
