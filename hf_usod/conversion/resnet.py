"""ResNet-50 weights under torchvision's and detectron2's names, as a transformers `ResNetBackbone`."""

import re

from transformers import ResNetBackbone

from ..models.configuration_usod import backbone_preset
from .state_dicts import Rule, StateDict, load_exactly, rename

_TORCHVISION_TO_TRANSFORMERS: tuple[Rule, ...] = (
    (r"^conv1\.", "embedder.embedder.convolution."),
    (r"^bn1\.", "embedder.embedder.normalization."),
    (r"^layer(\d)\.(\d+)\.conv(\d)\.", lambda m: _layer(m) + f"layer.{int(m[3]) - 1}.convolution."),
    (r"^layer(\d)\.(\d+)\.bn(\d)\.", lambda m: _layer(m) + f"layer.{int(m[3]) - 1}.normalization."),
    (r"^layer(\d)\.(\d+)\.downsample\.0\.", lambda m: _layer(m) + "shortcut.convolution."),
    (r"^layer(\d)\.(\d+)\.downsample\.1\.", lambda m: _layer(m) + "shortcut.normalization."),
)
_DETECTRON2_TO_TORCHVISION: tuple[Rule, ...] = (
    (r"^stem\.conv1\.norm\.", "bn1."),
    (r"^stem\.(conv1|bn1|fc)\.", r"\1."),
    (r"^res(\d)\.(\d+)\.conv(\d)\.norm\.", lambda m: f"layer{int(m[1]) - 1}.{m[2]}.bn{m[3]}."),
    (r"^res(\d)\.(\d+)\.conv(\d)\.", lambda m: f"layer{int(m[1]) - 1}.{m[2]}.conv{m[3]}."),
    (r"^res(\d)\.(\d+)\.shortcut\.norm\.", lambda m: f"layer{int(m[1]) - 1}.{m[2]}.downsample.1."),
    (r"^res(\d)\.(\d+)\.shortcut\.", lambda m: f"layer{int(m[1]) - 1}.{m[2]}.downsample.0."),
)


def _layer(match: re.Match) -> str:
    return f"encoder.stages.{int(match[1]) - 1}.layers.{match[2]}."


def torchvision_names(state_dict: StateDict, source: str) -> StateDict:
    """detectron2's names (`stem.conv1`, `res2.0.conv1.norm`, …) as torchvision's."""
    return rename(state_dict, _DETECTRON2_TO_TORCHVISION, source)


def resnet50_backbone(state_dict: StateDict, source: str) -> ResNetBackbone:
    """A ResNet-50 with features at strides 4 to 32, from torchvision's names.

    A classifier or projection head (`fc.*`) is dropped: features do not use it.

    Raises:
        ConversionError: naming `source`, if keys are missing, unexpected or of another shape.
    """
    features = {key: value for key, value in state_dict.items() if not key.startswith("fc.")}
    backbone = ResNetBackbone(backbone_preset("resnet50"))
    load_exactly(backbone, rename(features, _TORCHVISION_TO_TRANSFORMERS, source), source)
    return backbone.eval()
