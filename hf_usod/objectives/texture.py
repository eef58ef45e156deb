"""Boundary-aware texture matching (BTM): the edges of a saliency map should lie on edges of the image.

A2S-v3: https://arxiv.org/abs/2404.14759
"""

import torch
from torch.nn import functional as F

from .resizing import resize

BOUNDARY_WIDTH = 5  # the dilation and erosion that find it, in pixels of the quarter-size map
DOWNSCALE = 4


def boundary(saliency: torch.Tensor) -> torch.Tensor:
    """dilate5(S > 0.5) - erode5(S > 0.5): a bool map `(B, 1, H, W)`, true around the outline of the object.

    Args:
        saliency: S, `(B, 1, H, W)` in [0, 1].

    Example:

    ```python
    >>> import torch
    >>> from hf_usod.objectives import boundary

    >>> boundary(torch.tensor([0.0] * 5 + [1.0] * 5).expand(1, 1, 10, 10))[0, 0, 0].int()
    tensor([0, 0, 0, 1, 1, 1, 1, 0, 0, 0], dtype=torch.int32)

    ```
    """
    foreground = (saliency > 0.5).float()
    pad = BOUNDARY_WIDTH // 2
    dilated = F.max_pool2d(foreground, BOUNDARY_WIDTH, stride=1, padding=pad)
    eroded = -F.max_pool2d(-foreground, BOUNDARY_WIDTH, stride=1, padding=pad)
    return dilated > eroded


def boundary_length(saliency: torch.Tensor) -> torch.Tensor:
    """The number of pixels that `btm_loss` of maps `(B, 1, H, W)` is a mean over."""
    size = (saliency.shape[2] // DOWNSCALE, saliency.shape[3] // DOWNSCALE)
    return boundary(resize(saliency.detach(), size)).sum()


def _window_offsets(radius: int, width: int, device: torch.device) -> torch.Tensor:
    """Offsets of a (2 radius + 1)^2 window from its center, in a row-major map `width` wide."""
    steps = torch.arange(-radius, radius + 1, device=device)
    return (steps[:, None] * width + steps[None, :]).flatten()


def btm_loss(saliency: torch.Tensor, images: torch.Tensor, radius: int = 5, alpha: float = 200.0) -> torch.Tensor:
    """Texture matching around the boundary (eq. 11), on maps of a quarter of the size.

    L = sum_i b_i sum_j w_ij |S_i - S_j| / sum_i b_i over all pixels i of the batch, j in the window around i (zero
    outside the map), w_ij = exp(-alpha |I_i - I_j|^2), the squared distance summed over the channels of all
    modalities (a product of exponentials, one a modality). No gradient runs through b or w.

    Only the windows of boundary pixels are looked at, a few percent of the map; value and gradient are those of the
    dense computation.

    Args:
        saliency: `(B, 1, H, W)` in [0, 1].
        images: `(B, 3k, H, W)`, the k modalities of each image along the channels: the normalized RGB image, and
            depth, thermal or flow in [0, 1]. A missing one is all zeros, which has no effect.
        radius: of the window, in pixels of the quarter-size map.
        alpha: how fast the weight falls with the distance in texture.

    Returns:
        A scalar; 0 (with zero gradient) for a batch without any boundary.

    Raises:
        ValueError: if the sizes of maps and images differ.

    Example:

    ```python
    >>> import torch
    >>> from hf_usod.objectives import btm_loss

    >>> saliency = torch.zeros(1, 1, 64, 64)
    >>> saliency[..., 32:] = 1  # an edge where
    >>> edge, plain = saliency.expand(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    >>> bool(btm_loss(saliency, edge) < 0.1 * btm_loss(saliency, plain))  # the image has one, and where it has none
    True

    ```
    """
    if saliency.shape[0] != images.shape[0] or saliency.shape[2:] != images.shape[2:]:
        raise ValueError(
            f"`saliency` {tuple(saliency.shape)} and `images` {tuple(images.shape)} "
            "must agree in batch, height and width."
        )
    size = (saliency.shape[2] // DOWNSCALE, saliency.shape[3] // DOWNSCALE)
    saliency = resize(saliency, size)
    centers = boundary(saliency.detach())
    if not centers.any():
        return saliency.sum() * 0.0
    pad = (radius, radius, radius, radius)
    centers = F.pad(centers, pad).flatten().nonzero()  # (N, 1), indices into the padded maps
    neighbors = centers + _window_offsets(radius, size[1] + 2 * radius, centers.device)  # (N, window)

    def differences(padded: torch.Tensor) -> torch.Tensor:
        """Each boundary pixel less its neighbors, `(N, window)`, in a padded and flattened map."""
        # `index_select`, because the gradient of `padded[neighbors]` sums in another order each time on a CPU
        around = padded.index_select(0, neighbors.flatten()).view_as(neighbors)
        return padded.index_select(0, centers.flatten())[:, None] - around

    with torch.no_grad():
        images = resize(images, size)
        channels = F.pad(images, pad).movedim(1, 0).flatten(1)
        distance = torch.zeros_like(neighbors, dtype=images.dtype)
        for channel in channels:
            distance += differences(channel).square_()
        weights = torch.exp(-alpha * distance)  # (N, window)
    return (weights * differences(F.pad(saliency, pad).flatten()).abs()).sum() / len(centers)
