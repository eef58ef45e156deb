"""What the training loop needs of a stage."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from ..data import ImageViews, SampleViews
from ..models.image_processing_usod import UsodImageProcessor


class StepOutput(NamedTuple):
    """What a stage makes of a batch."""

    loss: torch.Tensor  # the scalar to descend
    terms: dict[str, torch.Tensor]  # its parts, for the log
    saliency: torch.Tensor  # (B, 1, H, W) in [0, 1], detached
    insight: Mapping[str, torch.Tensor] = MappingProxyType({})  # further scalars for the log


class Stage(ABC):
    """What is trained, on what, and what a step of it is.

    Attributes:
        model: what is trained, prepared by Accelerate and checkpointed.
        dataset: of samples, indexed by (index, flipped).
        image_processor: what is saved with the model.
        stateful: further modules with a state that changes, to be checkpointed.
        collapse_advice: usual reasons of collapsed maps, with the options that help, which the stage has.
    """

    model: nn.Module
    dataset: ImageViews | SampleViews
    image_processor: UsodImageProcessor
    stateful: Sequence[nn.Module] = ()
    collapse_advice = "too high a learning rate (--learning_rate)"

    @abstractmethod
    def parameter_groups(self, updates_per_epoch: int) -> list[dict[str, Any]]:
        """What the optimizer trains; a group may have `lr`, and a `first_step`, the update before which it rests."""

    @abstractmethod
    def step(self, model: nn.Module, batch: Any, epoch: int, step: int) -> StepOutput:
        """The objective on one batch; `epoch` counts from 1, `step` from 0 over the whole run."""

    @abstractmethod
    def preview(self, model: nn.Module) -> tuple[torch.Tensor, ...]:
        """Rows of pictures: a few images `(B, 3, H, W)`, and maps of them `(B, 1, H, W)`, in [0, 1]. `model` is the
        unwrapped one, in evaluation mode."""

    @abstractmethod
    def save(self, directory: Path) -> None:
        """Writes what is trained, as it is now."""

    def start_epoch(self, model: Any, epoch: int) -> None:  # noqa: B027
        """Called with the unwrapped model before the first step of an epoch, and where a run resumes inside one."""

    def share(self, accelerator: Accelerator) -> None:  # noqa: B027
        """Called in all processes before a checkpoint: what each has written in its machine's folder goes to the other
        machines."""

    def end_epoch(self) -> None:  # noqa: B027
        """Called after an epoch's last step in the processes that keep the run's folder."""


def set_input_size(image_processor: UsodImageProcessor, side: int) -> UsodImageProcessor:
    """Has a processor make square inputs of that side; returns it."""
    image_processor.size = {"height": side, "width": side}
    return image_processor


def save_network(network: PreTrainedModel | PeftModel, image_processor: UsodImageProcessor, directory: Path) -> None:
    """Writes a model with its image processor, or the adapter of one, whose images are processed as its base model
    says."""
    network.to(memory_format=torch.contiguous_format)
    if isinstance(network, PeftModel):  # without PEFT asking the Hub whether the base model's vocabulary was changed
        network.save_pretrained(directory, save_embedding_layers=False)
    else:
        network.save_pretrained(directory)
        image_processor.save_pretrained(directory)
    network.to(memory_format=torch.channels_last)
