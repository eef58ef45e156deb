"""Gradient checkpointing: less memory for more time, and the same result."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import ResNetBackbone

from ..models.modeling_usod_sd import UsodSdFusionBlock, UsodSdGlobalInfo, UsodSdModel
from .frozen import batch_norms


@contextmanager
def _statistics_stay(module: nn.Module) -> Iterator[None]:
    """In here the batch norms of a module see their batch for the second time, and do not count it again."""
    norms = batch_norms(module)
    before = [(norm.momentum, norm.get_buffer("num_batches_tracked").clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, num_batches) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.get_buffer("num_batches_tracked").copy_(num_batches)


class _Recomputed(nn.Module):
    """A module of which the inputs alone are kept for the backward pass, which computes what is between them and the
    outputs again."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        def contexts():
            return nullcontext(), _statistics_stay(self)

        return checkpoint(super().forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def _stages(backbone: nn.Module) -> list[nn.Module]:
    """Of a backbone: the parts that are computed one after the other."""
    name = "encoder.stages" if isinstance(backbone, ResNetBackbone) else "_backbone.blocks"
    return list(backbone.get_submodule(name).children())


def recompute_activations(model: UsodSdModel) -> None:
    """Has a detector, or one with an adapter, keep for the backward pass only what goes into the stages of its
    backbones and the blocks of its decoders. Names of weights stay."""
    blocks: tuple[type[nn.Module], ...] = (UsodSdFusionBlock, UsodSdGlobalInfo)
    parts = [module for module in model.modules() if isinstance(module, blocks)]
    for backbone in (model.backbone, model.aux_backbone):
        if any(parameter.requires_grad for parameter in backbone.parameters()):
            parts += _stages(backbone)
    for part in parts:
        part.__class__ = type(part.__class__.__name__, (_Recomputed, part.__class__), {})
