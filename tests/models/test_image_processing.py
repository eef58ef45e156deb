"""Images of any type become the same inputs, and outputs maps of any size."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor

from hf_usod import SaliencyOutput, UsodImageProcessor
from hf_usod.models.image_processing_usod import read_image

PHOTO = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
GRAY = PHOTO[..., 0]
PROCESSOR = UsodImageProcessor()


def _by_hand(photo: np.ndarray, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)) -> torch.Tensor:
    resized = np.asarray(Image.fromarray(photo).resize((320, 320), Image.Resampling.BICUBIC))
    normalized = (resized.astype(np.float64) / 255 - mean) / std
    return torch.from_numpy(normalized.transpose(2, 0, 1)).float()[None]


def _pixels(images, **kwargs) -> torch.Tensor:
    return PROCESSOR(images, return_tensors="pt", **kwargs).pixel_values


def _saved(image: Image.Image, folder, extension="png", **kwargs):
    image.save(folder / f"photo.{extension}", **kwargs)
    return folder / f"photo.{extension}"


# The same photo in every type that is accepted
COLOR = {
    "path": lambda folder: _saved(Image.fromarray(PHOTO), folder),
    "path as string": lambda folder: str(_saved(Image.fromarray(PHOTO), folder)),
    "pil": lambda folder: Image.fromarray(PHOTO),
    "pil rgba": lambda folder: Image.fromarray(PHOTO).convert("RGBA"),
    "numpy hwc": lambda folder: PHOTO,
    "numpy chw": lambda folder: PHOTO.transpose(2, 0, 1),
    "numpy rgba": lambda folder: np.dstack([PHOTO, np.full_like(GRAY, 255)]),
    "numpy uint16": lambda folder: PHOTO.astype(np.uint16) * 257,
    "numpy int64": lambda folder: PHOTO.astype(np.int64),
    "numpy float32": lambda folder: PHOTO.astype(np.float32) / 255,
    "numpy float64 chw": lambda folder: PHOTO.transpose(2, 0, 1) / 255,
    "torch chw": lambda folder: torch.from_numpy(PHOTO).permute(2, 0, 1),
    "torch hwc": lambda folder: torch.from_numpy(PHOTO),
    "torch float32": lambda folder: torch.from_numpy(PHOTO).permute(2, 0, 1).float() / 255,
}
GRAYSCALE = {
    "path": lambda folder: _saved(Image.fromarray(GRAY), folder),
    "pil": lambda folder: Image.fromarray(GRAY),
    "numpy hw": lambda folder: GRAY,
    "numpy hw1": lambda folder: GRAY[..., None],
    "numpy 1hw": lambda folder: GRAY[None],
    "numpy hw uint16": lambda folder: GRAY.astype(np.uint16) * 257,
    "numpy hw float32": lambda folder: GRAY.astype(np.float32) / 255,
    "torch hw": lambda folder: torch.from_numpy(GRAY.copy()),
    "torch 1hw": lambda folder: torch.from_numpy(GRAY.copy())[None],
}


@pytest.mark.parametrize("kind", COLOR)
def test_color_types(kind, tmp_path):
    assert torch.equal(_pixels(COLOR[kind](tmp_path)), _pixels(Image.fromarray(PHOTO)))


@pytest.mark.parametrize("kind", GRAYSCALE)
def test_grayscale_types(kind, tmp_path):
    assert torch.equal(_pixels(GRAYSCALE[kind](tmp_path)), _pixels(Image.fromarray(np.dstack([GRAY] * 3))))


def test_resized_and_normalized_as_by_hand():
    pixels = _pixels(PHOTO)
    assert pixels.shape == (1, 3, 320, 320)
    assert pixels.dtype == torch.float32
    torch.testing.assert_close(pixels, _by_hand(PHOTO), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(37, 53), (700, 500)], ids=["enlarged", "reduced"])
def test_inputs_are_the_released_programs(size):
    """Pillow's own choice of a filter (bicubic, smoothed where it reduces), then (x / 255 - mean) / std; the auxiliary
    map, and the image that serves as its own, x / 255 alone."""
    random = np.random.default_rng(0)
    photo, aux = (random.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(2))
    unit, unit_aux = (np.array(Image.fromarray(a).resize((320, 320))).astype(np.float32) / 255.0 for a in (photo, aux))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    inputs = PROCESSOR([photo, photo], aux_images=[aux, None], return_tensors="pt")
    for index, expected_aux in enumerate((unit_aux, unit)):
        expected = torch.from_numpy(((unit - mean) / std).transpose(2, 0, 1)).float()
        torch.testing.assert_close(inputs.pixel_values[index], expected, atol=1e-6, rtol=0)
        expected_aux = torch.from_numpy(expected_aux.transpose(2, 0, 1))
        torch.testing.assert_close(inputs.aux_pixel_values[index], expected_aux, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "images",
    [
        [PHOTO, PHOTO[:20], Image.fromarray(PHOTO[:, :20])],
        [GRAY, GRAY[:20], GRAY[:, :20]],
        [GRAY, PHOTO],
        np.stack([PHOTO, PHOTO[::-1]]),
    ],
    ids=["sizes", "grayscale", "grayscale and color", "batch"],
)
def test_list_is_its_images_one_by_one(images):
    assert torch.equal(_pixels(images), torch.cat([_pixels(image) for image in images]))


def test_list_of_paths(tmp_path):
    path = _saved(Image.fromarray(PHOTO), tmp_path)
    assert torch.equal(_pixels([path, str(path)]), _pixels([PHOTO, PHOTO]))


def test_one_row_of_pixels_takes_a_layout():
    row = PHOTO[:1]
    assert torch.equal(_pixels(row, input_data_format="channels_last"), _pixels(Image.fromarray(row)))


def _palette(transparency: bool) -> Image.Image:
    image = Image.new("P", (40, 30), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    if transparency:
        image.info["transparency"] = 1
    return image


# Image, extension, keyword arguments of save, and the color that is to be seen
FILES = {
    "grayscale": (Image.new("L", (40, 30), 7), "png", {}, (7, 7, 7)),
    "1 bit": (Image.new("1", (40, 30), 1), "png", {}, (255, 255, 255)),
    "palette": (_palette(False), "png", {}, (10, 200, 30)),
    "transparent palette": (_palette(True), "png", {"transparency": 1}, (255, 255, 255)),
    "transparent color": (Image.new("RGB", (40, 30), (1, 2, 3)), "png", {"transparency": (1, 2, 3)}, (255, 255, 255)),
    "gif": (_palette(False), "gif", {}, (10, 200, 30)),
    "cmyk": (Image.new("CMYK", (40, 30), (255, 0, 0, 0)), "tiff", {}, (0, 255, 255)),
    "rgba opaque": (Image.new("RGBA", (40, 30), (9, 8, 7, 255)), "png", {}, (9, 8, 7)),
    "rgba transparent": (Image.new("RGBA", (40, 30), (9, 8, 7, 0)), "png", {}, (255, 255, 255)),
    "rgba half": (Image.new("RGBA", (40, 30), (255, 0, 0, 127)), "png", {}, (255, 128, 128)),
    "la": (Image.new("LA", (40, 30), (0, 127)), "png", {}, (128, 128, 128)),
    "16 bit png": (Image.new("I;16", (40, 30), 200 * 257), "png", {}, (200, 200, 200)),
    "16 bit tiff": (Image.new("I;16", (40, 30), 200 * 257), "tiff", {}, (200, 200, 200)),
    "float tiff": (Image.new("F", (40, 30), 0.2), "tiff", {}, (51, 51, 51)),
    "one row": (Image.new("RGB", (40, 1), (9, 8, 7)), "png", {}, (9, 8, 7)),
    "one column": (Image.new("RGB", (1, 40), (9, 8, 7)), "png", {}, (9, 8, 7)),
    "one pixel": (Image.new("RGB", (1, 1), (9, 8, 7)), "png", {}, (9, 8, 7)),
}


@pytest.mark.parametrize("kind", FILES)
def test_files(kind, tmp_path):
    image, extension, kwargs, color = FILES[kind]
    path = _saved(image, tmp_path, extension, **kwargs)
    read = read_image(path)
    assert (read.mode, read.size) == ("RGB", image.size)
    assert (np.asarray(read) == color).all()
    expected = _by_hand(np.full((320, 320, 3), color, dtype=np.uint8))
    for source in (path, Image.open(path)):
        torch.testing.assert_close(_pixels(source), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "image",
    [
        PHOTO.astype(np.float32),
        PHOTO / 127.5 - 1,
        torch.from_numpy(PHOTO).permute(2, 0, 1).float(),
        GRAY.astype(np.float32),
        np.full((9, 9, 3), np.nan),
    ],
    ids=["0..255", "-1..1", "torch", "grayscale", "nan"],
)
def test_floats_outside_0_to_1_raise(image):
    with pytest.raises(ValueError, match=r"float.*Divide by 255"):
        PROCESSOR(image)


def test_integers_outside_0_to_255_raise():
    with pytest.raises(ValueError, match=r"0..300"):
        PROCESSOR(np.array([[0, 300]]))


def _truncated(path):
    Image.fromarray(PHOTO).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("read", [read_image, PROCESSOR], ids=["read_image", "processor"])
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("cut.png", _truncated),
        ("cut.jpg", _truncated),
        ("text.png", lambda path: path.write_text("not an image")),
        ("empty.jpg", lambda path: path.write_bytes(b"")),
        ("range.tiff", lambda path: Image.new("F", (4, 4), 300.0).save(path)),
    ],
)
def test_unreadable_files_are_named(read, name, write, tmp_path):
    write(tmp_path / name)
    with pytest.raises(ValueError, match=name):
        read(tmp_path / name)


@pytest.mark.parametrize("read", [read_image, PROCESSOR], ids=["read_image", "processor"])
@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "path"])
def test_missing_file(read, kind, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing.png"):
        read(kind(tmp_path / "missing.png"))


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda image: image),
        (3, lambda image: image.transpose(Image.Transpose.ROTATE_180)),
        (6, lambda image: image.transpose(Image.Transpose.ROTATE_270)),
        (8, lambda image: image.transpose(Image.Transpose.ROTATE_90)),
    ],
)
def test_exif_orientation_is_applied(orientation, upright, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = Image.fromarray(PHOTO)
    path = _saved(photo, tmp_path, exif=exif)
    assert np.array_equal(read_image(path), upright(photo))
    assert torch.equal(_pixels(path), _pixels(upright(photo)))


TARGET_SIZES = [(37, 53), (8, 8)]


@pytest.mark.parametrize(
    "target_sizes", [TARGET_SIZES, torch.tensor(TARGET_SIZES), None], ids=["list", "tensor", "none"]
)
def test_post_process_saliency(target_sizes):
    outputs = SaliencyOutput(logits=4 * torch.randn(2, 1, 16, 24, dtype=torch.float16))
    maps = PROCESSOR.post_process_saliency(outputs, target_sizes)
    assert [m.shape for m in maps] == ([(16, 24)] * 2 if target_sizes is None else TARGET_SIZES)
    assert all(m.dtype == torch.float32 and m.min() >= 0 and m.max() <= 1 for m in maps)


def test_post_process_saliency_values():
    logits = torch.tensor([[[[-2.0, 2.0]]]])
    (saliency,) = PROCESSOR.post_process_saliency(SaliencyOutput(logits=logits), [(1, 4)])
    torch.testing.assert_close(saliency, torch.tensor([[-2.0, -1.0, 1.0, 2.0]]).sigmoid())


def test_wrong_number_of_target_sizes():
    with pytest.raises(ValueError, match="Got 1 target sizes for 2 images"):
        PROCESSOR.post_process_saliency(SaliencyOutput(logits=torch.zeros(2, 1, 4, 4)), [(4, 4)])


def test_round_trip(tmp_path):
    processor = UsodImageProcessor(
        image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5], size={"height": 64, "width": 96}
    )
    processor.save_pretrained(tmp_path)
    for door in (UsodImageProcessor, AutoImageProcessor):
        loaded = door.from_pretrained(tmp_path)
        assert type(loaded) is UsodImageProcessor
        pixels = loaded(PHOTO, return_tensors="pt").pixel_values
        assert pixels.shape == (1, 3, 64, 96)
        assert torch.equal(pixels, processor(PHOTO, return_tensors="pt").pixel_values)
