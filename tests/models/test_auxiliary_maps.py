"""Depth, thermal and flow maps as the second input of a detector: what their values become, and whose they are."""

import numpy as np
import pytest
import torch
from PIL import Image

from hf_usod import UsodImageProcessor
from hf_usod.models.image_processing_usod import check_aux, read_aux, to_aux_rgb

PROCESSOR = UsodImageProcessor()
RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (37, 53, 3), dtype=np.uint8)
GRAY = RNG.integers(0, 256, (37, 53), dtype=np.uint8)
GRAY[0, :2] = 0, 255  # so that the map's own range is that of its type
FLOW = RNG.integers(0, 256, (37, 53, 3), dtype=np.uint8)


def _aux(image, aux, **kwargs) -> torch.Tensor:
    return PROCESSOR(image, aux_images=aux, return_tensors="pt", **kwargs).aux_pixel_values


def _by_hand(levels: np.ndarray, size=(320, 320)) -> torch.Tensor:
    resized = np.asarray(Image.fromarray(levels).convert("RGB").resize(size, Image.Resampling.BICUBIC))
    return torch.from_numpy(resized.transpose(2, 0, 1) / 255).float()[None]


def _saved(image: Image.Image, folder, name: str):
    image.save(folder / name)
    return folder / name


# The same map in every type that is accepted
DEPTH = {
    "8-bit png": lambda folder: _saved(Image.fromarray(GRAY), folder, "photo.png"),
    "8-bit, three channels": lambda folder: _saved(Image.fromarray(GRAY).convert("RGB"), folder, "photo.png"),
    "16-bit png": lambda folder: _saved(Image.fromarray(GRAY.astype(np.uint16) * 13 + 700), folder, "photo.png"),
    "16-bit png, string": lambda folder: str(_saved(Image.fromarray(GRAY.astype(np.uint16) + 1), folder, "photo.png")),
    "32-bit tiff": lambda folder: _saved(Image.fromarray((GRAY.astype(np.int32) + 1) * 99999), folder, "photo.tiff"),
    "float tiff": lambda folder: _saved(Image.fromarray(GRAY / np.float32(40) - 2), folder, "photo.tiff"),
    "pil": lambda folder: Image.fromarray(GRAY),
    "pil float": lambda folder: Image.fromarray(GRAY.astype(np.float32) + 1),
    "numpy": lambda folder: GRAY,
    "numpy hw1": lambda folder: GRAY[..., None],
    "numpy rgb": lambda folder: np.dstack([GRAY] * 3),
    "numpy uint16": lambda folder: GRAY.astype(np.uint16) * 13 + 700,
    "numpy int16": lambda folder: GRAY.astype(np.int16) - 100,
    "numpy float64": lambda folder: GRAY * 0.013 + 1.5,
    "torch 1hw": lambda folder: torch.from_numpy(GRAY)[None],
    "torch float": lambda folder: torch.from_numpy(GRAY) / 1000 + 1,
}


@pytest.mark.parametrize("kind", DEPTH)
def test_types(kind, tmp_path):
    torch.testing.assert_close(_aux(PHOTO, [DEPTH[kind](tmp_path)]), _by_hand(GRAY), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["path", "pil", "hwc", "chw", "float"])
def test_color(kind, tmp_path):
    flow = {
        "path": lambda: _saved(Image.fromarray(FLOW), tmp_path, "photo.png"),
        "pil": lambda: Image.fromarray(FLOW),
        "hwc": lambda: FLOW,
        "chw": lambda: FLOW.transpose(2, 0, 1),
        "float": lambda: torch.from_numpy(FLOW).permute(2, 0, 1) / 255,
    }[kind]()
    torch.testing.assert_close(_aux(PHOTO, [flow]), _by_hand(FLOW), atol=1e-6, rtol=0)


def test_images_are_as_without_maps_and_no_maps_are_as_before():
    plain = PROCESSOR(PHOTO, return_tensors="pt")
    assert set(plain) == {"pixel_values"}
    both = PROCESSOR(PHOTO, aux_images=[FLOW], return_tensors="pt")
    assert set(both) == {"pixel_values", "aux_pixel_values"}
    assert torch.equal(both.pixel_values, plain.pixel_values)
    assert both.aux_pixel_values.dtype == torch.float32


def test_an_image_without_map_is_its_own():
    photos = [PHOTO, FLOW[:30], PHOTO[:, :20]]
    aux = _aux(photos, [GRAY, None, None])
    assert torch.equal(aux[:1], _aux(PHOTO, [GRAY]))
    for index in (1, 2):
        torch.testing.assert_close(aux[index : index + 1], _by_hand(photos[index]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("image", [PHOTO, [PHOTO], PHOTO[None], Image.fromarray(PHOTO)])
@pytest.mark.parametrize("aux", [GRAY, [GRAY], (Image.fromarray(GRAY),)])
def test_one_map_needs_no_list(image, aux):
    torch.testing.assert_close(_aux(image, aux), _by_hand(GRAY), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"do_resize": False}, (53, 37)),
        ({"size": {"height": 64, "width": 96}}, (96, 64)),
        ({"size": {"shortest_edge": 20}}, (28, 20)),
        ({"do_resize": False, "do_center_crop": True, "crop_size": {"height": 9, "width": 7}}, (7, 9)),
        ({"do_rescale": False, "do_normalize": False}, (320, 320)),
        ({"image_mean": [0.5] * 3, "image_std": [0.1] * 3}, (320, 320)),
    ],
)
def test_maps_take_the_size_of_their_images_and_stay_in_the_unit_range(settings, size):
    twice = Image.fromarray(GRAY).resize((106, 74))
    inputs = PROCESSOR(PHOTO, aux_images=[twice], return_tensors="pt", **settings)
    assert inputs.pixel_values.shape == inputs.aux_pixel_values.shape == (1, 3, *size[::-1])
    assert inputs.aux_pixel_values.min() >= 0 and 0.5 < inputs.aux_pixel_values.max() <= 1


F32 = np.float32


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (np.array([[1, 2, 3]], F32), [0, 128, 255]),
        (np.array([[-1, 0, 1]], F32), [0, 128, 255]),  # 0 is a value where there are negative ones
        (np.array([[0, 2000, 3000]], np.uint16), [0, 0, 255]),  # and a hole where there are none
        (np.array([[0, 2000, 2500, 3000]], np.uint16), [0, 0, 128, 255]),
        (np.array([[np.nan, 2, 3]], F32), [0, 0, 255]),
        (np.array([[np.inf, 2, 3, -np.inf]], F32), [255, 0, 255, 0]),
        (np.array([[5, 5, 5]], F32), [0, 0, 0]),
        (np.array([[0, 5, 5]], F32), [0, 0, 0]),
        (np.array([[0, 0, 0]], np.uint16), [0, 0, 0]),
        (np.array([[np.nan, np.nan]], F32), [0, 0]),
        (np.array([[0, 65535]], np.uint16), [0, 0]),
        (np.array([[3, 7, 9]], np.uint8), [3, 7, 9]),  # 8 bits are a picture
    ],
)
@pytest.mark.filterwarnings("error")
def test_ranges(values, levels):
    rgb = to_aux_rgb(Image.fromarray(values))
    assert rgb.mode == "RGB"
    assert np.asarray(rgb).tolist() == [[[level] * 3 for level in levels]]


def test_read_aux(tmp_path):
    path = _saved(Image.fromarray(np.array([[700, 1700, 2700]], np.uint16)), tmp_path, "depth.png")
    assert np.asarray(read_aux(path))[0, :, 0].tolist() == [0, 128, 255]
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read_aux(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.png: cannot be read"):
        read_aux(tmp_path / "text.png")


@pytest.mark.parametrize(
    ("image", "aux", "fits"),
    [
        ((640, 480), (640, 480), True),
        ((640, 480), (320, 240), True),
        ((640, 480), (512, 424), False),  # a Kinect's uncropped depth
        ((640, 480), (660, 480), True),
        ((640, 480), (680, 480), False),
        ((640, 480), (480, 640), False),
        ((53, 37), (26, 18), True),  # rounded
        ((1, 50), (1, 25), True),
        ((1, 50), (50, 1), False),
    ],
)
def test_proportions(image, aux, fits):
    if fits:
        check_aux(image, aux)
    else:
        with pytest.raises(ValueError, match=f"{aux[0]} x {aux[1]}.*{image[0]} x {image[1]}"):
            check_aux(image, aux)


def test_maps_that_do_not_fit_are_named(tmp_path):
    photo = _saved(Image.fromarray(PHOTO), tmp_path, "photo.jpg")
    turned = _saved(Image.fromarray(GRAY.T.copy()), tmp_path, "photo.png")
    other = _saved(Image.fromarray(GRAY), tmp_path, "other.png")
    with pytest.raises(ValueError, match=r"photo\.png is 37 x 53.*photo\.jpg of 53 x 37"):
        PROCESSOR(photo, aux_images=[turned])
    with pytest.raises(ValueError, match=r"other\.png does not have the name of the image .*photo\.jpg"):
        PROCESSOR([PHOTO, str(photo)], aux_images=[GRAY, other])
    _aux(photo, [read_aux(other)])


@pytest.mark.parametrize("aux", [[], [GRAY, GRAY], [None, None]])
def test_one_map_an_image(aux):
    with pytest.raises(ValueError, match=f"{len(aux)} auxiliary maps for 1 images"):
        PROCESSOR(PHOTO, aux_images=aux)


def test_float_pictures_outside_the_unit_range_raise():
    with pytest.raises(ValueError, match="Divide by 255"):
        PROCESSOR(PHOTO, aux_images=[FLOW.astype(np.float32)])
