"""What the salient object detection models share: their output, their resizing, their base class."""

from collections.abc import Iterable, Sequence
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


def _check_complete(missing: Iterable[str], source: object) -> None:
    """Raises a `ValueError` if weights of `source` are missing."""
    if not (names := sorted(missing)):
        return
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    message = f"{source}: lacks weights of its configuration: {listed}."
    if any("global_info" in name and "output." in name for name in names):
        message += (
            " It may have been saved with the columns of the global block in another order, by a version before 0.2. "
            "`hf-usod convert FOLDER --output NEW` brings it into today's."
        )
    raise ValueError(message)


class UsodPreTrainedModel(PreTrainedModel):
    base_model_prefix = ""
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, **kwargs):
        """As in transformers; but weights that are not all there are an error, and not a model that is random in part.

        Raises:
            ValueError: naming what is missing, unless `ignore_mismatched_sizes` or `state_dict` says that it is meant.
        """
        wanted = kwargs.pop("output_loading_info", False)
        meant = bool(kwargs.get("ignore_mismatched_sizes")) or kwargs.get("state_dict") is not None
        model, loading = super().from_pretrained(
            pretrained_model_name_or_path, *model_args, output_loading_info=True, **kwargs
        )
        if not meant:
            _check_complete(loading["missing_keys"], pretrained_model_name_or_path)
        return (model, loading) if wanted else model

    def load_adapter(self, peft_model_id=None, adapter_name=None, **kwargs):
        """As in transformers; but an adapter whose weights are not all there is an error.

        Raises:
            ValueError: naming what is missing.
        """
        loading = super().load_adapter(peft_model_id, adapter_name, **kwargs)
        # Those of adapters that are loaded already count as missing too
        own = (key for key in loading.missing_keys if (adapter_name or "default") in key.split("."))
        _check_complete(own, peft_model_id)
        return loading

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As in transformers; the code saved with the model serves every Auto class that fits, not one alone."""
        if self.is_remote_code():
            code = f"{type(self).__module__.split('.')[-1]}.{type(self).__name__}"
            auto_classes = ("AutoModel", "AutoModelForSemanticSegmentation")
            self.config.auto_map = (getattr(self.config, "auto_map", None) or {}) | dict.fromkeys(auto_classes, code)
        return super().save_pretrained(save_directory, *args, **kwargs)


__all__ = ["SaliencyOutput", "SideLogits", "UsodPreTrainedModel"]
