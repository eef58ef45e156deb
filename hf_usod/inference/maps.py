"""The saliency maps of many images, by a pipeline, as many at a time as memory allows."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedConfig

from ..errors import DataError, is_out_of_memory


def as_input(config: PreTrainedConfig, image: Image.Image, aux: Image.Image | None, aux_kind: str | None) -> Any:
    """What a pipeline takes: an image, with its auxiliary map if there is one, and that one's kind if the model is told
    it."""
    if aux is None:
        return image
    told = config.takes_aux and config.modality_informed
    return {"image": image, "aux": aux, **({"aux_kind": aux_kind} if told else {})}


class Maps:
    """Calls a `salient-object-detection` pipeline; has a batch that does not fit in memory done in halves.

    Args:
        detect: the pipeline.
        batch_size: images at a time, at first.
        options: further ones of the pipeline.
    """

    def __init__(self, detect, batch_size: int, **options: Any):
        self.detect, self.batch_size, self.options = detect, batch_size, options
        self.notes: list[str] = []  # what was done otherwise than asked for

    def of(self, inputs: list, names: list[str]) -> Iterator[Tensor | DataError]:
        """The maps, `(H, W)` in [0, 1]; for an image that has none, naming it, why."""
        for saliency, name in zip(self._maps(inputs), names, strict=True):
            if saliency is None:
                yield DataError(f"{name}: memory does not suffice for it. Make it smaller, or use --device cpu.")
            elif not torch.isfinite(saliency).all():
                yield DataError(
                    f"{name}: the model gives NaN for it. Its weights are damaged, or too large for its dtype."
                )
            else:
                yield saliency

    def _maps(self, inputs: list) -> Sequence[Tensor | None]:
        size = min(self.batch_size, len(inputs))
        maps = self._try(inputs, size)
        if maps is not None:
            return maps
        if size == 1:
            return [None] if len(inputs) == 1 else [saliency for image in inputs for saliency in self._maps([image])]
        self.batch_size = size // 2
        self.notes.append(f"Memory does not suffice for {size} images at a time; it was done with {size // 2}.")
        return self._maps(inputs)

    def _try(self, inputs: list, batch_size: int) -> list[Tensor] | None:
        """None, if memory does not suffice. What was allocated is free by then, as the exception is gone."""
        try:
            results = self.detect(inputs, batch_size=batch_size, outputs=["predicted_saliency"], **self.options)
            return [result["predicted_saliency"] for result in results]
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return None
