"""Scale consistency (SC): a photo's saliency should not depend on the size it is looked at.

A2S-v3: https://arxiv.org/abs/2404.14759
"""

import torch
from torch.nn import functional as F

from .resizing import resize


def consistency_loss(saliency: torch.Tensor, other_scale: torch.Tensor) -> torch.Tensor:
    """mean (S - resize(S'))^2 (eq. 12), S' resized bilinearly with aligned corners.

    Args:
        saliency: S, `(B, 1, H, W)` in [0, 1].
        other_scale: S', `(B, 1, H', W')` in [0, 1], the map of the same images at another size.

    Returns:
        A scalar. Gradients run through both maps; detach the one that serves as the target, if one does.

    Example:

    ```python
    >>> import torch
    >>> from hf_usod.objectives import consistency_loss

    >>> consistency_loss(torch.full((1, 1, 320, 320), 0.75), torch.full((1, 1, 384, 384), 0.25))
    tensor(0.2500)

    ```
    """
    return F.mse_loss(saliency, resize(other_scale, saliency.shape[-2:]))
