"""An exported model on onnxruntime, in the place of a model of PyTorch."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from ..errors import DataError, LoadingError, in_a_line
from ..extras import require
from ..models.image_processing_usod import UsodImageProcessor
from ..models.modeling_usod import SaliencyOutput, UsodPreTrainedModel, to_unit_range

STRIDE = 32  # of the deepest features: what sides of images of free size are multiples of
MODEL_FILE = "model.onnx"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def is_exported(folder: str | Path, runtime: str | None = None) -> bool:
    """Whether a folder is to be run by onnxruntime: it holds an exported model, and nothing for PyTorch.

    Args:
        runtime: `"onnx"` or `"torch"`, if the user says which.
    """
    folder = Path(folder)
    if runtime is not None:
        return runtime == "onnx"
    return (folder / MODEL_FILE).is_file() and not any((folder / name).exists() for name in _WEIGHTS)


class UsodOnnxModel(UsodPreTrainedModel):
    """
    An exported model, called as the model that it was made of: for the pipeline, `post_process_saliency` and whatever
    else takes a model. It has no weights of its own, and cannot be trained or saved.

    Args:
        folder: what `hf-usod export` wrote.
        device: `cpu`, or `cuda` (with a number) where onnxruntime knows of a GPU.

    Raises:
        LoadingError: if there is no such model, it cannot be read, or the device is not there.
    """

    def __init__(self, folder: str | Path, device: str = "cpu"):
        runtime = require("onnxruntime", "onnx", "An exported model")
        path = Path(folder) / MODEL_FILE
        place = torch.device(device)
        provider = _PROVIDERS.get(place.type)
        if provider not in (available := runtime.get_available_providers()):
            raise LoadingError(
                f"--device {device}: onnxruntime does not know it here ({', '.join(available)}); give cpu."
            )
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        settings = {"device_id": place.index or 0} if place.type == "cuda" else {}
        try:
            config = AutoConfig.from_pretrained(folder)
            content = path.read_bytes()
            session = runtime.InferenceSession(content, options, providers=[(provider, settings)])
        except Exception as error:  # onnxruntime's have no base of their own
            raise LoadingError(f"{path}: cannot be loaded. {in_a_line(error)}") from error
        super().__init__(config)
        self.session, self.place = session, place
        inputs = {value.name: value.shape for value in session.get_inputs()}
        self.input_names = list(inputs)
        self.size = tuple(side for side in inputs["pixel_values"][-2:] if isinstance(side, int))
        # Of images alone it was exported for, whatever its kind takes
        self.config.takes_aux = "aux_pixel_values" in inputs
        self.config.modality_informed = "aux_kind" in inputs
        # What tells this model from others, as weights do
        self.register_buffer("digest", torch.frombuffer(bytearray(hashlib.sha256(content).digest()), dtype=torch.uint8))
        self.eval()

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")  # where its inputs are taken, and its outputs are

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def forward(
        self,
        pixel_values: torch.Tensor,
        aux_pixel_values: torch.Tensor | None = None,
        aux_kind: torch.Tensor | None = None,
        **options: Any,
    ) -> SaliencyOutput:
        r"""
        Args:
            pixel_values, aux_pixel_values, aux_kind:
                As of the model that was exported. Without `aux_pixel_values`, a model that takes them is given the
                image itself.

        Raises:
            DataError: for images of a size that the model was not exported for.
            MemoryError: if memory does not suffice.
        """
        values: dict[str, Any] = {
            "pixel_values": pixel_values,
            "aux_pixel_values": aux_pixel_values,
            "aux_kind": aux_kind,
        }
        if self.config.takes_aux and aux_pixel_values is None:
            values["aux_pixel_values"] = to_unit_range(pixel_values, self.config.image_mean, self.config.image_std)
        if self.config.modality_informed and aux_kind is None:
            values["aux_kind"] = torch.zeros(len(pixel_values), dtype=torch.long)
        height, width = pixel_values.shape[-2:]
        if (self.size and self.size != (height, width)) or height % STRIDE or width % STRIDE:
            wanted = "{} x {}".format(*self.size[::-1]) if self.size else f"sides that {STRIDE} divides"
            raise DataError(f"This model was exported for images of {wanted}; these are {width} x {height}.")
        try:
            (logits,) = self.session.run(["logits"], {name: values[name].numpy() for name in self.input_names})
        except Exception as error:
            if "allocat" in str(error):
                raise MemoryError(in_a_line(error)) from error
            raise
        return SaliencyOutput(logits=torch.from_numpy(logits))


def load_exported(folder: str | Path, device: str | None = None) -> tuple[UsodOnnxModel, UsodImageProcessor]:
    """An exported model and its image processor.

    Raises:
        LoadingError: see `UsodOnnxModel`.
    """
    if not (Path(folder) / MODEL_FILE).is_file():
        raise LoadingError(f"{folder}: is not exported. Run `hf-usod export {folder} --output DIR`, and give DIR.")
    return UsodOnnxModel(folder, device or "cpu"), UsodImageProcessor.from_pretrained(folder)
