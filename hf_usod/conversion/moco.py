"""MoCo-v2 checkpoints: the self-supervised ResNet-50 that the paper trains on."""

from transformers import ResNetBackbone

from ..errors import ConversionError
from .resnet import resnet50_backbone, torchvision_names
from .state_dicts import StateDict, select_prefix, strip_prefix

_SOURCE = "a MoCo ResNet-50"


def is_moco(state_dict: StateDict) -> bool:
    """Whether the keys look like MoCo's, in either form."""
    return any(key.removeprefix("module.").startswith(("encoder_q.", "stem.conv1.")) for key in state_dict)


def convert_moco_checkpoint(state_dict: StateDict) -> ResNetBackbone:
    """The query encoder of a MoCo (v1 or v2) ResNet-50 as a transformers backbone.

    Args:
        state_dict: the official file's (`module.encoder_q.*`; key encoder and queue are left out, the projection
            head is dropped), or its detectron2 form (`stem.*`, `res2.*` …).

    Returns:
        A `ResNetBackbone` with the features of its four stages.

    Raises:
        ConversionError: listing the keys that are missing, unexpected or of another shape.
    """
    state_dict = strip_prefix(state_dict, "module.")
    if query := select_prefix(state_dict, "encoder_q."):
        known = ("encoder_q.", "encoder_k.", "queue")
        if unexpected := [key for key in state_dict if not key.startswith(known)]:
            raise ConversionError(f"Not a checkpoint of {_SOURCE}. Keys unexpected: {', '.join(unexpected)}.")
        return resnet50_backbone(query, _SOURCE)
    return resnet50_backbone(torchvision_names(state_dict, _SOURCE), _SOURCE)
