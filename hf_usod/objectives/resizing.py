"""How the objectives bring maps to one size. `hf_usod.models` has this too: it is published without this room."""

import torch
from torch.nn import functional as F


def resize(maps: torch.Tensor, size: tuple[int, int] | torch.Size) -> torch.Tensor:
    """Bilinear, corners aligned: `(B, C, H, W)` -> `(B, C, *size)`."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)
