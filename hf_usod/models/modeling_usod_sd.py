"""The saliency detector (SD): MIDD, two streams whose features meet in two interleaved decoders.

MIDD: "Multi-Interactive Dual-Decoder for RGB-Thermal Salient Object Detection", IEEE Transactions on Image Processing
2021.

As A2S-v3 trains it: https://arxiv.org/abs/2404.14759
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoBackbone
from transformers import initialization as init
from transformers.backbone_utils import load_backbone
from transformers.utils.generic import can_return_tuple

from .configuration_usod import AUX_KINDS, UsodSdConfig
from .modeling_usod import SaliencyOutput, SideLogits, UsodPreTrainedModel, overlap_loss, resize, to_unit_range
from .pixel_refiner import PixelRefiner
from .resized_convolution import ResizedConv

SIDE_WEIGHT = 0.2  # in the loss, of the RGB decoder's own map beside the fused one


class UsodSdConvNormAct(nn.Module):
    """Conv-BN-ReLU ("CBR"): `(B, C_in, H, W)` -> `(B, C_out, H, W)`.

    The convolution's bias, which the norm takes out again, is there because the authors' has one.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.norm = nn.BatchNorm2d(out_channels)
        self.activation = nn.ReLU()  # a module, so that it can be seen to be one with what is before it

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.activation(self.norm(self.conv(features)))


class UsodSdResizedConvNormAct(nn.Module):
    """The same, with a 3 x 3 kernel, of maps `(B, C_in, h, w)` that are resized to a size (height, width) first."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = ResizedConv(in_channels, out_channels)
        self.norm = nn.BatchNorm2d(out_channels)
        self.activation = nn.ReLU()

    def forward(self, features: torch.Tensor, size: torch.Size) -> torch.Tensor:
        return self.activation(self.norm(self.conv([features], size)))


class UsodSdChannelAttention(nn.Module):
    """CA: x * sigmoid(mlp(avgpool x) + mlp(maxpool x)), for `(B, C, H, W)`."""

    def __init__(self, channels: int):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // 2, kernel_size=1)
        self.activation = nn.ReLU()
        self.excite = nn.Conv2d(channels // 2, channels, kernel_size=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        average, maximum = features.mean(dim=(2, 3), keepdim=True), features.amax(dim=(2, 3), keepdim=True)
        both = torch.cat([average, maximum], dim=3)  # as a map of two pixels
        return features * self.excite(self.activation(self.squeeze(both))).sum(dim=3, keepdim=True).sigmoid()


class UsodSdGlobalInfo(nn.Module):
    """G(f4_rgb, f4_aux): what both streams see as a whole, `(B, C, h, w)` twice -> `(B, C, h, w)`.

    The module that a task adapter runs in parallel to: G + Ga.
    """

    def __init__(self, config: UsodSdConfig):
        super().__init__()
        deep, context = config.neck_channels[-1], config.context_channels
        self.attention = UsodSdChannelAttention(2 * deep)
        self.reduction = UsodSdConvNormAct(2 * deep, context, kernel_size=3)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.AdaptiveMaxPool2d(size), nn.Conv2d(context, context // 2, 1, bias=False), nn.ReLU())
            for size in config.pool_sizes
        )
        self.output = UsodSdConvNormAct(len(config.pool_sizes) * (context // 2) + context, deep, kernel_size=1)

    def forward(self, deep: torch.Tensor, aux_deep: torch.Tensor) -> torch.Tensor:
        context = self.reduction(self.attention(torch.cat([deep, aux_deep], dim=1)))
        pooled = [resize(branch(context), context.shape[-2:]) for branch in self.branches]
        return self.output(torch.cat([*pooled, context], dim=1))  # the order of the authors' checkpoints


class UsodSdFusionBlock(nn.Module):
    """GFB(a, b, f, g): brings two deeper maps and the global block's `g` to the place of the features `f`.

    Args:
        in_channels: of `a` and `b` together.
        channels: of `f`, and of what comes out.
    """

    def __init__(self, in_channels: int, channels: int, config: UsodSdConfig):
        super().__init__()
        width = config.fusion_channels
        self.deeper_attention = UsodSdChannelAttention(in_channels)
        self.deeper = UsodSdResizedConvNormAct(in_channels, width)
        self.attention = UsodSdChannelAttention(channels)
        self.current = UsodSdConvNormAct(channels, width, kernel_size=3)
        self.context = UsodSdResizedConvNormAct(config.neck_channels[-1], width)
        self.output = UsodSdConvNormAct(width, channels, kernel_size=3)

    def forward(self, a: torch.Tensor, b: torch.Tensor, features: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        size = features.shape[-2:]
        deeper = self.deeper(self.deeper_attention(torch.cat([a, b], dim=1)), size)
        current = self.current(self.attention(features))
        return self.output(deeper + current + self.context(context, size))


class UsodSdDecoder(nn.Module):
    """Two decoders, one led by either stream, that exchange their maps at every level.

    Args:
        channels: of the levels of a stream, from the finest to the deepest.
    """

    def __init__(self, channels: list[int], config: UsodSdConfig):
        super().__init__()
        *levels, deep = channels
        self.global_info = UsodSdGlobalInfo(config)
        # At each level but the deepest, from deep to fine: a block of the RGB decoder and one of the auxiliary decoder
        deeper = [deep, *reversed(levels)]
        self.rgb_blocks, self.aux_blocks = (
            nn.ModuleList(UsodSdFusionBlock(2 * d, c, config) for d, c in zip(deeper, reversed(levels), strict=False))
            for _ in range(2)
        )
        self.attention = UsodSdChannelAttention(2 * levels[0])
        self.score = nn.Conv2d(2 * levels[0], 1, kernel_size=1)
        self.rgb_score = nn.Conv2d(levels[0], 1, kernel_size=1)
        self.aux_score = nn.Conv2d(levels[0], 1, kernel_size=1)
        self.global_score = nn.Conv2d(deep, 1, kernel_size=1)

    def forward(
        self, features: list[torch.Tensor], aux_features: list[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits: fused, of the RGB decoder, of the auxiliary decoder (all at stride 4), of the global block."""
        context = self.global_info(features[-1], aux_features[-1])
        rgb = aux = context
        rgb_partner, aux_partner = aux_features[-1], features[-1]  # d1 = GFB(g, f4_aux, …), d2 = GFB(g, f4_rgb, …)
        for rgb_block, aux_block, f_rgb, f_aux in zip(
            self.rgb_blocks, self.aux_blocks, features[-2::-1], aux_features[-2::-1], strict=True
        ):
            rgb, aux = rgb_block(rgb, rgb_partner, f_rgb, context), aux_block(aux, aux_partner, f_aux, context)
            rgb_partner, aux_partner = aux, rgb
        fused = self.score(self.attention(torch.cat([rgb, aux], dim=1)))
        return fused, self.rgb_score(rgb), self.aux_score(aux), self.global_score(context)


class UsodSdPreTrainedModel(UsodPreTrainedModel):
    config: UsodSdConfig
    _no_split_modules = ["UsodSdGlobalInfo", "UsodSdFusionBlock"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # norms
        if isinstance(module, nn.Embedding):  # the offsets of auxiliary maps: as if there were none
            init.zeros_(module.weight)
        if isinstance(module, nn.Conv2d):
            init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                init.zeros_(module.bias)


class UsodSdModel(UsodSdPreTrainedModel):
    """
    The saliency detector of "Unified Unsupervised Salient Object Detection via Knowledge Transfer" (IJCAI 2024),
    stage 2: MIDD (TIP 2021), for an image and its auxiliary map (depth, thermal, optical flow).

    Raises:
        ValueError: if a backbone of the configuration yields neither four nor five feature maps, or the two streams
            do not fit.
    """

    def __init__(self, config: UsodSdConfig):
        super().__init__(config)
        self.backbone = load_backbone(config)
        self.aux_backbone = AutoBackbone.from_config(config.aux_backbone_config)
        channels, aux_channels = list(self.backbone.channels), list(self.aux_backbone.channels)
        if len(channels) not in (4, 5) or len(aux_channels) != len(channels):
            raise ValueError(
                "Both backbones must yield four feature maps, at strides 4, 8, 16 and 32, or five, the stem's before "
                f"them; they yield {len(channels)} and {len(aux_channels)}. Set their `out_features` or `out_indices`."
            )
        stem = channels[:-4]
        if stem != aux_channels[:-4]:
            raise ValueError(f"The stems of both backbones must be equally wide, got {stem} and {aux_channels[:-4]}.")
        self.neck, self.aux_neck = (
            nn.ModuleList(
                UsodSdConvNormAct(c, n, kernel_size=1) for c, n in zip(widths[-4:], config.neck_channels, strict=True)
            )
            for widths in (channels, aux_channels)
        )
        # Added where the auxiliary features enter the decoders, at all levels: the channel attentions, which everything
        # passes next, then see the kind in their pools and can weigh channels by it. A gate that starts at "as it was"
        # would have to be another factor; an offset is exact at zero and leaves the trained network as it is.
        if config.modality_informed:
            self.aux_offsets = nn.Embedding(len(AUX_KINDS), sum(config.neck_channels))
        self.decoder = UsodSdDecoder([*stem, *config.neck_channels], config)
        self.refiner = PixelRefiner()
        self.post_init()

    @torch.no_grad()
    def inform_of_aux_kinds(self) -> None:
        """From here on this detector is told what its auxiliary maps are (`modality_informed`): gives it an offset for
        each kind, unless it has them. They are zero, so that its maps stay what they are, to the bit, until trained."""
        if self.config.modality_informed:
            return
        self.config.modality_informed = True
        like = self.decoder.score.weight
        width = sum(self.config.neck_channels)
        self.aux_offsets = nn.Embedding(len(AUX_KINDS), width, dtype=like.dtype, device=like.device)
        self.aux_offsets.weight.zero_()

    def to_unit_range(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Normalized images as RGB in [0, 1]: the auxiliary input of images that have none."""
        return to_unit_range(pixel_values, self.config.image_mean, self.config.image_std)

    @staticmethod
    def _levels(features: Sequence[torch.Tensor], neck: nn.ModuleList) -> list[torch.Tensor]:
        """The stem's features, if the backbone yields them, and the reduced ones at strides 4 to 32."""
        return [*features[:-4], *(reduce(f) for reduce, f in zip(neck, features[-4:], strict=True))]

    def _kinds(self, images: torch.Tensor, has_aux: bool, aux_kind: torch.Tensor | None) -> torch.Tensor | None:
        """The kinds `(B,)` of the auxiliary maps; None for a model that is not told.

        Raises:
            ValueError: if they are given to such a model, are not given where there are maps, or are no kinds.
        """
        if not self.config.modality_informed:
            if aux_kind is None:
                return None
            raise ValueError("`aux_kind` is given, but this detector treats all maps alike; leave it out.")
        kinds = ", ".join(f"{place} {kind}" for place, kind in enumerate(AUX_KINDS))
        if aux_kind is None:
            if has_aux:
                raise ValueError(f"This detector is to be told what `aux_pixel_values` are: give `aux_kind` ({kinds}).")
            return torch.zeros(len(images), dtype=torch.long, device=images.device)
        if aux_kind.shape != (len(images),) or aux_kind.dtype != torch.long:
            shape = tuple(aux_kind.shape)
            raise ValueError(f"`aux_kind` is {shape} of {aux_kind.dtype}, expected ({len(images)},) of torch.int64.")
        if not torch.compiler.is_compiling() and not ((aux_kind >= 0) & (aux_kind < len(AUX_KINDS))).all():
            raise ValueError(f"`aux_kind` is {aux_kind.tolist()}; the kinds are {kinds}.")
        return aux_kind

    def _aux_levels(self, aux_pixel_values: torch.Tensor, aux_kind: torch.Tensor | None) -> list[torch.Tensor]:
        """As `_levels`, of the auxiliary stream, with the offsets of the maps' kinds."""
        levels = self._levels(self.aux_backbone(aux_pixel_values).feature_maps, self.aux_neck)
        if aux_kind is None:
            return levels
        offsets = self.aux_offsets(aux_kind)[..., None, None].split(list(self.config.neck_channels), dim=1)
        return [*levels[:-4], *(level + offset for level, offset in zip(levels[-4:], offsets, strict=True))]

    def _refine(self, pixel_values: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Logits `(B, 1, H, W)`, as large as the images, fitted to the images' edges."""
        refined = self.refiner(pixel_values, logits.float().sigmoid()) / self.refiner.gain
        return (self.config.refined_contrast * refined.logit(eps=1e-4)).to(logits.dtype)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        aux_pixel_values: torch.Tensor | None = None,
        aux_kind: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> SaliencyOutput:
        r"""
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`):
                Images, normalized by [`UsodImageProcessor`]. Any size of at least 32 pixels.
            aux_pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`, *optional*):
                Depth, thermal or flow maps in [0, 1], not normalized. Without, the image itself is used.
            aux_kind (`torch.LongTensor` of shape `(batch_size,)`, *optional*):
                What each map is, as its place in `AUX_KINDS`; 0 for an image that is its own. For a detector with
                `modality_informed` alone, which needs it with maps.
            labels (`torch.Tensor` of shape `(batch_size, height, width)`, *optional*):
                Masks, object above 0.5, for `loss`: the method's on one view, 1 - IoU of the fused map, and 0.2 of
                that of the RGB decoder's (section 6). Of the maps as the network gives them, before `refine_maps`.
            output_hidden_states (`bool`, *optional*):
                Whether to return the features of the RGB stream's backbone, from fine to deep.

        Example:

        ```python
        >>> model = AutoModel.from_pretrained(checkpoint)
        >>> processor = AutoImageProcessor.from_pretrained(checkpoint)
        >>> outputs = model(**processor(image, aux_images=depth, return_tensors="pt"))
        >>> saliency = processor.post_process_saliency(outputs, target_sizes=[(image.height, image.width)])[0]
        ```"""
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        aux_kind = self._kinds(pixel_values, aux_pixel_values is not None, aux_kind)
        if aux_pixel_values is None:
            aux_pixel_values = self.to_unit_range(pixel_values)
        features = tuple(self.backbone(pixel_values).feature_maps)
        levels, aux_levels = self._levels(features, self.neck), self._aux_levels(aux_pixel_values, aux_kind)
        fused, rgb, aux, context = self.decoder(levels, aux_levels)
        logits = F.interpolate(fused, size=pixel_values.shape[-2:], mode="bilinear", align_corners=False)
        loss = None
        if labels is not None:
            loss = overlap_loss(logits, labels) + SIDE_WEIGHT * overlap_loss(rgb, labels)
        if self.config.refine_maps and not self.training:
            logits = self._refine(pixel_values, logits)
        return SaliencyOutput(
            loss=loss,
            logits=logits,
            side_logits=SideLogits(rgb=rgb, aux=aux, context=context),
            hidden_states=features if output_hidden_states else None,
        )


__all__ = ["UsodSdModel"]
