"""Edges at the photo's own size: opacity that follows the photo, and colors without the old background.

A map is made at 320 x 320 pixels. In each small window that it cuts in two, the photo's colors are asked where the cut
is: opacity as a linear function of color, fitted by least squares (the guided filter, K. He et al., TPAMI 2013), at two
scales; the second's coefficients are enlarged and applied to the photo's own pixels (the fast guided filter,
arXiv:1505.00996). Beyond these, pixels near the outline have no say in the fit, and a window counts by how well its
colors explain the map: where they do not, the map stays as it is.
"""

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from .reading_usod import to_rgb

SCALES = (320, 640)  # longest sides, in pixels, at which windows are fitted
RADIUS = 8  # of the windows, at either scale
REACH = 3  # pixels of the first scale around an outline within which a map may change
SLACK = 2  # pixels around an outline that have little say, as it may be wrong by as many
RIDGE = 1e-5  # added to the variances of colors in [0, 1]
NOISE = 2e-4  # the variance of a photo's noise, which steep slopes would show
GAIN = 2.5  # least squares draw values towards their mean; this draws them back
TRACE = 1 / 255  # what a picture does not show
POINTS = 2**18  # pixels of a photo that are looked at, at a time

COLOR_RADII = (32, 8, 2)  # within which foreground and background colors are looked for, at the second scale
COLOR_PRIOR = 0.05  # the weight of those found in a wider window


def refine_edges(photo: Image.Image, saliency: torch.Tensor) -> torch.Tensor:
    """A saliency map that follows the edges of its photo, soft where they are.

    What is far from any outline stays as it is, and so does an outline where the colors on both sides do not differ.

    Args:
        photo: RGB or RGBA.
        saliency: `(H, W)` in [0, 1], of the photo's size.

    Returns:
        `(H, W)` in [0, 1], float32.
    """
    photo, plain = to_rgb(photo), saliency.float()
    (coarse, fine), (first, second) = zip(*(_shrink(photo, plain, side) for side in SCALES), strict=True)
    reach = _reach(first)
    fitted, reach = (_enlarge(maps, second.shape[-2:]) for maps in (_fit(coarse, first, reach), reach))
    refined = _follow(fitted, fine, second)
    fitted = _fit(fine, refined, reach)
    changed = _near(_follow(fitted, fine, refined), second)
    return _at_full_size(photo, plain, torch.cat([fitted, refined], dim=1), changed)


def _reach(opacity: torch.Tensor) -> torch.Tensor:
    """How far a map may change: 1 near its outlines, to 0 further away, at the first scale."""
    outline = 1 - (2 * _mean(opacity, 1) - 1).abs()
    return _mean(F.max_pool2d(outline, 2 * REACH + 1, 1, REACH), SLACK)


def _shrink(photo: Image.Image, maps: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A photo as `(1, C, h, w)` in [0, 1], and its map `(H, W)` as `(1, 1, h, w)`, the longest side at most `side`."""
    scale = min(1.0, side / max(photo.size))
    width, height = (max(1, round(length * scale)) for length in photo.size)
    pixels = np.asarray(photo.resize((width, height), Image.Resampling.BOX), dtype=np.float32) / 255
    colors = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
    return colors, F.interpolate(maps[None, None], size=(height, width), mode="area")


def _enlarge(maps: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def _mean(maps: torch.Tensor, radius: int) -> torch.Tensor:
    """Of the square windows around all pixels, as far as they are inside. As products of matrices, whose time does not
    depend on the radius."""
    rows, columns = (_averages(length, radius) for length in maps.shape[-2:])
    return rows @ maps @ columns.T


def _averages(length: int, radius: int) -> torch.Tensor:
    places = torch.arange(length)
    inside = ((places[:, None] - places).abs() <= radius).float()
    return inside / inside.sum(dim=1, keepdim=True)


def _fit(colors: torch.Tensor, opacity: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
    """Opacity as a linear function of color around each pixel.

    Args:
        colors: `(1, 3, h, w)`.
        opacity, reach: `(1, 1, h, w)`.

    Returns:
        `(1, 5, h, w)`: three slopes, the intercept, and how far they count: the square of the share of the opacity's
        variance that they explain, times the reach.
    """
    trust = (2 * _mean(opacity, SLACK) - 1).square() + 0.02
    weight = _mean(trust, RADIUS)

    def mean(maps: torch.Tensor) -> torch.Tensor:
        return _mean(maps * trust, RADIUS) / weight

    color, level = mean(colors), mean(opacity)
    first, second = [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]
    covariance = mean(colors[:, first] * colors[:, second]) - color[:, first] * color[:, second]
    slopes = _solve(covariance, common := mean(colors * opacity) - color * level)
    variance = (mean(opacity.square()) - level.square()).clamp(min=0)
    variance = variance + NOISE * slopes.square().sum(dim=1, keepdim=True) + 1e-4
    explained = ((slopes * common).sum(dim=1, keepdim=True) / variance).clamp(0, 1)
    intercept = level - (slopes * color).sum(dim=1, keepdim=True)
    # Of the windows around a pixel those count that explain something
    share = explained**4 + 1e-3
    fitted = _mean(torch.cat([slopes, intercept, explained], dim=1) * share, RADIUS) / _mean(share, RADIUS)
    fitted[:, 4:] = fitted[:, 4:].square() * reach
    return fitted


def _solve(covariance: torch.Tensor, common: torch.Tensor) -> torch.Tensor:
    """Ridge regression at all pixels, by Cholesky's decomposition without roots, which gray photos do not upset.

    Args:
        covariance: `(1, 6, h, w)`, the upper triangle of each 3 x 3 matrix, in rows.
        common: `(1, 3, h, w)`, the right sides.
    """
    rr, rg, rb, gg, gb, bb = covariance.split(1, dim=1)
    r, g, b = common.split(1, dim=1)
    red = rr.clamp(min=0) + RIDGE
    green_red, blue_red = rg / red, rb / red
    green = (gg - rg * green_red).clamp(min=0) + RIDGE
    blue_green = (gb - rb * green_red) / green
    blue = (bb - rb * blue_red - green * blue_green.square()).clamp(min=0) + RIDGE
    g = g - green_red * r
    b = (b - blue_red * r - blue_green * g) / blue
    g = g / green - blue_green * b
    r = r / red - green_red * g - blue_red * b
    return torch.cat([r, g, b], dim=1)


def _follow(fitted: torch.Tensor, colors: torch.Tensor, opacity: torch.Tensor) -> torch.Tensor:
    """The opacity that the colors say, as far as they say it: maps `(1, 5, …)`, `(1, 3, …)`, `(1, 1, …)`."""
    said = (fitted[:, :3] * colors).sum(dim=1, keepdim=True) + fitted[:, 3:4]
    said = ((said - 0.5) * GAIN + 0.5).clamp(0, 1)
    return opacity + (said - opacity) * fitted[:, 4:]


def _near(refined: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Where the photo's own pixels may matter, `(1, 1, h, w)`: near what changes, or is neither 0 nor 1."""
    touched = ((refined - before).abs() > TRACE) | ((refined - refined.round()).abs() > TRACE)
    return F.max_pool2d(touched.float(), 2 * SLACK + 1, 1, SLACK)


def _points(mask: torch.Tensor) -> Iterator[tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]]:
    """The pixels that a mask `(H, W)` covers: their rows and columns, and as `grid_sample` likes them; a bounded number
    at a time."""
    for rows, columns in zip(*(places.split(POINTS) for places in mask.nonzero(as_tuple=True)), strict=True):
        x, y = ((2 * places + 1) / length - 1 for places, length in zip((columns, rows), mask.shape[::-1], strict=True))
        yield (rows, columns), torch.stack([x, y], dim=-1)[None, None]


def _sample(maps: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    return F.grid_sample(maps, places, mode="bilinear", padding_mode="border", align_corners=False)


def _at_full_size(photo: Image.Image, plain: torch.Tensor, maps: torch.Tensor, changed: torch.Tensor) -> torch.Tensor:
    pixels, result = torch.from_numpy(np.array(photo)), plain.clone()
    for place, grid in _points(F.interpolate(changed, size=plain.shape, mode="nearest")[0, 0] > 0):
        sampled = _sample(maps, grid)
        colors = pixels[place].T[None, :, None].float() / 255
        result[place] = _follow(sampled[:, :5], colors, sampled[:, 5:])[0, 0, 0]
    return result


def foreground_colors(photo: Image.Image, opacity: torch.Tensor) -> Image.Image:
    """The photo in the colors of what is opaque: where it is partly so, the background's share is taken out.

    Colors of foreground F and background B are looked for in windows that shrink. What they leave of a photo's I,
    I - aF - (1 - a)B, is added to F, times a (blur fusion: M. Forte, "Approximate fast foreground colour estimation",
    ICIP 2021).

    Args:
        photo: RGB or RGBA.
        opacity: `(H, W)` in [0, 1], of the photo's size.

    Returns:
        The photo, in other colors where its opacity is neither 0 nor 1 (to a level of 255).
    """
    colors, small = _shrink(photo, opacity, SCALES[-1])
    seen = (colors[:, 3:] > 0).float() if photo.mode == "RGBA" else 1.0  # what is not seen has any color
    front, back = (_nearby(colors[:, :3], share * seen) for share in (small, 1 - small))
    pixels = torch.from_numpy(np.array(photo.convert("RGB")))
    for place, grid in _points((opacity > TRACE) & (opacity < 1 - TRACE)):
        alpha, own = opacity[place], pixels[place].T.float() / 255
        fore, behind = _sample(torch.cat([front, back], dim=1), grid)[0, :, 0].split(3)
        found = fore + alpha * (own - alpha * fore - (1 - alpha) * behind)
        pixels[place] = found.clamp(0, 1).mul(255).round().to(torch.uint8).T
    picture = Image.fromarray(pixels.numpy())
    if photo.mode == "RGBA":
        picture.putalpha(photo.getchannel("A"))
    picture.info = dict(photo.info)
    return picture


def _nearby(colors: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """The colors `(1, 3, h, w)` around each pixel of what has a share `(1, 1, h, w)` in them."""
    weight = share**3 + 1e-6  # a mixed color says little
    found = (colors * weight).sum(dim=(2, 3), keepdim=True) / weight.sum(dim=(2, 3), keepdim=True)
    for radius in COLOR_RADII:
        found = (_mean(colors * weight, radius) + COLOR_PRIOR * found) / (_mean(weight, radius) + COLOR_PRIOR)
    return found


__all__ = ["foreground_colors", "refine_edges"]
