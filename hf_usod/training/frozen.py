"""What is not trained, at its cheapest: no gradients, batch norms folded away, low precision."""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import cached_property

import torch
from accelerate import Accelerator
from torch import nn
from transformers.modeling_outputs import BackboneOutput

from ..data.batches import open_lanes
from ..folding import PRECISIONS, cpu_knows_bf16, fold_batch_norms


def frozen_precision(asked: str | None, accelerator: Accelerator) -> str:
    """What a detector's frozen backbones are computed in: what was asked for or, if nothing was, bf16 on a CPU that
    knows it, which is faster; maps then differ by .002 on average. Those of a cue extractor, whose maps of
    images unlike its own differ by up to .08, are not for it.

    Args:
        asked: `--mixed_precision`.
    """
    if asked is None and accelerator.mixed_precision == "no" and accelerator.device.type == "cpu" and cpu_knows_bf16():
        return "bf16"
    return accelerator.mixed_precision


def _to_evaluation_mode(norm: nn.Module, inputs: tuple) -> None:
    norm.eval()


def batch_norms(model: nn.Module) -> list[nn.BatchNorm2d | nn.SyncBatchNorm]:
    """All there are in a model."""
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm)]


def freeze_statistics(model: nn.Module) -> None:
    """Has all batch norms of a model normalize by their running statistics, which stay, also in training mode."""
    for norm in batch_norms(model):
        norm.register_forward_pre_hook(_to_evaluation_mode)


class FrozenBackbone:
    """Features of a backbone that is not trained, for images `(B, 3, H, W)`, at strides 4 to 32, without gradients.

    Args:
        backbone: moved to no device here. With `batch_norm="eval"` it is copied and stays as it is.
        mixed_precision: what features are computed in, as Accelerate calls it: no, bf16 or fp16.
        batch_norm: `"eval"`, or `"train"`: batch statistics, which also update the backbone's running ones, as the
            released program does.
    """

    def __init__(self, backbone: nn.Module, mixed_precision: str = "no", batch_norm: str = "eval"):
        dtype = PRECISIONS.get(mixed_precision, torch.float32)
        self.batch_statistics = batch_norm == "train"
        if self.batch_statistics:
            self.backbone = backbone.train().to(memory_format=torch.channels_last)
        else:
            self.backbone = fold_batch_norms(backbone).to(dtype).to(memory_format=torch.channels_last)
        self.dtype = dtype

    @property
    def on_cpu(self) -> bool:
        return next(self.backbone.parameters()).device.type == "cpu"

    @cached_property
    def _lanes(self) -> Executor:
        return open_lanes(torch.get_num_threads())

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.of_each(images) if self.on_cpu and not self.batch_statistics else self._features(images)

    def of_each(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The same, to the bit, whatever image is beside another; faster on a CPU, where each has a thread."""
        run = self._lanes.map if self.on_cpu else map
        return tuple(map(torch.cat, zip(*run(self._features, images.split(1)), strict=True)))

    @torch.no_grad()
    def _features(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return tuple(self.backbone(images).feature_maps)

    @contextmanager
    def as_used(self) -> Iterator[None]:
        """In here features are those of the finished model, and no statistics move."""
        self.backbone.eval()
        try:
            yield
        finally:
            self.backbone.train(self.batch_statistics)


class FrozenStream(nn.Module):
    """Takes the place of a backbone that is not trained in a model that is; its features are float32.

    It has no parameters: what is not trained is in no checkpoint.
    """

    def __init__(self, features: FrozenBackbone):
        super().__init__()
        self.features = features

    def forward(self, pixel_values: torch.Tensor) -> BackboneOutput:
        return BackboneOutput(feature_maps=tuple(level.float() for level in self.features(pixel_values)))
