"""The card that training writes beside what it trained: what it is, how it is used, what it was told."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCardData

from ..files import read_json, write_text

_FOLDERS = ("images", "aux", "labels")  # of which a card tells the names alone
_UNTOLD = ("output_dir", "resume", "num_workers")

_MODEL = """from transformers import pipeline

import hf_usod

detect = pipeline("salient-object-detection", model="FOLDER OR HUB ID OF THIS MODEL")
detect("photo.jpg")["cutout"].save("cutout.png")"""
_ADAPTER = """from hf_usod.loading import load_pipeline

detect = load_pipeline(adapter="FOLDER OR HUB ID OF THIS ADAPTER")
detect("photo.jpg")["cutout"].save("cutout.png")"""


def write_card(folder: Path, arguments: Mapping[str, Any]) -> None:
    """Writes README.md into the folder of a trained model or adapter.

    Args:
        arguments: what the run was told, and its number of images.
    """
    adapter = folder / "adapter_config.json"
    base = read_json(adapter)["base_model_name_or_path"] if adapter.is_file() else None
    told = {name: _named(name, value) for name, value in arguments.items() if name not in _UNTOLD}
    tags = ["salient-object-detection", "unsupervised", "hf_usod", *(["adapter"] if base else [])]
    data = ModelCardData(
        library_name="peft" if base else "transformers",
        pipeline_tag="image-segmentation",
        tags=tags,
        base_model=base if base and "/" in base and not Path(base).is_absolute() else None,
    )
    what = f"A task adapter for {Path(base).name}" if base else "A model"
    settings = yaml.safe_dump(told, default_flow_style=None, width=100)
    # Publishing fills cards as templates; what the run was told is none
    for braces in ("{{", "{%", "{#"):
        settings = settings.replace(braces, " ".join(braces))
    number = arguments.get("num_images", "some")
    text = f"""---
{data.to_yaml()}
---

# {what} for salient object detection

Trained with hf_usod on {number} images, without any label, after "Unified Unsupervised Salient Object Detection via
Knowledge Transfer" (IJCAI 2024). Training does not evaluate: there are no scores here yet.

## How to use it

```python
{_ADAPTER if base else _MODEL}
```

## Training

```yaml
{settings}```
"""
    write_text(folder / "README.md", text)


def _named(name: str, value: Any) -> Any:
    return [folder and Path(folder).name for folder in value] if name in _FOLDERS else value
