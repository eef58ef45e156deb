"""The stage-1 losses against plain float64 transcriptions of their formulae, and against numbers found by hand."""

import math

import pytest
import torch

from hf_usod.objectives import boundary, btm_loss, consistency_loss, hard_sample_margin, pcl_sd_loss

EXACT = 1e-9  # relative to the largest entry, for float64 inputs
SINGLE = 1e-5  # for float32 inputs


def assert_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Entries differ by less than `tolerance` of the largest one."""
    scale = expected.abs().max().item()
    assert (actual.double() - expected).abs().max().item() <= tolerance * scale, (actual, expected)


def value_and_gradient(loss, *maps: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """loss(*maps) and its gradients with respect to each of them."""
    maps = tuple(map_.clone().requires_grad_() for map_ in maps)
    value = loss(*maps)
    return value.detach(), *torch.autograd.grad(value, maps)


def resizing_matrix(source: int, target: int) -> torch.Tensor:
    """`(target, source)`: bilinear resizing of one axis with aligned corners."""
    matrix = torch.zeros(target, source, dtype=torch.float64)
    for row in range(target):
        position = row * (source - 1) / (target - 1) if target > 1 else 0.0
        left = min(int(position), source - 1)
        matrix[row, left] += 1 - (position - left)
        if position > left:
            matrix[row, left + 1] += position - left
    return matrix


def plain_resize(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return resizing_matrix(maps.shape[2], height) @ maps @ resizing_matrix(maps.shape[3], width).T


# --- PCL-SD ---------------------------------------------------------------------------------------------------------


def plain_pcl_sd(values: list[float], epoch: int, num_epochs: int, variant: str, curriculum: bool):
    """Value and gradient, pixel by pixel."""
    p = max(0.0, 0.2 - 0.6 * epoch / num_epochs) if curriculum else 0.0
    m = 2 ** (1 - (epoch - 1) / num_epochs)
    total, gradient = 0.0, []
    for value in values:
        distance, sign = abs(value - 0.5), math.copysign(1.0, value - 0.5)
        hard = distance < p
        if variant == "paper":
            total += 0.5 if hard else distance
            gradient.append(0.0 if hard else -sign / len(values))
        else:
            total += 0.0 if hard else 0.5**m - distance**m
            gradient.append(0.0 if hard else -sign * m * distance ** (m - 1) / len(values))
    mean = total / len(values)
    return 0.5 - mean if variant == "paper" else mean, gradient


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("curriculum", [True, False])
@pytest.mark.parametrize("epoch, num_epochs", [(1, 20), (3, 20), (6, 20), (7, 20), (20, 20), (1, 1), (2, 7)])
def test_pcl_sd_is_its_formula(variant, curriculum, epoch, num_epochs):
    saliency = torch.rand(2, 1, 9, 7, dtype=torch.float64)
    value, gradient = plain_pcl_sd(saliency.flatten().tolist(), epoch, num_epochs, variant, curriculum)
    expected = torch.tensor(value).double(), torch.tensor(gradient).double().view_as(saliency)
    for dtype, tolerance in ((torch.float64, 1e-7), (torch.float32, SINGLE)):
        actual = value_and_gradient(
            lambda s: pcl_sd_loss(s, epoch, num_epochs, variant, curriculum), saliency.to(dtype)
        )
        for value, wanted in zip(actual, expected, strict=True):
            assert_close(value, wanted, tolerance)


def test_pcl_sd_numbers():
    saliency = torch.tensor([0.9, 0.62, 0.5, 0.1])  # at epoch 1 of 12, p = 0.15: the middle two are hard
    assert pcl_sd_loss(saliency, 1, 12).item() == pytest.approx((0.25 - 0.16) / 2)
    assert pcl_sd_loss(saliency, 1, 12, "paper").item() == pytest.approx(0.5 - (0.4 + 0.5 + 0.5 + 0.4) / 4)
    # at epoch 7, p = 0 and m = sqrt(2); then 0.5^m, 0.4^m and 0.12^m are
    expected = (4 * 0.37521423 - 2 * 0.27367041 - 0.04986153) / 4
    assert pcl_sd_loss(saliency, 7, 12).item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("epoch, margin", [(1, 0.17), (2, 0.14), (5, 0.05), (6, 0.02), (7, 0.0), (20, 0.0)])
def test_pcl_sd_leaves_out_pixels_inside_the_margin(epoch, margin):
    assert hard_sample_margin(epoch, 20) == pytest.approx(margin)
    if margin:
        hard, easy = torch.tensor([0.5 + margin - 1e-4]), torch.tensor([0.5 + margin + 1e-4])
        assert pcl_sd_loss(hard, epoch, 20) == 0 < pcl_sd_loss(easy, epoch, 20)
        assert pcl_sd_loss(hard, epoch, 20, curriculum=False) > 0


@pytest.mark.parametrize("epoch", [0, 21])
def test_pcl_sd_refuses_epochs_outside_the_training(epoch):
    with pytest.raises(ValueError, match=rf"`epoch` counts from 1 to `num_epochs` \(20\), got {epoch}"):
        pcl_sd_loss(torch.rand(3), epoch, 20)


def test_pcl_sd_refuses_unknown_variants():
    with pytest.raises(ValueError, match="'v2'; expected one of paper, released"):
        pcl_sd_loss(torch.rand(3), 1, 20, "v2")


# --- BTM ------------------------------------------------------------------------------------------------------------


def plain_boundary(foreground: torch.Tensor) -> torch.Tensor:
    """Pixels with both kinds in the 5 x 5 around them, as far as it lies in the map. `(B, h, w)` bool."""
    result = torch.zeros_like(foreground)
    for image, y, x in torch.cartesian_prod(*(torch.arange(n) for n in foreground.shape)).tolist():
        around = foreground[image, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
        result[image, y, x] = around.any() and not around.all()
    return result


def plain_btm(saliency: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Window by window over the whole map, in float64."""
    height, width = saliency.shape[2] // 4, saliency.shape[3] // 4
    saliency = plain_resize(saliency, height, width)
    images = plain_resize(images, height, width)
    outline = plain_boundary(saliency[:, 0] > 0.5)
    total = torch.zeros((), dtype=torch.float64)
    for dy in range(-5, 6):
        for dx in range(-5, 6):
            neighbor = torch.zeros_like(saliency)
            texture = torch.zeros_like(images)
            to_y, to_x = slice(max(-dy, 0), height - max(dy, 0)), slice(max(-dx, 0), width - max(dx, 0))
            from_y, from_x = slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0))
            neighbor[..., to_y, to_x] = saliency[..., from_y, from_x]
            texture[..., to_y, to_x] = images[..., from_y, from_x]
            weight = torch.ones(len(images), height, width, dtype=torch.float64)
            for modality in (images - texture).split(3, dim=1):
                weight = weight * torch.exp(-200 * modality.pow(2).sum(dim=1))
            total = total + (outline * weight * (saliency - neighbor).abs()[:, 0]).sum()
    return total / outline.sum()


def blobs(height: int, width: int, centers: list[tuple[float, float]], radius: float) -> torch.Tensor:
    """`(B, 1, H, W)` soft discs of different sizes, nowhere flat; centers are in units of the image."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    maps = []
    for index, (cy, cx) in enumerate(centers):
        distance = ((y - cy * height) ** 2 + (x - cx * width) ** 2).double().sqrt()
        maps.append(torch.sigmoid((radius * (1 + index / 4) - distance) / 6))
    return 0.9 * torch.stack(maps)[:, None] + 0.05 * torch.rand(len(centers), 1, height, width, dtype=torch.float64)


def textures(batch: int, channels: int, height: int, width: int, contrast: float = 0.15) -> torch.Tensor:
    """Images smooth enough that some weights are near 1, some near 0 and many between."""
    coarse = contrast * torch.randn(batch, channels, height // 8, width // 8, dtype=torch.float64)
    return plain_resize(coarse, height, width)


def one_without_boundary(height: int, width: int) -> torch.Tensor:
    maps = blobs(height, width, [(0.5, 0.5), (0.4, 0.5)], 14)
    maps[1] *= 0.4
    return maps


BTM_CASES = {
    "one modality": lambda: (blobs(64, 64, [(0.5, 0.5), (0.4, 0.6)], 14), textures(2, 3, 64, 64)),
    "two modalities": lambda: (blobs(64, 64, [(0.5, 0.5)], 14), textures(1, 6, 64, 64)),
    "no boundary in the second": lambda: (one_without_boundary(64, 64), textures(2, 3, 64, 64)),
    "at the border": lambda: (blobs(64, 64, [(0.0, 0.5), (1.0, 1.0)], 18), textures(2, 3, 64, 64)),
    "wide": lambda: (blobs(48, 96, [(0.5, 0.2), (0.5, 0.9)], 14), textures(2, 3, 48, 96)),
    "tall, not a multiple of 4": lambda: (blobs(99, 50, [(0.5, 0.5)], 14), textures(1, 3, 99, 50)),
    "smaller than the window": lambda: (blobs(24, 32, [(0.5, 0.5)], 8), textures(1, 3, 24, 32)),
    "noise": lambda: (torch.rand(2, 1, 64, 64, dtype=torch.float64), textures(2, 3, 64, 64)),
}


@pytest.mark.parametrize("case", BTM_CASES)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, EXACT), (torch.float32, SINGLE)])
def test_btm_is_its_formula(case, dtype, tolerance):
    saliency, images = BTM_CASES[case]()
    expected = value_and_gradient(lambda s: plain_btm(s, images), saliency)
    actual = value_and_gradient(lambda s: btm_loss(s, images.to(dtype)), saliency.to(dtype))
    assert expected[0] > 0
    for value, wanted in zip(actual, expected, strict=True):
        assert value.dtype == dtype
        assert_close(value, wanted, tolerance)


def test_btm_gives_a_missing_modality_no_effect():
    saliency, images = BTM_CASES["one modality"]()
    padded = torch.cat([images, torch.zeros_like(images)], dim=1)
    expected = value_and_gradient(lambda s: btm_loss(s, images), saliency)
    for value, wanted in zip(value_and_gradient(lambda s: btm_loss(s, padded), saliency), expected, strict=True):
        assert_close(value, wanted, EXACT)


@pytest.mark.parametrize("level", [0.0, 0.3, 0.5, 1.0])
def test_btm_without_any_boundary_is_zero(level):
    saliency = torch.full((2, 1, 64, 64), level)
    value, gradient = value_and_gradient(lambda s: btm_loss(s, textures(2, 3, 64, 64).float()), saliency)
    assert value == 0
    assert (gradient == 0).all()


def test_btm_sends_no_gradient_into_the_images():
    saliency, images = BTM_CASES["one modality"]()
    images.requires_grad_()
    btm_loss(saliency.requires_grad_(), images).backward()
    assert images.grad is None
    assert saliency.grad.abs().max() > 0


def test_btm_gradient_is_the_same_each_time():
    saliency = torch.rand(8, 1, 160, 160)  # many boundary pixels, which share neighbors
    images = 0.1 * torch.rand(8, 3, 160, 160)
    first, *others = (value_and_gradient(lambda s: btm_loss(s, images), saliency)[1] for _ in range(4))
    assert all(torch.equal(first, other) for other in others)


def ramp() -> torch.Tensor:
    """0 to 1 from left to right, `(1, 1, 96, 96)`: columns of 0/23 to 23/23 at a quarter of the size."""
    return torch.linspace(0, 1, 96, dtype=torch.float64).expand(1, 1, 96, 96)


# The boundary of the ramp is the columns 10 to 13 of 24, 0.5 on average. Of 11 rows of a window, 30/24 lie outside on
# average; neighbors there are 0. A row inside adds 2 (1 + 2 + 3 + 4 + 5)/23, one outside 11 times the pixel's value.
FLAT_TEXTURE = ((24 * 11 - 30) * 30 / 23 + 30 * 11 * 0.5) / 24
# Where a step to the next column halves the weight, d steps give 2^-(d^2), and what is outside has none.
RAMP_TEXTURE = (24 * 11 - 30) / 24 * 2 * (1 * 2**-1 + 2 * 2**-4 + 3 * 2**-9 + 4 * 2**-16 + 5 * 2**-25) / 23


def test_btm_numbers():
    assert pytest.approx(19.5923913, abs=1e-6) == FLAT_TEXTURE
    flat = torch.zeros(1, 3, 96, 96).double()
    assert btm_loss(ramp(), flat).item() == pytest.approx(FLAT_TEXTURE, rel=1e-9)

    slope = 23 * math.sqrt(math.log(2) / 200)  # over the whole width, so that alpha |I_i - I_j|^2 = d^2 log 2
    image = torch.cat([10 + slope * ramp(), flat[:, :2]], dim=1)
    assert btm_loss(ramp(), image).item() == pytest.approx(RAMP_TEXTURE, rel=1e-9)
    assert btm_loss(ramp(), image, alpha=50.0).item() > 1.2 * RAMP_TEXTURE

    shared = torch.cat([10 + slope * ramp() / math.sqrt(2)] * 6, dim=1)  # the same distance from any two channels
    shared[:, [1, 2, 4, 5]] = 0
    assert btm_loss(ramp(), shared).item() == pytest.approx(RAMP_TEXTURE, rel=1e-9)


def test_btm_radius():
    flat = torch.zeros(1, 3, 96, 96).double()
    # 3 x 3: of 3 rows 2/24 lie outside on average
    expected = ((24 * 3 - 2) * 2 / 23 + 2 * 3 * 0.5) / 24
    assert btm_loss(ramp(), flat, radius=1).item() == pytest.approx(expected, rel=1e-9)


def test_btm_is_a_mean_over_the_boundary_of_the_whole_batch():
    flat = torch.zeros(2, 3, 96, 96).double()
    none = torch.zeros(1, 1, 96, 96).double()
    assert btm_loss(torch.cat([ramp(), none]), flat).item() == pytest.approx(FLAT_TEXTURE, rel=1e-9)
    smaller, larger = (ramp() * factor for factor in (0.9, 1.0))
    losses = [btm_loss(saliency, flat[:1]).item() for saliency in (smaller, larger)]
    counts = [boundary(plain_resize(saliency, 24, 24)).sum().item() for saliency in (smaller, larger)]
    weighted = sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)
    assert btm_loss(torch.cat([smaller, larger]), flat).item() == pytest.approx(weighted, rel=1e-9)


def test_boundary_is_five_wide():
    spot = torch.zeros(1, 1, 11, 13)
    spot[..., 4, 6] = 0.51
    expected = torch.zeros(1, 1, 11, 13, dtype=torch.bool)
    expected[..., 2:7, 4:9] = True
    assert torch.equal(boundary(spot), expected)

    half = torch.full((1, 1, 8, 12), 0.5)  # 0.5 is background
    half[..., :6] = 1.0
    assert boundary(half).all(dim=2).flatten().nonzero().flatten().tolist() == [4, 5, 6, 7]
    assert boundary(half).sum() == 4 * 8  # the border of the image is none


@pytest.mark.parametrize(
    "shape", [(1, 3, 64, 64), (2, 3, 64, 32), (2, 3, 16, 16)], ids=["batch", "width", "quarter size"]
)
def test_btm_refuses_other_sizes(shape):
    with pytest.raises(ValueError, match="must agree in batch, height and width"):
        btm_loss(torch.rand(2, 1, 64, 64), torch.rand(shape))


# --- SC -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [((20, 20), (28, 28)), ((20, 20), (12, 12)), ((20, 14), (13, 30)), ((9, 9), (9, 9))])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, EXACT), (torch.float32, SINGLE)])
def test_consistency_is_its_formula(sizes, dtype, tolerance):
    saliency, other = (torch.rand(2, 1, *size, dtype=torch.float64) for size in sizes)
    expected = value_and_gradient(lambda s, o: (s - plain_resize(o, *sizes[0])).pow(2).mean(), saliency, other)
    actual = value_and_gradient(consistency_loss, saliency.to(dtype), other.to(dtype))
    for value, wanted in zip(actual, expected, strict=True):
        assert_close(value, wanted, tolerance)


def test_consistency_numbers():
    coarse = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).expand(1, 1, 2, 2)
    fine = torch.tensor([0.0, 0.5, 1.0]).expand(1, 1, 3, 3)
    assert consistency_loss(fine, coarse) == 0  # aligned corners: the ends stay the ends
    assert consistency_loss(torch.zeros(1, 1, 3, 3), coarse).item() == pytest.approx((0 + 0.25 + 1) / 3)
    assert consistency_loss(torch.zeros(2, 1, 2, 2), coarse.expand(2, 1, 2, 2)).item() == pytest.approx(0.5)
