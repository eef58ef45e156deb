"""The saliency cue extractor (SCE, the "A2S" network): saliency from the features of a frozen backbone.

A2S-v3: https://arxiv.org/abs/2404.14759
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.backbone_utils import load_backbone
from transformers.utils.generic import can_return_tuple

from .configuration_usod import UsodSceConfig
from .modeling_usod import SaliencyOutput, UsodPreTrainedModel, overlap_loss, resize
from .resized_convolution import ResizedConv


class UsodSceSqueezeGate(nn.Module):
    """x * sigmoid(Conv1x1(GAP(x))): weighs the channels of `(B, C, H, W)` by their global average."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features * self.conv(features.mean(dim=(2, 3), keepdim=True)).sigmoid()


class UsodSceProjection(nn.Module):
    """Conv3x3, GroupNorm of one group, ReLU, squeeze gate: `(B, C_in, H, W)` -> `(B, C_out, H, W)`."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        self.norm = nn.GroupNorm(1, out_channels)
        self.gate = UsodSceSqueezeGate(out_channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.gate(F.relu(self.norm(self.conv(features))))


class UsodSceFusion(UsodSceProjection):
    """The projection of maps `(B, C, h, w)` that are resized to a size (height, width) and concatenated."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels)
        self.conv = ResizedConv(in_channels, out_channels)

    def forward(self, maps: Sequence[torch.Tensor], size: torch.Size) -> torch.Tensor:  # type: ignore[override]
        return self.gate(F.relu(self.norm(self.conv(maps, size))))


def orient_foreground(logits: torch.Tensor) -> torch.Tensor:
    """Flips the sign of every map `(B, 1, H, W)` of which two or more of the four corners are positive.

    The centered sum of features separates two regions without saying which is the object; objects rarely touch
    the corners.
    """
    positive_corners = (logits[..., [0, 0, -1, -1], [0, -1, 0, -1]] > 0).sum(dim=-1)
    return torch.where(positive_corners[..., None, None] >= 2, -logits, logits)


class UsodSceDecoder(nn.Module):
    """Fuses features at strides 8, 16 and 32 into one map of logits at stride 4 (method: "A2S")."""

    def __init__(self, feature_channels: list[int], channels: int):
        super().__init__()
        _, mid, high, deep = feature_channels
        self.mid_projection = UsodSceProjection(mid, channels)
        self.high_projection = UsodSceProjection(high, channels)
        # The module that a task adapter runs in parallel to: T(F) + Ta(F)
        self.deep_projection = UsodSceProjection(deep, channels)
        self.fusion = UsodSceFusion(3 * channels, channels)

    def forward(self, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
        stride4, mid, high, deep = features
        projected = (self.mid_projection(mid), self.high_projection(high), self.deep_projection(deep))
        summed = self.fusion(projected, stride4.shape[-2:]).sum(dim=1, keepdim=True)
        # The sum of centered channels is the sum of the channels, centered
        return orient_foreground(summed - summed.mean(dim=(2, 3), keepdim=True))


class UsodScePreTrainedModel(UsodPreTrainedModel):
    config: UsodSceConfig
    _no_split_modules = ["UsodSceProjection"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # norms
        if isinstance(module, nn.Conv2d):  # what `nn.Conv2d.reset_parameters` does
            init.kaiming_uniform_(module.weight, a=5**0.5)
            if module.bias is not None:
                bound = module.weight[0].numel() ** -0.5
                init.uniform_(module.bias, -bound, bound)


class UsodSceModel(UsodScePreTrainedModel):
    """
    The saliency cue extractor of "Unified Unsupervised Salient Object Detection via Knowledge Transfer" (IJCAI
    2024), stage 1. Only its decoder is trained; the backbone gives the features.

    Raises:
        ValueError: if the backbone of the configuration does not yield four feature maps.
    """

    def __init__(self, config: UsodSceConfig):
        super().__init__(config)
        self.backbone = load_backbone(config)
        channels = list(self.backbone.channels)
        if len(channels) != 4:
            raise ValueError(
                f"The backbone must yield four feature maps, at strides 4, 8, 16 and 32; `backbone_config` asks for "
                f"{len(channels)}. Set its `out_features` or `out_indices`."
            )
        self.decoder = UsodSceDecoder(channels, config.decoder_channels)
        self.post_init()

    def freeze_backbone(self) -> None:
        """Stops gradients into the backbone; none are then computed or kept (stage 1, transfer)."""
        self.backbone.requires_grad_(False)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> SaliencyOutput:
        r"""
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`):
                Images, normalized by [`UsodImageProcessor`]. Any size of at least 32 pixels.
            labels (`torch.Tensor` of shape `(batch_size, height, width)`, *optional*):
                Masks, object above 0.5, for `loss`: 1 - IoU. The method itself trains this model without any.
            output_hidden_states (`bool`, *optional*):
                Whether to return the backbone's features.

        Example:

        ```python
        >>> model = AutoModel.from_pretrained(checkpoint)
        >>> processor = AutoImageProcessor.from_pretrained(checkpoint)
        >>> outputs = model(**processor(image, return_tensors="pt"))
        >>> saliency = processor.post_process_saliency(outputs, target_sizes=[(image.height, image.width)])[0]
        ```"""
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        features = tuple(self.backbone(pixel_values).feature_maps)
        logits = resize(self.decoder(features), pixel_values.shape[-2:])
        return SaliencyOutput(
            loss=None if labels is None else overlap_loss(logits, labels),
            logits=logits,
            hidden_states=features if output_hidden_states else None,
        )


__all__ = ["UsodSceModel"]
