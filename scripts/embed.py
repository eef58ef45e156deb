"""Puts a trained model or adapter into the package: `python scripts/embed.py RUN/model usod-rgb-lite`.

The weights are stored in half precision and computed with in single: the configuration says float32. The code stays
out, as the installed package has it. `python scripts/embed.py --cards` writes the cards of all that is embedded anew,
after their sources in `model_cards` or the numbers in `results` have changed.
"""

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from hf_usod.adapters.config import copy_base_files
from hf_usod.assets import CARDS, CHECKPOINTS, checkpoint_path
from hf_usod.cli import exit_status
from hf_usod.errors import AssetError
from hf_usod.files import read_json, write_aside, write_json, write_text
from hf_usod.hub import render_card

Weights = dict[str, torch.Tensor]
SCORE_BIAS = "decoder.score.bias"  # of a detector: of the fused map


def _mean(sources: list[Path]) -> Weights:
    """In single precision; the counters of batch norms, no floats, as in the first."""
    loaded = [load_file(source) for source in sources]
    return {
        key: torch.stack([weights[key].float() for weights in loaded]).mean(dim=0)
        if value.is_floating_point()
        else value
        for key, value in loaded[0].items()
    }


def extrapolated(weights: Weights, start: Weights, by: float) -> Weights:
    """Weights moved on along the way they came from those they were trained from, by so much of it. Variances at most
    halve: one that fell all the way would be negative."""
    moved = {
        key: value + by * (value - start[key].float()) if value.is_floating_point() else value
        for key, value in weights.items()
    }
    return {
        key: value.maximum(weights[key] / 2) if key.endswith("running_var") else value for key, value in moved.items()
    }


def _write_halved(weights: Weights, target: Path) -> None:
    halved = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    write_aside(target, lambda path: save_file(halved, path, metadata={"format": "pt"}))
    target.chmod(0o644)  # safetensors leaves it to its owner


def embed(args: argparse.Namespace) -> Path:
    """Writes hf_usod/checkpoints/<name> anew; returns it. An adapter is told the name of its embedded base; a model may
    look at images of another size than in training. Either may be the mean of itself and of others, trained from the
    same weights, and be moved on from these."""
    model, name, base, size = args.model, args.name, args.base, args.size
    folder = CHECKPOINTS / name
    if not (card := CARDS / f"{name}.md").is_file():
        raise AssetError(f"{card}: no such file. Write the card's source first.")
    is_adapter = (model / "adapter_config.json").is_file()
    if is_adapter:
        config = read_json(model / "adapter_config.json")
        if base is not None:
            config["base_model_name_or_path"] = base
        checkpoint_path(config["base_model_name_or_path"])  # raises unless it is embedded
        write_json(folder / "adapter_config.json", config)
        copy_base_files(config["base_model_name_or_path"], folder)
    else:
        config = read_json(model / "config.json")
        config.pop("auto_map", None)
        write_json(folder / "config.json", {**config, "dtype": "float32"})
        processor = read_json(model / "preprocessor_config.json")
        processor.pop("auto_map", None)
        if size is not None:
            processor["size"] = {"height": size, "width": size}
        write_json(folder / "preprocessor_config.json", processor)
    weights = "adapter_model.safetensors" if is_adapter else "model.safetensors"
    made = _mean([source / weights for source in (model, *args.mean_with)])
    if args.started_from:
        made = extrapolated(made, load_file(args.started_from / weights), args.extrapolate)
    if args.shift:
        made[SCORE_BIAS] += args.shift
    _write_halved(made, folder / weights)
    write_card(folder)
    return folder


def write_card(folder: Path) -> None:
    """Renders the card of an embedded model or adapter, known by the folder's name."""
    adapter = folder / "adapter_config.json"
    base = read_json(adapter)["base_model_name_or_path"] if adapter.is_file() else None
    write_text(folder / "README.md", render_card(CARDS / f"{folder.name}.md", base=base))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", help="folder of the trained model")
    parser.add_argument("name", nargs="?", help="name of the embedded model")
    parser.add_argument("--base", help="of an adapter: the embedded model it belongs to, if it does not say so")
    parser.add_argument("--size", type=int, help="of a model: the side of its input in pixels, if not as in training")
    parser.add_argument(
        "--mean_with", type=Path, nargs="+", default=[], metavar="MODEL", help="models to average the weights with"
    )
    parser.add_argument("--started_from", type=Path, metavar="MODEL", help="what it was trained from, to extrapolate")
    parser.add_argument("--extrapolate", type=float, default=0.5, help="by how much of the way from --started_from")
    parser.add_argument("--shift", type=float, default=0.0, help="of a detector: what its maps' logits are moved by")
    parser.add_argument("--cards", action="store_true", help="only write the cards of all that is embedded anew")
    args = parser.parse_args()
    if args.cards:
        for folder in sorted(path.parent for path in CHECKPOINTS.glob("*/*.safetensors")):
            write_card(folder)
            print(folder / "README.md")
        return
    if not (args.model and args.name):
        parser.error("give the folder of the trained model and the name of the embedded one")
    folder = embed(args)
    size = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
    print(f"{folder}: {size:.1f} MiB")


if __name__ == "__main__":
    sys.exit(exit_status("embed.py", main))
