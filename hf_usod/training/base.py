"""The trained models that transfer starts from."""

from transformers import AutoImageProcessor, AutoModel

from .. import checkpoint_names, checkpoint_path
from .run_folder import RunError


def load_base(name: str, kind: type):
    """A trained model to adapt, and its image processor; `name` is an embedded model's, a folder or a Hub id.

    Raises:
        RunError: if it cannot be loaded or is of another kind.
    """
    source = checkpoint_path(name) if name in checkpoint_names() else name
    try:
        model, image_processor = AutoModel.from_pretrained(source), AutoImageProcessor.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise RunError(f"{name}: cannot be loaded. {error}") from error
    if not isinstance(model, kind):
        raise RunError(f"{name}: is a {type(model).__name__}; a {kind.__name__} is adapted here.")
    return model, image_processor
