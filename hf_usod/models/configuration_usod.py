"""Configuration of the salient object detection models of A2S-v3 (https://arxiv.org/abs/2404.14759)."""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig, ResNetConfig, TimmBackboneConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD  # not `image_utils`: torchvision

# Strides 4, 8, 16, 32 of the backbones that ship with a preset.
_RESNET_STAGES = ["stage1", "stage2", "stage3", "stage4"]
_EFFICIENTNET_LITE_STAGES = [1, 2, 3, 4]

BACKBONE_PRESETS = ("resnet50", "efficientnet-lite0", "efficientnet-lite2")
AUX_KINDS = ("none", "depth", "thermal", "flow")  # what an auxiliary map may be; a kind's id is its place


def backbone_preset(name: str, stem: bool = False) -> PreTrainedConfig:
    """Configuration of a backbone that yields features at strides 4, 8, 16 and 32.

    Args:
        name: one of `BACKBONE_PRESETS`. `"resnet50"` is the paper's; the EfficientNet-Lites are small enough to be
            trained under on a CPU.
        stem: whether the ResNet yields its stem's output (stride 4) before them, as the full-size detector wants it.

    Raises:
        ValueError: for any other name. Other backbones are given as a configuration of their own.
    """
    if name == "resnet50":
        return ResNetConfig(out_features=[*(["stem"] if stem else []), *_RESNET_STAGES])
    if name in BACKBONE_PRESETS:
        timm_name = "tf_" + name.replace("-", "_")
        return TimmBackboneConfig(backbone=timm_name, out_indices=list(_EFFICIENTNET_LITE_STAGES))
    raise ValueError(
        f"Unknown backbone preset {name!r}; expected one of {', '.join(BACKBONE_PRESETS)}. "
        "For any other backbone pass its transformers configuration as `backbone_config`."
    )


@strict
class UsodConfig(PreTrainedConfig):
    """What the configurations of the salient object detection models share.

    Raises:
        ValueError: unless there is one label: a model has one channel, how salient a pixel is.
    """

    takes_aux: ClassVar[bool] = False  # whether the model takes an auxiliary map beside the image
    # Set by whoever registers the package's pipeline, which then wins over a repository's, that users would be asked to
    # trust. Without it nothing is lost: a model that is saved by itself has no pipeline's code beside it either.
    has_registered_pipeline: ClassVar[bool] = False

    _auto_class = "AutoConfig"  # what is saved carries its code

    id2label: dict[int, str] | dict[str, str] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        # Configurations of before named the background as well
        if self.id2label is None or list(self.id2label.values()) == ["background", "salient object"]:
            self.id2label, self.label2id = {0: "salient object"}, {"salient object": 0}
        if len(self.id2label) != 1 or kwargs.get("num_labels") not in (None, 1):
            raise ValueError(
                f"`id2label` is {self.id2label} and `num_labels` {kwargs.get('num_labels', len(self.id2label))}; a "
                "salient object detection model has one label."
            )
        if self.has_registered_pipeline:
            kwargs.pop("custom_pipelines", None)
        super().__post_init__(**kwargs)


@strict
class UsodSceConfig(UsodConfig):
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

    def validate_decoder_channels(self) -> None:
        """Raises a `ValueError` unless the width is positive."""
        if self.decoder_channels < 1:
            raise ValueError(f"`decoder_channels` must be at least 1, got {self.decoder_channels}.")


@strict
class UsodSdConfig(UsodConfig):
    r"""
    Configuration of [`UsodSdModel`], the saliency detector of "Unified Unsupervised Salient Object Detection via
    Knowledge Transfer" (IJCAI 2024): MIDD, two streams with interleaved decoders. The defaults are its full size.

    Args:
        backbone_config (`PreTrainedConfig` or `dict`, *optional*):
            Backbone of the RGB stream: any transformers or timm backbone whose last four feature maps are at strides
            4, 8, 16 and 32. A fifth one before them, at stride 4 (the stem of a ResNet), makes a fifth level of the
            decoders. Defaults to ResNet-50 with its stem.
        aux_backbone_config (`PreTrainedConfig` or `dict`, *optional*):
            Backbone of the auxiliary stream, with as many feature maps, at the same strides. Same default.
        neck_channels (`list[int]`, *optional*, defaults to `[128, 256, 512, 512]`):
            What the features at strides 4 to 32 are reduced to, in both streams.
        fusion_channels (`int`, *optional*, defaults to 128):
            Width inside the gated fusion blocks.
        context_channels (`int`, *optional*, defaults to 256):
            Width inside the global block; its pooled branches have half of it.
        pool_sizes (`list[int]`, *optional*, defaults to `[13, 9, 5, 1]`):
            Sides of the adaptive max-pools of the global block.
        image_mean, image_std (`list[float]`, *optional*, default to ImageNet's):
            What `pixel_values` are normalized by. An image without auxiliary map serves as its own, in [0, 1], for
            which the normalization is undone.
        refine_maps (`bool`, *optional*, defaults to `False`):
            Whether, outside of training, maps are fitted to the edges of their images by the pixel refiner, the prior
            of SPR. It carries no gradient. Beyond the paper.
        refined_contrast (`float`, *optional*, defaults to 4.0):
            What the logits of refined maps are multiplied by: refinement blurs, and a label would be thresholded after
            it.
        modality_informed (`bool`, *optional*, defaults to `False`):
            Whether the model is told what its auxiliary maps are, as `aux_kind`, by an offset of the auxiliary stream's
            reduced features that is learned for each of `AUX_KINDS` and starts at zero. For a trained model see
            [`UsodSdModel.inform_of_aux_kinds`]. Beyond the paper, which names it a limit that kinds are treated alike.

    Example:

    ```python
    >>> from hf_usod import UsodSdConfig, UsodSdModel

    >>> model = UsodSdModel(UsodSdConfig())
    ```"""

    model_type = "usod_sd"
    takes_aux: ClassVar[bool] = True
    sub_configs_defaults = {
        name: SubConfigSpec(
            config_class=AutoConfig,
            model_type="resnet",
            init_kwargs={"out_features": ["stem", *_RESNET_STAGES]},
        )
        for name in ("backbone_config", "aux_backbone_config")
    }

    backbone_config: dict | PreTrainedConfig | None = None
    aux_backbone_config: dict | PreTrainedConfig | None = None
    neck_channels: list[int] | tuple[int, ...] = (128, 256, 512, 512)
    fusion_channels: int = 128
    context_channels: int = 256
    pool_sizes: list[int] | tuple[int, ...] = (13, 9, 5, 1)
    image_mean: list[float] | tuple[float, ...] = tuple(IMAGENET_DEFAULT_MEAN)
    image_std: list[float] | tuple[float, ...] = tuple(IMAGENET_DEFAULT_STD)
    refine_maps: bool = False
    refined_contrast: float = 4.0
    modality_informed: bool = False

    def validate_widths(self) -> None:
        """Raises a `ValueError` unless there are four positive neck widths, and the others are positive and even."""
        if len(self.neck_channels) != 4 or min(self.neck_channels) < 1:
            raise ValueError(f"`neck_channels` must be four positive widths, got {self.neck_channels}.")
        for name in ("fusion_channels", "context_channels"):
            if getattr(self, name) < 2 or getattr(self, name) % 2:
                raise ValueError(f"`{name}` must be even and at least 2, got {getattr(self, name)}.")


__all__ = ["AUX_KINDS", "BACKBONE_PRESETS", "UsodSceConfig", "UsodSdConfig", "backbone_preset"]
