"""Puts a trained model into the package: `python scripts/embed.py RUN/model usod-rgb-lite`.

The weights are stored in half precision and computed with in single: the configuration says float32. The code stays
out, as the installed package has it.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import hf_usod

CHECKPOINTS = Path(hf_usod.__file__).parent / "checkpoints"


def embed(model: Path, name: str) -> Path:
    """Writes hf_usod/checkpoints/<name> anew; returns it."""
    folder = CHECKPOINTS / name
    folder.mkdir(parents=True, exist_ok=True)
    weights = load_file(model / "model.safetensors")
    halved = {key: value.half() if value.dtype == torch.float32 else value for key, value in weights.items()}
    save_file(halved, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((model / "config.json").read_text())
    config.pop("auto_map", None)
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    processor = json.loads((model / "preprocessor_config.json").read_text())
    processor.pop("auto_map", None)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
    card = Path(__file__).parents[1] / "model_cards" / f"{name}.md"
    shutil.copyfile(card, folder / "README.md")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="folder of the trained model")
    parser.add_argument("name", help="name of the embedded model")
    args = parser.parse_args()
    folder = embed(args.model, args.name)
    size = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
    print(f"{folder}: {size:.1f} MiB")


if __name__ == "__main__":
    main()
