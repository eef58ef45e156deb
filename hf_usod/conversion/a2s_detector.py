"""The authors' A2S-v3 checkpoints (https://arxiv.org/abs/2404.14759) of the saliency detector (MIDD)."""

import torch
from peft import PeftModel, get_peft_model
from torch import nn

from ..adapters import UsodAdapterConfig
from ..errors import ConversionError
from ..models.configuration_usod import UsodSdConfig
from ..models.modeling_usod_sd import UsodSdModel
from .resnet import resnet50_backbone
from .state_dicts import Rule, StateDict, load_exactly, rename, select_prefix

_SOURCE = "an A2S-v3 saliency detector"
_KNOWN = ("encoder.", "t_net.", "trans_rgb.", "trans_t.", "decoder.", "adapter.")
_ADAPTER = "base_model.model.decoder.global_info.usod_adapter_modules.default"
_BLOCK = r"(neck\.\d|deeper|context|current|output|reduction)"
# Applied to a key one after the other. Theirs are Sequentials of convolution 0, norm 1, and ReLU.
_RULES: tuple[Rule, ...] = (
    (r"^trans_rgb\.", "neck."),
    (r"^trans_t\.", "aux_neck."),
    (r"^decoder\.gfb([1-4])_1\.", lambda m: f"decoder.rgb_blocks.{4 - int(m[1])}."),
    (r"^decoder\.gfb([1-4])_2\.", lambda m: f"decoder.aux_blocks.{4 - int(m[1])}."),
    (r"\.ca1\.", ".deeper_attention."),
    (r"\.conv1\.", ".deeper."),
    (r"\.conv_globalinfo\.", ".context."),
    (r"\.ca2\.", ".attention."),
    (r"\.conv_curfeat\.", ".current."),
    (r"\.conv_out\.", ".output."),
    (r"^decoder\.refine\.", "decoder."),
    (r"^decoder\.score_1\.", "decoder.rgb_score."),
    (r"^decoder\.score_2\.", "decoder.aux_score."),
    (r"^decoder\.score_global\.", "decoder.global_score."),
    (r"\.ca\.", ".attention."),
    (r"attention\.fus\.0\.", "attention.squeeze."),
    (r"attention\.fus\.2\.", "attention.excite."),
    (r"\.de_chan\.", ".reduction."),
    (r"\.b(\d)\.1\.", r".branches.\1.1."),
    (r"\.fus\.", ".output."),
    (rf"{_BLOCK}\.0\.", r"\1.conv."),
    (rf"{_BLOCK}\.1\.", r"\1.norm."),
)


def is_a2s_detector(state_dict: StateDict) -> bool:
    """Whether the keys look like the authors' SD."""
    return any(key.removeprefix("module.").startswith("decoder.gfb4_1.") for key in state_dict)


def _with_biases(module: nn.Module, state_dict: StateDict) -> StateDict:
    """Adds zero biases to convolutions before a norm that were trained without; the norm makes up for them."""
    missing = [
        name
        for name, value in module.state_dict().items()
        if name.endswith(".conv.bias") and name not in state_dict and f"{name.removesuffix('bias')}weight" in state_dict
    ]
    return state_dict | {name: torch.zeros_like(module.get_parameter(name)) for name in missing}


def convert_a2s_detector(state_dict: StateDict) -> UsodSdModel | PeftModel:
    """An authors' state dict of the SD as our model, with the same outputs.

    Args:
        state_dict: `encoder.*` and `t_net.*` (ResNet-50 by torchvision's names, with or without `fc`), `trans_rgb.*`,
            `trans_t.*`, `decoder.*` and, of a transferred one, `adapter.*`: the parallel copy of the global block.

    Returns:
        The model; with an adapter, a `PeftModel` around it whose adapter is active.

    Raises:
        ConversionError: listing the keys that are missing, unexpected or of another shape.
    """
    if unexpected := [key for key in state_dict if not key.startswith(_KNOWN)]:
        raise ConversionError(f"Not a checkpoint of {_SOURCE}. Keys unexpected: {', '.join(unexpected)}.")
    own = {key: value for key, value in state_dict.items() if not key.startswith((*_KNOWN[:2], "adapter."))}
    weights = rename(own, _RULES, _SOURCE)
    for prefix, new_prefix in (("encoder.", "backbone."), ("t_net.", "aux_backbone.")):
        backbone = resnet50_backbone(select_prefix(state_dict, prefix), f"{_SOURCE} ({prefix}*)")
        weights |= {new_prefix + key: value for key, value in backbone.state_dict().items()}
    model = UsodSdModel(UsodSdConfig())
    load_exactly(model, _with_biases(model, weights), _SOURCE)
    adapter = {f"decoder.global_info.{key}": value for key, value in select_prefix(state_dict, "adapter.").items()}
    if not adapter:
        return model.eval()
    adapted = get_peft_model(model, UsodAdapterConfig())
    module = adapted.get_submodule(_ADAPTER)
    renamed = {
        key.removeprefix("decoder.global_info."): value for key, value in rename(adapter, _RULES, _SOURCE).items()
    }
    load_exactly(module, _with_biases(module, renamed), _SOURCE)
    return adapted.eval()
