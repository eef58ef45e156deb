"""Images with their auxiliary maps, second views that show a part of the image, and colors that vary."""

import numpy as np
import pytest
import torch
from PIL import Image

from hf_usod.data import ImageViews, jitter_colors, zoom, zoom_boxes
from hf_usod.data.views import LEAST_ZOOM, OBJECT_SHARE
from hf_usod.models.image_processing_usod import UsodImageProcessor
from hf_usod.models.modeling_usod import resize


def discs(count: int = 64, size: int = 64) -> torch.Tensor:
    """Masks of discs, from a dot to nearly all of the image."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    radius = torch.linspace(0.02, 1.4, count)[:, None, None]
    return ((x**2 + y**2).sqrt() < radius).float()[:, None]


@pytest.mark.parametrize("flipped", [False, True])
def test_images_come_with_their_maps(tmp_path, flipped):
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.png" for name in ("a", "b")]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    (tmp_path / "depth").mkdir()
    depth = tmp_path / "depth" / "a.png"
    Image.fromarray(random.integers(0, 256, (20, 30), dtype=np.uint8)).save(depth)
    processor = UsodImageProcessor(size={"height": 64, "width": 64})
    plain = ImageViews(paths, processor)
    views = ImageViews(paths, processor, [depth, None])
    for index in (0, 1):
        image, both = plain[index, flipped]["pixel_values"], views[index, flipped]["pixel_values"]
        assert image.shape == (3, 64, 64) and both.shape == (6, 64, 64)
        assert torch.equal(both[:3], image)
        assert torch.equal(ImageViews(paths, processor, [None, None])[index, flipped]["pixel_values"], image)
    expected = processor(paths[0], aux_images=depth, return_tensors="pt")["aux_pixel_values"][0]
    assert 0 <= expected.min() < expected.max() <= 1
    assert torch.equal(views[0, flipped]["pixel_values"][3:], expected.flip(-1) if flipped else expected)
    assert not views[1, flipped]["pixel_values"][3:].any()


def test_the_whole_is_the_resized_image():
    maps = torch.rand(2, 3, 48, 48)
    whole = torch.tensor([[0.0, 0.0, 1.0]] * 2)
    torch.testing.assert_close(zoom(maps, whole, (80, 80)), resize(maps, (80, 80)), atol=1e-5, rtol=0)


def test_a_part_is_what_lies_there():
    x = torch.linspace(-1, 1, 65).expand(1, 1, 65, 65)
    maps = torch.cat([x, x.transpose(-1, -2)], dim=1)  # each pixel is its own place
    part = zoom(maps, torch.tensor([[0.25, -0.5, 0.5]]), (33, 33))
    across = torch.linspace(-0.25, 0.75, 33)
    torch.testing.assert_close(part[0, 0], across.expand(33, 33), atol=1e-5, rtol=0)
    torch.testing.assert_close(part[0, 1], (across - 0.75)[:, None].expand(33, 33), atol=1e-5, rtol=0)


def test_parts_lie_inside_and_hold_some_object_and_some_ground():
    boxes = zoom_boxes(discs(), 1.0, seed=0, step=3)
    parts = boxes[boxes[:, 2] < 1]
    assert 10 < len(parts) < 60  # of dots, and of what fills the image, the whole is shown
    assert (parts[:, 2] >= LEAST_ZOOM).all() and (parts[:, :2].abs().amax(dim=1) + parts[:, 2] <= 1 + 1e-6).all()
    covered = zoom(discs(), boxes, (32, 32)).mean(dim=(1, 2, 3))[boxes[:, 2] < 1]
    assert covered.min() > OBJECT_SHARE[0] and covered.max() < OBJECT_SHARE[1]
    assert (boxes[boxes[:, 2] == 1] == torch.tensor([0.0, 0.0, 1.0])).all()


def test_as_often_as_asked_and_the_same_for_a_step():
    labels = discs(1).new_zeros(400, 1, 64, 64)
    labels[..., 20:44, 20:44] = 1
    shares = [(zoom_boxes(labels, p, 0, 1)[:, 2] < 1).float().mean().item() for p in (0.0, 0.5, 1.0)]
    assert shares[0] == 0 and abs(shares[1] - 0.5) < 0.08 and shares[2] > 0.95
    assert torch.equal(zoom_boxes(labels, 0.5, 0, 1), zoom_boxes(labels, 0.5, 0, 1))
    assert not torch.equal(zoom_boxes(labels, 0.5, 0, 1), zoom_boxes(labels, 0.5, 0, 2))


def test_parts_hold_as_much_object_as_is_drawn():
    labels = torch.zeros(400, 1, 64, 64)
    labels[..., 20:44, 20:44] = 1  # a seventh of the image
    covered = zoom(labels, zoom_boxes(labels, 1.0, 0, 1), (32, 32)).mean(dim=(1, 2, 3))
    low, high = OBJECT_SHARE
    deciles = torch.quantile(covered, torch.tensor([0.1, 0.5, 0.9]))
    expected = low + (high - low) * torch.tensor([0.1, 0.5, 0.9])
    torch.testing.assert_close(deciles, expected, atol=0.15, rtol=0)


def test_colors_are_jittered_within_bounds():
    images = torch.rand(64, 3, 16, 16) * 0.2 + 0.4
    jittered = jitter_colors(images, 0.2, seed=0, step=1)
    brightness = jittered.mean(dim=(1, 2, 3)) / images.mean(dim=(1, 2, 3))
    assert 0.79 < brightness.min() < 0.9 and 1.1 < brightness.max() < 1.21
    contrast = jittered.mean(dim=1).flatten(1).std(dim=1) / images.mean(dim=1).flatten(1).std(dim=1) / brightness
    assert 0.75 < contrast.min() < 0.9 and 1.1 < contrast.max() < 1.25
    gray = (jittered.amax(dim=1) - jittered.amin(dim=1)).amax(dim=(1, 2)) < 1e-6
    assert 1 <= gray.sum() <= 16
    assert torch.equal(jittered, jitter_colors(images, 0.2, seed=0, step=1))
    torch.testing.assert_close(jitter_colors(images, 0.0, seed=0, step=1)[~gray], images[~gray])
