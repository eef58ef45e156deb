"""The authors' A2S-v3 checkpoints: of the saliency cue extractor here, of the detector in `a2s_detector`.

A2S-v3: https://arxiv.org/abs/2404.14759
"""

import re

from peft import PeftModel, get_peft_model

from ..adapters import UsodAdapterConfig
from ..errors import ConversionError
from ..models.configuration_usod import UsodSceConfig
from ..models.modeling_usod_sce import UsodSceModel
from ..models.modeling_usod_sd import UsodSdModel
from .a2s_detector import convert_a2s_detector, is_a2s_detector
from .resnet import resnet50_backbone
from .state_dicts import Rule, StateDict, load_exactly, rename, select_prefix, strip_prefix

_SOURCE = "an A2S-v3 saliency cue extractor"
_RULES: tuple[Rule, ...] = (
    (r"^ad2\.", "mid_projection."),
    (r"^ad3\.", "high_projection."),
    (r"^ad4\.", "deep_projection."),
    (r"\bad0\.0\.", "conv."),
    (r"\bad0\.1\.", "norm."),
    (r"\bse\.conv\.", "gate.conv."),
)
_ADAPTER = "base_model.model.decoder.deep_projection.usod_adapter_modules.default"
_UNUSED = re.compile(r"\bse\.gn\.")  # a GroupNorm that the authors' gates own and never call


def is_a2s(state_dict: StateDict) -> bool:
    """Whether the keys look like the authors' SCE or SD."""
    return is_a2s_detector(state_dict) or any(
        key.removeprefix("module.").startswith("decoder.ad4.") for key in state_dict
    )


def convert_a2s_checkpoint(state_dict: StateDict) -> UsodSceModel | UsodSdModel | PeftModel:
    """An authors' state dict as our model, with the same outputs: a detector if it has its decoder, else an SCE.

    Args:
        state_dict: of the SCE, `encoder.*` (ResNet-50 by torchvision's names, with or without `fc`),
            `decoder.{ad2,ad3,ad4,fusion}.*` and, of a transferred one, `adapter.*`: the parallel copy of `ad4`. Of the
            SD, see `convert_a2s_detector`.

    Returns:
        The model; with an adapter, a `PeftModel` around it whose adapter is active.

    Raises:
        ConversionError: listing the keys that are missing, unexpected or of another shape.
    """
    state_dict = strip_prefix(state_dict, "module.")
    if is_a2s_detector(state_dict):
        return convert_a2s_detector(state_dict)
    if unexpected := [key for key in state_dict if not key.startswith(("encoder.", "decoder.", "adapter."))]:
        raise ConversionError(f"Not a checkpoint of {_SOURCE}. Keys unexpected: {', '.join(unexpected)}.")
    used = {key: value for key, value in state_dict.items() if not _UNUSED.search(key)}
    model = UsodSceModel(UsodSceConfig())
    load_exactly(model.decoder, rename(select_prefix(used, "decoder."), _RULES, _SOURCE), _SOURCE)
    model.backbone.load_state_dict(resnet50_backbone(select_prefix(state_dict, "encoder."), _SOURCE).state_dict())
    adapter = rename(select_prefix(used, "adapter."), _RULES, _SOURCE)
    if not adapter:
        return model.eval()
    adapted = get_peft_model(model, UsodAdapterConfig())
    load_exactly(adapted.get_submodule(_ADAPTER), adapter, _SOURCE)
    return adapted.eval()
