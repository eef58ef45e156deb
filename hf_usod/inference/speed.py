"""The model of a pipeline as it is fastest."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..errors import DataError
from ..folding import NETWORKS, PRECISIONS, cpu_knows_bf16, fastest

AUTO = "auto"


def native_precision(device: torch.device) -> str:
    """bf16 on a CPU that multiplies in it, which halves the network's time; else no."""
    return "bf16" if device.type == "cpu" and cpu_knows_bf16() else "no"


@contextmanager
def at_full_speed(detect: Any, mixed_precision: str = "no", fold: bool = True) -> Iterator[None]:
    """In here a pipeline's model is its `fastest` copy: half the time on a CPU. What is no model of PyTorch stays as it
    is.

    Args:
        mixed_precision: what the network computes in, as Accelerate calls it: no, bf16 (half the time on a CPU that
            knows it, maps that differ by .002 on average) or fp16, for GPUs; auto, what the device is fastest in.
        fold: whether to make the copy, which takes as long as some twenty photos gain by it.

    Raises:
        DataError: for a precision that the model, or its device, does not have.
    """
    model = detect.model
    is_torch = type(model) in NETWORKS
    if mixed_precision == AUTO:
        mixed_precision = native_precision(model.device) if is_torch else "no"
    dtype = PRECISIONS[mixed_precision]
    if dtype != torch.float32 and not is_torch:
        raise DataError("mixed_precision is for models of PyTorch; export in another precision instead.")
    if dtype == torch.float16 and model.device.type == "cpu":
        raise DataError("mixed_precision fp16: needs a GPU. On a CPU, give bf16 or no.")
    if fold:
        detect.model = fastest(model)
    if dtype != torch.float32:  # as part of the model, for autocast is on in the thread that enters it alone
        detect.model.forward = torch.autocast(model.device.type, dtype)(detect.model.forward)
    try:
        yield
    finally:
        detect.model.__dict__.pop("forward", None)
        detect.model = model
