"""Reading foreign checkpoints safely, and loading them completely or not at all."""

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray  # private; what pickles of arrays are made with, numpy has nowhere else
from safetensors.torch import load_file
from torch import nn

from ..errors import ConversionError, in_a_line

StateDict = dict[str, torch.Tensor]
_UNPICKLING = re.compile(r"WeightsUnpickler error: (.+?)\.? (?:Please use|Check the documentation)")
Rule = tuple[str, str | Callable[[re.Match[str]], str]]  # a regular expression, and what `re.sub` puts in its place


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """Makes the arrays of pickle protocol 5, as numpy's function of that name does."""
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


class _ArraysOnly(pickle.Unpickler):
    """Unpickles plain containers of numpy arrays and nothing that could run code (detectron2's .pkl files)."""

    _allowed = {
        ("collections", "OrderedDict"): OrderedDict,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): multiarray._reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): multiarray._reconstruct,
        ("numpy.core.numeric", "_frombuffer"): _from_buffer,
        ("numpy._core.numeric", "_frombuffer"): _from_buffer,
        ("numpy.core.multiarray", "scalar"): multiarray.scalar,
        ("numpy._core.multiarray", "scalar"): multiarray.scalar,
        ("_codecs", "encode"): lambda text, encoding: text.encode(encoding),
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a weight file") from None


def read_state_dict(path: str | Path) -> StateDict:
    """The tensors of a checkpoint file: safetensors, torch (.pth, .pth.tar) or a pickle of arrays (.pkl).

    `{"state_dict": …}` and `{"model": …}` around the tensors are opened. Nothing in the file is executed.

    Raises:
        FileNotFoundError: if there is no such file.
        ConversionError: if the file is no checkpoint, is damaged, or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint file.")
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        elif path.suffix == ".pkl":
            with path.open("rb") as file:
                content = _ArraysOnly(file, encoding="latin1").load()
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch explains at length how to read the file without its safety
        raise ConversionError(f"{path}: cannot be read as a checkpoint ({_reason(error)}).") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not content:
        raise ConversionError(f"{path}: holds no state dict.")
    tensors: StateDict = {}
    strange: list[str] = []
    for key, value in content.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":  # numbers
            value = torch.from_numpy(value)
        if isinstance(key, str) and isinstance(value, torch.Tensor):
            tensors[key] = value
        else:
            strange.append(str(key))
    if strange:
        raise ConversionError(f"{path}: not tensors by name: {', '.join(strange)}.")
    return strip_prefix(tensors, "module.")


def _reason(error: Exception) -> str:
    reason = _UNPICKLING.search(in_a_line(error))
    return reason[1] if reason else in_a_line(error)


def strip_prefix(state_dict: StateDict, prefix: str) -> StateDict:
    """Drops a prefix that all keys share, as `DataParallel` leaves one."""
    if all(key.startswith(prefix) for key in state_dict):
        return {key.removeprefix(prefix): value for key, value in state_dict.items()}
    return state_dict


def select_prefix(state_dict: StateDict, prefix: str) -> StateDict:
    """The entries under a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}


def rename(state_dict: StateDict, rules: Sequence[Rule], source: str) -> StateDict:
    """Other names for weights: the rules are applied to each, one after the other. Names that no rule fits stay, for
    `load_exactly` to report.

    Raises:
        ConversionError: naming `source` and the keys, if two would get one name.
    """
    renamed: StateDict = {}
    before: dict[str, str] = {}
    for key, value in state_dict.items():
        name = key
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        if name in renamed:
            raise ConversionError(f"Not a checkpoint of {source}. Keys for the same weight: {before[name]}, {key}.")
        renamed[name], before[name] = value, key
    return renamed


def load_exactly(module: nn.Module, state_dict: StateDict, source: str) -> None:
    """Loads a state dict that has every tensor of the module, in its shape, and no other.

    `num_batches_tracked` may be missing (detectron2 leaves it out; it does not enter any computation here).

    Raises:
        ConversionError: listing every missing, unexpected and misshapen key; the module is then untouched.
    """
    expected = module.state_dict()
    missing = [k for k in expected if k not in state_dict and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state_dict if k not in expected]
    misshapen = [
        f"{k} {tuple(state_dict[k].shape)} instead of {tuple(v.shape)}"
        for k, v in expected.items()
        if k in state_dict and state_dict[k].shape != v.shape
    ]
    problems = [("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen)]
    if any(keys for _, keys in problems):
        report = "; ".join(f"{problem}: {', '.join(keys)}" for problem, keys in problems if keys)
        raise ConversionError(f"Not a checkpoint of {source}. Keys {report}.")
    module.load_state_dict({**expected, **state_dict})
