"""Inputs of the golden numbers, made the same everywhere, and the numbers that the authors' released program gives.

What lies in `*/golden` was computed by that program's own functions (A2S-v3, IJCAI 2024) on a CPU, and not by this
package: `conversion/golden` by its networks in evaluation mode, on torchvision's ResNet-50, of which its backbone is a
copy; `objectives/golden` by its losses, its refiner and its update of the labels.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent


def normal(tag: str, shape: list[int]) -> np.ndarray:
    """Standard normal noise, a function of its tag alone; float32."""
    return np.random.default_rng(zlib.crc32(tag.encode())).standard_normal(shape).astype(np.float32)


def waves(tag: str, shape: list[int], periods: float = 2.0) -> torch.Tensor:
    """Smooth maps `(B, C, H, W)` of about -1 to 1: each a sum of three plane waves."""
    random = np.random.default_rng(zlib.crc32(tag.encode()))
    batch, channels, height, width = shape
    y, x = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None]
    maps = np.zeros(shape)
    for index in np.ndindex(batch, channels):
        for slope_y, slope_x, phase in random.uniform(-1, 1, (3, 3)):
            maps[index] += np.sin(2 * np.pi * (periods * (slope_y * y + slope_x * x) + phase)) / 3
    return torch.from_numpy(maps.astype(np.float32))


def state_dict(kind: str) -> dict[str, torch.Tensor]:
    """Weights under the authors' names: of the detector (`"sd"`, 1,018 entries, no adapter) or of the cue extractor
    with its adapter (`"sce"`)."""
    entries = json.loads((HERE / "conversion" / "golden" / f"{kind}_keys.json").read_text())[kind]
    return {name: torch.from_numpy(np.array(_entry(name, shape, dtype))) for name, shape, dtype in entries}


def _entry(name: str, shape: list[int], dtype: str) -> np.ndarray:
    if dtype == "int64":  # num_batches_tracked
        return np.zeros(shape, np.int64)
    values = normal(name, shape)
    if name.endswith("running_var"):
        return 1 + 0.1 * np.abs(values)
    if name.endswith(("running_mean", "bias")):
        return 0.1 * values
    if len(shape) == 1:
        return 1 + 0.1 * values
    return values * np.float32(np.sqrt(2 / int(np.prod(shape[1:]))))


def detector_adapter() -> dict[str, torch.Tensor]:
    """The authors' keys of a detector's adapter, a copy of the global block, with weights of their own."""
    start, adapter = "decoder.global_info.", "adapter."
    block = {key: value for key, value in state_dict("sd").items() if key.startswith(start)}
    names = {key: adapter + key.removeprefix(start) for key in block}
    return {
        names[key]: torch.from_numpy(np.array(_entry(names[key], list(value.shape), str(value.dtype)[6:])))
        for key, value in block.items()
    }


def detector_inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Image, and auxiliary map in [0, 1], both `(2, 3, 160, 192)`."""
    image, aux = (torch.from_numpy(normal(tag, [2, 3, 160, 192])) for tag in ("sd-image", "sd-aux"))
    return image, aux.abs().clamp(0, 1)


def cue_extractor_inputs() -> torch.Tensor:
    """Images `(2, 3, 96, 136)`."""
    return torch.from_numpy(normal("sce-image", [2, 3, 96, 136]))


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """|actual - expected| / |expected|, of the whole."""
    assert actual.shape == expected.shape
    return ((actual - expected).norm() / expected.norm()).item()


def numbers(file: str) -> dict[str, torch.Tensor]:
    """The arrays of a golden file, such as `"conversion/golden/sd_logits.npz"`, by name."""
    return {name: torch.from_numpy(array) for name, array in np.load(HERE / file).items()}
