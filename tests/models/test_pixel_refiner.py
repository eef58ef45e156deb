"""The pixel refiner, against a plain transcription of its formula."""

import copy
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from hf_usod.labels import PixelRefiner
from hf_usod.models import pixel_refiner

EXAMPLES = Path(__file__).parents[2] / "space" / "examples"
AROUND = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]


@pytest.fixture(params=["compiled", "PyTorch"], autouse=True)
def way(request, monkeypatch):
    """Both ways in which a CPU refines."""
    if request.param == "PyTorch":
        monkeypatch.setattr(pixel_refiner, "_compiled", lambda: None)
    elif not pixel_refiner._compiled():
        assert not shutil.which("cc"), "there is a compiler, but the refiner was not compiled: install the package anew"
        pytest.skip("no compiler")


def transcription(image, saliency, dilations=(1, 2, 4, 8), num_iter=6):
    """Method section 7, in float64, pixel by neighbor: `image (3, H, W)`, `saliency (H, W)`."""
    image, saliency = np.asarray(image, np.float64), np.asarray(saliency, np.float64)
    rows, columns = np.indices(saliency.shape)
    height, width = saliency.shape
    offsets = [(y * d, x * d) for d in dilations for y, x in AROUND]
    where = [((rows + y).clip(0, height - 1), (columns + x).clip(0, width - 1)) for y, x in offsets]
    values = np.stack([image[:, r, c] for r, c in where])  # (32, 3, H, W)
    sigma = values.std(axis=0, ddof=1)
    affinity = -((np.abs(image - values) / (sigma + 1e-8) / 0.3) ** 2)
    affinity = affinity.mean(axis=1)
    distance = np.array([np.sqrt(2) * max(map(abs, o)) if all(o) else max(map(abs, o)) for o in offsets])
    position = -((distance / (distance.std(ddof=1) + 1e-8) / 0.3) ** 2)

    def softmax(a):
        e = np.exp(a - a.max(axis=0))
        return e / e.sum(axis=0)

    weights = softmax(affinity) + 0.01 * softmax(position)[:, None, None]
    for _ in range(num_iter):
        saliency = (weights * np.stack([saliency[r, c] for r, c in where])).sum(axis=0)
    return saliency


def noise(height, width):
    random = np.random.default_rng(0)
    return random.normal(size=(3, height, width)), random.uniform(size=(height, width))


def photo(height, width):
    """Flat areas, hard edges, single odd pixels, and a soft ramp, in levels of 8 bits."""
    image = np.full((3, height, width), 60.0)
    image[:, height // 3 : 2 * height // 3, width // 4 : width // 2] = [[[220]], [[180]], [[40]]]
    image[:, height // 2 :, 2 * width // 3 :] = np.linspace(90, 110, width - 2 * width // 3).round()
    image[:, 5, 5] = image[0, height - 3, 7] = 255
    image[:, 2, width - 4] = 61
    levels = image + np.random.default_rng(1).integers(0, 2, image.shape) * (np.indices(image.shape)[1] > height // 2)
    saliency = np.zeros((height, width))
    saliency[height // 3 + 2 : 2 * height // 3 + 2, width // 4 - 3 : width // 2] = 0.9
    return (levels / 255 - 0.45) / 0.225, saliency


@pytest.mark.parametrize("make", [noise, photo])
@pytest.mark.parametrize("shape", [(40, 56), (16, 9), (33, 31), (6, 130)])
def test_is_the_formula(make, shape):
    image, saliency = make(*shape)
    image = torch.from_numpy(image).float()
    refined = PixelRefiner()(image[None], torch.from_numpy(saliency).float()[None, None])
    assert refined.shape == (1, 1, *shape)
    # the same float32 image, so that what differs is the arithmetic
    np.testing.assert_allclose(refined[0, 0], transcription(image, saliency), atol=1e-4)


def test_is_the_formula_on_a_photo():
    photo = Image.open(EXAMPLES / "chelsea.jpg").convert("RGB").resize((160, 120))
    image = torch.from_numpy(np.array(photo)).movedim(-1, 0).float() / 255
    saliency = (image.mean(0) > 0.5).float() * 0.8 + 0.1
    refined = PixelRefiner()(image[None], saliency[None, None])[0, 0]
    np.testing.assert_allclose(refined, transcription(image, saliency), atol=1e-4)
    assert (refined - saliency).abs().max() > 0.3


@pytest.mark.parametrize("dilations, num_iter", [((1,), 1), ((1, 3), 2), ((8, 2), 4)])
def test_other_dilations_and_iterations(dilations, num_iter):
    image, saliency = noise(20, 24)
    refiner = PixelRefiner(dilations, num_iter)
    refined = refiner(torch.from_numpy(image)[None], torch.from_numpy(saliency)[None, None])[0, 0]
    np.testing.assert_allclose(refined, transcription(image, saliency, dilations, num_iter), atol=1e-4)


def test_a_batch_is_its_samples_and_maps_are_resized():
    images = torch.stack([torch.from_numpy(make(24, 32)[0]).float() for make in (noise, photo)])
    saliency = torch.rand(2, 1, 6, 9, generator=torch.manual_seed(0))
    refined = PixelRefiner()(images, saliency)
    resized = F.interpolate(saliency, size=(24, 32), mode="bilinear", align_corners=True)
    for index in range(2):
        np.testing.assert_allclose(refined[index, 0], transcription(images[index], resized[index, 0]), atol=1e-4)


def test_a_flat_image_blurs_and_an_empty_map_stays_empty():
    flat, point = torch.full((1, 3, 128, 128), 0.3), torch.zeros(1, 1, 128, 128)
    assert torch.equal(PixelRefiner()(flat, point), point)
    point[..., 64, 64] = 1
    refined = PixelRefiner()(flat, point)
    assert refined.isfinite().all() and refined.min() >= 0
    assert refined.sum().item() == pytest.approx(1.01**6)


def test_has_no_parameters_and_no_gradient():
    refiner = PixelRefiner()
    assert not list(refiner.state_dict())
    image, saliency = (torch.rand(1, c, 8, 8, requires_grad=True) for c in (3, 1))
    before = image.detach().clone(), saliency.detach().clone()
    assert not refiner(image, saliency).requires_grad
    assert torch.equal(image, before[0]) and torch.equal(saliency, before[1])


def test_half_precision_inputs():
    image, saliency = (torch.from_numpy(a).to(torch.bfloat16) for a in noise(16, 16))
    refined = PixelRefiner()(image[None], saliency[None, None])
    expected = transcription(image.float(), saliency.float())
    assert refined.dtype == torch.float32
    np.testing.assert_allclose(refined[0, 0], expected, atol=1e-4)


def test_one_map_an_image():
    with pytest.raises(ValueError, match=r"expected \(2, 1, height, width\)"):
        PixelRefiner()(torch.rand(2, 3, 8, 8), torch.rand(1, 1, 8, 8))


def test_maps_that_lie_in_memory_as_others_do_not():
    images = torch.rand(2, 3, 24, 20, generator=torch.manual_seed(0))
    saliency = torch.rand(2, 1, 24, 20, generator=torch.manual_seed(1))
    expected = PixelRefiner()(images, saliency)
    channels_last = images.to(memory_format=torch.channels_last)
    spread = saliency.expand(2, 3, 24, 20)[:, 1:2]
    assert torch.equal(PixelRefiner()(channels_last, spread), expected)
    assert torch.equal(PixelRefiner()(images.mT, saliency.mT), PixelRefiner()(images.mT.clone(), saliency.mT.clone()))


def test_what_is_no_number_stays_so():
    images, saliency = torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8)
    images[0, 0, 4, 4] = torch.nan
    refined = PixelRefiner()(images, saliency)
    assert refined[0].isnan().all() and refined[1].isfinite().all()


def test_copies_refine_as_well():
    image, saliency = torch.rand(1, 3, 8, 8), torch.rand(1, 1, 8, 8)
    expected = PixelRefiner()(image, saliency)
    for refiner in (copy.deepcopy(PixelRefiner()), pickle.loads(pickle.dumps(PixelRefiner()))):
        assert torch.equal(refiner(image, saliency), expected)


def test_both_ways_are_one(monkeypatch):
    photo = Image.open(EXAMPLES / "chelsea.jpg").convert("RGB").resize((320, 240))
    image = torch.from_numpy(np.array(photo)).movedim(-1, 0).float()[None] / 255
    saliency = image.mean(1, keepdim=True)
    refined = PixelRefiner()(image, saliency)
    monkeypatch.setattr(pixel_refiner, "_compiled", lambda: None)
    torch.testing.assert_close(refined, PixelRefiner()(image, saliency), rtol=0, atol=1e-5)
