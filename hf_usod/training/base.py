"""The trained models that a training starts from, and the adapters of them that it writes."""

from pathlib import Path

from peft import PeftModel
from transformers import AutoImageProcessor, AutoModel

from .. import checkpoint_source
from .run_folder import RunError


def load_base(name: str, kind: type):
    """A trained model to adapt or to train on, and its image processor.

    Args:
        name: an embedded model's, a folder or a Hub id.
        kind: the class it must be of.

    Raises:
        RunError: if it cannot be loaded or is of another kind.
    """
    source = checkpoint_source(name)
    try:
        model, image_processor = AutoModel.from_pretrained(source), AutoImageProcessor.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise RunError(f"{name}: cannot be loaded. {error}") from error
    if not isinstance(model, kind):
        raise RunError(f"{name}: is a {type(model).__name__}; a {kind.__name__} is expected here.")
    return model, image_processor


def save_adapter(adapted: PeftModel, directory: Path) -> None:
    """Writes the adapter of a model, without PEFT asking the Hub whether the base model's vocabulary was changed."""
    adapted.save_pretrained(directory, save_embedding_layers=False)
