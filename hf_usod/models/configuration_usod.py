"""Configuration of the salient object detection models."""

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig, ResNetConfig, TimmBackboneConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.pipelines import PIPELINE_REGISTRY

# Strides 4, 8, 16, 32 of the backbones that ship with a preset.
_RESNET_STAGES = ["stage1", "stage2", "stage3", "stage4"]
_EFFICIENTNET_LITE_STAGES = [1, 2, 3, 4]

BACKBONE_PRESETS = ("resnet50", "efficientnet-lite0", "efficientnet-lite2")


def backbone_preset(name: str) -> PreTrainedConfig:
    """Configuration of a backbone that yields features at strides 4, 8, 16 and 32.

    Args:
        name: one of `BACKBONE_PRESETS`. `"resnet50"` is the paper's; the EfficientNet-Lites are small enough to be
            trained under on a CPU.

    Raises:
        ValueError: for any other name. Other backbones are given as a configuration of their own.
    """
    if name == "resnet50":
        return ResNetConfig(out_features=list(_RESNET_STAGES))
    if name in BACKBONE_PRESETS:
        timm_name = "tf_" + name.replace("-", "_")
        return TimmBackboneConfig(backbone=timm_name, out_indices=list(_EFFICIENTNET_LITE_STAGES))
    raise ValueError(
        f"Unknown backbone preset {name!r}; expected one of {', '.join(BACKBONE_PRESETS)}. "
        "For any other backbone pass its transformers configuration as `backbone_config`."
    )


@strict
class UsodSceConfig(PreTrainedConfig):
    r"""
    Configuration of [`UsodSceModel`], the saliency cue extractor (A2S) of "Unified Unsupervised Salient Object
    Detection via Knowledge Transfer" (IJCAI 2024).

    Args:
        backbone_config (`PreTrainedConfig` or `dict`, *optional*):
            Any transformers or timm backbone with four feature maps, at strides 4, 8, 16 and 32. Defaults to
            ResNet-50, the paper's.
        decoder_channels (`int`, *optional*, defaults to 64):
            Width d of the projections.

    Example:

    ```python
    >>> from hf_usod import UsodSceConfig, UsodSceModel, backbone_preset

    >>> model = UsodSceModel(UsodSceConfig())  # ResNet-50
    >>> lite = UsodSceModel(UsodSceConfig(backbone_config=backbone_preset("efficientnet-lite0")))
    ```"""

    model_type = "usod_sce"
    sub_configs_defaults = {
        "backbone_config": SubConfigSpec(
            config_class=AutoConfig,
            model_type="resnet",
            init_kwargs={"out_features": _RESNET_STAGES},
        ),
    }

    backbone_config: dict | PreTrainedConfig | None = None
    decoder_channels: int = 64
    id2label: dict[int, str] | dict[str, str] | None = None

    def __post_init__(self, **kwargs):
        if self.id2label is None:  # read by the stock `image-segmentation` pipeline
            self.id2label = {0: "background", 1: "salient object"}
            self.label2id = {"background": 0, "salient object": 1}
        if "salient-object-detection" in PIPELINE_REGISTRY.supported_tasks:
            # The pipeline of the installed package wins; transformers would ask to trust the repository's.
            kwargs.pop("custom_pipelines", None)
        super().__post_init__(**kwargs)

    def validate_decoder_channels(self):
        """Raises a `ValueError` unless the width is positive."""
        if self.decoder_channels < 1:
            raise ValueError(f"`decoder_channels` must be at least 1, got {self.decoder_channels}.")


__all__ = ["BACKBONE_PRESETS", "UsodSceConfig", "backbone_preset"]
