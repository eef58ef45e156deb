"""Foreign checkpoints in: A2S-v3, MoCo, EfficientNet-Lite."""

from .a2s import convert_a2s_checkpoint
from .efficientnet_lite import convert_efficientnet_lite_checkpoint
from .moco import convert_moco_checkpoint
from .pretrained import Pretrained, convert_checkpoint, load_pretrained_backbone
from .state_dicts import ConversionError, read_state_dict
from .upgrade import is_saved_model, upgrade_folder

__all__ = [
    "ConversionError",
    "Pretrained",
    "convert_a2s_checkpoint",
    "convert_checkpoint",
    "convert_efficientnet_lite_checkpoint",
    "convert_moco_checkpoint",
    "is_saved_model",
    "load_pretrained_backbone",
    "read_state_dict",
    "upgrade_folder",
]
