"""ResNet-50 weights under torchvision's and detectron2's names, as a transformers `ResNetBackbone`."""

import re

from transformers import ResNetBackbone

from ..errors import ConversionError
from ..models.configuration_usod import backbone_preset
from .state_dicts import StateDict, load_exactly

_TORCHVISION_TO_TRANSFORMERS = (
    (r"^conv1\.", "embedder.embedder.convolution."),
    (r"^bn1\.", "embedder.embedder.normalization."),
    (r"^layer(\d)\.(\d+)\.conv(\d)\.", lambda m: _layer(m) + f"layer.{int(m[3]) - 1}.convolution."),
    (r"^layer(\d)\.(\d+)\.bn(\d)\.", lambda m: _layer(m) + f"layer.{int(m[3]) - 1}.normalization."),
    (r"^layer(\d)\.(\d+)\.downsample\.0\.", lambda m: _layer(m) + "shortcut.convolution."),
    (r"^layer(\d)\.(\d+)\.downsample\.1\.", lambda m: _layer(m) + "shortcut.normalization."),
)
_DETECTRON2_TO_TORCHVISION = (
    (r"^stem\.conv1\.norm\.", "bn1."),
    (r"^stem\.(conv1|bn1|fc)\.", r"\1."),
    (r"^res(\d)\.(\d+)\.conv(\d)\.norm\.", lambda m: f"layer{int(m[1]) - 1}.{m[2]}.bn{m[3]}."),
    (r"^res(\d)\.(\d+)\.conv(\d)\.", lambda m: f"layer{int(m[1]) - 1}.{m[2]}.conv{m[3]}."),
    (r"^res(\d)\.(\d+)\.shortcut\.norm\.", lambda m: f"layer{int(m[1]) - 1}.{m[2]}.downsample.1."),
    (r"^res(\d)\.(\d+)\.shortcut\.", lambda m: f"layer{int(m[1]) - 1}.{m[2]}.downsample.0."),
)


def _layer(match: re.Match) -> str:
    return f"encoder.stages.{int(match[1]) - 1}.layers.{match[2]}."


def _rename(state_dict: StateDict, rules, source: str) -> StateDict:
    """Applies the one rule that fits each key; keys that fit none are an error."""
    renamed, unknown = {}, []
    for key, value in state_dict.items():
        for pattern, replacement in rules:
            new, count = re.subn(pattern, replacement, key)
            if count:
                renamed[new] = value
                break
        else:
            unknown.append(key)
    if unknown:
        raise ConversionError(f"Not a checkpoint of {source}. Keys unexpected: {', '.join(unknown)}.")
    return renamed


def torchvision_names(state_dict: StateDict, source: str) -> StateDict:
    """detectron2's names (`stem.conv1`, `res2.0.conv1.norm`, …) as torchvision's."""
    return _rename(state_dict, _DETECTRON2_TO_TORCHVISION, source)


def resnet50_backbone(state_dict: StateDict, source: str) -> ResNetBackbone:
    """A ResNet-50 with features at strides 4 to 32, from torchvision's names.

    A classifier or projection head (`fc.*`) is dropped: features do not use it.

    Raises:
        ConversionError: naming `source`, if keys are missing, unexpected or of another shape.
    """
    features = {key: value for key, value in state_dict.items() if not key.startswith("fc.")}
    backbone = ResNetBackbone(backbone_preset("resnet50"))
    load_exactly(backbone, _rename(features, _TORCHVISION_TO_TRANSFORMERS, source), source)
    return backbone.eval()
