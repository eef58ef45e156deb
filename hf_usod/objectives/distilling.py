"""Progressive curriculum saliency distilling (PCL-SD): makes a saliency map decide, easy pixels first.

A2S-v3: https://arxiv.org/abs/2404.14759
"""

import torch

from ..constants import PCL_SD_VARIANTS


def hard_sample_margin(epoch: int, num_epochs: int) -> float:
    """p of eq. 2: pixels with |S - 0.5| below it are hard. Falls from 0.2 to 0 in the first third of the training.

    Args:
        epoch: e, from 1 to `num_epochs`.
        num_epochs: E, all epochs of the training.

    Example:

    ```python
    >>> from hf_usod.objectives import hard_sample_margin

    >>> [round(hard_sample_margin(epoch, 20), 2) for epoch in (1, 4, 7, 20)]
    [0.17, 0.08, 0.0, 0.0]

    ```
    """
    return max(0.0, 0.2 - 0.6 * epoch / num_epochs)


def pcl_sd_loss(
    saliency: torch.Tensor,
    epoch: int,
    num_epochs: int,
    variant: str = "released",
    curriculum: bool = True,
) -> torch.Tensor:
    """Saliency distilling with a curriculum over hard pixels (eq. 1-4).

    With M = 0 for hard pixels, |S - 0.5| < p, and 1 for the others:

    - `paper`: 0.5 - mean(M |S - 0.5| + (1 - M) 0.5);
    - `released`: mean(M (0.5^m - |S - 0.5|^m)), m = 2^(1 - (e - 1) / E), which pulls less on undecided pixels in
      early epochs. Both means run over all pixels; they agree where m = 1.

    Args:
        saliency: probabilities in [0, 1], any shape.
        epoch: e, the current epoch, from 1 to `num_epochs`.
        num_epochs: E, all epochs of the training.
        variant: `paper` or `released`.
        curriculum: whether hard pixels are left out; without, p = 0 throughout (transfer).

    Returns:
        A scalar.

    Raises:
        ValueError: for an epoch outside 1..E or an unknown variant.

    Example:

    ```python
    >>> import torch
    >>> from hf_usod.objectives import pcl_sd_loss

    >>> pcl_sd_loss(torch.tensor([[[[0.0, 0.5]]]]), epoch=10, num_epochs=10, variant="paper")  # decided, undecided
    tensor(0.2500)

    ```
    """
    if not 1 <= epoch <= num_epochs:
        raise ValueError(f"`epoch` counts from 1 to `num_epochs` ({num_epochs}), got {epoch}.")
    margin = hard_sample_margin(epoch, num_epochs) if curriculum else 0.0
    if variant == "paper":
        power = 1.0
    elif variant == "released":
        power = 2.0 ** (1.0 - (epoch - 1) / num_epochs)
    else:
        raise ValueError(f"Unknown PCL-SD variant {variant!r}; expected one of {', '.join(PCL_SD_VARIANTS)}.")
    certainty = (saliency - 0.5).abs()
    kept = certainty.detach() >= margin
    return (kept * (0.5**power - certainty.pow(power))).mean()
