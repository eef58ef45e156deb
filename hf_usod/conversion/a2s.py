"""The authors' A2S-v3 checkpoints: of the saliency cue extractor here, of the detector in `a2s_detector`."""

from peft import PeftModel, get_peft_model

from ..adapters import UsodAdapterConfig
from ..errors import ConversionError
from ..models.configuration_usod import UsodSceConfig
from ..models.modeling_usod_sce import UsodSceModel
from ..models.modeling_usod_sd import UsodSdModel
from .a2s_detector import convert_a2s_detector, is_a2s_detector
from .resnet import resnet50_backbone
from .state_dicts import StateDict, load_exactly, select_prefix, strip_prefix

_SOURCE = "an A2S-v3 saliency cue extractor"
_PROJECTIONS = {"ad2": "mid_projection", "ad3": "high_projection", "ad4": "deep_projection", "fusion": "fusion"}
_BLOCK = {"ad0.0.": "conv.", "ad0.1.": "norm.", "se.conv.": "gate.conv."}
_ADAPTER = "base_model.model.decoder.deep_projection.usod_adapter_modules.default"
_UNUSED = "se.gn."  # a GroupNorm that the authors' gates own and never call


def is_a2s(state_dict: StateDict) -> bool:
    """Whether the keys look like the authors' SCE or SD."""
    return is_a2s_detector(state_dict) or any(
        key.removeprefix("module.").startswith("decoder.ad4.") for key in state_dict
    )


def _rename_block(block: StateDict, prefix: str) -> StateDict:
    """One `project` block under our names; keys it does not know keep theirs, to be reported."""
    renamed = {}
    for key, value in block.items():
        if key.startswith(_UNUSED):
            continue
        for theirs, ours in _BLOCK.items():
            if key.startswith(theirs):
                key = ours + key.removeprefix(theirs)
                break
        renamed[prefix + key] = value
    return renamed


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
    decoder: StateDict = {}
    for key, value in select_prefix(state_dict, "decoder.").items():
        name, _, rest = key.partition(".")
        decoder |= _rename_block({rest: value}, _PROJECTIONS.get(name, name) + ".")
    model = UsodSceModel(UsodSceConfig())
    load_exactly(model.decoder, decoder, _SOURCE)
    model.backbone.load_state_dict(resnet50_backbone(select_prefix(state_dict, "encoder."), _SOURCE).state_dict())
    adapter = _rename_block(select_prefix(state_dict, "adapter."), "")
    if not adapter:
        return model.eval()
    adapted = get_peft_model(model, UsodAdapterConfig())
    load_exactly(adapted.get_submodule(_ADAPTER), adapter, _SOURCE)
    return adapted.eval()
