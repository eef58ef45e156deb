"""Models and adapters that earlier versions saved, in today's layout."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ..errors import ConversionError
from .state_dicts import StateDict

_FUSION = "global_info."  # whose last block was called `fusion`, and took the pooled branches last
_WEIGHT = "fusion.conv.weight"
_FILES = ("model.safetensors", "adapter_model.safetensors")


def upgrade_state_dict(state_dict: StateDict) -> StateDict:
    """The weights of a detector, or of an adapter of one, saved before version 0.2, in today's layout.

    The last block of the global block was called `fusion` and took (x, pooled branches); it is called `output` and
    takes (pooled branches, x), as the authors' does (method: section 5). The maps are the same.

    Raises:
        ConversionError: if there is no such block.
    """
    if not (weights := [key for key in state_dict if _FUSION in key and key.endswith(_WEIGHT)]):
        raise ConversionError("There is no global block of an earlier version in it; nothing is to be upgraded.")
    upgraded = dict(state_dict)
    for key in weights:
        width = state_dict[key.replace(_WEIGHT, "reduction.conv.weight")].shape[0]  # of x
        x, branches = state_dict[key].split([width, state_dict[key].shape[1] - width], dim=1)
        upgraded[key] = torch.cat([branches, x], dim=1)
    blocks = [key.removesuffix("conv.weight") for key in weights]
    return {_renamed(key, blocks): value for key, value in upgraded.items()}


def _renamed(key: str, blocks: list[str]) -> str:
    for block in blocks:
        if key.startswith(block):
            return key.replace(block, block.removesuffix("fusion.") + "output.")
    return key


def upgrade_folder(source: str | Path, output: str | Path) -> None:
    """Copies the folder of a detector, or of an adapter of one, saved before version 0.2, with its weights upgraded.

    Args:
        output: a folder, made if it does not exist; files of the same names in it are replaced.

    Raises:
        ConversionError: if `source` holds no single file of weights, or nothing to be upgraded.
    """
    source, output = Path(source), Path(output)
    files = [source / name for name in _FILES if (source / name).is_file()]
    if len(files) != 1:
        raise ConversionError(f"{source}: holds none of {', '.join(_FILES)}; nothing here can be upgraded.")
    try:
        weights = upgrade_state_dict(load_file(files[0]))
    except ConversionError as error:
        raise ConversionError(f"{source}: {error}") from error
    shutil.copytree(source, output, dirs_exist_ok=True)
    save_file(weights, output / files[0].name, metadata={"format": "pt"})


def is_saved_model(source: str | Path) -> bool:
    """Whether a folder holds a saved model or adapter."""
    names = ("config.json", "adapter_config.json")
    return Path(source).is_dir() and any((Path(source) / name).is_file() for name in names)
