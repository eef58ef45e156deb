"""What the salient object detection models share: their output, their resizing, their base class."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.utils import ModelOutput


@dataclass
class SideLogits(ModelOutput):
    """
    What a detector says before its two streams are fused. A `ModelOutput`, because pipelines take batches of those
    apart, and of tuples they do not.

    Args:
        rgb, aux (`torch.FloatTensor` of shape `(batch_size, 1, height / 4, width / 4)`):
            Logits of the decoders led by either stream.
        context (`torch.FloatTensor` of shape `(batch_size, 1, height / 32, width / 32)`):
            Logits of the global block.
    """

    rgb: torch.Tensor | None = None
    aux: torch.Tensor | None = None
    context: torch.Tensor | None = None


@dataclass
class SaliencyOutput(ModelOutput):
    """
    Args:
        logits (`torch.FloatTensor` of shape `(batch_size, 1, height, width)`):
            Saliency before the sigmoid, at the input's size.
        side_logits (`SideLogits`, *optional*):
            Logits of side outputs, for models that have them.
        hidden_states (`tuple(torch.FloatTensor)`, *optional*, with `output_hidden_states=True`):
            The backbone's features at strides 4, 8, 16 and 32.
    """

    logits: torch.Tensor | None = None
    side_logits: SideLogits | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


def resize(maps: torch.Tensor, size: tuple[int, int] | torch.Size) -> torch.Tensor:
    """Bilinear, corners aligned, as within the method's networks: `(B, C, H, W)` -> `(B, C, *size)`."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)


def to_unit_range(pixel_values: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Normalised images `(B, 3, H, W)` as RGB in [0, 1]."""
    scale, shift = (pixel_values.new_tensor(values).view(3, 1, 1) for values in (std, mean))
    return pixel_values * scale + shift


class UsodPreTrainedModel(PreTrainedModel):
    base_model_prefix = ""
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As in transformers; the code saved with the model serves every Auto class that fits, not one alone."""
        if self.is_remote_code():
            code = f"{type(self).__module__.split('.')[-1]}.{type(self).__name__}"
            auto_classes = ("AutoModel", "AutoModelForSemanticSegmentation")
            self.config.auto_map = (getattr(self.config, "auto_map", None) or {}) | dict.fromkeys(auto_classes, code)
        return super().save_pretrained(save_directory, *args, **kwargs)


__all__ = ["SaliencyOutput", "SideLogits", "UsodPreTrainedModel"]
