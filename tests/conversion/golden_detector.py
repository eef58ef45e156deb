"""Known weights under the authors' names, known inputs, and the logits that the released detector gives for them.

`golden/sd_logits.npz`, `(2, 1, 160, 192)`, is what the authors' program gives in evaluation mode, without adapter.
`golden/sd_keys.json` lists the 1,018 entries of its state dict with their shapes and types.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden"


def _normal(tag: str, shape: list[int]) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(tag.encode())).standard_normal(shape).astype(np.float32)


def _entry(name: str, shape: list[int], dtype: str) -> np.ndarray:
    if dtype == "int64":  # num_batches_tracked
        return np.zeros(shape, np.int64)
    values = _normal(name, shape)
    if name.endswith("running_var"):
        return 1 + 0.1 * np.abs(values)
    if name.endswith(("running_mean", "bias")):
        return 0.1 * values
    if len(shape) == 1:
        return 1 + 0.1 * values
    return values * np.float32(np.sqrt(2 / int(np.prod(shape[1:]))))


def golden_state_dict() -> dict[str, torch.Tensor]:
    entries = json.loads((GOLDEN / "sd_keys.json").read_text())["sd"]
    return {name: torch.from_numpy(np.array(_entry(name, shape, dtype))) for name, shape, dtype in entries}


def golden_inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Image, and auxiliary map in [0, 1], both `(2, 3, 160, 192)`."""
    image, aux = (torch.from_numpy(_normal(tag, [2, 3, 160, 192])) for tag in ("sd-image", "sd-aux"))
    return image, aux.abs().clamp(0, 1)


def golden_logits() -> torch.Tensor:
    return torch.from_numpy(np.load(GOLDEN / "sd_logits.npz")["logits"])
