"""Scale consistency (SC): a photo's saliency should not depend on the size it is looked at."""

import torch
from torch.nn import functional as F


def consistency_loss(saliency: torch.Tensor, other_scale: torch.Tensor) -> torch.Tensor:
    """mean (S - resize(S'))^2 (eq. 12), S' resized bilinearly with aligned corners.

    Args:
        saliency: S, `(B, 1, H, W)` in [0, 1].
        other_scale: S', `(B, 1, H', W')` in [0, 1], the map of the same images at another size.

    Returns:
        A scalar. Gradients run through both maps; detach the one that serves as the target, if one does.
    """
    resized = F.interpolate(other_scale, size=saliency.shape[-2:], mode="bilinear", align_corners=True)
    return F.mse_loss(saliency, resized)
