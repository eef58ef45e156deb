"""The adapters of trained models that a training writes."""

from pathlib import Path

from peft import PeftModel


def save_adapter(adapted: PeftModel, directory: Path) -> None:
    """Writes the adapter of a model, without PEFT asking the Hub whether the base model's vocabulary was changed."""
    adapted.save_pretrained(directory, save_embedding_layers=False)
