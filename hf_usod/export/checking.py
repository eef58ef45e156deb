"""Whether an exported model says what its model says, on photos."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image
from transformers import PreTrainedModel

from ..errors import ExportError
from ..models.image_processing_usod import UsodImageProcessor


class Difference(NamedTuple):
    """Of saliency maps in [0, 1]: the largest, and the mean, over all pixels of all photos."""

    largest: float
    mean: float

    def __str__(self) -> str:
        return f"mean {self.mean:.2g}, largest {self.largest:.2g}"


_BATCH = 3  # photos that are also looked at together
# What is let pass, by precision
BOUNDS = {
    "fp32": Difference(1e-3, 1e-4),
    "fp16": Difference(1.0, 5e-3),
    "int8": Difference(1.0, 3e-2),
}


def sample_inputs(
    photos: Sequence[Image.Image], processor: UsodImageProcessor, input_names: Sequence[str]
) -> Iterator[dict[str, torch.Tensor]]:
    """What a graph is given for each photo, one at a time. Its map, where it takes one, is the photo in gray; every
    other one is the photo itself."""
    for number, photo in enumerate(photos):
        maps: dict[str, Any] = {}
        if "aux_pixel_values" in input_names:
            maps["aux_images"] = [photo.convert("L") if number % 2 else None]
        if "aux_kind" in input_names:
            maps["aux_kinds"] = ["depth"]
        yield dict(processor(photo, **maps, return_tensors="pt"))


def difference(
    exported: PreTrainedModel, model: PreTrainedModel, inputs: Sequence[dict[str, torch.Tensor]]
) -> Difference:
    """How far the maps of an exported model are from those of its model, photo by photo, some also in a batch.

    Raises:
        ExportError: if the maps are not numbers, or in a batch are others than alone.
    """
    some = inputs[:_BATCH]
    batch = {name: torch.cat([sample[name] for sample in some]) for name in inputs[0]}
    with torch.inference_mode():
        expected = torch.cat([_maps(model, sample) for sample in inputs])
        alone = torch.cat([_maps(exported, sample) for sample in inputs])
        together = _maps(exported, batch)
    errors = (alone - expected).abs()
    if not torch.isfinite(errors).all():
        raise ExportError("The exported model gives NaN. Export with --dtype fp32, and without --quantize.")
    if (worst := (together - alone[: len(some)]).abs().max().item()) > BOUNDS["fp32"].largest:
        raise ExportError(f"In a batch, the exported model gives other maps than alone, by up to {worst:.2g}.")
    return Difference(errors.max().item(), errors.mean().item())


def _maps(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    place = next(iter(model.parameters()), torch.empty(0)).device
    return model(**{name: tensor.to(place) for name, tensor in inputs.items()}).logits.float().sigmoid().cpu()


def check_difference(found: Difference, precision: str) -> None:
    """Raises an `ExportError` if maps differ by more than `BOUNDS` lets pass."""
    bound = BOUNDS[precision]
    if found.mean > bound.mean or found.largest > bound.largest:
        way_out = "" if precision == "fp32" else " Export with --dtype fp32"
        way_out += ", or calibrate with photos like yours (--images)." if precision == "int8" else way_out and "."
        raise ExportError(
            f"The {precision} model's maps differ from PyTorch's by {found}; at most {bound} is let pass, and nothing "
            f"was written.{way_out}"
        )
