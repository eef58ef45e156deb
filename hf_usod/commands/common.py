"""What several commands share."""

import argparse

DEFAULT_MODEL = "usod-rgb-lite"


class CommandError(Exception):
    """A message for the user; the command ends with exit status 1."""


def model_options() -> argparse.ArgumentParser:
    """A parent parser with the options that choose a model and where it runs."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--model",
        help=f"an embedded model, a folder or a Hub id (default: the adapter's base, else {DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--adapter", help="an embedded adapter, a folder or a Hub id, of a model of another kind of images"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps … (default: the fastest there is)")
    return parser


def base_of(adapter: str) -> str:
    """The model that an adapter was trained for, as its configuration names it.

    Raises:
        CommandError: if there is no such adapter, or it names no base.
    """
    from peft import PeftConfig

    import hf_usod

    try:
        base = PeftConfig.from_pretrained(hf_usod.checkpoint_source(adapter)).base_model_name_or_path
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CommandError(
            f"--adapter {adapter}: cannot be read. Give a folder or Hub id with an adapter_config.json, or one of the "
            f"embedded: {', '.join(hf_usod.checkpoint_names('adapter')) or 'none'}. {error}"
        ) from error
    if not base:
        raise CommandError(f"--adapter {adapter}: does not name its base model. Give it with --model.")
    return base


def load_pipeline(name: str | None = None, device: str | None = None, adapter: str | None = None):
    """The detection pipeline of an embedded model's name, a folder, or a Hub id.

    Args:
        name: of the model; None for the adapter's base or, without adapter, the default model.
        device: None for the fastest there is.
        adapter: a task adapter's embedded name, folder or Hub id. It is loaded into the model and active; the model is
            of the class it was.

    Raises:
        CommandError: if there is no such model or adapter, it cannot be loaded, or they do not fit.
    """
    import torch
    from transformers import AutoImageProcessor, AutoModel
    from transformers.utils import logging

    import hf_usod

    logging.disable_progress_bar()
    base = name or (base_of(adapter) if adapter else DEFAULT_MODEL)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        source = hf_usod.checkpoint_source(base)
        model, processor = AutoModel.from_pretrained(source), AutoImageProcessor.from_pretrained(source)
    except (OSError, ValueError, RuntimeError) as error:
        if adapter and not name:
            raise CommandError(
                f"--adapter {adapter}: its base model, {base}, cannot be loaded. If it lies elsewhere, say where with "
                f"--model. {error}"
            ) from error
        raise CommandError(f"--model {base}: cannot be loaded. {error}") from error
    if adapter:
        try:
            model.load_adapter(hf_usod.checkpoint_source(adapter))
        except (OSError, ValueError, RuntimeError) as error:
            raise CommandError(f"--adapter {adapter}: cannot be loaded into {base}. {error}") from error
    return hf_usod.SalientObjectDetectionPipeline(model=model.eval(), image_processor=processor, device=device)


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def not_negative(text: str) -> int:
    if (number := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {text}")
    return number


def unit_interval(text: str) -> float:
    if not 0 <= (number := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"must be in [0, 1], got {text}")
    return number
