"""The one way from a name, folder or Hub id, with or without adapter, to a model and its image processor."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoImageProcessor, AutoModel, PreTrainedModel
from transformers.utils import find_adapter_config_file

from .assets import checkpoint_names, checkpoint_source, is_adapter_folder
from .constants import DEFAULT_MODEL
from .errors import LoadingError, in_a_line, nearest
from .export.runner import is_exported, load_exported
from .models.image_processing_usod import UsodImageProcessor
from .models.modeling_usod import UsodPreTrainedModel
from .models.pipeline_usod import SalientObjectDetectionPipeline

# What the libraries raise for files that are missing, damaged or not what they should be
FAILURES = (
    *(OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError),
    StrictDataclassError,
    SafetensorError,
)


class Loaded(NamedTuple):
    """A model, in evaluation mode, and the image processor that goes with its weights."""

    model: PreTrainedModel
    image_processor: UsodImageProcessor


def base_of(adapter: str) -> str:
    """The model that an adapter was trained for, as its configuration names it.

    Raises:
        LoadingError: if there is no such adapter, or it names no base.
    """
    from peft import PeftConfig  # takes a third of a second

    try:
        base = PeftConfig.from_pretrained(checkpoint_source(adapter)).base_model_name_or_path
    except FAILURES as error:
        raise LoadingError(
            f"--adapter {adapter}: cannot be read. Give a folder or Hub id with an adapter_config.json, or one of the "
            f"embedded: {', '.join(checkpoint_names('adapter')) or 'none'}. {_reason(adapter, 'adapter', error)}"
        ) from error
    if not isinstance(base, str) or not base:
        raise LoadingError(f"--adapter {adapter}: does not name its base model. Give it with --model.")
    return base


def is_adapter(name: str) -> bool:
    """Whether an embedded name, a folder or a Hub id is an adapter's, and no model's."""
    folder = Path(checkpoint_source(name))
    if folder.is_dir() or "/" not in name:
        return is_adapter_folder(folder)
    try:
        return find_adapter_config_file(name) is not None
    except FAILURES:  # no Hub id, or nothing there; who loads it says so
        return False


def _reason(name: str, kind: str, error: BaseException) -> str:
    """Why something cannot be loaded, in a line, with the embedded name that may have been meant."""
    folder = Path(checkpoint_source(name))
    if folder.is_dir() or folder.is_file() or "/" in name.strip("./"):
        reason = in_a_line(error)
        return "The Hub cannot be reached." if "couldn't connect" in reason else reason
    names = checkpoint_names(kind)
    near = nearest(name, names)
    advice = f"did you mean {near}?" if near else f"there are: {', '.join(names) or 'none'}."
    return f"It is no folder, and no {kind} of that name is embedded; {advice}"


def load(
    name: str | None = None,
    adapter: str | None = None,
    *,
    kind: type[Any] = UsodPreTrainedModel,
    device: str | None = "cpu",
    runtime: str | None = None,
) -> Loaded:
    """A model, perhaps with a task adapter, and its image processor.

    Args:
        name: of an embedded model, a folder or a Hub id; None for the adapter's base or, without adapter, the default
            model. That of an adapter brings its base.
        adapter: a task adapter's embedded name, folder or Hub id. It is loaded into the model and active; the model is
            of the class it was.
        kind: the class that the model must be of.
        device: None for the fastest there is; for an exported model the CPU.
        runtime: `"onnx"` for onnxruntime, `"torch"` for PyTorch; None for what the folder holds weights of.

    Raises:
        LoadingError: if there is no such model or adapter, it cannot be loaded, is of another kind, or they do not fit.
    """
    if name and not adapter and is_adapter(name):
        name, adapter = None, name
    base = name or (base_of(adapter) if adapter else DEFAULT_MODEL)
    source = checkpoint_source(base)
    if is_exported(source, runtime):
        if adapter:
            raise LoadingError(f"--adapter {adapter}: {base} is exported; export its model with the adapter instead.")
        return Loaded(*load_exported(source, device))
    try:
        loaded = Loaded(AutoModel.from_pretrained(source).eval(), AutoImageProcessor.from_pretrained(source))
    except FAILURES as error:
        reason = _reason(base, "model", error)
        if adapter and not name:
            raise LoadingError(
                f"--adapter {adapter}: its base model, {base}, cannot be loaded. If it lies elsewhere, say where with "
                f"--model. {reason}"
            ) from error
        raise LoadingError(f"{base}: cannot be loaded. {reason}") from error
    if not isinstance(loaded.model, kind):
        wanted = "model of hf_usod" if kind is UsodPreTrainedModel else kind.__name__
        raise LoadingError(f"{base}: cannot be loaded. It is a {type(loaded.model).__name__}; a {wanted} is expected.")
    if adapter:
        try:
            loaded.model.load_adapter(checkpoint_source(adapter))
        except FAILURES as error:
            raise LoadingError(f"--adapter {adapter}: cannot be loaded into {base}. {in_a_line(error)}") from error
        loaded.model.eval()
    try:
        torch.device(device or "cpu")
    except RuntimeError as error:
        raise LoadingError(f"--device {device}: no such device. Give cpu, cuda, cuda:1, … or mps, or none.") from error
    try:
        loaded.model.to(device or _fastest_device())
        torch.zeros(1, device=loaded.model.device).cpu()  # "meta" can be named, but computes nothing
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise LoadingError(f"--device {device}: cannot be used here ({reason}). Leave it out, or give cpu.") from error
    return loaded


def _fastest_device() -> str:
    """Of several processes on a machine, each has a GPU of its own."""
    gpu = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return gpu if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def load_pipeline(
    name: str | None = None, adapter: str | None = None, *, device: str | None = None, runtime: str | None = None
) -> SalientObjectDetectionPipeline:
    """The detection pipeline of what `load` loads.

    Args:
        name, adapter: see `load`.
        device, runtime: see `load`; None for the fastest device there is.

    Raises:
        LoadingError: see `load`.
    """
    model, image_processor = load(name, adapter, device=device, runtime=runtime)
    return SalientObjectDetectionPipeline(model=model, image_processor=image_processor, device=model.device)
