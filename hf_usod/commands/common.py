"""What several commands share."""

import argparse

DEFAULT_MODEL = "usod-rgb-lite"


class CommandError(Exception):
    """A message for the user; the command ends with exit status 1."""


def model_options() -> argparse.ArgumentParser:
    """A parent parser with the options that choose a model and where it runs."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="an embedded model, a folder or a Hub id (default: %(default)s)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps … (default: the fastest there is)")
    return parser


def load_pipeline(name: str, device: str | None):
    """The detection pipeline of an embedded model's name, a folder, or a Hub id.

    Raises:
        CommandError: if there is no such model, or it cannot be loaded.
    """
    import torch
    from transformers import AutoImageProcessor, AutoModel
    from transformers.utils import logging

    import hf_usod

    logging.disable_progress_bar()
    try:
        source = str(hf_usod.checkpoint_path(name))
    except ValueError:
        source = name
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        model, processor = AutoModel.from_pretrained(source), AutoImageProcessor.from_pretrained(source)
    except (OSError, ValueError, RuntimeError) as error:
        raise CommandError(f"--model {name}: cannot be loaded. {error}") from error
    return hf_usod.SalientObjectDetectionPipeline(model=model, image_processor=processor, device=device)


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def unit_interval(text: str) -> float:
    if not 0 <= (number := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"must be in [0, 1], got {text}")
    return number
