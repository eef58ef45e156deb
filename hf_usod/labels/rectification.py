"""Self-rectified pseudo-labels (SPR): a label follows the model that learns from it, a little after every step.

A2S-v3: https://arxiv.org/abs/2404.14759
"""

import torch

from ..constants import PAPER_WEIGHTS

RELEASED_WEIGHTS = (0.1, 0.7, 0.2)  # as in the authors' program


def _by_maximum(maps: torch.Tensor) -> torch.Tensor:
    """Each map of `(B, 1, H, W)` divided by its own maximum; one that is zero everywhere stays so."""
    maximum = maps.amax(dim=(1, 2, 3), keepdim=True)
    return maps / torch.where(maximum > 0, maximum, 1)


@torch.no_grad()
def rectify(
    prediction: torch.Tensor,
    previous: torch.Tensor,
    prior: torch.Tensor | None,
    weights: tuple[float, float, float] = PAPER_WEIGHTS,
) -> torch.Tensor:
    """The next label of each sample (method: section 7): l1 R_pri + l2 R_post + l3 G_prev, divided by its maximum.

    R_pri is `prior` divided by its maximum, R_post is `prediction` and G_prev `previous`, both as they are. Maxima are
    each sample's own; a map that is zero everywhere stays so. No gradient runs through.

    Args:
        prediction: the model's saliency S, `(B, 1, H, W)` in [0, 1].
        previous: the label it was trained on, likewise.
        prior: what `PixelRefiner` makes of the image and S, likewise; None for rectification by the posterior only,
            which drops the prior's weight.
        weights: of prior, posterior and previous label: `PAPER_WEIGHTS` or `RELEASED_WEIGHTS`.

    Returns:
        `(B, 1, H, W)` in [0, 1], of the type of `prediction`.

    Raises:
        ValueError: if the shapes differ.
    """
    for name, other in {"previous": previous, "prior": prior}.items():
        if other is not None and other.shape != prediction.shape:
            raise ValueError(
                f"`{name}` {tuple(other.shape)} and `prediction` {tuple(prediction.shape)} must agree in shape."
            )
    of_prior, of_posterior, of_previous = weights
    label = of_posterior * prediction + of_previous * previous
    if prior is not None:
        label = label + of_prior * _by_maximum(prior)
    return _by_maximum(label).to(prediction.dtype)
