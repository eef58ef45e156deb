"""Agreement with a label: the overlap (IoU) loss of stage 2, and cross-entropy for comparison.

A2S-v3: https://arxiv.org/abs/2404.14759
"""

import torch
from torch.nn import functional as F

EPSILON = 1e-7


def iou_loss(saliency: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """mean over the batch of 1 - sum(S G) / (sum(S + G - S G) + 1e-7) (method: section 6).

    Args:
        saliency: S, `(B, 1, H, W)` in [0, 1].
        target: G, likewise; the method takes pseudo-labels above 0.5 as 1.

    Returns:
        A scalar in [0, 1].

    Raises:
        ValueError: if the shapes differ.

    Example:

    ```python
    >>> import torch
    >>> from hf_usod.objectives import iou_loss

    >>> iou_loss(torch.tensor([[[[1.0, 1.0, 0.0]]]]), torch.tensor([[[[0.0, 1.0, 1.0]]]]))  # one pixel of three
    tensor(0.6667)

    ```
    """
    if saliency.shape != target.shape:
        raise ValueError(f"`saliency` {tuple(saliency.shape)} and `target` {tuple(target.shape)} must agree in shape.")
    overlap = saliency * target
    union = (saliency + target - overlap).sum(dim=(1, 2, 3)) + EPSILON
    return (1 - overlap.sum(dim=(1, 2, 3)) / union).mean()


def bce_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of saliency before the sigmoid, the mean over all pixels.

    Args:
        logits: `(B, 1, H, W)`.
        target: G, likewise, in [0, 1].

    Returns:
        A scalar.

    Example:

    ```python
    >>> import torch
    >>> from hf_usod.objectives import bce_loss

    >>> bce_loss(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))  # log 2: undecided everywhere
    tensor(0.6931)

    ```
    """
    return F.binary_cross_entropy_with_logits(logits, target)
