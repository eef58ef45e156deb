"""`hf_usod.detect`: what is given comes back, and it is what the pipeline makes."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import hf_usod
from hf_usod import UsodError
from hf_usod.loading import load_pipeline


@pytest.fixture(scope="module")
def photo():
    image = Image.new("RGB", (600, 450), (30, 40, 50))  # large enough for fine edges
    ImageDraw.Draw(image).ellipse([150, 120, 450, 330], fill=(220, 200, 180))
    return image


@pytest.fixture(scope="module")
def expected(model, photo):
    return load_pipeline(model, device="cpu")(photo, edges="fine")


def test_of_a_picture_a_picture(model, photo, expected, tmp_path):
    photo.save(tmp_path / "photo.png")
    for image in (photo, tmp_path / "photo.png", (tmp_path / "photo.png").read_bytes()):
        for kind in ("saliency", "mask", "cutout"):
            assert hf_usod.detect(image, kind, model=model, device="cpu") == expected[kind]


def test_of_an_array_an_array_and_of_a_tensor_a_tensor(model, photo, expected):
    array = np.asarray(photo)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    saliency = hf_usod.detect(array, model=model, device="cpu")
    assert saliency.dtype == np.float32 and (saliency == expected["predicted_saliency"].numpy()).all()
    assert torch.equal(hf_usod.detect(tensor, model=model, device="cpu"), expected["predicted_saliency"])
    mask = hf_usod.detect(array, "mask", model=model, device="cpu")
    assert mask.dtype == bool and (mask == (np.asarray(expected["mask"]) > 0)).all()
    cutout = hf_usod.detect(array, "cutout", model=model, device="cpu")
    assert (cutout == np.asarray(expected["cutout"])).all() and cutout.shape == (450, 600, 4)
    assert torch.equal(
        hf_usod.detect(tensor, "cutout", model=model, device="cpu"), torch.from_numpy(cutout).permute(2, 0, 1)
    )


def test_renderings(model, photo, expected):
    threshold = float(np.median(expected["predicted_saliency"]))
    hard = hf_usod.detect(photo, "cutout", model=model, device="cpu", alpha="hard", threshold=threshold)
    opaque = np.asarray(hard)[..., 3]
    assert (opaque == np.where(expected["predicted_saliency"].numpy() > threshold, 255, 0)).all() and 0 in opaque
    white = hf_usod.detect(photo, "cutout", model=model, device="cpu", background="white")
    assert white.mode == "RGB" and white.size == photo.size


def test_mistakes(model, photo):
    with pytest.raises(UsodError, match="choose from saliency, mask"):
        hf_usod.detect(photo, "masks", model=model)
    with pytest.raises(UsodError, match="no folder, and no model of that name"):
        hf_usod.detect(photo, model="usod-rgb-life")
    with pytest.raises(FileNotFoundError):
        hf_usod.detect("nowhere.jpg", model=model)
    for option, message in (
        ({"crop": 5}, r"crop 5: must be a share of the object's longer side, in \[0, 1\]; 5% are 0\.05"),
        ({"crop": True}, "crop True: must be a share"),
        ({"threshold": True}, "threshold True: must be in"),
        ({"tiles": True}, "tiles True: give the side of a window"),
    ):
        with pytest.raises(UsodError, match=message):
            hf_usod.detect(photo, model=model, **option)


def test_an_array_whose_shape_does_not_tell(model):
    array = np.random.default_rng(0).integers(0, 256, (3, 50, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match='Say which: input_data_format="channels_first"'):
        hf_usod.detect(array, model=model, device="cpu")
    for layout, shape in (("channels_first", (50, 3)), ("channels_last", (3, 50))):
        assert hf_usod.detect(array, model=model, device="cpu", input_data_format=layout).shape == shape


@pytest.mark.parametrize(
    "image",
    [
        *(np.zeros(shape, dtype) for shape in ((0, 0, 3), (0, 5), (3, 7, 0)) for dtype in (np.uint8, np.uint16)),
        torch.zeros(3, 0, 9),
        Image.new("RGB", (0, 5)),
    ],
)
def test_an_image_without_pixels(model, image):
    with pytest.raises(ValueError, match="has no pixels"):
        hf_usod.detect(image, model=model, device="cpu")


def test_a_background_that_is_written_anew(model, photo, tmp_path):
    corners = []
    for color in ((255, 0, 0), (0, 0, 255)):
        Image.new("RGB", (7, 7) if color[0] else (8, 7), color).save(tmp_path / "ground.bmp")
        made = hf_usod.detect(photo, "cutout", model=model, device="cpu", background=str(tmp_path / "ground.bmp"))
        corners.append(np.asarray(made, int)[0, 0])
    assert corners[0][0] > corners[1][0] and corners[0][2] < corners[1][2]


def test_a_model_that_is_saved_anew(model, photo, tmp_path):
    detector, found = load_pipeline(model, device="cpu"), []
    for sign in (1, -1):
        with torch.no_grad():
            for weight in detector.model.parameters():
                weight.mul_(sign)
        detector.save_pretrained(tmp_path / "model")
        found.append(hf_usod.detect(photo, model=str(tmp_path / "model"), device="cpu"))
    assert np.abs(np.asarray(found[0], int) - np.asarray(found[1])).max() > 1
