"""Edges at the photo's own size: what follows the photo, what stays, and what a color is without its background."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch.nn import functional as F

from hf_usod.models import edge_refiner
from hf_usod.models.edge_refiner import foreground_colors, refine_edges

SIZE = (900, 700)
FRONT, BACK = np.array([200, 60, 40]), np.array([60, 120, 150])


@pytest.fixture(scope="module")
def opacity() -> np.ndarray:
    """A disc with thin hairs, anti-aliased, `(H, W)` in [0, 1]."""
    picture = Image.new("L", (2 * SIZE[0], 2 * SIZE[1]))
    pen = ImageDraw.Draw(picture)
    pen.ellipse([500, 300, 1200, 1000], fill=255)
    for angle in np.linspace(0, 2 * np.pi, 60):
        x, y = np.cos(angle), np.sin(angle)
        pen.line([850 + 340 * x, 650 + 340 * y, 850 + 370 * x, 650 + 370 * y], fill=255, width=4)
    return np.asarray(picture.resize(SIZE, Image.Resampling.BOX), np.float32) / 255


@pytest.fixture(scope="module")
def photo(opacity) -> Image.Image:
    mixed = opacity[..., None] * FRONT + (1 - opacity[..., None]) * BACK
    noise = np.random.default_rng(0).normal(0, 2, mixed.shape)
    return Image.fromarray((mixed + noise).round().clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def coarse(opacity) -> torch.Tensor:
    """As a model sees it: at 320 x 320, blurred."""
    small = F.avg_pool2d(F.adaptive_avg_pool2d(torch.from_numpy(opacity)[None, None], 320), 5, 1, 2)
    return F.interpolate(2 * small.logit(eps=1e-3), size=opacity.shape, mode="bilinear")[0, 0].sigmoid()


def error(found: torch.Tensor, true: np.ndarray) -> float:
    return float((found - torch.from_numpy(true)).square().mean())


def test_edges_become_the_photos(photo, coarse, opacity):
    fine = refine_edges(photo, coarse)
    assert fine.shape == coarse.shape and fine.dtype == torch.float32 and fine.min() >= 0 and fine.max() <= 1
    assert error(fine, opacity) < 0.25 * error(coarse, opacity)
    assert torch.equal(fine, refine_edges(photo, coarse))


def test_hairs_that_the_map_lacks_are_found(photo, coarse, opacity):
    y, x = 325, 425 + 182  # the tip of the hair to the right
    hair = (slice(y - 1, y + 1), slice(x - 4, x))
    assert opacity[hair].mean() > 0.9 and coarse[hair].mean() < 0.4
    assert refine_edges(photo, coarse)[hair].mean() > 0.6


@pytest.mark.parametrize("scene", ["one color", "noise", "gray noise"])
def test_outlines_stay_where_the_photo_has_no_edge(coarse, scene):
    noise = np.random.default_rng(0).normal(0, 0 if scene == "one color" else 25, (SIZE[1], SIZE[0], 3))
    noise = noise[..., :1].repeat(3, -1) if scene == "gray noise" else noise
    photo = Image.fromarray((128 + noise).clip(0, 255).astype(np.uint8))
    fine = refine_edges(photo, coarse)
    assert (fine - coarse).abs().max() < 0.3  # outlines at 320 and at 640 pixels are not quite the same

    def length(maps: torch.Tensor) -> float:  # of all outlines: what is frayed has long ones
        return float(maps.diff(dim=0).abs().sum() + maps.diff(dim=1).abs().sum())

    assert length(fine) < 1.02 * length(coarse)


@pytest.mark.parametrize("level", [0.0, 0.37, 1.0])
def test_a_map_without_outlines_stays(photo, level):
    saliency = torch.full((SIZE[1], SIZE[0]), level)
    assert (refine_edges(photo, saliency) - saliency).abs().max() < 1e-5


def test_far_from_outlines_nothing_changes(photo, coarse):
    outline = ((coarse > 0.002) & (coarse < 0.998)).float()[None]
    far = F.max_pool2d(F.max_pool2d(outline, (101, 1), 1, (50, 0)), (1, 101), 1, (0, 50))[0] == 0
    assert far.any() and torch.equal(refine_edges(photo, coarse)[far], coarse[far])


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (700, 2), (320, 200), (1281, 33)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_any_size_and_mode(size, mode):
    photo = Image.effect_noise(size, 80).convert(mode)
    saliency = torch.rand(size[::-1])
    fine = refine_edges(photo, saliency)
    assert fine.shape == saliency.shape and torch.isfinite(fine).all()
    colors = foreground_colors(photo, fine)
    assert (colors.size, colors.mode) == (size, mode)


def test_memory_is_bounded_by_chunks_that_make_no_difference(photo, coarse, monkeypatch):
    fine, colors = refine_edges(photo, coarse), foreground_colors(photo, coarse)
    monkeypatch.setattr(edge_refiner, "POINTS", 997)
    assert torch.allclose(refine_edges(photo, coarse), fine, atol=1e-6)
    assert np.abs(np.asarray(foreground_colors(photo, coarse), int) - np.asarray(colors, int)).max() <= 1


def test_the_backgrounds_color_is_taken_out(photo, opacity):
    partly = (opacity > 0.2) & (opacity < 0.8)

    def off(picture: Image.Image) -> float:
        return np.abs(np.asarray(picture, float)[partly] - FRONT).mean()

    colors = foreground_colors(photo, torch.from_numpy(opacity))
    assert off(photo) > 40 and off(colors) < 12
    same = (opacity == 0) | (opacity == 1)
    assert np.array_equal(np.asarray(colors)[same], np.asarray(photo)[same])


def test_foregrounds_keep_transparency_and_profile(photo, opacity):
    see_through = photo.convert("RGBA")
    see_through.putalpha(77)
    see_through.info["icc_profile"] = b"profile"
    colors = foreground_colors(see_through, torch.from_numpy(opacity))
    assert colors.getchannel("A").getextrema() == (77, 77) and colors.info["icc_profile"] == b"profile"


def test_windows_are_means_of_what_is_inside():
    maps = torch.rand(1, 2, 23, 31)
    expected = F.avg_pool2d(maps, 7, 1, 3, count_include_pad=False)
    assert torch.allclose(edge_refiner._mean(maps, 3), expected, atol=1e-6)


def test_ridge_regression_is_solved():
    points = torch.rand(1, 3, 500)
    points[:, 1] = points[:, 0] + 0.1 * points[:, 1]  # channels that are nearly the same
    covariance = torch.cov(points[0])
    common = torch.rand(3)
    slopes = edge_refiner._solve(
        covariance[[0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]].view(1, 6, 1, 1), common.view(1, 3, 1, 1)
    )
    expected = torch.linalg.solve(covariance.double() + edge_refiner.RIDGE * torch.eye(3), common.double())
    assert torch.allclose(slopes.flatten().double(), expected, rtol=1e-2)


def test_colors_of_a_transparent_photo_are_its_own(photo, opacity):
    """They do not depend on what it is laid over, nor on colors where it shows nothing."""
    found = np.asarray(foreground_colors(photo, torch.from_numpy(opacity))).astype(int)
    pale = photo.convert("RGBA")
    pale.putalpha(100)
    assert np.abs(np.asarray(foreground_colors(pale, torch.from_numpy(opacity)))[..., :3] - found).max() <= 2
    holed = np.dstack([np.asarray(photo), np.full(opacity.shape, 255, np.uint8)])
    holed[600:, :, :3], holed[600:, :, 3] = (0, 255, 0), 0
    made = np.asarray(foreground_colors(Image.fromarray(holed), torch.from_numpy(opacity)))[..., :3]
    assert np.abs(made - found)[:540].max() <= 8
